//! What one message costs, and what of that the core adds: from `send` over two sessions in memory to
//! `poll_message`, beside frames that are sealed, copied and opened by the same AEAD without a session.
//!
//! Needs no harness, so that it runs in WebAssembly too:
//!
//! ```text
//! cargo bench -p glueberry-proto --bench messages
//! CARGO_TARGET_WASM32_WASIP1_RUNNER="node $PWD/.ci/wasi.mjs" \
//!     cargo bench -p glueberry-proto --bench messages --target wasm32-wasip1
//! ```
#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(clippy::disallowed_types, reason = "a benchmark measures time")]

mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use glueberry_proto::crypto::{AeadKey, SharedKey, TAG_LEN, default_aead};
use glueberry_proto::testing::pair::{A, B, Pair};
use glueberry_proto::{Event, Profile};
use support::{established, node, stream};

fn main() {
    println!("nanoseconds for one message, the median of {ROUNDS} rounds");
    println!("| profile | message | sessions | bare frames | the core adds | bare records |");
    println!("|---|---|---|---|---|---|");
    for profile in [Profile::V1, Profile::V2] {
        for size in [64, 1024] {
            let mut pair = established([1, 2].map(|side| node(profile, 1, side)));
            let mut bare = Bare::new();
            let message = Bytes::from(vec![7; size]);
            // The rounds alternate, so that noise of the machine meets all.
            let mut times = [const { Vec::new() }; 3];
            for _ in 0..ROUNDS {
                times[0].push(timed(|| sessions(&mut pair, &message)));
                times[1].push(timed(|| bare.pass(&message, 1)));
                times[2].push(timed(|| bare.pass(&message, RECORD / size)));
            }
            let [sessions, frames, records] = times.map(median);
            let adds = sessions - frames;
            println!(
                "| {profile:?} | {size} | {sessions:.0} | {frames:.0} | {adds:.0} | {records:.0} |"
            );
        }
    }
}

/// Sends a batch of messages, and takes them on the other side.
fn sessions(pair: &mut Pair<()>, message: &Bytes) {
    let (now, session) = (pair.now, pair.session(A));
    for _ in 0..BATCH {
        session.send(now, &stream(), message.clone()).expect("there is room");
    }
    pair.run();
    let (mut received, session) = (0, pair.session(B));
    while let Some(message) = session.poll_message(&stream()) {
        black_box(message);
        received += 1;
    }
    assert_eq!(received, BATCH);
    for side in [A, B] {
        while let Some(Event::Readable { .. } | Event::Writable { .. }) =
            pair.session(side).poll_event()
        {}
    }
}

/// Frames of a length, sealed bytes and a tag, in one buffer.
struct Bare {
    key: Box<dyn AeadKey>,
    buffer: BytesMut,
}

impl Bare {
    fn new() -> Self {
        let secret = SharedKey::from_bytes(&[3; 32]).expect("a key has its length");
        let key = default_aead().key(&secret);
        Self { key, buffer: BytesMut::new() }
    }

    /// Seals and opens a batch of messages, so many in each frame.
    fn pass(&mut self, message: &Bytes, in_each: usize) {
        for _ in 0..BATCH / in_each {
            let start = self.buffer.len() + 4;
            let len = u32::try_from(in_each * message.len()).expect("a frame is small");
            self.buffer.extend_from_slice(&len.to_be_bytes());
            for _ in 0..in_each {
                self.buffer.extend_from_slice(message);
            }
            let tag = self.key.seal(&NONCE, b"", &mut self.buffer[start..]);
            self.buffer.extend_from_slice(&tag);
        }
        while !self.buffer.is_empty() {
            let len = usize::try_from(self.buffer.get_u32()).expect("a frame is small");
            let mut text = self.buffer.split_to(len);
            let tag = self.buffer.split_to(TAG_LEN);
            let tag = tag[..].try_into().expect("a tag has its length");
            self.key.open(&NONCE, b"", &mut text, &tag).expect("nothing was altered");
            for message in text.chunks(message.len()) {
                black_box(Bytes::copy_from_slice(message));
            }
        }
    }
}

/// Returns the nanoseconds that one message of a batch takes.
fn timed(mut pass: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut passes = 0_u32;
    while began.elapsed() < ROUND {
        pass();
        passes += 1;
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(passes) / f64::from(BATCH_U32)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

const BATCH_U32: u32 = 480;
const BATCH: usize = 480;
const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(60);
/// What a record of v2 holds.
const RECORD: usize = 15 * 1024;
const NONCE: [u8; 12] = [9; 12];
