//! The cryptography of a session, and the operations that Glueberry's document offers to applications.
//!
//! | what | with what | here |
//! |---|---|---|
//! | identity of a node | Ed25519, the key inside the libp2p `PeerId` | [`Identity`], [`PublicKey`] |
//! | key agreement | X25519 between the two identities, converted from Ed25519 | [`Identity::agree_v1`] |
//! | key derivation | HKDF-SHA256, no salt, info `glueberry-v1-stream-key`, 32 bytes | [`SharedKey`] |
//! | sealing of messages | ChaCha20-Poly1305 (RFC 8439), 96-bit nonce, 128-bit tag | [`Aead`], [`Cipher`] |
//! | a record | nonce (12) ‖ ciphertext ‖ tag (16), empty AAD | [`Cipher::encrypt`] |
//! | wiping of secrets | on drop of every type here that holds one | [`secure_zero`] |
//!
//! The core draws no randomness: whoever seals brings the nonce, and must never use one twice with
//! the same key.
//!
//! # What version 1 does not give
//!
//! - **No forward secrecy.** The key of a pair of nodes follows from their two identities alone and
//!   is the same in both directions, on every stream and in every session, for ever. Whoever learns
//!   one of the two identities' secrets reads everything that was ever recorded between the two.
//! - **No replay protection across sessions.** A record holds no counter, stream name or session.
//!   One that was recorded earlier authenticates again. Sessions refuse their own recent nonces and
//!   the latest ones of the peer, and claim nothing beyond.
//!
//! Both are left to the transport's own encryption (TLS or Noise), which every adapter has. On a
//! transport without it, version 1 hides contents from those who don't hold a key, and no more.
//!
//! # Strict and lenient
//!
//! [`PublicKey`] accepts only canonical encodings of points of prime order, so that a peer has one
//! key and one identity. Go's functions accept more. The free functions in this module follow Go
//! to the bit, for applications that call the document's `crypto` operations themselves; sessions
//! don't use them.
//!
//! ```
//! use glueberry_proto::crypto::{Cipher, Identity};
//!
//! let (alice, bob) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
//! let sealing = Cipher::from_key(&alice.agree_v1(&bob.public_key())?);
//! let opening = Cipher::from_key(&bob.agree_v1(&alice.public_key())?);
//!
//! let record = sealing.encrypt(b"hello", b"", &[7; 12]);
//! assert_eq!(opening.decrypt(&record, b"")?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "aws-lc-rs")]
pub use aead::aws_lc::AwsLc;
pub use aead::{Aead, AeadKey, NONCE_LEN, OpenError, RustCrypto, TAG_LEN, default_aead};
pub use agreement::{
    AgreementError, KeyLengthError, SharedKey, V1_KEY_INFO, agree_x25519, x25519, x25519_public,
};
pub use cache::KeyCache;
pub use cipher::{Cipher, DecryptError, MIN_RECORD_LEN};
pub use convert::{
    ConversionError, DeriveError, derive_shared_key, ed25519_private_to_x25519,
    ed25519_public_to_x25519,
};
pub use identity::{Identity, IdentityError, PublicKey, PublicKeyError};
#[cfg(feature = "multiformats")]
pub use multiformats::{KeypairError, PeerIdError};

mod aead;
mod agreement;
mod cache;
mod cipher;
mod convert;
mod identity;
#[cfg(feature = "multiformats")]
mod multiformats;

/// Overwrites a secret with zeros, in a way that the compiler does not optimise away.
///
/// Types of this module that hold secrets do this by themselves when they are dropped.
///
/// ```
/// let mut secret = [7; 32];
/// glueberry_proto::crypto::secure_zero(&mut secret);
/// assert_eq!(secret, [0; 32]);
/// ```
pub fn secure_zero(secret: &mut [u8]) {
    zeroize::Zeroize::zeroize(secret);
}
