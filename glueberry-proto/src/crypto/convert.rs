//! The document's key conversions, as lenient as Go's.

use curve25519_dalek::edwards::CompressedEdwardsY;
use zeroize::Zeroizing;

use super::agreement::{AgreementError, SharedKey, agree_x25519};
use super::identity::Identity;

/// Converts an Ed25519 public key to X25519, as Go's `Ed25519PublicToX25519` does.
///
/// Accepts encodings that are not canonical and points of small or mixed order. For a peer's
/// identity use [`PublicKey::to_x25519`](super::PublicKey::to_x25519).
///
/// # Errors
/// [`ConversionError::Length`] and [`ConversionError::NotOnCurve`].
pub fn ed25519_public_to_x25519(public: &[u8]) -> Result<[u8; 32], ConversionError> {
    let encoded = public
        .try_into()
        .map(CompressedEdwardsY)
        .map_err(|_| ConversionError::Length { expected: 32, got: public.len() })?;
    let point = encoded.decompress().ok_or(ConversionError::NotOnCurve)?;
    Ok(point.to_montgomery().to_bytes())
}

/// Converts an Ed25519 private key (seed, then public key) to X25519, as Go's
/// `Ed25519PrivateToX25519` does.
///
/// Only the seed is used: whether the second half belongs to it is not checked, which
/// [`Identity::from_keypair_bytes`] does.
///
/// # Errors
/// [`ConversionError::Length`] if there are not 64 bytes.
pub fn ed25519_private_to_x25519(private: &[u8]) -> Result<Zeroizing<[u8; 32]>, ConversionError> {
    match private.split_first_chunk::<32>() {
        Some((seed, public)) if public.len() == 32 => {
            Ok(Identity::from_seed(seed).x25519_private())
        }
        _ => Err(ConversionError::Length { expected: 64, got: private.len() }),
    }
}

/// Derives the key shared with the holder of an Ed25519 public key, as Go's crypto module does.
///
/// Accepts every key that [`ed25519_public_to_x25519`] accepts, `local`'s own included. Sessions use
/// [`Identity::agree_v1`], which does not.
///
/// # Errors
/// [`DeriveError::Remote`] if the key can't be converted, [`DeriveError::Agreement`] if it has a low
/// order.
pub fn derive_shared_key(local: &Identity, remote: &[u8]) -> Result<SharedKey, DeriveError> {
    let remote = ed25519_public_to_x25519(remote)?;
    Ok(agree_x25519(&*local.x25519_private(), &remote, None)?)
}

/// Why an Ed25519 key has no X25519 counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConversionError {
    /// The key does not have the length of its kind.
    #[error("ed25519 key has {got} bytes instead of {expected}")]
    Length {
        /// How many bytes such a key has.
        expected: usize,
        /// How many this one has.
        got: usize,
    },
    /// The bytes encode no point of the curve.
    #[error("ed25519 public key is not on the curve")]
    NotOnCurve,
}

/// Why no key could be derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeriveError {
    /// The remote key can't be converted.
    #[error("invalid remote public key")]
    Remote(#[from] ConversionError),
    /// The two keys agree on nothing.
    #[error("key agreement failed")]
    Agreement(#[from] AgreementError),
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
    fn private_key_lengths() {
        for got in [0, 31, 32, 63, 65] {
            let error = ConversionError::Length { expected: 64, got };
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
        let error = DeriveError::Agreement(AgreementError::LowOrder);
        assert_eq!(derive_shared_key(&a, &neutral), Err(error));
        assert!(PublicKey::from_bytes(&neutral).is_err());
    }
}
