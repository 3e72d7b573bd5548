//! Connections that belong to the whole swarm.

use std::time::Duration;

use glueberry_tokio::proto::ReconnectPolicy;
use glueberry_tokio::{CloseReason, Config, ConnectionState, ErrorCode, Event};
use libp2p::StreamProtocol;
use libp2p::futures::{AsyncReadExt, AsyncWriteExt, StreamExt};

use crate::support::{Party, eventually, exchange, greet, run_test};

const OTHER: StreamProtocol = StreamProtocol::new("/other/1.0.0");

#[test]
fn a_session_takes_the_connection_that_is_there_and_leaves_it() {
    run_test(async {
        let (a, mut b) = (Party::new().await, Party::new().await);
        a.swarm_dials(&b).await;
        // Glueberry has no part in it until it is asked to.
        assert_eq!(a.node.connection_state(b.id()), ConnectionState::Disconnected);
        a.connect(&b).await;
        greet(&a, &mut b).await;
        exchange(&a, &mut b, "over the same connection").await;
        assert_eq!(a.connections().await, 1);
        a.node.disconnect(b.id()).await.unwrap();
        a.wait_for(b.id(), ConnectionState::Disconnected).await;
        // The other behaviour goes on with it.
        let mut incoming = b.other.accept(OTHER).unwrap();
        let echo = tokio::spawn(async move {
            let (_, mut stream) = incoming.next().await.unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
            stream.close().await.unwrap();
        });
        let mut stream = a.other.clone().open_stream(b.id(), OTHER).await.unwrap();
        stream.write_all(b"word").await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"word");
        echo.await.unwrap();
        assert_eq!((a.connections().await, b.connections().await), (1, 1));
    });
}

/// The end of a session has no word in v1: whoever has not noticed learns of it when the other
/// begins the next one on the same connection.
#[test]
fn the_next_session_on_a_connection_ends_the_one_before() {
    run_test(async {
        let mut config = Config::default();
        config.core.reconnect = ReconnectPolicy::never();
        let a = Party::with(config.clone(), Duration::from_secs(60)).await;
        let mut b = Party::with(config, Duration::from_secs(60)).await;
        a.swarm_dials(&b).await;
        a.connect(&b).await;
        greet(&a, &mut b).await;
        a.node.disconnect(b.id()).await.unwrap();
        a.wait_for(b.id(), ConnectionState::Disconnected).await;
        a.connect(&b).await;
        greet(&a, &mut b).await;
        exchange(&a, &mut b, "in the second session").await;
        assert_eq!(a.connections().await, 1);
        let closed = loop {
            if let Event::SessionClosed { closed, .. } = b.events.recv().await.unwrap() {
                break closed;
            }
        };
        assert!(matches!(closed.reason, CloseReason::ConnectionLost(_)), "{closed:?}");
    });
}

#[test]
fn both_connect_over_the_connection_that_is_there() {
    run_test(async {
        let (a, mut b) = (Party::new().await, Party::new().await);
        a.swarm_dials(&b).await;
        let (from_a, from_b) = (a.connect(&b), b.node.add_peer(a.id(), [a.address.clone()]));
        let (_, added) = tokio::join!(from_a, from_b);
        added.unwrap();
        if let Err(error) = b.node.connect(a.id()).await {
            assert_eq!(error.code(), ErrorCode::AlreadyConnected, "{error}");
        }
        greet(&a, &mut b).await;
        exchange(&a, &mut b, "all the same").await;
        exchange(&b, &mut { a }, "and back").await;
    });
}

#[test]
fn a_connection_lives_as_long_as_its_session_and_no_longer() {
    run_test(async {
        let idle = Duration::from_millis(300);
        let (a, mut b) = (
            Party::with(Config::default(), idle).await,
            Party::with(Config::default(), idle).await,
        );
        a.connect(&b).await;
        greet(&a, &mut b).await;
        tokio::time::sleep(4 * idle).await;
        assert_eq!((a.connections().await, b.connections().await), (1, 1));
        exchange(&a, &mut b, "after a long silence").await;
        a.node.disconnect(b.id()).await.unwrap();
        eventually(|| async { a.connections().await == 0 && b.connections().await == 0 }).await;
        b.wait_for(a.id(), ConnectionState::Disconnected).await;
    });
}

#[test]
fn a_swarm_that_is_dropped_ends_sessions_and_dials() {
    run_test(async {
        let mut config = Config::default();
        config.core.reconnect = ReconnectPolicy::never();
        let a = Party::with(config, Duration::from_secs(60)).await;
        let mut b = Party::new().await;
        a.connect(&b).await;
        greet(&a, &mut b).await;
        let (node, peer) = (a.node.clone(), b.id());
        drop(a);
        eventually(|| async { node.connection_state(peer) == ConnectionState::Disconnected }).await;
        let error = node.connect(peer).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ConnectionFailed, "{error}");
        b.wait_for(node.peer_id(), ConnectionState::Disconnected).await;
        node.shutdown().await;
    });
}
