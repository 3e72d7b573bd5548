//! The peers that a node holds a state for, and the earliest time at which one of them is due.

use std::collections::{BTreeMap, BTreeSet};

use super::peer::Peer;
use crate::crypto::PublicKey;
use crate::time::Instant;

/// Peers by key, with a timer for each that waits for something.
///
/// Whoever changes a peer goes through [`get_mut`](Self::get_mut), which takes note of it;
/// [`settle`](Self::settle) then sets its timer anew, and forgets it if there is nothing left to
/// remember. So the cost of a step does not grow with the number of peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Boxed, because a map of few entries keeps room for many.
    table: BTreeMap<PublicKey, Box<Peer>>,
    timers: BTreeSet<(Instant, PublicKey)>,
    touched: Vec<PublicKey>,
}

impl Peers {
    pub(super) fn get(&self, key: PublicKey) -> Option<&Peer> {
        self.table.get(&key).map(|peer| &**peer)
    }

    pub(super) fn get_mut(&mut self, key: PublicKey) -> Option<&mut Peer> {
        let peer = self.table.get_mut(&key)?;
        touch(&mut self.touched, key);
        Some(peer)
    }

    pub(super) fn get_or_insert(&mut self, key: PublicKey) -> &mut Peer {
        touch(&mut self.touched, key);
        self.table.entry(key).or_insert_with(|| Box::new(Peer::new(key)))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = PublicKey> {
        self.table.keys().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Sets the timers of the peers that were changed, and forgets those of no interest.
    pub(super) fn settle(&mut self) {
        while let Some(key) = self.touched.pop() {
            let Some(peer) = self.table.get_mut(&key) else {
                continue;
            };
            // A timer that outlived its peer would be due for ever.
            let is_forgotten = peer.is_forgettable();
            let next = peer.next_deadline().filter(|_| !is_forgotten);
            if next != peer.armed {
                if let Some(armed) = peer.armed {
                    self.timers.remove(&(armed, key));
                }
                if let Some(next) = next {
                    self.timers.insert((next, key));
                }
                peer.armed = next;
            }
            if is_forgotten {
                self.table.remove(&key);
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Returns a peer for which something is due.
    pub(super) fn due(&self, now: Instant) -> Option<PublicKey> {
        self.timers.first().filter(|(at, _)| *at <= now).map(|(_, key)| *key)
    }
}

fn touch(touched: &mut Vec<PublicKey>, key: PublicKey) {
    if touched.last() != Some(&key) {
        touched.push(key);
    }
}
