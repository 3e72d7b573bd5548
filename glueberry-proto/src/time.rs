//! The crate's own clock value: microseconds since an epoch that the driver picks.

use core::fmt;
use core::time::Duration;

/// A point in monotonic time, in whole microseconds since an epoch that the driver picks.
///
/// It only moves forward: a machine that is handed an instant before the latest one uses the latest
/// (rule C7). It has no relation to the calendar.
///
/// ```
/// use glueberry_proto::Instant;
/// use std::time::Duration;
///
/// let start = Instant::from_micros(5);
/// let later = start + Duration::from_millis(2);
/// assert_eq!(later.duration_since(start), Duration::from_micros(2_000));
/// assert_eq!(start.duration_since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The driver's epoch.
    pub const ZERO: Self = Self(0);

    /// Creates an instant from microseconds since the driver's epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the driver's epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns the time that has passed since `earlier`, or zero if `earlier` is later.
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Adds a duration, rounded up to whole microseconds; saturates at the end of time.
impl core::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        // Up and not down: a deadline of less than a microsecond must still lie ahead (rule C8).
        let micros = duration.as_nanos().div_ceil(1_000);
        Self(self.0.saturating_add(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl Instant {
    /// Returns the time that was this long ago; the epoch, if that lies before it.
    pub(crate) fn earlier_by(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

/// Returns the earlier of two deadlines, where `None` means never.
///
/// `Option::min` would return `None`, which sorts first, and so hide a deadline.
pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_does_not_hide_a_deadline() {
        let at = Some(Instant::from_micros(7));
        assert_eq!(earliest(None, at), at);
        assert_eq!(earliest(at, None), at);
        assert_eq!(earliest(at, Some(Instant::ZERO)), Some(Instant::ZERO));
        assert_eq!(earliest(None, None), None);
    }

    #[test]
    fn adding_rounds_up_and_saturates() {
        assert_eq!(Instant::ZERO + Duration::from_nanos(1), Instant::from_micros(1));
        assert_eq!(Instant::ZERO + Duration::MAX, Instant::from_micros(u64::MAX));
    }
}
