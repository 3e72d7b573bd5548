//! The one place where the core's time meets the runtime's.

use std::time::{Duration, Instant as StdInstant};

use glueberry_proto::Instant;

/// Translates between the runtime's monotonic clock and the core's microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: StdInstant,
}

impl Clock {
    pub(crate) const fn starting_at(epoch: StdInstant) -> Self {
        Self { epoch }
    }

    pub(crate) fn at(&self, time: StdInstant) -> Instant {
        let micros = time.saturating_duration_since(self.epoch).as_micros();
        Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Returns the first moment at which the core's instant has come, or `None` if it never does.
    pub(crate) fn until(&self, instant: Instant) -> Option<StdInstant> {
        self.epoch.checked_add(Duration::from_micros(instant.as_micros()))
    }
}
