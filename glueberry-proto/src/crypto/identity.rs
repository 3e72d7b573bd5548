//! Ed25519 identities: the node's own, with its secret, and those of peers.

use core::fmt;

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::hmac::hmac;
use super::shared_key::SharedKey;
use super::wipe::on_wiped_stack;
use crate::prelude::*;

/// The Ed25519 public key that identifies a node.
///
/// A value of this type is always the canonical encoding of a point of prime order. Ordered
/// bytewise.
///
/// ```
/// use glueberry_proto::{Identity, PublicKey};
///
/// let key = Identity::from_seed(&[1; 32]).public_key();
/// assert_eq!(PublicKey::from_bytes(key.as_bytes())?, key);
/// assert!(PublicKey::from_bytes(&[0; 32]).is_err(), "a point of small order");
/// # Ok::<(), glueberry_proto::crypto::PublicKeyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Checks a public key. Takes as long as an X25519 key agreement, so it has no place on the way of
    /// a message: keep the value, which is `Copy`, as the name of the peer.
    ///
    /// # Errors
    /// One variant of [`PublicKeyError`] per rule.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PublicKeyError> {
        let bytes: [u8; 32] =
            bytes.try_into().map_err(|_| PublicKeyError::Length { got: bytes.len() })?;
        let encoded = CompressedEdwardsY(bytes);
        let point = encoded.decompress().ok_or(PublicKeyError::NotOnCurve)?;
        // Two encodings of one point would be two identities with one secret.
        if point.compress() != encoded {
            return Err(PublicKeyError::NotCanonical);
        }
        if point.is_small_order() {
            return Err(PublicKeyError::SmallOrder);
        }
        // X25519 ignores the small-order part, so eight such keys would share one secret.
        if !is_torsion_free(&point) {
            return Err(PublicKeyError::MixedOrder);
        }
        Ok(Self(bytes))
    }

    /// Returns the encoded point.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature of this identity: see [`Identity::sign`].
    ///
    /// # Errors
    ///
    /// [`SignatureError`] if it is not this identity's signature of these bytes.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError)?;
        key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| SignatureError)
    }

    /// True if the other key is this one or its negation, which have one X25519 key.
    pub(crate) fn shares_x25519_with(&self, other: &Self) -> bool {
        // The last bit is the sign; the others are the coordinate that X25519's follows from.
        let ([own @ .., last], [others @ .., others_last]) = (&self.0, &other.0);
        own == others && (last ^ others_last) & 0x7f == 0
    }

    /// Returns the X25519 public key that belongs to this identity.
    ///
    /// A key and its negation have the same one, since X25519 ignores the sign.
    #[must_use]
    pub fn to_x25519(&self) -> [u8; 32] {
        let point = CompressedEdwardsY(self.0).decompress().expect("checked when constructed");
        point.to_montgomery().to_bytes()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        f.write_str("PublicKey(")?;
        write_hex(&[a, b, c, d], f)?;
        f.write_str("…)")
    }
}

impl AsRef<[u8]> for PublicKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = PublicKeyError;

    /// Does what [`PublicKey::from_bytes`] does.
    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        Self::from_bytes(bytes)
    }
}

/// Why bytes or a peer id are not a peer's public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// The key does not have 32 bytes.
    #[error("public key has {got} bytes instead of 32")]
    Length {
        /// The number of bytes that it has.
        got: usize,
    },
    /// The bytes encode no point of the curve.
    #[error("public key is not on the curve")]
    NotOnCurve,
    /// The bytes are a second encoding of a point.
    #[error("public key is not canonical")]
    NotCanonical,
    /// The point has an order of 8 or less, so it has no secret key.
    #[error("public key has a small order")]
    SmallOrder,
    /// The point is one of prime order plus one of small order.
    #[error("public key has a mixed order")]
    MixedOrder,
    /// The peer id is a hash of the key. Keys that are too long to be contained have such ids.
    #[error("peer id does not contain its key")]
    NotInlined,
    /// The peer id contains a key of another kind.
    #[error("peer's key is not ed25519")]
    NotEd25519,
    /// The peer id does not encode its key as libp2p demands.
    #[error("peer id is malformed")]
    Malformed,
}

/// A signature is not of these bytes, or not of this identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature does not match")]
#[non_exhaustive]
pub struct SignatureError;

/// The local node's Ed25519 identity, with its secret.
///
/// The secret is wiped on drop. It can't be cloned: share the identity by reference or `Arc`.
///
/// ```
/// use glueberry_proto::Identity;
///
/// let identity = Identity::from_seed(&[1; 32]);
/// assert_eq!(identity.public_key(), Identity::from_seed(&[1; 32]).public_key());
/// assert!(Identity::from_keypair_bytes(&[1; 64]).is_err(), "the halves do not belong together");
/// ```
pub struct Identity {
    // Boxed so that moving an identity leaves no copy of the secret behind.
    signing: Box<SigningKey>,
    public: PublicKey,
    /// That of [`PublicKey::to_x25519`], which every handshake needs several times.
    x25519: [u8; 32],
}

impl Identity {
    /// Creates the identity of a 32-byte Ed25519 seed. That of a new one comes from the operating
    /// system. Store it: an identity does not give it back, and a TLS library may want it, too.
    ///
    /// The seed is copied; the caller wipes its own.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        on_wiped_stack(|| {
            let signing = Box::new(SigningKey::from_bytes(seed));
            // A multiple of the base point by a clamped scalar, hence of prime order and canonical.
            let public = PublicKey(signing.verifying_key().to_bytes());
            Self { signing, public, x25519: public.to_x25519() }
        })
    }

    /// Creates an identity from the 64 bytes that Go and libp2p store: the seed, then the public key.
    ///
    /// # Errors
    /// [`IdentityError::Length`], or [`IdentityError::PublicKeyMismatch`] if the second half does
    /// not belong to the first.
    pub fn from_keypair_bytes(bytes: &[u8]) -> Result<Self, IdentityError> {
        let wrong_length = IdentityError::Length { got: bytes.len() };
        let (seed, public) = bytes.split_first_chunk::<32>().ok_or(wrong_length)?;
        if public.len() != 32 {
            return Err(wrong_length);
        }
        let identity = Self::from_seed(seed);
        if bool::from(identity.public.0.ct_eq(public)) {
            Ok(identity)
        } else {
            Err(IdentityError::PublicKeyMismatch)
        }
    }

    /// Returns the public key.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }

    /// Signs bytes as Ed25519 does (RFC 8032), for instance a certificate or the transcript of a
    /// transport's handshake, so that the transport can vouch for the key (rule C0).
    ///
    /// Begin what you sign with a text that no other protocol signs with, and never sign what a peer has
    /// chosen as a whole: libp2p signs with the same key, such as `libp2p-tls-handshake:` and a key.
    ///
    /// ```
    /// # use glueberry_proto::Identity;
    /// let identity = Identity::from_seed(&[1; 32]);
    /// let signature = identity.sign(b"my transport's hello: 7");
    /// assert!(identity.public_key().verify(b"my transport's hello: 7", &signature).is_ok());
    /// assert!(identity.public_key().verify(b"my transport's hello: 8", &signature).is_err());
    /// ```
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// Returns the key with which v2 hedges its ephemeral keys (WIRE.md §6.4).
    pub(crate) fn hedge_key(&self) -> SharedKey {
        hmac(self.signing.as_bytes(), &[b"glueberry/2 hedge"])
    }

    /// Returns the X25519 public key that belongs to this identity.
    pub(crate) const fn x25519_public(&self) -> &[u8; 32] {
        &self.x25519
    }

    /// Returns the X25519 private key that belongs to this identity, clamped.
    ///
    /// It is wiped where it is dropped; a move may leave a copy on the caller's stack.
    #[must_use]
    pub fn x25519_private(&self) -> Zeroizing<[u8; 32]> {
        let mut private = Zeroizing::new([0; 32]);
        on_wiped_stack(|| *private = clamp_integer(self.signing.to_scalar_bytes()));
        private
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Why bytes or a key pair are not an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The key pair does not have 64 bytes.
    #[error("key pair has {got} bytes instead of 64")]
    Length {
        /// The number of bytes that it has.
        got: usize,
    },
    /// The public half does not belong to the secret half.
    #[error("public key does not belong to the secret key")]
    PublicKeyMismatch,
    /// The key pair is of another kind.
    #[error("key pair is not ed25519")]
    NotEd25519,
}

/// True if the order of the group of prime order, times the point, is zero. As one less than the order
/// times the point is then the negated point, in half of the time that `is_torsion_free` takes: the
/// point is no secret.
fn is_torsion_free(point: &EdwardsPoint) -> bool {
    let product =
        EdwardsPoint::vartime_double_scalar_mul_basepoint(&-Scalar::ONE, point, &Scalar::ZERO);
    product == -point
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests;
