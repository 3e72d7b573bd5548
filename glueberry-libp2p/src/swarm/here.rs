//! Which connection a task of the swarm carries.
//!
//! The swarm runs each connection in a task of its own, its multiplexer and its handler together, and tells
//! neither of the other. So each task has a place, where the multiplexer puts what bounds its peer, and the
//! handler finds it. The handler is polled first: it waits for the second turn.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use super::windows::Registered;
use crate::settings::Bounds;

thread_local! {
    /// The place of the task that this thread polls.
    static POLLED: RefCell<Option<Place>> = const { RefCell::new(None) };
}

type Place = Arc<OnceLock<Arc<Registered>>>;

/// Says which connection the task that runs carries, and wakes it if it has not known.
pub(super) fn put(registered: &Arc<Registered>, cx: &Context<'_>) {
    let is_empty = |place: &Place| place.get().is_none();
    let was_put = POLLED.with_borrow(|place| {
        let place = place.as_ref().filter(|place| is_empty(place));
        place.is_some_and(|place| place.set(registered.clone()).is_ok())
    });
    if was_put {
        cx.waker().wake_by_ref();
    }
}

/// Returns what bounds the peer of the connection that the task that runs carries, if that is known.
pub(super) fn find() -> Option<Arc<dyn Bounds>> {
    let place = POLLED.with_borrow(Clone::clone)?;
    let bounds: Arc<dyn Bounds> = place.get()?.clone();
    Some(bounds)
}

/// A task with a place.
pub(super) struct Placed<F> {
    task: F,
    place: Place,
}

impl<F> Placed<F> {
    pub(super) fn new(task: F) -> Self {
        Self { task, place: Arc::default() }
    }
}

impl<F: Future + Unpin> Future for Placed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _before = Before(POLLED.replace(Some(self.place.clone())));
        Pin::new(&mut self.task).poll(cx)
    }
}

/// What the thread has polled before, which it returns to whatever happens.
struct Before(Option<Place>);

impl Drop for Before {
    fn drop(&mut self) {
        POLLED.set(self.0.take());
    }
}
