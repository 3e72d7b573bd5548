//! C10, measured: what sessions and nodes hold at most, and what they hold when nothing happens.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

#[path = "core/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the other test binary uses the rest")]
mod support;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use glueberry_proto::crypto::Cipher;
use glueberry_proto::testing::Fault;
use glueberry_proto::{
    Action, Address, Admission, Config, Identity, Instant, Naming, NewConnection, Node, NodeAction,
    Origin, Profile, READ_CHUNK, Seed, SubstreamBuffer, SubstreamEnd, SubstreamId, WRITE_CHUNK,
};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::support::{A, B, Raw, config, frame, identity, key, name};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;

/// While it lives, no other test of this binary runs.
struct Alone(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

fn alone() -> Alone {
    static LOCK: Mutex<()> = Mutex::new(());
    Alone(LOCK.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Alone {
    /// Measures from now on.
    fn measure(&self) -> Measured {
        MEMORY.reset_peak_usage();
        Measured { before: MEMORY.current_usage() }
    }
}

struct Measured {
    before: usize,
}

impl Measured {
    /// Returns the most bytes that were held since the beginning.
    fn peak(&self) -> usize {
        MEMORY.peak_usage().saturating_sub(self.before)
    }

    /// Returns the bytes that are held and were not in the beginning.
    fn now(&self) -> usize {
        MEMORY.current_usage().saturating_sub(self.before)
    }
}

/// What a peer sends on one substream, made before anything is measured.
struct Flood {
    bytes: Bytes,
}

impl Flood {
    /// Messages of the given sizes, over and over, up to so many bytes; some of them spoilt.
    fn new(profile: Profile, number: u8, sizes: &[usize], total: usize, spoils: &[usize]) -> Self {
        let cipher = Cipher::from_key(&identity(B).agree_v1(&key(A)).unwrap());
        let (mut bytes, mut nonce) = (Vec::new(), 0_u64);
        for (at, size) in sizes.iter().cycle().enumerate() {
            if bytes.len() >= total {
                break;
            }
            let mut full = [number; 12];
            full[..8].copy_from_slice(&nonce.to_be_bytes());
            nonce += 1;
            let mut record = cipher.encrypt(&vec![1; *size], b"", &full);
            if spoils.contains(&at) {
                record[15] ^= 1;
            }
            bytes.extend_from_slice(&frame(profile, &record));
        }
        Self { bytes: Bytes::from(bytes) }
    }
}

/// Takes bytes to a session as an adapter does: while it wants them, into the room that there is.
fn pump(raw: &mut Raw, id: SubstreamId, bytes: &mut Bytes, mut most: usize) {
    while most > 0 && !bytes.is_empty() {
        let Some(buffer) = raw.buffers.get_mut(&id).filter(|buffer| buffer.wants_read()) else {
            return;
        };
        let read = buffer.read_buffer();
        let count = (read.capacity() - read.len()).min(bytes.len()).min(most);
        read.extend_from_slice(&bytes[..count]);
        bytes.advance(count);
        most -= count;
        buffer.received(&mut raw.session, raw.now);
        raw.settle();
    }
}

/// Lets the transport take so many bytes of a substream.
fn take(raw: &mut Raw, id: SubstreamId, mut most: usize) {
    let Some(buffer) = raw.buffers.get_mut(&id) else {
        return;
    };
    while most > 0
        && let Some(chunk) = buffer.chunk(&mut raw.session)
    {
        let count = chunk.len().min(most);
        buffer.wrote(count);
        most -= count;
    }
    raw.settle();
}

/// Agrees to everything that is being opened, or refuses it.
fn answer(raw: &mut Raw, agrees: bool) -> Vec<SubstreamId> {
    let mut opened = Vec::new();
    for action in std::mem::take(&mut raw.actions) {
        if let Action::OpenSubstream { substream, protocols } = action {
            if agrees {
                raw.buffers.insert(substream, SubstreamBuffer::new(substream));
                raw.session.handle_opened(raw.now, substream, Some(protocols[0].clone()));
                opened.push(substream);
            } else {
                let error = glueberry_proto::OpenError::Refused;
                raw.session.handle_open_failed(raw.now, substream, error);
            }
        }
    }
    raw.settle();
    opened
}

// ---- a session ----------------------------------------------------------------------------------

fn small(profile: Profile) -> Config {
    let mut config = config(&["a", "b"]);
    config.profiles = vec![profile];
    config.max_message_size = 32 * KIB;
    config.max_handshake_size = 4 * KIB;
    (config.high_watermark, config.low_watermark) = (20, 10);
    (config.high_watermark_bytes, config.low_watermark_bytes) = (64 * KIB, 32 * KIB);
    (config.receive_queue, config.receive_queue_bytes) = (20, 64 * KIB);
    (config.max_streams, config.max_substreams) = (2, 4);
    config
}

/// One thing that the peer, the transport or the application does.
#[derive(Clone, Debug)]
enum Op {
    Pump(usize, usize),
    Junk(usize, u8),
    End(usize),
    Stop(usize),
    Open(usize),
    Answer(bool),
    Take(usize, usize),
    Send(usize, usize),
    Poll(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..5_usize, 0..300_000_usize).prop_map(|(at, most)| Op::Pump(at, most)),
        1 => (0..5_usize, any::<u8>()).prop_map(|(at, byte)| Op::Junk(at, byte)),
        1 => any::<usize>().prop_map(Op::End),
        1 => any::<usize>().prop_map(Op::Stop),
        2 => (0..3_usize).prop_map(Op::Open),
        2 => any::<bool>().prop_map(Op::Answer),
        3 => (any::<usize>(), 0..200_000_usize).prop_map(|(at, most)| Op::Take(at, most)),
        6 => (0..2_usize, 0..32 * KIB).prop_map(|(at, size)| Op::Send(at, size)),
        2 => (0..2_usize).prop_map(Op::Poll),
        1 => (0..20_000_u64).prop_map(Op::Wait),
    ]
}

const STREAMS: [&str; 2] = ["a", "b"];

/// Floods for each profile: large, small, growing and mixed messages, some of them spoilt.
fn floods(profile: Profile) -> [Bytes; 5] {
    static MADE: OnceLock<[[Bytes; 5]; 2]> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        Profile::ALL.map(|profile| {
            let flood = |number, sizes: &[usize], spoils: &[usize]| {
                Flood::new(profile, number, sizes, 1_500 * KIB, spoils).bytes
            };
            [
                flood(1, &[32 * KIB], &[]),
                flood(2, &[0, 1, 100], &[3]),
                flood(3, &[32 * KIB, 10, 20 * KIB, 100], &[0, 2, 4, 6, 8]),
                flood(4, &[1, 10, 100, 1_000, 10_000, 30_000], &[5, 11]),
                flood(5, &[3_000], &[]),
            ]
        })
    });
    made[usize::from(profile == Profile::V1Go)].clone()
}

fn run(
    alone: &Alone,
    profile: Profile,
    fault: Option<Fault>,
    ops: &[Op],
) -> Result<(), TestCaseError> {
    let mut floods = floods(profile);
    let measured = alone.measure();
    let mut config = small(profile);
    config.fault = fault;
    let bound = config.session_memory_bound();
    let (mut raw, handshake) = Raw::connected(Naming::Negotiated, config);
    raw.prepare(&STREAMS);
    raw.finalize();
    let mut ids = vec![handshake];
    ids.extend(["a", "b", "a", "b"].map(|stream| raw.open_stream(stream)));
    for op in ops {
        let id = |at: usize| ids[at % ids.len()];
        match op {
            Op::Pump(at, most) => {
                // Each flood has a substream of its own, opened in the beginning.
                let id = if *at == 0 { handshake } else { ids[*at] };
                pump(&mut raw, id, &mut floods[*at], *most);
            }
            Op::Junk(at, byte) => {
                pump(&mut raw, id(*at), &mut Bytes::from(vec![*byte; 20]), 20);
            }
            Op::End(at) => raw.end(id(*at), SubstreamEnd::Finished),
            Op::Stop(at) => raw.end(id(*at), SubstreamEnd::Stopped),
            Op::Open(at) => ids.push(raw.open_stream(STREAMS[at % 2])),
            Op::Answer(agrees) => ids.extend(answer(&mut raw, *agrees)),
            Op::Take(at, most) => take(&mut raw, id(*at), *most),
            Op::Send(at, size) => {
                let message = Bytes::from(vec![2; *size]);
                _ = raw.session.send(raw.now, &name(STREAMS[*at]), message);
                raw.settle();
            }
            Op::Poll(at) => _ = raw.session.poll_message(&name(STREAMS[*at])),
            Op::Wait(millis) => raw.wait(Duration::from_millis(*millis)),
        }
        raw.actions.retain(|action| matches!(action, Action::OpenSubstream { .. }));
        let peak = measured.peak();
        prop_assert!(peak <= bound, "{peak} bytes held, the bound is {bound}");
    }
    Ok(())
}

fn c10(fault: Option<Fault>) -> Result<(), String> {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 40;
    }
    let mut runner = match fault {
        None => TestRunner::new(config),
        Some(_) => {
            (config.cases, config.max_shrink_iters) = (256, 0);
            TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
        }
    };
    let profile = prop_oneof![Just(Profile::V1), Just(Profile::V1Go)];
    let ops = prop::collection::vec(op(), 0..300);
    let alone = alone();
    runner
        .run(&(profile, ops), |(profile, ops)| run(&alone, profile, fault, &ops))
        .map_err(|error| error.to_string())
}

#[test]
fn c10_memory_is_bounded_by_the_configuration() {
    if let Err(how) = c10(None) {
        panic!("{how}");
    }
}

#[test]
fn c10_is_caught_when_broken() {
    assert!(c10(Some(Fault::C10)).is_err(), "nothing has noticed that C10 is broken");
}

/// The bound is no fancy figure: a peer and an application that do their worst come close to it.
#[test]
fn c10_the_bound_is_not_far_from_what_can_be_reached() {
    let alone = alone();
    for profile in Profile::ALL {
        let mut config = small(profile);
        config.max_message_size = 1_000 * KIB;
        config.max_handshake_size = 64 * KIB;
        config.high_watermark_bytes = 2_000 * KIB;
        config.low_watermark_bytes = config.high_watermark_bytes - 1;
        config.receive_queue_bytes = 3_200 * KIB;
        let size = config.max_message_size;
        // The second is in the buffer of the first, and keeps it alive when that was taken.
        let flood = |number| Flood::new(profile, number, &[size, 40 * KIB], 5 * size, &[]).bytes;
        let mut floods = [flood(1), flood(2)];
        let bound = config.session_memory_bound();

        let measured = alone.measure();
        let mut raw = Raw::established(Naming::Negotiated, config, &STREAMS);
        let fill = |raw: &mut Raw| {
            for stream in STREAMS {
                // One byte is missing to the watermark when the last is sent.
                let less = usize::from(raw.session.queued(&name(stream)).0 == 0);
                let message = |less| Bytes::from(vec![3; size - less]);
                _ = raw.session.send(raw.now, &name(stream), message(less));
                while raw.session.send(raw.now, &name(stream), message(0)).is_ok() {}
            }
            raw.settle();
        };
        // Refused so often that all of it is given back, and not taken.
        fill(&mut raw);
        for _ in 0..10 {
            answer(&mut raw, false);
            raw.wait(Duration::from_secs(10));
        }
        fill(&mut raw);
        let own = answer(&mut raw, true);
        for id in &own {
            // Written, and kept in case a Go node wants it again.
            take(&mut raw, *id, 2 * size);
        }
        fill(&mut raw);
        for id in &own {
            take(&mut raw, *id, 1);
        }
        fill(&mut raw);
        let peers = STREAMS.map(|stream| raw.open_stream(stream));
        for (id, flood) in peers.iter().zip(&mut floods) {
            pump(&mut raw, *id, flood, usize::MAX);
        }
        for stream in STREAMS {
            assert_eq!(raw.session.poll_message(&name(stream)).map(|m| m.len()), Some(size));
            raw.settle();
        }
        for (id, flood) in peers.iter().zip(&mut floods) {
            pump(&mut raw, *id, flood, usize::MAX);
        }
        let peak = measured.peak();
        assert!(peak <= bound, "{profile:?}: {peak} bytes held, the bound is {bound}");
        assert!(5 * peak >= 3 * bound, "{profile:?}: {peak} bytes held, the bound is {bound}");
    }
}

#[test]
fn an_announced_length_reserves_nothing() {
    let alone = alone();
    for profile in Profile::ALL {
        let flood = Flood::new(profile, 1, &[3_000 * KIB], 1, &[]).bytes;
        let measured = alone.measure();
        let mut raw = Raw::chat(Naming::Negotiated, profile);
        let id = raw.open_stream("chat");
        let before = measured.now();
        for part in [5, 100, 10 * KIB] {
            pump(&mut raw, id, &mut flood.slice(..part), part);
            let held = measured.now().saturating_sub(before);
            assert!(held <= READ_CHUNK + 4 * KIB, "{held} bytes held for {part}");
            raw.end(id, SubstreamEnd::Reset);
            raw.open_stream("chat");
        }
    }
}

#[test]
fn what_is_gathered_grows_with_what_arrives() {
    let alone = alone();
    let mut flood = Flood::new(Profile::V1, 1, &[3_000 * KIB], 1, &[]).bytes;
    let measured = alone.measure();
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    let id = raw.open_stream("chat");
    let (before, mut arrived) = (measured.now(), 0);
    while flood.len() > 20 * KIB {
        pump(&mut raw, id, &mut flood, 10 * KIB);
        arrived += 10 * KIB;
        let held = measured.now() - before;
        assert!(held <= 2 * arrived + 2 * READ_CHUNK, "{held} bytes held for {arrived}");
    }
}

// ---- idle ---------------------------------------------------------------------------------------

#[test]
fn an_idle_session_holds_little() {
    let alone = alone();
    for profile in Profile::ALL {
        let mut flood = Flood::new(profile, 1, &[10, 200_000, 3_000], 1_000 * KIB, &[]).bytes;
        let measured = alone.measure();
        let mut config = config(&["chat"]);
        config.profiles = vec![profile];
        let (mut raw, handshake) = Raw::connected(Naming::Negotiated, config);
        for _ in 0..6 {
            let message = Bytes::from(vec![1; 10 * KIB]);
            raw.session.send_handshake(raw.now, message).unwrap();
        }
        take(&mut raw, handshake, usize::MAX);
        pump(&mut raw, handshake, &mut frame(profile, &vec![1; 60 * KIB]).into(), usize::MAX);
        assert_eq!(raw.heard().len(), 1);
        raw.prepare(&["chat"]);
        raw.session.send_handshake(raw.now, Bytes::from(vec![1; 60 * KIB])).unwrap();
        raw.finalize();
        take(&mut raw, handshake, usize::MAX);
        raw.acknowledge(handshake);
        let id = raw.open_stream("chat");
        while !flood.is_empty() {
            pump(&mut raw, id, &mut flood, usize::MAX);
            raw.received("chat");
        }
        for _ in 0..900 {
            raw.send("chat", &[1; 2_000]);
        }
        take(&mut raw, id, usize::MAX);
        raw.wait(Duration::from_secs(2));
        raw.events();
        while raw.node.poll_event().is_some() {}
        raw.actions = Vec::new();
        let held = measured.now();
        assert!(held < 24 * KIB, "{profile:?}: {held} bytes held by node and session");
    }
}

#[test]
fn a_substream_that_has_written_holds_no_buffer() {
    let alone = alone();
    let measured = alone.measure();
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    let id = raw.open_stream("chat");
    raw.send("chat", b"warm up");
    take(&mut raw, id, usize::MAX);
    let before = measured.now();
    for size in [10, 1_000, 3 * WRITE_CHUNK] {
        raw.send("chat", &vec![1; size]);
        take(&mut raw, id, usize::MAX);
        let held = measured.now().saturating_sub(before);
        assert!(held < 16 * KIB, "{held} bytes held after {size} were written");
    }
}

// ---- a node -------------------------------------------------------------------------------------

fn peer(number: u32) -> Identity {
    let mut seed = [5; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Identity::from_seed(&seed)
}

/// The part of the bound that is not the sessions'.
fn without_sessions(config: &Config) -> usize {
    config.node_memory_bound() - config.max_sessions * config.session_memory_bound()
}

/// Lets a peer connect, agree on a handshake substream, and go; returns whether it was let in.
fn visit(node: &mut Node, now: Instant, number: u32, rejects: bool) -> bool {
    let peer = peer(number).public_key();
    let connection = NewConnection { peer, origin: Origin::Accepted, naming: Naming::Negotiated };
    let Admission::Accept(mut session) = node.handle_connection(now, connection) else {
        return false;
    };
    let id = session.connection();
    _ = session.handle_accepted(now, Some(Profile::V1.handshake_id()));
    for _ in 0..3 {
        while let Some(action) = session.poll_action() {
            if let Action::Forward(message) = action {
                node.handle_session_message(now, id, message);
            }
        }
        while let Some(action) = node.poll_action() {
            if let NodeAction::Forward { message, .. } = action {
                session.handle_node_message(now, message);
            }
        }
        if rejects {
            session.reject_handshake(now, "no");
        }
    }
    node.handle_session_gone(now, id);
    true
}

#[test]
fn c10_a_node_is_bounded_whoever_connects_and_though_nobody_takes_its_events() {
    let alone = alone();
    let mut config = config(&["a"]);
    (config.max_sessions, config.max_peers, config.event_queue) = (10, 100, 50);
    let bound = without_sessions(&config);
    let measured = alone.measure();
    let seed = Seed::from_bytes([1; 32]);
    let mut node = Node::new(Instant::ZERO, identity(A), config, seed).unwrap();
    let mut now = Instant::ZERO;
    let mut let_in = 0;
    for round in 0..2_000_u32 {
        let_in += u32::from(visit(&mut node, now, round, round % 2 == 0));
        if round % 100 == 99 {
            now = now + Duration::from_secs(61);
            node.handle_timeout(now);
        }
        if round % 400 == 399 {
            while node.poll_event().is_some() {}
        }
    }
    assert!(let_in > 100);
    while node.poll_action().is_some() {}
    let peak = measured.peak();
    assert!(peak <= bound, "{peak} bytes held, the bound is {bound}");
}

#[test]
fn c10_a_full_address_book_is_within_the_bound_and_not_far_below() {
    let alone = alone();
    let mut config = config(&["a"]);
    (config.max_sessions, config.max_peers, config.event_queue) = (1, 200, 400);
    let bound = without_sessions(&config);
    let peers: Vec<_> = (0..200).map(|number| peer(number).public_key()).collect();
    let measured = alone.measure();
    let seed = Seed::from_bytes([1; 32]);
    let mut node = Node::new(Instant::ZERO, identity(A), config, seed).unwrap();
    for peer in &peers {
        let address = |_| Address::new("x".repeat(1024));
        let addresses: Vec<Address> = (0..16).map(address).collect();
        node.add_peer(Instant::ZERO, *peer, &addresses).unwrap();
        node.connect(Instant::ZERO, *peer).unwrap();
        drop(addresses);
        while node.poll_action().is_some() {}
    }
    let peak = measured.peak();
    assert!(peak <= bound, "{peak} bytes held, the bound is {bound}");
    assert!(2 * peak >= bound, "{peak} bytes held, the bound is {bound}");
}
