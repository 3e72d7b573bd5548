//! A peer that has spoken v2 is held to it, over real sockets and restarts.

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{CloseReason, Config, ConnectionState, ErrorCode, Event, Profile};

use crate::support::{Party, key, keypair, quick, run};

const ALL: [Profile; 3] = [Profile::V2, Profile::V1, Profile::V1Go];

fn config(profiles: &[Profile]) -> Config {
    let mut config = quick();
    config.core.profiles = profiles.to_vec();
    config.core.reconnect = glueberry_tokio::ReconnectPolicy::never();
    config
}

/// Starts a node that completes every handshake.
async fn party(identity: Keypair, profiles: &[Profile]) -> Party {
    let party = Party::of(identity, config(profiles), |builder| builder).await;
    party.greet();
    party
}

/// Takes two through a session of v2, and has the second come back with one profile only.
async fn comes_back(profile: Profile) -> (Party, Party) {
    let (mut a, mut b) = (party(keypair(1), &ALL).await, party(keypair(2), &ALL).await);
    a.dial(&b).await;
    let state = a.until(ConnectionState::Established).await;
    assert_eq!(state.session.unwrap().profile, Profile::V2);
    b.until(ConnectionState::Established).await;
    let entry = a.node.peer(b.id()).await.unwrap();
    let days = entry.v2_until.unwrap().duration_since(std::time::SystemTime::now()).unwrap();
    assert_eq!(days.as_secs().div_ceil(86_400), 90);
    b.node.shutdown().await;
    a.until(ConnectionState::Disconnected).await;
    let b = party(keypair(2), &[profile]).await;
    a.knows(&b).await;
    (a, b)
}

/// Waits for the refusal, and for the end of the session behind it.
async fn refused(party: &mut Party) -> Option<Profile> {
    let offered = party.event(|event| match event {
        Event::DowngradeRefused { offered, .. } => Some(offered),
        Event::State(changed) => {
            assert_ne!(changed.state, ConnectionState::Connected);
            None
        }
        _ => None,
    });
    let offered = offered.await;
    let closed = party.event(|event| match event {
        Event::SessionClosed { closed, .. } => Some(closed),
        _ => None,
    });
    assert_eq!(closed.await.reason, CloseReason::Downgrade { offered });
    offered
}

#[test]
fn a_pinned_peer_that_comes_with_v1_is_refused() {
    run(async {
        for profile in [Profile::V1, Profile::V1Go] {
            let (mut a, b) = comes_back(profile).await;
            b.knows(&a).await;
            // It may see the connection agreed before it is closed.
            drop(b.node.connect(a.id()).await);
            assert_eq!(refused(&mut a).await, Some(profile));

            let error = a.node.connect(b.id()).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::HandshakeFailed);
            assert!(error.hint().contains("pin"), "{}", error.hint());
            assert_eq!(refused(&mut a).await, None);
        }
    });
}

#[test]
fn a_pin_that_is_cleared_lets_the_peer_in() {
    run(async {
        let (mut a, mut b) = comes_back(Profile::V1).await;
        assert!(a.node.clear_profile_pin(b.id()).await.unwrap());
        assert!(!a.node.clear_profile_pin(b.id()).await.unwrap());
        assert_eq!(a.node.peer(b.id()).await.unwrap().v2_until, None);
        a.dial(&b).await;
        let state = a.until(ConnectionState::Established).await;
        assert_eq!(state.session.unwrap().profile, Profile::V1);
        b.until(ConnectionState::Established).await;
        a.node.send(b.id(), "chat", "let in").await.unwrap();
        assert_eq!(b.message().await.data, "let in");
        assert_eq!(key(b.id()), b.node.public_key());
    });
}

#[test]
fn a_floor_that_no_profile_reaches_is_no_configuration() {
    run(async {
        let mut config = Config::default();
        config.core.profiles = vec![Profile::V1];
        config.core.min_profile = Profile::V2;
        let builder = glueberry_tokio::Node::builder(Keypair::generate_ed25519());
        let error = builder.config(config).build().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidConfig);
        assert!(format!("{error:#}").contains("`profiles` has no entry that reaches"), "{error:#}");
    });
}
