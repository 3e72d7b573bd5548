//! Coming together.

use std::time::Duration;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{Config, ConnectionState, ErrorCode, Event, HANDSHAKE, Profile};

use super::{Stage, Verdict};
use crate::fabric::Fabric;
use crate::party::{Party, STREAM, establish, greet};

pub(super) async fn handshake_and_first_message(stage: Stage) {
    let (mut a, mut b) = stage.pair(Config::default(), &[STREAM]).await;
    establish(&mut a, &mut b, &[STREAM]).await;
    a.wait_for(b.id(), ConnectionState::Established).await;
    assert_eq!(a.node.is_outbound(b.id()), Some(true));
    assert_eq!(b.node.is_outbound(a.id()), Some(false));
    a.node.send(b.id(), STREAM, "a word").await.expect("sent");
    let message = b.receive().await;
    assert_eq!(
        (message.peer, message.stream(), &message.data[..]),
        (a.id(), STREAM, &b"a word"[..])
    );
}

pub(super) async fn both_dial(stage: Stage) {
    for _ in 0..3 {
        let (mut a, mut b) = stage.pair(Config::default(), &[STREAM]).await;
        a.meet(&b).await;
        b.meet(&a).await;
        let (from_a, from_b) = tokio::join!(a.node.connect(b.id()), b.node.connect(a.id()));
        // Whoever hears of the other's first is told so, and has a connection all the same.
        for result in [from_a, from_b] {
            if let Err(error) = result {
                assert_eq!(error.code(), ErrorCode::AlreadyConnected, "{error}");
            }
        }
        a.wait_for(b.id(), ConnectionState::Connected).await;
        b.wait_for(a.id(), ConnectionState::Connected).await;
        greet(&mut a, &mut b, &[STREAM]).await;
        a.node.send(b.id(), STREAM, "ping").await.expect("sent");
        b.node.send(a.id(), STREAM, "pong").await.expect("sent");
        assert_eq!(b.receive().await.data, "ping");
        assert_eq!(a.receive().await.data, "pong");
    }
}

pub(super) async fn nobody_is_there(stage: Stage) {
    let mut config = Config::default();
    config.core.reconnect = glueberry_tokio::proto::ReconnectPolicy::never();
    config.core.dial_timeout = Duration::from_secs(2);
    let a = Party::start(stage.a, config, &[STREAM]).await;
    let nobody = Keypair::generate_ed25519().public().to_peer_id();
    let gone = Party::start(stage.b, Config::default(), &[STREAM]).await;
    let address = gone.address();
    gone.node.shutdown().await;
    drop(gone);
    a.node.add_peer(nobody, [address]).await.expect("added");
    let error = a.node.connect(nobody).await.expect_err("nobody answers");
    assert_eq!(error.code(), ErrorCode::ConnectionFailed, "{error}");
    assert_eq!(error.peer(), Some(nobody));
}

pub(super) async fn somebody_else_answers(stage: Stage) {
    let mut config = Config::default();
    config.core.reconnect = glueberry_tokio::proto::ReconnectPolicy::never();
    let (a, b) = stage.pair(config, &[STREAM]).await;
    let expected = Keypair::generate_ed25519().public().to_peer_id();
    a.node.add_peer(expected, [b.address()]).await.expect("added");
    let error = a.node.connect(expected).await.expect_err("another answers");
    assert_eq!(error.code(), ErrorCode::ConnectionFailed, "{error}");
    assert!(format!("{error:#}").contains(&b.id().to_string()), "{error}");
    assert_eq!(a.node.connection_state(b.id()), ConnectionState::Disconnected);
}

pub(super) async fn no_common_profile(stage: Stage) {
    let mut config = Config::default();
    config.core.reconnect = glueberry_tokio::proto::ReconnectPolicy::never();
    config.core.negotiation_timeout = Duration::from_secs(1);
    config.core.profiles = vec![Profile::V1];
    let a = Party::start(stage.a, config.clone(), &[STREAM]).await;
    config.core.profiles = vec![Profile::V1Go];
    let b = Party::start(stage.b, config, &[STREAM]).await;
    a.meet(&b).await;
    let error = a.node.connect(b.id()).await.expect_err("nothing in common");
    assert_eq!(error.code(), ErrorCode::HandshakeFailed, "{error}");
}

pub(super) async fn v1_go_profile(stage: Stage) {
    let mut config = Config::default();
    config.core.profiles = vec![Profile::V1Go];
    let (mut a, mut b) = stage.established(config).await;
    for size in [0, 1, 1_000, 100_000] {
        a.node.send(b.id(), STREAM, vec![7; size]).await.expect("sent");
        b.node.send(a.id(), STREAM, vec![8; size]).await.expect("sent");
        assert_eq!(b.receive().await.data, vec![7; size]);
        assert_eq!(a.receive().await.data, vec![8; size]);
    }
}

/// What a session gives is known while an application may still refuse it, and afterwards.
pub(super) async fn session_says_what_it_gives(stage: Stage) {
    let (mut a, mut b) = stage.pair(Config::default(), &[STREAM]).await;
    assert_eq!(a.node.session_info(b.id()), None);
    a.dial(&b).await;
    a.node.send(b.id(), HANDSHAKE, "before anybody has agreed").await.expect("said");
    assert!(b.receive().await.is_handshake());
    b.node.send(a.id(), HANDSHAKE, "an answer").await.expect("said");
    assert!(a.receive().await.is_handshake());
    let info = a.node.session_info(b.id()).expect("the peer has said something");
    // The last frame of the key exchange may still be on its way to the other side.
    while b.node.session_info(a.id()).is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(b.node.session_info(a.id()), Some(info));
    let is_v2 = stage.a.has_v2 && stage.b.has_v2;
    assert_eq!(info.profile, if is_v2 { Profile::V2 } else { Profile::V1 });
    assert_eq!((info.suite.is_some(), info.is_forward_secret), (is_v2, is_v2));
    let have_exporters = [stage.a, stage.b].iter().all(|it| it.fabric == Fabric::RawQuic);
    assert_eq!(info.is_bound, is_v2 && have_exporters);
    greet(&mut a, &mut b, &[STREAM]).await;
    let established = a.event(|event| match event {
        Event::State(changed) if changed.state == ConnectionState::Established => {
            Some(changed.session)
        }
        _ => None,
    });
    assert_eq!(established.await, Some(info));
    let state = a.node.debug_state().await.expect("it runs");
    let shown = state.peers[0].session.as_ref().expect("it is Established");
    assert_eq!(shown.profile, info.profile.to_string());
    assert_eq!(shown.suite, info.suite.map(|suite| suite.to_string()));
    assert_eq!(shown.is_bound, info.is_bound);
}

/// A peer that has spoken v2 comes back with v1 only: dialled or dialling, it gets no session.
pub(super) async fn downgrade_is_refused(stage: Stage) -> Verdict {
    if !(stage.a.has_v2 && stage.b.has_v2) {
        return Verdict::NotApplicable("it is about nodes of v2");
    }
    let mut config = Config::default();
    config.core.reconnect = glueberry_tokio::proto::ReconnectPolicy::never();
    let (mut a, b) = stage.established(config).await;
    a.until(ConnectionState::Established).await;
    let grave = b.kill().with_profiles(&[Profile::V1]);
    // Where the end of a process is seen at once, nothing is left to end.
    if let Err(error) = a.node.disconnect(grave.id()).await {
        assert_eq!(error.code(), ErrorCode::NotConnected, "{error}");
    }
    a.until(ConnectionState::Disconnected).await;
    let b = grave.rise().await;
    a.meet(&b).await;
    let error = a.node.connect(b.id()).await.expect_err("it is pinned");
    assert_eq!(error.code(), ErrorCode::HandshakeFailed, "{error}");
    assert_eq!(refused_offer(&mut a).await, None);
    b.meet(&a).await;
    // It may have seen its profile agreed before the end; or taken the last connection, which was ending.
    loop {
        drop(b.node.connect(a.id()).await);
        let offered = tokio::time::timeout(Duration::from_secs(1), refused_offer(&mut a));
        if let Ok(offered) = offered.await {
            break assert_eq!(offered, Some(Profile::V1));
        }
    }
    assert_ne!(a.node.connection_state(b.id()), ConnectionState::Established);
    Verdict::Passed
}

async fn refused_offer(party: &mut Party) -> Option<Profile> {
    let offered = party.event(|event| match event {
        Event::DowngradeRefused { offered, .. } => Some(offered),
        _ => None,
    });
    offered.await
}

pub(super) async fn disconnect_and_connect_again(stage: Stage) {
    let mut config = Config::default();
    config.core.reconnect = glueberry_tokio::proto::ReconnectPolicy::never();
    let (mut a, mut b) = stage.established(config).await;
    for round in 0..3_u8 {
        a.node.disconnect(b.id()).await.expect("disconnected");
        a.wait_for(b.id(), ConnectionState::Disconnected).await;
        b.wait_for(a.id(), ConnectionState::Disconnected).await;
        // The one who has disconnected may come back at once; the other may not.
        establish(&mut a, &mut b, &[STREAM]).await;
        a.node.send(b.id(), STREAM, vec![round]).await.expect("sent");
        assert_eq!(b.receive().await.data, vec![round]);
    }
    a.node.disconnect(b.id()).await.expect("disconnected");
    b.wait_for(a.id(), ConnectionState::Disconnected).await;
    b.meet(&a).await;
    let error = b.node.connect(a.id()).await.expect_err("refused for a while");
    assert_eq!(error.code(), ErrorCode::ConnectionFailed, "{error}");
}

pub(super) async fn many_peers_at_once(stage: Stage) {
    let mut hub = Party::start(stage.b, Config::default(), &[STREAM]).await;
    let mut others = Vec::new();
    for _ in 0..6 {
        others.push(Party::start(stage.a, Config::default(), &[STREAM]).await);
    }
    for other in &others {
        other.meet(&hub).await;
        other.node.connect(hub.id()).await.expect("connected");
        other.node.send(hub.id(), HANDSHAKE, "hello").await.expect("said");
    }
    for _ in &others {
        let hello = hub.receive().await;
        let key = glueberry_tokio::PublicKey::try_from(&hello.peer).expect("a key");
        hub.node.complete_handshake(hello.peer, key, &[STREAM]).await.expect("completed");
    }
    for other in &others {
        other.complete(&hub, &[STREAM]).await;
        other.node.send(hub.id(), STREAM, other.id().to_bytes()).await.expect("sent");
    }
    let mut heard: Vec<_> = Vec::new();
    for _ in &others {
        let message = hub.receive().await;
        assert_eq!(message.data, message.peer.to_bytes());
        heard.push(message.peer);
    }
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), others.len());
}
