//! Each part of the ready-made node can be switched off, and is off then; the rest goes on.

use std::error::Error as _;
use std::time::Duration;

use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{
    AddressError, AddressProblem, Config, ConnectionState, Error, ErrorCode, Node,
};
use libp2p::StreamProtocol;
use libp2p_stream::OpenStreamError;

use crate::support::{Party, STREAM, eventually, run_test};

/// Long enough for a connection to be made and refused.
const WHILE: Duration = Duration::from_millis(300);
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// Everything but `upnp`, which would go and look for a router.
fn all() -> Libp2p {
    let mut over = Libp2p::default();
    over.upnp = false;
    over
}

async fn node(over: Libp2p, listen: &str) -> Result<Node, Error> {
    configured(over, listen, Config::default()).await
}

async fn configured(over: Libp2p, listen: &str, config: Config) -> Result<Node, Error> {
    Node::builder(Keypair::generate_ed25519())
        .config(config)
        .listen(listen.parse().unwrap())
        .streams([STREAM])
        .build_over(over)
        .await
}

/// How a part shows, and what switches it off.
type Part = (&'static str, fn(&mut Libp2p));

/// A peer is answered on these protocols while the part is on.
const PARTS: [Part; 4] = [
    ("/ipfs/ping/1.0.0", |over| over.ping = false),
    ("/ipfs/id/1.0.0", |over| (over.identify, over.hole_punching) = (false, false)),
    ("/libp2p/autonat/2/dial-request", |over| over.autonat = false),
    ("/libp2p/circuit/relay/0.2.0/stop", |over| (over.relay, over.hole_punching) = (false, false)),
];

#[test]
fn a_part_that_is_off_is_not_spoken_and_the_node_is_none_the_worse() {
    run_test(async {
        let party = Party::new().await;
        for (protocol, off) in PARTS {
            assert!(is_answered(&node(all(), TCP).await.unwrap(), protocol).await);
            let mut over = all();
            off(&mut over);
            let without = node(over, TCP).await.unwrap();
            assert!(!is_answered(&without, protocol).await, "{protocol}");
            connects(&without, &party.node, &party.address).await.unwrap();
        }
    });
}

async fn is_answered(node: &Node, protocol: &'static str) -> bool {
    let party = Party::new().await;
    party.swarm_dials_to(node.addrs()[0].clone()).await;
    // Asked before, libp2p-stream would dial by itself, and may never say what came of it.
    eventually(|| async { party.connections().await == 1 }).await;
    let protocol = StreamProtocol::new(protocol);
    match party.other.clone().open_stream(node.peer_id(), protocol).await {
        Ok(_) => true,
        Err(OpenStreamError::UnsupportedProtocol(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn connects(from: &Node, to: &Node, at: &libp2p::Multiaddr) -> Result<(), Error> {
    from.add_peer(to.peer_id(), [at.clone()]).await.unwrap();
    from.connect(to.peer_id()).await?;
    let is_connected =
        || async { to.connection_state(from.peer_id()) == ConnectionState::Connected };
    eventually(is_connected).await;
    Ok(())
}

#[test]
fn a_transport_that_is_off_is_not_listened_on() {
    run_test(async {
        let parts: [Part; 2] = [(TCP, |over| over.tcp = false), (QUIC, |over| over.quic = false)];
        for (listen, off) in parts {
            node(all(), listen).await.unwrap();
            let mut over = all();
            off(&mut over);
            let error = node(over, listen).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidAddress, "{error}");
        }
    });
}

#[test]
fn a_node_listens_under_no_id_but_its_own() {
    run_test(async {
        let other = Keypair::generate_ed25519().public().to_peer_id();
        for listen in [TCP, QUIC] {
            let error = node(all(), &format!("{listen}/p2p/{other}")).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidAddress, "{error:#}");
            let cause: &AddressError = error.source().unwrap().downcast_ref().unwrap();
            assert_eq!(cause.problem, AddressProblem::OtherPeer(other));
            let own = Keypair::generate_ed25519();
            let under_own = format!("{listen}/p2p/{}", own.public().to_peer_id());
            let builder = Node::builder(own).streams([STREAM]).listen(under_own.parse().unwrap());
            builder.build_over(all()).await.unwrap().shutdown().await;
        }
    });
}

/// Each connection may be replaced by another: so there may be two for each session.
#[test]
fn connections_are_limited_to_twice_the_sessions() {
    run_test(async {
        let mut config = Config::default();
        config.core.max_sessions = 1;
        let node = configured(all(), TCP, config).await.unwrap();
        let parties = [Party::new().await, Party::new().await];
        for party in &parties {
            party.swarm_dials_to(node.addrs()[0].clone()).await;
            eventually(|| async { party.connections().await == 1 }).await;
        }
        let third = Party::new().await;
        third.swarm_dials_to(node.addrs()[0].clone()).await;
        tokio::time::sleep(WHILE).await;
        // It is closed as soon as it is there.
        eventually(|| async { third.connections().await == 0 }).await;
        for party in &parties {
            assert_eq!(party.connections().await, 1);
        }
        drop(parties);
        // The node takes a moment to notice.
        let connects = || async {
            if third.connections().await == 0 {
                third.swarm_dials_to(node.addrs()[0].clone()).await;
            }
            tokio::time::sleep(WHILE).await;
            third.connections().await == 1
        };
        eventually(connects).await;
    });
}

#[test]
fn connections_of_one_peer_are_limited_to_twice_its_sessions() {
    run_test(async {
        let mut config = Config::default();
        config.core.max_sessions_per_peer = 2;
        let node = configured(all(), TCP, config).await.unwrap();
        let party = Party::new().await;
        for _ in 0..6 {
            party.swarm_dials_to(node.addrs()[0].clone()).await;
        }
        eventually(|| async { party.connections().await == 4 }).await;
        tokio::time::sleep(WHILE).await;
        assert_eq!(party.connections().await, 4);
    });
}

#[test]
fn names_are_looked_up_only_with_dns() {
    run_test(async {
        let there = node(all(), TCP).await.unwrap();
        let at = there.addrs()[0].to_string().replace("/ip4/127.0.0.1", "/dns4/localhost");
        let at = at.parse().unwrap();
        connects(&node(all(), TCP).await.unwrap(), &there, &at).await.unwrap();
        let mut over = all();
        over.dns = false;
        let error = connects(&node(over, TCP).await.unwrap(), &there, &at).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ConnectionFailed, "{error}");
    });
}

#[test]
fn a_dial_that_fails_says_where_and_why_in_few_words() {
    run_test(async {
        // Nobody listens on a port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let at = format!("/ip4/127.0.0.1/tcp/{}", free.port());
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let from = node(all(), TCP).await.unwrap();
        let error = from.dial(format!("{at}/p2p/{peer}").as_str()).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(&format!("dial failed: {at}: ")), "{text}");
        assert_eq!(text.matches("os error").count(), 1, "{text}");
        assert!(!text.contains(": :") && !text.contains("Multiple"), "{text}");
    });
}

#[test]
fn peers_with_no_security_in_common_do_not_connect() {
    run_test(async {
        let mut tls = all();
        tls.noise = false;
        let mut noise = all();
        noise.tls = false;
        for (over, other) in [(tls.clone(), noise.clone()), (noise, tls)] {
            let there = node(over.clone(), TCP).await.unwrap();
            let at = there.addrs()[0].clone();
            connects(&node(all(), TCP).await.unwrap(), &there, &at).await.unwrap();
            connects(&node(over, TCP).await.unwrap(), &there, &at).await.unwrap();
            let error = connects(&node(other, TCP).await.unwrap(), &there, &at).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::ConnectionFailed, "{error}");
        }
    });
}

#[test]
fn parts_that_need_others_are_refused_without_them() {
    let without: [fn(&mut Libp2p); 4] = [
        |over| (over.tcp, over.quic) = (false, false),
        |over| (over.tls, over.noise) = (false, false),
        |over| over.relay = false,
        |over| over.identify = false,
    ];
    for off in without {
        let mut over = all();
        off(&mut over);
        assert_eq!(over.check().unwrap_err().code(), ErrorCode::InvalidConfig);
    }
}

/// They are only waited for.
#[test]
fn times_may_be_longer_than_a_clock_can_tell() {
    run_test(async {
        let mut config = Config::default();
        let core = &mut config.core;
        (core.negotiation_timeout, core.dial_timeout) = (Duration::MAX, Duration::MAX);
        core.drain_timeout = Duration::MAX;
        for listen in [TCP, QUIC] {
            let mut over = all();
            over.hole_punch_wait = Duration::MAX;
            let a = configured(over.clone(), listen, config.clone()).await.unwrap();
            let b = configured(over, listen, config.clone()).await.unwrap();
            connects(&a, &b, &b.addrs()[0]).await.unwrap();
        }
    });
}
