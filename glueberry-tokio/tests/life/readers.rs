//! Who reads which messages.

use std::time::Duration;

use tokio::time::timeout;

use crate::cancel::tight;
use crate::support::{STREAM, eventually, pair, run};

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("took too long")
}

/// Of more messages than fit into the inbox, which nobody reads, the rest goes to a handle that comes later.
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
