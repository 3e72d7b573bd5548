//! Bans, in every state that a peer can be in.

use std::time::{Duration, SystemTime};

use glueberry_tokio::proto::ReconnectPolicy;
use glueberry_tokio::{Config, ConnectionState, ErrorCode, StateReason};

use super::Stage;
use crate::party::{Party, STREAM, pause};
use crate::proxy::Silent;

pub(super) async fn banned_in_each_state(stage: Stage) {
    use ConnectionState::{Connected, Connecting, Cooldown, Established, Reconnecting};
    for state in [Connecting, Connected, Established, Reconnecting, Cooldown] {
        let mut config = Config::default();
        config.core.reconnect = ReconnectPolicy::never();
        let b = Party::start(stage.b, config.clone(), &[STREAM]).await;
        if state == Reconnecting {
            config.core.dial_timeout = Duration::from_millis(200);
            config.core.reconnect = ReconnectPolicy::default();
            config.core.reconnect.initial_backoff = Duration::from_secs(60);
        }
        let mut a = Party::start(stage.a, config, &[STREAM]).await;
        let silent = Silent::new(stage.a.fabric).await;
        bring(&mut a, &b, state, &silent).await;
        a.node.blacklist_peer(b.id(), None).await.expect("banned");
        let reason = a.ended().await;
        assert_eq!(reason, Some(StateReason::Blacklisted), "in state {state}");
        refused_both_ways(&a, &b).await;
    }
}

async fn bring(a: &mut Party, b: &Party, state: ConnectionState, silent: &Silent) {
    match state {
        ConnectionState::Connecting | ConnectionState::Reconnecting => {
            a.node.add_peer(b.id(), [silent.address.clone()]).await.expect("added");
            let (node, peer) = (a.node.clone(), b.id());
            drop(tokio::spawn(async move { node.connect(peer).await }));
        }
        _ => a.dial(b).await,
    }
    match state {
        ConnectionState::Established => a.complete(b, &[STREAM]).await,
        ConnectionState::Cooldown => {
            a.node.reject_handshake(b.id(), "not today").expect("rejected");
        }
        _ => {}
    }
    a.until(state).await;
}

/// The ban holds, whoever dials.
async fn refused_both_ways(a: &Party, b: &Party) {
    let error = a.node.connect(b.id()).await.expect_err("banned");
    assert_eq!(error.code(), ErrorCode::PeerBlacklisted, "{error}");
    b.wait_for(a.id(), ConnectionState::Disconnected).await;
    b.meet(a).await;
    let error = b.node.connect(a.id()).await.expect_err("banned there");
    assert_eq!(error.code(), ErrorCode::ConnectionFailed, "{error}");
    assert_eq!(a.node.connection_state(b.id()), ConnectionState::Disconnected);
}

pub(super) async fn banned_stranger(stage: Stage) {
    let mut config = Config::default();
    config.core.reconnect = ReconnectPolicy::never();
    let (a, b) = stage.pair(config, &[STREAM]).await;
    b.node.blacklist_peer(a.id(), None).await.expect("banned");
    pause(50).await;
    a.meet(&b).await;
    let error = a.node.connect(b.id()).await.expect_err("banned there");
    assert_eq!(error.code(), ErrorCode::ConnectionFailed, "{error}");
    b.node.unblacklist_peer(a.id()).await.expect("lifted");
    pause(50).await;
    a.dial(&b).await;
}

pub(super) async fn ban_expires(stage: Stage) {
    let mut config = Config::default();
    config.core.reconnect = ReconnectPolicy::never();
    let (a, mut b) = stage.established(config).await;
    let until = SystemTime::now() + Duration::from_millis(700);
    b.node.blacklist_peer(a.id(), Some(until)).await.expect("banned");
    a.wait_for(b.id(), ConnectionState::Disconnected).await;
    assert_eq!(b.ended().await, Some(StateReason::Blacklisted));
    assert!(a.node.connect(b.id()).await.is_err(), "it holds");
    pause(800).await;
    a.dial(&b).await;
}
