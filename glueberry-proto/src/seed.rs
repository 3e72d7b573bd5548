//! Entropy as an argument: seeds, and the ChaCha20 generator that they feed.

use core::fmt;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::on_wiped_stack;
use crate::prelude::*;

/// Thirty-two bytes of entropy, the source of all randomness of a machine.
///
/// The same seed with the same inputs gives the same outputs (rule C11), so a seed must be fresh
/// from the operating system in production (`Seed::from_os`, behind the feature `os-seed`), and
/// **never be used twice with one identity**: a repeated seed repeats nonces, and then the XOR of two
/// ciphertexts is that of their plaintexts. No machine can notice that: it has no memory of an earlier
/// run. There is no default on purpose, and the seed of zeros is refused, since it is what a buffer
/// holds that was never filled.
///
/// The bytes are zeroized on drop and never printed.
///
/// ```
/// use glueberry_proto::Seed;
///
/// // In a test; in production the bytes come from the operating system, and are used once.
/// let seed = Seed::from_bytes([7; 32]);
/// assert!(!format!("{seed:?}").contains('7'), "a seed is never shown");
/// ```
// Boxed so that moving a seed leaves no copy behind.
pub struct Seed(Box<Zeroizing<[u8; 32]>>);

impl Seed {
    /// Creates a seed from 32 bytes of entropy. The caller wipes its own copy.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let seed = Self::filled(|seed| seed.copy_from_slice(&bytes));
        bytes.zeroize();
        seed
    }

    /// Draws a seed from the operating system.
    ///
    /// # Errors
    ///
    /// That of the operating system, which has no entropy to give.
    #[cfg(feature = "os-seed")]
    pub fn from_os() -> Result<Self, getrandom::Error> {
        let mut seed = Self::filled(|_| {});
        getrandom::fill(seed.0.as_mut_slice())?;
        Ok(seed)
    }

    /// True if it is that of a buffer that was never filled.
    pub(crate) fn is_zero(&self) -> bool {
        self.0.ct_eq([0; 32].as_slice()).into()
    }

    /// Derives an independent seed for one part of a machine (HKDF-Expand, RFC 5869).
    pub(crate) fn child(&self, label: &[u8], index: u64) -> Self {
        let index = index.to_be_bytes();
        Self::filled(|bytes| {
            Hkdf::<Sha256>::from_prk(self.0.as_slice())
                .expect("32 bytes are a full-length pseudorandom key for SHA-256")
                .expand_multi_info(&[b"glueberry seed", label, &index], bytes)
                .expect("32 bytes are within HKDF-SHA256's output limit");
        })
    }

    /// Replaces it with one that also depends on `entropy` (HKDF-Extract, RFC 5869): a party that
    /// knows only one of the two does not know the result.
    pub(crate) fn mix(&mut self, entropy: &[u8; 32]) {
        let mixed = Self::filled(|bytes| {
            let (prk, _) = Hkdf::<Sha256>::extract(Some(self.0.as_slice()), entropy);
            bytes.copy_from_slice(&prk);
        });
        *self = mixed;
    }

    /// Returns the bytes, for one use.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Creates the generator that this seed feeds.
    pub(crate) fn generator(&self) -> Generator {
        on_wiped_stack(|| Generator(Box::new(ChaCha20Rng::from_seed(**self.0))))
    }

    /// Writes the bytes where they stay.
    fn filled(fill: impl FnOnce(&mut [u8; 32])) -> Self {
        let mut bytes = Box::new(Zeroizing::new([0; 32]));
        on_wiped_stack(|| fill(&mut bytes));
        Self(bytes)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The ChaCha20 generator, the only source of randomness of the core.
// Boxed so that moving it leaves no copy of its key behind.
pub(crate) struct Generator(Box<ChaCha20Rng>);

impl Generator {
    /// Draws a 96-bit nonce.
    pub(crate) fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        self.0.fill_bytes(&mut nonce);
        nonce
    }

    /// Draws 32 bits.
    pub(crate) fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Generator(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_children_differ() {
        let draw = |seed: &Seed| seed.generator().nonce();
        let seed = Seed::from_bytes([7; 32]);
        assert_eq!(draw(&seed), draw(&Seed::from_bytes([7; 32])));
        assert_ne!(draw(&seed.child(b"a", 0)), draw(&seed.child(b"a", 1)));
        assert_ne!(draw(&seed.child(b"a", 0)), draw(&seed.child(b"b", 0)));
        assert_eq!(draw(&seed.child(b"a", 0)), draw(&seed.child(b"a", 0)));
    }

    #[test]
    fn what_is_mixed_in_changes_every_child_and_is_not_undone() {
        let mixed = |entropy: &[[u8; 32]]| {
            let mut seed = Seed::from_bytes([7; 32]);
            entropy.iter().for_each(|one| seed.mix(one));
            *seed.child(b"a", 0).bytes()
        };
        let all = [mixed(&[]), mixed(&[[1; 32]]), mixed(&[[2; 32]]), mixed(&[[1; 32], [1; 32]])];
        let different = all.iter().collect::<alloc::collections::BTreeSet<_>>();
        assert_eq!(different.len(), all.len());
        assert_eq!(mixed(&[[1; 32]]), all[1]);
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Seed::from_bytes([7; 32])), "Seed(..)");
    }
}
