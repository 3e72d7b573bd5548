//! Calendar time: used only for stored data, never to measure a duration.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use crate::prelude::*;
use thiserror::Error;

/// A point in calendar time (UTC), to the nanosecond, from year 0 to year 9999.
///
/// The core has no clock; the driver passes the time. Unlike [`Instant`](crate::Instant) it may jump,
/// so it is used only for data that outlives the process: when a peer was last seen, when a ban ends.
/// Its text form is RFC 3339 as Go writes it.
///
/// ```
/// use glueberry_proto::WallTime;
///
/// let time: WallTime = "2026-11-22T21:18:08.046100+02:00".parse()?;
/// assert_eq!(time.to_string(), "2026-11-22T19:18:08.0461Z");
/// assert_eq!(WallTime::NEVER.to_string(), "0001-01-01T00:00:00Z");
/// # Ok::<(), glueberry_proto::WallTimeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime {
    /// Seconds since the Unix epoch, rounded down.
    seconds: i64,
    /// Nanoseconds after [`seconds`](Self::seconds); below 1,000,000,000.
    nanos: u32,
}

impl WallTime {
    /// The start of year 1: Go's zero time, which it writes for what has never happened.
    pub const NEVER: Self = Self { seconds: -62_135_596_800, nanos: 0 };
    /// The start of year 0.
    pub const MIN: Self = Self { seconds: MIN_SECONDS, nanos: 0 };
    /// The start of year 1970.
    pub const UNIX_EPOCH: Self = Self { seconds: 0, nanos: 0 };
    /// The last nanosecond of year 9999.
    pub const MAX: Self = Self { seconds: MAX_SECONDS, nanos: NANOS - 1 };

    /// Creates a time from the seconds since the Unix epoch, rounded down, and the nanoseconds after
    /// that. `None` if there are 1,000,000,000 nanoseconds or more, or if the year is below 0 or
    /// above 9999.
    pub const fn from_unix(seconds: i64, nanos: u32) -> Option<Self> {
        if seconds < MIN_SECONDS || seconds > MAX_SECONDS || nanos >= NANOS {
            return None;
        }
        Some(Self { seconds, nanos })
    }

    /// Returns the seconds since the Unix epoch, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// Returns the nanoseconds after [`unix_seconds`](Self::unix_seconds).
    pub const fn subsec_nanos(self) -> u32 {
        self.nanos
    }

    /// Returns the milliseconds since 1970-01-01 UTC, or 0 for earlier times.
    pub(crate) fn unix_millis(self) -> u64 {
        let seconds = u64::try_from(self.unix_seconds()).unwrap_or(0);
        seconds.saturating_mul(1000).saturating_add(u64::from(self.subsec_nanos() / 1_000_000))
    }

    /// Returns the time that has passed since `earlier`, or zero if `earlier` is later.
    pub fn duration_since(self, earlier: Self) -> Duration {
        if self <= earlier {
            return Duration::ZERO;
        }
        let seconds = self.seconds.abs_diff(earlier.seconds);
        let whole = Duration::from_secs(seconds) + Duration::from_nanos(self.nanos.into());
        whole.saturating_sub(Duration::from_nanos(earlier.nanos.into()))
    }
}

/// Adds a duration; saturates at the end of year 9999.
impl core::ops::Add<Duration> for WallTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let duration = Duration::from_nanos(self.nanos.into()).saturating_add(duration);
        i64::try_from(duration.as_secs())
            .ok()
            .and_then(|seconds| self.seconds.checked_add(seconds))
            .and_then(|seconds| Self::from_unix(seconds, duration.subsec_nanos()))
            .unwrap_or(Self::MAX)
    }
}

/// Writes RFC 3339 in UTC, with as many digits of the second's fraction as it has.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.seconds.div_euclid(DAY));
        let second = self.seconds.rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanos != 0 {
            let fraction = format!("{:09}", self.nanos);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Parses RFC 3339 with any offset, as strictly as Go does. Digits beyond the nanosecond are
/// dropped.
impl FromStr for WallTime {
    type Err = WallTimeError;

    fn from_str(text: &str) -> Result<Self, WallTimeError> {
        let mut rest = Reader(text.as_bytes());
        let year = rest.number(4, 0, 9999)?;
        rest.expect(b'-')?;
        let month = rest.number(2, 1, 12)?;
        rest.expect(b'-')?;
        let day = rest.number(2, 1, days_in_month(year, month))?;
        rest.expect(b'T')?;
        let hour = rest.number(2, 0, 23)?;
        rest.expect(b':')?;
        let minute = rest.number(2, 0, 59)?;
        rest.expect(b':')?;
        let second = rest.number(2, 0, 59)?;
        let nanos = rest.fraction()?;
        let offset = rest.offset()?;
        rest.end()?;
        let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        Self::from_unix(seconds - offset, nanos).ok_or(WallTimeError::OutOfRange)
    }
}

/// Why a text is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WallTimeError {
    /// It does not have the form of RFC 3339.
    #[error("not a time of the form of rfc 3339")]
    Syntax,
    /// A number is out of range, such as month 13, or the year in UTC is below 0 or above 9999.
    #[error("time is out of range")]
    OutOfRange,
}

/// The unread rest of a text.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn expect(&mut self, byte: u8) -> Result<(), WallTimeError> {
        if self.next() == Some(byte) { Ok(()) } else { Err(WallTimeError::Syntax) }
    }

    fn digit(&mut self) -> Option<u8> {
        let digit = self.0.first().filter(|byte| byte.is_ascii_digit())? - b'0';
        self.next();
        Some(digit)
    }

    fn number(&mut self, digits: u32, min: i64, max: i64) -> Result<i64, WallTimeError> {
        let mut number = 0;
        for _ in 0..digits {
            number = number * 10 + i64::from(self.digit().ok_or(WallTimeError::Syntax)?);
        }
        if number < min || number > max {
            return Err(WallTimeError::OutOfRange);
        }
        Ok(number)
    }

    /// Parses the digits after a point, if there is one, as nanoseconds.
    fn fraction(&mut self) -> Result<u32, WallTimeError> {
        if self.0.first() != Some(&b'.') {
            return Ok(0);
        }
        self.next();
        let (mut nanos, mut unit) = (0, NANOS / 10);
        nanos += u32::from(self.digit().ok_or(WallTimeError::Syntax)?) * unit;
        while let Some(digit) = self.digit() {
            unit /= 10;
            nanos += u32::from(digit) * unit;
        }
        Ok(nanos)
    }

    /// Parses the offset: the seconds that local time is ahead of UTC.
    fn offset(&mut self) -> Result<i64, WallTimeError> {
        let sign = match self.next() {
            Some(b'Z') => return Ok(0),
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(WallTimeError::Syntax),
        };
        let hours = self.number(2, 0, 23)?;
        self.expect(b':')?;
        let minutes = self.number(2, 0, 59)?;
        Ok(sign * (hours * 3600 + minutes * 60))
    }

    fn end(&self) -> Result<(), WallTimeError> {
        if self.0.is_empty() { Ok(()) } else { Err(WallTimeError::Syntax) }
    }
}

/// Returns year, month and day of a day that is counted from the Unix epoch.
///
/// Years are counted from March, so that the leap day is a year's last; 400 of them, an era,
/// always have the same number of days.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAY;
    let (era, day) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// Counts the days from the Unix epoch: the inverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let month = (month + 9) % 12;
    let day = (153 * month + 2) / 5 + day - 1;
    era * ERA_DAYS + year * 365 + year / 4 - year / 100 + day - EPOCH_DAY
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days(next_year, next, 1) - days(year, month, 1)
}

/// Nanoseconds of a second.
const NANOS: u32 = 1_000_000_000;
/// Seconds of a day.
const DAY: i64 = 86_400;
/// Days of 400 years.
const ERA_DAYS: i64 = 146_097;
/// Days from 1 March of year 0 to the Unix epoch.
const EPOCH_DAY: i64 = 719_468;
/// The start of year 0.
const MIN_SECONDS: i64 = -62_167_219_200;
/// The last second of year 9999.
const MAX_SECONDS: i64 = 253_402_300_799;

#[cfg(test)]
mod tests;
