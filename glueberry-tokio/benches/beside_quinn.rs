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

#![expect(
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program for a person, with rates in floating point"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{Config, Messages, Node, StreamHandle};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig,
};

const STREAM: &str = "bench";
const SIZES: [(usize, Duration); 5] = [
    (64, Duration::from_millis(400)),
    (1 << 10, Duration::from_millis(400)),
    (16 << 10, Duration::from_millis(400)),
    (64 << 10, Duration::from_millis(400)),
    (1 << 20, Duration::from_millis(400)),
];
const CHUNK: usize = 64 << 10;

fn main() {
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
        let pair = (raw_rate(size, time), glueberry_rate(size, time));
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
        raw.push(runtime().block_on(raw_round_trip(size)));
        glueberry.push(runtime().block_on(glueberry_round_trip(size)));
    }
    let (raw, ours) = (median(&mut raw), median(&mut glueberry));
    say(&format!("{size:7} | {raw:8.2} us | {ours:8.2} us | {:+.2} us", ours - raw));
}

// ---- raw quinn ---------------------------------------------------------------------------------

/// The transport configuration that a node has by default.
fn transport() -> Arc<TransportConfig> {
    let config = Config::default();
    let substreams = u32::try_from(2 * config.core.max_substreams).unwrap();
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(config.stream_window.into())
        .receive_window((substreams * config.stream_window).into())
        .send_window(config.send_window)
        .max_concurrent_uni_streams(0_u32.into())
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(config.keep_alive))
        .allow_spin(false);
    Arc::new(transport)
}

fn raw_server() -> (Endpoint, SocketAddr, PeerId) {
    let identity = Keypair::generate_ed25519();
    let tls = libp2p_tls::make_server_config(&identity).unwrap();
    let tls = QuicServerConfig::try_from(tls).unwrap();
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(transport());
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    (endpoint, address, identity.public().to_peer_id())
}

async fn raw_dial(
    address: SocketAddr,
    peer: PeerId,
) -> (Endpoint, Connection, SendStream, RecvStream) {
    let tls = libp2p_tls::make_client_config(&Keypair::generate_ed25519(), Some(peer)).unwrap();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(transport());
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection = endpoint.connect_with(config, address, "l").unwrap().await.unwrap();
    let (send, recv) = connection.open_bi().await.unwrap();
    (endpoint, connection, send, recv)
}

fn raw_rate(size: usize, time: Duration) -> f64 {
    let (told, address) = mpsc::sync_channel(1);
    let receiver = std::thread::spawn(move || {
        runtime().block_on(async {
            let (endpoint, address, peer) = raw_server();
            told.send((address, peer)).unwrap();
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            let (mut send, mut recv) = connection.accept_bi().await.unwrap();
            let (mut chunks, mut total) = ([const { Bytes::new() }; 32], 0);
            while let Some(count) = recv.read_chunks(&mut chunks).await.unwrap() {
                total += chunks.iter().take(count).map(Bytes::len).sum::<usize>();
            }
            send.write_all(&total.to_be_bytes()).await.unwrap();
            send.finish().unwrap();
            connection.closed().await;
        });
    });
    let (address, peer) = address.recv().unwrap();
    let rate = runtime().block_on(async {
        let (endpoint, connection, mut send, mut recv) = raw_dial(address, peer).await;
        let frames = frames(size);
        let start = Instant::now();
        let mut written = 0;
        while start.elapsed() < time {
            for piece in 0..frames.len().div_ceil(CHUNK) {
                let end = frames.len().min((piece + 1) * CHUNK);
                send.write_chunk(frames.slice(piece * CHUNK..end)).await.unwrap();
            }
            written += frames.len();
        }
        send.finish().unwrap();
        let total = recv.read_to_end(8).await.unwrap();
        let elapsed = start.elapsed();
        assert_eq!(total, written.to_be_bytes());
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
        let payload = written / (size + 4) * size;
        payload as f64 / elapsed.as_secs_f64() / 1e6
    });
    receiver.join().unwrap();
    rate
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

async fn raw_round_trip(size: usize) -> f64 {
    let (server, address, peer) = raw_server();
    let echo = tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (mut send, mut recv) = connection.accept_bi().await.unwrap();
        let mut message = vec![0; size];
        while recv.read_exact(&mut message).await.is_ok() {
            send.write_all(&message).await.unwrap();
        }
    });
    let (_endpoint, _connection, mut send, mut recv) = raw_dial(address, peer).await;
    let mut message = vec![0; size];
    let mut times = Vec::new();
    for _ in 0..TRIPS {
        let start = Instant::now();
        send.write_all(&message).await.unwrap();
        recv.read_exact(&mut message).await.unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    drop((send, recv));
    echo.abort();
    median(&mut times[TRIPS / 10..])
}

// ---- glueberry ---------------------------------------------------------------------------------

async fn node() -> Node {
    Node::builder(Keypair::generate_ed25519())
        .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap())
        .streams([STREAM])
        .build()
        .await
        .unwrap()
}

fn glueberry_rate(size: usize, time: Duration) -> f64 {
    let (told, address) = mpsc::sync_channel(1);
    let (tell, dialler) = mpsc::sync_channel(1);
    let (end, total) = mpsc::sync_channel::<usize>(1);
    let receiver = std::thread::spawn(move || {
        runtime().block_on(async {
            let node = node().await;
            let mut messages = node.messages().unwrap();
            told.send((node.peer_id(), node.addrs(), node.public_key())).unwrap();
            let hello = messages.recv().await.unwrap();
            let key = dialler.recv().unwrap();
            node.complete_handshake(hello.peer, key, &[STREAM]).await.unwrap();
            node.stream(hello.peer, "unused").unwrap();
            // Counts until the sender says how many there were.
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
        let node = node().await;
        node.add_peer(peer, addrs).await.unwrap();
        node.connect(peer).await.unwrap();
        tell.send(node.public_key()).unwrap();
        node.send(peer, glueberry_tokio::HANDSHAKE, "hello").await.unwrap();
        node.complete_handshake(peer, key, &[STREAM]).await.unwrap();
        let mut stream = node.stream(peer, STREAM).unwrap();
        let message = Bytes::from(vec![7; size]);
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < time {
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

async fn glueberry_round_trip(size: usize) -> f64 {
    let (a, b) = (node().await, node().await);
    a.add_peer(b.peer_id(), b.addrs()).await.unwrap();
    a.connect(b.peer_id()).await.unwrap();
    a.complete_handshake(b.peer_id(), b.public_key(), &[STREAM]).await.unwrap();
    while b.complete_handshake(a.peer_id(), a.public_key(), &[STREAM]).await.is_err() {
        tokio::task::yield_now().await;
    }
    let mut near: StreamHandle = a.stream(b.peer_id(), STREAM).unwrap();
    let mut far: StreamHandle = b.stream(a.peer_id(), STREAM).unwrap();
    let echo = tokio::spawn(async move {
        while let Some(message) = far.recv().await {
            if far.send(message).await.is_err() {
                break;
            }
        }
    });
    let message = Bytes::from(vec![7; size]);
    let mut times = Vec::new();
    for _ in 0..TRIPS {
        let start = Instant::now();
        near.send(message.clone()).await.unwrap();
        near.recv().await.unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let _: Option<Messages> = a.messages();
    echo.abort();
    a.shutdown().await;
    b.shutdown().await;
    median(&mut times[TRIPS / 10..])
}

// ---- parts -------------------------------------------------------------------------------------

const TRIPS: usize = 5_000;

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
