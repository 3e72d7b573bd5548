//! Connections that belong to the whole swarm.

use std::time::Duration;

use glueberry_tokio::proto::{ConnectionLost, ReconnectPolicy};
use glueberry_tokio::{CloseReason, Config, ConnectionState, ErrorCode, HANDSHAKE, Profile};
use libp2p::StreamProtocol;
use libp2p::futures::{AsyncReadExt, AsyncWriteExt, StreamExt};

use crate::support::{Party, STREAM, closed, eventually, exchange, greet, run_test};

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

fn once() -> Config {
    let mut config = Config::default();
    config.core.profiles = vec![Profile::V1];
    config.core.reconnect = ReconnectPolicy::never();
    config
}

async fn parties(config: &Config) -> (Party, Party) {
    let idle = Duration::from_secs(60);
    (Party::with(config.clone(), idle).await, Party::with(config.clone(), idle).await)
}

const GONE: CloseReason = CloseReason::ConnectionLost(ConnectionLost::ClosedByPeer { code: 0 });

/// The end of a session has no word in v1: whoever has not noticed learns of it when the other
/// begins the next one on the same connection.
#[test]
fn the_next_session_on_a_connection_ends_the_one_before() {
    run_test(async {
        let (a, mut b) = parties(&once()).await;
        a.swarm_dials(&b).await;
        a.connect(&b).await;
        greet(&a, &mut b).await;
        for _ in 0..5 {
            exchange(&a, &mut b, "in one session").await;
            a.node.disconnect(b.id()).await.unwrap();
            a.node.connect(b.id()).await.unwrap();
            greet(&a, &mut b).await;
            exchange(&a, &mut b, "in the next").await;
            assert_eq!(a.connections().await, 1);
            assert_eq!(closed(&mut b).await, GONE);
        }
    });
}

/// Whichever side has dialled the connection, and however far the handshake was.
#[test]
fn the_next_session_ends_one_that_was_never_established() {
    run_test(async {
        let (mut a, mut b) = parties(&once()).await;
        a.swarm_dials(&b).await;
        a.connect(&b).await;
        b.wait_for(a.id(), ConnectionState::Connected).await;
        for _ in 0..4 {
            let a_key = a.node.public_key();
            a.node.send(b.id(), HANDSHAKE, "hello").await.unwrap();
            assert!(b.messages.recv().await.unwrap().is_handshake());
            b.node.prepare_streams(a.id(), a_key, &[STREAM]).await.unwrap();
            a.node.disconnect(b.id()).await.unwrap();
            a.connect(&b).await;
            assert_eq!(closed(&mut b).await, GONE);
            b.wait_for(a.id(), ConnectionState::Connected).await;
            assert_eq!(closed(&mut a).await, CloseReason::Disconnected);
            // The other way round.
            b.node.disconnect(a.id()).await.unwrap();
            b.connect(&a).await;
            assert_eq!(closed(&mut a).await, GONE);
            a.wait_for(b.id(), ConnectionState::Connected).await;
            assert_eq!(closed(&mut b).await, CloseReason::Disconnected);
        }
        greet(&a, &mut b).await;
        exchange(&a, &mut b, "in the last session").await;
        assert_eq!(a.connections().await, 1);
    });
}

/// A keep-alive probe is answered truly: the connection is there and the session is not.
#[test]
fn an_end_without_a_word_is_noticed_by_asking() {
    run_test(async {
        let mut config = once();
        config.keep_alive = Duration::from_millis(200);
        let (mut a, mut b) = parties(&config).await;
        a.swarm_dials(&b).await;
        for _ in 0..3 {
            a.connect(&b).await;
            greet(&a, &mut b).await;
            a.node.disconnect(b.id()).await.unwrap();
            assert_eq!(closed(&mut b).await, GONE);
            b.wait_for(a.id(), ConnectionState::Disconnected).await;
            assert_eq!(closed(&mut a).await, CloseReason::Disconnected);
        }
        assert_eq!((a.connections().await, b.connections().await), (1, 1));
    });
}

/// Both end their session at the same time, and both connect again.
#[test]
fn both_end_and_both_connect_again() {
    run_test(async {
        let (a, mut b) = parties(&once()).await;
        a.swarm_dials(&b).await;
        b.node.add_peer(a.id(), [a.address.clone()]).await.unwrap();
        a.connect(&b).await;
        for _ in 0..5 {
            greet(&a, &mut b).await;
            exchange(&a, &mut b, "before").await;
            let ends = tokio::join!(a.node.disconnect(b.id()), b.node.disconnect(a.id()));
            ends.0.and(ends.1).unwrap();
            // Whoever comes while it is still left alone is told so, and is called by the other.
            drop(tokio::join!(a.node.connect(b.id()), b.node.connect(a.id())));
            a.wait_for(b.id(), ConnectionState::Connected).await;
            b.wait_for(a.id(), ConnectionState::Connected).await;
        }
        greet(&a, &mut b).await;
        exchange(&a, &mut b, "and after").await;
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

/// However many connections there are, one session speaks for a peer, and the others are left be.
#[test]
fn several_connections_carry_one_session() {
    run_test(async {
        let (a, mut b) = parties(&once()).await;
        for dialler in [&a, &b, &a] {
            let before = a.connections().await;
            let other = if dialler.id() == a.id() { &b } else { &a };
            dialler.swarm_dials_to(other.address.clone()).await;
            eventually(|| async {
                a.connections().await > before && b.connections().await > before
            })
            .await;
        }
        b.node.add_peer(a.id(), [a.address.clone()]).await.unwrap();
        for _ in 0..5 {
            a.node.add_peer(b.id(), [b.address.clone()]).await.unwrap();
            // One of them may be told that the other was first.
            drop(tokio::join!(a.node.connect(b.id()), b.node.connect(a.id())));
            a.wait_for(b.id(), ConnectionState::Connected).await;
            b.wait_for(a.id(), ConnectionState::Connected).await;
            greet(&a, &mut b).await;
            exchange(&a, &mut b, "over one of them").await;
            // One that has lost against it may take a moment to end.
            for party in [&a, &b] {
                let sessions = || async { party.node.debug_state().await.unwrap().sessions };
                eventually(|| async { sessions().await == 1 }).await;
            }
            a.node.disconnect(b.id()).await.unwrap();
            assert_eq!((a.connections().await, b.connections().await), (3, 3));
        }
    });
}

/// Whoever has something to do does it at once, and not when the next probe is due.
#[test]
fn nothing_waits_for_the_keep_alive() {
    run_test(async {
        let mut config = once();
        config.keep_alive = Duration::from_secs(20);
        for _ in 0..30 {
            let (mut a, mut b) = parties(&config).await;
            a.connect(&b).await;
            greet(&a, &mut b).await;
            let sizes = [0, 1, 127, 128, 1_000, 16_383, 16_384, 65_536, 200_000, 1_048_576];
            let exchanged = async {
                for size in sizes {
                    a.node.send(b.id(), STREAM, vec![7; size]).await.unwrap();
                    b.node.send(a.id(), STREAM, vec![7; size]).await.unwrap();
                }
                for size in sizes {
                    assert_eq!(a.messages.recv().await.unwrap().data.len(), size);
                    assert_eq!(b.messages.recv().await.unwrap().data.len(), size);
                }
            };
            tokio::time::timeout(Duration::from_secs(15), exchanged).await.expect("it waits");
        }
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
