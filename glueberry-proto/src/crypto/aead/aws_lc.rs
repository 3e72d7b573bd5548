//! ChaCha20-Poly1305 and AES-256-GCM of AWS-LC, in C and assembly.

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{Aead, AeadError, AeadKey, NONCE_LEN, RustCrypto, TAG_LEN, unsealed};
use crate::crypto::{SharedKey, on_wiped_stack};
use crate::prelude::*;

/// The implementation of AWS-LC: several times faster for small messages, twice for large ones.
///
/// AWS-LC keeps a key inside one allocation of its own, and its `OPENSSL_free` overwrites every
/// allocation before it is given back. That is so unless the process has replaced AWS-LC's allocator
/// (`OPENSSL_memory_free`), which then has to see to it.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AwsLc;

impl Aead for AwsLc {
    /// Falls back to [`RustCrypto`] if AWS-LC has no memory for the key.
    fn key(&self, key: &SharedKey) -> Box<dyn AeadKey> {
        match on_wiped_stack(|| UnboundKey::new(&CHACHA20_POLY1305, key.as_bytes())) {
            Ok(key) => Box::new(AwsLcKey(LessSafeKey::new(key))),
            Err(_) => RustCrypto.key(key),
        }
    }

    fn aes_256_gcm(&self, key: &SharedKey) -> Option<Box<dyn AeadKey>> {
        let key = on_wiped_stack(|| UnboundKey::new(&AES_256_GCM, key.as_bytes())).ok()?;
        Some(Box::new(AwsLcKey(LessSafeKey::new(key))))
    }
}

struct AwsLcKey(LessSafeKey);

impl AeadKey for AwsLcKey {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        self.0
            .seal_in_place_separate_tag(Nonce::from(nonce), Aad::from(aad), in_out)
            .ok()
            .and_then(|tag| tag.as_ref().try_into().ok())
            .unwrap_or_else(|| unsealed(in_out))
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        self.0
            .open_in_place_separate_tag(Nonce::from(nonce), Aad::from(aad), tag, in_out)
            .map(drop)
            .map_err(|_| AeadError)
    }

    fn open_into(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), AeadError> {
        // Of a longer output it would leave the end as it is.
        if out.len() != ciphertext.len() {
            return Err(AeadError);
        }
        self.0
            .open_separate_gather(Nonce::from(nonce), Aad::from(aad), ciphertext, tag, out)
            .map_err(|_| AeadError)
    }
}
