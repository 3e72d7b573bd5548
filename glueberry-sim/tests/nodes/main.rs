//! Programs that use the async node, run in virtual time.

mod accounts;
mod calls;
mod cluster;
mod commit;
mod disk;
mod failures;
