//! A symmetric key.

use core::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::wipe::on_wiped_stack;
use crate::prelude::*;

/// A 32-byte symmetric key.
///
/// Wiped on drop. It can't be copied or cloned, prints nothing of itself, and compares in constant
/// time.
///
/// ```
/// use glueberry_proto::Identity;
///
/// let [alice, bob] = [1, 2].map(|seed| Identity::from_seed(&[seed; 32]));
/// assert_eq!(alice.agree_v1(&bob.public_key())?, bob.agree_v1(&alice.public_key())?);
/// # Ok::<(), glueberry_proto::crypto::AgreementError>(())
/// ```
// Boxed so that moving a key leaves no copy behind.
pub struct SharedKey(Box<Zeroizing<[u8; 32]>>);

impl SharedKey {
    /// Creates a key from its bytes.
    ///
    /// # Errors
    /// [`KeyLengthError`] if there are not 32. The caller wipes `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyLengthError> {
        if bytes.len() != 32 {
            return Err(KeyLengthError { got: bytes.len() });
        }
        let mut key = Self::zeroed();
        key.0.copy_from_slice(bytes);
        Ok(key)
    }

    /// Returns the bytes of the key. The caller wipes any copy.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Creates a key whose bytes are written where they stay. What the computation leaves on the
    /// stack is overwritten.
    pub(crate) fn filled(fill: impl FnOnce(&mut [u8; 32])) -> Self {
        let mut key = Self::zeroed();
        on_wiped_stack(|| fill(&mut key.0));
        key
    }

    fn zeroed() -> Self {
        Self(Box::new(Zeroizing::new([0; 32])))
    }

    /// Derives the key of a stream from the result of an X25519 agreement.
    pub(crate) fn derive(agreed: &[u8; 32], salt: Option<&[u8]>) -> Self {
        Self::filled(|key| {
            Hkdf::<Sha256>::new(salt, agreed)
                .expand(V1_KEY_INFO, key)
                .expect("32 bytes are fewer than 255 hashes");
        })
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKey").finish_non_exhaustive()
    }
}

impl ConstantTimeEq for SharedKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(other.0.as_slice())
    }
}

impl PartialEq for SharedKey {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for SharedKey {}

/// A symmetric key that does not have 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key has {got} bytes instead of 32")]
#[non_exhaustive]
pub struct KeyLengthError {
    /// The number of bytes that it has.
    pub got: usize,
}

/// The `info` of HKDF in version 1.
pub const V1_KEY_INFO: &[u8] = b"glueberry-v1-stream-key";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_key_is_printed() {
        let key = SharedKey::from_bytes(&[0xab; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "SharedKey { .. }");
    }

    #[test]
    fn key_length() {
        for got in [0, 31, 33, 64] {
            assert_eq!(SharedKey::from_bytes(&vec![1; got]), Err(KeyLengthError { got }));
        }
    }
}
