//! A window over the nonces that lately went by.

use crate::prelude::*;
/// Remembers the last [`WINDOW`] nonces exactly, and answers quickly for one it has not seen.
///
/// Two of them per session, for what was sealed and what was opened, refuse a record that is
/// bounced back or quickly replayed. They claim nothing beyond their length.
///
/// It grows with use: a session that has not carried a record holds nothing.
#[derive(Debug, Default)]
pub(super) struct RecentNonces {
    /// In the order of their arrival, the oldest replaced first once there are [`WINDOW`].
    recent: Vec<[u8; 12]>,
    /// Where the next one goes.
    next: u16,
    /// The newest of each slot, or [`NONE`].
    heads: Vec<u16>,
    /// For each of `recent` the next older one of its slot, or [`NONE`].
    older: Vec<u16>,
}

impl RecentNonces {
    pub(super) fn contains(&self, nonce: &[u8; 12]) -> bool {
        let mut at = self.heads.get(slot(nonce)).copied().unwrap_or(NONE);
        while let Some(candidate) = self.recent.get(usize::from(at)) {
            if candidate == nonce {
                return true;
            }
            at = self.older[usize::from(at)];
        }
        false
    }

    pub(super) fn insert(&mut self, nonce: [u8; 12]) {
        if self.heads.is_empty() {
            self.heads.resize(SLOTS, NONE);
        }
        let (at, slot) = (self.next, slot(&nonce));
        let index = usize::from(at);
        if index == self.recent.len() {
            self.recent.push(nonce);
            self.older.push(self.heads[slot]);
        } else {
            self.unlink(at);
            self.recent[index] = nonce;
            self.older[index] = self.heads[slot];
        }
        self.heads[slot] = at;
        self.next = (at + 1) % WINDOW;
    }

    /// Takes the oldest nonce, at the end of its slot's chain, out of it.
    fn unlink(&mut self, oldest: u16) {
        let slot = slot(&self.recent[usize::from(oldest)]);
        if self.heads[slot] == oldest {
            self.heads[slot] = NONE;
            return;
        }
        let mut at = self.heads[slot];
        while let Some(older) = self.older.get_mut(usize::from(at)) {
            if *older == oldest {
                *older = NONE;
                return;
            }
            at = *older;
        }
    }
}

fn slot(nonce: &[u8; 12]) -> usize {
    usize::from(nonce[0]) % SLOTS
}

const WINDOW: u16 = 256;
const SLOTS: usize = 256;
const NONE: u16 = u16::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(number: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        nonce
    }

    #[test]
    fn the_last_window_is_remembered_and_no_more() {
        let mut recent = RecentNonces::default();
        assert!(!recent.contains(&nonce(0)));
        for number in 0..1000 {
            recent.insert(nonce(number));
        }
        for number in 0..1000 {
            assert_eq!(recent.contains(&nonce(number)), number >= 1000 - 256, "{number}");
        }
    }

    #[test]
    fn a_peer_that_aims_at_one_slot_gains_nothing() {
        let mut recent = RecentNonces::default();
        for number in 0..2000 {
            recent.insert(nonce(number << 8));
        }
        assert!(recent.contains(&nonce(1999 << 8)));
        assert!(!recent.contains(&nonce(0)));
        assert!(!recent.contains(&nonce((5 << 8) + (1 << 40))));
    }
}
