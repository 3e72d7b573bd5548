//! Peers that have proven nothing, addresses that nobody answers at, and a node that was restarted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::proto::{ConnectionLost, ReconnectPolicy};
use glueberry_tokio::{CloseReason, Config, ConnectionState, Event, Multiaddr, Node};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::error::TrySendError;

use crate::support::{Party, STREAMS, any_port, keypair, quick, run, socket};

/// First packets of handshakes that go no further, as with a forged source address.
#[test]
fn first_flights_without_a_second_shut_nobody_out() {
    run(async {
        // By default silence has to last much longer than a dial before a handshake is given up.
        let mut config = Config::default();
        config.core.dial_timeout = Duration::from_secs(3);
        let victim = Party::greeting(config.clone()).await;
        let flood = first_flights(&victim.node, 200).await;
        let from = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for flight in &flood {
            from.send_to(flight, socket(&victim.node.addrs()[0])).await.unwrap();
        }
        let mut honest = Party::greeting(config).await;
        honest.dial(&victim).await;
        honest.until(ConnectionState::Established).await;
    });
}

/// Handshakes of peers that have proven their addresses, and then say nothing more.
#[test]
fn handshakes_that_stall_shut_nobody_out() {
    run(async {
        let mut config = Config::default();
        config.max_incoming = 8;
        // Less than a handshake may last.
        config.core.dial_timeout = Duration::from_secs(4);
        config.core.reconnect = ReconnectPolicy::never();
        let victim = Party::greeting(config.clone()).await;
        let mut stalled = Vec::new();
        for _ in 0..24 {
            stalled.push(Stalled::start(&victim.node).await);
        }
        for one in &mut stalled[..8] {
            one.until_accepted().await;
        }
        let mut honest = Party::greeting(config).await;
        honest.dial(&victim).await;
        honest.until(ConnectionState::Established).await;
    });
}

/// A client that gets nothing of a server but what asks it to prove its address.
struct Stalled {
    _client: quinn::Endpoint,
    _connecting: quinn::Connecting,
    /// Says when the server has answered otherwise, and so has accepted the handshake.
    accepted: tokio::sync::mpsc::Receiver<()>,
}

impl Stalled {
    async fn start(to: &Node) -> Self {
        let client = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let (front, back) = (
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        );
        let between = front.local_addr().unwrap();
        let (from, server) = (client.local_addr().unwrap(), socket(&to.addrs()[0]));
        let (sender, accepted) = tokio::sync::mpsc::channel(64);
        tokio::spawn(async move {
            let (mut out, mut home) = (vec![0; 2048], vec![0; 2048]);
            loop {
                tokio::select! {
                    Ok((len, _)) = front.recv_from(&mut out) => {
                        drop(back.send_to(&out[..len], server).await);
                    }
                    Ok((len, _)) = back.recv_from(&mut home) => {
                        // A long header of the type Retry (RFC 9000, section 17.2.5).
                        if home[0] & 0xf0 == 0xf0 {
                            drop(front.send_to(&home[..len], from).await);
                        } else if matches!(sender.try_send(()), Err(TrySendError::Closed(()))) {
                            return;
                        }
                    }
                }
            }
        });
        let tls = libp2p_tls::make_client_config(&Keypair::generate_ed25519(), Some(to.peer_id()));
        let config = QuicClientConfig::try_from(tls.unwrap()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(config));
        let connecting = client.connect_with(config, between, "l").unwrap();
        Self { _client: client, _connecting: connecting, accepted }
    }

    /// Waits until the server has accepted it, or for a moment: others may have had its place.
    async fn until_accepted(&mut self) {
        drop(tokio::time::timeout(Duration::from_millis(50), self.accepted.recv()).await);
    }
}

/// Returns the first datagrams of handshakes with a node, each of another connection.
async fn first_flights(to: &Node, count: usize) -> Vec<Vec<u8>> {
    let tls =
        libp2p_tls::make_client_config(&Keypair::generate_ed25519(), Some(to.peer_id())).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let hole = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let client = quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        None,
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap(),
        Arc::new(quinn::TokioRuntime),
    )
    .unwrap();
    // Kept, or each would say goodbye, and free its place.
    let mut connecting = Vec::new();
    let mut flights = BTreeMap::new();
    while flights.len() < count {
        if connecting.len() < count {
            let to = hole.local_addr().unwrap();
            connecting.push(client.connect_with(config.clone(), to, "l").unwrap());
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

#[test]
fn addresses_that_nobody_answers_at_do_not_keep_a_peer_from_being_reached() {
    run(async {
        let mut config = quick();
        config.core.dial_timeout = Duration::from_secs(5);
        let mut silent: Vec<UdpSocket> = Vec::new();
        for _ in 0..3 {
            silent.push(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        }
        let mut addresses: Vec<Multiaddr> = silent.iter().map(address).collect();
        let (mut a, b) = (Party::greeting(config.clone()).await, Party::greeting(config).await);
        addresses.extend(b.node.addrs());
        a.node.add_peer(b.id(), addresses).await.unwrap();
        a.node.connect(b.id()).await.unwrap();
        a.until(ConnectionState::Established).await;
    });
}

fn address(socket: &UdpSocket) -> Multiaddr {
    let port = socket.local_addr().unwrap().port();
    format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap()
}

/// The peer's process ends without a word, and another begins at its place: the first packet that
/// reaches it is answered by a stateless reset, long before silence would tell.
#[test]
fn a_peer_that_was_restarted_is_noticed_by_its_first_answer() {
    run(async {
        let mut config = quick();
        // Silence alone would take a hundred seconds to notice.
        config.lost_after = 1_000;
        config.keep_alive = Duration::from_millis(100);
        let mut a = Party::greeting(config.clone()).await;
        let first = Killable::start(any_port(), config.clone());
        let place = first.node.addrs()[0].clone();
        a.node.add_peer(first.node.peer_id(), vec![place.clone()]).await.unwrap();
        a.node.connect(first.node.peer_id()).await.unwrap();
        a.until(ConnectionState::Established).await;
        first.kill();
        let second = Killable::start(place, config);
        let reason = a
            .event(|event| match event {
                Event::SessionClosed { closed, .. } => Some(closed.reason),
                _ => None,
            })
            .await;
        assert_eq!(reason, CloseReason::ConnectionLost(ConnectionLost::Reset));
        second.kill();
    });
}

/// A node on a runtime of its own, which can be ended with all that runs on it.
struct Killable {
    node: Node,
    runtime: tokio::runtime::Runtime,
}

impl Killable {
    fn start(listen: Multiaddr, config: Config) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            let node = Node::builder(keypair(77))
                .streams(STREAMS)
                .config(config)
                .listen(listen)
                .build()
                .await
                .unwrap();
            crate::support::greet(node.clone());
            sender.send(node).unwrap();
        });
        let node = tokio::task::block_in_place(|| receiver.recv().unwrap());
        Self { node, runtime }
    }

    /// Drops every task where it is. Nothing is said to peers.
    fn kill(self) {
        tokio::task::block_in_place(|| self.runtime.shutdown_timeout(Duration::from_secs(5)));
        drop(self.node);
    }
}

/// An address that changes, as by a NAT that rebinds, keeps the session and what is under way.
#[test]
fn a_session_survives_a_new_address_of_the_peer() {
    run(async {
        let mut b = Party::greeting(quick()).await;
        let mut a = Party::greeting(quick()).await;
        let relay = crate::support::Relay::to(&b.node).await;
        a.node.add_peer(b.id(), vec![relay.address()]).await.unwrap();
        a.node.connect(b.id()).await.unwrap();
        a.until(ConnectionState::Established).await;
        for number in 0..20_u8 {
            if number == 10 {
                relay.rebind();
            }
            a.node.send(b.id(), "chat", vec![number]).await.unwrap();
            assert_eq!(b.message().await.data, [number][..]);
        }
        assert_eq!(a.state(&b), ConnectionState::Established);
    });
}
