//! A sample: how an application tests itself, without sockets and with a peer that it scripts.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

use std::sync::Arc;

use bytes::Bytes;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::test_util::{LogCapture, MemoryNetwork, RecordingMetrics, ScriptedPeer};
use glueberry_tokio::{
    Config, ConnectionState, Error, ErrorCode, Event, Node, PublicKey, StateReason,
};

/// The application under test: asks a peer the time, and asks again when it was lost meanwhile.
struct Clock {
    node: Node,
}

impl Clock {
    async fn ask(&self, peer: PeerId, key: PublicKey) -> Result<Bytes, Error> {
        let mut answers = self.node.stream(peer, "time")?;
        loop {
            if self.node.connection_state(peer) == ConnectionState::Disconnected {
                self.node.connect(peer).await?;
            }
            if self.node.connection_state(peer) == ConnectionState::Connected {
                self.node.complete_handshake(peer, key, &["time"]).await?;
            }
            match answers.send("what time is it?").await {
                Ok(()) => return Ok(answers.recv().await.unwrap_or_default()),
                Err(error) if error.code() == ErrorCode::NotConnected => {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

async fn clock(network: &MemoryNetwork, metrics: Arc<RecordingMetrics>) -> Clock {
    let node = Node::builder(Keypair::generate_ed25519())
        .config(Config::for_tests())
        .streams(["time"])
        .metrics(metrics)
        .build_over(network)
        .await
        .unwrap();
    Clock { node }
}

#[tokio::test]
async fn the_application_asks_and_is_answered() {
    let logs = LogCapture::start();
    let (network, metrics) = (MemoryNetwork::new(), Arc::new(RecordingMetrics::new()));
    let clock = clock(&network, metrics.clone()).await;
    let peer = ScriptedPeer::new(&network, ["time"]).await.unwrap();
    peer.answer("time", "what time is it?", "half past ten");
    clock.node.add_peer(peer.id(), [peer.addr()]).await.unwrap();
    assert_eq!(clock.ask(peer.id(), peer.key()).await.unwrap(), "half past ten");
    assert_eq!(peer.heard("time"), ["what time is it?"]);
    assert_eq!(metrics.get("message_sent", "time").sum, 16.0);
    assert_eq!(metrics.calls("message_received"), 1);
    assert!(logs.contains(tracing::Level::INFO, "state changed"));
    clock.node.shutdown().await;
}

#[tokio::test]
async fn the_application_survives_the_loss_of_its_peer() {
    let network = MemoryNetwork::new();
    let clock = clock(&network, Arc::new(RecordingMetrics::new())).await;
    let peer = ScriptedPeer::new(&network, ["time"]).await.unwrap();
    peer.answer("time", "what time is it?", "late");
    clock.node.add_peer(peer.id(), [peer.addr()]).await.unwrap();
    assert_eq!(clock.ask(peer.id(), peer.key()).await.unwrap(), "late");
    let mut events = clock.node.events_for_peer(peer.id());
    network.cut(clock.node.public_key(), peer.key());
    loop {
        if let Event::State(changed) = events.recv().await.unwrap()
            && changed.state == ConnectionState::Reconnecting
        {
            break;
        }
    }
    network.heal(clock.node.public_key(), peer.key());
    assert_eq!(clock.ask(peer.id(), peer.key()).await.unwrap(), "late");
    assert_eq!(peer.heard("time").len(), 2);
}

#[tokio::test]
async fn the_application_is_told_when_it_is_not_wanted() {
    let network = MemoryNetwork::new();
    let clock = clock(&network, Arc::new(RecordingMetrics::new())).await;
    let peer = ScriptedPeer::new(&network, ["time"]).await.unwrap();
    peer.refuse_handshakes();
    clock.node.add_peer(peer.id(), [peer.addr()]).await.unwrap();
    let mut events = clock.node.events_for_states([ConnectionState::Disconnected]);
    clock.node.connect(peer.id()).await.unwrap();
    let Some(Event::State(lost)) = events.recv().await else { panic!("no event") };
    assert!(matches!(lost.reason, Some(StateReason::SessionEnded(_))), "{lost:?}");
    let nobody = Keypair::generate_ed25519().public().to_peer_id();
    clock.node.add_peer(nobody, ["/memory/999".parse().unwrap()]).await.unwrap();
    let error = clock.node.connect(nobody).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ConnectionFailed);
}
