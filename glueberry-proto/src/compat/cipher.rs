//! Records of version 1, for applications that seal and open them without a session.

use core::fmt;

use crate::crypto::{AeadKey, KeyLengthError, NONCE_LEN, SharedKey, TAG_LEN, default_aead};
use crate::error::RecordError;
use crate::prelude::*;

/// Seals and opens records: nonce (12) ‖ ciphertext ‖ tag (16).
///
/// The key is wiped on drop.
///
/// ```
/// use glueberry_proto::compat::Cipher;
///
/// let cipher = Cipher::new(&[1; 32])?;
/// // Never use a nonce twice with one key.
/// let record = cipher.encrypt(b"secret", b"bound to it", &[2; 12]);
/// assert_eq!(cipher.decrypt(&record, b"bound to it").unwrap(), b"secret");
/// assert!(cipher.decrypt(&record, b"something else").is_err());
/// # Ok::<(), glueberry_proto::crypto::KeyLengthError>(())
/// ```
pub struct Cipher(Box<dyn AeadKey>);

impl Cipher {
    /// Prepares a key of 32 bytes. The caller wipes `key`.
    ///
    /// # Errors
    /// [`KeyLengthError`] if it has another length.
    pub fn new(key: &[u8]) -> Result<Self, KeyLengthError> {
        Ok(Self::from_key(&SharedKey::from_bytes(key)?))
    }

    /// Prepares an agreed key.
    #[must_use]
    pub fn from_key(key: &SharedKey) -> Self {
        Self(default_aead().key(key))
    }

    /// Seals `plaintext`. `aad` is authenticated with it but not contained in the record.
    ///
    /// A nonce must not be used twice with one key, neither here nor by the peer: draw it at random.
    #[must_use]
    pub fn encrypt(&self, plaintext: &[u8], aad: &[u8], nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
        let mut record = Vec::with_capacity(MIN_RECORD_LEN + plaintext.len());
        record.extend_from_slice(nonce);
        record.extend_from_slice(plaintext);
        let tag = self.0.seal(nonce, aad, &mut record[NONCE_LEN..]);
        record.extend_from_slice(&tag);
        record
    }

    /// Opens a record.
    ///
    /// # Errors
    /// [`RecordError::TooShort`], or [`RecordError::Authentication`] if anything was altered.
    pub fn decrypt(&self, record: &[u8], aad: &[u8]) -> Result<Vec<u8>, RecordError> {
        let too_short = RecordError::TooShort { got: record.len() };
        let (nonce, sealed) = record.split_first_chunk::<NONCE_LEN>().ok_or(too_short)?;
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(too_short)?;
        let mut plaintext = ciphertext.to_vec();
        match self.0.open(nonce, aad, &mut plaintext, tag) {
            Ok(()) => Ok(plaintext),
            Err(_) => Err(RecordError::Authentication),
        }
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher").finish_non_exhaustive()
    }
}

/// Length of an empty message's record: the bytes that a record adds to a message.
pub const MIN_RECORD_LEN: usize = NONCE_LEN + TAG_LEN;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cipher() -> Cipher {
        Cipher::new(&[7; 32]).unwrap()
    }

    #[test]
    fn key_length() {
        for got in [0, 31, 33] {
            assert_eq!(Cipher::new(&vec![1; got]).err(), Some(KeyLengthError { got }));
        }
    }

    #[test]
    fn short_records() {
        let record = cipher().encrypt(b"", b"", &[1; 12]);
        assert_eq!(record.len(), MIN_RECORD_LEN);
        for got in 0..MIN_RECORD_LEN {
            assert_eq!(cipher().decrypt(&record[..got], b""), Err(RecordError::TooShort { got }));
        }
    }

    proptest! {
        #[test]
        fn round_trip(plaintext: Vec<u8>, aad: Vec<u8>, nonce: [u8; 12]) {
            let record = cipher().encrypt(&plaintext, &aad, &nonce);
            prop_assert_eq!(record.len(), plaintext.len() + MIN_RECORD_LEN);
            prop_assert_eq!(cipher().decrypt(&record, &aad), Ok(plaintext));
        }

        #[test]
        fn arbitrary_bytes_are_refused(record: Vec<u8>) {
            prop_assert!(cipher().decrypt(&record, b"").is_err());
        }
    }
}
