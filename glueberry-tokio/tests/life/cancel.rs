//! Futures that are dropped before they are ready.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use futures_util::SinkExt;
use glueberry_tokio::{Config, ConnectionState, ErrorCode, Node};
use tokio::time::timeout;

use crate::support::{Party, STREAM, eventually, pair, quick, run};

const MOMENT: Duration = Duration::from_millis(1);

fn numbered(number: u64) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(8 * 1024, 0);
    message
}

/// Sends more than fits, gives each message a moment, and returns what was accepted.
async fn send_impatiently(node: Node, party: &Party) -> Vec<u64> {
    let mut handle = node.stream(party.id(), STREAM).unwrap();
    let mut accepted = Vec::new();
    for number in 0..400 {
        let result = match number % 2 {
            0 => timeout(MOMENT, node.send(party.id(), STREAM, numbered(number))).await,
            _ => timeout(MOMENT, handle.send(numbered(number))).await,
        };
        if let Ok(result) = result {
            result.unwrap();
            accepted.push(number);
        }
    }
    accepted
}

/// A configuration in which little fits anywhere.
pub(crate) fn tight() -> Config {
    let mut config = quick();
    config.keep_alive = Duration::from_secs(10);
    config.message_buffer = 4;
    (config.stream_window, config.send_window) = (16 * 1024, 16 * 1024);
    (config.core.high_watermark, config.core.low_watermark) = (4, 2);
    config.core.receive_queue = 4;
    config
}

#[test]
fn a_send_that_is_dropped_has_queued_nothing_and_a_dropped_recv_loses_nothing() {
    run(async {
        let (a, mut b) = pair(tight()).await;
        let accepted = send_impatiently(a.node.clone(), &b).await;
        assert!(accepted.len() < 400, "nothing had to wait");
        let (node, to) = (a.node.clone(), b.id());
        let last = tokio::spawn(async move { node.send(to, STREAM, numbered(u64::MAX)).await });
        let mut heard = Vec::new();
        loop {
            let Ok(message) = timeout(MOMENT, b.messages.recv()).await else { continue };
            let number = u64::from_be_bytes(message.unwrap().data[..8].try_into().unwrap());
            if number == u64::MAX {
                break;
            }
            heard.push(number);
        }
        last.await.unwrap().unwrap();
        assert_eq!(heard, accepted);
    });
}

#[test]
fn a_connect_that_is_dropped_goes_on_and_events_that_are_not_awaited_stay() {
    run(async {
        let (mut a, b) = (Party::greeting(quick()).await, Party::greeting(quick()).await);
        a.knows(&b).await;
        drop(timeout(MOMENT, a.events.recv()).await);
        drop(timeout(Duration::ZERO, a.node.connect(b.id())).await);
        eventually("established", || a.state(&b) == ConnectionState::Established).await;
        a.until(ConnectionState::Established).await;
        // Asked and not listened to, the node shuts down all the same.
        drop(timeout(Duration::ZERO, a.node.shutdown()).await);
        while a.events.recv().await.is_some() {}
        assert!(!a.node.health().await.is_healthy);
    });
}

/// A task that is never run, only referred to.
struct Idle;

impl Wake for Idle {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_send_that_is_dropped_leaves_no_waker_behind() {
    run(async {
        let (a, b) = pair(tight()).await;
        let task = Arc::new(Idle);
        let waker = task.clone().into();
        let mut cx = Context::from_waker(&waker);
        let mut handle = a.node.stream(b.id(), STREAM).unwrap();
        let is_stuck = async || {
            while timeout(MOMENT * 100, a.node.send(b.id(), STREAM, numbered(0))).await.is_ok() {}
        };
        is_stuck().await;
        for _ in 0..100 {
            let send = pin!(a.node.send(b.id(), STREAM, numbered(1)));
            assert!(matches!(send.poll(&mut cx), Poll::Pending), "the queue has room");
            let send = pin!(handle.send(numbered(2)));
            assert!(matches!(send.poll(&mut cx), Poll::Pending), "the queue has room");
        }
        // Only this test refers to it, by itself and by its own waker.
        assert_eq!(Arc::strong_count(&task), 2);
    });
}

#[test]
fn a_flush_of_what_is_never_sent_fails_once() {
    run(async {
        let (a, b) = pair(tight()).await;
        let mut handle = a.node.stream(b.id(), STREAM).unwrap();
        // Until nothing more fits: the last ones are in the queue.
        while timeout(MOMENT * 100, handle.send(numbered(0))).await.is_ok() {}
        let flushing = tokio::spawn(async move { (SinkExt::flush(&mut handle).await, handle) });
        tokio::time::sleep(MOMENT * 50).await;
        assert!(!flushing.is_finished());
        a.node.disconnect(b.id()).await.unwrap();
        let (flushed, mut handle) = timeout(MOMENT * 10_000, flushing).await.unwrap().unwrap();
        assert_eq!(flushed.unwrap_err().code(), ErrorCode::StreamClosed);
        SinkExt::flush(&mut handle).await.unwrap();
    });
}
