//! Frames that are none: wrong lengths, and ends where none may be.

use bytes::{BufMut, Bytes};
use glueberry_proto::Profile;
use glueberry_proto::wire::{MAX_TRAILING_LEN, varint};

use super::Adversary;
use super::payload::{CloseMode, OffenceAt, Payload};
use crate::attack::Attack;
use crate::script::Purpose;
use crate::wake::Side;
use crate::world::wires::Way;

/// Returns whether a attack breaks frames.
pub(super) const fn is_about(attack: Attack) -> bool {
    matches!(
        attack,
        Attack::HugeFrame
            | Attack::PaddedLength
            | Attack::HalfFrame
            | Attack::BrokenFrame
            | Attack::CreepingFrame
    ) || can_be_in_handshake(attack)
}

/// Returns whether the frame may as well be one of the handshake.
pub(super) const fn can_be_in_handshake(attack: Attack) -> bool {
    matches!(
        attack,
        Attack::EndlessFrame
            | Attack::OverflowingLength
            | Attack::NoLength
            | Attack::LongerInside
            | Attack::Trailer
            | Attack::HalfHeader
    )
}

/// Returns a frame that is broken, where frames of so many bytes are allowed.
pub(super) fn payload(attack: Attack, profile: Profile, limit: usize) -> Payload {
    let mut payload = Payload { offence: Some(OffenceAt::Bytes), ..Payload::default() };
    let out = &mut payload.bytes;
    match attack {
        Attack::HugeFrame => profile.framing().emit_header(limit + 1, out),
        Attack::EndlessFrame if profile == Profile::V1 => out.put_u32(u32::MAX),
        Attack::EndlessFrame => varint::emit(u64::MAX, out),
        Attack::OverflowingLength => out.put_bytes(0xff, 11),
        Attack::NoLength => out.put_u8(0),
        Attack::LongerInside => {
            varint::emit(10, out);
            varint::emit(200, out);
            out.put_bytes(7, 8);
        }
        Attack::Trailer => {
            let trailer = MAX_TRAILING_LEN + 1;
            varint::emit(31 + crate::rng::u64_of(trailer), out);
            varint::emit(30, out);
            out.put_bytes(7, 30 + trailer);
        }
        Attack::HalfHeader => {
            // Two bytes of four, or the outer length and a byte of the inner one.
            match profile {
                Profile::V1 => out.put_bytes(0, 2),
                _ => out.put_slice(&[200, 1, 0x80]),
            }
            payload.offence = Some(OffenceAt::End);
            payload.close = CloseMode::Finish;
        }
        Attack::HalfFrame | Attack::BrokenFrame => {
            let is_clean = attack == Attack::HalfFrame;
            profile.framing().emit_header(100, out);
            out.put_bytes(1, 50);
            payload.offence = is_clean.then_some(OffenceAt::End);
            payload.close = if is_clean { CloseMode::Finish } else { CloseMode::Reset };
        }
        Attack::CreepingFrame => {
            profile.framing().emit_header(limit, out);
            payload.offence = None;
        }
        _ => payload.offence = None,
    }
    payload
}

/// Returns what [`payload`] does for messages of so many bytes; a frame that is merely unusual has a
/// record that is as it should be.
pub(super) fn payload_around(
    attack: Attack,
    profile: Profile,
    limit: usize,
    record: &[u8],
) -> Payload {
    let mut payload = payload(attack, profile, limit + OVERHEAD);
    if attack == Attack::PaddedLength {
        let inner = padded(record.len());
        payload.bytes.put_slice(&padded(record.len() + inner.len()));
        payload.bytes.put_slice(&inner);
        payload.bytes.put_slice(record);
    }
    payload
}

impl Adversary<'_> {
    /// Sends one more byte of a frame that never ends.
    pub(super) fn creep(&mut self, link: usize, side: Side) {
        let script = self.net.links[link].script.as_ref();
        let stream = script.and_then(|script| {
            script.opened.iter().find(|(_, what)| *what == Purpose::Stream).map(|(pipe, _)| *pipe)
        });
        if let Some(at) = stream {
            self.net.put(self.run, link, Way::Substream(at), side, Bytes::from_static(&[7]));
        }
    }
}

/// Returns a length below 2¹⁴ as a varint with two bytes more than it needs.
fn padded(len: usize) -> [u8; 4] {
    let low = |shift: usize| u8::try_from(len >> shift & 0x7f).unwrap_or(0) | 0x80;
    [low(0), low(7), 0x80, 0]
}

/// What a record adds to its message.
const OVERHEAD: usize = 28;
