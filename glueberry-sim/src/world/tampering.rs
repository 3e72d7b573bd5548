//! Somebody between two hosts alters what they have sealed by v2: takes out, repeats, replays, reflects.
//!
//! On a transport that authenticates only a relay can; v2 must notice it all the same.

use bytes::{Bytes, BytesMut};

use super::network::Network;
use crate::plan::Tampering;
use crate::rng::{u64_of, usize_of};
use crate::run::Run;
use crate::wake::Side;

impl Network {
    /// Returns what becomes on its way of sealed bytes that a side writes.
    pub(super) fn tamper(&mut self, run: &mut Run, link: usize, side: Side, bytes: Bytes) -> Bytes {
        let [from, to] = [side, 1 - side].map(|side| self.links[link].ends[side].host);
        let before = self.overheard.insert((from, to), bytes.clone());
        let Some((after, how)) = self.faults.tampering(from, to) else {
            return bytes;
        };
        if after >= u64_of(bytes.len()) {
            self.faults.set_tampering(from, to, (after - u64_of(bytes.len()), how));
            return bytes;
        }
        let instead = match how {
            Tampering::Replay => before,
            Tampering::Reflect => self.overheard.get(&(to, from)).cloned(),
            Tampering::Flip | Tampering::Drop | Tampering::Repeat => Some(Bytes::new()),
        };
        let Some(instead) = instead else {
            // There is nothing yet that could be said again.
            self.faults.set_tampering(from, to, (0, how));
            return bytes;
        };
        run.fire("tampering");
        self.touch_link(link);
        let state = &mut self.links[link];
        state.is_tampered = true;
        let (head, tail) = bytes.split_at(usize_of(after));
        let mut altered = BytesMut::from(head);
        match how {
            Tampering::Flip => {
                altered.extend_from_slice(tail);
                altered[head.len()] ^= 1 << state.rng.below(8);
            }
            Tampering::Drop => {
                let count = state.rng.index(tail.len()) + 1;
                altered.extend_from_slice(&tail[count..]);
            }
            Tampering::Repeat => {
                altered.extend_from_slice(tail);
                altered.extend_from_slice(&bytes);
            }
            Tampering::Replay | Tampering::Reflect => {
                altered = BytesMut::from(&instead[..]);
                altered.extend_from_slice(&bytes);
            }
        }
        altered.freeze()
    }
}
