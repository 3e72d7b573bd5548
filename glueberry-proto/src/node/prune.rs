//! Keeping the number of sessions between its watermarks.

use std::cmp::Reverse;

use super::Node;
use crate::crypto::PublicKey;
use crate::error::CloseReason;
use crate::session::Direction;

impl Node {
    /// Ends sessions down to the low watermark if there are more than the high one.
    ///
    /// Those that a peer has dialled go first, and of these the youngest: whoever floods the node
    /// with connections pushes out his own. A protected peer is never pruned.
    pub(super) fn prune(&mut self) {
        let is_granted = |connection, peer: PublicKey| {
            self.peers.get(peer).is_some_and(|peer| peer.granted == Some(connection))
        };
        let mut granted: Vec<PublicKey> = self
            .sessions
            .iter()
            .filter(|(connection, peer)| is_granted(**connection, **peer))
            .map(|(_, peer)| *peer)
            .collect();
        if granted.len() <= self.config.sessions_high {
            return;
        }
        let excess = granted.len() - self.config.sessions_low;
        granted.retain(|peer| self.peers.get(*peer).is_some_and(|peer| !peer.is_protected));
        granted.sort_by_key(|key| {
            let peer = self.peers.get(*key);
            let is_ours = peer.and_then(|peer| peer.direction) == Some(Direction::Outbound);
            (is_ours, Reverse(peer.map(|peer| peer.since())), *key)
        });
        for peer in granted.into_iter().take(excess) {
            self.cut_off(peer, CloseReason::Pruned);
        }
    }
}
