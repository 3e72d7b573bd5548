//! Nothing that a program prints holds a secret: it runs in a process of its own with every log of
//! every crate at TRACE, prints its errors, events, metrics and the Debug of what there is, and panics;
//! then its whole output is searched.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "output is what this is about")]

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Debug, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use curve25519_dalek::montgomery::MontgomeryPoint;
use glueberry_proto::crypto::SharedKey;
use glueberry_proto::endpoint::Endpoint;
use glueberry_proto::{Admission, Identity, Instant, Naming, NewConnection, Origin, Seed, compat};
use glueberry_tests::fabric::Fabric;
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{
    AttemptOutcome, Config, ConnectionState, Direction, HANDSHAKE, HandshakeOutcome, Metrics, Node,
};
use hkdf::Hkdf;
use sha2::{Digest, Sha256, Sha512};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const SECRET: &str = "GLUEBERRY_TAINT";
const STREAM: &str = "chat";

#[test]
fn no_output_holds_a_secret() {
    if let Ok(roots) = std::env::var(SECRET) {
        return child(&roots);
    }
    let mut roots = Roots::default();
    for root in roots.0.iter_mut() {
        getrandom::fill(root).unwrap();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_output_holds_a_secret", "--nocapture"])
        .env(SECRET, roots.0.map(hex).join(","))
        .env("RUST_BACKTRACE", "full")
        .output()
        .unwrap();
    let all = &*[output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(all);
    assert!(output.status.success(), "{}", &text[text.len().saturating_sub(4000)..]);
    // It has run, and has said much.
    for expected in ["session closed", "quinn", "multistream", "panicked", "metric", "Established"]
    {
        assert!(text.contains(expected), "nothing is said of {expected}");
    }
    let addrs = text.lines().filter_map(|line| line.strip_prefix("addr "));
    let addrs: Vec<String> = addrs.map(str::to_owned).collect();
    assert_eq!(addrs.len(), 2 * FABRICS.len());
    // By their first bytes, so that one pass over the output is enough.
    let mut patterns: HashMap<[u8; 4], Vec<(String, Vec<u8>)>> = HashMap::new();
    for (name, secret) in roots.secrets(&addrs) {
        for (form, pattern) in forms(&secret) {
            let begin = *pattern.first_chunk().unwrap();
            patterns.entry(begin).or_default().push((format!("{name} as {form}"), pattern));
        }
    }
    let found: BTreeSet<&String> = (0..all.len())
        .filter_map(|at| Some((at, patterns.get(all.get(at..)?.first_chunk::<4>()?)?)))
        .flat_map(|(at, patterns)| patterns.iter().filter(move |(_, it)| all[at..].starts_with(it)))
        .map(|(name, _)| name)
        .collect();
    assert!(found.is_empty(), "in the output: {found:?}");
}

/// The search finds each form of what is there.
#[test]
fn every_form_is_found() {
    let secret: Vec<u8> = (100..132).collect();
    let printed = [
        ("raw", secret.clone()),
        ("hex", hex(secret.clone().try_into().unwrap()).into_bytes()),
        ("upper hex", hex(secret.clone().try_into().unwrap()).to_uppercase().into_bytes()),
        ("decimal", format!("{secret:?}").into_bytes()),
        ("pretty decimal", format!("{secret:#?}").into_bytes()),
        ("escaped", secret.escape_ascii().to_string().into_bytes()),
        ("hexadecimal list", format!("{secret:02x?}").into_bytes()),
        ("base64", format!("x{}", base64(&secret, b"+/")).into_bytes()),
        ("base64", base64(&[b"x", &secret[..]].concat(), b"+/").into_bytes()),
        ("base64", base64(&[b"xy", &secret[..]].concat(), b"-_").into_bytes()),
    ];
    for (name, text) in printed {
        let is_found = forms(&secret)
            .iter()
            .any(|(_, form)| text.windows(form.len()).any(|window| window == &form[..]));
        assert!(is_found, "{name} is not found");
    }
}

/// What the child's secrets follow from: two identities, the seed of a core, and what is sent.
#[derive(Default)]
struct Roots([[u8; 32]; 5]);

impl Roots {
    fn secrets(&self, addrs: &[String]) -> Vec<(String, Vec<u8>)> {
        let [a, b, seed, hello, message] = self.0;
        let mut all: Vec<(String, Vec<u8>)> = Vec::new();
        let mut add = |name: &str, secret: &[u8]| all.push((name.to_owned(), secret.to_vec()));
        add("payload of a handshake message", &hello);
        add("payload of a message", &message);
        add("seed of the core", &seed);
        for root in [a, b] {
            let hash = Sha512::digest(root);
            let mut clamped: [u8; 32] = hash[..32].try_into().unwrap();
            add("identity", &root);
            add("half of the identity's hash", &clamped);
            add("other half of it", &hash[32..]);
            clamped[0] &= 0xf8;
            clamped[31] = (clamped[31] & 0x7f) | 0x40;
            add("x25519 private key", &clamped);
            let (hedge, _) = Hkdf::<Sha256>::extract(Some(&root), b"glueberry/2 hedge");
            add("hedge key", &hedge);
            let pair = Keypair::ed25519_from_bytes(root).unwrap();
            for addr in addrs {
                for what in ["stateless reset", "connection ids"] {
                    let domain = format!("glueberry quic {what} {addr}");
                    add(what, &pair.derive_secret(domain.as_bytes()).unwrap());
                }
            }
        }
        let own = compat::ed25519_private_to_x25519(&[a, [0; 32]].concat()).unwrap();
        let theirs = Identity::from_seed(&b).public_key();
        let agreed = MontgomeryPoint(theirs.to_x25519()).mul_clamped(*own).to_bytes();
        let (prk, _) = Hkdf::<Sha256>::extract(None, &agreed);
        add("agreement", &agreed);
        add("pseudorandom key", &prk);
        let key = Identity::from_seed(&a).agree_v1(&theirs).unwrap();
        add("key of v1", key.as_bytes());
        for session in 0..3_u64 {
            let child = child_seed(&seed, b"session", session);
            for substream in 0..4 {
                add("seed of nonces", &child_seed(&child, b"substream", substream));
            }
            add("seed of a session", &child);
        }
        all
    }
}

fn child_seed(seed: &[u8; 32], label: &[u8], index: u64) -> [u8; 32] {
    let mut child = [0; 32];
    let info: [&[u8]; 3] = [b"glueberry seed", label, &index.to_be_bytes()];
    Hkdf::<Sha256>::from_prk(seed).unwrap().expand_multi_info(&info, &mut child).unwrap();
    child
}

/// How the two halves of a secret may have been printed.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = Vec::new();
    for half in secret.chunks(16) {
        let list = |separator: &str, show: fn(&u8) -> String| {
            half.iter().map(show).collect::<Vec<_>>().join(separator).into_bytes()
        };
        forms.extend([
            ("raw bytes", half.to_vec()),
            ("hex", list("", |byte| format!("{byte:02x}"))),
            ("upper hex", list("", |byte| format!("{byte:02X}"))),
            ("hex with colons", list(":", |byte| format!("{byte:02x}"))),
            ("hex with blanks", list(" ", |byte| format!("{byte:02x}"))),
            ("list", list(", ", ToString::to_string)),
            ("list without blanks", list(",", ToString::to_string)),
            ("list with blanks only", list(" ", ToString::to_string)),
            ("pretty list", list(",\n    ", ToString::to_string)),
            ("list of hex", list(", ", |byte| format!("{byte:02x}"))),
            ("list of hex with 0x", list(", ", |byte| format!("{byte:#04x}"))),
            ("escaped text", half.escape_ascii().to_string().into_bytes()),
        ]);
        for alphabet in [b"+/", b"-_"] {
            for before in 0..3 {
                let padded = [&vec![0; before][..], half].concat();
                let text = base64(&padded, alphabet);
                // Without the first and the last digits, which depend on what is beside.
                let whole = text.trim_end_matches('=');
                forms.push((
                    "base64",
                    whole.as_bytes()[(before * 8).div_ceil(6)..whole.len() - 1].to_vec(),
                ));
            }
        }
    }
    forms
}

fn base64(bytes: &[u8], last_two: &[u8; 2]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| {
            bits << 8 | usize::from(group.get(at).copied().unwrap_or_default())
        });
        for at in 0..4 {
            let digit = bits >> (18 - 6 * at) & 63;
            text.push(match DIGITS.get(digit) {
                _ if at > group.len() => '=',
                Some(digit) => char::from(*digit),
                None => char::from(last_two[digit - DIGITS.len()]),
            });
        }
    }
    text
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// ---- the program ------------------------------------------------------------------------------

const FABRICS: [Fabric; 4] = [Fabric::RawQuic, Fabric::Noise, Fabric::Tls, Fabric::Quic];

fn child(roots: &str) {
    tracing::subscriber::set_global_default(Loud::default()).unwrap();
    let mut decoded = Roots::default();
    for (root, text) in decoded.0.iter_mut().zip(roots.split(',')) {
        for (byte, at) in root.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        }
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for fabric in FABRICS {
        runtime.block_on(nodes(fabric, &decoded));
    }
    core(&decoded);
    let held =
        (Keypair::ed25519_from_bytes(decoded.0[0]).unwrap(), Identity::from_seed(&decoded.0[1]));
    let panicked = std::panic::catch_unwind(|| panic!("{held:?}"));
    panicked.unwrap_err();
}

/// What an application does, right and wrong.
async fn nodes(fabric: Fabric, roots: &Roots) {
    let [a, b, _, hello, message] = roots.0;
    let start = async |root: [u8; 32]| {
        let builder = Node::builder(Keypair::ed25519_from_bytes(root).unwrap())
            .config(Config::default())
            .streams([STREAM])
            .metrics(Arc::new(Printed))
            .listen(fabric.listen());
        println!("{builder:?}");
        fabric.build(builder).await.unwrap()
    };
    let (a, b) = (start(a).await, start(b).await);
    for node in [&a, &b] {
        let addr = node.addrs()[0].to_string();
        let parts: Vec<&str> = addr.split('/').collect();
        println!("addr {}:{}", parts[2], parts[4]);
    }
    let (mut at_a, mut at_b) = (a.messages().unwrap(), b.messages().unwrap());
    let mut events = [a.events(), b.events()];
    let (peer, stranger) = (b.peer_id(), Keypair::generate_ed25519().public().to_peer_id());
    told(a.connect(stranger).await);
    told(a.send(peer, STREAM, message.to_vec()).await);
    told(a.add_peer(peer, ["/ip4/127.0.0.1/tcp/1/ws".parse().unwrap()]).await);
    a.add_peer(peer, b.addrs()).await.unwrap();
    a.connect(peer).await.unwrap();
    while b.connection_state(a.peer_id()) != ConnectionState::Connected {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    told(a.connect(peer).await);
    told(a.send(peer, HANDSHAKE, vec![0; 100_000]).await);
    a.send(peer, HANDSHAKE, hello.to_vec()).await.unwrap();
    println!("{:?}", at_b.recv().await);
    told(a.prepare_streams(peer, a.public_key(), &[STREAM]).await);
    told(a.prepare_streams(peer, b.public_key(), &[HANDSHAKE]).await);
    a.complete_handshake(peer, b.public_key(), &[STREAM]).await.unwrap();
    b.complete_handshake(a.peer_id(), a.public_key(), &[STREAM]).await.unwrap();
    a.send(peer, STREAM, message.to_vec()).await.unwrap();
    println!("{:?}", at_b.recv().await);
    b.send(a.peer_id(), STREAM, message.to_vec()).await.unwrap();
    println!("{:?}", at_a.recv().await);
    told(a.send(peer, "unknown", message.to_vec()).await);
    told(a.prepare_streams(peer, b.public_key(), &[STREAM]).await);
    println!("{:?} {:?} {:?}", a, a.stream(peer, STREAM), a.peer_statistics(peer));
    println!("{:?} {:?} {:?}", a.debug_state().await, a.health().await, a.peers().await);
    b.blacklist_peer(a.peer_id(), None).await.unwrap();
    told(a.connect(peer).await);
    a.shutdown().await;
    b.shutdown().await;
    told(a.send(peer, STREAM, message.to_vec()).await);
    for events in &mut events {
        while let Ok(Some(event)) =
            tokio::time::timeout(Duration::from_millis(100), events.recv()).await
        {
            println!("{event:?}");
        }
    }
    println!("{a:?} {at_a:?} {:?}", events);
}

/// The machines themselves.
fn core(roots: &Roots) {
    let [a, b, seed, ..] = roots.0;
    let identity = || Identity::from_seed(&a);
    let peer = Identity::from_seed(&b).public_key();
    let config = || {
        let mut config = glueberry_proto::Config::default();
        config.streams = vec![glueberry_proto::StreamName::new(STREAM).unwrap()];
        config
    };
    let now = Instant::ZERO;
    let mut node =
        glueberry_proto::Node::new(now, identity(), config(), Seed::from_bytes(seed)).unwrap();
    for _ in 0..2 {
        let connection = NewConnection { peer, origin: Origin::Accepted, naming: Naming::Preamble };
        println!("{connection:?}");
        if let Admission::Accept(mut session) = node.handle_connection(now, connection) {
            println!("{:?}", session.send_handshake(now, roots.0[3].to_vec().into()));
            println!("{:?}", session.prepare_streams(now, peer, &config().streams));
            while let Some(action) = session.poll_action() {
                println!("{action:?}");
            }
            println!("{session:#?}");
        }
    }
    println!("{node:#?}");
    println!("{:#?}", Endpoint::new(now, identity(), config(), Seed::from_bytes(seed)).unwrap());
    let key = identity().agree_v1(&peer).unwrap();
    println!("{key:?} {:?} {:?}", SharedKey::from_bytes(&a[..31]), compat::Cipher::from_key(&key));
    println!("{:?} {:?}", identity(), Seed::from_bytes(seed));
    println!("{:?}", Identity::from_keypair_bytes(&[a, b].concat()));
    println!("{:?}", compat::derive_shared_key(&identity(), &[0; 32]));
    println!("{:?}", glueberry_proto::crypto::default_aead());
}

fn told<T: Debug>(result: Result<T, glueberry_tokio::Error>) {
    let Err(error) = result else { return };
    println!("{error:?} {error} {:?}", error.hint());
    let mut source: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(error) = source {
        println!("{error:?} {error}");
        source = error.source();
    }
}

/// Prints whatever is logged, by whichever crate and at whatever level.
#[derive(Default)]
struct Loud {
    spans: AtomicU64,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

fn print(metadata: &Metadata<'_>, fields: impl FnOnce(&mut Line)) {
    let mut line = Line(format!("{} {} {}", metadata.level(), metadata.target(), metadata.name()));
    fields(&mut line);
    eprintln!("{}", line.0);
}

impl Subscriber for Loud {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        print(span.metadata(), |line| span.record(line));
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        eprintln!("{}", line.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        print(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Debug)]
struct Printed;

fn metric(what: fmt::Arguments<'_>) {
    println!("metric {what}");
}

impl Metrics for Printed {
    fn connection_opened(&self, direction: Direction) {
        metric(format_args!("{direction:?}"));
    }

    fn connection_attempt(&self, outcome: AttemptOutcome) {
        metric(format_args!("{outcome:?}"));
    }

    fn handshake_result(&self, outcome: HandshakeOutcome) {
        metric(format_args!("{outcome:?}"));
    }

    fn message_sent(&self, stream: &str, bytes: usize) {
        metric(format_args!("{stream} {bytes}"));
    }

    fn message_received(&self, stream: &str, bytes: usize) {
        metric(format_args!("{stream} {bytes}"));
    }

    fn stream_opened(&self, stream: &str) {
        metric(format_args!("{stream}"));
    }

    fn event_emitted(&self, state: ConnectionState) {
        metric(format_args!("{state:?}"));
    }
}
