//! The book's file: the JSON that Go nodes write.

use core::fmt;

use multiaddr::Multiaddr;
use thiserror::Error;

use super::{Book, Limits};
use crate::crypto::{PublicKey, PublicKeyError};
use crate::prelude::*;

mod entry;
mod file;
mod write;

impl Book {
    /// Parses a file of the form that [the module](super) shows. Returns the book, in which nothing is
    /// unsaved, and the parts of the file that can't be used.
    ///
    /// `is_address` returns true for addresses that the transport can dial, as [`is_multiaddr`] does;
    /// others are kept in the file only. An empty file is an empty book.
    ///
    /// # Errors
    ///
    /// If the file as a whole is no book: see [`BookError`].
    pub fn parse(
        bytes: &[u8],
        limits: Limits,
        is_address: impl Fn(&str) -> bool,
    ) -> Result<(Self, Vec<Rejected>), BookError> {
        file::parse(bytes, limits, &is_address)
    }

    /// Writes the file, byte for byte as a Go node writes it.
    pub fn emit(&self) -> Vec<u8> {
        write::file(self).into_bytes()
    }
}

/// True if a text is a multiaddr of protocols that this version knows.
pub fn is_multiaddr(text: &str) -> bool {
    text.parse::<Multiaddr>().is_ok()
}

/// Why a file as a whole is no book.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BookError {
    /// It is larger than [`Limits::max_file`].
    #[error("file of {len} bytes where {limit} are allowed")]
    TooLarge {
        /// Its length in bytes.
        len: u64,
        /// How many bytes it may have.
        limit: usize,
    },
    /// It is not UTF-8.
    #[error("byte {offset} is no utf-8")]
    NotUtf8 {
        /// The offset of the first invalid byte.
        offset: usize,
    },
    /// It is not JSON, or not of a book's form.
    #[error("{message} at line {line} column {column}")]
    Json {
        /// What is wrong.
        message: String,
        /// The line, from 1.
        line: usize,
        /// The byte in the line, from 1.
        column: usize,
    },
    /// Too many entries cannot be used.
    #[error("more than {limit} entries cannot be used")]
    TooManyRejected {
        /// How many there may be.
        limit: usize,
    },
}

/// A part of the file that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// The name of the entry: a peer id, or the text in its place.
    pub key: String,
    /// What is wrong with it.
    pub reason: Reason,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {:?}: {}", self.key, self.reason)
    }
}

/// Why a part of the file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// The entry's name is no peer id.
    #[error("name is no peer id")]
    NotAPeerId,
    /// The entry's name is the id of a peer whose key is not an Ed25519 key that this library accepts.
    #[error(transparent)]
    Peer(#[from] PublicKeyError),
    /// The entry is not a JSON object, `null` for instance.
    #[error("not an object")]
    NotAnObject,
    /// The entry's `peer_id` is not its name, or is missing.
    #[error("peer_id is not the entry's name")]
    WrongPeerId,
    /// A field has a value of another type, or one that is not in its form.
    #[error("field {field} cannot be read")]
    Field {
        /// Its name.
        field: &'static str,
    },
    /// A field is there twice.
    #[error("field {field} is there twice")]
    RepeatedField {
        /// Its name.
        field: &'static str,
    },
    /// The `public_key` is not that of the peer.
    #[error("public_key is not the peer's")]
    WrongPublicKey,
    /// The metadata are larger than [`Limits::max_metadata`].
    #[error("metadata of {got} bytes where {limit} are allowed")]
    MetadataTooLarge {
        /// Bytes of all keys and values.
        got: usize,
        /// How many there may be.
        limit: usize,
    },
    /// There are more entries than [`Limits::max_entries`], and the peer is not banned.
    #[error("book holds {limit} peers already")]
    TooManyEntries {
        /// How many it may hold.
        limit: usize,
    },
    /// A later entry for the same peer is used. This one is not kept.
    #[error("a later entry for the same peer is used")]
    Repeated,
    /// An address cannot be dialled: it is too long, not a string, or refused by the transport. The
    /// rest of the entry is used. Reported for at most [`Limits::max_addresses`] addresses of a peer.
    #[error("address {address} cannot be dialled")]
    Address {
        /// The address as it is in the file, its first 1024 characters at most.
        address: String,
    },
    /// The peer has more addresses than [`Limits::max_addresses`]. The first ones are used.
    #[error("only the first {limit} addresses are used")]
    TooManyAddresses {
        /// How many are used.
        limit: usize,
    },
}

impl Rejected {
    fn new(key: &str, reason: impl Into<Reason>) -> Self {
        Self { key: key.to_owned(), reason: reason.into() }
    }

    /// Returns the peer of the entry, if its name is a valid peer id.
    pub fn peer(&self) -> Option<PublicKey> {
        file::peer(&self.key).ok()
    }
}

/// Entries of one file that are kept though they cannot be used. They cost memory, and a file of
/// 64 MiB could hold ten million of them.
const MAX_REJECTED: usize = 100_000;
