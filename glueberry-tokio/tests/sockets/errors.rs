//! Misuse and misfortune: a typed error each, and a node that stays usable.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::proto::{ConnectError, DialError, HandshakeError, PeerMisbehaved, SendError};
use glueberry_tokio::runtime::Runtime;
use glueberry_tokio::{
    AddressError, AddressProblem, CloseReason, Config, ErrorCode, Event, Node, Profile, StateReason,
};

use crate::support::{Party, STREAM, establish, on_every_runtime};

/// Returns the typed cause of an error.
fn cause<T: std::error::Error + Clone + 'static>(error: &glueberry_tokio::Error) -> T {
    let source = error.source().expect("the error has a cause");
    source.downcast_ref::<T>().unwrap_or_else(|| panic!("another cause: {source:?}")).clone()
}

#[test]
fn another_peer_than_expected_answers() {
    on_every_runtime(|runtime| Box::pin(wrong_peer(runtime)));
}

async fn wrong_peer(runtime: Arc<dyn Runtime>) {
    let (mut a, mut b) = (Party::new(&runtime).await, Party::new(&runtime).await);
    let expected = Keypair::generate_ed25519().public().to_peer_id();
    a.node.add_peer(expected, b.node.addrs()).await.unwrap();
    let error = a.node.connect(expected).await.unwrap_err();
    assert_eq!((error.code(), error.peer()), (ErrorCode::ConnectionFailed, Some(expected)));
    let actual = b.id().to_string();
    assert_eq!(
        cause::<StateReason>(&error),
        StateReason::DialFailed(DialError::WrongPeer { actual })
    );
    establish(&mut a, &mut b, &[STREAM]).await;
}

#[test]
fn the_handshake_is_held_in_its_order_and_with_the_right_key() {
    on_every_runtime(|runtime| Box::pin(handshake_order(runtime)));
}

async fn handshake_order(runtime: Arc<dyn Runtime>) {
    let (a, mut b) = (Party::new(&runtime).await, Party::new(&runtime).await);
    let unknown = a.node.send(b.id(), STREAM, "x").await.unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::NotConnected);
    a.dial(&b).await;

    let early = a.node.send(b.id(), STREAM, "x").await.unwrap_err();
    assert_eq!(early.code(), ErrorCode::HandshakeNotComplete);
    assert_eq!(cause::<SendError>(&early), SendError::NotEstablished);
    assert_eq!(early.stream(), Some(STREAM));

    let unprepared = a.node.finalize_handshake(b.id()).await.unwrap_err();
    assert_eq!(unprepared.code(), ErrorCode::HandshakeNotComplete);
    assert_eq!(cause::<HandshakeError>(&unprepared), HandshakeError::NotPrepared);

    let (given, peer) = (a.node.public_key(), b.node.public_key());
    let wrong = a.node.prepare_streams(b.id(), given, &[STREAM]).await.unwrap_err();
    assert_eq!(wrong.code(), ErrorCode::InvalidPublicKey);
    assert_eq!(cause::<HandshakeError>(&wrong), HandshakeError::WrongKey { given, peer });

    let none = a.node.prepare_streams::<&str>(b.id(), peer, &[]).await.unwrap_err();
    assert_eq!(none.code(), ErrorCode::NoStreamsRequested);
    let name = a.node.prepare_streams(b.id(), peer, &["no good"]).await.unwrap_err();
    assert_eq!(name.code(), ErrorCode::InvalidStreamName);

    let again = a.node.connect(b.id()).await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::AlreadyConnected);
    assert_eq!(cause::<ConnectError>(&again), ConnectError::AlreadyConnected);

    b.complete(&a, &[STREAM]).await;
    a.complete(&b, &[STREAM]).await;
    let other = a.node.send(b.id(), "other", "x").await.unwrap_err();
    assert_eq!(cause::<SendError>(&other), SendError::UnknownStream);
    let late = a.node.send(b.id(), "handshake", "x").await.unwrap_err();
    assert_eq!(cause::<SendError>(&late), SendError::HandshakeOver);
    a.node.send(b.id(), STREAM, "still here").await.unwrap();
    assert_eq!(b.messages.recv().await.unwrap().data, "still here");
}

#[test]
fn messages_above_the_limit_are_refused_on_both_sides() {
    on_every_runtime(|runtime| Box::pin(too_large(runtime, Profile::V2)));
    on_every_runtime(|runtime| Box::pin(too_large(runtime, Profile::V1)));
}

async fn too_large(runtime: Arc<dyn Runtime>, profile: Profile) {
    let stream = Some(STREAM.parse().unwrap());
    // v1 counts what seals a message.
    let (announced, limit) = if profile == Profile::V2 { (5000, 1000) } else { (5028, 1028) };
    let misbehaved = PeerMisbehaved::MessageTooLarge { stream, announced, limit };
    let mut config = Config::default();
    config.core.profiles = vec![profile];
    config.core.max_message_size = 1000;
    let mut a = Party::with(&runtime, config, &[STREAM]).await;
    let mut b = Party::new(&runtime).await;
    establish(&mut a, &mut b, &[STREAM]).await;
    let refused = a.node.send(b.id(), STREAM, vec![0; 1001]).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::MessageTooLarge);
    assert_eq!(cause::<SendError>(&refused), SendError::TooLarge { size: 1001, limit: 1000 });
    a.node.send(b.id(), STREAM, vec![0; 1000]).await.unwrap();
    assert_eq!(b.messages.recv().await.unwrap().data.len(), 1000);

    b.node.send(a.id(), STREAM, vec![0; 5000]).await.unwrap();
    let reason = a
        .event(|event| match event {
            Event::SessionClosed { closed, .. } => Some(closed.reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, CloseReason::Misbehaved(misbehaved));
    establish(&mut a, &mut b, &[STREAM]).await;
}

#[test]
fn a_stream_that_the_peer_does_not_know_is_given_up_and_told() {
    on_every_runtime(|runtime| Box::pin(unknown_stream(runtime)));
}

async fn unknown_stream(runtime: Arc<dyn Runtime>) {
    let mut config = Config::default();
    config.core.retry_delay = Duration::from_millis(1);
    config.core.max_stream_attempts = 3;
    let mut a = Party::with(&runtime, config, &[STREAM]).await;
    let mut b = Party::new(&runtime).await;
    a.dial(&b).await;
    a.complete(&b, &[STREAM, "secret"]).await;
    b.complete(&a, &[STREAM]).await;
    a.node.send(b.id(), "secret", "one").await.unwrap();
    a.node.send(b.id(), "secret", "two").await.unwrap();
    let refused = a
        .event(|event| match event {
            Event::StreamRefused { stream, unsent, .. } => Some((stream.to_string(), unsent)),
            _ => None,
        })
        .await;
    assert_eq!(refused, ("secret".to_owned(), 2));
    a.node.send(b.id(), STREAM, "fine").await.unwrap();
    assert_eq!(b.messages.recv().await.unwrap().data, "fine");
}

#[test]
fn what_cannot_be_built_says_why() {
    on_every_runtime(|runtime| Box::pin(cannot_build(runtime)));
}

async fn cannot_build(runtime: Arc<dyn Runtime>) {
    let builder = || Node::builder(Keypair::generate_ed25519()).runtime(runtime.clone());
    let mut config = Config::default();
    config.core.low_watermark = 5000;
    let error = builder().config(config).build().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidConfig);
    assert!(format!("{error:#}").contains("`low_watermark` must be below `high_watermark`"));

    let error = builder().streams(["handshake"]).build().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidStreamName);
    let error = builder().listen("/ip4/127.0.0.1/tcp/0".parse().unwrap()).build().await;
    assert_eq!(error.unwrap_err().code(), ErrorCode::InvalidAddress);
    let own = Keypair::generate_ed25519();
    let (peer, other) =
        (own.public().to_peer_id(), Keypair::generate_ed25519().public().to_peer_id());
    let listen = |at| format!("/ip4/127.0.0.1/udp/0/quic-v1/p2p/{at}").parse().unwrap();
    let error = builder().listen(listen(other)).build().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidAddress);
    let cause: &AddressError = error.source().unwrap().downcast_ref().unwrap();
    assert_eq!(cause.problem, AddressProblem::OtherPeer(other));
    assert!(error.hint().contains("the node's own id"), "{}", error.hint());
    let own = Node::builder(own).runtime(runtime.clone()).listen(listen(peer));
    own.build().await.unwrap().shutdown().await;
    let listen = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
    let first = builder().listen(listen).build().await.unwrap();
    let error = builder().listen(first.addrs()[0].clone()).build().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ListenFailed);
}

#[test]
fn nobody_answers() {
    on_every_runtime(|runtime| Box::pin(no_answer(runtime)));
}

async fn no_answer(runtime: Arc<dyn Runtime>) {
    let mut config = Config::default();
    config.core.dial_timeout = Duration::from_millis(300);
    let mut a = Party::with(&runtime, config, &[STREAM]).await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let nobody = Keypair::generate_ed25519().public().to_peer_id();
    let unknown = a.node.connect(nobody).await.unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::PeerNotFound);
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap();
    a.node.add_peer(nobody, [address]).await.unwrap();
    let error = a.node.connect(nobody).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ConnectionFailed);
    assert_eq!(cause::<StateReason>(&error), StateReason::DialFailed(DialError::TimedOut));
    let mut b = Party::new(&runtime).await;
    establish(&mut a, &mut b, &[STREAM]).await;
}
