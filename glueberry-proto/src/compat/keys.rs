//! Raw keys: conversions from Ed25519 and X25519 agreement, as lenient as Go's.

use curve25519_dalek::edwards::CompressedEdwardsY;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use crate::crypto::{Identity, SharedKey, diffie_hellman, on_wiped_stack};

/// Converts an Ed25519 public key to X25519, as Go's `Ed25519PublicToX25519` does.
///
/// Accepts encodings that are not canonical and points of small or mixed order. For a peer's
/// identity use [`PublicKey::to_x25519`](crate::PublicKey::to_x25519).
///
/// # Errors
/// [`KeyError::Length`] and [`KeyError::NotOnCurve`].
pub fn ed25519_public_to_x25519(public: &[u8]) -> Result<[u8; 32], KeyError> {
    let encoded = CompressedEdwardsY(*checked(public)?);
    let point = encoded.decompress().ok_or(KeyError::NotOnCurve)?;
    Ok(point.to_montgomery().to_bytes())
}

/// Converts an Ed25519 private key (seed, then public key) to X25519, as Go's
/// `Ed25519PrivateToX25519` does.
///
/// Only the seed is used. Whether the second half belongs to it is not checked; see
/// [`Identity::from_keypair_bytes`], which does.
///
/// # Errors
/// [`KeyError::Length`] if there are not 64 bytes.
pub fn ed25519_private_to_x25519(private: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    match private.split_first_chunk::<32>() {
        Some((seed, public)) if public.len() == 32 => {
            Ok(Identity::from_seed(seed).x25519_private())
        }
        _ => Err(KeyError::Length { expected: 64, got: private.len() }),
    }
}

/// Derives the key shared with the holder of an Ed25519 public key, as Go's crypto module does.
///
/// Accepts every key that [`ed25519_public_to_x25519`] accepts, `local`'s own included. Sessions use
/// [`Identity::agree_v1`], which does not.
///
/// # Errors
/// [`KeyError::Length`] and [`KeyError::NotOnCurve`] if the key can't be converted,
/// [`KeyError::LowOrder`] if it has a low order.
pub fn derive_shared_key(local: &Identity, remote: &[u8]) -> Result<SharedKey, KeyError> {
    let remote = ed25519_public_to_x25519(remote)?;
    on_wiped_stack(|| agree_x25519(&*local.x25519_private(), &remote, None))
}

/// Derives the key that two raw X25519 keys agree on, as Go's `DeriveSharedKey` does.
///
/// Version 1 uses no salt; `None` and an empty one are the same.
///
/// # Errors
/// [`KeyError::Length`] and [`KeyError::LowOrder`]. One's own key is accepted.
pub fn agree_x25519(
    private: &[u8],
    public: &[u8],
    salt: Option<&[u8]>,
) -> Result<SharedKey, KeyError> {
    let (private, public) = (checked(private)?, checked(public)?);
    on_wiped_stack(|| Ok(SharedKey::derive(&*x25519(private, public)?, salt)))
}

/// Multiplies an X25519 public key with a private one.
///
/// The result is no key: derive one from it, as [`agree_x25519`] does.
///
/// # Errors
/// [`KeyError::LowOrder`] if the result is zero, whatever the private key.
pub fn x25519(private: &[u8; 32], public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut result = Zeroizing::new([0; 32]);
    on_wiped_stack(|| diffie_hellman(private, public).map(|agreed| *result = *agreed))
        .ok_or(KeyError::LowOrder)?;
    Ok(result)
}

/// Returns the X25519 public key that belongs to a private one.
#[must_use]
pub fn x25519_public(private: &[u8; 32]) -> [u8; 32] {
    on_wiped_stack(|| x25519_dalek::PublicKey::from(&StaticSecret::from(*private)).to_bytes())
}

/// Why a raw key can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key does not have the length of its kind.
    #[error("key has {got} bytes instead of {expected}")]
    Length {
        /// How many bytes such a key has.
        expected: usize,
        /// How many this one has.
        got: usize,
    },
    /// The bytes encode no point of the curve.
    #[error("ed25519 public key is not on the curve")]
    NotOnCurve,
    /// The public key has a low order, so the result does not depend on the private key.
    #[error("public key has a low order")]
    LowOrder,
}

fn checked(key: &[u8]) -> Result<&[u8; 32], KeyError> {
    key.try_into().map_err(|_| KeyError::Length { expected: 32, got: key.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::PublicKey;

    #[test]
    fn agrees_with_the_strict_path() {
        let (a, b) = (Identity::from_seed(&[4; 32]), Identity::from_seed(&[5; 32]));
        let public = b.public_key();
        assert_eq!(ed25519_public_to_x25519(public.as_bytes()), Ok(public.to_x25519()));
        assert_eq!(derive_shared_key(&a, public.as_bytes()).unwrap(), a.agree_v1(&public).unwrap());
    }

    #[test]
    fn the_public_half_is_not_checked() {
        let mut private = [7; 64];
        private[32..].fill(0);
        let converted = ed25519_private_to_x25519(&private).unwrap();
        assert_eq!(converted, Identity::from_seed(&[7; 32]).x25519_private());
        assert!(Identity::from_keypair_bytes(&private).is_err());
    }

    #[test]
    fn salt_makes_another_key() {
        let (a, b) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let key = a.agree_v1(&b.public_key()).unwrap();
        let private = a.x25519_private();
        let salted = |salt| agree_x25519(&*private, &b.public_key().to_x25519(), salt).unwrap();
        assert_eq!(key, salted(None));
        assert_eq!(key, salted(Some(b"")));
        assert_ne!(key, salted(Some(b"salt")));
    }

    #[test]
    fn private_key_lengths() {
        for got in [0, 31, 32, 63, 65] {
            let error = KeyError::Length { expected: 64, got };
            assert_eq!(ed25519_private_to_x25519(&vec![1; got]), Err(error));
        }
    }

    #[test]
    fn own_key_is_accepted() {
        let a = Identity::from_seed(&[4; 32]);
        assert!(derive_shared_key(&a, a.public_key().as_bytes()).is_ok());
    }

    #[test]
    fn low_order_fails_at_the_agreement() {
        let a = Identity::from_seed(&[4; 32]);
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(derive_shared_key(&a, &neutral), Err(KeyError::LowOrder));
        assert!(PublicKey::from_bytes(&neutral).is_err());
    }
}
