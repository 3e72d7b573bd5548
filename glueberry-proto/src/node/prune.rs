//! Keeping the number of current sessions between its watermarks.

use std::cmp::Reverse;

use super::Node;
use crate::crypto::PublicKey;
use crate::error::CloseReason;
use crate::session::Direction;

impl Node {
    /// Disconnects peers down to the low watermark if more than the high one have a current
    /// session.
    pub(super) fn prune(&mut self) {
        for peer in self.peers_to_prune() {
            self.cut_off(peer, &CloseReason::Pruned);
        }
    }

    /// Returns the peers that are too many.
    ///
    /// Those that dialled this node go first, and of these the youngest: peers that flood the node
    /// with connections lose their own. A protected peer is never pruned.
    fn peers_to_prune(&self) -> Vec<PublicKey> {
        let config = &self.env.config;
        let with_current = self.sessions.owners().filter_map(|(session, key)| {
            let peer = self.peers.get(key)?;
            let current = peer.current().filter(|current| current.id == session)?;
            Some((key, peer, current.direction))
        });
        let mut peers: Vec<_> = with_current.collect();
        if peers.len() <= config.sessions_high {
            return Vec::new();
        }
        let excess = peers.len() - config.sessions_low;
        peers.retain(|(_, peer, _)| !peer.is_protected);
        peers.sort_by_key(|(key, peer, direction)| {
            (*direction == Direction::Outbound, Reverse(peer.since()), *key)
        });
        peers.into_iter().take(excess).map(|(key, ..)| key).collect()
    }
}
