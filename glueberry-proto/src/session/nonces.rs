//! A window over the nonces that lately went by.

use std::collections::VecDeque;

/// Remembers the last [`WINDOW`] nonces exactly, and answers quickly for one it has not seen.
///
/// Two of them per session, for what was sealed and what was opened, refuse a record that is
/// bounced back or quickly replayed. They claim nothing beyond their length.
#[derive(Debug, Default)]
pub(super) struct RecentNonces {
    recent: VecDeque<[u8; 12]>,
    /// How many of `recent` fall into each slot; empty until the first nonce. A slot at zero
    /// proves absence without a search.
    slots: Vec<u16>,
}

impl RecentNonces {
    pub(super) fn contains(&self, nonce: &[u8; 12]) -> bool {
        match self.slots.get(slot(nonce)) {
            None | Some(0) => false,
            Some(_) => self.recent.contains(nonce),
        }
    }

    pub(super) fn insert(&mut self, nonce: [u8; 12]) {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, 0);
        }
        if self.recent.len() == WINDOW
            && let Some(oldest) = self.recent.pop_front()
            && let Some(count) = self.slots.get_mut(slot(&oldest))
        {
            *count = count.saturating_sub(1);
        }
        self.recent.push_back(nonce);
        if let Some(count) = self.slots.get_mut(slot(&nonce)) {
            *count = count.saturating_add(1);
        }
    }
}

fn slot(nonce: &[u8; 12]) -> usize {
    usize::from(u16::from_le_bytes([nonce[0], nonce[1]])) % SLOTS
}

const WINDOW: usize = 256;
const SLOTS: usize = 1024;

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
            recent.insert(nonce(number * 1024 * 64));
        }
        assert!(recent.contains(&nonce(1999 * 1024 * 64)));
        assert!(!recent.contains(&nonce(0)));
        assert!(!recent.contains(&nonce(5 * 1024 * 64 + (1 << 40))));
    }
}
