//! What a node tells of itself: statistics, health, debugging, metrics, events.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{
    AttemptOutcome, CheckName, ConnectionState, Delivery, Direction, Event, HANDSHAKE,
    HandshakeOutcome, Metrics, ReconnectPolicy,
};
use tokio::net::UdpSocket;

use crate::sockets::DyingSockets;
use crate::support::{Party, STREAM, eventually, keypair, pair, quick, run, socket};

#[test]
fn statistics_count_what_was_exchanged() {
    run(async {
        let (mut a, mut b) = (Party::new(quick()).await, Party::new(quick()).await);
        a.dial(&b).await;
        a.node.send(b.id(), HANDSHAKE, "hello").await.unwrap();
        assert_eq!(b.messages.recv().await.unwrap().data, "hello");
        b.node.complete_handshake(a.id(), a.node.public_key(), &[STREAM]).await.unwrap();
        a.node.complete_handshake(b.id(), b.node.public_key(), &[STREAM]).await.unwrap();
        for _ in 0..3 {
            a.node.send(b.id(), STREAM, vec![0; 100]).await.unwrap();
            b.message().await;
        }
        // They are counted when the task of the session comes to rest.
        eventually("all are counted", || a.node.messages_sent(b.id()) == 4).await;
        let counted = || b.node.peer_statistics(a.id()).is_some_and(|it| it.messages_received == 4);
        eventually("all are counted", counted).await;
        let sent = a.node.peer_statistics(b.id()).unwrap();
        assert!(sent.is_connected && sent.is_outbound);
        assert_eq!((sent.messages_sent, sent.bytes_sent), (4, 305));
        assert_eq!((sent.messages_received, sent.connection_count), (0, 1));
        assert_eq!(sent.streams[STREAM].messages_sent, 3);
        assert_eq!(sent.streams[HANDSHAKE].bytes_sent, 5);
        assert!(sent.connected_at.is_some() && sent.last_message_at.is_some());
        assert_eq!(a.node.messages_sent(b.id()), 4);
        let received = b.node.all_peer_statistics().remove(&a.id()).unwrap();
        assert!(!received.is_outbound);
        assert_eq!((received.messages_received, received.bytes_received), (4, 305));
        tokio::time::sleep(Duration::from_millis(50)).await;
        b.node.disconnect(a.id()).await.unwrap();
        a.until(ConnectionState::Disconnected).await;
        let lost = a.node.peer_statistics(b.id()).unwrap();
        assert!(!lost.is_connected);
        assert!(lost.total_connect_time >= Duration::from_millis(50));
        assert_eq!(lost.failure_count, 1);
        assert_eq!(b.node.peer_statistics(a.id()).unwrap().failure_count, 0, "that was wanted");
    });
}

#[test]
fn health_fails_where_it_should() {
    run(async {
        let mut a = Party::greeting(quick()).await;
        let health = a.node.health().await;
        assert!(health.is_healthy, "{health}");
        assert_eq!(health.checks.len(), 4);
        // A peer that should be connected and is not: told, and no fault of the node.
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        a.node.add_peer(peer, ["/ip4/127.0.0.1/udp/9/quic-v1".parse().unwrap()]).await.unwrap();
        let node = a.node.clone();
        tokio::spawn(async move { drop(node.connect(peer).await) });
        a.until(ConnectionState::Connecting).await;
        let health = a.node.health().await;
        assert!(health.is_healthy);
        assert!(!health.check(CheckName::Connections).unwrap().is_healthy, "{health}");
        a.node.shutdown().await;
        let health = a.node.health().await;
        assert!(!health.is_healthy);
        assert!(!health.check(CheckName::NodeStarted).unwrap().is_healthy);
        assert!(health.to_string().starts_with("NOT HEALTHY"));
        let json = serde_json::to_value(&health).unwrap();
        assert_eq!(json["checks"][0]["name"], "node_started");
    });
}

#[test]
fn the_host_is_not_running_once_its_socket_is_gone() {
    run(async {
        let runtime = Arc::new(DyingSockets::default());
        let sockets = runtime.clone();
        let a = Party::of(keypair(5), quick(), |builder| builder.runtime(sockets)).await;
        assert!(a.node.health().await.check(CheckName::HostRunning).unwrap().is_healthy);
        runtime.are_dead.store(true, Ordering::Release);
        let poke = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket(&a.node.addrs()[0]);
        let health = loop {
            poke.send_to(b"anything", address).await.unwrap();
            let health = a.node.health().await;
            if !health.is_healthy {
                break health;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert!(!health.check(CheckName::HostRunning).unwrap().is_healthy, "{health}");
        assert!(health.check(CheckName::NodeStarted).unwrap().is_healthy, "{health}");
    });
}

#[test]
fn the_debug_state_is_json_and_text() {
    run(async {
        let (a, b) = pair(quick()).await;
        let state = a.node.debug_state().await.unwrap();
        let json = serde_json::to_value(&state).unwrap();
        assert_eq!(json["peer_id"], a.id().to_string());
        assert_eq!(json["version"], "1.2.9");
        assert_eq!(json["peers"][0]["peer_id"], b.id().to_string());
        assert_eq!(json["peers"][0]["state"], "Established");
        assert_eq!(json["address_book"]["total_peers"], 1);
        assert_eq!(json["config"]["core"]["handshake_timeout"], "1m");
        let text = state.to_string();
        for part in ["IDENTITY", "LISTEN ADDRESSES", "ADDRESS BOOK", "CONFIGURATION", "PEERS"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.contains(&b.id().to_string()), "{text}");
        let secret = hex::encode([1_u8; 32]);
        assert!(!text.contains(&secret) && !json.to_string().contains(&secret));
    });
}

#[test]
fn a_slow_subscriber_freezes_nothing() {
    run(async {
        let mut config = quick();
        config.event_buffer = 2;
        let a = Party::greeting(config).await;
        let mut slow = a.node.events();
        let mut peers = Vec::new();
        for _ in 0..5 {
            let mut peer = Party::greeting(quick()).await;
            peer.dial(&a).await;
            peer.until(ConnectionState::Established).await;
            peer.node.send(a.id(), STREAM, "hello").await.unwrap();
            peers.push(peer);
        }
        eventually("all are established", || {
            peers.iter().all(|peer| a.state(peer) == ConnectionState::Established)
        })
        .await;
        let mut lagged = false;
        loop {
            match slow.recv().await.unwrap() {
                Event::Lagged { missed } => {
                    assert!(missed > 0);
                    lagged = true;
                }
                Event::Snapshot(states) => {
                    assert!(lagged);
                    let mut stands: Vec<_> =
                        states.iter().map(|changed| (changed.peer, changed.state)).collect();
                    let mut expected: Vec<_> = peers
                        .iter()
                        .map(|peer| (peer.id(), ConnectionState::Established))
                        .collect();
                    stands.sort_unstable();
                    expected.sort_unstable();
                    assert_eq!(stands, expected);
                    return;
                }
                _ => assert!(!lagged),
            }
        }
    });
}

/// Counts the calls of each method.
#[derive(Debug, Default)]
struct Counting(Mutex<BTreeMap<String, usize>>);

impl Counting {
    fn add(&self, name: impl Into<String>) {
        *self.0.lock().unwrap().entry(name.into()).or_default() += 1;
    }

    fn count(&self, name: &str) -> usize {
        self.0.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

impl Metrics for Counting {
    fn connection_opened(&self, direction: Direction) {
        self.add(format!("opened {direction:?}"));
    }
    fn connection_closed(&self, direction: Direction) {
        self.add(format!("closed {direction:?}"));
    }
    fn connection_attempt(&self, outcome: AttemptOutcome) {
        self.add(format!("attempt {outcome:?}"));
    }
    fn handshake_duration(&self, duration: Duration) {
        assert!(duration < Duration::from_secs(60));
        self.add("duration");
    }
    fn handshake_result(&self, outcome: HandshakeOutcome) {
        self.add(format!("handshake {outcome:?}"));
    }
    fn message_sent(&self, stream: &str, bytes: usize) {
        self.add(format!("sent {stream} {bytes}"));
    }
    fn message_received(&self, stream: &str, bytes: usize) {
        self.add(format!("received {stream} {bytes}"));
    }
    fn stream_opened(&self, stream: &str) {
        self.add(format!("stream opened {stream}"));
    }
    fn stream_closed(&self, stream: &str) {
        self.add(format!("stream closed {stream}"));
    }
    fn key_derivation(&self, cached: bool) {
        self.add(format!("key derivation {cached}"));
    }
    fn event_emitted(&self, state: ConnectionState) {
        self.add(format!("event {state}"));
    }
    fn event_dropped(&self) {
        self.add("event dropped");
    }
    fn message_dropped(&self, stream: &str) {
        self.add(format!("dropped {stream}"));
    }
    fn backpressure_engaged(&self, stream: &str) {
        self.add(format!("backpressure {stream}"));
    }
    fn backpressure_wait(&self, stream: &str, _: Duration) {
        self.add(format!("waited {stream}"));
    }
    fn pending_messages(&self, stream: &str, _: usize) {
        self.add(format!("pending {stream}"));
    }
}

#[test]
fn every_metric_and_statistic_is_really_fed() {
    run(async {
        let (ours, theirs) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
        let mut config = quick();
        (config.core.high_watermark, config.core.low_watermark) = (4, 1);
        (config.event_buffer, config.message_buffer) = (3, 4);
        config.delivery = Delivery::DropNewest;
        config.core.reconnect = ReconnectPolicy::never();
        config.core.dial_timeout = Duration::from_millis(300);
        let counted = |metrics: &Arc<Counting>| -> Arc<dyn Metrics> { metrics.clone() };
        let identity = Keypair::generate_ed25519;
        let a = Party::of(identity(), config.clone(), |it| it.metrics(counted(&ours))).await;
        let mut b = Party::of(identity(), config.clone(), |it| it.metrics(counted(&theirs))).await;
        let _slow = a.node.events();

        let nobody = Keypair::generate_ed25519().public().to_peer_id();
        a.node.add_peer(nobody, ["/ip4/127.0.0.1/udp/9/quic-v1".parse().unwrap()]).await.unwrap();
        drop(a.node.connect(nobody).await);
        a.dial(&b).await;
        a.node.send(b.id(), HANDSHAKE, "hello").await.unwrap();
        b.messages.recv().await.unwrap();
        b.node.complete_handshake(a.id(), a.node.public_key(), &[STREAM]).await.unwrap();
        a.node.complete_handshake(b.id(), b.node.public_key(), &[STREAM]).await.unwrap();
        for _ in 0..500 {
            a.node.send(b.id(), STREAM, vec![0; 10]).await.unwrap();
        }
        eventually("some were dropped", || theirs.count("dropped chat") > 0).await;
        a.node.disconnect(b.id()).await.unwrap();
        // Not from its events: it lags, and Disconnected is what a snapshot leaves out.
        let disconnected = ConnectionState::Disconnected;
        eventually("the peer has heard of it", || b.state(&a) == disconnected).await;
        // A handshake that is rejected, and one that takes too long.
        config.core.handshake_timeout = Duration::from_millis(200);
        let c = Party::of(identity(), config, |it| it.metrics(counted(&ours))).await;
        c.dial(&b).await;
        eventually("a handshake has timed out", || ours.count("handshake Timeout") > 0).await;
        a.dial(&Party::new(quick()).await).await;

        let expected = [
            (&ours, "opened Outbound"),
            (&theirs, "opened Inbound"),
            (&ours, "closed Outbound"),
            (&theirs, "closed Inbound"),
            (&ours, "attempt Success"),
            (&ours, "attempt Failure"),
            (&ours, "duration"),
            (&ours, "handshake Success"),
            (&ours, "handshake Timeout"),
            (&theirs, "handshake Failure"),
            (&ours, "sent handshake 5"),
            (&theirs, "received handshake 5"),
            (&ours, "sent chat 10"),
            (&theirs, "received chat 10"),
            (&ours, "stream opened chat"),
            (&ours, "stream closed chat"),
            (&ours, "key derivation false"),
            (&ours, "event Established"),
            (&ours, "event dropped"),
            (&theirs, "dropped chat"),
            (&ours, "backpressure chat"),
            (&ours, "waited chat"),
            (&ours, "pending chat"),
        ];
        for (metrics, name) in expected {
            eventually(name, || metrics.count(name) > 0).await;
        }
        assert_eq!(ours.count("sent chat 10"), 500);
    });
}

/// A session has what it reports to, which has the sessions: printed are neither.
#[test]
fn every_handle_can_be_printed_while_there_is_a_session() {
    run(async {
        let (a, b) = pair(quick()).await;
        let stream = a.node.stream(b.id(), STREAM).unwrap();
        for text in [
            format!("{:?}", a.node),
            format!("{:?}", a.events),
            format!("{:?}", a.messages),
            format!("{stream:?}"),
        ] {
            assert!(text.len() < 10_000, "{text}");
        }
    });
}
