//! What is left in memory of secrets that were dropped.
//!
//! A computation runs in a process of its own, which then searches its whole memory. The secrets that
//! it looks for come from its parent, with every bit inverted, so that they are not in memory by that.

mod v2;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::process::Command;
use std::sync::{Arc, Barrier};

use hkdf::Hkdf;
use sha2::{Digest, Sha256, Sha512};

use crate::crypto::{Aead, Identity, RustCrypto, SharedKey, default_aead};
use crate::seed::Seed;
use crate::v2::schedule::{Master, StreamRoot};

/// Checks that nothing is left of the `secrets` once the test named `test` has run `compute`, which
/// gets 32 random bytes for each of the `inputs`.
fn assert_nothing_left<const N: usize>(
    test: &str,
    inputs: [&str; N],
    secrets: fn([&[u8; 32]; N]) -> Vec<(&'static str, Vec<u8>)>,
    compute: fn([&[u8; 32]; N]),
) {
    let left = left_over(test, inputs, secrets, compute);
    assert!(left.is_empty(), "left in memory: {left:?}");
}

fn left_over<const N: usize>(
    test: &str,
    inputs: [&str; N],
    secrets: fn([&[u8; 32]; N]) -> Vec<(&'static str, Vec<u8>)>,
    compute: fn([&[u8; 32]; N]),
) -> Vec<String> {
    if let Ok(inverted) = std::env::var(SECRETS) {
        child::<N>(&inverted, compute);
    }
    let seeds = inputs.map(random);
    let secrets = secrets(seeds.each_ref());
    let inputs = seeds.map(|input| ("input", input.to_vec()));
    let all = inputs
        .iter()
        .chain(&secrets)
        .map(|(_, secret)| hex::encode(secret.iter().map(|byte| !byte).collect::<Vec<_>>()));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(SECRETS, all.collect::<Vec<_>>().join(","))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains(SEARCHED), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let found = printed.lines().filter_map(|line| line.strip_prefix(FOUND));
    found
        .map(|line| {
            let (index, place) = line.split_once(' ').unwrap();
            let index = index.parse::<usize>().unwrap();
            let name = inputs.iter().chain(&secrets).nth(index).unwrap().0;
            format!("{name} in {place}")
        })
        .collect()
}

/// Computes on a thread whose stack nothing touches afterwards, and searches from another.
fn child<const N: usize>(inverted: &str, compute: fn([&[u8; 32]; N])) -> ! {
    let inverted = inverted.split(',').map(|one| hex::decode(one).unwrap()).collect::<Vec<_>>();
    let inputs = inverted[..N].to_vec();
    let is_done = Arc::new(Barrier::new(2));
    let done = is_done.clone();
    std::thread::spawn(move || {
        {
            // Where they are written they are wiped: what is found is the computation's.
            let mut plain = Box::new([[0_u8; 32]; N]);
            for (plain, inverted) in plain.iter_mut().zip(&inputs) {
                plain.iter_mut().zip(inverted).for_each(|(plain, byte)| *plain = !byte);
            }
            compute(std::array::from_fn(|index| &plain[index]));
            zeroize::Zeroize::zeroize(&mut *plain);
        }
        done.wait();
        loop {
            std::thread::park();
        }
    });
    is_done.wait();
    println!();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut memory = File::open("/proc/self/mem").unwrap();
    let mut chunk = vec![0; CHUNK];
    let own = chunk.as_ptr().addr()..chunk.as_ptr().addr() + CHUNK;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut at = start;
        while at < end {
            let len = CHUNK.min(usize::try_from(end - at).unwrap());
            memory.seek(SeekFrom::Start(at)).unwrap();
            if memory.read_exact(&mut chunk[..len]).is_err() {
                break;
            }
            for (index, secret) in inverted.iter().enumerate() {
                for (offset, window) in chunk[..len].windows(secret.len()).enumerate() {
                    let is_same = window.iter().zip(secret).all(|(byte, other)| *byte == !other);
                    let place = usize::try_from(at).unwrap() + offset;
                    if is_same && !own.contains(&place) {
                        println!("{FOUND}{index} {}", line.rsplit(' ').next().unwrap());
                    }
                }
            }
            // Secrets across two chunks are found in the second.
            at += u64::try_from(if len < CHUNK { len } else { len - 64 }).unwrap();
        }
    }
    println!("{SEARCHED}");
    std::process::exit(0)
}

const SECRETS: &str = "GLUEBERRY_INVERTED_SECRETS";
const FOUND: &str = "found ";
const SEARCHED: &str = "memory was searched";
const CHUNK: usize = 1 << 16;

/// The harness finds what is there.
#[test]
fn a_secret_that_is_kept_is_found() {
    let left = left_over(
        "crypto::wipe::tests::a_secret_that_is_kept_is_found",
        ["kept"],
        |_| Vec::new(),
        |[secret]| std::mem::forget(SharedKey::from_bytes(secret)),
    );
    assert!(left.iter().any(|one| one.starts_with("input")), "{left:?}");
}

fn scalar(seed: &[u8; 32]) -> (Vec<u8>, Vec<u8>) {
    let hash = Sha512::digest(seed).to_vec();
    let mut clamped = hash[..32].to_vec();
    clamped[0] &= 0xf8;
    clamped[31] = (clamped[31] & 0x7f) | 0x40;
    (hash, clamped)
}

fn random(label: &str) -> [u8; 32] {
    Sha256::digest(label).into()
}

#[test]
fn an_identity_and_a_key_of_v1_leave_nothing() {
    let secrets = |[own, peer]: [&[u8; 32]; 2]| {
        let (identity, public) = (Identity::from_seed(own), Identity::from_seed(peer).public_key());
        let (hash, clamped) = scalar(own);
        let private: &[u8; 32] = clamped.as_slice().try_into().unwrap();
        let agreed = crate::crypto::diffie_hellman(private, &public.to_x25519()).unwrap();
        let (prk, _) = Hkdf::<Sha256>::extract(None, &*agreed);
        vec![
            ("half of the hash of the seed", hash[..32].to_vec()),
            ("the other half", hash[32..].to_vec()),
            ("clamped scalar", clamped.clone()),
            ("result of the agreement", agreed.to_vec()),
            ("pseudorandom key", prk.to_vec()),
            ("key", identity.agree_v1(&public).unwrap().as_bytes().to_vec()),
        ]
    };
    assert_nothing_left(
        "crypto::wipe::tests::an_identity_and_a_key_of_v1_leave_nothing",
        ["own", "peer"],
        secrets,
        |[own, peer]| {
            let identity = Identity::from_seed(own);
            let key = identity.agree_v1(&Identity::from_seed(peer).public_key()).unwrap();
            for aead in [default_aead(), Arc::new(RustCrypto)] {
                drop(aead.key(&key));
            }
        },
    );
}

#[cfg(feature = "multiformats")]
#[test]
fn a_key_pair_of_libp2p_leaves_nothing_here() {
    assert_nothing_left(
        "crypto::wipe::tests::a_key_pair_of_libp2p_leaves_nothing_here",
        ["own"],
        |[own]| {
            let (hash, clamped) = scalar(own);
            vec![("hash", hash[..32].to_vec()), ("clamped scalar", clamped)]
        },
        |[own]| {
            let mut copy = zeroize::Zeroizing::new([0; 64]);
            copy[..32].copy_from_slice(own);
            super::on_wiped_stack(|| {
                let public = Identity::from_seed(own).public_key();
                copy[32..].copy_from_slice(public.as_bytes());
            });
            // Only what is between libp2p's key pair and ours is this crate's.
            let pair = super::on_wiped_stack(|| {
                libp2p_identity::ed25519::Keypair::try_from_bytes(&mut *copy)
                    .map(|pair| Box::new(libp2p_identity::Keypair::from(pair)))
            });
            let identity = Identity::try_from(&*pair.unwrap()).unwrap();
            // The caller wipes what a move leaves.
            super::on_wiped_stack(|| drop(identity.x25519_private()));
            super::overwrite::<{ super::WORDS }>();
        },
    );
}

#[test]
fn seeds_leave_nothing() {
    let secrets = |[seed]: [&[u8; 32]; 1]| {
        let session = Seed::from_bytes(*seed).child(b"session", 1);
        let nonces = session.child(b"substream", 2).bytes().to_vec();
        vec![("child", session.bytes().to_vec()), ("grandchild", nonces)]
    };
    assert_nothing_left("crypto::wipe::tests::seeds_leave_nothing", ["seed"], secrets, |[seed]| {
        let mut boxed = Box::new([Seed::from_bytes(*seed)]);
        let session = boxed[0].child(b"session", 1);
        let mut nonces = session.child(b"substream", 2).generator();
        nonces.nonce();
        boxed[0].mix(&[1; 32]);
    });
}

#[test]
fn the_schedule_of_v2_leaves_nothing() {
    let secrets = |[secret]: [&[u8; 32]; 1]| {
        let master = Master::extract(random("th"), &[secret, secret]);
        let name = crate::wire::StreamName::new("chat").unwrap();
        let mut root = master.stream(crate::v2::Role::Initiator, &name);
        let first = root.secret().as_bytes().to_vec();
        let instance = root.next_instance();
        vec![
            ("master", master.secret().as_bytes().to_vec()),
            ("exporter", master.exporter().as_bytes().to_vec()),
            ("confirmation", master.confirm_key(crate::v2::Role::Responder).as_bytes().to_vec()),
            ("root", first),
            ("next root", root.secret().as_bytes().to_vec()),
            (
                "key",
                crate::v2::schedule::derive(instance.as_bytes(), "key", &[]).as_bytes().to_vec(),
            ),
            ("instance", instance.as_bytes().to_vec()),
        ]
    };
    assert_nothing_left(
        "crypto::wipe::tests::the_schedule_of_v2_leaves_nothing",
        ["secret"],
        secrets,
        |[secret]| {
            let master = Master::extract(random("th"), &[secret, secret]);
            let name = crate::wire::StreamName::new("chat").unwrap();
            drop((master.exporter(), master.confirm_key(crate::v2::Role::Responder)));
            let mut root: StreamRoot = master.stream(crate::v2::Role::Initiator, &name);
            let instance = root.next_instance();
            let key = crate::v2::schedule::derive(instance.as_bytes(), "key", &[]);
            drop(RustCrypto.key(&key));
        },
    );
}

#[test]
fn an_agreement_of_v2_leaves_nothing() {
    use crate::v2::Role;
    use crate::v2::agreement::{Ephemeral, Parties};
    fn parties<'a>(identity: &'a Identity, peer: &'a crate::crypto::PublicKey) -> Parties<'a> {
        Parties { role: Role::Initiator, identity, peer }
    }
    let secrets = |[own, ephemeral]: [&[u8; 32]; 2]| {
        let peer = || Identity::from_seed(&random("peer")).public_key();
        let theirs = *Ephemeral::from_private(&random("theirs"), None).public();
        let identity = Identity::from_seed(own);
        let (_, clamped) = scalar(own);
        let dh = |private: &[u8], public: &[u8; 32]| {
            crate::crypto::diffie_hellman(private.try_into().unwrap(), public).unwrap().to_vec()
        };
        let agreement = Ephemeral::from_private(ephemeral, None)
            .agree(&parties(&identity, &peer()), &theirs, None, [7; 32])
            .unwrap();
        vec![
            ("ephemeral agreement", dh(ephemeral, &theirs)),
            ("ephemeral with identity", dh(ephemeral, &peer().to_x25519())),
            ("identity with ephemeral", dh(&clamped, &theirs)),
            ("identities", dh(&clamped, &peer().to_x25519())),
            ("clamped scalar", clamped),
            ("hedge key", identity.hedge_key().as_bytes().to_vec()),
            ("master", agreement.secret().as_bytes().to_vec()),
        ]
    };
    assert_nothing_left(
        "crypto::wipe::tests::an_agreement_of_v2_leaves_nothing",
        ["own", "ephemeral"],
        secrets,
        |[own, private]| {
            let identity = Identity::from_seed(own);
            let peer = Identity::from_seed(&random("peer")).public_key();
            let theirs = *Ephemeral::from_private(&random("theirs"), None).public();
            let ephemeral = Ephemeral::from_private(private, None);
            drop(ephemeral.agree(&parties(&identity, &peer), &theirs, None, [7; 32]).unwrap());
            let hedge = crate::v2::agreement::Hedge {
                identity: &identity,
                entropy: private,
                wall_ms: 1,
                counter: 2,
                binding: &[],
            };
            drop(hedge.ephemeral(Role::Initiator, &[crate::v2::Suite::ChaCha20Poly1305]));
        },
    );
}
