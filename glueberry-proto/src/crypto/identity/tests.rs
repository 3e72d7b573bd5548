use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use proptest::prelude::*;

use super::*;

fn compressed(point: EdwardsPoint) -> [u8; 32] {
    point.compress().to_bytes()
}

fn key_point(key: &PublicKey) -> EdwardsPoint {
    CompressedEdwardsY(*key.as_bytes()).decompress().unwrap()
}

#[test]
fn base_point_is_a_key() {
    let bytes = compressed(ED25519_BASEPOINT_POINT);
    assert_eq!(PublicKey::from_bytes(&bytes).map(|key| *key.as_bytes()), Ok(bytes));
}

#[test]
fn wrong_lengths() {
    for got in [0, 31, 33, 64] {
        assert_eq!(PublicKey::from_bytes(&vec![1; got]), Err(PublicKeyError::Length { got }));
    }
}

#[test]
fn every_point_of_small_order_is_refused() {
    for point in EIGHT_TORSION {
        let error = PublicKey::from_bytes(&compressed(point));
        assert_eq!(error, Err(PublicKeyError::SmallOrder));
    }
}

#[test]
fn every_mixed_order_is_refused() {
    let mut agreed = Vec::new();
    for torsion in EIGHT_TORSION.iter().skip(1) {
        let mixed = compressed(ED25519_BASEPOINT_POINT + torsion);
        assert_eq!(PublicKey::from_bytes(&mixed), Err(PublicKeyError::MixedOrder));
        // Why it matters: each of them agrees on the key of the base point.
        let public = crate::compat::ed25519_public_to_x25519(&mixed).unwrap();
        agreed.push(crate::compat::x25519(&[77; 32], &public).unwrap());
    }
    agreed.dedup();
    assert_eq!(agreed.len(), 1);
}

#[test]
fn second_encodings_are_refused() {
    // y = p + 3, and x = 0 with the sign bit.
    let mut y = [0xff; 32];
    (y[0], y[31]) = (0xf0, 0x7f);
    assert_eq!(PublicKey::from_bytes(&y), Err(PublicKeyError::NotCanonical));
    let mut neutral = [0; 32];
    (neutral[0], neutral[31]) = (1, 0x80);
    assert_eq!(PublicKey::from_bytes(&neutral), Err(PublicKeyError::NotCanonical));
}

#[test]
fn off_the_curve() {
    let mut y = [0; 32];
    y[0] = 2;
    assert_eq!(PublicKey::from_bytes(&y), Err(PublicKeyError::NotOnCurve));
}

#[test]
fn printed_as_hex() {
    let key = Identity::from_seed(&[1; 32]).public_key();
    let hex = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
    assert_eq!(key.to_string(), hex);
    assert_eq!(format!("{key:?}"), "PublicKey(8a88e3dd…)");
}

#[test]
fn nothing_secret_is_printed() {
    let identity = Identity::from_seed(&[1; 32]);
    assert_eq!(format!("{identity:?}"), "Identity { public: PublicKey(8a88e3dd…), .. }");
}

#[test]
fn key_pairs_are_checked() {
    let identity = Identity::from_seed(&[1; 32]);
    let mut bytes = [1; 64];
    bytes[32..].copy_from_slice(identity.public_key().as_bytes());
    let read = Identity::from_keypair_bytes(&bytes).unwrap();
    assert_eq!(read.public_key(), identity.public_key());
    assert_eq!(read.x25519_private(), identity.x25519_private());
    for index in 0..64 {
        let mut altered = bytes;
        altered[index] ^= 1;
        let error = Identity::from_keypair_bytes(&altered).err();
        assert_eq!(error, Some(IdentityError::PublicKeyMismatch));
    }
    for got in [0, 32, 63, 65] {
        let error = Identity::from_keypair_bytes(&vec![1; got]).err();
        assert_eq!(error, Some(IdentityError::Length { got }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn own_keys_are_accepted_and_convert_alike(seed: [u8; 32]) {
        let identity = Identity::from_seed(&seed);
        let public = identity.public_key();
        prop_assert_eq!(PublicKey::from_bytes(public.as_bytes()), Ok(public));
        let converted = crate::compat::x25519_public(&identity.x25519_private());
        prop_assert_eq!(converted, public.to_x25519());
    }

    #[test]
    fn orders_are_told_apart_as_the_library_does(seed: [u8; 32], torsion in 0..8_usize) {
        let key = Identity::from_seed(&seed).public_key();
        let point = key_point(&key) + EIGHT_TORSION[torsion];
        prop_assert_eq!(is_torsion_free(&point), point.is_torsion_free());
    }

    #[test]
    fn keys_of_one_coordinate_have_one_key_of_x25519(seed: [u8; 32], other: [u8; 32]) {
        let key = Identity::from_seed(&seed).public_key();
        let negated = PublicKey::from_bytes(&compressed(-key_point(&key))).unwrap();
        for other in [key, negated, Identity::from_seed(&other).public_key()] {
            let is_alike = key.to_x25519() == other.to_x25519();
            prop_assert_eq!(key.shares_x25519_with(&other), is_alike);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: [u8; 32]) {
        if let Ok(key) = PublicKey::from_bytes(&bytes) {
            prop_assert_eq!(key.as_bytes(), &bytes);
            let _ = key.to_x25519();
        }
    }
}
