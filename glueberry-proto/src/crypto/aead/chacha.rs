//! ChaCha20-Poly1305 for texts that are short, as most messages are.
//!
//! The crate `chacha20poly1305` costs 2 to 3 µs per message more on x86 than its work: where AVX2 is
//! only found at run time, its `poly1305` prepares each key in a function that is not compiled for
//! AVX2, so that none of the instructions it is made of are inlined. That can only be changed for a
//! whole build (`--cfg poly1305_backend="soft"`, or `-C target-feature=+avx2`), not by a library. Long
//! texts make up for it, and gain from its AVX2.
//!
//! Here the keystream of a short text comes from one call of `chacha20`, with that of the
//! authenticator's key, and the authenticator is over the arithmetic of fiat-crypto.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::poly1305::{BLOCK_LEN, Poly1305};
use super::{AeadError, NONCE_LEN, TAG_LEN};

/// Longer texts are `chacha20poly1305`'s: there it is as fast.
pub(super) const LONGEST: usize = 4096;

/// Seals a text of at most [`LONGEST`] bytes in place, and returns the tag.
pub(super) fn seal(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    text: &mut [u8],
) -> [u8; TAG_LEN] {
    let mut start = Start::new(key, nonce, text);
    start.apply(text);
    start.tag(aad, text)
}

/// Opens a text of at most [`LONGEST`] bytes in place. It is as it was if that fails.
pub(super) fn open(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), AeadError> {
    let mut start = Start::new(key, nonce, text);
    if !bool::from(start.tag(aad, text).ct_eq(tag)) {
        return Err(AeadError);
    }
    start.apply(text);
    Ok(())
}

/// The first blocks of a text, with the keystream applied: as many as are made at a time.
struct Start {
    /// The authenticator's key, two that are not used, and the start of the text.
    blocks: [[u8; BLOCK_LEN]; 16],
    /// Bytes of the text in `blocks`.
    len: usize,
    rest: ChaCha20,
}

impl Start {
    fn new(key: &[u8; 32], nonce: &[u8; NONCE_LEN], text: &[u8]) -> Self {
        let mut rest = ChaCha20::new(key.into(), nonce.into());
        let mut blocks = [[0; BLOCK_LEN]; 16];
        let bytes = blocks.as_flattened_mut();
        let len = text.len().min(bytes.len() - CHACHA_BLOCK);
        bytes[CHACHA_BLOCK..][..len].copy_from_slice(&text[..len]);
        rest.apply_keystream(bytes);
        Self { blocks, len, rest }
    }

    fn apply(&mut self, text: &mut [u8]) {
        let (first, others) = text.split_at_mut(self.len);
        first.copy_from_slice(&self.blocks.as_flattened()[CHACHA_BLOCK..][..self.len]);
        self.rest.apply_keystream(others);
    }

    /// RFC 8439 §2.8.
    fn tag(&self, aad: &[u8], sealed: &[u8]) -> [u8; TAG_LEN] {
        let [r, pad, ..] = &self.blocks;
        let mut mac = Poly1305::new(r, pad);
        mac.update_padded(aad);
        mac.update_padded(sealed);
        let mut lengths = [0; 16];
        for (bytes, of) in lengths.chunks_exact_mut(8).zip([aad, sealed]) {
            bytes.copy_from_slice(&u64::try_from(of.len()).unwrap_or(u64::MAX).to_le_bytes());
        }
        mac.update(&lengths);
        mac.finish()
    }
}

impl Drop for Start {
    /// The keys are wiped. What else is here has the secrets of the text, which is not ours to wipe.
    fn drop(&mut self) {
        let [r, pad, ..] = &mut self.blocks;
        r.zeroize();
        pad.zeroize();
    }
}

const CHACHA_BLOCK: usize = 64;
