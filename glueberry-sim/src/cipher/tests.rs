//! One suite, run against the fast cipher and the real one: they refuse the same.

use std::sync::Arc;

use glueberry_proto::crypto::{Aead, NONCE_LEN, SharedKey, default_aead};

use super::{FastAead, Witness};

const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];

fn implementations() -> [(&'static str, Arc<dyn Aead>); 3] {
    let fast: Arc<dyn Aead> = Arc::new(FastAead);
    [("fast", fast.clone()), ("real", default_aead()), ("witnessed", Arc::new(Witness::new(fast)))]
}

fn key(byte: u8) -> SharedKey {
    SharedKey::from_bytes(&[byte; 32]).unwrap()
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn what_was_sealed_opens() {
    for (name, aead) in implementations() {
        for len in [0, 1, 7, 8, 9, 64, 1000] {
            let mut sealed = text(len);
            let tag = aead.key(&key(1)).seal(&NONCE, b"aad", &mut sealed);
            assert!(len < 8 || sealed != text(len), "{name}: the text can be read");
            aead.key(&key(1)).open(&NONCE, b"aad", &mut sealed, &tag).unwrap();
            assert_eq!(sealed, text(len), "{name}, {len} bytes");
        }
    }
}

#[test]
fn sealing_is_a_function_of_all_that_goes_in() {
    for (name, aead) in implementations() {
        let seal = |secret, nonce: &[u8; NONCE_LEN], aad: &[u8], message: &[u8]| {
            let mut sealed = message.to_vec();
            let tag = aead.key(&key(secret)).seal(nonce, aad, &mut sealed);
            (sealed, tag)
        };
        let one = seal(1, &NONCE, b"", b"message");
        assert_eq!(one, seal(1, &NONCE, b"", b"message"), "{name}");
        for other in [
            seal(2, &NONCE, b"", b"message"),
            seal(1, &[8; NONCE_LEN], b"", b"message"),
            seal(1, &NONCE, b"a", b"message"),
            seal(1, &NONCE, b"", b"massage"),
        ] {
            assert_ne!(one.1, other.1, "{name}");
        }
    }
}

#[test]
fn another_key_nonce_or_data_is_refused() {
    for (name, aead) in implementations() {
        let mut sealed = text(100);
        let tag = aead.key(&key(1)).seal(&NONCE, b"aad", &mut sealed);
        let refuses = |secret, nonce: &[u8; NONCE_LEN], aad: &[u8]| {
            aead.key(&key(secret)).open(nonce, aad, &mut sealed.clone(), &tag).is_err()
        };
        assert!(!refuses(1, &NONCE, b"aad"), "{name}");
        assert!(refuses(2, &NONCE, b"aad"), "{name}: another key");
        assert!(refuses(1, &NONCE, b"aae"), "{name}: other data");
        assert!(refuses(1, &NONCE, b""), "{name}: no data");
        for at in 0..NONCE_LEN {
            let mut nonce = NONCE;
            nonce[at] ^= 1;
            assert!(refuses(1, &nonce, b"aad"), "{name}: nonce, byte {at}");
        }
    }
}

#[test]
fn every_flipped_bit_and_every_truncation_is_refused() {
    for (name, aead) in implementations() {
        let mut sealed = text(40);
        let tag = aead.key(&key(1)).seal(&NONCE, b"", &mut sealed);
        let opens = |text: &[u8], tag: &[u8; 16]| {
            aead.key(&key(1)).open(&NONCE, b"", &mut text.to_vec(), tag).is_ok()
        };
        assert!(opens(&sealed, &tag), "{name}");
        for bit in 0..sealed.len() * 8 {
            let mut spoiled = sealed.clone();
            spoiled[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&spoiled, &tag), "{name}: bit {bit}");
        }
        for bit in 0..tag.len() * 8 {
            let mut spoiled = tag;
            spoiled[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&sealed, &spoiled), "{name}: tag, bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(!opens(&sealed[..len], &tag), "{name}: {len} bytes");
        }
        let mut longer = sealed.clone();
        longer.push(0);
        assert!(!opens(&longer, &tag), "{name}: longer");
        sealed.swap(0, 8);
        assert!(!opens(&sealed, &tag), "{name}: swapped");
    }
}

#[test]
fn the_witness_sees_a_nonce_that_is_used_twice_and_a_key_of_zeros() {
    let witness = Witness::new(Arc::new(FastAead));
    let seal = |secret, nonce| witness.key(&key(secret)).seal(&[nonce; NONCE_LEN], b"", &mut [1]);
    let seen = || witness.look(|seen| (seen.seals, seen.repeated, seen.zero_keys));
    seal(1, 1);
    seal(1, 2);
    seal(2, 1);
    assert_eq!(seen(), (3, 0, 0));
    seal(1, 1);
    assert_eq!(seen(), (4, 1, 0));
    seal(0, 1);
    assert_eq!(seen(), (5, 1, 1));
}
