//! Handshakes that are held as they should not be.

use bytes::BufMut;
use glueberry_proto::Profile;

use super::payload::{CloseMode, OffenceAt, Payload};

use crate::attack::Attack;
use crate::world::handshake::{HELLO, READY};

/// Returns what an adversary says on the handshake substream.
pub(super) fn payload(attack: Attack, profile: Profile, limit: usize) -> Payload {
    let mut payload = Payload::default();
    let out = &mut payload.bytes;
    match attack {
        // It has no keys, and what is said without them is nothing.
        _ if profile == Profile::V2
            && !matches!(attack, Attack::Garbage | Attack::EmptyHandshake) => {}
        Attack::Garbage => {
            payload.offence = Some(OffenceAt::Bytes);
            out.put_bytes(0xff, 64);
        }
        Attack::HugeHandshake => {
            payload.offence = Some(OffenceAt::Bytes);
            profile.framing().emit_header(60 << 20, out);
            out.put_bytes(7, 3 << 20);
        }
        Attack::LongHandshake => {
            payload.offence = Some(OffenceAt::Bytes);
            profile.framing().emit_header(limit + 1, out);
            out.put_bytes(7, limit - 10);
        }
        Attack::HalfHandshake | Attack::BrokenHandshake => {
            let is_clean = attack == Attack::HalfHandshake;
            payload.offence = is_clean.then_some(OffenceAt::End);
            payload.close = if is_clean { CloseMode::Finish } else { CloseMode::Reset };
            payload.frame(profile, &[HELLO; 24]);
            profile.framing().emit_header(100, &mut payload.bytes);
            payload.bytes.put_bytes(READY, 50);
        }
        Attack::EmptyHandshake => payload.close = CloseMode::Finish,
        Attack::Silent | Attack::Early => {}
        Attack::Chatter => {
            for word in 0..600_u16 {
                let text = [b'x'; 100];
                payload.frame(profile, &text[..text.len() - usize::from(word % 90)]);
            }
        }
        Attack::EmptyWords => {
            for _ in 0..3000 {
                payload.frame(profile, &[]);
            }
            continue_handshake(&mut payload, profile);
        }
        Attack::Slow | Attack::Unready => payload.frame(profile, &[HELLO; 24]),
        Attack::HalfCloser => {
            continue_handshake(&mut payload, profile);
            payload.close = CloseMode::Finish;
        }
        _ => continue_handshake(&mut payload, profile),
    }
    payload
}

/// Returns whether a attack is done as soon as that is said.
pub(super) const fn is_about(attack: Attack) -> bool {
    matches!(
        attack,
        Attack::Garbage
            | Attack::HugeHandshake
            | Attack::LongHandshake
            | Attack::HalfHandshake
            | Attack::BrokenHandshake
            | Attack::EmptyHandshake
            | Attack::Silent
            | Attack::Chatter
            | Attack::EmptyWords
            | Attack::Slow
            | Attack::Unready
            | Attack::HalfCloser
            | Attack::LeavesOnGrant
    )
}

/// Says what an honest peer would.
fn continue_handshake(payload: &mut Payload, profile: Profile) {
    payload.frame(profile, &[HELLO; 24]);
    payload.frame(profile, &[READY; 24]);
}
