//! Strangers who come over the same relay as others.

use std::time::Duration;

use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::proto::Profile;
use glueberry_tokio::{Config, ConnectionState, HANDSHAKE, Node};
use libp2p::futures::{AsyncWriteExt, StreamExt};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, SwarmBuilder, noise, relay, tcp, yamux};

use crate::relays::{both_ways, circuit, establish, node, over_relays, relay_at};
use crate::support::{eventually, run_test};

#[derive(NetworkBehaviour)]
struct Stranger {
    relay: relay::client::Behaviour,
    stream: libp2p_stream::Behaviour,
}

/// Connects over a relay, and writes on substreams that wait for a handshake as much as it can.
async fn writes_ahead(to: Multiaddr, peer: PeerId) {
    let mut swarm = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_, relay| Stranger { relay, stream: libp2p_stream::Behaviour::new() })
        .unwrap()
        .build();
    let control = swarm.behaviour().stream.new_control();
    swarm.dial(DialOpts::peer_id(peer).addresses(vec![to]).build()).unwrap();
    loop {
        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await
            && peer_id == peer
        {
            break;
        }
    }
    let writing = (0..4).map(|_| {
        let mut control = control.clone();
        async move {
            let name = StreamProtocol::new("/glueberry/stream/chat/1.0.0");
            if let Ok(mut stream) = control.open_stream(peer, name).await {
                while stream.write_all(&[7; 4096]).await.is_ok() {}
            }
        }
    });
    let driving = async move {
        loop {
            swarm.select_next_some().await;
        }
    };
    // It stays when it can write no more.
    tokio::join!(libp2p::futures::future::join_all(writing), driving);
}

/// All that comes over a relay comes on one connection, and what one peer may not send must not keep that
/// of the others back.
#[test]
fn who_sends_too_much_over_a_relay_holds_up_no_other() {
    run_test(async {
        for (listen, is_quic) in
            [("/ip4/127.0.0.1/tcp/0", false), ("/ip4/127.0.0.1/udp/0/quic-v1", true)]
        {
            let listen: Multiaddr = listen.parse().unwrap();
            let (relay, _task) = relay_at(Keypair::generate_ed25519(), listen.clone()).await;
            let mut over = over_relays();
            (over.tcp, over.quic, over.hole_punching) = (!is_quic, is_quic, false);
            let b = node(over.clone(), circuit(&relay)).await;
            let a = node(over, listen).await;
            a.add_peer(b.peer_id(), [circuit(&relay)]).await.unwrap();
            a.connect(b.peer_id()).await.unwrap();
            establish(&a, &b).await;
            let strangers: Vec<_> =
                (0..3).map(|_| tokio::spawn(writes_ahead(circuit(&relay), b.peer_id()))).collect();
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let exchanged = tokio::time::timeout(Duration::from_secs(5), both_ways(&a, &b));
                exchanged.await.expect("what others send holds nothing up");
            }
            strangers.iter().for_each(tokio::task::JoinHandle::abort);
        }
    });
}

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

async fn node_of_v1(over: Libp2p, listen: Multiaddr) -> Node {
    let mut config = Config::default();
    config.core.profiles = vec![Profile::V1];
    let builder = Node::builder(Keypair::generate_ed25519()).config(config);
    builder.listen(listen).streams(NAMES).build_over(over).await.unwrap()
}

/// In v1 one side is Established first. What it sends on its streams then waits, as much as their windows
/// hold.
#[test]
fn who_is_established_first_may_fill_its_streams_over_a_relay() {
    run_test(async {
        let listen: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
        let (relay, _task) = relay_at(Keypair::generate_ed25519(), listen.clone()).await;
        let mut over = over_relays();
        over.hole_punching = false;
        let b = node_of_v1(over.clone(), circuit(&relay)).await;
        let a = node_of_v1(over, listen).await;
        a.add_peer(b.peer_id(), [circuit(&relay)]).await.unwrap();
        a.connect(b.peer_id()).await.unwrap();
        a.send(b.peer_id(), HANDSHAKE, "hello").await.unwrap();
        eventually(|| async { b.connection_state(a.peer_id()) == ConnectionState::Connected })
            .await;
        a.complete_handshake(b.peer_id(), b.public_key(), &NAMES).await.unwrap();
        for _ in 0..25 {
            for name in NAMES {
                a.send(b.peer_id(), name, vec![7; 16 * 1024]).await.unwrap();
            }
        }
        // As long as somebody may need to decide.
        tokio::time::sleep(Duration::from_secs(2)).await;
        b.complete_handshake(a.peer_id(), a.public_key(), &NAMES).await.unwrap();
        let mut messages = b.messages().unwrap();
        let mut count = 0;
        while count < 25 * NAMES.len() {
            let next = tokio::time::timeout(Duration::from_secs(30), messages.recv()).await;
            let message = next.expect("it was cut off").expect("b runs");
            count += usize::from(!message.is_handshake());
        }
    });
}
