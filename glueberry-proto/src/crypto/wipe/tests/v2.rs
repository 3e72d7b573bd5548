//! Sessions of v2: what memory holds of each secret of the key schedule (WIRE.md §6.4, §7.3), once it
//! was used and once the session is over.

use core::time::Duration;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{left_over, scalar};
use crate::crypto::wipe::on_wiped_stack;
use crate::crypto::{Identity, RustCrypto, SharedKey, diffie_hellman};
use crate::time::Instant;
use crate::v2::agreement::{Binding, Ephemeral, Hedge, Parties, Transcript};
use crate::v2::gate::{Application, Gate, Messages, Setup, Step};
use crate::v2::kem::Share;
use crate::v2::kex::Kex;
use crate::v2::record::{Cipher, Opener, Sealer};
use crate::v2::schedule::{Master, StreamRoot, derive, expand};
use crate::v2::{Padding, Role, Suite};
use crate::wire::StreamName;

/// Seeds of both identities, I's first, and the entropy of both ephemerals.
type Inputs<'a> = [&'a [u8; 32]; 4];

const INPUTS: [&str; 4] = ["identity of I", "identity of R", "entropy of I", "entropy of R"];
const ROLES: [Role; 2] = [Role::Initiator, Role::Responder];
/// Hybrid where that can be: it has all the secrets of the other, too.
const SUITE: Suite = match cfg!(feature = "ml-kem") {
    true => Suite::MlKem768ChaCha20Poly1305,
    false => Suite::ChaCha20Poly1305,
};

/// A secret, and whether a session that runs still needs it.
struct Secret {
    name: &'static str,
    bytes: Vec<u8>,
    is_needed: bool,
}

fn ephemeral(role: Role, identity: &Identity, entropy: &[u8; 32]) -> Ephemeral {
    let hedge = Hedge { identity, entropy, wall_ms: 1, counter: 2, binding: &[] };
    hedge.ephemeral(role, &[SUITE])
}

fn name() -> StreamName {
    StreamName::new("chat").unwrap()
}

/// Computes every secret of the session, as [`session`] has them.
fn schedule(inputs: Inputs<'_>) -> Vec<Secret> {
    let mut all = Vec::new();
    let mut add = |name, bytes: &[u8], is_needed| {
        all.push(Secret { name, bytes: bytes.to_vec(), is_needed });
    };
    let identities = [0, 1].map(|at| Identity::from_seed(inputs[at]));
    let ephemerals = [0, 1].map(|at| ephemeral(ROLES[at], &identities[at], inputs[at + 2]));
    for (at, identity) in identities.iter().enumerate() {
        add("entropy", inputs[at + 2], false);
        add("hedge key", identity.hedge_key().as_bytes(), false);
        let hedge =
            Hedge { identity, entropy: inputs[at + 2], wall_ms: 1, counter: 2, binding: &[] };
        let prk = hedge.prk(2);
        add("pseudorandom key of an ephemeral", prk.as_bytes(), false);
        let mut seed = [0; 64];
        expand(prk.as_bytes(), "ml-kem-768 keygen", &[], &mut seed);
        add("first half of a seed of ML-KEM", &seed[..32], false);
        add("second half of a seed of ML-KEM", &seed[32..], false);
        let coins = derive(prk.as_bytes(), "ml-kem-768 encaps", &[]);
        add("coins of ML-KEM", coins.as_bytes(), false);
        add("ephemeral", ephemerals[at].private().as_bytes(), false);
    }
    let statics = [0, 1].map(|at| <[u8; 32]>::try_from(scalar(inputs[at]).1).unwrap());
    let public = |at: usize| identities[at].public_key().to_x25519();
    let private = |at: usize| ephemerals[at].private().as_bytes();
    let agreed =
        |private: &[u8; 32], public: &[u8; 32]| diffie_hellman(private, public).unwrap().to_vec();
    add("ee", &agreed(private(0), ephemerals[1].public()), false);
    add("es", &agreed(private(0), &public(1)), false);
    add("se", &agreed(&statics[0], ephemerals[1].public()), false);
    add("ss", &agreed(&statics[0], &public(1)), false);
    let key = ephemerals[1].share().and_then(Share::encapsulation_key);
    let encapsulated = ephemerals[0].share().zip(key.as_deref());
    let encapsulated = encapsulated.map(|(share, key)| share.encapsulate(key).unwrap());
    let mut ciphertext = Vec::new();
    if let Some((bytes, secret)) = &encapsulated {
        ciphertext = [&[0x02], &bytes[..]].concat();
        add("secret of ML-KEM", secret.as_bytes(), false);
    }
    let kex = [0, 1].map(|at| {
        let kex = Kex {
            bindings: Binding::None.mask(),
            suites: vec![SUITE.code()],
            ephemeral: *ephemerals[at].public(),
            kem_key: ephemerals[at].share().and_then(Share::encapsulation_key),
        };
        kex.emit()
    });
    let transcript = Transcript {
        suite: SUITE,
        kex: [&kex[0], &kex[1]],
        kem_ciphertext: &ciphertext,
        identities: [0, 1].map(|at| identities[at].public_key()),
        binding: Binding::None,
        application: b"",
    };
    let peer = identities[1].public_key();
    let (peers, secret) = (ephemerals[1].public(), encapsulated.as_ref().map(|(_, secret)| secret));
    let th = transcript.hash();
    let parties = Parties { role: Role::Initiator, identity: &identities[0], peer: &peer };
    let master = ephemerals[0].agree(&parties, peers, secret, th).unwrap();
    add("master", master.secret().as_bytes(), false);
    add("exporter", master.exporter().as_bytes(), true);
    for role in ROLES {
        add("confirmation key", master.confirm_key(role).as_bytes(), false);
        epochs(&master.control(role), &mut add);
        let mut root = master.stream(role, &name());
        add("first root of a stream", root.secret().as_bytes(), false);
        epochs(&root.next_instance(), &mut add);
        add("next root of a stream", root.secret().as_bytes(), true);
    }
    all
}

/// The secrets of a direction whose first epoch is over.
fn epochs(first: &SharedKey, add: &mut impl FnMut(&'static str, &[u8], bool)) {
    let next = derive(first.as_bytes(), "rekey", &[]);
    for (secret, is_needed) in [(first, false), (&next, true)] {
        add("secret of an epoch", secret.as_bytes(), false);
        add("key of an epoch", derive(secret.as_bytes(), "key", &[]).as_bytes(), is_needed);
        let mut iv = [0; 12];
        expand(secret.as_bytes(), "iv", &[], &mut iv);
        add("iv of an epoch", &iv, is_needed);
    }
    add("secret of the next epoch", derive(next.as_bytes(), "rekey", &[]).as_bytes(), true);
}

/// What both sides of an Established session hold: of the stream what each sends with, and receives.
type Session = ([Gate; 2], Vec<(StreamRoot, Sealer, StreamRoot, Opener)>);

/// Takes two sides through a session up to the second epoch of each direction.
fn session(inputs: Inputs<'_>) -> Box<Session> {
    let identities = [0, 1].map(|at| Arc::new(Identity::from_seed(inputs[at])));
    let mut gates = ROLES.map(|role| {
        let (at, other) = match role {
            Role::Initiator => (0, 1),
            Role::Responder => (1, 0),
        };
        Gate::new(Setup {
            role,
            identity: identities[at].clone(),
            peer: identities[other].public_key(),
            aead: Arc::new(RustCrypto),
            suites: vec![SUITE],
            ephemeral: ephemeral(role, &identities[at], inputs[at + 2]),
            binding: Binding::None,
            padding: Padding::None,
            application: Vec::new(),
            now: Instant::ZERO,
        })
    });
    // KEX, the ciphertext and CONFIRM; a record of each side; then one that is the last of its epoch.
    let mut apps = [App::default(), App::default()];
    for now in [Instant::ZERO, Instant::ZERO, Instant::ZERO, later(0), later(1)] {
        let mut wires = [BytesMut::new(), BytesMut::new()];
        for at in [0, 1] {
            gates[at].commit();
            gates[at].write(&mut wires[at], usize::MAX, now, &mut apps[at]);
            apps[at].message = gates[at].is_confirmed().then(|| Bytes::from_static(b"sealed"));
        }
        for at in [0, 1] {
            while !matches!(
                gates[at].read(&mut wires[1 - at], Messages::Taken, now).unwrap(),
                Step::More { .. }
            ) {}
            apps[at].message = gates[at].is_confirmed().then(|| Bytes::from_static(b"sealed"));
        }
    }
    assert!(gates.iter().all(Gate::is_confirmed));
    // Established: the streams have their roots, and the master secret goes.
    let cipher = Cipher { aead: Arc::new(RustCrypto), suite: SUITE, padding: Padding::None };
    let masters: Vec<Master> =
        gates.iter_mut().map(|gate| gate.take_master().expect("once")).collect();
    let ends = masters.iter().zip(ROLES).map(|(master, role)| {
        let (mut own, mut peers) =
            (master.stream(role, &name()), master.stream(role.other(), &name()));
        let sealer = Sealer::new(cipher.clone(), &own.next_instance());
        let opener = Opener::new(cipher.clone(), &peers.next_instance());
        (own, sealer, peers, opener)
    });
    let mut streams: Vec<_> = ends.collect();
    drop(masters);
    for now in [later(0), later(1)] {
        for at in [0, 1] {
            let mut wire = BytesMut::new();
            let mut writer = streams[at].1.write(&mut wire, now);
            writer.put(b"slice");
            writer.finish();
            streams[1 - at].3.open(&mut wire).unwrap();
        }
    }
    Box::new((gates, streams))
}

/// An epoch whose first record was sealed at `later(0)` is over at `later(1)`.
fn later(epochs: u32) -> Instant {
    Instant::ZERO + Duration::from_secs(600) * epochs
}

#[derive(Default)]
struct App {
    message: Option<Bytes>,
}

impl Application for App {
    fn next_message(&mut self) -> Option<Bytes> {
        self.message.take()
    }

    fn is_finished(&self) -> bool {
        false
    }
}

fn names(inputs: Inputs<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let all = schedule(inputs).into_iter();
    all.map(|it| (if it.is_needed { "needed" } else { it.name }, it.bytes)).collect()
}

/// What is needed no more is gone while the session runs: a process that is compromised later gives
/// nothing of the past away.
#[test]
fn a_session_of_v2_that_runs_holds_what_it_needs_and_nothing_of_the_past() {
    let left = left_over(
        "crypto::wipe::tests::v2::a_session_of_v2_that_runs_holds_what_it_needs_and_nothing_of_the_past",
        INPUTS,
        names,
        |inputs| std::mem::forget(on_wiped_stack(|| session(inputs))),
    );
    // The identities live as long as the node.
    let past: Vec<_> =
        left.iter().filter(|one| !one.starts_with("needed") && !one.starts_with("input")).collect();
    assert!(past.is_empty(), "left in memory: {past:?}");
    let needed = left.iter().filter(|one| one.starts_with("needed")).count();
    // Of each end: the exporter, four keys with their ivs and next secrets, and two roots.
    assert!(needed >= 2 * (1 + 4 * 3 + 2), "{left:?}");
}

#[test]
fn a_session_of_v2_that_is_over_leaves_nothing() {
    let secrets =
        |inputs: Inputs<'_>| schedule(inputs).into_iter().map(|it| (it.name, it.bytes)).collect();
    let left = left_over(
        "crypto::wipe::tests::v2::a_session_of_v2_that_is_over_leaves_nothing",
        INPUTS,
        secrets,
        |inputs| on_wiped_stack(|| drop(session(inputs))),
    );
    assert!(left.is_empty(), "left in memory: {left:?}");
}
