//! Every vector that the Go program made, against this crate.
//!
//! Each test ends by counting what it checked against what the file holds, so that no entry is
//! skipped silently.

#![expect(clippy::unwrap_used, reason = "what fails to unwrap here fails the test that called")]

use bytes::BytesMut;
use glueberry_proto::RecordError;
use glueberry_proto::compat::{
    Cipher, KeyError, agree_x25519, derive_shared_key, ed25519_private_to_x25519,
    ed25519_public_to_x25519, x25519, x25519_public,
};
use glueberry_proto::crypto::{
    AgreementError, Identity, KeyLengthError, PublicKey, PublicKeyError,
};
use glueberry_proto::wire::{FrameError, Framing, Parsed, Profile, ProtocolId, StreamName};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[test]
fn keys() {
    let file = read(include_str!("vectors/keys.json"));
    let entries = list(&file, "vectors");
    for entry in entries {
        let private = bytes(entry, "ed25519_private_64");
        let public = bytes(entry, "ed25519_public");
        let identity = Identity::from_keypair_bytes(&private).unwrap();
        let seed: [u8; 32] = bytes(entry, "seed").try_into().unwrap();
        assert_eq!(identity.public_key(), Identity::from_seed(&seed).public_key());
        assert_eq!(identity.public_key().as_bytes(), &public[..]);
        assert_eq!(PublicKey::from_bytes(&public), Ok(identity.public_key()));

        let x25519_private = bytes(entry, "x25519_private_clamped");
        assert_eq!(identity.x25519_private().as_slice(), x25519_private);
        assert_eq!(ed25519_private_to_x25519(&private).unwrap().as_slice(), x25519_private);

        let x25519 = bytes(entry, "x25519_public");
        assert_eq!(identity.public_key().to_x25519(), x25519[..]);
        assert_eq!(ed25519_public_to_x25519(&public).unwrap(), x25519[..]);
        assert_eq!(x25519_public(&identity.x25519_private()), x25519[..]);
        #[cfg(feature = "multiformats")]
        peer_ids(entry, &identity);
    }
    assert_eq!(entries.len(), 38);
}

#[cfg(feature = "multiformats")]
fn peer_ids(entry: &Value, identity: &Identity) {
    use libp2p_identity::{Keypair, PeerId, PublicKey as Libp2pKey};

    let peer = PeerId::from(identity.public_key());
    assert_eq!(peer.to_string(), text(entry, "libp2p_peer_id"));
    assert_eq!(peer.to_bytes(), bytes(entry, "libp2p_peer_id_bytes"));
    assert_eq!(PublicKey::try_from(&peer), Ok(identity.public_key()));
    let protobuf = bytes(entry, "libp2p_pubkey_protobuf");
    assert_eq!(Libp2pKey::try_decode_protobuf(&protobuf).unwrap().to_peer_id(), peer);
    let keypair = Keypair::ed25519_from_bytes(bytes(entry, "seed")).unwrap();
    assert_eq!(Identity::try_from(&keypair).unwrap().public_key(), identity.public_key());
}

#[test]
fn ecdh() {
    let file = read(include_str!("vectors/ecdh.json"));
    let info = glueberry_proto::crypto::V1_KEY_INFO;
    assert_eq!(text(&file, "hkdf_info_ascii").as_bytes(), info);
    let entries = list(&file, "vectors");
    let mut without_salt = 0;
    for entry in entries {
        let seed: [u8; 32] = bytes(entry, "a_ed25519_seed").try_into().unwrap();
        let local = Identity::from_seed(&seed);
        let private = local.x25519_private();
        let remote = bytes(entry, "b_ed25519_public");
        let remote_x25519: [u8; 32] = bytes(entry, "b_x25519_public").try_into().unwrap();
        let key = bytes(entry, "stream_key");
        assert_eq!(private.as_slice(), bytes(entry, "a_x25519_private"));
        assert_eq!(ed25519_public_to_x25519(&remote), Ok(remote_x25519));
        let raw = x25519(&private, &remote_x25519).unwrap();
        assert_eq!(raw.as_slice(), bytes(entry, "raw_ecdh"));

        let salt = entry["salt"].as_str().map(|salt| hex::decode(salt).unwrap());
        let derived = agree_x25519(&*private, &remote_x25519, salt.as_deref()).unwrap();
        assert_eq!(derived.as_bytes(), &key[..]);
        assert_eq!(entry["symmetric"], Value::Bool(true));
        if salt.is_some() {
            continue;
        }
        without_salt += 1;
        assert_eq!(derive_shared_key(&local, &remote).unwrap().as_bytes(), &key[..]);
        let strict = local.agree_v1(&PublicKey::from_bytes(&remote).unwrap());
        if entry["a"] == entry["b"] {
            assert_eq!(strict, Err(AgreementError::OwnKey));
        } else {
            assert_eq!(strict.unwrap().as_bytes(), &key[..]);
        }
    }
    assert_eq!((entries.len(), without_salt), (43, 39));
}

#[test]
fn frames() {
    let file = read(include_str!("vectors/frames.json"));
    let entries = list(&file, "vectors");
    for entry in entries {
        let payload = pattern(number(entry, "payload_len"));
        if entry.get("payload").is_some() {
            assert_eq!(payload, bytes(entry, "payload"));
        }
        assert_eq!(sha256(&payload), text(entry, "payload_sha256"));

        let wire = framed(&payload);
        let header_len = Framing::DoubleVarint.header_len(payload.len());
        assert_eq!(wire[..header_len], bytes(entry, "prefix"));
        assert_eq!(wire.len(), number(entry, "wire_len"));
        assert_eq!(sha256(&wire), text(entry, "wire_sha256"));
        if entry.get("wire").is_some() {
            assert_eq!(wire[..], bytes(entry, "wire"));
        }
        assert_eq!(go_reader(&wire, payload.len()), (vec![payload], Ok(())));
    }
    assert_eq!(entries.len(), 24);

    assert_eq!(framed(b"")[..], bytes(&file, "nil_slice_wire"));
    let three: Vec<u8> = [b"a".as_slice(), b"", b"bcd"].into_iter().flat_map(framed).collect();
    assert_eq!(three, bytes(&file, "three_messages_a_empty_bcd"));
}

#[test]
fn frames_of_records() {
    let file = read(include_str!("vectors/frames.json"));
    let entries = list(&file, "encrypted_record_frames");
    for entry in entries {
        let plaintext = match entry.get("plaintext") {
            Some(_) => bytes(entry, "plaintext"),
            None => pattern(number(entry, "plaintext_pattern_len")),
        };
        let cipher = Cipher::new(&bytes(entry, "key")).unwrap();
        let record = cipher.encrypt(&plaintext, b"", &nonce(entry));
        let wire = framed(&record);
        if entry.get("record").is_some() {
            assert_eq!(record, bytes(entry, "record"));
            assert_eq!(wire[..], bytes(entry, "wire"));
        } else {
            assert_eq!(sha256(&record), text(entry, "record_sha256"));
            assert_eq!(wire.len(), number(entry, "wire_len"));
            assert!(wire.starts_with(&bytes(entry, "wire_prefix")));
            assert_eq!(sha256(&wire), text(entry, "wire_sha256"));
        }
        assert_eq!(cipher.decrypt(&record, b""), Ok(plaintext));
    }
    assert_eq!(entries.len(), 3);
}

#[test]
fn frame_decode() {
    let file = read(include_str!("vectors/frame_decode.json"));
    let entries = list(&file, "vectors");
    let mut errors = 0;
    for entry in entries {
        let name = text(entry, "name");
        let (messages, end) = go_reader(&bytes(entry, "input"), GO_LIMIT);
        let expected: Vec<Vec<u8>> = list(entry, "messages")
            .iter()
            .map(|message| hex::decode(message.as_str().unwrap()).unwrap())
            .collect();
        assert_eq!(messages, expected, "{name}");
        errors += usize::from(end.is_err());
        assert_eq!(end, end_in_go(entry), "{name}");
    }
    assert_eq!((entries.len(), errors), (24, 13));
}

/// Which of our errors stands for that of Go's reader.
fn end_in_go(entry: &Value) -> Result<(), FrameError> {
    let error = match (entry["error"].as_str(), text(entry, "name")) {
        (None, _) => return Ok(()),
        (Some("cramberry: decode at offset 0: invalid varint"), _) => FrameError::Empty,
        (Some("cramberry: varint overflows uint64"), _) => FrameError::InvalidVarint,
        (Some("cramberry: decode at offset 1: unexpected end of data"), name) => {
            let (body, room) = match name {
                "raw single-prefixed message (02 'o' 'k')" => (0x6f, 1),
                _ => (9, 2),
            };
            FrameError::BodyExceedsFrame { body, room }
        }
        (Some("cramberry: integer overflow"), _) => {
            FrameError::TooLarge { announced: u64::MAX, limit: GO_LIMIT }
        }
        (Some("cramberry: maximum message size exceeded"), _) => {
            FrameError::TooLarge { announced: 67_108_865, limit: GO_LIMIT }
        }
        // Go reads 64 MiB for a body of one byte. We don't wait for them.
        (Some("cramberry: decode: read failed"), "outer 64 MiB (limit) truncated") => {
            FrameError::Trailing { announced: 67_108_862, limit: 1024 }
        }
        (Some("cramberry: decode: read failed"), _) => FrameError::Truncated,
        (Some(error), name) => panic!("{name}: unexpected error of Go: {error}"),
    };
    Err(error)
}

#[test]
fn records() {
    let file = read(include_str!("vectors/records.json"));
    let entries = list(&file, "vectors");
    for entry in entries {
        let len = number(entry, "plaintext_len");
        let plaintext = bytes(entry, "plaintext");
        assert_eq!(plaintext.len(), len);
        let aad = entry["aad"].as_str().map_or_else(Vec::new, |aad| hex::decode(aad).unwrap());
        let cipher = Cipher::new(&bytes(entry, "key")).unwrap();
        let record = cipher.encrypt(&plaintext, &aad, &nonce(entry));
        assert_eq!(record, bytes(entry, "record"));
        assert_eq!(record.len(), number(entry, "record_len"));
        assert_eq!(sha256(&record), text(entry, "record_sha256"));
        assert_eq!(cipher.decrypt(&record, &aad), Ok(plaintext));
    }
    assert_eq!(entries.len(), 13);
}

#[test]
fn rejected_records() {
    let file = read(include_str!("vectors/rejects.json"));
    let entries = list(&file, "records");
    let mut accepted = 0;
    for entry in entries {
        let (name, error) = (text(entry, "name"), entry["error"].as_str().unwrap_or_default());
        let (key, record) = (bytes(entry, "key"), bytes(entry, "record"));
        if key.len() != 32 {
            assert!(error.starts_with("invalid key size"), "{name}");
            let error: KeyLengthError = Cipher::new(&key).unwrap_err();
            assert_eq!(error.got, key.len(), "{name}");
            continue;
        }
        let opened = Cipher::new(&key).unwrap().decrypt(&record, &bytes(entry, "aad"));
        let expected = if entry["accepted"] == Value::Bool(true) {
            accepted += 1;
            Ok(bytes(entry, "plaintext"))
        } else if error.starts_with("ciphertext too short") {
            Err(RecordError::TooShort { got: record.len() })
        } else {
            assert!(error.starts_with("decryption failed"), "{name}");
            Err(RecordError::Authentication)
        };
        assert_eq!(opened, expected, "{name}");
    }
    assert_eq!((entries.len(), accepted), (22, 2));
}

#[test]
fn rejected_x25519_keys() {
    let file = read(include_str!("vectors/rejects.json"));
    let private = bytes(&file, "local_x25519_private");
    let entries = list(&file, "x25519_publics");
    let mut accepted = 0;
    for entry in entries {
        let name = text(entry, "name");
        let public = bytes(entry, "x25519_public");
        let derived = agree_x25519(&private, &public, None);
        if entry["accepted"] == Value::Bool(true) {
            accepted += 1;
            assert_eq!(derived.unwrap().as_bytes(), &bytes(entry, "stream_key")[..], "{name}");
            let (private, public) =
                (private[..].try_into().unwrap(), public[..].try_into().unwrap());
            let raw = x25519(private, public).unwrap();
            assert_eq!(raw.as_slice(), bytes(entry, "raw_ecdh"), "{name}");
        } else if public.len() == 32 {
            assert!(text(entry, "error").ends_with("low order point"), "{name}");
            assert_eq!(derived, Err(KeyError::LowOrder), "{name}");
        } else {
            assert!(text(entry, "error").starts_with("invalid X25519 public key size"), "{name}");
            assert_eq!(
                derived,
                Err(KeyError::Length { expected: 32, got: public.len() }),
                "{name}"
            );
        }
    }
    assert_eq!((entries.len(), accepted), (21, 4));
}

#[test]
fn rejected_ed25519_keys() {
    let file = read(include_str!("vectors/rejects.json"));
    let keys = read(include_str!("vectors/keys.json"));
    let local = Identity::from_keypair_bytes(&bytes(&keys["vectors"][0], "ed25519_private_64"));
    let local = local.unwrap();
    assert_eq!(local.x25519_private().as_slice(), bytes(&file, "local_x25519_private"));

    let entries = list(&file, "ed25519_publics");
    let mut outcomes = Outcomes::default();
    for entry in entries {
        let name = text(entry, "name");
        let public = bytes(entry, "ed25519_public");
        lenient_agrees_with_go(entry, &local, &public);
        let strict = PublicKey::from_bytes(&public);
        assert_eq!(strict.map(|key| *key.as_bytes()).err(), refusal(name, &public), "{name}");
        outcomes.count(strict);
    }
    assert_eq!(entries.len(), 54);
    let expected = Outcomes {
        accepted: 1,
        length: 5,
        not_on_curve: 14,
        not_canonical: 16,
        small_order: 8,
        mixed_order: 10,
    };
    assert_eq!(outcomes, expected);
}

fn lenient_agrees_with_go(entry: &Value, local: &Identity, public: &[u8]) {
    let name = text(entry, "name");
    let converted = ed25519_public_to_x25519(public);
    let conversion_error = entry["convert_error"].as_str().map(|error| {
        if error.starts_with("invalid Ed25519 public key size") {
            KeyError::Length { expected: 32, got: public.len() }
        } else {
            assert!(error.ends_with("invalid point encoding"), "{name}");
            KeyError::NotOnCurve
        }
    });
    let derived = derive_shared_key(local, public);
    match (conversion_error, entry["module_error"].as_str()) {
        (Some(error), module) => {
            assert_eq!(converted, Err(error), "{name}");
            assert!(module.unwrap().starts_with("invalid remote public key"), "{name}");
            assert_eq!(derived, Err(error), "{name}");
        }
        (None, Some(module)) => {
            assert_eq!(converted.unwrap(), bytes(entry, "x25519_public")[..], "{name}");
            assert!(module.ends_with("low order point"), "{name}");
            assert_eq!(derived, Err(KeyError::LowOrder), "{name}");
        }
        (None, None) => {
            assert_eq!(converted.unwrap(), bytes(entry, "x25519_public")[..], "{name}");
            let key = bytes(entry, "module_stream_key");
            assert_eq!(derived.unwrap().as_bytes(), &key[..], "{name}");
        }
    }
}

/// What the strict type says to a key, told by the name of the entry.
fn refusal(name: &str, public: &[u8]) -> Option<PublicKeyError> {
    if name.starts_with("valid control") {
        return None;
    }
    let small_y = |y: u8| public[0] == y && public[1..31].iter().all(|byte| *byte == 0);
    Some(if public.len() != 32 {
        PublicKeyError::Length { got: public.len() }
    } else if ed25519_public_to_x25519(public).is_err() {
        PublicKeyError::NotOnCurve
    } else if name.contains("non-canonical") || name == "order 2: y=-1, sign bit" {
        PublicKeyError::NotCanonical
    } else if name.contains("order") {
        PublicKeyError::SmallOrder
    } else {
        assert!((3..=18).any(small_y), "{name}");
        PublicKeyError::MixedOrder
    })
}

#[derive(Debug, Default, PartialEq)]
struct Outcomes {
    accepted: usize,
    length: usize,
    not_on_curve: usize,
    not_canonical: usize,
    small_order: usize,
    mixed_order: usize,
}

impl Outcomes {
    fn count(&mut self, outcome: Result<PublicKey, PublicKeyError>) {
        let counter = match outcome {
            Ok(_) => &mut self.accepted,
            Err(PublicKeyError::Length { .. }) => &mut self.length,
            Err(PublicKeyError::NotOnCurve) => &mut self.not_on_curve,
            Err(PublicKeyError::NotCanonical) => &mut self.not_canonical,
            Err(PublicKeyError::SmallOrder) => &mut self.small_order,
            Err(PublicKeyError::MixedOrder) => &mut self.mixed_order,
            Err(error) => panic!("unexpected {error}"),
        };
        *counter += 1;
    }
}

#[test]
fn protocol_ids() {
    let file = read(include_str!("vectors/protocol_ids.json"));
    let messages = StreamName::new("messages").unwrap();
    let ids = [
        ("handshake_constant_unused_by_node", Profile::V1.handshake_id()),
        ("handshake_used_by_node", Profile::V1Go.handshake_id()),
        ("stream_messages", Profile::V1Go.stream_id(messages.clone())),
        ("stream_messages", Profile::V1.stream_id(messages)),
    ];
    for (field, id) in &ids {
        assert_eq!(id.to_string(), text(&file, field));
        assert_eq!(&ProtocolId::parse(text(&file, field)).unwrap(), id);
    }
    let described = ["cramberry", "go", "library", "what"];
    let fields = file.as_object().unwrap().keys();
    assert_eq!(fields.filter(|field| !described.contains(&field.as_str())).count(), 3);
}

/// Reads frames as Go's `MessageIterator` does, up to the first error or the end.
fn go_reader(input: &[u8], max_body: usize) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
    let mut messages = Vec::new();
    let mut rest = input;
    loop {
        let header = match Framing::DoubleVarint.parse_header(rest, max_body) {
            Ok(Parsed::Frame(header)) if header.total_len() <= rest.len() => header,
            Ok(_) => return (messages, Framing::DoubleVarint.check_end(rest)),
            Err(error) => return (messages, Err(error)),
        };
        let (frame, next) = rest.split_at(header.total_len());
        messages.push(frame[header.header_len..][..header.body_len].to_vec());
        rest = next;
    }
}

fn framed(body: &[u8]) -> BytesMut {
    let mut wire = BytesMut::new();
    Framing::DoubleVarint.emit_header(body.len(), &mut wire);
    wire.extend_from_slice(body);
    wire
}

/// What the files call the pattern: byte i is (31·i + 7) mod 256.
fn pattern(len: usize) -> Vec<u8> {
    std::iter::successors(Some(7_u8), |byte| Some(byte.wrapping_add(31))).take(len).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn read(file: &str) -> Value {
    serde_json::from_str(file).unwrap()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().unwrap()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(value, field)).unwrap()
}

fn number(value: &Value, field: &str) -> usize {
    value[field].as_u64().unwrap().try_into().unwrap()
}

fn nonce(value: &Value) -> [u8; 12] {
    bytes(value, "nonce").try_into().unwrap()
}

/// Go's own limit; sessions have a lower one.
const GO_LIMIT: usize = 64 * 1024 * 1024;
