//! A queue that most often holds one thing, or none.

use alloc::collections::VecDeque;

/// A queue of which the first item needs no allocation, and that holds none when it is empty: most
/// sessions are idle most of the time, and of a session that is not, most queues hold one at a time.
#[derive(Debug)]
pub(super) struct ShortQueue<T> {
    /// None only if `rest` is empty.
    first: Option<T>,
    rest: VecDeque<T>,
}

impl<T> Default for ShortQueue<T> {
    fn default() -> Self {
        Self { first: None, rest: VecDeque::new() }
    }
}

impl<T> ShortQueue<T> {
    /// Makes room for so many more items.
    pub(super) fn reserve(&mut self, items: usize) {
        // The first needs none.
        let others = items.saturating_sub(usize::from(self.first.is_none()));
        self.rest.reserve(others);
    }

    pub(super) fn push(&mut self, item: T) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.rest.push_back(item),
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let popped = self.first.take();
        self.first = self.rest.pop_front();
        self.shrink();
        popped
    }

    /// Removes the first items, `count` at most, and passes them on.
    pub(super) fn drain(&mut self, count: usize, mut pass: impl FnMut(T)) {
        let Some(others) = count.checked_sub(1) else {
            return;
        };
        self.first.take().into_iter().for_each(&mut pass);
        let others = others.min(self.rest.len());
        self.rest.drain(..others).for_each(pass);
        self.first = self.rest.pop_front();
        self.shrink();
    }

    fn shrink(&mut self) {
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = VecDeque::new();
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.first.iter_mut().chain(&mut self.rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec((0..5_usize, 0..7_usize), 0..60)) {
            let (mut queue, mut model) = (ShortQueue::default(), VecDeque::new());
            for (number, (pushed, taken)) in steps.into_iter().enumerate() {
                for _ in 0..pushed {
                    queue.push(number);
                    model.push_back(number);
                }
                if taken == 1 {
                    prop_assert_eq!(queue.pop(), model.pop_front());
                } else {
                    let mut out = Vec::new();
                    queue.drain(taken, |it| out.push(it));
                    let count = taken.min(model.len());
                    prop_assert_eq!(out, model.drain(..count).collect::<Vec<_>>());
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                prop_assert!(queue.iter_mut().map(|it| *it).eq(model.iter().copied()));
                prop_assert!(!queue.is_empty() || queue.rest.capacity() == 0);
            }
        }
    }
}
