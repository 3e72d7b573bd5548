//! ChaCha20-Poly1305, behind a small trait so that a faster implementation can replace it.

use alloc::sync::Arc;
use core::fmt;

use chacha20poly1305::aead::consts::{U12, U16};
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use zeroize::{Zeroize, Zeroizing};

use super::shared_key::SharedKey;
use super::wipe::on_wiped_stack;
use crate::prelude::*;

/// An implementation of ChaCha20-Poly1305 (RFC 8439).
///
/// All implementations produce the same bytes; they differ in speed only.
pub trait Aead: Send + Sync + fmt::Debug {
    /// Prepares a key for use. The copy of it is wiped on drop.
    fn key(&self, key: &SharedKey) -> Box<dyn AeadKey>;

    /// Prepares a key of AES-256-GCM (NIST SP 800-38D) for use, which v2 offers beside
    /// ChaCha20-Poly1305 where [`Config::hardware_aes`](crate::Config::hardware_aes) allows. Returns
    /// `None` if the implementation doesn't have it, as by default.
    fn aes_256_gcm(&self, key: &SharedKey) -> Option<Box<dyn AeadKey>> {
        let _ = key;
        None
    }
}

/// One key of an [`Aead`], wiped on drop.
///
/// Both operations work in place, with the tag apart from the text, so that no implementation needs a
/// copy.
pub trait AeadKey: Send + Sync {
    /// Seals the plaintext in `in_out` in place, and returns the tag.
    ///
    /// A nonce must not be used twice with one key. Texts of 256 GiB or more can't be sealed: then
    /// `in_out` is zeroed and the tag is zero, a record that every receiver refuses.
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN];

    /// Opens the ciphertext in `in_out` in place.
    ///
    /// # Errors
    /// [`AeadError`] if anything was altered. The content of `in_out` is then not specified, but never
    /// plaintext.
    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError>;

    /// Opens a ciphertext into `out`, which must be as long. By default it is copied there first; an
    /// implementation that can open from one place to another saves that.
    ///
    /// # Errors
    /// [`AeadError`] if anything was altered, or the lengths differ. The content of `out` is then not
    /// specified, but never plaintext.
    fn open_into(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), AeadError> {
        if out.len() != ciphertext.len() {
            return Err(AeadError);
        }
        out.copy_from_slice(ciphertext);
        self.open(nonce, aad, out, tag)
    }
}

/// Returns the fastest implementation that was compiled in.
#[must_use]
pub fn default_aead() -> Arc<dyn Aead> {
    #[cfg(feature = "aws-lc-rs")]
    return Arc::new(aws_lc::AwsLc);
    #[cfg(not(feature = "aws-lc-rs"))]
    return Arc::new(RustCrypto);
}

/// A ciphertext does not match its key, nonce, additional data and tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
#[non_exhaustive]
pub struct AeadError;

/// The implementation in Rust, for every platform.
///
/// Texts of at most 4 KiB are sealed by a composition of its own on 64-bit processors, as fast as those
/// in C and assembly while they are small; longer ones by the crate `chacha20poly1305`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RustCrypto;

impl Aead for RustCrypto {
    fn key(&self, key: &SharedKey) -> Box<dyn AeadKey> {
        on_wiped_stack(|| Box::new(ChaChaKey(Zeroizing::new(*key.as_bytes()))))
    }

    #[cfg(feature = "aes-gcm")]
    fn aes_256_gcm(&self, key: &SharedKey) -> Option<Box<dyn AeadKey>> {
        on_wiped_stack(|| {
            let cipher = aes_gcm::Aes256Gcm::new(key.as_bytes().into());
            Some::<Box<dyn AeadKey>>(Box::new(RustCryptoKey(cipher)))
        })
    }
}

struct ChaChaKey(Zeroizing<[u8; 32]>);

impl AeadKey for ChaChaKey {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        #[cfg(target_pointer_width = "64")]
        if in_out.len() <= chacha::LONGEST {
            return chacha::seal(&self.0, nonce, aad, in_out);
        }
        self.long().seal(nonce, aad, in_out)
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        #[cfg(target_pointer_width = "64")]
        if in_out.len() <= chacha::LONGEST {
            return chacha::open(&self.0, nonce, aad, in_out, tag);
        }
        self.long().open(nonce, aad, in_out, tag)
    }
}

impl ChaChaKey {
    /// Returns what seals and opens long texts. To make it is to copy the key.
    fn long(&self) -> RustCryptoKey<ChaCha20Poly1305> {
        RustCryptoKey(ChaCha20Poly1305::new((&*self.0).into()))
    }
}

struct RustCryptoKey<C>(C);

impl<C> AeadKey for RustCryptoKey<C>
where
    C: AeadInOut<NonceSize = U12, TagSize = U16> + Send + Sync,
{
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        match self.0.encrypt_inout_detached(nonce.into(), aad, (&mut *in_out).into()) {
            Ok(tag) => tag.into(),
            Err(_) => unsealed(in_out),
        }
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        self.0
            .decrypt_inout_detached(nonce.into(), aad, in_out.into(), tag.into())
            .map_err(|_| AeadError)
    }
}

/// Length of a nonce, in bytes.
pub const NONCE_LEN: usize = 12;

/// Length of a tag, in bytes.
pub const TAG_LEN: usize = 16;

/// Zeroes a plaintext that could not be sealed. Returns a tag that no receiver accepts for it.
fn unsealed(in_out: &mut [u8]) -> [u8; TAG_LEN] {
    in_out.zeroize();
    [0; TAG_LEN]
}

#[cfg(feature = "aws-lc-rs")]
pub(super) mod aws_lc;
#[cfg(target_pointer_width = "64")]
mod chacha;
#[cfg(target_pointer_width = "64")]
mod poly1305;

#[cfg(test)]
mod tests;
