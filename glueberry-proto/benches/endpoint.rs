//! What an endpoint costs at 64 bytes a message, beside frames that are sealed and opened by the same
//! cipher and nothing else.
//!
//! `one each way`: a message and its answer. `500 one way`: as many as are sent before outputs are
//! taken.

use std::hint::black_box;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use glueberry_proto::crypto::{AeadKey, SharedKey, default_aead};
use glueberry_proto::endpoint::{Endpoint, Output, Write};
use glueberry_proto::greeting::GreetingConfig;
use glueberry_proto::wire::{Framing, Parsed};
use glueberry_proto::{
    Address, Config, ConnectionId, ConnectionState, Identity, Instant, PublicKey, Seed, StreamName,
};

const MESSAGE: &[u8] = &[7; 64];
const NOW: Instant = Instant::ZERO;

fn stream() -> StreamName {
    StreamName::new("bench").expect("it is a good name")
}

fn endpoint(c: &mut Criterion) {
    let mut group = c.benchmark_group("64 bytes");
    group.sample_size(30).measurement_time(Duration::from_secs(2));
    let mut raw = Raw::new();
    group.bench_function("raw frames/one each way", |bencher| {
        bencher.iter(|| {
            raw.pass(1);
            raw.pass(1);
        });
    });
    group.bench_function("raw frames/500 one way", |bencher| bencher.iter(|| raw.pass(500)));
    let mut pair = Pair::new();
    group.bench_function("endpoint/one each way", |bencher| {
        bencher.iter(|| {
            pair.pass(0, 1);
            pair.pass(1, 1);
        });
    });
    group.bench_function("endpoint/500 one way", |bencher| bencher.iter(|| pair.pass(0, 500)));
    group.finish();
}

/// A length, a record, a buffer between.
struct Raw {
    key: Box<dyn AeadKey>,
    count: u64,
    wire: BytesMut,
}

impl Raw {
    fn new() -> Self {
        let key = SharedKey::from_bytes(&[3; 32]).expect("32 bytes");
        Self { key: default_aead().key(&key), count: 0, wire: BytesMut::new() }
    }

    fn pass(&mut self, messages: usize) {
        let framing = Framing::LengthPrefix;
        for _ in 0..messages {
            self.count += 1;
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&self.count.to_be_bytes());
            framing.emit_header(12 + MESSAGE.len() + 16, &mut self.wire);
            self.wire.extend_from_slice(&nonce);
            let start = self.wire.len();
            self.wire.extend_from_slice(MESSAGE);
            let tag = self.key.seal(&nonce, b"", &mut self.wire[start..]);
            self.wire.extend_from_slice(&tag);
        }
        while let Ok(Parsed::Frame(header)) = framing.parse_header(&self.wire, 1 << 20) {
            let body = &mut self.wire[header.header_len..header.header_len + header.body_len];
            let (nonce, rest) = body.split_first_chunk_mut().expect("a nonce");
            let (text, tag) = rest.split_last_chunk_mut().expect("a tag");
            self.key.open(nonce, b"", text, tag).expect("it was sealed so");
            black_box(Bytes::copy_from_slice(text));
            self.wire.advance(header.total_len());
        }
    }
}

/// Two endpoints with an Established session.
struct Pair {
    ends: [Endpoint; 2],
    ids: [Option<ConnectionId>; 2],
    received: usize,
}

impl Pair {
    fn new() -> Self {
        let ends = [1, 2].map(|secret| {
            let mut config = Config::default();
            config.streams = vec![stream()];
            let (identity, seed) =
                (Identity::from_seed(&[secret; 32]), Seed::from_bytes([secret; 32]));
            Endpoint::new(NOW, identity, config, seed)
                .and_then(|endpoint| endpoint.greeting(GreetingConfig::default()))
                .expect("the configuration is good")
        });
        let mut pair = Self { ends, ids: [None, None], received: 0 };
        let peer = pair.key(1);
        pair.ends[0].add_peer(NOW, peer, &[Address::new("memory")]).expect("there is room");
        pair.ends[0].connect(NOW, peer).expect("it may be dialled");
        pair.run();
        assert_eq!(pair.ends[0].node().state(peer), ConnectionState::Established);
        pair
    }

    fn key(&self, side: usize) -> PublicKey {
        self.ends[side].node().public_key()
    }

    fn pass(&mut self, from: usize, messages: usize) {
        let (peer, stream) = (self.key(1 - from), stream());
        for _ in 0..messages {
            let message = Bytes::from_static(MESSAGE);
            self.ends[from].send(NOW, peer, &stream, message).expect("there is room");
        }
        self.received = 0;
        self.run();
        assert_eq!(self.received, messages);
    }

    fn run(&mut self) {
        while self.take(0) | self.take(1) {}
    }

    fn take(&mut self, side: usize) -> bool {
        let mut moved = false;
        loop {
            match self.ends[side].poll_output(NOW) {
                Output::Dial { connection, .. } => {
                    let keys = [self.key(0), self.key(1)];
                    self.ends[side].handle_connected(NOW, connection, keys[1 - side]);
                    self.ids[side] = Some(connection);
                    self.ids[1 - side] = Some(self.ends[1 - side].handle_accepted(NOW, keys[side]));
                }
                Output::Transport(Write { connection, bytes }) => {
                    let other = self.ids[1 - side].expect("both ends are connected");
                    self.ends[1 - side].handle_bytes(NOW, other, &bytes);
                    self.ends[side].handle_written(NOW, connection);
                }
                Output::Message { message, .. } => {
                    black_box(message);
                    self.received += 1;
                }
                Output::Timeout(_) => return moved,
                _ => {}
            }
            moved = true;
        }
    }
}

criterion_group!(benches, endpoint);
criterion_main!(benches);
