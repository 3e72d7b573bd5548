//! HMAC-SHA256 (RFC 2104) with a key as its result.

use hkdf::HkdfExtract;
use sha2::Sha256;

use super::shared_key::SharedKey;

/// HMAC-SHA256 of the parts, one behind the other, which is also HKDF-Extract with `key` as the salt.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> SharedKey {
    SharedKey::filled(|out| {
        let mut extract = HkdfExtract::<Sha256>::new(Some(key));
        for part in parts {
            extract.input_ikm(part);
        }
        out.copy_from_slice(&extract.finalize().0);
    })
}
