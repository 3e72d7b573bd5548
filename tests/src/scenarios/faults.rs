//! Crashes, silence and loss.

use std::time::{Duration, Instant};

use glueberry_tokio::proto::ReconnectPolicy;
use glueberry_tokio::{Config, ConnectionState, Event};

use super::{Stage, Verdict};
use crate::party::{Party, STREAM, establish, greet, pause};
use crate::proxy;

/// A configuration that notices silence after about a second.
fn attentive() -> Config {
    let mut config = Config::default();
    config.keep_alive = Duration::from_millis(300);
    config.lost_after = 3;
    config
}

fn once() -> Config {
    let mut config = attentive();
    config.core.reconnect = ReconnectPolicy::never();
    config
}

/// Nothing is said for many times the silence after which a peer would be given up.
pub(super) async fn quiet_session_lives(stage: Stage) {
    let (a, mut b) = stage.established(once()).await;
    pause(4_000).await;
    assert_eq!(a.node.connection_state(b.id()), ConnectionState::Established);
    assert_eq!(b.node.connection_state(a.id()), ConnectionState::Established);
    a.node.send(b.id(), STREAM, "still here").await.expect("sent");
    assert_eq!(b.receive().await.data, "still here");
}

/// The dialled side crashes and comes back; the dialler connects again and all works.
pub(super) async fn killed_and_returned(stage: Stage) {
    let (mut a, b) = stage.established(once()).await;
    let peer = b.id();
    let grave = b.kill();
    a.until(ConnectionState::Disconnected).await;
    let mut b = grave.rise().await;
    assert_eq!(b.id(), peer);
    a.node.connect(peer).await.expect("connected again");
    b.wait_for(a.id(), ConnectionState::Connected).await;
    greet(&mut a, &mut b, &[STREAM]).await;
    a.node.send(peer, STREAM, "again").await.expect("sent");
    assert_eq!(b.receive().await.data, "again");
}

/// The dialler crashes, comes back and dials, before the other may have noticed.
pub(super) async fn returns_and_dials(stage: Stage) {
    let mut config = Config::default();
    config.core.reconnect = ReconnectPolicy::never();
    let (a, mut b) = stage.established(config).await;
    let mut a = a.kill().rise().await;
    a.meet(&b).await;
    a.node.connect(b.id()).await.expect("connected again");
    // The old session is found to be dead first, if it was not noticed by itself.
    b.until(ConnectionState::Established).await;
    b.until(ConnectionState::Disconnected).await;
    b.until(ConnectionState::Connected).await;
    greet(&mut a, &mut b, &[STREAM]).await;
    b.node.send(a.id(), STREAM, "again").await.expect("sent");
    assert_eq!(a.receive().await.data, "again");
}

/// The dialled side crashes and comes back; the dialler finds it without being told to.
pub(super) async fn reconnects_by_itself(stage: Stage) {
    let mut config = attentive();
    config.core.reconnect.initial_backoff = Duration::from_millis(200);
    config.core.reconnect.max_backoff = Duration::from_millis(500);
    config.core.reconnect.max_attempts = Some(50);
    config.core.dial_timeout = Duration::from_secs(1);
    let (mut a, b) = stage.established(config).await;
    a.until(ConnectionState::Established).await;
    let grave = b.kill();
    a.until(ConnectionState::Reconnecting).await;
    let mut b = grave.rise().await;
    a.until(ConnectionState::Connected).await;
    b.wait_for(a.id(), ConnectionState::Connected).await;
    greet(&mut a, &mut b, &[STREAM]).await;
    a.node.send(b.id(), STREAM, "again").await.expect("sent");
    assert_eq!(b.receive().await.data, "again");
}

/// A peer that holds its sockets and does nothing is given up.
pub(super) async fn stalled_peer_is_noticed(stage: Stage) {
    let (mut a, b) = stage.established(once()).await;
    let began = Instant::now();
    b.stall(Duration::from_secs(6));
    a.until(ConnectionState::Disconnected).await;
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
}

/// Every eighth datagram is lost, either way.
pub(super) async fn datagrams_are_lost(stage: Stage) -> Verdict {
    if !stage.b.fabric.is_datagrams() {
        return Verdict::NotApplicable(
            "TCP hides the loss of packets, which no socket here can cause",
        );
    }
    let mut a = Party::start(stage.a, Config::default(), &[STREAM]).await;
    let mut b = Party::start(stage.b, Config::default(), &[STREAM]).await;
    let address = proxy::losing(&b.address(), 8).await;
    a.node.add_peer(b.id(), [address]).await.expect("added");
    a.node.connect(b.id()).await.expect("connected");
    b.wait_for(a.id(), ConnectionState::Connected).await;
    greet(&mut a, &mut b, &[STREAM]).await;
    for number in 0..50_u8 {
        a.node.send(b.id(), STREAM, vec![number; 5_000]).await.expect("sent");
        b.node.send(a.id(), STREAM, vec![number; 5_000]).await.expect("sent");
    }
    for number in 0..50_u8 {
        assert_eq!(b.receive().await.data, vec![number; 5_000]);
        assert_eq!(a.receive().await.data, vec![number; 5_000]);
    }
    Verdict::Passed
}

/// The long datagrams of one side are lost from the moment at which the other, or each, shuts down;
/// the short ones arrive, with acknowledgements and answers in them. No message is forgotten.
pub(super) async fn long_datagrams_are_lost_at_the_end(stage: Stage) -> Verdict {
    if !stage.b.fabric.is_datagrams() {
        return Verdict::NotApplicable(
            "TCP hides the loss of packets, which no socket here can cause",
        );
    }
    // On a busy machine all of this may stand still for longer than an attentive node waits.
    let mut config = once();
    config.lost_after = 8;
    for both in [false, true] {
        let mut a = Party::start(stage.a, config.clone(), &[STREAM]).await;
        let mut b = Party::start(stage.b, config.clone(), &[STREAM]).await;
        let (address, losing) = proxy::losing_long(&b.address()).await;
        a.node.add_peer(b.id(), [address]).await.expect("added");
        a.node.connect(b.id()).await.expect("connected");
        b.wait_for(a.id(), ConnectionState::Connected).await;
        greet(&mut a, &mut b, &[STREAM]).await;
        // So that both have the same substream, which A has opened.
        a.node.send(b.id(), STREAM, "first").await.expect("sent");
        assert_eq!(b.receive().await.data, "first");
        b.node.send(a.id(), STREAM, "first").await.expect("sent");
        assert_eq!(a.receive().await.data, "first");
        losing.store(true, std::sync::atomic::Ordering::Relaxed);
        let accepted = 40_u64;
        for _ in 0..accepted {
            b.node.send(a.id(), STREAM, vec![7; 2_000]).await.expect("accepted");
        }
        let (first, second) = (a.node.clone(), b.node.clone());
        let leaving = tokio::spawn(async move {
            if both {
                futures_util::future::join(first.shutdown(), second.shutdown()).await;
            } else {
                first.shutdown().await;
            }
        });
        let closed = b
            .event(|event| match event {
                Event::SessionClosed { closed, .. } => Some(closed),
                _ => None,
            })
            .await;
        leaving.await.expect("it does not panic");
        let mut delivered = 0;
        while let Ok(Some(_)) =
            tokio::time::timeout(Duration::from_millis(200), a.messages.recv()).await
        {
            delivered += 1;
        }
        let unsent = u64::try_from(closed.unsent).expect("few");
        assert!(
            delivered + unsent + closed.in_doubt + closed.not_received >= accepted,
            "{delivered} of {accepted} delivered, both leave: {both}: {closed:?}"
        );
    }
    Verdict::Passed
}

/// An orderly end reaches the other side at once, not by its silence.
pub(super) async fn end_is_noticed(stage: Stage) {
    let mut config = Config::default();
    config.core.reconnect = ReconnectPolicy::never();
    let (mut a, mut b) = stage.pair(config, &[STREAM]).await;
    establish(&mut a, &mut b, &[STREAM]).await;
    let began = Instant::now();
    b.node.shutdown().await;
    a.until(ConnectionState::Disconnected).await;
    assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
}
