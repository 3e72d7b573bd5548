//! Asks quinn about one thing only when quinn has said that it is worth it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::mailbox::{lock, remember};

/// Polls one thing of a connection when its own waker was woken, and not whenever the task runs.
///
/// The task of a connection runs for each of its streams, and for each message to send. To ask all
/// streams each time what they have would take quinn's lock for each.
pub(super) struct OnWake {
    signal: Arc<Signal>,
    /// What quinn gets: the signal.
    waker: Waker,
    /// The task that the signal wakes.
    task: Option<Waker>,
    /// It was polled and had nothing; the signal says when it may have.
    is_pending: bool,
}

#[derive(Debug, Default)]
struct Signal {
    /// Set under the lock: while it is not, the task is registered.
    is_woken: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl OnWake {
    /// Polls at the first call.
    pub(super) fn new() -> Self {
        let signal = Arc::<Signal>::default();
        Self { waker: signal.clone().into(), signal, task: None, is_pending: false }
    }

    /// Calls `poll`, unless it had nothing the last time and its waker was not woken since.
    pub(super) fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let is_same = self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker()));
        let mut is_woken = self.signal.is_woken.load(Ordering::Acquire);
        if is_woken || !is_same {
            // Before the look, so that a signal behind it wakes the task.
            is_woken = self.signal.register(cx);
            remember(&mut self.task, cx);
        }
        if self.is_pending && !is_woken {
            return Poll::Pending;
        }
        let polled = poll(&mut Context::from_waker(&self.waker));
        self.is_pending = polled.is_pending();
        polled
    }
}

impl Signal {
    /// Has the task woken by the next signal. Returns whether there was one since it was registered.
    fn register(&self, cx: &Context<'_>) -> bool {
        let mut task = lock(&self.task);
        remember(&mut task, cx);
        self.is_woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut task = lock(&self.task);
        self.is_woken.store(true, Ordering::Release);
        let woken = task.take();
        drop(task);
        if let Some(woken) = woken {
            woken.wake();
        }
    }
}

impl fmt::Debug for OnWake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnWake").field("is_pending", &self.is_pending).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task that counts how often it is woken.
    fn task() -> (Arc<Counter>, Waker) {
        let counter = Arc::<Counter>::default();
        (counter.clone(), counter.into())
    }

    #[derive(Default)]
    struct Counter(std::sync::atomic::AtomicUsize);

    impl Counter {
        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_had_nothing_is_polled_again_once_its_waker_was_woken() {
        let (count, task) = task();
        let (mut on_wake, cx) = (OnWake::new(), Context::from_waker(&task));
        let mut inner = None;
        let mut pend = |cx: &mut Context<'_>| {
            inner = Some(cx.waker().clone());
            Poll::<()>::Pending
        };
        assert!(on_wake.poll(&cx, &mut pend).is_pending());
        assert!(on_wake.poll(&cx, |_| Poll::Ready(())).is_pending(), "polled without a signal");
        for round in 1..4 {
            inner.as_ref().unwrap().wake_by_ref();
            inner.as_ref().unwrap().wake_by_ref();
            assert_eq!(count.count(), round, "woken once for both signals");
            assert!(on_wake.poll(&cx, |_| Poll::Ready(())).is_ready());
            // One that was ready is asked again.
            assert!(on_wake.poll(&cx, |_| Poll::<()>::Pending).is_pending());
        }
    }

    #[test]
    fn another_task_is_woken_from_then_on() {
        let ((first, one), (second, other)) = (task(), task());
        let mut on_wake = OnWake::new();
        let mut inner = None;
        let polled = on_wake.poll(&Context::from_waker(&one), |cx| {
            inner = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        let cx = Context::from_waker(&other);
        assert!(on_wake.poll(&cx, |_| Poll::Ready(())).is_pending(), "polled without a signal");
        inner.unwrap().wake();
        assert_eq!((first.count(), second.count()), (0, 1));
        assert!(on_wake.poll(&cx, |_| Poll::Ready(())).is_ready());
    }
}
