//! When the adapter took what it was asked for.

use crate::owed::Owed;
use crate::time::Instant;

/// What there is besides what is known of each substream.
#[derive(Debug)]
pub(super) struct Debts {
    /// When there was last no action left to take.
    pub(super) taken_at: Instant,
    /// The oldest when something last was overdue: what is overdue may be forgotten before the
    /// session ends for it.
    pub(super) blamed: Option<Owed>,
}

/// When the adapter took an action about a substream that it has not come back to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) open: Option<Instant>,
    pub(super) write: Option<Instant>,
    pub(super) read: Option<Instant>,
    pub(super) finish: Option<Instant>,
}

impl Debts {
    pub(super) const fn new(now: Instant) -> Self {
        Self { taken_at: now, blamed: None }
    }
}
