//! The core from outside: sessions and nodes over an in-memory transport, and against bytes.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

mod dials;
mod greetings;
mod hostile;
mod life;
mod living;
mod repeats;
mod rules;
mod sessions;
mod sizes;
mod states;
mod substreams;
mod support;
