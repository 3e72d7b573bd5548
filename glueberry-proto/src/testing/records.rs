//! Records of a peer, against every implementation of the cipher.

use std::sync::Arc;

use super::script::Script;
use crate::compat::{Cipher, MIN_RECORD_LEN};
use crate::crypto::{Aead, NONCE_LEN, RustCrypto, SharedKey, TAG_LEN, default_aead};
use crate::error::RecordError;

/// Opens bytes as a record under a fixed key, then under a key taken from them; seals them; alters
/// the sealed record.
///
/// All implementations must agree on every result.
pub fn fuzz_open_record(data: &[u8]) {
    let fixed = SharedKey::from_bytes(&[0x5a; 32]).expect("32 bytes");
    assert!(opened(&fixed, data, b"").is_err(), "a record without its key");

    let mut script = Script::new(data);
    let bytes = script.take(32);
    let key = match SharedKey::from_bytes(bytes) {
        Ok(key) => key,
        Err(error) => {
            assert_eq!(error.got, bytes.len());
            assert_eq!(Cipher::new(bytes).err(), Some(error));
            return;
        }
    };
    let (spoilt, aad_len) = (script.number(), script.number());
    let aad = script.take(aad_len);
    let record = script.rest();
    let first = opened(&key, record, aad);
    if record.len() < MIN_RECORD_LEN {
        assert_eq!(first, Err(RecordError::TooShort { got: record.len() }));
    }
    if let (Ok(plaintext), Some(nonce)) = (first, record.first_chunk()) {
        assert_eq!(Cipher::from_key(&key).encrypt(&plaintext, aad, nonce), record);
    }
    seal_and_spoil(&key, record, aad, spoilt);
}

/// Opens a record with every implementation.
fn opened(key: &SharedKey, record: &[u8], aad: &[u8]) -> Result<Vec<u8>, RecordError> {
    let result = Cipher::from_key(key).decrypt(record, aad);
    let parts = record.split_first_chunk::<NONCE_LEN>().and_then(|(nonce, sealed)| {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
        Some((nonce, ciphertext, tag))
    });
    let Some((nonce, ciphertext, tag)) = parts else {
        assert_eq!(result, Err(RecordError::TooShort { got: record.len() }));
        return result;
    };
    for aead in implementations() {
        let mut text = ciphertext.to_vec();
        let opened = aead.key(key).open(nonce, aad, &mut text, tag);
        let opened = opened.map(|()| text).map_err(|_| RecordError::Authentication);
        assert_eq!(opened, result, "{aead:?}");
    }
    result
}

fn seal_and_spoil(key: &SharedKey, data: &[u8], aad: &[u8], spoilt: usize) {
    let Some((nonce, plaintext)) = data.split_first_chunk::<NONCE_LEN>() else {
        return;
    };
    let cipher = Cipher::from_key(key);
    let mut record = cipher.encrypt(plaintext, aad, nonce);
    assert_eq!(record.len(), plaintext.len() + MIN_RECORD_LEN);
    for aead in implementations() {
        let mut text = plaintext.to_vec();
        let tag = aead.key(key).seal(nonce, aad, &mut text);
        assert_eq!([&nonce[..], &text, &tag].concat(), record, "{aead:?}");
    }
    assert_eq!(opened(key, &record, aad).as_deref(), Ok(plaintext));

    let at = spoilt % record.len();
    record[at] ^= 1 << (spoilt % 8);
    assert_eq!(opened(key, &record, aad), Err(RecordError::Authentication));
}

fn implementations() -> Vec<Arc<dyn Aead>> {
    vec![
        Arc::new(RustCrypto),
        #[cfg(feature = "aws-lc-rs")]
        Arc::new(crate::crypto::AwsLc),
        default_aead(),
    ]
}
