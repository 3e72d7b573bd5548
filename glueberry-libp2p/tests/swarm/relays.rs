//! Nodes that reach each other over a relay, and from there directly.

use std::time::Duration;

use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{ConnectionState, ErrorCode, Event, Events, HANDSHAKE, Node};
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
    relay_at(Keypair::generate_ed25519(), "/ip4/127.0.0.1/tcp/0".parse().unwrap()).await
}

/// What attackers send is not to end at the relay.
fn limits() -> relay::Config {
    relay::Config { max_circuit_bytes: 1 << 30, ..relay::Config::default() }
}

pub(crate) async fn relay_at(identity: Keypair, at: Multiaddr) -> (Multiaddr, JoinHandle<()>) {
    let mut swarm = SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|key| Relay {
            relay: relay::Behaviour::new(key.public().to_peer_id(), limits()),
            identify: identify::Behaviour::new(identify::Config::new(
                "/relay/1.0.0".to_owned(),
                key.public(),
            )),
        })
        .unwrap()
        .build();
    swarm.listen_on(at).unwrap();
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

pub(crate) async fn node(over: Libp2p, listen: Multiaddr) -> Node {
    Node::builder(Keypair::generate_ed25519())
        .listen(listen)
        .streams([STREAM])
        .build_over(over)
        .await
        .unwrap()
}

pub(crate) fn over_relays() -> Libp2p {
    let mut over = Libp2p::default();
    over.upnp = false;
    over.quic = false;
    over.dns = false;
    over
}

pub(crate) fn circuit(relay: &Multiaddr) -> Multiaddr {
    relay.clone().with(libp2p::multiaddr::Protocol::P2pCircuit)
}

pub(crate) async fn establish(a: &Node, b: &Node) {
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

pub(crate) async fn both_ways(a: &Node, b: &Node) {
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

/// A ready-made node can be the relay, and is none by default.
#[test]
fn a_node_relays_for_others_if_it_is_to() {
    run_test(async {
        for is_relay in [true, false] {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let at: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", free.port()).parse().unwrap();
            let mut relaying = over_relays();
            relaying.relay_server = is_relay;
            relaying.external_addresses.push(at.clone());
            let relaying = node(relaying, at).await;
            let relay = relaying.dial_addrs().remove(0);
            let hidden = Node::builder(Keypair::generate_ed25519()).listen(circuit(&relay));
            let mut over = over_relays();
            over.hole_punching = false;
            let hidden = hidden.streams([STREAM]).build_over(over.clone()).await;
            if !is_relay {
                assert_eq!(hidden.unwrap_err().code(), ErrorCode::ListenFailed);
                continue;
            }
            let hidden = hidden.unwrap();
            let other = node(over, "/ip4/127.0.0.1/tcp/0".parse().unwrap()).await;
            other.add_peer(hidden.peer_id(), [circuit(&relay)]).await.unwrap();
            other.connect(hidden.peer_id()).await.unwrap();
            establish(&other, &hidden).await;
            both_ways(&other, &hidden).await;
        }
    });
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

/// What peers send over a relay comes on the relay's connection, which has no session of its own. It
/// has the window of one substream more for each session that it carries, for as long as that lives.
#[test]
fn the_connection_to_a_relay_has_room_for_what_it_carries() {
    run_test(async {
        let any = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
        let (relay, _task) = relay_at(Keypair::generate_ed25519(), any).await;
        let mut over = over_relays();
        (over.tcp, over.quic, over.hole_punching) = (false, true, false);
        let b = node(over.clone(), circuit(&relay)).await;
        let a = node(over, "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).await;
        a.add_peer(b.peer_id(), [circuit(&relay)]).await.unwrap();
        a.connect(b.peer_id()).await.unwrap();
        let held = async |node: &Node| node.debug_state().await.unwrap().held_bytes;
        assert_eq!((held(&a).await, held(&b).await), (0, 0));
        establish(&a, &b).await;
        both_ways(&a, &b).await;
        let window = 512 * 1024;
        eventually(|| async { held(&a).await >= window && held(&b).await >= window }).await;
        a.disconnect(b.peer_id()).await.unwrap();
        eventually(|| async { held(&a).await < window && held(&b).await < window }).await;
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

/// The next event about a listener: true if it listens again.
async fn listener_event(events: &mut Events) -> bool {
    loop {
        match events.recv().await.expect("the node runs") {
            Event::ListenerLost { .. } => return false,
            Event::ListenerRestored { .. } => return true,
            _ => {}
        }
    }
}

#[test]
fn a_relay_that_is_restarted_is_used_again() {
    run_test(async {
        let identity = Keypair::generate_ed25519();
        let any = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
        let (relay, task) = relay_at(identity.clone(), any).await;
        let mut over = over_relays();
        over.hole_punching = false;
        let b = node(over.clone(), circuit(&relay)).await;
        let mut events = b.events();
        assert!(!b.addrs().is_empty());
        task.abort();
        drop(task.await);
        assert!(!listener_event(&mut events).await);
        assert!(b.addrs().is_empty(), "{:?}", b.addrs());
        let at: Multiaddr = relay.iter().take(2).collect();
        let (again, _task) = relay_at(identity, at).await;
        assert_eq!(again, relay);
        assert!(listener_event(&mut events).await);
        let a = node(over, "/ip4/127.0.0.1/tcp/0".parse().unwrap()).await;
        a.add_peer(b.peer_id(), [circuit(&relay)]).await.unwrap();
        a.connect(b.peer_id()).await.unwrap();
        establish(&a, &b).await;
        both_ways(&a, &b).await;
    });
}

#[test]
fn a_node_starts_without_its_relay_if_it_listens_elsewhere() {
    run_test(async {
        let nobody = Keypair::generate_ed25519().public().to_peer_id();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let gone: Multiaddr =
            format!("/ip4/127.0.0.1/tcp/{}/p2p/{nobody}", closed.port()).parse().unwrap();
        let alone = Node::builder(Keypair::generate_ed25519())
            .listen(circuit(&gone))
            .build_over(over_relays())
            .await;
        assert_eq!(alone.unwrap_err().code(), ErrorCode::ListenFailed);
        let b = Node::builder(Keypair::generate_ed25519())
            .listen(circuit(&gone))
            .listen("/ip4/127.0.0.1/tcp/0".parse().unwrap())
            .streams([STREAM])
            .build_over(over_relays())
            .await
            .unwrap();
        let a = node(over_relays(), "/ip4/127.0.0.1/tcp/0".parse().unwrap()).await;
        a.add_peer(b.peer_id(), b.addrs()).await.unwrap();
        a.connect(b.peer_id()).await.unwrap();
    });
}
