//! Which peers the node would refuse, for transports that must know it before they say yes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use glueberry_proto::book::{Ban, Revision};
use glueberry_proto::{ConnectionState, Instant, Node, PublicKey};

use crate::mailbox::lock;
use crate::store::wall_time;

/// What is known of refusals outside of the node's task. The node itself has the last word.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Until when peers are left alone that were disconnected here, or whose handshake failed.
    left_alone: BTreeMap<PublicKey, Instant>,
    bans: BTreeMap<PublicKey, Ban>,
    seen: Option<Revision>,
}

impl Refusals {
    /// Returns whether the peer is banned.
    pub(crate) fn is_banned(&self, peer: PublicKey) -> bool {
        let ban = self.state().bans.get(&peer).copied();
        ban.is_some_and(|ban| ban.holds_at(wall_time(SystemTime::now())))
    }

    /// Returns whether the peer would be refused if it dialled now.
    pub(crate) fn is_refused(&self, peer: PublicKey, now: Instant) -> bool {
        let is_left_alone = self.state().left_alone.get(&peer).is_some_and(|until| now < *until);
        is_left_alone || self.is_banned(peer)
    }

    /// Takes note of where a peer stands now.
    pub(crate) fn stand(&self, node: &Node, peer: PublicKey) {
        let until = node.peer_status(peer).and_then(|status| {
            let is_cooling = status.state == ConnectionState::Cooldown;
            let cooldown = status.cooldown_until.filter(|_| is_cooling);
            status.refused_until.max(cooldown)
        });
        let mut state = self.state();
        match until {
            Some(until) => state.left_alone.insert(peer, until),
            None => state.left_alone.remove(&peer),
        };
    }

    /// Takes note of the bans in the node's book; returns the peers that were not banned before.
    pub(crate) fn look_up(&self, node: &Node) -> Vec<PublicKey> {
        let mut state = self.state();
        let revision = Some(node.book().revision());
        if state.seen == revision {
            return Vec::new();
        }
        state.seen = revision;
        let banned = node.book().iter().filter_map(|(peer, entry)| Some((peer, entry.ban()?)));
        let before = std::mem::replace(&mut state.bans, banned.collect());
        let is_new = |peer: &PublicKey| !before.contains_key(peer);
        state.bans.keys().copied().filter(is_new).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
