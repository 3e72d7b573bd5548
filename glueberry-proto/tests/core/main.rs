//! The core from outside: sessions and nodes over an in-memory transport, and against bytes.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

mod buffers;
mod dials;
mod greetings;
mod hostile;
mod lent;
mod life;
mod living;
mod repeats;
mod rules;
mod send_queue;
mod sessions;
mod states;
mod substreams;
mod support;
