//! Sealing and opening in v1 and v1-go: one message, one record.

use core::fmt;
use core::ops::Range;

use bytes::BytesMut;

use super::nonces::RecentNonces;
use crate::crypto::{Aead, AeadKey, SharedKey};
use crate::error::RecordError;
use crate::prelude::*;
use crate::seed::Generator;

/// The records of v1 and v1-go: nonce ‖ ciphertext ‖ tag, one key for the pair, no associated
/// data.
pub(super) struct V1Records {
    key: Box<dyn AeadKey>,
    sealed: RecentNonces,
    opened: RecentNonces,
}

impl V1Records {
    pub(super) fn new(aead: &dyn Aead, key: &SharedKey) -> Self {
        Self {
            key: aead.key(key),
            sealed: RecentNonces::default(),
            opened: RecentNonces::default(),
        }
    }

    /// Returns the length of the record that carries a message of `len` bytes.
    pub(super) const fn record_len(len: usize) -> usize {
        len.saturating_add(V1_OVERHEAD)
    }

    /// Appends the record that carries `message`.
    pub(super) fn seal(&mut self, nonces: &mut Generator, message: &[u8], out: &mut BytesMut) {
        let nonce = nonces.nonce();
        out.extend_from_slice(&nonce);
        let start = out.len();
        // In pieces, because some processors copy a large block that lies a few bytes off its
        // destination within a page twenty times slower than a small one.
        for piece in message.chunks(COPY_PIECE) {
            out.extend_from_slice(piece);
        }
        let tag = self.key.seal(&nonce, &[], &mut out[start..]);
        out.extend_from_slice(&tag);
        self.sealed.insert(nonce);
    }

    /// Opens a record where it lies and returns where in it the message is.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<Range<usize>, RecordError> {
        let got = record.len();
        let Some((nonce, rest)) = record.split_first_chunk_mut::<NONCE>() else {
            return Err(RecordError::TooShort { got });
        };
        let Some((ciphertext, tag)) = rest.split_last_chunk_mut::<TAG>() else {
            return Err(RecordError::TooShort { got });
        };
        if self.sealed.contains(nonce) {
            return Err(RecordError::Reflected);
        }
        if self.opened.contains(nonce) {
            return Err(RecordError::Replayed);
        }
        self.key.open(nonce, &[], ciphertext, tag).map_err(|_| RecordError::Authentication)?;
        self.opened.insert(*nonce);
        Ok(NONCE..got - TAG)
    }
}

impl fmt::Debug for V1Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("V1Records(..)")
    }
}

/// Bytes copied at a time.
const COPY_PIECE: usize = 1024;
const NONCE: usize = 12;
const TAG: usize = 16;
/// What a v1 record adds to its message.
const V1_OVERHEAD: usize = NONCE + TAG;
