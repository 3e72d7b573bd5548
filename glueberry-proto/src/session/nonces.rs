//! A window over the nonces that lately went by.

use crate::prelude::*;
/// Remembers the last 256 nonces exactly, and answers quickly for one it has not seen.
///
/// Two of them per session, for what was sealed and what was opened, refuse a record that is
/// bounced back or quickly replayed. They claim nothing beyond their length.
///
/// It grows with use: a session that has not carried a record holds nothing.
#[derive(Debug, Default)]
pub(super) struct RecentNonces {
    /// In the order of their arrival, the oldest replaced first once there are 256.
    recent: Vec<[u8; 12]>,
    /// Where the next one goes.
    next: u8,
    /// The newest of each slot. Where the nonce at that place is of another slot, there is none.
    heads: Vec<u8>,
    /// For each of `recent` the next older one of its slot; itself, if there is none.
    older: Vec<u8>,
}

impl RecentNonces {
    pub(super) fn contains(&self, nonce: &[u8; 12]) -> bool {
        let mut next = self.head(slot(nonce));
        while let Some(at) = next {
            if self.recent[usize::from(at)] == *nonce {
                return true;
            }
            next = self.behind(at);
        }
        false
    }

    pub(super) fn insert(&mut self, nonce: [u8; 12]) {
        if self.heads.is_empty() {
            self.heads.resize(SLOTS, 0);
        }
        let (at, slot) = (self.next, slot(&nonce));
        let index = usize::from(at);
        // The last of the window: what is replaced is at the end of its chain.
        let is_full = index < self.recent.len();
        if is_full {
            self.unlink(at);
        }
        let newest = self.head(slot).filter(|newest| *newest != at);
        let older = newest.unwrap_or(at);
        if is_full {
            (self.recent[index], self.older[index]) = (nonce, older);
        } else {
            self.recent.push(nonce);
            self.older.push(older);
        }
        self.heads[slot] = at;
        // A window has as many places as there are numbers.
        self.next = at.wrapping_add(1);
    }

    /// Returns where the newest nonce of a slot is.
    fn head(&self, of: usize) -> Option<u8> {
        let at = *self.heads.get(of)?;
        let nonce = self.recent.get(usize::from(at))?;
        (slot(nonce) == of).then_some(at)
    }

    /// Returns where the next older nonce of the same slot is.
    fn behind(&self, at: u8) -> Option<u8> {
        Some(self.older[usize::from(at)]).filter(|older| *older != at)
    }

    /// Takes the oldest nonce, at the end of its slot's chain, out of it. One that is alone there goes
    /// when another takes its place.
    fn unlink(&mut self, oldest: u8) {
        let mut next = self.head(slot(&self.recent[usize::from(oldest)]));
        while let Some(at) = next {
            next = self.behind(at);
            if next == Some(oldest) {
                self.older[usize::from(at)] = at;
                return;
            }
        }
    }
}

fn slot(nonce: &[u8; 12]) -> usize {
    usize::from(nonce[0]) % SLOTS
}

const SLOTS: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        /// Beside a list, with nonces of few slots, so that their chains are long.
        #[test]
        fn exactly_the_last_are_remembered(
            slots in prop::collection::vec(0..4_u64, 0..900),
            step in 1..40_usize,
        ) {
            let (mut recent, mut all) = (RecentNonces::default(), Vec::new());
            for (number, slot) in (0_u64..).zip(slots) {
                let nonce = nonce((number << 8) + slot);
                recent.insert(nonce);
                all.push(nonce);
            }
            for (age, nonce) in all.iter().rev().enumerate().step_by(step) {
                prop_assert_eq!(recent.contains(nonce), age < 256, "{}", age);
            }
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
