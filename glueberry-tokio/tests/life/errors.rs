//! Every code of an error is returned by a real path.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::Duration;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::proto::greeting::{Greeting, GreetingConfig, Output};
use glueberry_tokio::proto::{Instant, RecordError};
use glueberry_tokio::{
    Config, ConnectionState, Error, ErrorCode, HANDSHAKE, Node, ProtocolVersion, ReconnectPolicy,
};

use crate::support::{Party, STREAM, key, pair, quick, run, somewhere};

fn code<T>(result: Result<T, Error>) -> ErrorCode {
    let Err(error) = result else { panic!("it should have failed") };
    assert!(!error.hint().is_empty());
    assert!(!error.to_string().is_empty());
    error.code()
}

#[test]
fn commands_to_peers_that_are_not_there() {
    run(async {
        let a = Party::new(quick()).await;
        let stranger = Keypair::generate_ed25519().public().to_peer_id();
        assert_eq!(code(a.node.connect(stranger).await), ErrorCode::PeerNotFound);
        assert_eq!(code(a.node.peer(stranger).await), ErrorCode::PeerNotFound);
        let changes = BTreeMap::new();
        assert_eq!(code(a.node.update_metadata(stranger, changes).await), ErrorCode::PeerNotFound);
        assert_eq!(code(a.node.disconnect(stranger).await), ErrorCode::NotConnected);
        assert_eq!(code(a.node.send(stranger, STREAM, "x").await), ErrorCode::NotConnected);
        a.node.add_new_peer(stranger, [somewhere()]).await.unwrap();
        let again = a.node.add_new_peer(stranger, [somewhere()]).await;
        assert_eq!(code(again), ErrorCode::PeerAlreadyExists);
        let own = a.node.add_peer(a.id(), [somewhere()]).await;
        assert_eq!(code(own), ErrorCode::InvalidPublicKey);
        let other = format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{}", a.id()).parse().unwrap();
        assert_eq!(code(a.node.add_peer(stranger, [other]).await), ErrorCode::InvalidAddress);
        let metadata = BTreeMap::from([("note".to_owned(), "x".repeat(5_000))]);
        let large = a.node.add_peer_with_metadata(stranger, [somewhere()], metadata).await;
        assert_eq!(code(large), ErrorCode::MetadataTooLarge);
        let mut policy = ReconnectPolicy::unlimited();
        policy.max_backoff = Duration::ZERO;
        let policy = a.node.set_reconnect_policy(stranger, Some(policy)).await;
        assert_eq!(code(policy), ErrorCode::InvalidConfig);
        a.node.blacklist_peer(stranger, None).await.unwrap();
        assert_eq!(code(a.node.connect(stranger).await), ErrorCode::PeerBlacklisted);
    });
}

#[test]
fn commands_at_the_wrong_time() {
    run(async {
        let (a, b) = (Party::new(quick()).await, Party::new(quick()).await);
        a.dial(&b).await;
        let peer = b.id();
        assert_eq!(code(a.node.connect(peer).await), ErrorCode::AlreadyConnected);
        let early = a.node.finalize_handshake(peer).await;
        assert_eq!(code(early), ErrorCode::HandshakeNotComplete);
        assert_eq!(code(a.node.send(peer, STREAM, "x").await), ErrorCode::HandshakeNotComplete);
        let wrong = a.node.prepare_streams(peer, a.node.public_key(), &[STREAM]).await;
        assert_eq!(code(wrong), ErrorCode::InvalidPublicKey);
        let none = a.node.prepare_streams::<&str>(peer, key(peer), &[]).await;
        assert_eq!(code(none), ErrorCode::NoStreamsRequested);
        let bad = a.node.prepare_streams(peer, key(peer), &["a/b"]).await;
        assert_eq!(code(bad), ErrorCode::InvalidStreamName);
        let many: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
        let many = a.node.prepare_streams(peer, key(peer), &many).await;
        assert_eq!(code(many), ErrorCode::LimitReached);
        a.node.reject_handshake(peer, "no").unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(code(a.node.connect(peer).await), ErrorCode::InCooldown);
    });
}

#[test]
fn sending_what_cannot_be_sent() {
    run(async {
        let mut config = quick();
        config.core.max_message_size = 1_000;
        (config.core.high_watermark, config.core.low_watermark) = (2, 1);
        let (a, b) = pair(config).await;
        assert_eq!(code(a.node.send(b.id(), "none", "x").await), ErrorCode::StreamNotFound);
        let large = a.node.send(b.id(), STREAM, vec![0; 1_001]).await.unwrap_err();
        assert_eq!(large.code(), ErrorCode::MessageTooLarge);
        assert_eq!((large.peer(), large.stream()), (Some(b.id()), Some(STREAM)));
        assert!(!large.is_retriable());
        assert!(large.source().is_some());
        assert_eq!(code(a.node.send(b.id(), HANDSHAKE, "late").await), ErrorCode::StreamClosed);
        let full = (0..1_000).find_map(|_| a.node.try_send(b.id(), STREAM, "x").err()).unwrap();
        assert_eq!(full.code(), ErrorCode::Backpressure);
        assert!(full.is_retriable());
        let twice = (a.node.stream(b.id(), STREAM).unwrap(), a.node.stream(b.id(), STREAM));
        assert_eq!(code(twice.1), ErrorCode::StreamTaken);
        let mut handle = twice.0;
        a.node.disconnect(b.id()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(code(handle.send("x").await), ErrorCode::NotConnected);
    });
}

#[test]
fn connections_that_do_not_come_about() {
    run(async {
        let mut config = quick();
        config.core.dial_timeout = Duration::from_millis(300);
        config.core.handshake_timeout = Duration::from_millis(300);
        config.core.reconnect = ReconnectPolicy::never();
        let a = Party::new(config).await;
        let silent = Keypair::generate_ed25519().public().to_peer_id();
        let nowhere = "/ip4/127.0.0.1/udp/9/quic-v1".parse().unwrap();
        a.node.add_peer(silent, [nowhere]).await.unwrap();
        let error = a.node.connect(silent).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ConnectionFailed);
        assert!(error.is_retriable());

        // Cancelled by the application.
        let (node, waiting) = (a.node.clone(), a.node.clone());
        let connecting = tokio::spawn(async move { waiting.connect(silent).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        node.disconnect(silent).await.unwrap();
        assert_eq!(code(connecting.await.unwrap()), ErrorCode::Cancelled);

        // Somebody else answers.
        let b = Party::new(quick()).await;
        a.node.add_peer(silent, b.node.addrs()).await.unwrap();
        assert_eq!(code(a.node.connect(silent).await), ErrorCode::ConnectionFailed);

        // The peer's application says nothing.
        let mut a = a;
        a.dial(&b).await;
        let given_up = a.until(ConnectionState::Cooldown).await;
        let error = Error::from(given_up.reason.expect("there is a reason"));
        assert_eq!(error.code(), ErrorCode::HandshakeTimeout);
        assert!(error.is_retriable() && error.source().is_some());

        // No common protocol.
        let mut v1 = quick();
        v1.core.profiles = vec![glueberry_tokio::Profile::V1];
        let mut go = quick();
        go.core.profiles = vec![glueberry_tokio::Profile::V1Go];
        let (old, new) = (Party::new(go).await, Party::new(v1).await);
        new.knows(&old).await;
        assert_eq!(code(new.node.connect(old.id()).await), ErrorCode::HandshakeFailed);
    });
}

#[test]
fn nodes_that_cannot_be_built() {
    run(async {
        let rsa_like = Keypair::generate_secp256k1();
        let built = Node::builder(rsa_like).build().await;
        assert_eq!(code(built), ErrorCode::InvalidPublicKey);
        let mut config = Config::default();
        config.core.low_watermark = config.core.high_watermark;
        let built = Node::builder(Keypair::generate_ed25519()).config(config).build().await;
        assert_eq!(code(built), ErrorCode::InvalidConfig);
        let tcp = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let built = Node::builder(Keypair::generate_ed25519()).listen(tcp).build().await;
        assert_eq!(code(built), ErrorCode::InvalidAddress);
        let first = Party::new(quick()).await;
        let taken = first.node.addrs()[0].clone();
        let built = Node::builder(Keypair::generate_ed25519()).listen(taken).build().await;
        assert_eq!(code(built), ErrorCode::ListenFailed);
        let built = Node::builder(Keypair::generate_ed25519()).streams(["handshake"]).build().await;
        assert_eq!(code(built), ErrorCode::InvalidStreamName);
        let inside_a_file = std::env::current_exe().unwrap().join("book.json");
        let built =
            Node::builder(Keypair::generate_ed25519()).address_book(inside_a_file).build().await;
        assert_eq!(code(built), ErrorCode::AddressBookFailed);
    });
}

#[test]
fn no_panic_after_stop() {
    run(async {
        let (a, b) = pair(quick()).await;
        let mut handle = a.node.stream(b.id(), STREAM).unwrap();
        let mut messages = a.messages;
        a.node.shutdown().await;
        a.node.shutdown().await;
        let (node, peer) = (a.node, b.id());
        assert_eq!(code(node.connect(peer).await), ErrorCode::NodeStopped);
        assert_eq!(code(node.add_peer(peer, [somewhere()]).await), ErrorCode::NodeStopped);
        assert_eq!(code(node.blacklist_peer(peer, None).await), ErrorCode::NodeStopped);
        assert_eq!(code(node.flush_address_book().await), ErrorCode::NodeStopped);
        assert_eq!(code(node.reload_address_book().await), ErrorCode::NodeStopped);
        assert_eq!(code(node.debug_state().await.map(drop)), ErrorCode::NodeStopped);
        assert_eq!(code(node.autoconnect().await), ErrorCode::NodeStopped);
        assert_eq!(code(node.send(peer, STREAM, "x").await), ErrorCode::NodeStopped);
        assert_eq!(code(node.send(peer, HANDSHAKE, "x").await), ErrorCode::NodeStopped);
        assert_eq!(code(node.try_send(peer, STREAM, "x")), ErrorCode::NodeStopped);
        assert_eq!(code(handle.send("x").await), ErrorCode::NodeStopped);
        assert!(handle.recv().await.is_none());
        assert!(node.stream(peer, "bulk").unwrap().recv().await.is_none());
        assert!(messages.recv().await.is_none());
        assert!(node.events().recv().await.is_none());
        assert!(node.events_for_peer(peer).recv().await.is_none());
        assert!(!node.health().await.is_healthy);
        assert!(node.peer_statistics(peer).is_some());
    });
}

#[test]
fn what_a_greeting_or_a_record_fails_with_has_a_code() {
    let keys = [3, 4].map(|number| key(crate::support::keypair(number).public().to_peer_id()));
    let reject = |messages: &[&[u8]], version| {
        let mut config = GreetingConfig::default();
        config.version = version;
        let mut greeting = Greeting::new(Instant::ZERO, keys[0], keys[1], config).unwrap();
        for message in messages {
            greeting.handle_message(Instant::ZERO, message);
        }
        let outputs = std::iter::from_fn(|| greeting.poll_output());
        let reason = outputs.into_iter().find_map(|output| match output {
            Output::Reject(reason) => Some(reason),
            _ => None,
        });
        Error::from(reason.expect("it is rejected")).code()
    };
    let current = Some(ProtocolVersion::CURRENT);
    assert_eq!(reject(&[b"\x01\x00nonsense"], current), ErrorCode::InvalidMessage);
    assert_eq!(reject(&[b"\x01\x009.0.0"], current), ErrorCode::VersionMismatch);
    let mut wrong = vec![2];
    wrong.extend_from_slice(keys[0].as_bytes());
    assert_eq!(reject(&[&[1], &wrong], None), ErrorCode::InvalidPublicKey);
    assert_eq!(Error::from(RecordError::Authentication).code(), ErrorCode::DecryptionFailed);
    let own = glueberry_tokio::proto::Identity::from_seed(&[1; 32]);
    let refused = own.agree_v1(&own.public_key()).unwrap_err();
    assert_eq!(Error::from(refused).code(), ErrorCode::EncryptionFailed);
}
