//! The bans of peers of which the book knows nothing else, by when each was last seen.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::crypto::PublicKey;
use crate::wall::WallTime;

/// Which entries hold nothing but a ban. They have a limit of their own, so that bans of keys that
/// an attacker can make never take the places of peers, nor the other way round.
#[derive(Clone, Debug, Default)]
pub(super) struct BareBans {
    seen: BTreeMap<PublicKey, WallTime>,
    order: BTreeSet<(WallTime, PublicKey)>,
}

impl BareBans {
    pub(super) const fn new() -> Self {
        Self { seen: BTreeMap::new(), order: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn contains(&self, peer: PublicKey) -> bool {
        self.seen.contains_key(&peer)
    }

    /// The peer was banned, or has tried to connect.
    pub(super) fn insert(&mut self, peer: PublicKey, seen: WallTime) {
        self.remove(peer);
        self.seen.insert(peer, seen);
        self.order.insert((seen, peer));
    }

    pub(super) fn remove(&mut self, peer: PublicKey) {
        if let Some(seen) = self.seen.remove(&peer) {
            self.order.remove(&(seen, peer));
        }
    }

    /// Returns the peer, other than the given one, that was not seen for the longest time.
    pub(super) fn oldest_but(&self, keep: PublicKey) -> Option<PublicKey> {
        self.order.iter().map(|(_, peer)| *peer).find(|peer| *peer != keep)
    }
}
