//! Ways to break each rule on purpose, so that each rule's test can be seen to fail.

#[cfg(feature = "testing")]
use crate::bug::Bug;
use crate::config::Config;

/// A rule to break. Only a build with the feature `testing` can choose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "public only in `testing`"))]
pub enum Fault {
    /// Panics when the peer misbehaves.
    C1,
    /// Tells the end of a session twice.
    C2,
    /// A message that is refused as too large is queued all the same.
    C3,
    /// Forgets the oldest message when three wait to be written.
    C4,
    /// Forgets the part of a frame header that has arrived.
    C5,
    /// Drops what a full queue cannot take.
    C6,
    /// Lets the clock run backwards.
    C7,
    /// Asks to be woken at a moment that has passed.
    C8,
    /// Gives bytes that were written a second time.
    C9,
    /// Ignores the limits of the receive queue.
    C10,
    /// Draws nonces from a counter of the process.
    C11,
    /// Gives two substreams the same id.
    C12,
}

/// Counts for the whole process, which no machine may depend on.
#[cfg(feature = "testing")]
pub(crate) fn process_counter() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

/// Counts nothing.
#[cfg(not(feature = "testing"))]
pub(crate) const fn process_counter() -> u64 {
    0
}

impl Config {
    /// Returns whether a rule is to be broken.
    #[cfg(feature = "testing")]
    pub(crate) fn breaks(&self, fault: Fault) -> bool {
        let bug = match self.bug {
            Some(Bug::DropWhenFull) => Some(Fault::C6),
            Some(Bug::SentTwice) => Some(Fault::C9),
            Some(Bug::ClosedTwice) => Some(Fault::C2),
            Some(Bug::WokenForNothing) => Some(Fault::C8),
            _ => None,
        };
        self.fault.or(bug) == Some(fault)
    }

    /// Returns whether a rule is to be broken: never.
    #[cfg(not(feature = "testing"))]
    #[expect(clippy::unused_self, reason = "the other build asks the configuration")]
    pub(crate) const fn breaks(&self, _: Fault) -> bool {
        false
    }
}
