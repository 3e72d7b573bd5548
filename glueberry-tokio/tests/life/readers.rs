//! Who reads which messages, and in which order they go out.

use std::time::Duration;

use futures_util::SinkExt;
use glueberry_tokio::ErrorCode;
use tokio::time::timeout;

use crate::cancel::tight;
use crate::support::{STREAM, eventually, pair, run};

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("took too long")
}

/// The inbox is full and not read: what waits for room in it goes to a handle that comes later.
#[test]
fn a_handle_gets_what_waits_for_a_reader_that_is_full() {
    run(async {
        let mut config = tight();
        config.message_buffer = 4;
        let (a, b) = pair(config).await;
        for number in 0..8_u8 {
            a.node.send(b.id(), STREAM, vec![number]).await.unwrap();
        }
        let received = || b.node.peer_statistics(a.id()).map_or(0, |stats| stats.messages_received);
        eventually("the inbox is full", || received() == 4).await;
        let mut handle = b.node.stream(a.id(), STREAM).unwrap();
        for number in 4..8_u8 {
            assert_eq!(soon(handle.recv()).await.unwrap(), [number][..]);
        }
    });
}

#[test]
fn requests_get_what_waits_for_a_reader_that_is_full() {
    run(async {
        let mut config = tight();
        config.message_buffer = 1;
        let (a, b) = pair(config).await;
        let (asks, _) = a.node.requests(STREAM, Default::default()).unwrap();
        let ask = |text: &'static str| {
            let (asks, to) = (asks.clone(), b.id());
            tokio::spawn(async move { asks.request(to, text, Duration::from_secs(60)).await })
        };
        // The first goes to the reader of all messages.
        let _first = ask("first");
        let received = || b.node.peer_statistics(a.id()).map_or(0, |stats| stats.messages_received);
        eventually("the inbox is full", || received() == 1).await;
        let second = ask("second");
        let sent = || a.node.messages_sent(b.id());
        eventually("the second is sent", || sent() == 2).await;
        let (_answers, mut incoming) = b.node.requests(STREAM, Default::default()).unwrap();
        let request = soon(incoming.recv()).await.unwrap();
        assert_eq!(request.data, "second");
        request.respond("done").await.unwrap();
        assert_eq!(soon(second).await.unwrap().unwrap(), "done");
    });
}

fn numbered(number: u8) -> Vec<u8> {
    vec![number; 8 * 1024]
}

/// What a sink has accepted goes ahead of what is sent later by the handle's other methods.
#[test]
fn a_handle_sends_in_order_however_it_is_used() {
    run(async {
        let (a, mut b) = pair(tight()).await;
        let mut handle = a.node.stream(b.id(), STREAM).unwrap();
        let mut number = 0;
        loop {
            match handle.try_send(numbered(number)) {
                Ok(()) => number += 1,
                Err(error) if error.code() == ErrorCode::Backpressure => break,
                Err(error) => panic!("{error}"),
            }
            // The transport takes what it can.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let reading = async {
            for number in 0..number + 3 {
                assert_eq!(b.message().await.data[0], number);
            }
        };
        let sending = async {
            handle.feed(numbered(number).into()).await.unwrap();
            handle.send(numbered(number + 1)).await.unwrap();
            handle.feed(numbered(number + 2).into()).await.unwrap();
            SinkExt::flush(&mut handle).await.unwrap();
        };
        soon(async { tokio::join!(reading, sending) }).await;
    });
}
