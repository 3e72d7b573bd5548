//! Durations in configuration files, in the form `90d`, `30s`, `1m 30s` or `250ms`.
//!
//! For `#[serde(with = "…")]` on a field of type [`Duration`].

use core::fmt;
use core::time::Duration;

use crate::prelude::*;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Serializes a duration.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Written(*duration))
}

/// Deserializes a duration.
///
/// # Errors
///
/// Those of the deserializer, and one that explains why the text is no duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        D::Error::custom(format_args!("`{text}` is no time such as `30s` or `250ms`: {error}"))
    })
}

/// A duration as a person writes it. Months and years are left out: they have no whole number of days.
struct Written(Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), u64::from(self.0.subsec_nanos()));
        let parts = [
            (seconds / 86_400, "d"),
            (seconds / 3600 % 24, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
            (nanos / 1_000_000, "ms"),
            (nanos / 1000 % 1000, "us"),
            (nanos % 1000, "ns"),
        ];
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        parts.enumerate().try_for_each(|(at, (count, unit))| {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{count}{unit}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, Deserialize)]
    struct Time(#[serde(with = "super")] Duration);

    fn written(time: Duration) -> String {
        let text = serde_json::to_string(&Time(time)).unwrap();
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), Time(time), "{text}");
        text.trim_matches('"').to_owned()
    }

    #[test]
    fn times_are_written_as_a_person_writes_them() {
        let day = 86_400;
        for (time, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(90 * day), "90d"),
            (Duration::from_secs(365 * day), "365d"),
            (Duration::from_secs(36 * 3600), "1d 12h"),
            (Duration::from_secs(90), "1m 30s"),
            (Duration::from_millis(250), "250ms"),
            (Duration::new(1, 2_003_004), "1s 2ms 3us 4ns"),
        ] {
            assert_eq!(written(time), text);
        }
        written(Duration::MAX);
    }
}
