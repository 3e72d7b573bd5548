//! A banned peer is cut off and kept out, whatever its state.

use std::time::{Duration, SystemTime};

use glueberry_tokio::{
    CloseReason, ConnectionState, ErrorCode, Event, ReconnectPolicy, StateReason,
};

use crate::support::{Party, STREAM, eventually, pair, quick, run};

#[test]
fn bans_hold_in_every_state_and_for_unknown_peers() {
    run(async {
        use ConnectionState::{Connected, Connecting, Cooldown, Established, Reconnecting};
        for state in [Connecting, Connected, Established, Reconnecting, Cooldown] {
            let mut a = Party::new(quick()).await;
            let b = Party::new(quick()).await;
            let peer = b.id();
            bring(&mut a, &b, state).await;
            assert_eq!(a.node.connection_state(peer), state);
            a.node.blacklist_peer(peer, None).await.unwrap();
            let reason = a.until(ConnectionState::Disconnected).await.reason;
            assert_eq!(reason, Some(StateReason::Blacklisted), "in state {state}");
            assert_eq!(a.node.connect(peer).await.unwrap_err().code(), ErrorCode::PeerBlacklisted);
            // Nor does it get in by itself.
            b.knows(&a).await;
            let policy = Some(ReconnectPolicy::never());
            b.node.set_reconnect_policy(a.id(), policy).await.unwrap();
            eventually("the peer has lost it too", || {
                b.state(&a) != Connected && b.state(&a) != Established
            })
            .await;
            if b.state(&a) == ConnectionState::Disconnected {
                drop(b.node.connect(a.id()).await);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(a.node.connection_state(peer), ConnectionState::Disconnected);
            assert!(a.node.is_blacklisted(peer).await.unwrap());
        }
    });
}

async fn bring(a: &mut Party, b: &Party, state: ConnectionState) {
    let peer = b.id();
    match state {
        ConnectionState::Connecting | ConnectionState::Reconnecting => {
            // Nobody answers there.
            let nowhere = "/ip4/127.0.0.1/udp/9/quic-v1".parse().unwrap();
            a.node.add_peer(peer, [nowhere]).await.unwrap();
            if state == ConnectionState::Reconnecting {
                let mut policy = ReconnectPolicy::unlimited();
                policy.initial_backoff = Duration::from_secs(60);
                a.node.set_reconnect_policy(peer, Some(policy)).await.unwrap();
            }
            let node = a.node.clone();
            tokio::spawn(async move { drop(node.connect(peer).await) });
            a.until(state).await;
        }
        _ => {
            a.dial(b).await;
            if state == ConnectionState::Cooldown {
                a.node.reject_handshake(peer, "not today").unwrap();
            }
            if state == ConnectionState::Established {
                let key = b.node.public_key();
                a.node.complete_handshake(peer, key, &[STREAM]).await.unwrap();
            }
            a.until(state).await;
        }
    }
}

#[test]
fn a_ban_ends_when_it_should_and_what_was_queued_is_named() {
    run(async {
        let (mut a, mut b) = pair(quick()).await;
        let until = SystemTime::now() + Duration::from_millis(700);
        a.node.blacklist_peer(b.id(), Some(until)).await.unwrap();
        assert_eq!(a.node.peer(b.id()).await.unwrap().banned_until, Some(until));
        let closed = a
            .event(|event| match event {
                Event::SessionClosed { closed, .. } => Some(closed),
                _ => None,
            })
            .await;
        assert_eq!(closed.reason, CloseReason::Blacklisted);
        b.until(ConnectionState::Disconnected).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
        assert!(!a.node.is_blacklisted(b.id()).await.unwrap());
        a.node.connect(b.id()).await.unwrap();
        a.until(ConnectionState::Established).await;
    });
}

#[test]
fn a_stranger_can_be_banned_and_the_ban_lifted() {
    run(async {
        let a = Party::greeting(quick()).await;
        let b = Party::greeting(quick()).await;
        a.node.blacklist_peer(b.id(), None).await.unwrap();
        b.knows(&a).await;
        let policy = Some(ReconnectPolicy::never());
        b.node.set_reconnect_policy(a.id(), policy).await.unwrap();
        let refused = b.node.connect(a.id()).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::ConnectionFailed);
        assert_eq!(a.state(&b), ConnectionState::Disconnected);
        a.node.unblacklist_peer(b.id()).await.unwrap();
        let again = a.node.unblacklist_peer(b.id()).await.unwrap_err();
        assert_eq!(again.code(), ErrorCode::PeerNotFound);
        b.node.connect(a.id()).await.unwrap();
    });
}
