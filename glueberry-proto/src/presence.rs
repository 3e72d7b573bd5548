//! How a node learns that a session was dropped, or its last message.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

/// What a session holds until its end has reached the node. Whoever drops it leaves the node with a
/// session of which nothing will be heard.
#[derive(Debug)]
pub(crate) struct Presence(#[expect(dead_code, reason = "its drop counts")] Arc<Mark>);

/// Set when it is dropped, and then nobody holds it.
#[derive(Debug)]
struct Mark(Arc<AtomicBool>);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The node's end of a [`Presence`].
#[derive(Debug)]
pub(crate) struct Watch(Weak<Mark>);

impl Watch {
    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Makes the presences of a node's sessions.
#[derive(Debug, Default)]
pub(crate) struct Roll(Arc<AtomicBool>);

impl Roll {
    pub(crate) fn call(&self) -> (Presence, Watch) {
        let mark = Arc::new(Mark(self.0.clone()));
        let watch = Watch(Arc::downgrade(&mark));
        (Presence(mark), watch)
    }

    /// True if one was dropped since the last time.
    pub(crate) fn take_missed(&self) -> bool {
        // A look first: this is asked with every input.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Acquire)
    }
}
