//! The peers that a node holds a state for, and the earliest time at which one of them is due.

use alloc::collections::{BTreeMap, BTreeSet};

use super::peer::Peer;
use crate::crypto::PublicKey;
use crate::prelude::*;
use crate::time::Instant;

/// Peers by key, with an index of when each is due.
///
/// A peer is changed through [`get_mut`](Self::get_mut), which records that it was.
/// [`settle`](Self::settle) then updates the index, and forgets the peer if there is nothing left to
/// remember. So the cost of a step does not grow with the number of peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    table: BTreeMap<PublicKey, Entry>,
    due: BTreeSet<(Instant, PublicKey)>,
    touched: Vec<PublicKey>,
}

#[derive(Debug)]
struct Entry {
    /// Boxed, because a map of few entries keeps room for many.
    peer: Box<Peer>,
    /// The deadline that is in the index.
    indexed: Option<Instant>,
}

impl Peers {
    pub(super) fn get(&self, key: PublicKey) -> Option<&Peer> {
        self.table.get(&key).map(|entry| &*entry.peer)
    }

    pub(super) fn get_mut(&mut self, key: PublicKey) -> Option<&mut Peer> {
        let entry = self.table.get_mut(&key)?;
        touch(&mut self.touched, key);
        Some(&mut entry.peer)
    }

    pub(super) fn get_or_insert(&mut self, key: PublicKey) -> &mut Peer {
        touch(&mut self.touched, key);
        let new = || Entry { peer: Box::new(Peer::new(key)), indexed: None };
        &mut self.table.entry(key).or_insert_with(new).peer
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.table.values().map(|entry| &*entry.peer)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = PublicKey> {
        self.table.keys().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Updates the index for the peers that were changed, and forgets those of no interest.
    pub(super) fn settle(&mut self) {
        while let Some(key) = self.touched.pop() {
            // A peer that was touched twice may be forgotten already.
            let Some(entry) = self.table.get_mut(&key) else {
                continue;
            };
            // An index entry that outlived its peer would be due for ever.
            let is_forgotten = entry.peer.is_forgettable();
            let next = entry.peer.next_deadline().filter(|_| !is_forgotten);
            if next != entry.indexed {
                if let Some(indexed) = entry.indexed {
                    self.due.remove(&(indexed, key));
                }
                if let Some(next) = next {
                    self.due.insert((next, key));
                }
                entry.indexed = next;
            }
            if is_forgotten {
                self.table.remove(&key);
            }
        }
    }

    /// Returns the peers that something is due for, by when that is.
    pub(super) fn iter_due(&self) -> impl Iterator<Item = PublicKey> {
        self.due.iter().map(|(_, peer)| *peer)
    }

    /// Returns the peer that is due first, and when.
    pub(super) fn next_due(&self) -> Option<(Instant, PublicKey)> {
        self.due.first().copied()
    }
}

fn touch(touched: &mut Vec<PublicKey>, key: PublicKey) {
    if touched.last() != Some(&key) {
        touched.push(key);
    }
}
