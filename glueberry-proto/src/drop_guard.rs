//! How a node learns that a session was dropped, or its last message.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

/// What a session holds until its end has reached the node. A driver that drops it leaves the node with
/// a session that reports nothing more.
#[derive(Debug)]
pub(crate) struct DropGuard(#[expect(dead_code, reason = "its drop counts")] Arc<Mark>);

/// Sets the flag when it is dropped. Its last owner is gone then.
#[derive(Debug)]
struct Mark(Arc<AtomicBool>);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The node's end of a [`DropGuard`].
#[derive(Debug)]
pub(crate) struct DropWatch(Weak<Mark>);

impl DropWatch {
    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Makes the guards of a node's sessions, and knows whether one of them was dropped.
#[derive(Debug, Default)]
pub(crate) struct DropFlag(Arc<AtomicBool>);

impl DropFlag {
    pub(crate) fn guard(&self) -> (DropGuard, DropWatch) {
        let mark = Arc::new(Mark(self.0.clone()));
        let watch = DropWatch(Arc::downgrade(&mark));
        (DropGuard(mark), watch)
    }

    /// True if one was dropped since the last time.
    pub(crate) fn take(&self) -> bool {
        // A look first: this is asked with every input.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Acquire)
    }
}
