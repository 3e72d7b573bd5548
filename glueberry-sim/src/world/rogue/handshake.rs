//! Handshakes that are held as they should not be.

use bytes::BufMut;
use glueberry_proto::Profile;

use super::speech::{By, Ending, HANDSHAKE_LIMIT, Speech};

use crate::trick::Trick;
use crate::world::app::{HELLO, READY};

/// Returns what a rogue says on the handshake substream.
pub(super) fn speech(trick: Trick, profile: Profile) -> Speech {
    let mut speech = Speech::default();
    let out = &mut speech.bytes;
    match trick {
        Trick::Garbage => {
            speech.offends = Some(By::Bytes);
            out.put_bytes(0xff, 64);
        }
        Trick::HugeHandshake => {
            speech.offends = Some(By::Bytes);
            profile.framing().emit_header(60 << 20, out);
            out.put_bytes(7, 3 << 20);
        }
        Trick::LongHandshake => {
            speech.offends = Some(By::Bytes);
            profile.framing().emit_header(HANDSHAKE_LIMIT + 1, out);
            out.put_bytes(7, HANDSHAKE_LIMIT - 10);
        }
        Trick::HalfHandshake | Trick::BrokenHandshake => {
            let is_clean = trick == Trick::HalfHandshake;
            speech.offends = is_clean.then_some(By::End);
            speech.ending = if is_clean { Ending::Finish } else { Ending::Reset };
            speech.frame(profile, &[HELLO; 24]);
            profile.framing().emit_header(100, &mut speech.bytes);
            speech.bytes.put_bytes(READY, 50);
        }
        Trick::EmptyHandshake => speech.ending = Ending::Finish,
        Trick::Silent | Trick::Early => {}
        Trick::Chatter => {
            for word in 0..600_u16 {
                let text = [b'x'; 100];
                speech.frame(profile, &text[..text.len() - usize::from(word % 90)]);
            }
        }
        Trick::EmptyWords => {
            for _ in 0..3000 {
                speech.frame(profile, &[]);
            }
            greet(&mut speech, profile);
        }
        Trick::Slow | Trick::Unready => speech.frame(profile, &[HELLO; 24]),
        Trick::HalfCloser => {
            greet(&mut speech, profile);
            speech.ending = Ending::Finish;
        }
        _ => greet(&mut speech, profile),
    }
    speech
}

/// Returns whether a trick is done as soon as that is said.
pub(super) const fn is_about(trick: Trick) -> bool {
    matches!(
        trick,
        Trick::Garbage
            | Trick::HugeHandshake
            | Trick::LongHandshake
            | Trick::HalfHandshake
            | Trick::BrokenHandshake
            | Trick::EmptyHandshake
            | Trick::Silent
            | Trick::Chatter
            | Trick::EmptyWords
            | Trick::Slow
            | Trick::Unready
            | Trick::HalfCloser
            | Trick::LeavesOnGrant
    )
}

/// Says what an honest peer would.
fn greet(speech: &mut Speech, profile: Profile) {
    speech.frame(profile, &[HELLO; 24]);
    speech.frame(profile, &[READY; 24]);
}
