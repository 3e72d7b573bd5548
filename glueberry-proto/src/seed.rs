//! Entropy as an argument: seeds, and the ChaCha20 generator that they feed.

use std::fmt;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Thirty-two bytes of entropy, the source of all randomness of a machine.
///
/// The same seed with the same inputs gives the same outputs (rule C11), so a seed must be fresh
/// from the operating system in production ([`Seed::from_os`], behind the feature `os-seed`), and
/// **never be used twice with one identity**: a repeated seed repeats nonces, and then the XOR of two
/// ciphertexts is that of their plaintexts. No machine can notice that: it has no memory of an earlier
/// run. There is no default on purpose, and the seed of zeros is refused, since it is what a buffer
/// holds that nobody has filled.
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
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Creates a seed from 32 bytes of entropy.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Draws a seed from the operating system.
    ///
    /// # Errors
    ///
    /// That of the operating system, which has no entropy to give.
    #[cfg(feature = "os-seed")]
    pub fn from_os() -> Result<Self, getrandom::Error> {
        let mut seed = Self([0; 32]);
        getrandom::fill(&mut seed.0)?;
        Ok(seed)
    }

    /// True if it is that of a buffer that was never filled.
    pub(crate) fn is_zero(&self) -> bool {
        self.0.ct_eq(&[0; 32]).into()
    }

    /// Derives an independent seed for one part of a machine (HKDF-Expand, RFC 5869).
    pub(crate) fn child(&self, label: &[u8], index: u64) -> Self {
        let mut bytes = [0; 32];
        let index = index.to_be_bytes();
        Hkdf::<Sha256>::from_prk(&self.0)
            .expect("32 bytes are a full-length pseudorandom key for SHA-256")
            .expand_multi_info(&[b"glueberry seed", label, &index], &mut bytes)
            .expect("32 bytes are within HKDF-SHA256's output limit");
        Self(bytes)
    }

    /// Returns the bytes, for one use.
    pub(crate) fn bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0)
    }

    /// Creates the generator that this seed feeds.
    pub(crate) fn generator(&self) -> Generator {
        Generator(ChaCha20Rng::from_seed(self.0))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The ChaCha20 generator, the only source of randomness of the core.
pub(crate) struct Generator(ChaCha20Rng);

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
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Seed::from_bytes([7; 32])), "Seed(..)");
    }
}
