//! Cipher suites and their ranking (WIRE.md §6.3).

use core::fmt;

use super::kem;
use crate::crypto::{Aead, AeadError, AeadKey, NONCE_LEN, SharedKey, TAG_LEN};
use crate::prelude::*;

/// A cipher suite of v2: what seals records, and whether the key exchange is hybrid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Suite {
    /// ChaCha20-Poly1305 (RFC 8439). Every implementation has it.
    #[cfg_attr(feature = "serde", serde(rename = "chacha20-poly1305"))]
    ChaCha20Poly1305,
    /// AES-256-GCM (NIST SP 800-38D). Only for processors with instructions for it.
    #[cfg_attr(feature = "serde", serde(rename = "aes-256-gcm"))]
    Aes256Gcm,
    /// ChaCha20-Poly1305, with ML-KEM-768 in the key exchange.
    #[cfg_attr(feature = "serde", serde(rename = "ml-kem-768-chacha20-poly1305"))]
    MlKem768ChaCha20Poly1305,
    /// AES-256-GCM, with ML-KEM-768 in the key exchange.
    #[cfg_attr(feature = "serde", serde(rename = "ml-kem-768-aes-256-gcm"))]
    MlKem768Aes256Gcm,
}

impl Suite {
    /// Every suite, the best first.
    pub const RANKED: [Self; 4] = [
        Self::MlKem768Aes256Gcm,
        Self::MlKem768ChaCha20Poly1305,
        Self::Aes256Gcm,
        Self::ChaCha20Poly1305,
    ];

    /// Returns the number that goes on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::ChaCha20Poly1305 => 0x0001,
            Self::Aes256Gcm => 0x0002,
            Self::MlKem768ChaCha20Poly1305 => 0x0101,
            Self::MlKem768Aes256Gcm => 0x0102,
        }
    }

    /// True if the session's secret also depends on ML-KEM-768, and so stays secret from a quantum
    /// computer.
    #[must_use]
    pub const fn is_post_quantum(self) -> bool {
        match self {
            Self::ChaCha20Poly1305 | Self::Aes256Gcm => false,
            Self::MlKem768ChaCha20Poly1305 | Self::MlKem768Aes256Gcm => true,
        }
    }

    /// Returns the best suite that is among both.
    pub(crate) fn choose(ours: &[Self], theirs: &[u16]) -> Option<Self> {
        Self::RANKED.into_iter().find(|it| ours.contains(it) && theirs.contains(&it.code()))
    }

    /// Makes a key of the suite's cipher.
    pub(crate) fn key(self, aead: &dyn Aead, key: &SharedKey) -> Box<dyn AeadKey> {
        match self {
            Self::ChaCha20Poly1305 | Self::MlKem768ChaCha20Poly1305 => aead.key(key),
            // It is offered only by implementations that have it. One that has no memory for the key
            // seals nothing that opens, and opens nothing: the session ends.
            Self::Aes256Gcm | Self::MlKem768Aes256Gcm => {
                aead.aes_256_gcm(key).unwrap_or_else(|| Box::new(NoKey))
            }
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::MlKem768ChaCha20Poly1305 => "ml-kem-768 with chacha20-poly1305",
            Self::MlKem768Aes256Gcm => "ml-kem-768 with aes-256-gcm",
        })
    }
}

/// Returns those of the `allowed` suites that this side offers, the best first. AES only where the
/// processor has instructions for it: in software it leaks by its timing, or is slow.
pub(crate) fn offered(
    aead: &dyn Aead,
    has_aes_instructions: bool,
    allowed: &[Suite],
) -> Vec<Suite> {
    let probe = SharedKey::filled(|_| {});
    let has_aes = has_aes_instructions && aead.aes_256_gcm(&probe).is_some();
    let is_offered = |suite: &Suite| match suite {
        Suite::ChaCha20Poly1305 => true,
        Suite::Aes256Gcm => has_aes,
        Suite::MlKem768ChaCha20Poly1305 => kem::IS_AVAILABLE,
        Suite::MlKem768Aes256Gcm => kem::IS_AVAILABLE && has_aes,
    };
    let is_allowed = |suite: &Suite| allowed.contains(suite);
    Suite::RANKED.into_iter().filter(is_allowed).filter(is_offered).collect()
}

/// Stands for a key that could not be made.
struct NoKey;

impl AeadKey for NoKey {
    fn seal(&self, _: &[u8; NONCE_LEN], _: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        in_out.fill(0);
        [0; TAG_LEN]
    }

    fn open(
        &self,
        _: &[u8; NONCE_LEN],
        _: &[u8],
        _: &mut [u8],
        _: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        Err(AeadError)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::RustCrypto;

    #[test]
    fn the_best_common_suite_is_chosen_whatever_the_order() {
        use Suite::{Aes256Gcm, ChaCha20Poly1305};
        assert_eq!(Suite::choose(&[ChaCha20Poly1305, Aes256Gcm], &[1, 2]), Some(Aes256Gcm));
        assert_eq!(Suite::choose(&[Aes256Gcm, ChaCha20Poly1305], &[2, 1]), Some(Aes256Gcm));
        assert_eq!(Suite::choose(&[ChaCha20Poly1305], &[2, 0xfade, 1, 1]), Some(ChaCha20Poly1305));
        assert_eq!(Suite::choose(&[ChaCha20Poly1305], &[2]), None);
    }

    #[test]
    fn chacha_is_always_offered_and_aes_only_with_hardware() {
        let all = Suite::RANKED;
        let software = offered(&RustCrypto, false, &all);
        let hybrid = kem::IS_AVAILABLE.then_some(Suite::MlKem768ChaCha20Poly1305);
        assert!(
            software.iter().eq(hybrid.iter().chain([&Suite::ChaCha20Poly1305])),
            "{software:?}"
        );
        let with_hardware = offered(&RustCrypto, true, &all);
        assert_eq!(
            with_hardware.len(),
            software.len() * (1 + usize::from(cfg!(feature = "aes-gcm")))
        );
        assert_eq!(with_hardware.contains(&Suite::Aes256Gcm), cfg!(feature = "aes-gcm"));
        assert!(with_hardware.contains(&Suite::ChaCha20Poly1305));
        // Each alone.
        for suite in all {
            let alone = offered(&RustCrypto, true, &[suite]);
            assert_eq!(
                alone,
                if with_hardware.contains(&suite) { vec![suite] } else { Vec::new() }
            );
        }
    }

    proptest! {
        #[test]
        fn both_sides_choose_the_same(ours: [bool; 4], theirs: [bool; 4]) {
            let picked = |which: [bool; 4]| -> Vec<Suite> {
                Suite::RANKED.into_iter().zip(which).filter(|(_, it)| *it).map(|(it, _)| it).collect()
            };
            let codes = |suites: &[Suite]| suites.iter().rev().map(|it| it.code()).collect::<Vec<_>>();
            let (ours, theirs) = (picked(ours), picked(theirs));
            prop_assert_eq!(
                Suite::choose(&ours, &codes(&theirs)),
                Suite::choose(&theirs, &codes(&ours))
            );
        }
    }
}
