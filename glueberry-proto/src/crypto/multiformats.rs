//! Conversions from and to libp2p's identities.

use libp2p_identity::{Keypair, PeerId};
use zeroize::Zeroizing;

use super::identity::{Identity, IdentityError, PublicKey, PublicKeyError};
use super::wipe::on_wiped_stack;
use crate::prelude::*;

impl From<PublicKey> for PeerId {
    fn from(key: PublicKey) -> Self {
        let mut multihash = Vec::with_capacity(38);
        multihash.extend_from_slice(&MULTIHASH_PREFIX);
        multihash.extend_from_slice(&PROTOBUF_PREFIX);
        multihash.extend_from_slice(key.as_bytes());
        Self::from_bytes(&multihash).expect("36 inlined bytes are within the limit of 42")
    }
}

impl TryFrom<&PeerId> for PublicKey {
    type Error = PublicKeyError;

    /// Takes the public key out of a peer id, and checks it as [`PublicKey::from_bytes`] does.
    fn try_from(peer: &PeerId) -> Result<Self, Self::Error> {
        let multihash = peer.as_ref();
        if multihash.code() != IDENTITY_CODE {
            return Err(PublicKeyError::NotInlined);
        }
        match *multihash.digest() {
            [0x08, 0x01, 0x12, 0x20, ref key @ ..] => Self::from_bytes(key),
            [0x08, kind, 0x12, ..] if kind != 0x01 => Err(PublicKeyError::NotEd25519),
            _ => Err(PublicKeyError::Malformed),
        }
    }
}

impl TryFrom<&Keypair> for Identity {
    type Error = IdentityError;

    fn try_from(keypair: &Keypair) -> Result<Self, Self::Error> {
        on_wiped_stack(|| {
            let keypair =
                keypair.clone().try_into_ed25519().map_err(|_| IdentityError::NotEd25519)?;
            Self::from_keypair_bytes(&*Zeroizing::new(keypair.to_bytes()))
        })
    }
}

/// Multihash code of data that is not hashed.
const IDENTITY_CODE: u64 = 0;
/// [`IDENTITY_CODE`] and the length of what follows, as varints.
const MULTIHASH_PREFIX: [u8; 2] = [0x00, 0x24];
/// Protobuf of a libp2p public key up to the key: type (field 1) Ed25519, data (field 2), 32 bytes.
const PROTOBUF_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

#[cfg(test)]
mod tests {
    use libp2p_identity::ed25519;

    use super::*;

    fn peer(multihash: &str) -> PeerId {
        PeerId::from_bytes(&hex::decode(multihash).unwrap()).unwrap()
    }

    #[test]
    fn round_trip() {
        let key = Identity::from_seed(&[3; 32]).public_key();
        assert_eq!(PublicKey::try_from(&PeerId::from(key)), Ok(key));
    }

    #[test]
    fn agrees_with_libp2p() {
        let libp2p = Keypair::ed25519_from_bytes([9; 32]).unwrap();
        let identity = Identity::try_from(&libp2p).unwrap();
        assert_eq!(identity.public_key(), Identity::from_seed(&[9; 32]).public_key());
        assert_eq!(PeerId::from(identity.public_key()), libp2p.public().to_peer_id());
        let key = ed25519::PublicKey::try_from_bytes(identity.public_key().as_bytes());
        assert_eq!(key.unwrap().to_bytes(), *identity.public_key().as_bytes());
    }

    #[test]
    fn hashed_key_is_refused() {
        let hashed = peer(&format!("1220{}", "ab".repeat(32)));
        assert_eq!(PublicKey::try_from(&hashed), Err(PublicKeyError::NotInlined));
    }

    #[test]
    fn other_kinds_are_refused() {
        // Secp256k1, 33 bytes.
        let other = peer(&format!("002508021221{}", "02".repeat(33)));
        assert_eq!(PublicKey::try_from(&other), Err(PublicKeyError::NotEd25519));
    }

    #[test]
    fn malformed_keys_are_refused() {
        for multihash in ["0000", "000108", "00020801", "00030801ff", "000412000801"] {
            assert_eq!(PublicKey::try_from(&peer(multihash)), Err(PublicKeyError::Malformed));
        }
        let short = peer(&format!("002308011220{}", "02".repeat(31)));
        let error = PublicKeyError::Length { got: 31 };
        assert_eq!(PublicKey::try_from(&short), Err(error));
    }

    #[test]
    fn weak_keys_are_refused() {
        let weak = peer(&format!("00240801122001{}", "00".repeat(31)));
        let error = PublicKeyError::SmallOrder;
        assert_eq!(PublicKey::try_from(&weak), Err(error));
    }
}
