//! The body of the fuzz target `certificate`: whatever a peer presents, nothing panics, and it is
//! nobody but the one who has signed it. It has no other way to the parser, which is private, so
//! `fuzz/targets/certificate.rs` compiles both.

use std::sync::LazyLock;

use libp2p_identity::{Keypair, PeerId};
use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ED25519, PublicKeyData};
use rustls::pki_types::{CertificateDer, UnixTime};

use super::certificate::{generate, peer_id, spki, verify};

/// Presents the bytes as a certificate; or changes an honest one by them; or signs one whose extension
/// is made of them, or is an honest one changed by them.
pub(super) fn fuzz_certificate(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let der = match how & 3 {
        0 => rest.to_vec(),
        1 => changed(&HONEST.presented, rest),
        2 => signed(rest.to_vec(), *how),
        _ => signed(changed(&HONEST.extension, rest), *how),
    };
    judge(&der.into());
}

fn judge(der: &CertificateDer<'_>) {
    // Neither is asked before `verify`, and neither may panic.
    let (named, key) = (peer_id(der), spki(der).map(|key| key.to_vec()));
    if let Ok(peer) = verify(der, &[], UnixTime::now()) {
        assert_eq!(peer, HONEST.peer, "nobody else has signed anything");
        assert_eq!(named, Ok(peer));
        assert!(key.is_ok(), "a handshake could not be verified");
    }
}

/// What somebody else may have got hold of: an honest node's certificate, and what its identity has
/// signed. The signing key of the latter is here too, so that what is made of it is signed.
struct Honest {
    peer: PeerId,
    presented: Vec<u8>,
    key: KeyPair,
    extension: Vec<u8>,
}

static HONEST: LazyLock<Honest> = LazyLock::new(|| {
    let identity = Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes");
    let presented = generate(&identity, UnixTime::now()).expect("a certificate");
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let message = [b"libp2p-tls-handshake:", &key.subject_public_key_info()[..]].concat();
    let signature = identity.sign(&message).expect("a signature");
    let fields = [octets(&identity.public().encode_protobuf()), octets(&signature)].concat();
    Honest {
        peer: identity.public().to_peer_id(),
        presented: presented.cert[0].to_vec(),
        key,
        extension: value(0x30, &fields),
    }
});

fn octets(bytes: &[u8]) -> Vec<u8> {
    value(0x04, bytes)
}

fn value(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).expect("short");
    [&[tag, len], bytes].concat()
}

/// Flips bits, cuts, repeats and puts in bytes, as a script says.
fn changed(honest: &[u8], script: &[u8]) -> Vec<u8> {
    let mut bytes = honest.to_vec();
    for step in script.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([step[0], step[1]])) % bytes.len().max(1);
        let tail = bytes.split_off(at);
        match step[2] & 3 {
            0 => bytes.extend(tail.iter().enumerate().map(|(behind, byte)| match behind {
                0 => byte ^ step[3],
                _ => *byte,
            })),
            1 => bytes.extend_from_slice(&tail[usize::from(step[3]).min(tail.len())..]),
            2 => {
                bytes.extend_from_slice(&tail[..usize::from(step[3]).min(tail.len())]);
                bytes.extend_from_slice(&tail);
            }
            _ => {
                bytes.push(step[3]);
                bytes.extend_from_slice(&tail);
            }
        }
    }
    bytes
}

/// Makes a certificate with an extension of libp2p's, in as many copies and with such company as the
/// upper bits of `how` say.
fn signed(content: Vec<u8>, how: u8) -> Vec<u8> {
    let mut extension = CustomExtension::from_oid_content(&LIBP2P, content.clone());
    extension.set_criticality(how & 4 == 0);
    let mut other = CustomExtension::from_oid_content(&[1, 2, 3], content);
    other.set_criticality(how & 8 != 0);
    let mut params = CertificateParams::default();
    params.custom_extensions = match how >> 4 & 3 {
        0 | 1 => vec![extension],
        2 => vec![other, extension],
        _ => vec![extension.clone(), extension],
    };
    params.self_signed(&HONEST.key).expect("a certificate").der().to_vec()
}

const LIBP2P: [u64; 9] = [1, 3, 6, 1, 4, 1, 53594, 1, 1];
