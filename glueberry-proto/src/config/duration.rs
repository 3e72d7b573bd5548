//! Durations in configuration files, in the form `30s`, `1m 30s` or `250ms`.
//!
//! For `#[serde(with = "…")]` on a field of type [`Duration`].

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
    serializer.collect_str(&humantime::format_duration(*duration))
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
