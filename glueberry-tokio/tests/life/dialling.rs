//! Whom a node dials, by which address, and who waits for it.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{
    AddressError, AddressProblem, Config, ConnectionState, ErrorCode, Multiaddr, Node,
    ReconnectPolicy,
};
use tokio::net::UdpSocket;

use crate::support::{Party, eventually, keypair, quick, run};

/// A socket that answers nothing, and counts what it gets.
async fn silent() -> (Multiaddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while socket.recv(&mut [0; 2048]).await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap(), count)
}

fn stranger(number: u8) -> PeerId {
    keypair(number).public().to_peer_id()
}

#[test]
fn a_connect_does_not_wait_for_64_offline_peers() {
    run(async {
        let (a, b) = (Party::new(Config::default()).await, Party::new(Config::default()).await);
        let (offline, _) = silent().await;
        for number in 1..=64 {
            a.node.add_peer(stranger(number), [offline.clone()]).await.unwrap();
        }
        a.node.autoconnect().await.unwrap();
        a.knows(&b).await;
        // The first of the others are given up after 10 s.
        let connected = tokio::time::timeout(Duration::from_secs(9), a.node.connect(b.id())).await;
        connected.expect("it waits for the others").unwrap();
    });
}

#[test]
fn a_second_connect_joins_the_dial_that_is_under_way() {
    run(async {
        let mut config = quick();
        config.core.dial_timeout = Duration::from_millis(500);
        config.core.reconnect = ReconnectPolicy::never();
        let (mut a, b) = (Party::new(config).await, Party::new(quick()).await);
        let (offline, _) = silent().await;
        a.node.add_peer(stranger(1), [offline]).await.unwrap();
        let (first, second) =
            tokio::join!(a.node.connect(stranger(1)), a.node.connect(stranger(1)));
        for result in [first, second] {
            assert_eq!(result.unwrap_err().code(), ErrorCode::ConnectionFailed);
        }
        a.knows(&b).await;
        let (first, second) = tokio::join!(a.node.connect(b.id()), a.node.connect(b.id()));
        first.unwrap();
        second.unwrap();
        a.until(ConnectionState::Connected).await;
    });
}

#[test]
fn the_address_that_was_last_good_is_tried_first() {
    run(async {
        let (a, b) = (Party::new(quick()).await, Party::new(quick()).await);
        let (dead, packets) = silent().await;
        a.node.add_peer(b.id(), [dead, b.node.addrs()[0].clone()]).await.unwrap();
        a.node.connect(b.id()).await.unwrap();
        assert!(packets.load(Ordering::Relaxed) > 0, "it was tried");
        // On a busy machine the good one may need longer than its head start.
        for _ in 0..20 {
            a.node.disconnect(b.id()).await.unwrap();
            eventually("both know", || b.state(&a) != ConnectionState::Connected).await;
            let before = packets.load(Ordering::Relaxed);
            a.node.connect(b.id()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            if packets.load(Ordering::Relaxed) == before {
                return;
            }
        }
        panic!("the dead address is tried each time");
    });
}

#[test]
fn what_cannot_be_dialled_is_refused_with_the_reason() {
    run(async {
        let a = Party::new(quick()).await;
        let peer = stranger(1);
        let other = stranger(2);
        let dnsaddr = match cfg!(feature = "dnsaddr") {
            true => AddressProblem::AfterDnsaddr("udp"),
            false => AddressProblem::NoDnsaddr,
        };
        let cases = [
            ("/memory/1", AddressProblem::NotIp),
            ("/dnsaddr/example.org/udp/1/quic-v1", dnsaddr),
            ("/ip4/192.0.2.1/tcp/1", AddressProblem::NotUdp),
            ("/ip4/192.0.2.1/udp/1/quic", AddressProblem::NotQuicV1),
            ("/ip4/0.0.0.0/udp/1/quic-v1", AddressProblem::Unspecified),
            ("/ip6/::/udp/1/quic-v1", AddressProblem::Unspecified),
            ("/ip4/192.0.2.1/udp/0/quic-v1", AddressProblem::NoPort),
            ("/ip4/224.0.0.1/udp/1/quic-v1", AddressProblem::Multicast),
            ("", AddressProblem::Empty),
        ];
        let fine: Multiaddr = "/ip4/192.0.2.1/udp/1/quic-v1".parse().unwrap();
        for (text, problem) in cases {
            let address: Multiaddr = text.parse().unwrap();
            let result = a.node.add_peer(peer, [fine.clone(), address.clone()]).await;
            let error = result.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidAddress, "{error}");
            let cause: &AddressError = error.source().unwrap().downcast_ref().unwrap();
            assert_eq!((&cause.address, &cause.problem), (&address, &problem));
            assert_eq!(a.node.peer(peer).await.unwrap_err().code(), ErrorCode::PeerNotFound);
        }
        let named = fine.clone().with_p2p(other).unwrap();
        let error = a.node.add_peer(peer, [named]).await.unwrap_err();
        let cause: &AddressError = error.source().unwrap().downcast_ref().unwrap();
        assert_eq!(cause.problem, AddressProblem::OtherPeer(other));
        a.node.add_peer(peer, [fine.clone().with_p2p(peer).unwrap(), fine]).await.unwrap();
    });
}

#[test]
fn a_node_that_listens_everywhere_says_where_it_can_be_dialled() {
    run(async {
        let a = Party::new(quick()).await;
        for any in ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1"] {
            let built = Node::builder(Keypair::generate_ed25519()).listen(any.parse().unwrap());
            let Ok(everywhere) = built.build().await else {
                continue; // Without IPv6.
            };
            let addrs = everywhere.addrs();
            assert!(addrs.iter().all(|address| !address.to_string().contains("/0.0.0.0/")));
            a.node.add_peer(everywhere.peer_id(), addrs).await.unwrap();
            a.node.connect(everywhere.peer_id()).await.unwrap();
            everywhere.shutdown().await;
        }
    });
}
