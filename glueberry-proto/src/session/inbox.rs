//! Messages that wait for the application.

use alloc::collections::VecDeque;
use core::fmt;

use bytes::Bytes;

use super::short_queue::ShortQueue;

/// Received messages in their order, and whether the application knows of them.
#[derive(Default)]
pub(super) struct Inbox {
    /// With what each occupies, which for a view into a larger buffer is more than its length.
    messages: ShortQueue<(Bytes, usize)>,
    /// What all occupy.
    bytes: usize,
    /// An event has reported that there is something, and the inbox was not empty since.
    is_reported: bool,
}

/// Without what messages hold.
impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("messages", &self.messages.len())
            .field("bytes", &self.bytes)
            .field("is_reported", &self.is_reported)
            .finish_non_exhaustive()
    }
}

impl Inbox {
    /// Makes room for so many more messages.
    pub(super) fn reserve(&mut self, messages: usize) {
        self.messages.reserve(messages);
    }

    pub(super) fn push(&mut self, message: Bytes, cost: usize) {
        self.bytes = self.bytes.saturating_add(cost);
        self.messages.push((message, cost));
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let popped = self.messages.pop();
        self.note_if_empty();
        let (message, cost) = popped?;
        self.bytes = self.bytes.saturating_sub(cost);
        Some(message)
    }

    /// Moves the first messages to `out`, `limit` at most; returns how many.
    pub(super) fn take(&mut self, limit: usize, out: &mut VecDeque<Bytes>) -> usize {
        let (count, mut bytes) = (self.messages.len().min(limit), 0_usize);
        match out.capacity() {
            // Most often it is one, and `out` is kept until that is read.
            0 => out.reserve_exact(count),
            _ => out.reserve(count),
        }
        self.messages.drain(count, |(message, cost)| {
            bytes = bytes.saturating_add(cost);
            out.push_back(message);
        });
        self.bytes = self.bytes.saturating_sub(bytes);
        self.note_if_empty();
        count
    }

    fn note_if_empty(&mut self) {
        if self.messages.is_empty() {
            self.is_reported = false;
        }
    }

    /// True, once, if there are messages that no event has reported.
    pub(super) fn becomes_readable(&mut self) -> bool {
        let becomes = !self.is_empty() && !self.is_reported;
        self.is_reported |= becomes;
        becomes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}
