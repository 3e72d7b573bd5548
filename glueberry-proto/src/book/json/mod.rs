//! The book's file: the JSON that Go nodes write.

use std::fmt;

use multiaddr::Multiaddr;
use thiserror::Error;

use super::{Book, Limits};
use crate::crypto::{PublicKey, PublicKeyError};

mod entry;
mod file;
mod write;

impl Book {
    /// Reads a file, of the form that [the module](super) shows. The book is then as it was stored, nothing in it is
    /// unsaved, and what is of no use comes with the reason.
    ///
    /// `is_address` says which addresses the transport can dial, such as [`is_multiaddr`]; others
    /// are kept in the file only. A file of no bytes is an empty book.
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

/// Returns whether a text is a multiaddr, of protocols that this version knows.
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
    /// It holds bytes that are no text.
    #[error("byte {offset} is no utf-8")]
    NotUtf8 {
        /// How many bytes of the file are text.
        offset: usize,
    },
    /// It is no JSON, or not of a book's form.
    #[error("{message} at line {line} column {column}")]
    Json {
        /// What is wrong.
        message: String,
        /// In which line, from 1.
        line: usize,
        /// At which byte of the line, from 1.
        column: usize,
    },
    /// There is hardly an entry that can be understood.
    #[error("more than {limit} entries are of no use")]
    TooManyRejected {
        /// How many there may be.
        limit: usize,
    },
}

/// A part of the file that is of no use, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// The name of the entry: a peer id, or what stands in its place.
    pub key: String,
    /// What is wrong with it.
    pub reason: Reason,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {:?}: {}", self.key, self.reason)
    }
}

/// Why a part of the file is of no use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// The entry's name is no peer id.
    #[error("name is no peer id")]
    NotAPeerId,
    /// The entry's name is the id of a peer that this library cannot speak to.
    #[error(transparent)]
    Peer(#[from] PublicKeyError),
    /// The entry is no JSON object, but `null` perhaps.
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
    /// A later entry for the same peer counts instead. This one is not kept.
    #[error("a later entry for the same peer counts instead")]
    Repeated,
    /// An address cannot be dialled: it is too long, no text, or not what the transport takes. The
    /// rest of the entry is used. Told of as many addresses of a peer as it may have.
    #[error("address {address} cannot be dialled")]
    Address {
        /// The address as it stands in the file, its first 1024 characters at most.
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

    /// Returns the peer that the entry is about, if its name tells.
    pub fn peer(&self) -> Option<PublicKey> {
        file::peer(&self.key).ok()
    }
}

/// Entries of one file that are kept though they are of no use. They cost memory, and a file of
/// 64 MiB could hold ten million of them.
const MAX_REJECTED: usize = 100_000;
