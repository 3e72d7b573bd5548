//! Programs that use the async node, run in virtual time.
#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

mod accounts;
mod calls;
mod cluster;
mod commit;
mod disk;
mod failures;
