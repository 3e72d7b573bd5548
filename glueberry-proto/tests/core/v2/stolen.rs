//! Somebody records all that a session puts on its transport's plaintext, and gets the keys of both
//! identities afterwards: v1 opens, v2 does not.
//!
//! What the attacker computes is written here by WIRE.md alone. That it would open a session whose
//! ephemeral key is known shows that it is right.

use std::collections::BTreeMap;

use glueberry_proto::crypto::{SharedKey, default_aead};
use glueberry_proto::testing::pair::{A, B, Side};
use glueberry_proto::{Config, Identity, Naming, Profile};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use x25519_dalek::x25519;

use super::classic;
use crate::support::{config, identity, key, new_world};

/// What each side has written on each substream: the handshake's is the first.
type Recording = BTreeMap<(usize, Side), Vec<u8>>;

const MESSAGES: [&[u8]; 2] = [b"from A, and not for everybody", b"from B, and not for everybody"];

/// The seeds of the two nodes: see `new_world`.
const SEEDS: [[u8; 32]; 2] = [[10; 32], [20; 32]];

fn record(config: impl Fn() -> Config) -> Recording {
    let mut world = new_world(Naming::Negotiated, [config(), config()]);
    world.app.log.is_on = true;
    world.connect(A);
    world.run();
    world.complete_handshake(&["chat"]);
    for side in [A, B] {
        world.send(side, "chat", MESSAGES[side]);
        world.run();
        assert_eq!(world.app.received(1 - side, "chat"), [MESSAGES[side]]);
    }
    std::mem::take(&mut world.app.log.wire)
}

/// The keys of both identities, which the attacker gets when all is over: X25519's private keys.
fn stolen() -> [[u8; 32]; 2] {
    [A, B].map(|side| *identity(side).x25519_private())
}

fn expand(prk: &[u8], info: &[u8], out: &mut [u8]) {
    Hkdf::<Sha256>::from_prk(prk).unwrap().expand(info, out).unwrap();
}

/// `HMAC(key, text)`, or `Extract(key, text)`.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    Hkdf::<Sha256>::extract(Some(key), text).0.into()
}

fn lp(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

// ---- v1 ---------------------------------------------------------------------------------------

#[test]
fn v1_opens_with_the_key_of_either_identity() {
    let recording = record(|| {
        let mut config = config(&["chat"]);
        config.profiles = vec![Profile::V1];
        config
    });
    for thief in [A, B] {
        let agreed = x25519(stolen()[thief], key(1 - thief).to_x25519());
        let mut secret = [0; 32];
        let (_, hkdf) = Hkdf::<Sha256>::extract(Some(&[0; 32]), &agreed);
        hkdf.expand(b"glueberry-v1-stream-key", &mut secret).unwrap();
        let cipher = glueberry_proto::compat::Cipher::new(&secret).unwrap();
        for (side, message) in MESSAGES.iter().enumerate() {
            let mut written = recording.iter().filter(|((pipe, by), _)| *pipe > 0 && *by == side);
            let (_, bytes) = written.next().expect("the stream's substream");
            let len: [u8; 4] = bytes[..4].try_into().unwrap();
            let record = &bytes[4..4 + usize::try_from(u32::from_be_bytes(len)).unwrap()];
            assert_eq!(cipher.decrypt(record, b"").unwrap(), *message);
        }
    }
}

// ---- v2 ---------------------------------------------------------------------------------------

/// What everybody can read of a recorded session of v2, and what tells a right guess.
struct Attack {
    recording: Recording,
    th: [u8; 32],
    ephemerals: [[u8; 32]; 2],
}

/// Returns where the next frame's type byte is and where the frame ends.
fn frame(bytes: &[u8], start: usize) -> (usize, usize) {
    let prefix = 1 + bytes[start..].iter().take_while(|byte| **byte >= 0x80).count();
    let len = bytes[start..start + prefix]
        .iter()
        .enumerate()
        .map(|(at, byte)| usize::from(byte & 0x7f) << (7 * at))
        .sum::<usize>();
    (start + prefix, start + prefix + len)
}

/// Returns the first frame of a type, and where it begins with its length.
fn find(bytes: &[u8], kind: u8) -> Option<(&[u8], usize)> {
    let mut start = 0;
    loop {
        let (content, end) = frame(bytes, start);
        match *bytes.get(content)? {
            found if found == kind => return Some((&bytes[content..end], start)),
            3 => return None,
            _ => start = end,
        }
    }
}

/// The four agreements, in their order. A guess may have any length.
type Agreements = [Vec<u8>; 4];

impl Attack {
    /// Side A has dialled, so it is I.
    fn on(recording: Recording) -> Self {
        let kex = [A, B].map(|side| {
            let (frame, at) = find(&recording[&(0, side)], 1).unwrap();
            assert_eq!(at, 0, "KEX is the first frame");
            frame.to_vec()
        });
        let ciphertext = find(&recording[&(0, A)], 2).map_or(&[][..], |(frame, _)| frame);
        let ephemerals = [A, B].map(|side| {
            let frame = &kex[side];
            let at = 4 + 2 * usize::from(frame[3]);
            frame[at..at + 32].try_into().unwrap()
        });
        let mut input = lp(b"GB2_4DH_25519_SHA256");
        // Hybrid or not: ChaCha20-Poly1305, since nothing here has AES.
        input.extend_from_slice(&[u8::from(!ciphertext.is_empty()), 1]);
        for part in [&kex[A][..], &kex[B], ciphertext] {
            input.extend(lp(part));
        }
        input.extend(lp(key(A).as_bytes()));
        input.extend(lp(key(B).as_bytes()));
        input.push(0);
        input.extend([lp(b""), lp(b"")].concat());
        Self { recording, th: Sha256::digest(input).into(), ephemerals }
    }

    fn derive(&self, key: &[u8; 32], label: &str, context: &[u8], out: &mut [u8]) {
        let len = u16::try_from(out.len()).unwrap().to_be_bytes();
        let parts = [&len[..], &lp(b"glueberry/2"), &lp(label.as_bytes()), &lp(context)];
        expand(key, &parts.concat(), out);
    }

    fn derived(&self, key: &[u8; 32], label: &str, context: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        self.derive(key, label, context, &mut out);
        out
    }

    /// True if a secret explains the confirmation of a side.
    fn confirms(&self, master: &[u8; 32], side: Side) -> bool {
        let bytes = &self.recording[&(0, side)];
        let (confirm, at) = find(bytes, 3).unwrap();
        let label = ["confirm I", "confirm R"][side];
        let key = self.derived(master, label, &self.th);
        let hs = Sha256::digest(&bytes[..at]);
        hmac(&key, &[&self.th[..], &hs].concat()) == confirm[1..]
    }

    /// Opens the first message of a side with what follows from a secret.
    #[expect(clippy::unwrap_in_result, reason = "what does not open is none, what is wrong panics")]
    fn open(&self, master: &[u8; 32], side: Side) -> Option<Vec<u8>> {
        let context = [&[u8::try_from(side).unwrap()][..], &lp(b"chat"), &self.th].concat();
        let root = self.derived(master, "stream", &context);
        let instance = self.derived(&root, "inst", b"");
        let key = SharedKey::from_bytes(&self.derived(&instance, "key", b"")).unwrap();
        let mut iv = [0; 12];
        self.derive(&instance, "iv", b"", &mut iv);
        let mut written = self
            .recording
            .iter()
            .filter(|((pipe, by), it)| *pipe > 0 && *by == side && !it.is_empty());
        let (_, bytes) = written.next().expect("the stream's substream");
        // Behind the preamble and the OPEN record comes the second, with the message.
        let mut rest = &bytes[12..];
        let next = |rest: &mut &[u8]| {
            let len = usize::from(u16::from_be_bytes(rest[..2].try_into().unwrap()));
            let (record, behind) = rest.split_at(2 + len);
            *rest = behind;
            record.to_vec()
        };
        next(&mut rest);
        let mut record = next(&mut rest);
        let mut nonce = iv;
        nonce[11] ^= 1;
        let (prefix, sealed) = record.split_at_mut(2);
        let (text, tag) = sealed.split_last_chunk_mut::<16>().unwrap();
        let opened = default_aead().key(&key).open(&nonce, prefix, text, tag);
        // The type, and the length of the message.
        opened.is_ok().then(|| text[2..].to_vec())
    }

    fn master(&self, agreements: &Agreements) -> [u8; 32] {
        hmac(&self.th, &agreements.concat())
    }

    /// The agreements that both identities' keys give; the first is unknown.
    fn known(&self) -> [Vec<u8>; 3] {
        let [a, b] = stolen();
        let known = [
            x25519(b, self.ephemerals[A]),
            x25519(a, self.ephemerals[B]),
            x25519(a, key(B).to_x25519()),
        ];
        known.map(|it| it.to_vec())
    }

    /// What might stand in the place of the agreement of both ephemerals: all that can be computed
    /// from the keys of the identities and what is on the wire.
    fn guesses(&self) -> Vec<Vec<u8>> {
        let secrets = stolen();
        let publics =
            [self.ephemerals[A], self.ephemerals[B], key(A).to_x25519(), key(B).to_x25519()];
        let mut guesses = vec![Vec::new(), vec![0; 32]];
        guesses.extend(publics.map(|it| it.to_vec()));
        for secret in secrets {
            guesses.extend(publics.map(|public| x25519(secret, public).to_vec()));
            guesses.push(secret.to_vec());
        }
        // An ephemeral that was derived from nothing but the identity would be as good as stolen.
        for (side, public) in [(A, self.ephemerals[B]), (B, self.ephemerals[A])] {
            let ephemeral = ephemeral(&[0; 32], side, 0);
            guesses.push(x25519(ephemeral, public).to_vec());
        }
        guesses
    }
}

/// The ephemeral private key of a session (WIRE.md §6.4), which needs the entropy too.
fn ephemeral(entropy: &[u8; 32], side: Side, counter: u64) -> [u8; 32] {
    let mut out = [0; 32];
    hedged(entropy, side, counter, b"x25519", &mut out);
    out
}

fn hedged(entropy: &[u8; 32], side: Side, counter: u64, label: &[u8], out: &mut [u8]) {
    let hedge_key = hmac(&[[2; 32], [1; 32]][side], b"glueberry/2 hedge");
    let text = [&entropy[..], &[0; 8], &counter.to_be_bytes(), &[0; 4]].concat();
    let prk = hmac(&hedge_key, &text);
    let len = u16::try_from(out.len()).unwrap().to_be_bytes();
    expand(&prk, &[&len[..], &lp(b"glueberry/2"), &lp(label), &lp(b"")].concat(), out);
}

/// The entropy that a node's seed gives the key exchange of a session.
fn entropy(side: Side, session: u64) -> [u8; 32] {
    let child = |seed: &[u8; 32], label: &[u8], index: u64| {
        let mut out = [0; 32];
        expand(seed, &[b"glueberry seed", label, &index.to_be_bytes()].concat(), &mut out);
        out
    };
    child(&child(&SEEDS[side], b"session", session), b"ephemeral", 0)
}

#[test]
fn v2_does_not_open_with_the_keys_of_both_identities() {
    let attack = Attack::on(record(|| classic(&["chat"])));
    let [es, se, ss] = attack.known();
    let mut masters = Vec::new();
    for ee in attack.guesses() {
        masters.push(attack.master(&[ee.clone(), es.clone(), se.clone(), ss.clone()]));
        masters.push(attack.master(&[ee.clone(), se.clone(), es.clone(), ss.clone()]));
        // The static keys alone, as in v1, and the agreements themselves.
        masters.push(attack.master(&[ee.clone(), Vec::new(), Vec::new(), ss.clone()]));
        masters.push(hmac(&[0; 32], &ee));
        masters.extend(<[u8; 32]>::try_from(ee).ok());
    }
    assert!(masters.len() > 50, "{}", masters.len());
    for master in &masters {
        for side in [A, B] {
            assert!(!attack.confirms(master, side));
            assert_eq!(attack.open(master, side), None);
        }
    }
}

/// The same computation opens everything once one ephemeral key is known.
#[test]
fn v2_opens_with_an_ephemeral_key_as_the_attack_computes_it() {
    for side in [A, B] {
        let attack = Attack::on(record(|| classic(&["chat"])));
        let private = ephemeral(&entropy(side, 0), side, 0);
        assert_eq!(x25519(private, x25519_dalek::X25519_BASEPOINT_BYTES), attack.ephemerals[side]);
        let ee = x25519(private, attack.ephemerals[1 - side]).to_vec();
        let [es, se, ss] = attack.known();
        let master = attack.master(&[ee, es, se, ss]);
        for side in [A, B] {
            assert!(attack.confirms(&master, side));
            assert_eq!(attack.open(&master, side).unwrap(), MESSAGES[side]);
        }
    }
}

/// Discrete logarithms are easy for a quantum computer: it has every key of X25519. What it lacks is the
/// secret of ML-KEM, and with that the same computation opens everything.
#[cfg(feature = "ml-kem")]
#[test]
fn a_hybrid_session_stays_closed_to_a_quantum_computer() {
    use ml_kem::{Decapsulate, DecapsulationKey, MlKem768};

    let attack = Attack::on(record(|| super::v2(&["chat"])));
    let private = ephemeral(&entropy(A, 0), A, 0);
    assert_eq!(x25519(private, x25519_dalek::X25519_BASEPOINT_BYTES), attack.ephemerals[A]);
    let ee = x25519(private, attack.ephemerals[B]).to_vec();
    let [es, se, ss] = attack.known();
    // The KEM's secret stands in front.
    let master =
        |kk: &[u8]| attack.master(&[[kk, &ee].concat(), es.clone(), se.clone(), ss.clone()]);
    let (ciphertext, _) = find(&attack.recording[&(0, A)], 2).unwrap();
    let mut guesses = vec![Vec::new(), vec![0; 32], ciphertext[1..33].to_vec()];
    guesses.push(Sha256::digest(&ciphertext[1..]).to_vec());
    // A key pair that was derived from nothing but the identity would be as good as stolen.
    for entropy in [[0; 32], entropy(B, 0)] {
        let mut seed = [0; 64];
        hedged(&entropy, B, 0, b"ml-kem-768 keygen", &mut seed);
        let key = DecapsulationKey::<MlKem768>::from_seed(seed.into());
        guesses.push(key.decapsulate(ciphertext[1..].try_into().unwrap()).to_vec());
    }
    let right = guesses.pop().unwrap();
    for side in [A, B] {
        for guess in &guesses {
            assert!(!attack.confirms(&master(guess), side));
            assert_eq!(attack.open(&master(guess), side), None);
        }
        assert!(attack.confirms(&master(&right), side));
        assert_eq!(attack.open(&master(&right), side).unwrap(), MESSAGES[side]);
    }
}

/// The seeds of the identities are those of the tests.
#[test]
fn the_stolen_keys_are_the_identities() {
    for (side, seed) in [(A, [2; 32]), (B, [1; 32])] {
        assert_eq!(Identity::from_seed(&seed).public_key(), key(side));
        let public = x25519(stolen()[side], x25519_dalek::X25519_BASEPOINT_BYTES);
        assert_eq!(public, key(side).to_x25519());
    }
}
