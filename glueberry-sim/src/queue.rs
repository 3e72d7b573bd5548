//! What happens next: a heap of moments, with ties broken by the seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::rng::mix;

/// Things to do, by time in microseconds. Those of the same moment come in an order that the seed
/// permutes, so that races are explored and yet repeat.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    seed: u64,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: u64,
    tie: u64,
    what: T,
}

impl<T> Queue<T> {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { heap: BinaryHeap::new(), seed: mix(seed), sequence: 0 }
    }

    pub(crate) fn push(&mut self, at: u64, what: T) {
        self.sequence += 1;
        // The low half keeps ties unique, whatever the high half is.
        let tie = mix(self.seed ^ self.sequence) & !LOW | self.sequence & LOW;
        self.heap.push(Reverse(Entry { at, tie, what }));
    }

    /// Returns when the first thing is to be done.
    #[cfg(feature = "async")]
    pub(crate) fn first(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(first)| first.at)
    }

    /// Takes the first thing that is not later than `until`.
    pub(crate) fn pop(&mut self, until: u64) -> Option<(u64, T)> {
        let Reverse(first) = self.heap.peek()?;
        if first.at > until {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.what))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie).cmp(&(other.at, other.tie))
    }
}

const LOW: u64 = 0xffff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64) -> Vec<u32> {
        let mut queue = Queue::new(seed);
        for what in 0..16 {
            queue.push(5, what);
        }
        queue.push(4, 99);
        assert_eq!(queue.pop(3), None);
        assert_eq!(queue.pop(9), Some((4, 99)));
        std::iter::from_fn(|| queue.pop(5)).map(|(_, what)| what).collect()
    }

    #[test]
    fn ties_are_broken_by_the_seed_and_nothing_is_lost() {
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..16).collect::<Vec<_>>());
    }
}
