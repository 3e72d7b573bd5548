//! Peers that are found: on the local network, and by asking peers.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

use std::net::TcpListener;
use std::time::Duration;

use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{ErrorCode, Event, Events, Handshake, Node};
use libp2p::{Multiaddr, StreamProtocol};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(120);

fn over() -> Libp2p {
    let mut over = Libp2p::default();
    (over.upnp, over.quic, over.dns) = (false, false, false);
    over
}

async fn node(over: Libp2p, listen: Multiaddr) -> Node {
    let builder = Node::builder(Keypair::generate_ed25519()).listen(listen).streams(["chat"]);
    builder.handshake(Handshake::accept_all()).build_over(over).await.unwrap()
}

/// Returns an address of this machine that is free.
fn free() -> Multiaddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port()).parse().unwrap()
}

/// Waits until a peer is found, and returns where.
async fn found(events: &mut Events, wanted: PeerId) -> Multiaddr {
    let wait = async {
        loop {
            match events.recv().await.unwrap() {
                Event::PeerDiscovered { peer, address } if peer == wanted => return address,
                _ => {}
            }
        }
    };
    timeout(LONG, wait).await.unwrap()
}

#[tokio::test]
async fn a_peer_of_a_peer_is_found_by_kademlia_and_dialled() {
    let with_kademlia = || async {
        let (mut over, at) = (over(), free());
        over.kademlia = Some(StreamProtocol::new("/test/kad/1.0.0"));
        over.external_addresses.push(at.clone());
        node(over, at).await
    };
    let (a, b, c) = (with_kademlia().await, with_kademlia().await, with_kademlia().await);
    let mut events = a.events();
    c.dial(b.dial_addrs().remove(0)).await.unwrap();
    a.dial(b.dial_addrs().remove(0)).await.unwrap();
    let address = found(&mut events, c.peer_id()).await;
    assert_eq!(a.dial(address).await.unwrap(), c.peer_id());
    timeout(LONG, a.wait_established(c.peer_id())).await.unwrap().unwrap();
}

#[tokio::test]
async fn kademlia_needs_identify() {
    let mut over = over();
    over.kademlia = Some(StreamProtocol::new("/test/kad/1.0.0"));
    (over.identify, over.hole_punching) = (false, false);
    let error = over.check().unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidConfig);
    assert!(format!("{error:#}").contains("kademlia needs identify"), "{error:#}");
}

#[tokio::test]
async fn a_peer_on_the_local_network_is_found_by_mdns_and_dialled() {
    let with_mdns = || async {
        let mut over = over();
        over.mdns = true;
        // It announces what it listens on at the network's interfaces.
        node(over, "/ip4/0.0.0.0/tcp/0".parse().unwrap()).await
    };
    let (a, b) = (with_mdns().await, with_mdns().await);
    if a.addrs().iter().all(|address| address.to_string().starts_with("/ip4/127.")) {
        println!("SKIPPED: this machine has no network but the loopback, which mDNS leaves out");
        return;
    }
    let mut events = a.events();
    let address = found(&mut events, b.peer_id()).await;
    assert_eq!(a.dial(address).await.unwrap(), b.peer_id());
    timeout(LONG, a.wait_established(b.peer_id())).await.unwrap().unwrap();
}
