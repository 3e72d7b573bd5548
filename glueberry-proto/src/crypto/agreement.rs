//! X25519 key agreement and the key that is derived from it.

use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::identity::{Identity, PublicKey};
use super::shared_key::SharedKey;
use super::wipe::on_wiped_stack;

impl Identity {
    /// Derives the key that version 1 uses for all messages between this identity and a peer.
    ///
    /// # Errors
    /// [`AgreementError::OwnKey`] if `peer` is this identity or its negation.
    /// [`AgreementError::LowOrder`] cannot occur for a checked [`PublicKey`], but is checked all the
    /// same.
    pub fn agree_v1(&self, peer: &PublicKey) -> Result<SharedKey, AgreementError> {
        self.check_is_other(peer)?;
        let remote = peer.to_x25519();
        on_wiped_stack(|| {
            let agreed =
                diffie_hellman(&self.x25519_private(), &remote).ok_or(AgreementError::LowOrder)?;
            Ok(SharedKey::derive(&agreed, None))
        })
    }

    /// Checks that a key is not this identity's own, nor its negation.
    pub(crate) fn check_is_other(&self, peer: &PublicKey) -> Result<(), AgreementError> {
        // Compared after the conversion, which drops the sign: the negated key gives the same secret.
        match peer.shares_x25519_with(&self.public_key()) {
            true => Err(AgreementError::OwnKey),
            false => Ok(()),
        }
    }
}

/// Multiplies an X25519 public key with a private one, by the fastest implementation that was compiled
/// in.
///
/// Returns `None` if the result is zero: the public key has a low order, and any private key would
/// give the same. The result is by value, so the caller overwrites its stack.
pub(crate) fn diffie_hellman(private: &[u8; 32], public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    #[cfg(feature = "aws-lc-rs")]
    if let Some(private) = aws_lc::private_key(private) {
        return aws_lc::multiply(&private, public);
    }
    multiply(private, public)
}

/// The implementation in Rust, for every platform.
fn multiply(private: &[u8; 32], public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let agreed = StaticSecret::from(*private).diffie_hellman(&(*public).into());
    agreed.was_contributory().then(|| Zeroizing::new(agreed.to_bytes()))
}

/// Why no key can be derived from two identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgreementError {
    /// The peer's key is our own, or our own with the other sign.
    #[error("the peer's key is our own")]
    OwnKey,
    /// The peer's key has a low order, so the result does not depend on our secret.
    #[error("the peer's key has a low order")]
    LowOrder,
}

#[cfg(feature = "aws-lc-rs")]
mod aws_lc;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identities() -> (Identity, Identity) {
        (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]))
    }

    /// Values that the Go program made.
    #[test]
    fn both_sides_agree_as_go_does() {
        let (a, b) = identities();
        let key = a.agree_v1(&b.public_key()).unwrap();
        assert_eq!(key, b.agree_v1(&a.public_key()).unwrap());
        assert_eq!(
            hex::encode(key.as_bytes()),
            "5b7eb24d827b5976a95a65a1ec53336267eabd7288f6868fcc46e7ff1d9c19d3"
        );
    }

    #[test]
    fn own_key_is_refused() {
        let (a, _) = identities();
        assert_eq!(a.agree_v1(&a.public_key()), Err(AgreementError::OwnKey));
    }

    #[test]
    fn own_key_with_the_other_sign_is_refused() {
        let (a, _) = identities();
        let mut negated = *a.public_key().as_bytes();
        negated[31] ^= 0x80;
        let negated = PublicKey::from_bytes(&negated).unwrap();
        assert_ne!(negated, a.public_key());
        assert_eq!(a.agree_v1(&negated), Err(AgreementError::OwnKey));
    }

    #[test]
    fn keys_differ_by_peer() {
        let (a, b) = identities();
        let c = Identity::from_seed(&[3; 32]);
        let key = a.agree_v1(&b.public_key()).unwrap();
        assert_ne!(key, a.agree_v1(&c.public_key()).unwrap());
    }

    proptest! {
        /// Also where a private key is not clamped, or the last bit of a public one is set.
        #[test]
        fn implementations_agree(private: [u8; 32], public: [u8; 32]) {
            prop_assert_eq!(diffie_hellman(&private, &public), multiply(&private, &public));
        }
    }

    #[test]
    fn public_keys_of_low_order_give_nothing() {
        let mut one = [0; 32];
        one[0] = 1;
        let order_8 =
            hex::decode("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
                .unwrap();
        let order_8: &[u8; 32] = order_8.first_chunk().unwrap();
        for public in [&[0; 32], &one, order_8] {
            assert_eq!(diffie_hellman(&[7; 32], public), None, "{public:02x?}");
            assert_eq!(multiply(&[7; 32], public), None, "{public:02x?}");
        }
    }
}
