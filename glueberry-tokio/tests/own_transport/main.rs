//! A transport of somebody's own: nodes over plain TCP, with a multiplexer that is written here.
//!
//! `mux.rs` is what the loop of a connection wants ([`Connection`] and [`Substream`] of
//! `glueberry_tokio::adapter`), `fabric.rs` what a node wants (dialling and listening). `bare.rs` is
//! about what a node wants, too: a transport that has no connections.
//!
//! [`Connection`]: glueberry_tokio::adapter::Connection
//! [`Substream`]: glueberry_tokio::adapter::Substream

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]
#![expect(clippy::as_conversions, reason = "lengths in frames are below 2^32, and fit")]

mod bare;
mod fabric;
mod mux;

use std::time::Duration;

use bytes::Bytes;
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::proto::DialError;
use glueberry_tokio::{
    CloseReason, Closed, Config, ConnectionState, ErrorCode, Event, Messages, Node, StateReason,
};
use tokio::time::{sleep, timeout};

use crate::fabric::Tcp;

#[tokio::test]
async fn messages_go_both_ways() {
    let (alice, bob) = pair().await;
    let (mut to_alice, mut to_bob) = (alice.messages().unwrap(), bob.messages().unwrap());
    for number in 0..200_u32 {
        alice.send(bob.peer_id(), "chat", number.to_string()).await.unwrap();
        bob.send(alice.peer_id(), "chat", number.to_string()).await.unwrap();
    }
    for number in 0..200_u32 {
        assert_eq!(next(&mut to_bob).await, number.to_string());
        assert_eq!(next(&mut to_alice).await, number.to_string());
    }
    let large = Bytes::from(vec![7; 3_000_000]);
    alice.send(bob.peer_id(), "chat", large.clone()).await.unwrap();
    assert_eq!(next(&mut to_bob).await, large);
}

#[tokio::test]
async fn a_reader_that_lags_slows_its_own_stream_down_and_no_other() {
    let (alice, bob) = pair().await;
    let mut bulk = bob.stream(alice.peer_id(), "bulk").unwrap();
    let mut chat = bob.stream(alice.peer_id(), "chat").unwrap();
    let message = Bytes::from(vec![7; 10_000]);
    let mut sent = 0;
    // Nobody reads `bulk`: what waits for it fills up.
    while timeout(Duration::from_millis(300), alice.send(bob.peer_id(), "bulk", message.clone()))
        .await
        .is_ok_and(|sending| sending.is_ok())
    {
        sent += 1;
        assert!(sent < 100_000, "nothing holds the sender up");
    }
    let refused = alice.try_send(bob.peer_id(), "bulk", message.clone()).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Backpressure);
    alice.send(bob.peer_id(), "chat", "still there").await.unwrap();
    assert_eq!(chat.recv().await.unwrap(), "still there");
    for _ in 0..sent {
        let message = timeout(Duration::from_secs(20), bulk.recv()).await.unwrap();
        assert_eq!(message.unwrap().len(), 10_000);
    }
    alice.send(bob.peer_id(), "bulk", "and on").await.unwrap();
    assert_eq!(bulk.recv().await.unwrap(), "and on");
}

#[tokio::test]
async fn a_shutdown_hands_over_what_was_accepted() {
    let (alice, bob) = pair().await;
    let mut to_bob = bob.messages().unwrap();
    let (mut alices, mut bobs) = (alice.events(), bob.events());
    for number in 0..500_u32 {
        alice.send(bob.peer_id(), "chat", number.to_string()).await.unwrap();
    }
    alice.shutdown().await;
    let closed = session_closed(&mut alices).await;
    assert_eq!((closed.unsent, closed.in_doubt), (0, 0));
    for number in 0..500_u32 {
        assert_eq!(next(&mut to_bob).await, number.to_string());
    }
    let closed = session_closed(&mut bobs).await;
    assert_eq!(closed.reason, CloseReason::EndedByPeer { code: 0 });
}

#[tokio::test]
async fn a_peer_is_who_it_has_proven_to_be() {
    let (alice, bob) = (node().await, node().await);
    let other = Keypair::generate_ed25519().public().to_peer_id();
    alice.add_peer(other, bob.addrs()).await.unwrap();
    let mut events = alice.events();
    assert!(alice.connect(other).await.is_err());
    loop {
        let Some(Event::State(changed)) = events.recv().await else {
            continue;
        };
        if let Some(StateReason::DialFailed(error)) = changed.reason {
            let actual = bob.peer_id().to_string();
            assert_eq!(error, DialError::WrongPeer { actual });
            return;
        }
    }
}

async fn session_closed(events: &mut glueberry_tokio::Events) -> Closed {
    let closed = async {
        loop {
            if let Event::SessionClosed { closed, .. } = events.recv().await.unwrap() {
                return closed;
            }
        }
    };
    timeout(Duration::from_secs(20), closed).await.unwrap()
}

async fn next(messages: &mut Messages) -> Bytes {
    timeout(Duration::from_secs(20), messages.recv()).await.unwrap().unwrap().data
}

async fn node() -> Node {
    let streams = ["chat", "bulk"];
    let builder = Node::builder(Keypair::generate_ed25519()).streams(streams);
    builder.config(Config::default()).build_over(Tcp).await.unwrap()
}

/// Two nodes that are Established with each other.
async fn pair() -> (Node, Node) {
    let (alice, bob) = (node().await, node().await);
    alice.add_peer(bob.peer_id(), bob.addrs()).await.unwrap();
    alice.connect(bob.peer_id()).await.unwrap();
    while bob.connection_state(alice.peer_id()) != ConnectionState::Connected {
        sleep(Duration::from_millis(1)).await;
    }
    let streams = ["chat", "bulk"];
    bob.complete_handshake(alice.peer_id(), alice.public_key(), &streams).await.unwrap();
    alice.complete_handshake(bob.peer_id(), bob.public_key(), &streams).await.unwrap();
    (alice, bob)
}

#[tokio::test]
async fn the_ready_made_handshake_runs_over_it() {
    let node = || {
        let builder = Node::builder(Keypair::generate_ed25519()).streams(["chat"]);
        builder.handshake(glueberry_tokio::Handshake::accept_all())
    };
    let listen = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    let bob = node().listen(listen).build_over(Tcp).await.unwrap();
    let alice = node().build_over(Tcp).await.unwrap();
    let mut to_bob = bob.messages().unwrap();
    let peer = alice.dial(bob.dial_addrs().remove(0)).await.unwrap();
    timeout(Duration::from_secs(60), alice.wait_established(peer)).await.unwrap().unwrap();
    alice.send(peer, "chat", "hello").await.unwrap();
    assert_eq!(next(&mut to_bob).await, "hello");
    // This transport knows neither the way nor the time that it takes.
    let connected = alice.connected();
    assert_eq!((&connected[0].address, connected[0].round_trip), (&None, None));
}
