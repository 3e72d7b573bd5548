//! Messages: order, sizes, backpressure, limits, orderly ends.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use glueberry_tokio::{CloseReason, Config, ConnectionState, ErrorCode, Event};

use super::Stage;
use crate::party::{Party, STREAM, establish, pause};

pub(super) async fn all_sizes(stage: Stage) {
    let (mut a, mut b) = stage.established(Config::default()).await;
    let sizes = [0, 1, 127, 128, 1_000, 16_383, 16_384, 65_536, 200_000, 1_048_576];
    for (fill, size) in (0_u8..).zip(sizes) {
        a.node.send(b.id(), STREAM, vec![fill; size]).await.expect("sent");
        b.node.send(a.id(), STREAM, vec![fill; size]).await.expect("sent");
    }
    for (fill, size) in (0_u8..).zip(sizes) {
        for party in [&mut a, &mut b] {
            let message = party.receive().await;
            assert_eq!(message.stream(), STREAM);
            assert_eq!(message.data, vec![fill; size]);
        }
    }
}

pub(super) async fn both_send_first(stage: Stage) {
    for _ in 0..3 {
        let (mut a, mut b) = stage.established(Config::default()).await;
        for number in 0..20_u8 {
            a.node.try_send(b.id(), STREAM, vec![number]).expect("sent");
            b.node.try_send(a.id(), STREAM, vec![number]).expect("sent");
        }
        for number in 0..20_u8 {
            assert_eq!(a.receive().await.data, vec![number]);
            assert_eq!(b.receive().await.data, vec![number]);
        }
    }
}

/// Nobody reads until the sender is told to wait; then everything arrives, in order.
pub(super) async fn slow_reader(stage: Stage) {
    let mut config = Config::default();
    config.message_buffer = 10;
    config.stream_window = 16 * 1024;
    config.core.receive_queue = 10;
    config.core.high_watermark = 20;
    config.core.low_watermark = 10;
    let (a, mut b) = stage.established(config).await;
    let (mut sent, mut refused) = (0_u32, 0);
    while refused < 20 {
        let mut message = vec![0; 10_000];
        message[..4].copy_from_slice(&sent.to_be_bytes());
        match a.node.try_send(b.id(), STREAM, message) {
            Ok(()) => sent += 1,
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::Backpressure, "{error}");
                refused += 1;
                pause(5).await;
            }
        }
    }
    // The other direction, on the same stream, is not slowed down by that.
    let mut a = a;
    b.node.send(a.id(), STREAM, "meanwhile").await.expect("sent");
    assert_eq!(a.receive().await.data, "meanwhile");
    for number in 0..sent {
        assert_eq!(b.receive().await.data[..4], number.to_be_bytes());
    }
    a.node.send(b.id(), STREAM, "after").await.expect("sent");
    assert_eq!(b.receive().await.data, "after");
}

/// Nobody reads any of many streams until the transport takes no more of them. Another goes on all the
/// same, for longer than any window is wide.
pub(super) async fn unread_streams(stage: Stage) {
    let names: Vec<String> = (0..16).map(|number| format!("unread-{number}")).collect();
    let unread = || names.iter().map(String::as_str);
    let all: Vec<&str> = unread().chain([STREAM]).collect();
    let mut config = Config::default();
    config.message_buffer = 10;
    config.core.receive_queue = 10;
    config.core.high_watermark = 20;
    config.core.low_watermark = 10;
    let (mut a, mut b) = stage.pair(config, &all).await;
    establish(&mut a, &mut b, &all).await;
    let _unread: Vec<_> =
        unread().map(|name| b.node.stream(a.id(), name).expect("first")).collect();
    let mut refused = 0;
    while refused < 20 {
        refused += 1;
        for name in unread() {
            while let Ok(()) = a.node.try_send(b.id(), name, vec![0; 10_000]) {
                refused = 0;
            }
        }
        pause(5).await;
    }
    for number in 0..100_u8 {
        a.node.send(b.id(), STREAM, vec![number; 10_000]).await.expect("sent");
        assert_eq!(b.receive().await.data, vec![number; 10_000]);
    }
}

pub(super) async fn many_streams(stage: Stage) {
    let names: Vec<String> = (0..30).map(|number| format!("stream-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut a, mut b) = stage.pair(Config::default(), &names).await;
    establish(&mut a, &mut b, &names).await;
    for round in 0..5_u8 {
        for name in &names {
            a.node.send(b.id(), name, vec![round; 100]).await.expect("sent");
            b.node.send(a.id(), name, vec![round; 100]).await.expect("sent");
        }
    }
    for party in [&mut a, &mut b] {
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..5 * names.len() {
            let message = party.receive().await;
            let round: &mut u8 = seen.entry(message.stream().to_owned()).or_default();
            assert_eq!(message.data, vec![*round; 100], "out of order on {}", message.stream());
            *round += 1;
        }
        assert_eq!(seen.len(), names.len());
    }
}

pub(super) async fn big_messages_both_ways(stage: Stage) {
    let (mut a, mut b) = stage.established(Config::default()).await;
    let limit = Config::default().core.max_message_size;
    for fill in 0..2_u8 {
        a.node.send(b.id(), STREAM, vec![fill; limit]).await.expect("sent");
        b.node.send(a.id(), STREAM, vec![fill; limit]).await.expect("sent");
    }
    for fill in 0..2_u8 {
        for party in [&mut a, &mut b] {
            let message = party.receive().await;
            assert_eq!(message.data.len(), limit);
            assert!(message.data.iter().all(|byte| *byte == fill));
        }
    }
}

pub(super) async fn oversize_is_refused(stage: Stage) {
    let (a, mut b) = stage.established(Config::default()).await;
    let limit = Config::default().core.max_message_size;
    let error = a.node.send(b.id(), STREAM, vec![0; limit + 1]).await.expect_err("too large");
    assert_eq!(error.code(), ErrorCode::MessageTooLarge, "{error}");
    a.node.send(b.id(), STREAM, "small").await.expect("sent");
    assert_eq!(b.receive().await.data, "small");
}

/// A peer with a higher limit sends what this side does not take.
pub(super) async fn oversize_from_the_peer(stage: Stage) {
    let mut config = Config::default();
    config.core.reconnect = glueberry_tokio::proto::ReconnectPolicy::never();
    let mut a = Party::start(stage.a, config.clone(), &[STREAM]).await;
    config.core.max_message_size = 1_000;
    let mut b = Party::start(stage.b, config, &[STREAM]).await;
    establish(&mut a, &mut b, &[STREAM]).await;
    a.node.send(b.id(), STREAM, vec![0; 1_001]).await.expect("sent");
    let closed = b
        .event(|event| match event {
            Event::SessionClosed { closed, .. } => Some(closed),
            _ => None,
        })
        .await;
    assert!(matches!(closed.reason, CloseReason::Misbehaved(_)), "{closed:?}");
    a.wait_for(b.id(), ConnectionState::Disconnected).await;
}

pub(super) async fn stream_handle(stage: Stage) {
    let (mut a, mut b) = stage.pair(Config::default(), &["votes", "blocks"]).await;
    let mut votes = b.node.stream(a.id(), "votes").expect("nobody has it");
    establish(&mut a, &mut b, &["votes", "blocks"]).await;
    let mut sink = a.node.stream(b.id(), "votes").expect("nobody has it");
    let mut yes = futures_util::stream::iter((0..50_u8).map(|n| Ok(Bytes::from(vec![n]))));
    sink.send_all(&mut yes).await.expect("sent");
    a.node.send(b.id(), "blocks", "block").await.expect("sent");
    for number in 0..50_u8 {
        assert_eq!(votes.next().await.expect("a vote"), vec![number]);
    }
    let block = b.receive().await;
    assert_eq!((block.stream(), &block.data[..]), ("blocks", &b"block"[..]));
}

/// Of a batch every message is queued, once and in order, or left with the sender.
pub(super) async fn batches(stage: Stage) {
    let mut config = Config::default();
    (config.core.high_watermark, config.core.low_watermark) = (50, 10);
    config.core.reconnect = glueberry_tokio::proto::ReconnectPolicy::never();
    let (a, mut b) = stage.established(config).await;
    let peer = b.id();
    let mut near = a.node.stream(peer, STREAM).expect("nobody has it");
    let numbers: Vec<Bytes> = (0..1_000_u16).map(|n| n.to_be_bytes().to_vec().into()).collect();
    let mut batch = VecDeque::from(numbers.clone());

    // No more than the queue takes at once; a future that is dropped leaves the rest.
    let error = near.try_send_many(&mut batch).expect_err("the queue is full");
    assert_eq!(error.code(), ErrorCode::Backpressure, "{error}");
    assert_eq!(batch, &numbers[50..]);
    drop(tokio::time::timeout(Duration::from_millis(1), near.send_many(&mut batch)).await);
    assert_eq!(batch.front(), numbers.get(1_000 - batch.len()));
    a.node.send_many(peer, STREAM, &mut batch).await.expect("sent");
    assert!(batch.is_empty());

    // One that is too large stays in front; those before it are queued.
    let limit = Config::default().core.max_message_size;
    batch.extend(["before".into(), Bytes::from(vec![0; limit + 1]), "behind".into()]);
    let error = near.send_many(&mut batch).await.expect_err("too large");
    assert_eq!(error.code(), ErrorCode::MessageTooLarge, "{error}");
    assert_eq!(batch.iter().map(Bytes::len).collect::<Vec<_>>(), [limit + 1, 6]);
    batch.pop_front();
    a.node.send_many(peer, STREAM, &mut batch).await.expect("sent");

    let (mut received, all) = (Vec::new(), 1_002);
    assert_eq!(b.messages.recv_many(&mut received, 0).await, 0);
    while received.len() < all {
        let before = received.len();
        let count = b.messages.recv_many(&mut received, 100).await;
        assert!((1..=100).contains(&count), "{count}");
        assert_eq!(received.len(), before + count);
    }
    let data = received.iter().map(|message| message.data.clone());
    assert!(data.eq(numbers.into_iter().chain(["before".into(), "behind".into()])));

    batch.extend(["to", "one", "reader"].map(Bytes::from));
    b.node.send_many(a.id(), STREAM, &mut batch).await.expect("sent");
    let mut received = Vec::new();
    while received.len() < 3 {
        assert_ne!(near.recv_many(&mut received, 2).await, 0);
    }
    assert_eq!(received, ["to", "one", "reader"]);
    b.node.shutdown().await;
    a.wait_for(peer, ConnectionState::Disconnected).await;
    batch.push_back("nowhere".into());
    assert!(near.send_many(&mut batch).await.is_err());
    assert_eq!(batch, ["nowhere"]);
    a.node.shutdown().await;
    assert_eq!(near.recv_many(&mut received, 2).await, 0, "the end");
}

/// What was accepted before a shutdown arrives, and is counted as neither unsent nor in doubt,
/// whether or not the peer has said anything on the stream.
pub(super) async fn shutdown_drain(stage: Stage) {
    for answers in [false, true] {
        let (mut a, mut b) = stage.established(Config::default()).await;
        for number in 0..500_u16 {
            let mut message = vec![0; 1_000];
            message[..2].copy_from_slice(&number.to_be_bytes());
            a.node.send(b.id(), STREAM, message).await.expect("sent");
        }
        if answers {
            assert_eq!(b.receive().await.data[..2], [0, 0]);
            b.node.send(a.id(), STREAM, "back").await.expect("sent");
            assert_eq!(a.receive().await.data, "back");
        }
        let began = std::time::Instant::now();
        a.node.shutdown().await;
        assert!(began.elapsed() < Duration::from_secs(4), "the peer's end was not noticed");
        for number in u16::from(answers)..500 {
            assert_eq!(b.receive().await.data[..2], number.to_be_bytes());
        }
        let closed = a
            .event(|event| match event {
                Event::SessionClosed { closed, .. } => Some(closed),
                _ => None,
            })
            .await;
        assert_eq!((closed.unsent, closed.in_doubt), (0, 0), "{closed:?}");
        let error = a.node.connect(b.id()).await.expect_err("stopped");
        assert_eq!(error.code(), ErrorCode::NodeStopped, "{error}");
        assert!(a.messages.recv().await.is_none());
    }
}

/// Where both end the session at once, neither waits for the other longer than it takes, and with v2
/// nothing is in doubt.
pub(super) async fn both_leave(stage: Stage) {
    let (mut a, mut b) = stage.established(Config::default()).await;
    for number in 0..20_u8 {
        a.node.send(b.id(), STREAM, vec![number; 1000]).await.expect("sent");
        b.node.send(a.id(), STREAM, vec![number; 1000]).await.expect("sent");
    }
    for _ in 0..20 {
        a.receive().await;
        b.receive().await;
    }
    let began = std::time::Instant::now();
    let (of_a, of_b) = tokio::join!(a.node.disconnect(b.id()), b.node.disconnect(a.id()));
    // Where one was faster the other has no session any more.
    assert!(of_a.is_ok() || of_b.is_ok(), "{of_a:?}, {of_b:?}");
    for party in [&mut a, &mut b] {
        let closed = party
            .event(|event| match event {
                Event::SessionClosed { closed, .. } => Some(closed),
                _ => None,
            })
            .await;
        if stage.a.has_v2 && stage.b.has_v2 {
            let left = (closed.unsent, closed.in_doubt, closed.not_received);
            assert_eq!(left, (0, 0, 0), "{closed:?}");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
}
