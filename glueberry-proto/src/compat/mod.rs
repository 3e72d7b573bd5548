//! Operations of the Go original's `crypto` package that nothing else in this crate uses.
//!
//! The architecture document offers them to applications, so they are here: a cipher for records,
//! a cache of shared keys, and conversions of raw keys. Sessions derive keys and seal messages with
//! [`crypto`](crate::crypto); a new application needs nothing of this module.
//!
//! # More lenient than a session
//!
//! [`PublicKey`](crate::PublicKey) accepts only canonical encodings of points of prime order, so
//! that a peer has one key and one identity. The functions here take raw bytes and accept every key
//! that the Go program accepts: encodings that are not canonical, points of mixed order, and one's
//! own key.
//!
//! ```
//! use glueberry_proto::Identity;
//! use glueberry_proto::compat::Cipher;
//!
//! let (alice, bob) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
//! let sealing = Cipher::from_key(&alice.agree_v1(&bob.public_key())?);
//! let opening = Cipher::from_key(&bob.agree_v1(&alice.public_key())?);
//!
//! let record = sealing.encrypt(b"hello", b"", &[7; 12]);
//! assert_eq!(opening.decrypt(&record, b"")?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use cache::KeyCache;
pub use cipher::{Cipher, MIN_RECORD_LEN};
pub use keys::{
    KeyError, agree_x25519, derive_shared_key, ed25519_private_to_x25519, ed25519_public_to_x25519,
    x25519, x25519_public,
};

mod cache;
mod cipher;
mod keys;

/// Overwrites a secret with zeros, in a way that the compiler does not optimise away.
///
/// Types of this crate that hold secrets do this by themselves when they are dropped.
///
/// ```
/// let mut secret = [7; 32];
/// glueberry_proto::compat::secure_zero(&mut secret);
/// assert_eq!(secret, [0; 32]);
/// ```
pub fn secure_zero(secret: &mut [u8]) {
    zeroize::Zeroize::zeroize(secret);
}
