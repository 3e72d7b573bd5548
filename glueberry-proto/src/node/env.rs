//! What every part of a node may read.

use alloc::sync::Arc;
use core::time::Duration;

use crate::config::Config;
use crate::crypto::PublicKey;
use crate::time::Instant;

/// What every part may read and only the node changes.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) config: Arc<Config>,
    /// The node's own key.
    pub(super) own_key: PublicKey,
    /// The latest time that an input has brought.
    pub(super) now: Instant,
    pub(super) is_stopping: bool,
}

impl Env {
    /// Returns when a wait is over. The wait may be zero, but a deadline is always later than now
    /// (rule C8).
    pub(super) fn after(&self, wait: Duration) -> Instant {
        self.now + wait.max(Duration::from_micros(1))
    }
}
