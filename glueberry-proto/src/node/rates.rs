//! How often a peer, or a network prefix, has connected lately.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use crate::time::Instant;

/// How much is left to each of what may be done only so often in a minute. A node keeps one of its
/// peers, an adapter may keep one of their networks.
///
/// Each may do at once what it may do in a minute, and one more with each equal part of a minute.
/// Only those are kept that have done something lately, and at most 4096: of more, those are
/// forgotten that have used the least.
///
/// ```
/// use glueberry_proto::{Instant, Rates};
/// use std::time::Duration;
///
/// let (mut rates, now) = (Rates::default(), Instant::ZERO);
/// assert!(rates.take("alice", 2, now) && rates.take("alice", 2, now));
/// assert!(!rates.take("alice", 2, now) && rates.take("bob", 2, now));
/// assert!(rates.take("alice", 2, now + Duration::from_secs(30)));
/// ```
#[derive(Debug)]
pub struct Rates<K> {
    /// When each has its whole allowance again.
    whole_at: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Clone> Rates<K> {
    /// Takes one off what `who` may do. Returns false if nothing is left.
    pub fn take(&mut self, who: K, per_minute: usize, now: Instant) -> bool {
        while let Some((at, who)) = self.by_time.first().cloned().filter(|(at, _)| *at <= now) {
            self.forget(at, &who);
        }
        let before = self.whole_at.get(&who).copied();
        let part = MINUTE / u32::try_from(per_minute).unwrap_or(u32::MAX).max(1);
        let after = before.unwrap_or(now) + part;
        if after.duration_since(now) > MINUTE {
            return false;
        }
        match before {
            Some(before) => self.forget(before, &who),
            None if self.whole_at.len() >= MOST_KEPT => {
                if let Some((at, who)) = self.by_time.first().cloned() {
                    self.forget(at, &who);
                }
            }
            None => {}
        }
        self.whole_at.insert(who.clone(), after);
        self.by_time.insert((after, who));
        true
    }

    fn forget(&mut self, at: Instant, who: &K) {
        self.by_time.remove(&(at, who.clone()));
        self.whole_at.remove(who);
    }
}

impl<K> Default for Rates<K> {
    fn default() -> Self {
        Self { whole_at: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// A peer with more keys than this needs none twice; the limits of strangers hold it back.
pub(crate) const MOST_KEPT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_used_up_and_comes_back() {
        let mut rates = Rates::default();
        let start = Instant::from_micros(1);
        assert!((0..60).all(|_| rates.take(1, 60, start)));
        assert!(!rates.take(1, 60, start));
        assert!(rates.take(2, 60, start), "another has its own");
        let soon = start + Duration::from_secs(1);
        assert!(rates.take(1, 60, soon));
        assert!(!rates.take(1, 60, soon));
        // Who has the whole allowance is not kept.
        assert!(rates.take(3, 60, start + 2 * MINUTE));
        assert_eq!((rates.whole_at.len(), rates.by_time.len()), (1, 1));
    }

    #[test]
    fn those_that_come_often_are_not_forgotten_for_others() {
        let mut rates = Rates::default();
        let now = Instant::ZERO;
        assert!((0..2).all(|_| rates.take(0, 2, now)));
        for other in 1..=MOST_KEPT {
            assert!(rates.take(other, 2, now));
        }
        assert!(!rates.take(0, 2, now));
        assert_eq!(rates.whole_at.len(), MOST_KEPT);
        assert_eq!(rates.by_time.len(), MOST_KEPT);
    }
}
