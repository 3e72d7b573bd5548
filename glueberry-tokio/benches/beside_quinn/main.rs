//! Glueberry beside raw quinn: the same bytes, transport configuration, machine and run.
//!
//! ```text
//! cargo bench -p glueberry-tokio --bench beside_quinn [-- ROUNDS] [rate | trip | connect | shutdown | cores | idle] [size=BYTES] [way=NAME] [millis=N]
//! ```
//!
//! **Rate:** sender and receiver in two threads, each on a current-thread runtime. Raw quinn sends
//! frames of the same messages coalesced into 64 KiB chunks on one stream (its fastest way), and
//! its receiver counts the bytes. Glueberry sends and receives messages through the public `Node`, by
//! the handles of the stream, one per call or in batches, with each layer that can be inside: v1, and v2
//! with AES or ChaCha20-Poly1305. The way that ends in `-all` receives by `Node::messages`, which tells of
//! each message whose it is. Rounds of raw quinn and of all these ways take turns; each line gives medians,
//! the median of the paired ratios, and the spread of raw quinn as a measure of the machine's noise.
//!
//! **Round trip:** both ends in one thread, one message there and one back.
//!
//! **Connect:** both ends in one thread, from the dial until both sides may send: after quinn's
//! handshake, and in Glueberry after that of the session, too, with both sides finalizing at once. Beside
//! it stands quinn with a certificate of each side, which a peer that is known by its key needs.
//!
//! **Shutdown:** of a node with idle peers, in the same thread with them.
//!
//! **Cores:** all nodes on one runtime, of one thread or of two.
//!
//! **Idle:** resident memory and time on the processor of a process with idle peers, which are in another
//! process; for quinn, of a server with as many idle connections.
//!
//! Both sides take the cipher suite that rustls prefers. It is printed, and suites that differ are
//! an error: the cipher is most of what raw quinn does.

#![expect(
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program for a person, with rates in floating point"
)]

mod cores;
mod idle;
mod ours;
mod raw;
mod suite;

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::Duration;

use ours::{Calls, Layer, WAYS};

const SIZES: [usize; 5] = [64, 1 << 10, 16 << 10, 64 << 10, 1 << 20];
const CHUNK: usize = 64 << 10;

fn main() {
    if idle::is_part() {
        return;
    }
    suite::observe();
    let rounds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(7);
    let parts = ["rate", "trip", "connect", "shutdown", "cores", "idle"];
    let only = std::env::args().find(|arg| parts.contains(&arg.as_str()));
    let wants = |part: &str| only.as_ref().is_none_or(|only| only == part);
    if wants("rate") {
        rates(rounds);
    }
    if wants("trip") {
        round_trips(rounds);
    }
    if wants("connect") {
        connects(rounds);
    }
    if wants("shutdown") {
        shutdowns(rounds);
    }
    if wants("cores") {
        say("16 KiB messages: one connection on one core, two on two, and eight on two");
        say("          layer |    one, one | two, two   | eight: farthest from their mean");
        for layer in [None, Some(Layer::V1), Some(ours::AES)] {
            cores::cores(rounds, layer);
        }
        say("");
    }
    if wants("idle") {
        idle::idle();
    }
}

fn rates(rounds: usize) {
    say("message rate and throughput, one stream, one direction");
    say(
        "   size |           layer |   raw quinn |   glueberry |  glueberry | ratio of | raw min..max",
    );
    say(
        "        |                 |        MB/s |        MB/s |     msg/s  |   pairs  |      MB/s",
    );
    let millis = argument("millis=").and_then(|millis| millis.parse().ok());
    let time = Duration::from_millis(millis.unwrap_or(400));
    for size in SIZES.into_iter().filter(|size| is_chosen("size=", &size.to_string())) {
        rate(size, time, rounds);
    }
    say("");
}

fn round_trips(rounds: usize) {
    say("round trip on one core, median of each round's median");
    say("   size |      layer |   raw quinn |   glueberry |  added");
    for size in [64, 1 << 10] {
        round_trip(size, rounds);
    }
}

/// Returns whether an argument with this prefix names the value, or none is given.
fn is_chosen(prefix: &str, value: &str) -> bool {
    argument(prefix).is_none_or(|given| given == value)
}

/// Returns what follows this prefix in the first argument that has it.
fn argument(prefix: &str) -> Option<String> {
    std::env::args().find_map(|arg| Some(arg.strip_prefix(prefix)?.to_owned()))
}

/// What the rounds of one way gave, each beside raw quinn's of the same round.
struct Measured {
    way: (Layer, Calls),
    ours: Vec<f64>,
    ratios: Vec<f64>,
}

/// Runs rounds in which raw quinn and every way take turns.
fn measure(
    rounds: usize,
    ways: &[(Layer, Calls)],
    raw: impl Fn() -> f64,
    ours: impl Fn((Layer, Calls)) -> f64,
) -> (Vec<f64>, Vec<Measured>) {
    let new = |way: &_| Measured { way: *way, ours: Vec::new(), ratios: Vec::new() };
    let (mut all_raw, mut all): (_, Vec<_>) = (Vec::new(), ways.iter().map(new).collect());
    for _ in 0..rounds {
        let (of_raw, suite) = suite::of(&raw);
        for measured in &mut all {
            let (of_ours, ours_suite) = suite::of(|| ours(measured.way));
            assert_eq!(suite, ours_suite, "the suites differ");
            measured.ours.push(of_ours);
            measured.ratios.push(of_ours / of_raw);
        }
        SUITE.get_or_init(|| say(&format!("cipher suite of both: {suite}")));
        all_raw.push(of_raw);
    }
    (all_raw, all)
}

fn rate(size: usize, time: Duration, rounds: usize) {
    // A batch of one message is none.
    let is_measured =
        |way: &&_| is_chosen("way=", &name(**way)) && (size < CHUNK || way.1 == Calls::Single);
    let ways: Vec<_> = WAYS.iter().filter(is_measured).copied().collect();
    let (mut raw, all) =
        measure(rounds, &ways, || raw::rate(size, time), |way| ours::rate(way, size, time));
    let of_raw = median(&mut raw);
    for mut measured in all {
        let ours = median(&mut measured.ours);
        let (messages, ratio) = (ours * 1e6 / size as f64, median(&mut measured.ratios));
        let (min, max) = (raw[0], raw[raw.len() - 1]);
        let name = name(measured.way);
        say(&format!(
            "{size:7} | {name:>15} | {of_raw:11.0} | {ours:11.0} | {messages:10.0} | {ratio:8.3} | \
             {min:.0}..{max:.0}"
        ));
    }
}

fn round_trip(size: usize, rounds: usize) {
    let is_measured = |way: &&_| is_chosen("way=", &name(**way)) && way.1 == Calls::Single;
    let ways: Vec<_> = WAYS.iter().filter(is_measured).copied().collect();
    let (mut raw, all) = measure(
        rounds,
        &ways,
        || runtime().block_on(raw::round_trip(size)),
        |(layer, _)| runtime().block_on(ours::round_trip(layer, size)),
    );
    let of_raw = median(&mut raw);
    for mut measured in all {
        let (ours, name) = (median(&mut measured.ours), name(measured.way));
        let added = ours - of_raw;
        say(&format!("{size:7} | {name:>10} | {of_raw:8.2} us | {ours:8.2} us | {added:+.2} us"));
    }
}

fn connects(rounds: usize) {
    say("from the dial until both sides may send, on one core, median of each round's median");
    say("          layer |   raw quinn |   glueberry | times | raw, mutual | times");
    let is_measured = |way: &&_| is_chosen("way=", &name(**way)) && way.1 == Calls::Single;
    let ways: Vec<_> = WAYS.iter().filter(is_measured).copied().collect();
    let mutual = RefCell::new(Vec::new());
    let (mut raw, all) = measure(
        rounds,
        &ways,
        || {
            mutual.borrow_mut().push(runtime().block_on(times(CONNECTS, raw::connect_mutually)));
            runtime().block_on(times(CONNECTS, raw::connect))
        },
        |(layer, _)| runtime().block_on(times(CONNECTS, || ours::connect(layer))),
    );
    let of_raw = median(&mut raw);
    let of_mutual = median(&mut mutual.into_inner());
    for mut measured in all {
        let (ours, name) = (median(&mut measured.ours), name(measured.way));
        let (times, times_mutual) = (ours / of_raw, ours / of_mutual);
        say(&format!(
            "     {name:>10} | {of_raw:8.0} us | {ours:8.0} us |  {times:.2} | {of_mutual:8.0} us |  \
             {times_mutual:.2}"
        ));
    }
    say("");
}

fn shutdowns(rounds: usize) {
    say("shutdown of a node with idle peers, on one core");
    for peers in [1, 20] {
        for layer in [Layer::V1, ours::AES] {
            let shutdown = || ours::shutdown(layer, peers);
            let took = runtime().block_on(times(rounds, shutdown));
            say(&format!("{:>10}, {peers:2} peers: {:.1} ms", layer.name(), took / 1e3));
        }
    }
}

/// Returns the median of several measurements.
async fn times<F: Future<Output = f64>>(count: usize, measure: impl Fn() -> F) -> f64 {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(measure().await);
    }
    median(&mut all)
}

fn name((layer, calls): (Layer, Calls)) -> String {
    let calls = match calls {
        Calls::Single => "",
        Calls::Batches => "-batch",
        Calls::AllStreams => "-all",
    };
    format!("{}{calls}", layer.name())
}

const TRIPS: usize = 5_000;
const CONNECTS: usize = 20;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

static SUITE: OnceLock<()> = OnceLock::new();

fn say(line: &str) {
    println!("{line}");
}
