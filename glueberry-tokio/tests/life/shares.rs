//! One peer that is busy, and many that say a word now and then.

use std::collections::HashMap;
use std::time::Duration;

use glueberry_tokio::identity::PeerId;
use glueberry_tokio::{Config, ConnectionState};

use crate::support::{Party, STREAM, eventually, run};

const QUIET: usize = 50;
const WORDS: u8 = 10;

/// A hub, a peer that is to be noisy, and the quiet ones, all Established.
async fn crowd() -> (Party, Party, Vec<Party>) {
    let hub = Party::greeting(Config::default()).await;
    let mut peers = Vec::new();
    for _ in 0..=QUIET {
        let peer = Party::greeting(Config::default()).await;
        peer.dial(&hub).await;
        eventually("established", || {
            hub.state(&peer) == ConnectionState::Established
                && peer.state(&hub) == ConnectionState::Established
        })
        .await;
        peers.push(peer);
    }
    let noisy = peers.pop().unwrap();
    (hub, noisy, peers)
}

/// The reader takes its time over each message, so that there is always a queue.
#[test]
fn a_noisy_peer_does_not_keep_the_reader_from_the_others() {
    run(async {
        let (mut hub, noisy, quiet) = crowd().await;
        let hub_id = hub.id();
        let node = noisy.node.clone();
        let flood =
            tokio::spawn(
                async move { while node.send(hub_id, STREAM, vec![0; 100]).await.is_ok() {} },
            );
        // All queues on the way are full of it.
        tokio::time::sleep(Duration::from_millis(500)).await;
        for peer in &quiet {
            for word in 0..WORDS {
                peer.node.send(hub_id, STREAM, vec![word]).await.unwrap();
            }
        }
        let mut heard: HashMap<PeerId, u8> = HashMap::new();
        let mut of_noisy = 0;
        while heard.values().filter(|words| **words == WORDS).count() < QUIET {
            let message = hub.message().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            if message.peer == noisy.id() {
                of_noisy += 1;
                assert!(of_noisy < 5_000, "the others were heard {} times", heard.len());
            } else {
                let next = heard.entry(message.peer).or_default();
                assert_eq!(message.data, [*next][..], "in order");
                *next += 1;
            }
        }
        flood.abort();
    });
}

#[test]
fn a_flood_to_one_peer_does_not_hold_up_what_is_sent_to_the_others() {
    run(async {
        let (hub, noisy, mut quiet) = crowd().await;
        let (node, noisy_id) = (hub.node.clone(), noisy.id());
        let flood = tokio::spawn(async move {
            while node.send(noisy_id, STREAM, vec![0; 10_000]).await.is_ok() {}
        });
        // Its reader does not read, then does.
        let mut messages = noisy.messages;
        let reading = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            while messages.recv().await.is_some() {}
        });
        for word in 0..WORDS {
            for peer in &quiet {
                hub.node.send(peer.id(), STREAM, vec![word]).await.unwrap();
            }
        }
        for peer in &mut quiet {
            for word in 0..WORDS {
                assert_eq!(peer.message().await.data, [word][..]);
            }
        }
        flood.abort();
        reading.abort();
    });
}
