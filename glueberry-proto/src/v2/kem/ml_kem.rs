//! ML-KEM-768 by the crate of that name.

use core::fmt;

use ml_kem::{Decapsulate, DecapsulationKey, EncapsulationKey, KeyExport, MlKem768};
use zeroize::Zeroizing;

use crate::crypto::{SharedKey, on_wiped_deep_stack};
use crate::prelude::*;
use crate::v2::schedule::{derive, expand};

#[derive(Debug)]
pub(crate) struct Coins(SharedKey);

impl Coins {
    pub(super) fn derive(prk: &SharedKey) -> Option<Self> {
        Some(Self(derive(prk.as_bytes(), "ml-kem-768 encaps", &[])))
    }

    #[cfg(test)]
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        SharedKey::from_bytes(bytes).ok().map(Self)
    }

    /// Returns `None` for a key that FIPS 203 §7.2 refuses: of another length, or with a number above
    /// the modulus.
    pub(super) fn encapsulate(&self, key: &[u8]) -> Option<(Vec<u8>, SharedKey)> {
        let key = EncapsulationKey::<MlKem768>::new(key.try_into().ok()?).ok()?;
        on_wiped_deep_stack(|| {
            let (ciphertext, secret) = key.encapsulate_deterministic(self.0.as_bytes().into());
            let secret = Zeroizing::new(secret);
            Some((ciphertext.to_vec(), SharedKey::from_bytes(secret.as_slice()).ok()?))
        })
    }
}

/// d ‖ z of FIPS 203. Boxed so that moving it leaves no copy behind.
pub(crate) struct Seed(Box<Zeroizing<[u8; 64]>>);

impl Seed {
    pub(super) fn derive(prk: &SharedKey) -> Option<Self> {
        let mut seed = Self(Box::new(Zeroizing::new([0; 64])));
        expand(prk.as_bytes(), "ml-kem-768 keygen", &[], &mut **seed.0);
        Some(seed)
    }

    #[cfg(test)]
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Box::new(Zeroizing::new(bytes.try_into().ok()?))))
    }

    pub(super) fn encapsulation_key(&self) -> Vec<u8> {
        on_wiped_deep_stack(|| self.key().encapsulation_key().to_bytes().to_vec())
    }

    /// Returns `None` for a ciphertext of another length.
    pub(super) fn decapsulate(&self, ciphertext: &[u8]) -> Option<SharedKey> {
        on_wiped_deep_stack(|| {
            let secret = Zeroizing::new(self.key().decapsulate(ciphertext.try_into().ok()?));
            SharedKey::from_bytes(secret.as_slice()).ok()
        })
    }

    fn key(&self) -> DecapsulationKey<MlKem768> {
        DecapsulationKey::from_seed((**self.0).into())
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed").finish_non_exhaustive()
    }
}
