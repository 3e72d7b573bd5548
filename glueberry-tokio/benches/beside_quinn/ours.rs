//! Glueberry through the public `Node`: message by message, or in batches.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{Config, ConnectionState, Messages, Node, Profile, StreamHandle, Suite};

use crate::{CHUNK, TRIPS, median, runtime};

pub(crate) const STREAM: &str = "bench";

/// What seals messages inside of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    V1,
    V2(Suite),
}

impl Layer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1-chacha",
            Self::V2(Suite::Aes256Gcm | Suite::MlKem768Aes256Gcm) => "v2-aes",
            Self::V2(_) => "v2-chacha",
        }
    }
}

/// How the application sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// One for each message, by the handles of the stream.
    Single,
    /// One for as many messages as make a chunk, by the handles of the stream.
    Batches,
    /// One for each message, received with those of all streams.
    AllStreams,
}

pub(crate) const AES: Layer = Layer::V2(Suite::MlKem768Aes256Gcm);
const CHACHA: Layer = Layer::V2(Suite::MlKem768ChaCha20Poly1305);

/// Every way that can be compared.
pub(crate) const WAYS: [(Layer, Calls); 7] = [
    (Layer::V1, Calls::Single),
    (Layer::V1, Calls::Batches),
    (AES, Calls::Single),
    (AES, Calls::Batches),
    (AES, Calls::AllStreams),
    (CHACHA, Calls::Single),
    (CHACHA, Calls::Batches),
];

pub(crate) async fn node(layer: Layer) -> Node {
    let mut config = Config::default();
    match layer {
        Layer::V1 => config.core.profiles = vec![Profile::V1],
        Layer::V2(suite) => {
            config.core.profiles = vec![Profile::V2];
            config.core.suites = vec![suite];
        }
    }
    Node::builder(Keypair::generate_ed25519())
        .config(config)
        .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap())
        .streams([STREAM])
        .build()
        .await
        .unwrap()
}

pub(crate) fn rate((layer, calls): (Layer, Calls), size: usize, time: Duration) -> f64 {
    let (ready, address) = mpsc::sync_channel(1);
    let (own_key, dialler) = mpsc::sync_channel(1);
    let (end, total) = mpsc::sync_channel::<usize>(1);
    let receiver = std::thread::spawn(move || {
        runtime().block_on(async {
            let node = node(layer).await;
            let mut messages = node.messages().unwrap();
            ready.send((node.peer_id(), node.addrs(), node.public_key())).unwrap();
            let hello = messages.recv().await.unwrap();
            let key = dialler.recv().unwrap();
            // Before the first message, which would else wait for whoever reads all streams.
            let has_handle = calls != Calls::AllStreams;
            let stream = has_handle.then(|| node.stream(hello.peer, STREAM).unwrap());
            node.complete_handshake(hello.peer, key, &[STREAM]).await.unwrap();
            let count = match stream {
                None => count_all(&mut messages, size).await,
                Some(stream) if calls == Calls::Batches => count_batches(stream, size).await,
                Some(stream) => count_single(stream, size).await,
            };
            end.send(count).unwrap();
            node.shutdown().await;
        });
    });
    let (peer, addrs, key) = address.recv().unwrap();
    let rate = runtime().block_on(async {
        let node = node(layer).await;
        node.add_peer(peer, addrs).await.unwrap();
        node.connect(peer).await.unwrap();
        own_key.send(node.public_key()).unwrap();
        node.send(peer, glueberry_tokio::HANDSHAKE, "hello").await.unwrap();
        node.complete_handshake(peer, key, &[STREAM]).await.unwrap();
        let mut stream = node.stream(peer, STREAM).unwrap();
        let message = Bytes::from(vec![7; size]);
        let start = Instant::now();
        let (mut sent, mut batch) = (0, VecDeque::new());
        while start.elapsed() < time {
            let chunk = (CHUNK / size).max(1);
            if calls == Calls::Batches {
                batch.extend(std::iter::repeat_n(&message, chunk).cloned());
                stream.send_many(&mut batch).await.unwrap();
            } else {
                for _ in 0..chunk {
                    stream.send(message.clone()).await.unwrap();
                }
            }
            sent += chunk;
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

/// Counts messages up to the empty one, which is the last.
async fn count_single(mut stream: StreamHandle, size: usize) -> usize {
    let mut count = 0;
    loop {
        let message = stream.recv().await.unwrap();
        if message.is_empty() {
            return count;
        }
        assert_eq!(message.len(), size);
        count += 1;
    }
}

/// The same of all streams.
async fn count_all(messages: &mut Messages, size: usize) -> usize {
    let mut count = 0;
    loop {
        let message = messages.recv().await.unwrap();
        if message.data.is_empty() {
            return count;
        }
        assert_eq!(message.data.len(), size);
        count += 1;
    }
}

/// The same in batches.
async fn count_batches(mut stream: StreamHandle, size: usize) -> usize {
    let (mut count, mut batch) = (0, Vec::new());
    loop {
        stream.recv_many(&mut batch, (CHUNK / size).max(1)).await;
        for message in batch.drain(..) {
            if message.is_empty() {
                return count;
            }
            assert_eq!(message.len(), size);
            count += 1;
        }
    }
}

/// Has one node dial another, and both finalize as soon as they may. Returns how long that took.
pub(crate) async fn establish(a: &Node, b: &Node) -> Duration {
    a.add_peer(b.peer_id(), b.addrs()).await.unwrap();
    let mut connected = b.events_for_states([ConnectionState::Connected]);
    let start = Instant::now();
    let dialling = async {
        a.connect(b.peer_id()).await.unwrap();
        a.complete_handshake(b.peer_id(), b.public_key(), &[STREAM]).await.unwrap();
    };
    let accepting = async {
        connected.recv().await.unwrap();
        b.complete_handshake(a.peer_id(), a.public_key(), &[STREAM]).await.unwrap();
    };
    tokio::join!(dialling, accepting);
    start.elapsed()
}

pub(crate) async fn connect(layer: Layer) -> f64 {
    let (a, b) = (node(layer).await, node(layer).await);
    let took = establish(&a, &b).await;
    a.shutdown().await;
    b.shutdown().await;
    took.as_secs_f64() * 1e6
}

pub(crate) async fn shutdown(layer: Layer, peers: usize) -> f64 {
    let (hub, mut others) = (node(layer).await, Vec::new());
    for _ in 0..peers {
        let other = node(layer).await;
        establish(&other, &hub).await;
        others.push(other);
    }
    // Until nothing is under way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let start = Instant::now();
    hub.shutdown().await;
    let took = start.elapsed();
    for other in others {
        other.shutdown().await;
    }
    took.as_secs_f64() * 1e6
}

pub(crate) async fn round_trip(layer: Layer, size: usize) -> f64 {
    let (a, b) = (node(layer).await, node(layer).await);
    establish(&a, &b).await;
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
