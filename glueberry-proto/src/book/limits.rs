//! The limits of a book, and the errors of the commands that would exceed them.

use thiserror::Error;

/// The limits of a [`Book`](super::Book).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Peers, without those of which nothing is known but a ban. 10,000. Banned peers of a file are
    /// accepted beyond it nevertheless: reading a file loses no ban.
    pub max_entries: usize,
    /// Peers of which nothing is known but a ban. 10,000. One more, and the ban is lifted of the one
    /// that was not seen for the longest time. Those of a file are accepted beyond it.
    pub max_bans: usize,
    /// Addresses per peer. 16.
    pub max_addresses: usize,
    /// Bytes of all keys and values of a peer's metadata. 4096.
    pub max_metadata: usize,
    /// Bytes of a file that is read or written. 64 MiB: a thousand bytes for each of three times the
    /// default number of peers and bans.
    pub max_file: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_entries: 10_000,
            max_bans: 10_000,
            max_addresses: 16,
            max_metadata: 4096,
            max_file: 64 << 20,
        }
    }
}

/// Why a book was not changed. It is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The peer is not in the book.
    #[error("peer is not in the book")]
    UnknownPeer,
    /// The peer is not in the book, and the book is full.
    #[error("book holds {limit} peers already")]
    TooManyEntries {
        /// How many it may hold.
        limit: usize,
    },
    /// There are too many addresses.
    #[error("{got} addresses where {limit} are allowed")]
    TooManyAddresses {
        /// How many there are.
        got: usize,
        /// How many there may be.
        limit: usize,
    },
    /// An address is longer than any that can be dialled.
    #[error("address of {len} bytes is too long")]
    AddressTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The metadata are too large.
    #[error("metadata of {got} bytes where {limit} are allowed")]
    MetadataTooLarge {
        /// Bytes of all keys and values, saturated.
        got: usize,
        /// How many there may be.
        limit: usize,
    },
}
