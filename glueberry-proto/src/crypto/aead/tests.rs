//! What every implementation has to do, over every implementation there is.

use proptest::prelude::*;

use super::*;

fn every() -> Vec<Arc<dyn Aead>> {
    vec![
        Arc::new(RustCrypto),
        #[cfg(feature = "aws-lc-rs")]
        Arc::new(aws_lc::AwsLc),
        default_aead(),
    ]
}

fn key(aead: &dyn Aead, byte: u8) -> Box<dyn AeadKey> {
    aead.key(&SharedKey::from_bytes(&[byte; 32]).unwrap())
}

fn pattern(len: usize) -> Vec<u8> {
    (1..=251).cycle().take(len).collect()
}

const NONCE: [u8; NONCE_LEN] = [9; NONCE_LEN];
const AAD: &[u8] = b"additional";
const SIZES: [usize; 14] = [0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 1023, 1024, 16_384, 65_537];

/// RFC 8439 §2.8.2.
#[test]
fn test_vector_of_the_rfc() {
    let plaintext: &[u8] = b"Ladies and Gentlemen of the class of '99: If I could offer you \
        only one tip for the future, sunscreen would be it.";
    let secret: Vec<u8> = (0x80..0xa0).collect();
    let nonce = [7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
    let aad = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
    for aead in every() {
        let key = aead.key(&SharedKey::from_bytes(&secret).unwrap());
        let mut text = plaintext.to_vec();
        let tag = key.seal(&nonce, &aad, &mut text);
        assert_eq!(hex::encode(&text[..8]), "d31a8d34648e60db");
        assert_eq!(hex::encode(tag), "1ae10b594f09e26a7e902ecbd0600691");
        key.open(&nonce, &aad, &mut text, &tag).unwrap();
        assert_eq!(text, plaintext);
    }
}

#[test]
fn every_size_round_trips_and_all_agree() {
    for size in SIZES {
        let mut sealed = Vec::new();
        for aead in every() {
            let key = key(&*aead, 1);
            let mut text = pattern(size);
            let tag = key.seal(&NONCE, AAD, &mut text);
            sealed.push((text.clone(), tag));
            let mut elsewhere = vec![0; size];
            key.open_into(&NONCE, AAD, &text, &tag, &mut elsewhere).unwrap();
            assert_eq!(elsewhere, pattern(size));
            for other in [size + 1, size.saturating_sub(1)] {
                let mut elsewhere = vec![0; other];
                let opened = key.open_into(&NONCE, AAD, &text, &tag, &mut elsewhere);
                assert_eq!(opened.is_ok(), other == size);
            }
            key.open(&NONCE, AAD, &mut text, &tag).unwrap();
            assert_eq!(text, pattern(size));
        }
        sealed.dedup();
        assert_eq!(sealed.len(), 1);
    }
}

/// Short texts and long ones are sealed by different code.
#[test]
fn every_length_is_sealed_as_by_the_crate() {
    let secret = [1; 32];
    let reference = RustCryptoKey(ChaCha20Poly1305::new((&secret).into()));
    let key = RustCrypto.key(&SharedKey::from_bytes(&secret).unwrap());
    for len in (0..1100).chain(4090..4200) {
        let aad = &pattern(len)[..len % 40];
        let (mut text, mut expected) = (pattern(len), pattern(len));
        let tag = key.seal(&NONCE, aad, &mut text);
        assert_eq!(tag, reference.seal(&NONCE, aad, &mut expected), "{len} bytes");
        assert_eq!(text, expected, "{len} bytes");
        key.open(&NONCE, aad, &mut text, &tag).unwrap();
        assert_eq!(text, pattern(len));
    }
}

#[test]
fn one_seals_what_the_other_opens() {
    for sealing in every() {
        for opening in every() {
            let mut text = pattern(100);
            let tag = key(&*sealing, 1).seal(&NONCE, AAD, &mut text);
            key(&*opening, 1).open(&NONCE, AAD, &mut text, &tag).unwrap();
            assert_eq!(text, pattern(100));
        }
    }
}

#[test]
fn every_altered_bit_is_noticed() {
    for aead in every() {
        let key = key(&*aead, 1);
        let mut sealed = pattern(70);
        let tag = key.seal(&NONCE, AAD, &mut sealed);
        let refused = |nonce: &[u8; 12], aad: &[u8], text: &[u8], tag: &[u8; 16]| {
            let mut opened = text.to_vec();
            assert_eq!(key.open(nonce, aad, &mut opened, tag), Err(AeadError));
            assert!(text.is_empty() || opened != pattern(text.len()));
            let mut opened = vec![0; text.len()];
            assert_eq!(key.open_into(nonce, aad, text, tag, &mut opened), Err(AeadError));
            assert!(text.is_empty() || opened != pattern(text.len()));
        };
        for bit in 0..8 * sealed.len() {
            refused(&NONCE, AAD, &flipped(&sealed, bit), &tag);
        }
        for bit in 0..8 * TAG_LEN {
            refused(&NONCE, AAD, &sealed, &flipped(&tag, bit).try_into().unwrap());
        }
        for bit in 0..8 * NONCE_LEN {
            refused(&flipped(&NONCE, bit).try_into().unwrap(), AAD, &sealed, &tag);
        }
        for bit in 0..8 * AAD.len() {
            refused(&NONCE, &flipped(AAD, bit), &sealed, &tag);
        }
        refused(&NONCE, b"", &sealed, &tag);
        for len in 0..sealed.len() {
            refused(&NONCE, AAD, &sealed[..len], &tag);
        }
    }
}

#[test]
fn another_key_is_refused() {
    for aead in every() {
        let mut text = pattern(20);
        let tag = key(&*aead, 1).seal(&NONCE, AAD, &mut text);
        assert_eq!(key(&*aead, 2).open(&NONCE, AAD, &mut text, &tag), Err(AeadError));
    }
}

#[test]
fn empty_texts_have_a_tag_of_their_own() {
    for aead in every() {
        let key = key(&*aead, 1);
        let tag = key.seal(&NONCE, b"", &mut []);
        assert_ne!(tag, [0; TAG_LEN]);
        assert_eq!(key.open(&NONCE, b"", &mut [], &tag), Ok(()));
        assert_eq!(key.open(&NONCE, b"", &mut [], &[0; TAG_LEN]), Err(AeadError));
        assert_eq!(key.open(&NONCE, b"", &mut [0], &tag), Err(AeadError));
    }
}

#[test]
fn what_stands_for_an_unsealed_text_holds_nothing_of_it() {
    let mut text = pattern(50);
    let tag = unsealed(&mut text);
    assert_eq!(text, [0; 50]);
    for aead in every() {
        assert_eq!(key(&*aead, 1).open(&NONCE, b"", &mut text, &tag), Err(AeadError));
    }
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

proptest! {
    #[test]
    fn round_trip(secret: [u8; 32], nonce: [u8; 12], aad: Vec<u8>, text: Vec<u8>) {
        let secret = SharedKey::from_bytes(&secret).unwrap();
        for aead in every() {
            let key = aead.key(&secret);
            let mut in_out = text.clone();
            let tag = key.seal(&nonce, &aad, &mut in_out);
            prop_assert_eq!(key.open(&nonce, &aad, &mut in_out, &tag), Ok(()));
            prop_assert_eq!(&in_out, &text);
        }
    }
}
