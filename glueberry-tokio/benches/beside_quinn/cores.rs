//! Several connections at one time: what a second core gives, and how evenly they share it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::ours::{self, Layer, STREAM};
use crate::{CHUNK, median, raw, say};

/// Prints the rate of one connection on one core, of two on two, and how even eight are on two; of raw
/// quinn if there is no layer.
pub(crate) fn cores(rounds: usize, layer: Option<Layer>) {
    let (mut one, mut ratios, mut uneven) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let alone: f64 = rates(&runtime(1), 1, layer).iter().sum();
        let two: f64 = rates(&runtime(2), 2, layer).iter().sum();
        let eight = rates(&runtime(2), 8, layer);
        let mean = eight.iter().sum::<f64>() / eight.len() as f64;
        let farthest = eight.iter().map(|rate| (rate / mean - 1.0).abs()).fold(0.0, f64::max);
        one.push(alone);
        ratios.push(two / alone);
        uneven.push(farthest * 100.0);
    }
    let [one, ratio, uneven] = [one, ratios, uneven].map(|mut all| median(&mut all));
    say(&format!(
        "     {:>10} | {one:6.0} MB/s | {ratio:.2} times | {uneven:.1} %",
        layer.map_or("raw quinn", Layer::name)
    ));
}

fn runtime(cores: usize) -> Runtime {
    let mut builder = match cores {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(cores).enable_all().build().unwrap()
}

/// Has as many peers send to one node at the same time; returns the rate of each in MB/s. All are on the
/// same runtime.
fn rates(runtime: &Runtime, peers: usize, layer: Option<Layer>) -> Vec<f64> {
    let measured = match layer {
        Some(layer) => runtime.block_on(runtime.spawn(ours(layer, peers))),
        None => runtime.block_on(runtime.spawn(raw(peers))),
    };
    measured.unwrap()
}

async fn ours(layer: Layer, peers: usize) -> Vec<f64> {
    let (hub, mut all) = (ours::node(layer).await, Vec::new());
    for _ in 0..peers {
        let peer = ours::node(layer).await;
        ours::establish(&peer, &hub).await;
        all.push(peer);
    }
    let (mut sending, mut counting) = (Vec::new(), Vec::new());
    for peer in &all {
        let mut sender = peer.stream(hub.peer_id(), STREAM).unwrap();
        let mut receiver = hub.stream(peer.peer_id(), STREAM).unwrap();
        sending.push(tokio::spawn(async move {
            let message = Bytes::from(vec![7; SIZE]);
            while sender.send(message.clone()).await.is_ok() {}
        }));
        let next = async move || receiver.recv().await.map_or(0, |message| message.len());
        counting.push(tokio::spawn(count(next)));
    }
    let rates = join(counting).await;
    sending.iter().for_each(JoinHandle::abort);
    // First, because it does not read what the others would wait to send.
    hub.shutdown().await;
    for node in all {
        node.shutdown().await;
    }
    rates
}

async fn raw(peers: usize) -> Vec<f64> {
    let (server, address, certificate) = raw::server();
    let (mut sending, mut counting) = (Vec::new(), Vec::new());
    for _ in 0..peers {
        let (client, config) = raw::client(certificate.clone());
        let connecting = client.connect_with(config, address, "localhost").unwrap();
        let accepting = async { server.accept().await.unwrap().await.unwrap() };
        let (connection, accepted) = tokio::join!(connecting, accepting);
        let connection = connection.unwrap();
        sending.push(tokio::spawn(async move {
            let (mut sender, _receiver) = connection.open_bi().await.unwrap();
            let chunk = Bytes::from(vec![7; CHUNK]);
            while sender.write_chunk(chunk.clone()).await.is_ok() {}
        }));
        let mut receiver = None;
        let next = async move || {
            if receiver.is_none() {
                receiver = Some(accepted.accept_bi().await.unwrap());
            }
            let mut chunks = [const { Bytes::new() }; 32];
            let (_, stream) = receiver.as_mut().unwrap();
            let count = stream.read_chunks(&mut chunks).await.unwrap().unwrap();
            chunks.iter().take(count).map(Bytes::len).sum()
        };
        counting.push(tokio::spawn(count(next)));
    }
    let rates = join(counting).await;
    sending.iter().for_each(JoinHandle::abort);
    rates
}

/// Counts what arrives for a while, once it has begun; returns the rate in MB/s.
async fn count(mut next: impl AsyncFnMut() -> usize) -> f64 {
    let (start, mut received) = (Instant::now() + WARM_UP, 0);
    loop {
        let bytes = next().await;
        let now = Instant::now();
        if now >= start {
            received += bytes;
        }
        if now >= start + TIME {
            return received as f64 / (now - start).as_secs_f64() / 1e6;
        }
    }
}

async fn join(counting: Vec<JoinHandle<f64>>) -> Vec<f64> {
    let mut rates = Vec::new();
    for counting in counting {
        rates.push(counting.await.unwrap());
    }
    rates
}

const SIZE: usize = CHUNK / 4;
const WARM_UP: Duration = Duration::from_millis(200);
const TIME: Duration = Duration::from_millis(500);
