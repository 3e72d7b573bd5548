//! A fast cipher that fails exactly where the real one does, and a witness of what is sealed.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use glueberry_proto::crypto::{Aead, AeadError, AeadKey, NONCE_LEN, SharedKey, TAG_LEN};

use crate::rng::mix;
use crate::trace::digest;

/// Seals with a keyed checksum instead of cryptography.
///
/// An opener with another key, nonce, additional data or text, or less of it, is refused as by the
/// real one; and the text is not readable on the wire. It keeps no secret from an attacker.
#[derive(Debug, Default)]
pub(crate) struct FastAead;

impl Aead for FastAead {
    fn key(&self, key: &SharedKey) -> Box<dyn AeadKey> {
        Box::new(FastKey(digest(key.as_bytes())))
    }
}

struct FastKey(u64);

impl FastKey {
    /// Returns a number that hangs on the key and the nonce.
    fn start(&self, nonce: &[u8; NONCE_LEN]) -> u64 {
        mix(self.0 ^ digest(nonce))
    }

    /// Returns the tag of a ciphertext.
    fn tag(start: u64, aad: &[u8], text: &[u8]) -> [u8; TAG_LEN] {
        let low = mix(start ^ digest(text) ^ mix(digest(aad)));
        let high = mix(low ^ start.rotate_left(32));
        let mut tag = [0; TAG_LEN];
        tag[..8].copy_from_slice(&low.to_le_bytes());
        tag[8..].copy_from_slice(&high.to_le_bytes());
        tag
    }

    /// Hides a text, or shows it again.
    fn flip(start: u64, text: &mut [u8]) {
        let mask = mix(start ^ MASK).to_le_bytes();
        let (words, rest) = text.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_le_bytes(*word) ^ u64::from_le_bytes(mask)).to_le_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
}

impl AeadKey for FastKey {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        let start = self.start(nonce);
        Self::flip(start, in_out);
        Self::tag(start, aad, in_out)
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        let start = self.start(nonce);
        if Self::tag(start, aad, in_out) != *tag {
            return Err(AeadError::default());
        }
        Self::flip(start, in_out);
        Ok(())
    }
}

/// Seals as another implementation does, and notes each nonce and key.
#[derive(Clone)]
pub(crate) struct Witness {
    inner: Arc<dyn Aead>,
    seen: Arc<Mutex<Seen>>,
}

/// What a witness has seen in a whole run, over all nodes and restarts.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    used: HashSet<u64, BuildHasherDefault<AsItIs>>,
    pub(crate) seals: u64,
    /// Seals with a nonce that was used with the same key before.
    pub(crate) repeated: u64,
    /// Seals with a key of zeros.
    pub(crate) zero_keys: u64,
    /// For whom keys are made.
    pub(crate) owner: u64,
    /// Keys that there are, by owner.
    keys: BTreeMap<u64, u64>,
    /// Records that were not opened.
    pub(crate) refused: u64,
}

impl Witness {
    pub(crate) fn new(inner: Arc<dyn Aead>) -> Self {
        Self { inner, seen: Arc::default() }
    }

    /// Looks at what was seen.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&mut Seen) -> T) -> T {
        at(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seen {
    /// Returns how many keys of an owner there are.
    pub(crate) fn alive(&self, owner: u64) -> u64 {
        self.keys.get(&owner).copied().unwrap_or(0)
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Aead for Witness {
    fn key(&self, key: &SharedKey) -> Box<dyn AeadKey> {
        let owner = self.look(|seen| {
            *seen.keys.entry(seen.owner).or_default() += 1;
            seen.owner
        });
        Box::new(WitnessKey {
            owner,
            inner: self.inner.key(key),
            name: digest(key.as_bytes()),
            is_zero: key.as_bytes() == &[0; 32],
            witness: self.clone(),
        })
    }
}

struct WitnessKey {
    owner: u64,
    inner: Box<dyn AeadKey>,
    /// Stands for the key.
    name: u64,
    is_zero: bool,
    witness: Witness,
}

impl Drop for WitnessKey {
    fn drop(&mut self) {
        self.witness.look(|seen| {
            if let Some(count) = seen.keys.get_mut(&self.owner) {
                *count -= 1;
                if *count == 0 {
                    seen.keys.remove(&self.owner);
                }
            }
        });
    }
}

impl AeadKey for WitnessKey {
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        self.witness.look(|seen| {
            seen.seals += 1;
            seen.zero_keys += u64::from(self.is_zero);
            seen.repeated += u64::from(!seen.used.insert(mix(self.name ^ digest(nonce))));
        });
        self.inner.seal(nonce, aad, in_out)
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        let opened = self.inner.open(nonce, aad, in_out, tag);
        if opened.is_err() {
            self.witness.look(|seen| seen.refused += 1);
        }
        opened
    }
}

/// Takes numbers that are spread already as their own hash. The set is only asked what is in it, so
/// its order is nobody's concern.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = digest(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

const MASK: u64 = 0x5851_f42d_4c95_7f2d;

#[cfg(test)]
mod tests;
