//! Programs that use the async node, run in virtual time.

mod cluster;
mod commit;
mod disk;
mod failures;
