//! Messages over sockets: order, sizes, backpressure, handles, orderly ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use glueberry_tokio::runtime::Runtime;
use glueberry_tokio::{Config, ErrorCode, Event};

use crate::support::{Party, STREAM, establish, on_every_runtime, pair, sleep};

#[test]
fn messages_of_all_sizes_arrive_whole_and_in_order() {
    on_every_runtime(|runtime| Box::pin(all_sizes(runtime)));
}

async fn all_sizes(runtime: Arc<dyn Runtime>) {
    let (mut a, mut b) = pair(&runtime).await;
    let sizes = [0, 1, 127, 128, 1_000, 16_383, 16_384, 65_536, 200_000, 3_000_000];
    for (number, size) in sizes.into_iter().enumerate() {
        let fill = u8::try_from(number).unwrap();
        a.node.send(b.id(), STREAM, vec![fill; size]).await.unwrap();
        b.node.send(a.id(), STREAM, vec![fill; size]).await.unwrap();
    }
    for (number, size) in sizes.into_iter().enumerate() {
        let fill = u8::try_from(number).unwrap();
        for party in [&mut a, &mut b] {
            let message = party.messages.recv().await.unwrap();
            assert_eq!(message.stream(), STREAM);
            assert_eq!(message.data, vec![fill; size]);
        }
    }
}

#[test]
fn a_reader_that_lags_slows_its_sender_and_nothing_is_lost() {
    on_every_runtime(|runtime| Box::pin(slow_reader(runtime)));
}

async fn slow_reader(runtime: Arc<dyn Runtime>) {
    let mut config = Config::default();
    config.message_buffer = 10;
    config.stream_window = 16 * 1024;
    config.core.receive_queue = 10;
    config.core.high_watermark = 20;
    config.core.low_watermark = 10;
    let (mut a, mut b) = (
        Party::with(&runtime, config.clone(), &[STREAM]).await,
        Party::with(&runtime, config, &[STREAM]).await,
    );
    establish(&mut a, &mut b, &[STREAM]).await;
    let (mut sent, mut refused) = (0_u32, 0);
    while refused < 50 {
        let mut message = vec![0; 1000];
        message[..4].copy_from_slice(&sent.to_be_bytes());
        match a.node.try_send(b.id(), STREAM, message) {
            Ok(()) => sent += 1,
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::Backpressure);
                assert!(error.is_retriable());
                refused += 1;
                sleep(&*runtime, Duration::from_millis(5)).await;
            }
        }
    }
    for number in 0..sent {
        let message = b.messages.recv().await.unwrap();
        assert_eq!(message.data[..4], number.to_be_bytes());
    }
    // A sender that waits is let go on.
    a.node.send(b.id(), STREAM, "after").await.unwrap();
    assert_eq!(b.messages.recv().await.unwrap().data, "after");
}

#[test]
fn both_send_first_on_one_stream_and_nothing_is_lost() {
    on_every_runtime(|runtime| Box::pin(both_send_first(runtime)));
}

async fn both_send_first(runtime: Arc<dyn Runtime>) {
    for _ in 0..10 {
        let (mut a, mut b) = pair(&runtime).await;
        for number in 0..20_u8 {
            a.node.try_send(b.id(), STREAM, vec![number]).unwrap();
            b.node.try_send(a.id(), STREAM, vec![number]).unwrap();
        }
        for number in 0..20_u8 {
            assert_eq!(a.messages.recv().await.unwrap().data, vec![number]);
            assert_eq!(b.messages.recv().await.unwrap().data, vec![number]);
        }
    }
}

#[test]
fn a_stream_handle_is_a_stream_and_a_sink() {
    on_every_runtime(|runtime| Box::pin(stream_handle(runtime)));
}

async fn stream_handle(runtime: Arc<dyn Runtime>) {
    let (mut a, mut b) = (
        Party::with(&runtime, Config::default(), &["votes", "blocks"]).await,
        Party::with(&runtime, Config::default(), &["votes", "blocks"]).await,
    );
    let mut votes = b.node.stream(a.id(), "votes").unwrap();
    assert_eq!(b.node.stream(a.id(), "votes").unwrap_err().code(), ErrorCode::StreamTaken);
    establish(&mut a, &mut b, &["votes", "blocks"]).await;
    let mut sink = a.node.stream(b.id(), "votes").unwrap();
    let yes = futures_util::stream::iter((0..50_u8).map(|n| Ok(Bytes::from(vec![n]))));
    sink.send_all(&mut { yes }).await.unwrap();
    a.node.send(b.id(), "blocks", "block").await.unwrap();
    for number in 0..50_u8 {
        assert_eq!(votes.next().await.unwrap(), vec![number]);
    }
    let block = b.messages.recv().await.unwrap();
    assert_eq!((block.stream(), &block.data[..]), ("blocks", &b"block"[..]));
    drop(votes);
    sink.send("late").await.unwrap();
    assert_eq!(b.messages.recv().await.unwrap().data, "late");
}

#[test]
fn shutdown_delivers_what_was_queued() {
    on_every_runtime(|runtime| Box::pin(shutdown(runtime)));
}

async fn shutdown(runtime: Arc<dyn Runtime>) {
    let (mut a, mut b) = pair(&runtime).await;
    for number in 0..500_u16 {
        a.node.send(b.id(), STREAM, number.to_be_bytes().to_vec()).await.unwrap();
    }
    a.node.shutdown().await;
    for number in 0..500_u16 {
        assert_eq!(b.messages.recv().await.unwrap().data, number.to_be_bytes().to_vec());
    }
    let closed = |event| match event {
        Event::SessionClosed { closed, .. } => Some(closed),
        _ => None,
    };
    let closed = a.event(closed).await;
    assert_eq!((closed.unsent, closed.in_doubt), (0, 0));
    let refused = a.node.send(b.id(), STREAM, "x").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NodeStopped);
    assert_eq!(a.node.connect(b.id()).await.unwrap_err().code(), ErrorCode::NodeStopped);
    assert!(a.messages.recv().await.is_none());
}
