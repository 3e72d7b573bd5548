//! What is wrong with a configuration.

use thiserror::Error;

/// An invalid configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("configuration field `{field}` {problem}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The name of the invalid field.
    pub field: &'static str,
    /// Why it is invalid.
    pub problem: Problem,
}

impl ConfigError {
    /// Creates an error about a field of an adapter's own configuration.
    pub const fn new(field: &'static str, problem: Problem) -> Self {
        Self { field, problem }
    }
}

/// Why a field of a configuration is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// Zero, where at least one is needed.
    #[error("must not be zero")]
    Zero,
    /// Empty, where at least one entry is needed.
    #[error("must not be empty")]
    Empty,
    /// Must be below the named field.
    #[error("must be below `{0}`")]
    NotBelow(&'static str),
    /// Must not exceed the named field.
    #[error("must not exceed `{0}`")]
    Above(&'static str),
    /// No entry reaches the named field.
    #[error("has no entry that reaches `{0}`")]
    NoneReaches(&'static str),
    /// Larger than a frame can carry.
    #[error("is more than the wire can carry (64 MiB with room for a record's overhead)")]
    AboveWire,
    /// Cannot be used, for the reason given.
    #[error("cannot be used: {0}")]
    Unusable(&'static str),
}
