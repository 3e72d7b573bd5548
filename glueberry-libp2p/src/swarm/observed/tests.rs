use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use futures_util::stream::StreamExt;
use glueberry_tokio::runtime::TokioRuntime;
use glueberry_tokio::{Config, Node};
use libp2p::identity::Keypair;
use libp2p::swarm::{Stream, SwarmEvent};
use libp2p::{StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};

use super::*;
use crate::swarm::behaviours::Behaviours;
use crate::{Behaviour, Libp2p};

const IDENTIFY: StreamProtocol = StreamProtocol::new("/ipfs/id/1.0.0");
const PUSH: StreamProtocol = StreamProtocol::new("/ipfs/id/push/1.0.0");

/// A swarm as a ready-made node has it, and where it listens.
async fn victim(options: &Libp2p) -> (Swarm<Behaviours>, Node, Multiaddr) {
    let identity = Keypair::generate_ed25519();
    let (glueberry, node) = Behaviour::new(Node::builder(identity.clone())).unwrap();
    let (config, runtime) = (Config::default(), TokioRuntime::current().unwrap());
    let runtime: Arc<dyn Runtime> = Arc::new(runtime);
    let behaviours =
        Behaviours::new(options, &identity, &config, glueberry, None, &runtime).unwrap();
    let mut swarm = SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| behaviours)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    (swarm, node, address)
}

fn options() -> Libp2p {
    Libp2p { tcp: true, identify: true, autonat: true, ..Libp2p::bare() }
}

/// Returns a message of identify.
fn message(keys: &Keypair, fields: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut message = Vec::new();
    let key = [(1, keys.public().encode_protobuf())];
    for (number, field) in key.iter().chain(fields) {
        message.extend([number << 3 | 2, u8::try_from(field.len()).unwrap()]);
        message.extend(field);
    }
    let (low, high) = (message.len() & 0x7f, message.len() >> 7);
    let len = [low | if high > 0 { 0x80 } else { 0 }, high].map(|it| u8::try_from(it).unwrap());
    [if high > 0 { &len[..] } else { &len[..1] }, &message].concat()
}

async fn write(mut stream: Stream, message: &[u8]) {
    // It may be broken off.
    drop(stream.write_all(message).await);
    drop(stream.close().await);
    drop(stream.read_to_end(&mut Vec::new()).await);
}

/// Sends `times` messages of identify to the victim, each with the fields that `what` returns.
async fn says(to: Multiaddr, times: u16, what: impl Fn(u16) -> Vec<(u8, Vec<u8>)>) {
    let keys = Keypair::generate_ed25519();
    let mut swarm = SwarmBuilder::with_existing_identity(keys.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .unwrap()
        .build();
    let mut control = swarm.behaviour().new_control();
    let mut asked = control.accept(IDENTIFY).unwrap();
    swarm.dial(to).unwrap();
    let peer = loop {
        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await {
            break peer_id;
        }
    };
    let saying = async {
        let (_, stream) = asked.next().await.unwrap();
        write(stream, &message(&keys, &what(0))).await;
        for number in 1..times {
            let stream = control.open_stream(peer, PUSH).await.unwrap();
            write(stream, &message(&keys, &what(number))).await;
        }
    };
    tokio::select! {
        () = saying => {}
        () = async { loop { swarm.select_next_some().await; } } => {}
    }
}

/// Each time it sees the victim somewhere else.
fn observed(number: u16) -> Vec<(u8, Vec<u8>)> {
    let [high, low] = number.to_be_bytes();
    let address = format!("/ip4/203.0.{high}.{low}/tcp/{}", 1000 + number);
    vec![(4, address.parse::<Multiaddr>().unwrap().to_vec())]
}

/// autonat keeps every address that it has heard of as a candidate, for good.
#[tokio::test]
async fn few_of_a_strangers_observations_are_candidates() {
    let (mut swarm, _node, address) = victim(&options()).await;
    let mut candidates = 0;
    for _ in 0..3 {
        let observing = tokio::spawn(says(address.clone(), 200, observed));
        while !observing.is_finished() {
            let event = tokio::time::timeout(Duration::from_millis(50), swarm.next()).await;
            if let Ok(Some(SwarmEvent::NewExternalAddrCandidate { .. })) = event {
                candidates += 1;
            }
        }
        observing.await.unwrap();
    }
    assert!(candidates > 0, "some are heard");
    assert!(candidates <= 16, "{candidates} candidates");
}

fn address(number: u32) -> Multiaddr {
    format!("/ip4/198.51.100.1/tcp/{number}").parse().unwrap()
}

fn network(number: u8) -> Option<Network> {
    Network::of([203, 0, number, 1].into())
}

/// Strangers from many networks take no places of peers that were dialled, and all places come back.
#[test]
fn candidates_have_places_by_who_observes_them() {
    let began = StdInstant::now();
    let mut candidates = Candidates::new(began);
    let mut heard = 0;
    for number in 0..200 {
        for of in 0..10_u8 {
            let address = address(u32::from(of) * 200 + number + 1);
            heard += u32::from(candidates.hear(&address, false, network(of), began));
        }
    }
    assert_eq!(heard, CANDIDATES_AT_ONCE);
    assert!(!candidates.hear(&address(5000), false, network(77), began));
    assert!(candidates.hear(&address(5000), true, network(77), began));
    assert!(candidates.hear(&address(5000), false, network(78), began), "it is known");
    let later = began + EACH_CANDIDATE;
    assert!(candidates.hear(&address(5001), false, network(77), later));
    assert!(!candidates.hear(&address(5002), false, network(77), later));
    let long: String = (0..60).map(|number| format!("/ip4/198.51.100.{number}")).collect();
    assert!(!candidates.hear(&long.parse().unwrap(), true, network(79), began));
}

#[test]
fn a_network_has_few_new_addresses_at_once() {
    let began = StdInstant::now();
    let mut candidates = Candidates::new(began);
    let heard = (1..100).filter(|it| candidates.hear(&address(*it), true, network(1), began));
    assert_eq!(heard.count(), PER_NETWORK);
    assert!(candidates.hear(&address(1000), true, network(2), began));
}

/// Kademlia keeps every address that a peer has, and tells all of them with each that is new.
#[cfg(feature = "kad")]
#[tokio::test]
async fn few_addresses_of_a_peer_are_told_to_kademlia_and_each_once() {
    use futures_util::FutureExt;

    const KADEMLIA: StreamProtocol = StreamProtocol::new("/test/kad/1.0.0");
    let (mut swarm, node, address) =
        victim(&Libp2p { kademlia: Some(KADEMLIA), ..options() }).await;
    let mut events = node.events();
    let listens = |number: u16| {
        let mut fields = vec![(3, KADEMLIA.to_string().into_bytes()), observed(0).remove(0)];
        fields.extend((0..20).map(|port| {
            let address = format!("/ip4/203.0.113.{number}/tcp/{}", 1000 + port);
            (2, address.parse::<Multiaddr>().unwrap().to_vec())
        }));
        fields
    };
    let listening = tokio::spawn(says(address, 10, listens));
    while !listening.is_finished() {
        let event = tokio::time::timeout(Duration::from_millis(50), swarm.next()).await;
        if let Ok(Some(event)) = event {
            crate::swarm::task::handle(&mut swarm, event);
        }
    }
    listening.await.unwrap();
    let told = std::iter::from_fn(|| events.next().now_or_never().flatten());
    assert_eq!(told.count(), 16);
}
