//! Values below a session: keys of peers, names of substreams, a whole epoch.

use bytes::BytesMut;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{bytes, list, text};
use crate::crypto::{AgreementError, Identity, PublicKey, PublicKeyError, RustCrypto, SharedKey};
use crate::v2::record::{Cipher, Kind, Opener, Sealer};
use crate::v2::{Padding, Suite, Violation};
use crate::wire::{Answer, PreambleError, Proposal, emit_proposal, parse_answer, parse_proposal};
use crate::{Instant, Profile, StreamName};

/// Returns the number of the rule of WIRE.md §2 that a key breaks.
fn broken_rule(own: &Identity, key: &[u8]) -> Result<[u8; 32], u64> {
    let key = PublicKey::from_bytes(key).map_err(|error| match error {
        PublicKeyError::Length { .. } => 1_u64,
        PublicKeyError::NotOnCurve => 2,
        PublicKeyError::NotCanonical => 3,
        PublicKeyError::SmallOrder => 4,
        PublicKeyError::MixedOrder => 5,
        other => panic!("{other}"),
    })?;
    match own.check_is_other(&key) {
        Ok(()) => Ok(key.to_x25519()),
        Err(AgreementError::OwnKey) => Err(6),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn identities() {
    let own = Identity::from_seed(&[0x11; 32]);
    let cases = vectors!("identities");
    for case in &cases {
        assert_eq!(bytes(case, "own"), own.public_key().as_bytes());
        let expected = match case["rule"].as_u64() {
            Some(rule) => Err(rule),
            None => Ok(bytes(case, "x25519").try_into().unwrap()),
        };
        assert_eq!(broken_rule(&own, &bytes(case, "key")), expected, "{case}");
    }
    assert_eq!(cases.len(), 18);
}

#[test]
fn names() {
    let all: Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/v2/names.json")).unwrap();
    for case in list(&all, "proposals") {
        let parsed = parse_proposal(&bytes(case, "bytes"));
        let expected = match (case["code"].as_u64(), case["id"].as_str()) {
            (Some(5), _) => {
                assert!(parsed.is_err(), "{case}");
                continue;
            }
            (_, Some(id)) => Some((
                String::from_utf8(hex::decode(id).unwrap()).unwrap(),
                usize::try_from(case["length"].as_u64().unwrap()).unwrap(),
            )),
            _ => None,
        };
        let parsed = parsed.unwrap().map(|(proposal, length)| match proposal {
            Proposal::Known(id) => (id.to_string(), length),
            Proposal::Unknown(id) => (id, length),
        });
        assert_eq!(parsed, expected, "{case}");
        if let Some((id, length)) = expected
            && let Ok(id) = crate::ProtocolId::parse(&id)
        {
            let mut emitted = BytesMut::new();
            emit_proposal(&id, &mut emitted);
            assert_eq!(emitted, bytes(case, "bytes")[..length]);
        }
    }
    for case in list(&all, "answers") {
        let expected = match (case["code"].as_u64(), case["accepted"].as_bool()) {
            (Some(5), _) => Err(PreambleError::Mismatch),
            (_, Some(accepted)) => Ok(Some((
                if accepted { Answer::Accepted } else { Answer::Refused },
                usize::try_from(case["length"].as_u64().unwrap()).unwrap(),
            ))),
            _ => Ok(None),
        };
        let parsed = parse_answer(&bytes(case, "bytes"), &Profile::V2.handshake_id());
        assert_eq!(parsed, expected, "{case}");
    }
    for case in list(&all, "stream_names") {
        let name = String::from_utf8(bytes(case, "bytes")).unwrap();
        let is_valid = StreamName::new(&name).is_ok_and(|name| Profile::V2.allows(&name));
        assert_eq!(Some(is_valid), case["valid"].as_bool(), "{case}");
    }
}

/// 65,536 records, the last of which changes the keys.
#[test]
fn a_whole_epoch() {
    let all: Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/v2/epochs.json")).unwrap();
    let case = &all["whole_epoch"];
    let secret = SharedKey::from_bytes(&bytes(case, "secret")).unwrap();
    let cipher = Cipher {
        aead: std::sync::Arc::new(RustCrypto),
        suite: Suite::ChaCha20Poly1305,
        padding: Padding::None,
    };
    let mut sealer = Sealer::new(cipher.clone(), &secret);
    let mut opener = Opener::new(cipher, &secret);
    let mut seal = || {
        let mut out = BytesMut::new();
        let mut writer = sealer.write(&mut out, Instant::ZERO);
        writer.put_record(Kind::Data, b"");
        writer.finish();
        out
    };
    let mut hash = Sha256::new();
    for _ in 0..65_535 {
        let mut record = seal();
        hash.update(&record);
        assert!(opener.open(&mut record).is_ok());
    }
    assert_eq!(hex::encode(hash.finalize()), text(case, "sha256_of_65535_records"));
    let mut last = seal();
    assert_eq!(hex::encode(&last), text(case, "record_65535"));
    assert!(opener.open(&mut last).is_ok());
    let mut next = seal();
    assert_eq!(hex::encode(&next), text(case, "next_record"));
    assert!(opener.open(&mut next).is_ok());
    opener = Opener::new(
        Cipher {
            aead: std::sync::Arc::new(RustCrypto),
            suite: Suite::ChaCha20Poly1305,
            padding: Padding::None,
        },
        &secret,
    );
    opener.set_counts(65_535, 0);
    let mut unflagged = BytesMut::from(&bytes(case, "record_65535_without_flag")[..]);
    assert_eq!(opener.open(&mut unflagged), Err(Violation::EpochLimit));
}
