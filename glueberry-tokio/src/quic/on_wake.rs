//! Asks quinn about one thing only when quinn has said that it is worth it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Polls one thing of a connection when its own waker was woken, and not whenever the task runs.
///
/// The task of a connection runs for each of its streams, and for each message to send. To ask all
/// streams each time what they have would take quinn's lock for each.
pub(super) struct OnWake {
    signal: Arc<Signal>,
    /// What quinn gets: the signal.
    waker: Waker,
    /// It was polled and had nothing; the signal says when it may have.
    is_pending: bool,
}

#[derive(Debug, Default)]
struct Signal {
    is_woken: AtomicBool,
    task: AtomicWaker,
}

impl OnWake {
    /// Polls at the first call.
    pub(super) fn new() -> Self {
        let signal = Arc::<Signal>::default();
        Self { waker: signal.clone().into(), signal, is_pending: false }
    }

    /// Calls `poll`, unless it had nothing the last time and its waker was not woken since.
    pub(super) fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // First, so that a signal behind the look wakes the task.
        self.signal.task.register(cx.waker());
        let is_woken = self.signal.is_woken.swap(false, Ordering::AcqRel);
        if self.is_pending && !is_woken {
            return Poll::Pending;
        }
        let polled = poll(&mut Context::from_waker(&self.waker));
        self.is_pending = polled.is_pending();
        polled
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl fmt::Debug for OnWake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnWake").field("is_pending", &self.is_pending).finish_non_exhaustive()
    }
}
