//! Nodes that reach each other over a relay, and from there directly.

use std::time::Duration;

use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{ConnectionState, HANDSHAKE, Node};
use libp2p::futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, SwarmBuilder, identify, noise, relay, tcp, yamux};
use tokio::task::JoinHandle;

use crate::support::{STREAM, eventually, run_test};

#[derive(NetworkBehaviour)]
struct Relay {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
}

/// Starts a relay of libp2p's own; it ends with its task.
async fn relay() -> (Multiaddr, JoinHandle<()>) {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| Relay {
            relay: relay::Behaviour::new(key.public().to_peer_id(), relay::Config::default()),
            identify: identify::Behaviour::new(identify::Config::new(
                "/relay/1.0.0".to_owned(),
                key.public(),
            )),
        })
        .unwrap()
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    swarm.add_external_address(address.clone());
    let address = address.with_p2p(*swarm.local_peer_id()).unwrap();
    let task = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    (address, task)
}

async fn node(over: Libp2p, listen: Multiaddr) -> Node {
    Node::builder(Keypair::generate_ed25519())
        .listen(listen)
        .streams([STREAM])
        .build_over(over)
        .await
        .unwrap()
}

fn over_relays() -> Libp2p {
    let mut over = Libp2p::default();
    over.upnp = false;
    over.quic = false;
    over.dns = false;
    over
}

fn circuit(relay: &Multiaddr) -> Multiaddr {
    relay.clone().with(libp2p::multiaddr::Protocol::P2pCircuit)
}

async fn establish(a: &Node, b: &Node) {
    a.send(b.peer_id(), HANDSHAKE, "hello").await.unwrap();
    let (a_key, b_key) = (a.public_key(), b.public_key());
    eventually(|| async { b.connection_state(a.peer_id()) == ConnectionState::Connected }).await;
    b.complete_handshake(a.peer_id(), a_key, &[STREAM]).await.unwrap();
    a.complete_handshake(b.peer_id(), b_key, &[STREAM]).await.unwrap();
}

#[test]
fn messages_are_delivered_over_a_relay_alone() {
    run_test(async {
        let (relay, _task) = relay().await;
        let mut over = over_relays();
        over.hole_punching = false;
        let b = node(over.clone(), circuit(&relay)).await;
        let a = node(over, "/ip4/127.0.0.1/tcp/0".parse().unwrap()).await;
        // B listens nowhere else.
        a.add_peer(b.peer_id(), [circuit(&relay)]).await.unwrap();
        a.connect(b.peer_id()).await.unwrap();
        establish(&a, &b).await;
        both_ways(&a, &b).await;
        a.shutdown().await;
        b.shutdown().await;
    });
}

async fn both_ways(a: &Node, b: &Node) {
    let mut from_a = b.stream(a.peer_id(), STREAM).unwrap();
    let mut from_b = a.stream(b.peer_id(), STREAM).unwrap();
    for number in 0..20_u8 {
        a.send(b.peer_id(), STREAM, vec![number; 1_000]).await.unwrap();
        b.send(a.peer_id(), STREAM, vec![number; 1_000]).await.unwrap();
    }
    for number in 0..20_u8 {
        assert_eq!(from_a.recv().await.unwrap(), vec![number; 1_000]);
        assert_eq!(from_b.recv().await.unwrap(), vec![number; 1_000]);
    }
}

/// A relayed connection becomes a direct one before it gets the session, which then lives on
/// without the relay.
#[test]
fn a_direct_connection_takes_the_place_of_the_relayed_one() {
    run_test(async {
        let (relay, task) = relay().await;
        let mut over = over_relays();
        over.hole_punch_wait = Duration::from_secs(20);
        let b = Node::builder(Keypair::generate_ed25519())
            .listen(circuit(&relay))
            .listen("/ip4/127.0.0.1/tcp/0".parse().unwrap())
            .streams([STREAM])
            .build_over(over.clone())
            .await
            .unwrap();
        let a = node(over, "/ip4/127.0.0.1/tcp/0".parse().unwrap()).await;
        a.add_peer(b.peer_id(), [circuit(&relay)]).await.unwrap();
        a.connect(b.peer_id()).await.unwrap();
        establish(&a, &b).await;
        task.abort();
        drop(task.await);
        both_ways(&a, &b).await;
        a.shutdown().await;
        b.shutdown().await;
    });
}

/// Nobody helps to a direct connection: the relayed one is used when the wait is over.
#[test]
fn the_relayed_connection_is_used_when_no_direct_one_comes() {
    run_test(async {
        let (relay, _task) = relay().await;
        let mut over = over_relays();
        over.hole_punching = false;
        let b = node(over.clone(), circuit(&relay)).await;
        over.hole_punching = true;
        over.hole_punch_wait = Duration::from_millis(400);
        let a = node(over, "/ip4/127.0.0.1/tcp/0".parse().unwrap()).await;
        a.add_peer(b.peer_id(), [circuit(&relay)]).await.unwrap();
        let began = std::time::Instant::now();
        a.connect(b.peer_id()).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(400), "it did not wait");
        establish(&a, &b).await;
        both_ways(&a, &b).await;
    });
}

#[test]
fn an_address_over_a_relay_names_its_peer_in_its_last_part() {
    run_test(async {
        let (relay, _task) = relay().await;
        let a = node(over_relays(), "/ip4/127.0.0.1/tcp/0".parse().unwrap()).await;
        let peer: PeerId = Keypair::generate_ed25519().public().to_peer_id();
        let other = Keypair::generate_ed25519().public().to_peer_id();
        a.add_peer(peer, [circuit(&relay), circuit(&relay).with_p2p(peer).unwrap()]).await.unwrap();
        a.add_peer(peer, [circuit(&relay).with_p2p(other).unwrap()]).await.unwrap_err();
    });
}
