//! Nodes over real UDP sockets on the loopback, on every runtime that is compiled in.

mod errors;
mod hostile;
mod messages;
mod sessions;
mod support;
