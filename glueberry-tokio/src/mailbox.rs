//! A queue between tasks that wakes its reader.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use futures_channel::oneshot;

/// A queue into one task.
///
/// It has no capacity of its own: its senders bound it. Each waits for an answer before it puts more
/// in, or puts in only so much in its life.
#[derive(Debug)]
pub struct Mailbox<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    reader: Option<Waker>,
    is_closed: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Mailbox<T> {
    /// Makes an empty one.
    pub const fn new() -> Self {
        let state = State { queue: VecDeque::new(), reader: None, is_closed: false };
        Self { state: Mutex::new(state) }
    }

    /// Appends an item; gives it back if the mailbox is closed.
    pub fn put(&self, item: T) -> Result<(), T> {
        let mut state = lock(&self.state);
        if state.is_closed {
            return Err(item);
        }
        state.queue.push_back(item);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// Takes all items, and wakes the caller for the next.
    pub fn take(&self, cx: &Context<'_>) -> VecDeque<T> {
        let mut state = lock(&self.state);
        remember(&mut state.reader, cx);
        std::mem::take(&mut state.queue)
    }

    /// Returns whether the mailbox is closed.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).is_closed
    }

    /// Refuses items from now on, and returns those that were not read.
    pub fn close(&self) -> VecDeque<T> {
        let mut state = lock(&self.state);
        state.is_closed = true;
        std::mem::take(&mut state.queue)
    }
}

/// Answers a question; a caller that has stopped waiting needs no answer.
pub(crate) fn answer<T>(to: oneshot::Sender<T>, value: T) {
    drop(to.send(value).err());
}

/// Locks a mutex whose data stays sound even if a holder has panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaces a waker only if it would wake another task.
pub(crate) fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
