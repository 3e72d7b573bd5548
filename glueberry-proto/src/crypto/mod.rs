//! The cryptography of a session: identities, key agreement, and the cipher that seals messages.
//!
//! | what | with what | here |
//! |---|---|---|
//! | identity of a node | Ed25519, the key inside the libp2p `PeerId` | [`Identity`], [`PublicKey`] |
//! | key agreement | X25519 between the two identities, converted from Ed25519 | [`Identity::agree_v1`] |
//! | key derivation | HKDF-SHA256, no salt, info `glueberry-v1-stream-key`, 32 bytes | [`SharedKey`] |
//! | sealing of messages | ChaCha20-Poly1305 (RFC 8439), 96-bit nonce, 128-bit tag | [`Aead`] |
//! | a record | nonce (12) ‖ ciphertext ‖ tag (16), empty AAD | [`compat::Cipher`](crate::compat::Cipher) |
//!
//! Every type here that holds a secret wipes it on drop, and operations with secrets overwrite the
//! stack that they have used. The core draws no randomness: the caller
//! of [`AeadKey::seal`] brings the nonce, and must never use one twice with the same key.
//!
//! What Glueberry's document offers to applications beyond this is in [`compat`](crate::compat).
//!
//! # What version 1 does not give
//!
//! - **No forward secrecy.** The key of a pair of nodes follows from their two identities alone. It
//!   is the same in both directions, on every stream and in every session, for ever. An attacker
//!   that learns one of the two identities' secrets reads everything that was ever recorded between
//!   the two.
//! - **No replay protection across sessions.** A record holds no counter, stream name or session.
//!   One that was recorded earlier authenticates again. Sessions refuse their own recent nonces and
//!   the latest ones of the peer, and claim nothing beyond.
//!
//! Both are left to the transport's own encryption (TLS or Noise), which every adapter has. On a
//! transport without it, version 1 hides contents from parties without the key, and no more.
//!
//! ```
//! use glueberry_proto::crypto::{Identity, default_aead};
//!
//! let (alice, bob) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
//! let sealing = default_aead().key(&alice.agree_v1(&bob.public_key())?);
//! let opening = default_aead().key(&bob.agree_v1(&alice.public_key())?);
//!
//! let (nonce, mut text) = ([7; 12], *b"hello");
//! let tag = sealing.seal(&nonce, b"", &mut text);
//! opening.open(&nonce, b"", &mut text, &tag)?;
//! assert_eq!(&text, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "aws-lc-rs")]
pub use aead::aws_lc::AwsLc;
pub use aead::{Aead, AeadError, AeadKey, NONCE_LEN, RustCrypto, TAG_LEN, default_aead};
pub use agreement::AgreementError;
pub(crate) use agreement::diffie_hellman;
pub(crate) use hmac::hmac;
pub use identity::{Identity, IdentityError, PublicKey, PublicKeyError, SignatureError};
pub use shared_key::{KeyLengthError, SharedKey, V1_KEY_INFO};
#[cfg(feature = "ml-kem")]
pub(crate) use wipe::on_wiped_deep_stack;
pub(crate) use wipe::on_wiped_stack;

mod aead;
mod agreement;
mod hmac;
mod identity;
#[cfg(feature = "multiformats")]
mod multiformats;
mod shared_key;
mod wipe;
