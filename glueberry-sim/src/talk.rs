//! What applications say in a handshake beside what they must, and how they listen.

use serde::{Deserialize, Serialize};

/// How much a host's application says in a handshake, and how it hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Talk {
    /// Messages that it says behind the first, and again ahead of the last.
    pub(crate) more: usize,
    /// Microseconds after which it takes what it was told of.
    pub(crate) hears_after: u64,
    /// In how many of a thousand handshakes it rejects its peer, while things go wrong.
    pub(crate) rejects: u64,
    /// Bytes of handshake messages that its node holds; zero for as many as those of others.
    pub(crate) room: usize,
}
