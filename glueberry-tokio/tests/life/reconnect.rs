//! Losing a peer and getting it back.

use std::time::Duration;

use glueberry_tokio::{
    CloseReason, ConnectionState, ErrorCode, Event, ReconnectPolicy, StateReason,
};

use crate::support::{Party, STREAM, eventually, pair, quick, run};

#[test]
fn after_a_disconnect_by_the_peer_the_dialler_comes_back() {
    run(async {
        let (mut a, mut b) = pair(quick()).await;
        b.node.disconnect(a.id()).await.unwrap();
        a.until(ConnectionState::Reconnecting).await;
        // It is refused for half a second, and then let in.
        a.until(ConnectionState::Established).await;
        b.until(ConnectionState::Established).await;
        a.node.send(b.id(), STREAM, "back").await.unwrap();
        assert_eq!(b.message().await.data, "back");
    });
}

#[test]
fn a_stream_handle_outlives_a_reconnection() {
    run(async {
        let (mut a, b) = pair(quick()).await;
        let mut handle = a.node.stream(b.id(), STREAM).unwrap();
        let mut far = b.node.stream(a.id(), STREAM).unwrap();
        for round in 0..3 {
            handle.send(format!("there {round}")).await.unwrap();
            assert_eq!(far.recv().await.unwrap(), format!("there {round}"));
            far.send(format!("and back {round}")).await.unwrap();
            assert_eq!(handle.recv().await.unwrap(), format!("and back {round}"));
            b.node.disconnect(a.id()).await.unwrap();
            a.until(ConnectionState::Disconnected).await;
            a.until(ConnectionState::Established).await;
            eventually("established", || b.state(&a) == ConnectionState::Established).await;
        }
    });
}

#[test]
fn attempts_end_and_can_be_ended() {
    run(async {
        let mut config = quick();
        config.core.reconnect.max_attempts = Some(2);
        config.core.dial_timeout = Duration::from_millis(300);
        let mut a = Party::new(config).await;
        let gone = Party::new(quick()).await;
        let peer = gone.id();
        a.knows(&gone).await;
        gone.node.shutdown().await;
        let error = a.node.connect(peer).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ConnectionFailed);
        let reason = a
            .event(|event| match event {
                Event::State(changed) => changed
                    .reason
                    .filter(|reason| matches!(reason, StateReason::AttemptsExhausted { .. })),
                _ => None,
            })
            .await;
        assert!(matches!(reason, StateReason::AttemptsExhausted { attempts: 2, .. }), "{reason}");
        assert_eq!(a.node.connection_state(peer), ConnectionState::Disconnected);

        let policy = Some(ReconnectPolicy::unlimited());
        a.node.set_reconnect_policy(peer, policy).await.unwrap();
        let waiting = a.node.connect(peer).await;
        assert_eq!(waiting.unwrap_err().code(), ErrorCode::ConnectionFailed);
        a.until(ConnectionState::Reconnecting).await;
        a.node.cancel_reconnection(peer).await.unwrap();
        let cancelled = a.until(ConnectionState::Disconnected).await;
        assert_eq!(cancelled.reason, Some(StateReason::ReconnectionCancelled));
        let error = a.node.cancel_reconnection(peer).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotConnected);
    });
}

#[test]
fn what_was_sent_before_a_shutdown_arrives_or_is_named() {
    run(async {
        let (a, mut b) = pair(quick()).await;
        for number in 0..500 {
            a.node.send(b.id(), STREAM, format!("message {number}")).await.unwrap();
        }
        let mut events = a.node.events();
        a.node.shutdown().await;
        let closed = loop {
            let event = events.recv().await.expect("the end of the session is told");
            if let Event::SessionClosed { closed, .. } = event {
                break closed;
            }
        };
        assert_eq!(closed.reason, CloseReason::Disconnected);
        let sure = 500 - closed.unsent - usize::try_from(closed.in_doubt).unwrap();
        for number in 0..sure {
            assert_eq!(b.message().await.data, format!("message {number}"));
        }
        assert_eq!(sure, 500, "nothing was in the way");
    });
}

#[test]
fn a_slow_reader_gets_what_arrived_before_the_peer_closed() {
    run(async {
        let mut config = quick();
        config.message_buffer = 4;
        config.core.receive_queue = 4;
        let (mut a, b) = pair(config).await;
        for number in 0..100 {
            b.node.send(a.id(), STREAM, format!("message {number}")).await.unwrap();
        }
        let shutdown = tokio::spawn(async move { b.node.shutdown().await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        for number in 0..100 {
            assert_eq!(a.message().await.data, format!("message {number}"));
        }
        shutdown.await.unwrap();
    });
}

#[test]
fn autoconnect_connects_to_everybody_in_the_book() {
    run(async {
        let mut config = quick();
        config.core.max_dials = 2;
        let hub = Party::greeting(config).await;
        let mut peers = Vec::new();
        for _ in 0..10 {
            peers.push(Party::greeting(quick()).await);
        }
        for peer in &peers {
            hub.knows(peer).await;
        }
        hub.node.blacklist_peer(peers[3].id(), None).await.unwrap();
        hub.node.autoconnect().await.unwrap();
        for (at, peer) in peers.iter().enumerate().filter(|(at, _)| *at != 3) {
            eventually(&format!("peer {at}"), || hub.state(peer) == ConnectionState::Established)
                .await;
        }
        assert_eq!(hub.state(&peers[3]), ConnectionState::Disconnected);
    });
}
