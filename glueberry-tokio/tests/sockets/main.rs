//! Nodes over real UDP sockets on the loopback, on every runtime that is compiled in.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

mod errors;
mod hostile;
mod messages;
mod sessions;
mod support;
