//! Handshakes that are held as they should not be.

use bytes::BufMut;
use glueberry_proto::Profile;

use super::payload::{CloseMode, OffenceAt, Payload};

use crate::trick::Trick;
use crate::world::handshake::{HELLO, READY};

/// Returns what an adversary says on the handshake substream.
pub(super) fn payload(trick: Trick, profile: Profile, limit: usize) -> Payload {
    let mut payload = Payload::default();
    let out = &mut payload.bytes;
    match trick {
        Trick::Garbage => {
            payload.offence = Some(OffenceAt::Bytes);
            out.put_bytes(0xff, 64);
        }
        Trick::HugeHandshake => {
            payload.offence = Some(OffenceAt::Bytes);
            profile.framing().emit_header(60 << 20, out);
            out.put_bytes(7, 3 << 20);
        }
        Trick::LongHandshake => {
            payload.offence = Some(OffenceAt::Bytes);
            profile.framing().emit_header(limit + 1, out);
            out.put_bytes(7, limit - 10);
        }
        Trick::HalfHandshake | Trick::BrokenHandshake => {
            let is_clean = trick == Trick::HalfHandshake;
            payload.offence = is_clean.then_some(OffenceAt::End);
            payload.close = if is_clean { CloseMode::Finish } else { CloseMode::Reset };
            payload.frame(profile, &[HELLO; 24]);
            profile.framing().emit_header(100, &mut payload.bytes);
            payload.bytes.put_bytes(READY, 50);
        }
        Trick::EmptyHandshake => payload.close = CloseMode::Finish,
        Trick::Silent | Trick::Early => {}
        Trick::Chatter => {
            for word in 0..600_u16 {
                let text = [b'x'; 100];
                payload.frame(profile, &text[..text.len() - usize::from(word % 90)]);
            }
        }
        Trick::EmptyWords => {
            for _ in 0..3000 {
                payload.frame(profile, &[]);
            }
            continue_handshake(&mut payload, profile);
        }
        Trick::Slow | Trick::Unready => payload.frame(profile, &[HELLO; 24]),
        Trick::HalfCloser => {
            continue_handshake(&mut payload, profile);
            payload.close = CloseMode::Finish;
        }
        _ => continue_handshake(&mut payload, profile),
    }
    payload
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
fn continue_handshake(payload: &mut Payload, profile: Profile) {
    payload.frame(profile, &[HELLO; 24]);
    payload.frame(profile, &[READY; 24]);
}
