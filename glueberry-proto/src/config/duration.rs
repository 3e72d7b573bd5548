//! Times in configuration files, as people write them: `30s`, `1m 30s`, `250ms`.
//!
//! For `#[serde(with = "…")]` on a field of type [`Duration`].

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes a duration in words.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration in words.
///
/// # Errors
///
/// Those of the deserializer, and one that says what is wrong with the words.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        D::Error::custom(format_args!("`{text}` is no time such as `30s` or `250ms`: {error}"))
    })
}
