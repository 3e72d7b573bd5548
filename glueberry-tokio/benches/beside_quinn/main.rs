//! Glueberry beside raw quinn: the same bytes, transport configuration, machine and run.
//!
//! ```text
//! cargo bench -p glueberry-tokio --bench beside_quinn [-- ROUNDS] [rate | trip]
//! ```
//!
//! **Rate:** sender and receiver in two threads, each on a current-thread runtime. Raw quinn sends
//! frames of the same messages coalesced into 64 KiB chunks on one stream (its fastest way), and
//! its receiver counts the bytes. Glueberry sends and receives message by message through the
//! public `Node`. Rounds of the two take turns; each line gives medians, the median of the paired
//! ratios, and the spread of raw quinn as a measure of the machine's noise.
//!
//! **Round trip:** both ends in one thread, one message there and one back.
//!
//! Both sides take the cipher suite that rustls prefers. It is printed, and suites that differ are
//! an error: the cipher is most of what raw quinn does.

#![expect(
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program for a person, with rates in floating point"
)]

mod ours;
mod raw;
mod suite;

use std::sync::OnceLock;
use std::time::Duration;

const SIZES: [(usize, Duration); 5] = [
    (64, Duration::from_millis(400)),
    (1 << 10, Duration::from_millis(400)),
    (16 << 10, Duration::from_millis(400)),
    (64 << 10, Duration::from_millis(400)),
    (1 << 20, Duration::from_millis(400)),
];
const CHUNK: usize = 64 << 10;

fn main() {
    suite::observe();
    let rounds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(7);
    let only = std::env::args().find(|arg| arg == "rate" || arg == "trip");
    let wants = |part: &str| only.as_ref().is_none_or(|only| only == part);
    if wants("rate") {
        rates(rounds);
    }
    if wants("trip") {
        round_trips(rounds);
    }
}

fn rates(rounds: usize) {
    say("message rate and throughput, one stream, one direction");
    say("   size |   raw quinn |   glueberry |  glueberry | ratio of | raw min..max");
    say("        |        MB/s |        MB/s |     msg/s  |   pairs  |      MB/s");
    for (size, time) in SIZES {
        rate(size, time, rounds);
    }
    say("");
}

fn round_trips(rounds: usize) {
    say("round trip on one core, median of each round's median");
    say("   size |   raw quinn |   glueberry |  added");
    for size in [64, 1 << 10] {
        round_trip(size, rounds);
    }
}

fn rate(size: usize, time: Duration, rounds: usize) {
    let (mut raw, mut glueberry, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let pair = equal(|| raw::rate(size, time), || ours::rate(size, time));
        raw.push(pair.0);
        glueberry.push(pair.1);
        ratios.push(pair.1 / pair.0);
    }
    let messages = median(&mut glueberry) * 1e6 / size as f64;
    let (median_raw, median_ours) = (median(&mut raw), median(&mut glueberry));
    say(&format!(
        "{size:7} | {median_raw:11.0} | {median_ours:11.0} | {messages:10.0} | {:8.3} | {:.0}..{:.0}",
        median(&mut ratios),
        raw[0],
        raw[raw.len() - 1],
    ));
}

fn round_trip(size: usize, rounds: usize) {
    let (mut raw, mut glueberry) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let pair = equal(
            || runtime().block_on(raw::round_trip(size)),
            || runtime().block_on(ours::round_trip(size)),
        );
        raw.push(pair.0);
        glueberry.push(pair.1);
    }
    let (raw, ours) = (median(&mut raw), median(&mut glueberry));
    say(&format!("{size:7} | {raw:8.2} us | {ours:8.2} us | {:+.2} us", ours - raw));
}

const TRIPS: usize = 5_000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures both, and checks that their connections were encrypted alike.
fn equal(raw: impl FnOnce() -> f64, ours: impl FnOnce() -> f64) -> (f64, f64) {
    let ((raw, raw_suite), (ours, our_suite)) = (suite::of(raw), suite::of(ours));
    assert_eq!(raw_suite, our_suite, "the suites differ");
    SUITE.get_or_init(|| say(&format!("cipher suite of both: {raw_suite}")));
    (raw, ours)
}

static SUITE: OnceLock<()> = OnceLock::new();

fn say(line: &str) {
    println!("{line}");
}
