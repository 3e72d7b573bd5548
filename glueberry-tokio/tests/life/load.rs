//! Many peers, many messages, and readers that do not read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use glueberry_tokio::identity::PeerId;
use glueberry_tokio::{Config, ConnectionState, ErrorCode, Event, Node};

use crate::support::{Party, STREAM, STREAMS, eventually, quick, run};

const PEERS: usize = 200;
const MESSAGES: u32 = 1_000;

/// A message with its number, and a content that follows from who says it where.
fn numbered(number: u32, of: u64) -> Bytes {
    let mut state = of ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut message = BytesMut::new();
    message.put_u32(number);
    for _ in 0..(state >> 60) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        message.put_u64(state);
    }
    message.freeze()
}

fn origin(from: PeerId, to: PeerId, stream: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in [&from.to_bytes()[..], &to.to_bytes()[..], stream.as_bytes()].concat() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash
}

async fn send_all(node: Node, to: PeerId) {
    for number in 0..MESSAGES {
        for stream in STREAMS {
            let message = numbered(number, origin(node.peer_id(), to, stream));
            node.send(to, stream, message).await.unwrap();
        }
    }
}

/// Receives all that `peers` say, each number once and in order.
async fn receive_all(party: &mut Party, peers: usize) {
    let mut next: HashMap<(PeerId, String), u32> = HashMap::new();
    let mut left = peers * STREAMS.len() * usize::try_from(MESSAGES).unwrap();
    while left > 0 {
        let message = party.message().await;
        let number = next.entry((message.peer, message.stream().to_owned())).or_default();
        let of = origin(message.peer, party.id(), message.stream());
        assert_eq!(message.data, numbered(*number, of));
        *number += 1;
        left -= 1;
    }
}

#[test]
fn two_hundred_peers_exchange_a_thousand_messages_each_way_on_two_streams() {
    run(async {
        let mut hub = Party::greeting(quiet()).await;
        let mut tasks = Vec::new();
        for _ in 0..PEERS {
            let mut peer = Party::greeting(quiet()).await;
            peer.dial(&hub).await;
            peer.until(ConnectionState::Established).await;
            eventually("established", || hub.state(&peer) == ConnectionState::Established).await;
            let (node, hub_node, hub_id, id) =
                (peer.node.clone(), hub.node.clone(), hub.id(), peer.id());
            tasks.push(tokio::spawn(async move {
                let sending = tokio::spawn(send_all(node, hub_id));
                let answering = tokio::spawn(send_all(hub_node, id));
                receive_all(&mut peer, 1).await;
                sending.await.unwrap();
                answering.await.unwrap();
                peer
            }));
        }
        receive_all(&mut hub, PEERS).await;
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Probes that don't mistake a busy test for a lost peer.
fn quiet() -> Config {
    let mut config = quick();
    config.keep_alive = Duration::from_secs(10);
    config
}

#[test]
fn an_application_that_does_not_read_loses_nothing_and_slows_nobody_else() {
    run(async {
        let mut config = quiet();
        config.core.high_watermark = 50;
        config.core.low_watermark = 25;
        config.core.high_watermark_bytes = 256 * 1024;
        config.core.low_watermark_bytes = 128 * 1024;
        let sender = Party::greeting(config.clone()).await;
        let (mut asleep, mut awake) =
            (Party::greeting(config.clone()).await, Party::greeting(config.clone()).await);
        for peer in [&mut asleep, &mut awake] {
            sender.dial(peer).await;
            peer.until(ConnectionState::Established).await;
        }
        let established = ConnectionState::Established;
        eventually("established", || {
            sender.state(&asleep) == established && sender.state(&awake) == established
        })
        .await;

        // Four times what all queues and windows between the two can hold.
        let size = 16 * 1024_usize;
        let held = config.core.high_watermark_bytes
            + usize::try_from(config.stream_window).unwrap()
            + config.core.receive_queue_bytes
            + 2 * config.message_buffer * size;
        let offers = 4 * held / size;
        let stop = Arc::new(AtomicBool::new(false));
        let (node, to) = (sender.node.clone(), asleep.id());
        let offering = tokio::spawn(async move {
            let (mut accepted, mut refused) = (Vec::new(), 0);
            for number in 0..offers {
                let mut message = BytesMut::zeroed(size);
                message[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
                match node.try_send(to, STREAM, message.freeze()) {
                    Ok(()) => accepted.push(number),
                    Err(error) => {
                        assert_eq!(error.code(), ErrorCode::Backpressure);
                        refused += 1;
                        tokio::time::sleep(Duration::from_micros(500)).await;
                    }
                }
            }
            node.send(to, STREAM, u64::MAX.to_be_bytes().to_vec()).await.unwrap();
            (accepted, refused)
        });
        // Meanwhile the other peer is served.
        let (node, to, stopped) = (sender.node.clone(), awake.id(), stop.clone());
        let serving = tokio::spawn(async move {
            let mut sent = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                node.send(to, STREAM, vec![7; 1024]).await.unwrap();
                sent += 1;
            }
            sent
        });
        let mut received = 0_u64;
        let until = tokio::time::Instant::now() + Duration::from_secs(10);
        // More than all queues and windows hold, so that it keeps flowing.
        while received < 10_000 || tokio::time::Instant::now() < until {
            awake.message().await;
            received += 1;
        }
        stop.store(true, Ordering::Relaxed);
        let sent = serving.await.unwrap();
        while received < sent {
            awake.message().await;
            received += 1;
        }
        // Now the sleeper wakes up, and everything that was accepted is there.
        let reading = tokio::spawn(async move {
            let mut heard = Vec::new();
            loop {
                let message = asleep.message().await;
                let number = u64::from_be_bytes(message.data[..8].try_into().unwrap());
                if number == u64::MAX {
                    return heard;
                }
                heard.push(usize::try_from(number).unwrap());
            }
        });
        let (accepted, refused) = offering.await.unwrap();
        assert!(refused > 0, "there was no backpressure");
        assert_eq!(reading.await.unwrap(), accepted);
    });
}

#[test]
fn backpressure_is_told_and_can_be_switched_off() {
    run(async {
        let mut config = quiet();
        (config.core.high_watermark, config.core.low_watermark) = (4, 2);
        let (mut a, b) = (Party::greeting(config.clone()).await, Party::greeting(quiet()).await);
        a.dial(&b).await;
        a.until(ConnectionState::Established).await;
        let stalled = (0..1_000).find_map(|_| a.node.try_send(b.id(), STREAM, vec![0; 64]).err());
        assert_eq!(stalled.unwrap().code(), ErrorCode::Backpressure);
        a.event(|event| matches!(event, Event::Backpressure { .. }).then_some(())).await;
        a.node.send(b.id(), STREAM, "waits for room").await.unwrap();

        config.disable_backpressure = true;
        let mut c = Party::greeting(config).await;
        c.dial(&b).await;
        c.until(ConnectionState::Established).await;
        for _ in 0..10_000 {
            c.node.try_send(b.id(), STREAM, vec![0; 64]).unwrap();
        }
    });
}

#[test]
fn what_a_node_drops_is_counted_and_told() {
    run(async {
        let mut config = quiet();
        config.delivery = glueberry_tokio::Delivery::DropNewest;
        config.message_buffer = 10;
        let mut a = Party::greeting(config).await;
        let mut b = Party::greeting(quiet()).await;
        b.dial(&a).await;
        b.until(ConnectionState::Established).await;
        a.until(ConnectionState::Established).await;
        for number in 0..1_000_u32 {
            b.node.send(a.id(), STREAM, number.to_be_bytes().to_vec()).await.unwrap();
        }
        let mut dropped = 0;
        eventually("all has arrived", || {
            a.node.peer_statistics(b.id()).is_some_and(|stats| {
                stats.streams.get(STREAM).is_some_and(|stream| stream.messages_received == 1_000)
            })
        })
        .await;
        let mut heard = 0_u64;
        while let Ok(message) = tokio::time::timeout(Duration::from_millis(300), a.message()).await
        {
            assert_eq!(message.data.len(), 4);
            heard += 1;
        }
        while let Ok(Some(event)) =
            tokio::time::timeout(Duration::from_millis(100), a.events.recv()).await
        {
            if let Event::MessagesDropped { count, .. } = event {
                dropped += count;
            }
        }
        assert!(dropped > 0);
        assert_eq!(heard + dropped, 1_000);
    });
}
