//! WIRE.md's examples: the document and the code agree on every byte.

use bytes::BytesMut;

use super::{App, Log, blocks, ephemeral, gate, identity, written};
use crate::crypto::{RustCrypto, SharedKey, diffie_hellman};
use crate::time::Instant;
use crate::v2::agreement::{Binding, Hedge, Parties, Transcript};
use crate::v2::control::{Abandon, Close, CloseEntry, Received};
use crate::v2::frame::{self, FrameType};
use crate::v2::gate::{Messages, Step};
use crate::v2::instance::{InstanceWriter, Last, Open};
use crate::v2::kex::Kex;
use crate::v2::reader::{Progress, Reader};
use crate::v2::record::{Cipher, Kind, Opener, Sealer};
use crate::v2::schedule::{Master, StreamRoot, derive, expand};
use crate::v2::{Padding, Role, Suite};
use crate::wire::StreamName;

const BINDING: Binding = Binding::Exporter([0x77; 32]);
const BOTH: [Role; 2] = [Role::Initiator, Role::Responder];

/// The block's name for a side.
fn of(role: Role, what: &str) -> String {
    match role {
        Role::Initiator => format!("v2-{what}-i"),
        Role::Responder => format!("v2-{what}-r"),
    }
}

fn kex(role: Role) -> Kex {
    let suites = match role {
        Role::Initiator => vec![1, 2],
        Role::Responder => vec![1],
    };
    let ephemeral = *ephemeral(role).public();
    Kex { bindings: BINDING.mask(), suites, ephemeral, kem_key: None }
}

/// Returns both KEX frames; I's has an unknown extension.
fn frames() -> [Vec<u8>; 2] {
    let mut initiators = kex(Role::Initiator).emit();
    initiators.extend_from_slice(b"\xfa\xde\x00\x03abc");
    [initiators, kex(Role::Responder).emit()]
}

fn transcript(frames: &[Vec<u8>; 2]) -> Transcript<'_> {
    Transcript {
        suite: Suite::ChaCha20Poly1305,
        kex: [&frames[0], &frames[1]],
        kem_ciphertext: &[],
        identities: BOTH.map(|role| identity(role).public_key()),
        binding: BINDING,
        application: &[],
    }
}

fn master(role: Role) -> Master {
    let th = transcript(&frames()).hash();
    let other = role.other();
    let (peers, peer) = (*ephemeral(other).public(), identity(other).public_key());
    let parties = Parties { role, identity: &identity(role), peer: &peer };
    ephemeral(role).agree(&parties, &peers, None, th).unwrap()
}

fn chat() -> StreamName {
    StreamName::new("chat").unwrap()
}

fn cipher(suite: Suite) -> Cipher {
    Cipher { aead: std::sync::Arc::new(RustCrypto), suite, padding: Padding::None }
}

fn root() -> StreamRoot {
    master(Role::Initiator).stream(Role::Initiator, &chat())
}

#[test]
fn identities_and_v1() {
    let blocks = blocks();
    for (role, it) in [(Role::Initiator, "i"), (Role::Responder, "r")] {
        let identity = identity(role);
        assert_eq!(identity.public_key().as_bytes()[..], blocks[&format!("id-{it}-ed25519")]);
        assert_eq!(identity.x25519_private()[..], blocks[&format!("id-{it}-x25519-private")]);
        assert_eq!(identity.public_key().to_x25519()[..], blocks[&format!("id-{it}-x25519")]);
    }
    let responder = identity(Role::Responder).public_key();
    let key = identity(Role::Initiator).agree_v1(&responder).unwrap();
    assert_eq!(key.as_bytes()[..], blocks["v1-key"]);
}

#[test]
fn ephemerals_are_hedged() {
    let blocks = blocks();
    let identity = identity(Role::Initiator);
    let hedge = Hedge {
        identity: &identity,
        entropy: &[0x55; 32],
        wall_ms: 1_700_000_000_000,
        counter: 7,
        binding: BINDING.value(),
    };
    assert_eq!(identity.hedge_key().as_bytes()[..], blocks["v2-hedge-key"]);
    let prk = hedge.prk(7);
    assert_eq!(prk.as_bytes()[..], blocks["v2-hedge-prk"]);
    let suites = [Suite::ChaCha20Poly1305];
    let ephemeral = hedge.ephemeral(Role::Initiator, &suites);
    assert_eq!(ephemeral.private().as_bytes()[..], blocks["v2-hedge-x25519"]);
    let mut seeds = [0; 64];
    expand(prk.as_bytes(), "ml-kem-768 keygen", &[], &mut seeds);
    assert_eq!(seeds[..], blocks["v2-hedge-kem-keygen"]);
    let message = derive(prk.as_bytes(), "ml-kem-768 encaps", &[]);
    assert_eq!(message.as_bytes()[..], blocks["v2-hedge-kem-encaps"]);
    // Each part counts.
    let public = *ephemeral.public();
    for other in [
        Hedge { entropy: &[0x56; 32], ..hedge },
        Hedge { wall_ms: 0, ..hedge },
        Hedge { counter: 8, ..hedge },
        Hedge { binding: &[], ..hedge },
    ] {
        assert_ne!(*other.ephemeral(Role::Initiator, &suites).public(), public);
    }
}

#[test]
fn the_key_exchange() {
    let blocks = blocks();
    let [initiators, responders] = frames();
    assert_eq!(initiators, blocks["v2-kex-i"]);
    assert_eq!(responders, blocks["v2-kex-r"]);
    for role in BOTH {
        let frame = &blocks[&of(role, "kex")];
        assert_eq!(Kex::parse(&frame[1..], role), Ok(kex(role)));
        assert_eq!(ephemeral(role).public()[..], blocks[&of(role, "eph")]);
    }
    let frames = frames();
    let transcript = transcript(&frames);
    assert_eq!(transcript.bytes(), blocks["v2-th-input"]);
    assert_eq!(transcript.hash()[..], blocks["v2-th"]);
    let agreed = |private: &[u8], public: &[u8]| {
        let (private, public) = (private.try_into().unwrap(), public.try_into().unwrap());
        diffie_hellman(private, public).unwrap()
    };
    for (what, private, public) in [
        ("v2-ee", "v2-eph-i-private", "v2-eph-r"),
        ("v2-es", "v2-eph-i-private", "id-r-x25519"),
        ("v2-se", "id-i-x25519-private", "v2-eph-r"),
        ("v2-ss", "id-i-x25519-private", "id-r-x25519"),
    ] {
        assert_eq!(agreed(&blocks[private], &blocks[public])[..], blocks[what], "{what}");
    }
}

#[test]
fn both_sides_derive_what_the_document_says() {
    let blocks = blocks();
    for role in BOTH {
        let master = master(role);
        assert_eq!(master.secret().as_bytes()[..], blocks["v2-ms"]);
        assert_eq!(master.session_id()[..], blocks["v2-sid"]);
        assert_eq!(master.exporter().as_bytes()[..], blocks["v2-exporter"]);
        for of_role in BOTH {
            let confirm = master.confirm_key(of_role);
            assert_eq!(confirm.as_bytes()[..], blocks[&of(of_role, "confirm-key")]);
            let control = master.control(of_role);
            assert_eq!(control.as_bytes()[..], blocks[&of(of_role, "control-secret")]);
            let key = derive(control.as_bytes(), "key", &[]);
            assert_eq!(key.as_bytes()[..], blocks[&of(of_role, "control-key")]);
            let mut iv = [0; 12];
            expand(control.as_bytes(), "iv", &[], &mut iv);
            assert_eq!(iv[..], blocks[&of(of_role, "control-iv")]);
        }
        let reverse = master.stream(Role::Responder, &chat());
        assert_eq!(reverse.secret().as_bytes()[..], blocks["v2-stream-root-r"]);
        let mut root = master.stream(Role::Initiator, &chat());
        assert_eq!(root.secret().as_bytes()[..], blocks["v2-stream-root"]);
        let instance = root.next_instance();
        assert_eq!(instance.as_bytes()[..], blocks["v2-inst-0"]);
        let key = derive(instance.as_bytes(), "key", &[]);
        assert_eq!(key.as_bytes()[..], blocks["v2-key-0"]);
        let epoch = derive(instance.as_bytes(), "rekey", &[]);
        assert_eq!(epoch.as_bytes()[..], blocks["v2-epoch-1"]);
        assert_eq!(derive(epoch.as_bytes(), "key", &[]).as_bytes()[..], blocks["v2-key-1"]);
        for (secret, block) in [(&instance, "v2-iv-0"), (&epoch, "v2-iv-1")] {
            let mut iv = [0; 12];
            expand(secret.as_bytes(), "iv", &[], &mut iv);
            assert_eq!(iv[..], blocks[block]);
        }
        assert_eq!(root.secret().as_bytes()[..], blocks["v2-stream-root-1"]);
        assert_eq!(root.next_instance().as_bytes()[..], blocks["v2-inst-1"]);
    }
}

/// I's KEX has an extension that ours doesn't, so the bytes in the clear are the document's and the
/// responder's gate answers them.
#[test]
fn the_responders_gate_writes_and_reads_the_example() {
    let blocks = blocks();
    let mut gate = gate(Role::Responder, &[Suite::ChaCha20Poly1305], BINDING);
    let hello = App::sends(&[b"\x01"]);
    assert_eq!(written(&mut gate, &mut { hello }), blocks["v2-clear-r"]);

    let mut buf = BytesMut::from(&blocks["v2-clear-i"][..]);
    buf.extend_from_slice(&blocks["v2-confirm-i"]);
    buf.extend_from_slice(&blocks["v2-control-record-i-0"]);
    buf.extend_from_slice(&blocks["v2-control-record-i-1"]);
    let mut read = || gate.read(&mut buf, Messages::Taken, Instant::ZERO).unwrap();
    let pub_key = &blocks["v2-control-plain-i-0"][2..];
    assert_eq!(read(), Step::Agreed);
    assert_eq!(read(), Step::Message("\x01".into()));
    assert_eq!(read(), Step::Confirmed);
    assert_eq!(read(), Step::Message(pub_key.to_vec().into()));
    assert_eq!(read(), Step::Message("\x03".into()));
    assert_eq!(read(), Step::Finished);
    assert_eq!(read(), Step::More { missing: 1 });

    let mut own_key = vec![2];
    own_key.extend_from_slice(&blocks["id-r-ed25519"]);
    let mut expected = blocks["v2-confirm-r"].clone();
    expected.extend_from_slice(&blocks["v2-control-record-r-0"]);
    assert_eq!(written(&mut gate, &mut App::sends(&[&own_key])), expected);
    assert_eq!(gate.terms().unwrap().session[..], blocks["v2-sid"]);
    assert_eq!(gate.exporter().unwrap().as_bytes()[..], blocks["v2-exporter"]);
}

#[test]
fn what_the_initiator_seals() {
    let blocks = blocks();
    let secret = master(Role::Responder).control(Role::Initiator);
    let mut sealer = Sealer::new(cipher(Suite::ChaCha20Poly1305), &secret);
    for at in 0..2 {
        let mut out = BytesMut::new();
        let mut writer = sealer.write(&mut out, Instant::ZERO);
        writer.put(&blocks[&format!("v2-control-plain-i-{at}")]);
        writer.finish();
        assert_eq!(out[..], blocks[&format!("v2-control-record-i-{at}")]);
    }
}

#[test]
fn a_stream() {
    let blocks = blocks();
    let cipher = cipher(Suite::ChaCha20Poly1305);
    let secret = root().next_instance();
    let session = master(Role::Initiator).session_id();
    let open = Open { instance: 0, first: 0, last: Last::None };
    assert_eq!(open.emit()[..], blocks["v2-open-slice"]);

    let front = *session.first_chunk().unwrap();
    let mut writer = InstanceWriter::new(cipher.clone(), &secret, front, open);
    let mut out = BytesMut::new();
    let mut records = writer.write(&mut out, Instant::ZERO);
    records.put(b"\x05hello\x00\x05wo");
    records.finish();
    let expected = ["v2-preamble", "v2-open-record", "v2-data-record"];
    assert_eq!(out[..], expected.map(|it| &blocks[it][..]).concat());

    // The whole of the example, as it is read.
    let mut buf = BytesMut::new();
    for record in
        ["v2-open-record", "v2-data-record", "v2-data-record-flagged", "v2-padding-record"]
    {
        buf.extend_from_slice(&blocks[record]);
    }
    buf.extend_from_slice(&blocks["v2-close-record"]);
    let mut reader = Reader::new(cipher, &secret, 0);
    let (mut log, mut received) = (Log::default(), Received::default());
    assert_eq!(reader.read(&mut buf, 100, &mut received, &mut log), Ok(Progress::Closed));
    assert_eq!(log.messages, ["hello", "", "world", "x"]);
    assert_eq!(received, Received { next: 4, lost: 0 });
}

#[test]
fn the_records_of_both_epochs() {
    let blocks = blocks();
    let secret = root().next_instance();
    let mut opener = Opener::new(cipher(Suite::ChaCha20Poly1305), &secret);
    for (record, kind, slice) in [
        ("v2-open-record", Kind::Open, Some("v2-open-slice")),
        ("v2-data-record", Kind::Data, Some("v2-data-slice")),
        ("v2-data-record-flagged", Kind::Data, None),
        ("v2-padding-record", Kind::Data, None),
        ("v2-close-record", Kind::Close, None),
    ] {
        let mut record = blocks[record].clone();
        let opened = opener.open(&mut record).unwrap();
        assert_eq!(opened.kind, kind);
        if let Some(slice) = slice {
            assert_eq!(record[opened.slice], blocks[slice]);
        }
    }
}

#[cfg(any(feature = "aes-gcm", feature = "aws-lc-rs"))]
#[test]
fn aes_256_gcm() {
    use crate::crypto::Aead;

    let blocks = blocks();
    let key = SharedKey::from_bytes(&blocks["v2-key-0"]).unwrap();
    let implementations = [
        #[cfg(feature = "aes-gcm")]
        RustCrypto.aes_256_gcm(&key),
        #[cfg(feature = "aws-lc-rs")]
        crate::crypto::AwsLc.aes_256_gcm(&key),
    ];
    for aes in implementations {
        let aes = aes.unwrap();
        let mut nonce: [u8; 12] = blocks["v2-iv-0"][..].try_into().unwrap();
        nonce[11] ^= 1;
        let mut text = vec![0];
        text.extend_from_slice(&blocks["v2-data-slice"]);
        let record = &blocks["v2-aes-data-record"];
        let tag = aes.seal(&nonce, &record[..2], &mut text);
        assert_eq!([&record[..2], &text[..], &tag[..]].concat(), *record);
        aes.open(&nonce, &record[..2], &mut text, &tag).unwrap();
        assert_eq!(text[1..], blocks["v2-data-slice"]);
    }
}

#[test]
fn control_frames() {
    let blocks = blocks();
    let entry = |name, sent, next, lost| CloseEntry {
        name: StreamName::new(name).unwrap(),
        sent,
        received: Received { next, lost },
    };
    let close = Close { code: 0, entries: vec![entry("chat", 3, 2, 0), entry("sync", 0, 300, 1)] };
    let mut out = BytesMut::new();
    frame::emit(FrameType::Close, &close.emit(), &mut out);
    assert_eq!(out[..], blocks["v2-close-frame"]);
    assert_eq!(Close::parse(&out[2..]), Ok(close));
    let abandon = Abandon { instance: 7, name: chat() };
    let mut out = BytesMut::new();
    frame::emit(FrameType::Abandon, &abandon.emit(), &mut out);
    assert_eq!(out[..], blocks["v2-abandon-frame"]);
}

#[test]
fn the_info_of_a_label() {
    use hkdf::Hkdf;

    let blocks = blocks();
    let mut out = [0; 12];
    Hkdf::<sha2::Sha256>::from_prk(&[7; 32])
        .unwrap()
        .expand(&blocks["v2-label-info"], &mut out)
        .unwrap();
    let mut ours = [0; 12];
    expand(&[7; 32], "iv", &[], &mut ours);
    assert_eq!(ours, out);
    let key = SharedKey::from_bytes(&[7; 32]).unwrap();
    assert_ne!(derive(key.as_bytes(), "iv", &[]).as_bytes()[..12], ours);
}
