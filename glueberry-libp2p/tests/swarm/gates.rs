//! Who may open what, and when.

use std::time::Duration;

use glueberry_tokio::proto::ReconnectPolicy;
use glueberry_tokio::{Config, ConnectionState, HANDSHAKE, Profile};
use libp2p::StreamProtocol;
use libp2p::futures::AsyncReadExt;
use libp2p_stream::OpenStreamError;

use crate::support::{Party, STREAM, closed, eventually, exchange, greet, run_test};

const HANDSHAKE_V1: StreamProtocol = StreamProtocol::new("/glueberry/handshake/1.0.0");
const CHAT: StreamProtocol = StreamProtocol::new("/glueberry/stream/chat/1.0.0");
const LATER: StreamProtocol = StreamProtocol::new("/glueberry/stream/later/1.0.0");

/// What a peer may open changes while it is connected, and is its own.
#[test]
fn protocols_are_gated_per_peer_and_revoked() {
    run_test(async {
        let of_v1 = || {
            let mut config = Config::default();
            config.core.profiles = vec![Profile::V1];
            Party::with(config, Duration::from_secs(60))
        };
        let (a, mut b, c) = (of_v1().await, of_v1().await, of_v1().await);
        c.swarm_dials(&b).await;
        a.connect(&b).await;
        assert!(is_refused(&a, &b, LATER).await, "nobody has named it");
        a.node.send(b.id(), HANDSHAKE, "hello").await.unwrap();
        b.messages.recv().await.unwrap();
        let key = a.node.public_key();
        b.node.prepare_streams(a.id(), key, &[STREAM, "later"]).await.unwrap();
        assert!(!is_refused(&a, &b, LATER).await, "it is prepared for this peer");
        assert!(is_refused(&c, &b, LATER).await, "and for no other");
        b.node.finalize_handshake(a.id()).await.unwrap();
        b.node.disconnect(a.id()).await.unwrap();
        closed(&mut b).await;
        assert!(is_refused(&a, &b, LATER).await, "its session is over");
        assert!(is_refused(&a, &b, CHAT).await, "and it is left alone for a while");
        assert!(is_refused(&a, &b, HANDSHAKE_V1).await);
    });
}

async fn is_refused(from: &Party, to: &Party, protocol: StreamProtocol) -> bool {
    match from.other.clone().open_stream(to.id(), protocol).await {
        Ok(_) => false,
        Err(OpenStreamError::UnsupportedProtocol(_)) => true,
        Err(error) => panic!("{error}"),
    }
}

/// Even a connection that others use is closed to a peer that is banned.
#[test]
fn a_ban_closes_connections_and_keeps_them_closed() {
    run_test(async {
        let mut config = Config::default();
        config.core.reconnect = ReconnectPolicy::never();
        let a = Party::with(config, Duration::from_secs(60)).await;
        let mut b = Party::new().await;
        a.connect(&b).await;
        greet(&a, &mut b).await;
        b.node.blacklist_peer(a.id(), None).await.unwrap();
        eventually(|| async { a.connections().await == 0 && b.connections().await == 0 }).await;
        let opened = a.other.clone().open_stream(b.id(), CHAT).await;
        assert!(opened.is_err(), "dialled past the ban");
        // What was dialled for that is closed by now, or about to be.
        eventually(|| async { a.connections().await == 0 }).await;
        b.node.unblacklist_peer(a.id()).await.unwrap();
        a.wait_for(b.id(), ConnectionState::Disconnected).await;
        a.connect(&b).await;
        greet(&a, &mut b).await;
        exchange(&a, &mut b, "forgiven").await;
    });
}

/// A peer whose substreams pile up before there is a session cannot take memory without bound.
#[test]
fn substreams_without_a_session_are_bounded() {
    run_test(async {
        let mut config = Config::default();
        config.core.profiles = vec![Profile::V1];
        (config.core.max_streams, config.core.max_substreams) = (2, 4);
        // Else fewer would be agreed at all.
        config.core.max_parked = 100;
        let b = Party::with(config, Duration::from_secs(60)).await;
        let a = Party::new().await;
        a.swarm_dials(&b).await;
        let mut held = Vec::new();
        for _ in 0..50 {
            if let Ok(stream) = a.other.clone().open_stream(b.id(), CHAT).await {
                held.push(stream);
            }
        }
        assert!(held.len() > 10, "only {} were agreed", held.len());
        let mut alive = 0;
        for stream in &mut held {
            let mut byte = [0];
            let read = stream.read(&mut byte);
            if tokio::time::timeout(Duration::from_millis(20), read).await.is_err() {
                alive += 1;
            }
        }
        assert!(alive <= 4, "{alive} are held");
        // It still answers others.
        let mut c = Party::new().await;
        b.connect(&c).await;
        greet(&b, &mut c).await;
        exchange(&b, &mut c, "unharmed").await;
    });
}
