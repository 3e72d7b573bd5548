//! The core from outside: sessions and nodes over an in-memory transport, and against bytes.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

mod batches;
mod buffers;
mod competition;
mod debug;
mod dial_queue;
mod dials;
mod greetings;
mod handover;
mod hostile;
mod leftovers;
mod lent;
mod life;
mod living;
mod node_timers;
mod refused;
mod repeats;
mod rules;
mod send_queue;
mod session_timers;
mod sessions;
mod sizes;
mod states;
mod substreams;
mod succession;
mod support;
mod v2;
