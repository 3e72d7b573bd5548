//! One of three parties of `.ci/nat`: a relay, or one of two nodes behind NATs.
//!
//! ```text
//! nat-peer relay IP
//! nat-peer listen udp|tcp RELAY
//! nat-peer dial udp|tcp RELAY PEER
//! ```
//!
//! Each tells what happens on a line of its own. The one that dials waits, once Established, for a
//! line of input; then its numbered messages must come back in order, without a gap.
#![expect(clippy::print_stdout, reason = "the lines are what it is for")]
#![expect(clippy::unwrap_used, reason = "a program for tests, which notice when it fails")]

use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{Config, ConnectionState, Event, Node, PublicKey};
use libp2p::futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, SwarmBuilder, identify, noise, relay, tcp, yamux};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["relay", ip] => relays(ip).await,
        ["listen", transport, relay] => echoes(transport, &relay.parse().unwrap()).await,
        ["dial", transport, relay, peer] => {
            dials(transport, &relay.parse().unwrap(), peer.parse().unwrap()).await;
        }
        _ => panic!("see the documentation"),
    }
}

#[derive(NetworkBehaviour)]
struct Relay {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
}

async fn relays(ip: &str) {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|key| Relay {
            relay: relay::Behaviour::new(key.public().to_peer_id(), relay::Config::default()),
            identify: identify::Behaviour::new(identify::Config::new(
                "/relay/1.0.0".to_owned(),
                key.public(),
            )),
        })
        .unwrap()
        .build();
    for transport in ["udp/4001/quic-v1", "tcp/4001"] {
        let address: Multiaddr = format!("/ip4/{ip}/{transport}").parse().unwrap();
        swarm.listen_on(address.clone()).unwrap();
        swarm.add_external_address(address);
    }
    println!("relay {}", swarm.local_peer_id());
    loop {
        if let SwarmEvent::Behaviour(RelayEvent::Relay(
            event @ relay::Event::CircuitReqAccepted { .. },
        )) = swarm.select_next_some().await
        {
            println!("relayed {event:?}");
        }
    }
}

/// A node that listens, and over which everything else is as by default. It knows no upnp router.
async fn node(transport: &str, relay: Option<&Multiaddr>) -> Node {
    let mut over = Libp2p::default();
    over.upnp = false;
    over.tcp = transport == "tcp";
    over.quic = transport == "udp";
    let listen = match transport {
        "udp" => "/ip4/0.0.0.0/udp/0/quic-v1",
        _ => "/ip4/0.0.0.0/tcp/0",
    };
    let mut builder = Node::builder(Keypair::generate_ed25519())
        .config(Config::default())
        .listen(listen.parse().unwrap())
        .streams([STREAM]);
    if let Some(relay) = relay {
        builder = builder.listen(circuit(relay));
    }
    builder.build_over(over).await.unwrap()
}

fn circuit(relay: &Multiaddr) -> Multiaddr {
    relay.clone().with(Protocol::P2pCircuit)
}

async fn echoes(transport: &str, relay: &Multiaddr) {
    let node = node(transport, Some(relay)).await;
    let mut messages = node.messages().unwrap();
    greets(&node);
    println!("listening {}", node.peer_id());
    while let Some(message) = messages.recv().await {
        node.send(message.peer, STREAM, message.data).await.unwrap();
    }
}

async fn dials(transport: &str, relay: &Multiaddr, peer: PeerId) {
    let node = node(transport, None).await;
    let (mut messages, mut events) = (node.messages().unwrap(), node.events());
    greets(&node);
    node.add_peer(peer, [circuit(relay)]).await.unwrap();
    node.connect(peer).await.unwrap();
    while node.connection_state(peer) != ConnectionState::Established {
        events.recv().await.unwrap();
    }
    println!("established {peer}");
    BufReader::new(tokio::io::stdin()).lines().next_line().await.unwrap();
    let sender = node.clone();
    tokio::spawn(async move {
        for number in 0..MESSAGES {
            sender.send(peer, STREAM, number.to_be_bytes().to_vec()).await.unwrap();
        }
    });
    for number in 0..MESSAGES {
        let echo = messages.recv().await.unwrap();
        assert_eq!(echo.data, number.to_be_bytes().to_vec());
    }
    println!("contiguous {MESSAGES}");
    node.shutdown().await;
}

/// Completes every handshake at once, and tells each change of a peer's state.
fn greets(node: &Node) {
    let (node, mut events) = (node.clone(), node.events());
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let Event::State(changed) = event else { continue };
            println!("state {} {}", changed.peer, changed.state);
            if changed.state == ConnectionState::Connected {
                let key = PublicKey::try_from(&changed.peer).unwrap();
                node.complete_handshake(changed.peer, key, &[STREAM]).await.unwrap();
            }
        }
    });
}

const STREAM: &str = "numbers";
const MESSAGES: u32 = 10_000;
