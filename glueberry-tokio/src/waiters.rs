//! Tasks that wait for something that is behind a lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

/// The wakers of the tasks that wait for one thing.
///
/// It lives behind its owner's lock; wakers are woken after that is released. A task that registers owns
/// the [`WaiterId`], and removes it when it stops waiting.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: BTreeMap<WaiterId, Waker>,
}

/// Names one registration, in the whole process: what it was registered with may have been forgotten,
/// and another be in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaiterId(u64);

impl Waiters {
    /// Registers the task, or replaces its waker if it is registered under `id`.
    pub(crate) fn register(&mut self, id: &mut Option<WaiterId>, cx: &Context<'_>) {
        let registered = id.and_then(|id| self.waiting.get_mut(&id));
        if let Some(waker) = registered {
            waker.clone_from(cx.waker());
        } else {
            let new = *id.insert(WaiterId(NEXT.fetch_add(1, Ordering::Relaxed)));
            self.waiting.insert(new, cx.waker().clone());
        }
    }

    /// Removes a registration that was not woken.
    pub(crate) fn remove(&mut self, id: WaiterId) -> Option<Waker> {
        self.waiting.remove(&id)
    }

    /// True if nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the waker that has waited longest, to be woken without the lock.
    pub(crate) fn take_first(&mut self) -> Option<Waker> {
        self.waiting.pop_first().map(|(_, waker)| waker)
    }

    /// Takes all wakers, the longest waiting first, to be woken without the lock.
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        // Most often there are none, and this is on the way of every message.
        if self.waiting.is_empty() {
            return Vec::new();
        }
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

/// Wakes tasks; the caller holds no lock.
pub(crate) fn wake_all(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// The next id. Those that are registered later are greater, so that they are woken later.
static NEXT: AtomicU64 = AtomicU64::new(0);
