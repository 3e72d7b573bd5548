//! What a peer that does not read costs the others.
//!
//! ```text
//! cargo bench -p glueberry-tokio --bench slow_reader [-- ROUNDS]
//! ```
//!
//! One node sends to two peers as fast as they take it, and the first never reads, so that all
//! queues and windows towards it are full. The rate to the second is measured in turns with the rate
//! between two nodes that have no other peer. Printed are the medians, and the median of the paired
//! ratios.

#![expect(
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program for a person, with rates in floating point"
)]

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{Messages, Node};

const STREAM: &str = "bench";
const SIZE: usize = 16 * 1024;
const WINDOW: Duration = Duration::from_millis(500);

fn main() {
    let rounds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(9);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(rounds));
}

async fn run(rounds: usize) {
    let (sender, first, second) = (node().await, node().await, node().await);
    for peer in [&first, &second] {
        sender.add_peer(peer.peer_id(), peer.addrs()).await.unwrap();
        sender.connect(peer.peer_id()).await.unwrap();
        while peer
            .complete_handshake(sender.peer_id(), sender.public_key(), &[STREAM])
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        sender.complete_handshake(peer.peer_id(), peer.public_key(), &[STREAM]).await.unwrap();
    }
    // Nobody reads what the first receives.
    let _unread = first.messages().unwrap();
    let mut inbox = second.messages().unwrap();
    // Both are sent to as fast as they take it.
    for peer in [first.peer_id(), second.peer_id()] {
        let sender = sender.clone();
        tokio::spawn(
            async move { while sender.send(peer, STREAM, vec![7; SIZE]).await.is_ok() {} },
        );
    }
    let (mut alone, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let stalled = rate(&mut inbox).await;
        let fresh = fresh_rate().await;
        beside.push(stalled);
        alone.push(fresh);
        ratios.push(stalled / fresh);
    }
    println!("rate to a peer that reads, {SIZE} bytes a message");
    println!("  without another peer:               {:8.1} MB/s", median(&mut alone));
    println!("  beside one that does not read:      {:8.1} MB/s", median(&mut beside));
    println!("  ratio of pairs (median):            {:8.3}", median(&mut ratios));
}

/// The rate between two nodes that have no other peer.
async fn fresh_rate() -> f64 {
    let (sender, peer) = (node().await, node().await);
    sender.add_peer(peer.peer_id(), peer.addrs()).await.unwrap();
    sender.connect(peer.peer_id()).await.unwrap();
    while peer.complete_handshake(sender.peer_id(), sender.public_key(), &[STREAM]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sender.complete_handshake(peer.peer_id(), peer.public_key(), &[STREAM]).await.unwrap();
    let mut inbox = peer.messages().unwrap();
    let (from, to) = (sender.clone(), peer.peer_id());
    let sending =
        tokio::spawn(async move { while from.send(to, STREAM, vec![7; SIZE]).await.is_ok() {} });
    let rate = rate(&mut inbox).await;
    sending.abort();
    sender.shutdown().await;
    peer.shutdown().await;
    rate
}

/// Megabytes a second that arrive, once they flow.
async fn rate(inbox: &mut Messages) -> f64 {
    let warm = Instant::now();
    while warm.elapsed() < WINDOW / 5 {
        inbox.next().await.unwrap();
    }
    let (begun, mut bytes) = (Instant::now(), 0);
    while begun.elapsed() < WINDOW {
        bytes += inbox.next().await.unwrap().data.len();
    }
    bytes as f64 / begun.elapsed().as_secs_f64() / 1e6
}

async fn node() -> Node {
    Node::builder(Keypair::generate_ed25519())
        .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap())
        .streams([STREAM])
        .build()
        .await
        .unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
