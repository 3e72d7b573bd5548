//! Calendar time between the system and the core.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use glueberry_proto::WallTime;

/// Returns the core's form of a time; the nearest one if it is before year 0 or after year 9999.
pub fn wall_time(time: SystemTime) -> WallTime {
    let epoch = WallTime::UNIX_EPOCH;
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => epoch + since,
        Err(error) => before_epoch(error.duration()).unwrap_or(WallTime::MIN),
    }
}

/// Returns the system's form of a time, or `None` if it has none.
pub fn system_time(time: WallTime) -> Option<SystemTime> {
    let seconds = time.unix_seconds();
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start =
        if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    start?.checked_add(Duration::from_nanos(time.subsec_nanos().into()))
}

fn before_epoch(before: Duration) -> Option<WallTime> {
    let seconds = i64::try_from(before.as_secs()).ok()?;
    match before.subsec_nanos() {
        0 => WallTime::from_unix(-seconds, 0),
        nanos => WallTime::from_unix(-seconds - 1, 1_000_000_000 - nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for text in [
            "0000-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999999Z",
            "1970-01-01T00:00:00Z",
            "2026-11-22T19:18:08.0461Z",
            "9999-12-31T23:59:59.9999999Z",
        ] {
            let time = text.parse::<WallTime>().unwrap();
            assert_eq!(wall_time(system_time(time).unwrap()), time);
        }
    }

    #[test]
    fn saturates() {
        let century = Duration::from_secs(100 * 365 * 86_400);
        let earliest = system_time(WallTime::MIN).unwrap();
        assert_eq!(wall_time(earliest - century), WallTime::MIN);
        let latest = system_time(WallTime::MAX).unwrap();
        assert_eq!(wall_time(latest + century), WallTime::MAX);
    }
}
