//! Peers that have proven nothing, and addresses that nobody answers at.

use std::collections::BTreeMap;
use std::time::Duration;

use glueberry_libp2p::Libp2p;
use glueberry_tokio::adapter::QuicParts;
use glueberry_tokio::adapter::quinn::{TransportConfig, VarInt};
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::proto::DialError;
use glueberry_tokio::runtime::TokioRuntime;
use glueberry_tokio::{CloseReason, Config, ConnectionState, Event, Multiaddr, Node, StateReason};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::{Party, STREAM, eventually, run_test};

async fn node(config: Config) -> Node {
    let mut over = Libp2p::default();
    over.upnp = false;
    Node::builder(Keypair::generate_ed25519())
        .config(config)
        .listen("/ip4/127.0.0.1/tcp/0".parse().unwrap())
        .streams([STREAM])
        .build_over(over)
        .await
        .unwrap()
}

fn port(address: &Multiaddr) -> u16 {
    address.to_string().split('/').nth(4).unwrap().parse().unwrap()
}

#[test]
fn connections_that_say_nothing_shut_nobody_out() {
    run_test(async {
        let mut config = Config::default();
        config.max_incoming = 8;
        config.core.dial_timeout = Duration::from_secs(5);
        let victim = node(config.clone()).await;
        let mut silent = Vec::new();
        for _ in 0..40 {
            let port = port(&victim.addrs()[0]);
            silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        let honest = node(config).await;
        honest.add_peer(victim.peer_id(), victim.addrs()).await.unwrap();
        honest.connect(victim.peer_id()).await.unwrap();
        // Those that had to give way were closed.
        let mut rest = Vec::new();
        silent[0].read_to_end(&mut rest).await.unwrap();
    });
}

#[test]
fn a_dial_that_is_given_up_holds_no_socket() {
    run_test(async {
        let mut config = Config::default();
        config.core.dial_timeout = Duration::from_millis(300);
        config.core.reconnect.max_attempts = Some(0);
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("/ip4/127.0.0.1/tcp/{}", target.local_addr().unwrap().port());
        let dialler = node(config).await;
        let nobody = Keypair::generate_ed25519().public().to_peer_id();
        dialler.add_peer(nobody, [address.parse().unwrap()]).await.unwrap();
        let connect = dialler.connect(nobody);
        let accepted = async {
            let (mut socket, _) = target.accept().await.unwrap();
            let mut said = Vec::new();
            socket.read_to_end(&mut said).await.unwrap();
        };
        let (connected, ()) = tokio::join!(connect, accepted);
        connected.unwrap_err();
        eventually(|| async { dialler.connection_state(nobody) == ConnectionState::Disconnected })
            .await;
    });
}

/// First packets of QUIC's handshakes that go no further, as with a forged source address.
#[test]
fn first_flights_without_a_second_shut_nobody_out() {
    run_test(async {
        let mut config = Config::default();
        config.max_incoming = 8;
        config.core.dial_timeout = Duration::from_secs(3);
        config.core.reconnect.max_attempts = Some(0);
        let node = || {
            let mut over = Libp2p::default();
            over.upnp = false;
            Node::builder(Keypair::generate_ed25519())
                .config(config.clone())
                .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap())
                .streams([STREAM])
                .build_over(over)
        };
        let (victim, honest) = (node().await.unwrap(), node().await.unwrap());
        let from = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (to, _) = QuicParts::parse(&victim.addrs()[0]).unwrap();
        for flight in first_flights(200).await {
            from.send_to(&flight, to).await.unwrap();
        }
        honest.add_peer(victim.peer_id(), victim.addrs()).await.unwrap();
        honest.connect(victim.peer_id()).await.unwrap();
    });
}

/// Returns the first datagrams of handshakes, each of another connection.
async fn first_flights(count: usize) -> Vec<Vec<u8>> {
    let runtime = TokioRuntime::current().unwrap();
    let keys = Keypair::generate_ed25519();
    let parts = QuicParts::new(&keys, TransportConfig::default(), &runtime).unwrap();
    let hole = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = hole.local_addr().unwrap();
    let endpoint = parts.dialler(to.ip()).unwrap();
    // Kept, or each would say goodbye, and free its place.
    let mut dials = Vec::new();
    let mut flights = BTreeMap::new();
    while flights.len() < count {
        if dials.len() < count {
            dials.push(parts.dial(&endpoint, to).unwrap());
        }
        let mut flight = vec![0; 2048];
        let len = hole.recv(&mut flight).await.unwrap();
        flight.truncate(len);
        // By the connection's first id; what follows on it is sent again or belongs to it.
        let id = flight[6..][..usize::from(flight[5])].to_vec();
        flights.entry(id).or_insert(flight);
    }
    flights.into_values().collect()
}

/// Over QUIC, the substreams of a connection that is lost fail before it does.
#[test]
fn a_peer_that_hangs_up_at_once_is_no_failed_handshake() {
    run_test(async {
        let keys = Keypair::generate_ed25519();
        let runtime = TokioRuntime::current().unwrap();
        let parts = QuicParts::new(&keys, TransportConfig::default(), &runtime).unwrap();
        let (endpoint, _) = parts.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = QuicParts::address(endpoint.local_addr().unwrap());
        let hanging_up = tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                incoming.await.unwrap().close(VarInt::from_u32(9), b"enough");
            }
        });
        let mut config = Config::default();
        config.core.reconnect.max_attempts = Some(0);
        let (dialler, peer) = (node(config).await, keys.public().to_peer_id());
        let mut events = dialler.events_for_peer(peer);
        dialler.add_peer(peer, [address]).await.unwrap();
        for _ in 0..5 {
            dialler.connect(peer).await.unwrap_err();
            let error = loop {
                if let Event::State(changed) = events.recv().await.unwrap()
                    && let Some(StateReason::DialFailed(error)) = changed.reason
                {
                    break error;
                }
            };
            let is_lost = matches!(
                error,
                DialError::Session(CloseReason::ConnectionLost(_)) | DialError::Transport(_)
            );
            assert!(is_lost, "{error:?}");
        }
        hanging_up.abort();
    });
}

/// A node that keeps connections for as long as anybody wants them.
async fn patient(config: Config) -> Node {
    let mut over = Libp2p::default();
    over.upnp = false;
    over.idle_timeout = Duration::from_secs(600);
    Node::builder(Keypair::generate_ed25519())
        .config(config)
        .listen("/ip4/127.0.0.1/tcp/0".parse().unwrap())
        .streams([STREAM])
        .build_over(over)
        .await
        .unwrap()
}

#[test]
fn connections_that_are_not_used_give_way_to_newer_ones() {
    run_test(async {
        let mut config = Config::default();
        config.core.max_pending_sessions = 2;
        config.core.negotiation_timeout = Duration::from_secs(600);
        let node = patient(config).await;
        let mut strangers = Vec::new();
        for _ in 0..4 {
            let stranger = Party::new().await;
            stranger.swarm_dials_to(node.addrs()[0].clone()).await;
            eventually(|| async { stranger.connections().await == 1 }).await;
            strangers.push(stranger);
        }
        for (number, stranger) in strangers.iter().enumerate() {
            eventually(|| async { stranger.connections().await == u32::from(number >= 2) }).await;
        }
    });
}

#[test]
fn a_connection_that_is_not_used_is_closed_in_time() {
    run_test(async {
        let mut config = Config::default();
        config.core.negotiation_timeout = Duration::from_millis(500);
        let node = patient(config).await;
        let (stranger, peer) = (Party::new().await, Party::new().await);
        peer.node.add_peer(node.peer_id(), node.addrs()).await.unwrap();
        peer.node.connect(node.peer_id()).await.unwrap();
        stranger.swarm_dials_to(node.addrs()[0].clone()).await;
        eventually(|| async { stranger.connections().await == 1 }).await;
        eventually(|| async { stranger.connections().await == 0 }).await;
        assert_eq!(node.connection_state(peer.id()), ConnectionState::Connected);
    });
}

/// Over the address of an interface, since the loopback has no interface to act on.
#[test]
fn strangers_of_one_network_come_only_so_often() {
    run_test(async {
        let mut config = Config::default();
        config.strangers_per_minute = 2;
        config.core.reconnect.max_attempts = Some(0);
        let mut over = Libp2p::default();
        over.upnp = false;
        let victim = Node::builder(Keypair::generate_ed25519())
            .config(config.clone())
            .listen("/ip4/0.0.0.0/tcp/0".parse().unwrap())
            .streams([STREAM])
            .build_over(over)
            .await
            .unwrap();
        let of_interface = |address: &Multiaddr| {
            let text = address.to_string();
            text.starts_with("/ip4/") && !text.starts_with("/ip4/127.")
        };
        let Some(address) = victim.addrs().into_iter().find(of_interface) else {
            return eprintln!("SKIPPED: this machine has no interface but the loopback");
        };
        let mut events = victim.events_for_states([ConnectionState::Connected]);
        let mut strangers = Vec::new();
        for _ in 0..6 {
            let stranger = node(config.clone()).await;
            stranger.add_peer(victim.peer_id(), [address.clone()]).await.unwrap();
            // One that is refused may learn it a moment after it was connected.
            drop(stranger.connect(victim.peer_id()).await);
            strangers.push(stranger);
        }
        let known = node(config).await;
        victim.add_peer(known.peer_id(), known.addrs()).await.unwrap();
        known.add_peer(victim.peer_id(), [address]).await.unwrap();
        known.connect(victim.peer_id()).await.unwrap();
        let mut connected = 0;
        while events.recv().await.unwrap().peer() != Some(known.peer_id()) {
            connected += 1;
        }
        assert_eq!(connected, 2);
    });
}
