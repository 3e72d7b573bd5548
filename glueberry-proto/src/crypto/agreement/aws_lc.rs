//! X25519 of AWS-LC, in C and assembly: the same bytes in two thirds of the time.

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use zeroize::Zeroizing;

/// Prepares a private key; `None` if AWS-LC has no memory for it.
///
/// It wipes the key when that is dropped, as it wipes those of ciphers: see
/// [`AwsLc`](crate::crypto::AwsLc).
pub(super) fn private_key(private: &[u8; 32]) -> Option<PrivateKey> {
    PrivateKey::from_private_key(&X25519, private).ok()
}

/// Multiplies a public key with a private one; `None` if the result is zero.
pub(super) fn multiply(private: &PrivateKey, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let public = UnparsedPublicKey::new(&X25519, public);
    let copy = |agreed: &[u8]| agreed.try_into().map(Zeroizing::new).map_err(|_| ());
    agree(private, public, (), copy).ok()
}
