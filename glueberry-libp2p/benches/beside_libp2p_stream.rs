//! Glueberry beside raw libp2p-stream: the same bytes, transport configuration, machine and run.
//!
//! ```text
//! cargo bench -p glueberry-libp2p --bench beside_libp2p_stream [-- ROUNDS] [noise | quic] [size=N]
//! ```
//!
//! Sender and receiver are in two threads, each on a current-thread runtime with its swarm.
//! libp2p-stream sends frames of the same messages on one stream, one at a time or 64 KiB of them
//! at a time, unencrypted but for the transport, and its receiver counts the bytes. Glueberry sends
//! and receives message by message through the public `Node`. Rounds take turns; each line gives
//! medians, the median of the paired ratios, and the spread of libp2p-stream as a measure of the
//! machine's noise.
//!
//! v1 seals each message on top of what the transport does: `seal` is the rate of one core that does
//! nothing else, in the same run.

#![expect(
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program for a person, with rates in floating point"
)]

use std::fmt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use glueberry_libp2p::Libp2p;
use glueberry_proto::crypto::{SharedKey, default_aead};
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{Config, Node};
use libp2p::futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use libp2p_stream::{Behaviour, Control};

const STREAM: &str = "bench";
const PROTOCOL: StreamProtocol = StreamProtocol::new("/bench/1.0.0");
const CHUNK: usize = 64 << 10;
const TIME: Duration = Duration::from_millis(400);

fn main() {
    let rounds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(7);
    let only = std::env::args().find(|arg| arg == "noise" || arg == "quic");
    let one_size =
        std::env::args().filter_map(|arg| arg.strip_prefix("size=")?.parse::<usize>().ok()).next();
    say("throughput of one stream in one direction, in MB/s");
    say(
        "transport |    size | libp2p-stream writes | libp2p-stream | glueberry | ratio |    seal | \
         min..max",
    );
    for transport in [Transport::Noise, Transport::Quic] {
        if only.as_ref().is_some_and(|only| *only != transport.to_string()) {
            continue;
        }
        let lines = [(64, Writes::Each)]
            .into_iter()
            .chain([64, 1 << 10, 64 << 10, 1 << 20].map(|size| (size, Writes::Chunks)));
        for (size, writes) in lines.filter(|(size, _)| one_size.is_none_or(|only| only == *size)) {
            line(transport, size, writes, rounds);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Transport {
    Noise,
    Quic,
}

/// How much libp2p-stream is given at a time.
#[derive(Clone, Copy, Debug)]
enum Writes {
    Each,
    Chunks,
}

fn line(transport: Transport, size: usize, writes: Writes, rounds: usize) {
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    let (mut ratios, mut seals) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let pair = (raw_rate(transport, size, writes), glueberry_rate(transport, size));
        raw.push(pair.0);
        ours.push(pair.1);
        ratios.push(pair.1 / pair.0);
        seals.push(seal_rate(size));
    }
    let (median_raw, median_ours) = (median(&mut raw), median(&mut ours));
    say(&format!(
        "{transport:>9} | {size:7} | {writes:>20} | {median_raw:13.1} | {median_ours:9.1} | {:5.2} | \
         {:7.1} | {:.1}..{:.1}",
        median(&mut ratios),
        median(&mut seals),
        raw[0],
        raw[raw.len() - 1],
    ));
}

// ---- libp2p-stream -----------------------------------------------------------------------------

fn swarm(transport: Transport) -> Swarm<Behaviour> {
    let identity = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519()).with_tokio();
    match transport {
        Transport::Noise => identity
            .with_tcp(tcp::Config::new().nodelay(true), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| Behaviour::new())
            .unwrap()
            .build(),
        Transport::Quic => identity
            .with_quic_config(|mut quic| {
                // What a node has by default.
                let window = Config::default().stream_window;
                quic.max_stream_data = window;
                quic.max_connection_data = window * 160;
                quic
            })
            .with_behaviour(|_| Behaviour::new())
            .unwrap()
            .build(),
    }
}

fn raw_rate(transport: Transport, size: usize, writes: Writes) -> f64 {
    let (told, address) = mpsc::sync_channel(1);
    let receiver = std::thread::spawn(move || {
        runtime().block_on(async {
            let mut swarm = swarm(transport);
            swarm.listen_on(transport.listen()).unwrap();
            let address = loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    break address;
                }
            };
            told.send((*swarm.local_peer_id(), address)).unwrap();
            let mut incoming = swarm.behaviour().new_control().accept(PROTOCOL).unwrap();
            let count = async {
                let (_, mut stream) = incoming.next().await.unwrap();
                let (mut buf, mut total) = (vec![0; CHUNK], 0_usize);
                loop {
                    match stream.read(&mut buf).await.unwrap() {
                        0 => break,
                        read => total += read,
                    }
                }
                stream.write_all(&total.to_be_bytes()).await.unwrap();
                stream.close().await.unwrap();
                // The sender ends the connection.
                incoming.next().await;
            };
            tokio::select! {
                () = count => {}
                () = drive(&mut swarm) => {}
            }
        });
    });
    let (peer, address) = address.recv().unwrap();
    let rate = runtime().block_on(async {
        let mut swarm = swarm(transport);
        swarm.dial(address.with_p2p(peer).unwrap()).unwrap();
        while !swarm.is_connected(&peer) {
            swarm.select_next_some().await;
        }
        let control = swarm.behaviour().new_control();
        let rate = tokio::select! {
            rate = raw_send(control, peer, size, writes) => rate,
            () = drive(&mut swarm) => unreachable!("the connection outlives the measurement"),
        };
        // The receiver hears of it, and does not wait for silence.
        swarm.disconnect_peer_id(peer).unwrap();
        drive(&mut swarm).await;
        rate
    });
    receiver.join().unwrap();
    rate
}

/// Runs a swarm until it has no connection any more.
async fn drive(swarm: &mut Swarm<Behaviour>) {
    loop {
        if let SwarmEvent::ConnectionClosed { .. } = swarm.select_next_some().await {
            return;
        }
    }
}

async fn raw_send(mut control: Control, peer: PeerId, size: usize, writes: Writes) -> f64 {
    let mut stream = control.open_stream(peer, PROTOCOL).await.unwrap();
    let frames = frames(size);
    let step = match writes {
        Writes::Each => size + 4,
        Writes::Chunks => frames.len(),
    };
    let start = Instant::now();
    let mut written = 0;
    while start.elapsed() < TIME {
        for piece in frames.chunks(step) {
            stream.write_all(piece).await.unwrap();
        }
        written += frames.len();
    }
    stream.close().await.unwrap();
    let mut total = Vec::new();
    stream.read_to_end(&mut total).await.unwrap();
    let elapsed = start.elapsed();
    assert_eq!(total, written.to_be_bytes());
    (written / (size + 4) * size) as f64 / elapsed.as_secs_f64() / 1e6
}

/// At least one chunk of whole frames.
fn frames(size: usize) -> Bytes {
    let mut frames = BytesMut::new();
    for _ in 0..(CHUNK / (size + 4)).max(1) {
        frames.put_u32(u32::try_from(size).unwrap());
        frames.put_bytes(7, size);
    }
    frames.freeze()
}

// ---- glueberry ---------------------------------------------------------------------------------

async fn node(transport: Transport) -> Node {
    let mut over = Libp2p::bare();
    match transport {
        Transport::Noise => (over.tcp, over.noise) = (true, true),
        Transport::Quic => over.quic = true,
    }
    Node::builder(Keypair::generate_ed25519())
        .listen(transport.listen())
        .streams([STREAM])
        .build_over(over)
        .await
        .unwrap()
}

fn glueberry_rate(transport: Transport, size: usize) -> f64 {
    let (told, address) = mpsc::sync_channel(1);
    let (tell, dialler) = mpsc::sync_channel(1);
    let (end, total) = mpsc::sync_channel::<usize>(1);
    let receiver = std::thread::spawn(move || {
        runtime().block_on(async {
            let node = node(transport).await;
            let mut messages = node.messages().unwrap();
            told.send((node.peer_id(), node.addrs(), node.public_key())).unwrap();
            let hello = messages.recv().await.unwrap();
            let key = dialler.recv().unwrap();
            node.complete_handshake(hello.peer, key, &[STREAM]).await.unwrap();
            // Counts until an empty message says that there are no more.
            let mut count = 0;
            while let Some(message) = messages.recv().await {
                if message.data.is_empty() {
                    break;
                }
                assert_eq!(message.data.len(), size);
                count += 1;
            }
            end.send(count).unwrap();
            node.shutdown().await;
        });
    });
    let (peer, addrs, key) = address.recv().unwrap();
    let rate = runtime().block_on(async {
        let node = node(transport).await;
        node.add_peer(peer, addrs).await.unwrap();
        node.connect(peer).await.unwrap();
        tell.send(node.public_key()).unwrap();
        node.send(peer, glueberry_tokio::HANDSHAKE, "hello").await.unwrap();
        node.complete_handshake(peer, key, &[STREAM]).await.unwrap();
        let mut stream = node.stream(peer, STREAM).unwrap();
        let message = Bytes::from(vec![7; size]);
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < TIME {
            for _ in 0..(CHUNK / size).max(1) {
                stream.send(message.clone()).await.unwrap();
                sent += 1;
            }
        }
        stream.send(Bytes::new()).await.unwrap();
        let count = tokio::task::spawn_blocking(move || total.recv().unwrap()).await.unwrap();
        let elapsed = start.elapsed();
        assert_eq!(count, sent);
        node.shutdown().await;
        (sent * size) as f64 / elapsed.as_secs_f64() / 1e6
    });
    receiver.join().unwrap();
    rate
}

/// Returns the rate at which one core seals messages of a size, in MB/s.
fn seal_rate(size: usize) -> f64 {
    let key = default_aead().key(&SharedKey::from_bytes(&[7; 32]).unwrap());
    let (mut message, mut nonce) = (vec![7; size], [0; 12]);
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < TIME / 4 {
        for _ in 0..(CHUNK / size).max(1) {
            count += 1;
            nonce[..8].copy_from_slice(&count.to_be_bytes());
            std::hint::black_box(key.seal(&nonce, b"", &mut message));
        }
    }
    (count * size as u64) as f64 / start.elapsed().as_secs_f64() / 1e6
}

// ---- parts -------------------------------------------------------------------------------------

impl Transport {
    fn listen(self) -> Multiaddr {
        let text = match self {
            Self::Noise => "/ip4/127.0.0.1/tcp/0",
            Self::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
        };
        text.parse().unwrap()
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Noise => "noise",
            Self::Quic => "quic",
        })
    }
}

impl fmt::Display for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Each => "one message",
            Self::Chunks => "64 KiB",
        })
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn say(line: &str) {
    println!("{line}");
}
