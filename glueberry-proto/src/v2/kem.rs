//! The post-quantum half of a hybrid key exchange (WIRE.md §6.4): ML-KEM-768 (FIPS 203), which is there
//! with the feature `ml-kem`. Without it no [`Share`] can be made, and no hybrid suite is offered.

use super::Role;
use super::violation::Violation;
use crate::crypto::SharedKey;
use crate::prelude::*;

#[cfg(feature = "ml-kem")]
use self::ml_kem as backend;
#[cfg(not(feature = "ml-kem"))]
use self::unavailable as backend;

#[cfg(feature = "ml-kem")]
mod ml_kem;
#[cfg(not(feature = "ml-kem"))]
mod unavailable;

/// True if this build has ML-KEM.
pub(crate) const IS_AVAILABLE: bool = cfg!(feature = "ml-kem");

/// What one side contributes with, wiped on drop.
#[derive(Debug)]
pub(crate) enum Share {
    /// I's: what the ciphertext is made of.
    Coins(backend::Coins),
    /// R's: what its pair of keys is made of. The keys are made when they are used, so that a session
    /// that waits for its peer holds 64 bytes.
    Seed(backend::Seed),
}

impl Share {
    /// Derives it from the key that the side's ephemeral came from. `None` if this build has no KEM.
    pub(crate) fn derive(role: Role, prk: &SharedKey) -> Option<Self> {
        match role {
            Role::Initiator => backend::Coins::derive(prk).map(Self::Coins),
            Role::Responder => backend::Seed::derive(prk).map(Self::Seed),
        }
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(role: Role, coins: &[u8], seed: &[u8]) -> Option<Self> {
        match role {
            Role::Initiator => backend::Coins::from_bytes(coins).map(Self::Coins),
            Role::Responder => backend::Seed::from_bytes(seed).map(Self::Seed),
        }
    }

    /// Returns the encapsulation key that R offers.
    pub(crate) fn encapsulation_key(&self) -> Option<Vec<u8>> {
        match self {
            Self::Coins(_) => None,
            Self::Seed(seed) => Some(seed.encapsulation_key()),
        }
    }

    /// Makes I's ciphertext for R's key, and the secret that both have then.
    pub(crate) fn encapsulate(&self, key: &[u8]) -> Result<(Vec<u8>, SharedKey), Violation> {
        match self {
            Self::Coins(coins) => coins.encapsulate(key).ok_or(Violation::BadKey),
            Self::Seed(_) => Err(Violation::BadKey),
        }
    }

    /// Returns the secret that I's ciphertext carries; another one if it was made for another key.
    pub(crate) fn decapsulate(&self, ciphertext: &[u8]) -> Result<SharedKey, Violation> {
        match self {
            Self::Coins(_) => Err(Violation::BadKey),
            Self::Seed(seed) => seed.decapsulate(ciphertext).ok_or(Violation::BadKey),
        }
    }
}
