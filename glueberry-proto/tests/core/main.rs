//! The core from outside: two nodes over an in-memory transport.

mod sessions;
mod support;
