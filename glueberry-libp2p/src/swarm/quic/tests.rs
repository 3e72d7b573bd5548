//! What a swarm asks of its transport, without a swarm.

use std::future::poll_fn;

use glueberry_tokio::runtime::TokioRuntime;
use libp2p::multiaddr::Protocol;

use super::*;

struct Party {
    id: PeerId,
    transport: Quic,
    listener: ListenerId,
    address: Multiaddr,
}

impl Party {
    async fn new(listen: &str) -> Self {
        let identity = Keypair::generate_ed25519();
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::current().unwrap());
        let (config, windows) = (Config::default(), Arc::<Windows>::default());
        let mut transport = Quic::new(&identity, &config, 8, windows, &runtime).unwrap();
        let listener = ListenerId::next();
        transport.listen_on(listener, listen.parse().unwrap()).unwrap();
        let TransportEvent::NewAddress { listen_addr: address, .. } = next(&mut transport).await
        else {
            panic!("it has no address");
        };
        Self { id: identity.public().to_peer_id(), transport, listener, address }
    }

    fn dial(&mut self, to: &Multiaddr, role: Role, port_use: PortUse) -> Upgrade {
        self.transport.dial(to.clone(), DialOpts { role, port_use }).unwrap()
    }
}

async fn next(transport: &mut Quic) -> TransportEvent<Upgrade, io::Error> {
    let next = poll_fn(|cx| Pin::new(&mut *transport).poll(cx));
    tokio::time::timeout(Duration::from_secs(60), next).await.expect("no event")
}

#[tokio::test]
async fn a_peer_that_dials_at_the_same_time_comes_through_the_hole() {
    let mut here = Party::new("/ip4/127.0.0.1/udp/0/quic-v1").await;
    let mut there = Party::new("/ip4/127.0.0.1/udp/0/quic-v1").await;
    let named = there.address.clone().with(Protocol::P2p(there.id));
    let punched = here.dial(&named, Role::Listener, PortUse::New);
    let again = DialOpts { role: Role::Listener, port_use: PortUse::New };
    assert!(here.transport.dial(named, again).is_err(), "it is punched twice");
    let dialled = there.dial(&here.address, Role::Dialer, PortUse::Reuse);
    let connected = async {
        let (punched, dialled) = tokio::join!(punched, dialled);
        (punched.unwrap().0, dialled.unwrap().0)
    };
    tokio::select! {
        peers = connected => assert_eq!(peers, (there.id, here.id)),
        event = next(&mut here.transport) => panic!("{event:?} is not for the hole"),
        event = next(&mut there.transport) => panic!("{event:?}"),
    }
    assert!(here.transport.punched.is_empty());
}

#[tokio::test]
async fn a_listener_is_reached_at_the_machines_addresses_until_it_is_removed() {
    let mut party = Party::new("/ip4/0.0.0.0/udp/0/quic-v1").await;
    let is_unspecified = |address: &Multiaddr| address.to_string().starts_with("/ip4/0.0.0.0/");
    assert!(!is_unspecified(&party.address));
    assert!(party.transport.remove_listener(party.listener));
    loop {
        match next(&mut party.transport).await {
            TransportEvent::NewAddress { listen_addr, .. } => {
                assert!(!is_unspecified(&listen_addr));
            }
            TransportEvent::ListenerClosed { listener_id, reason } => {
                assert_eq!(listener_id, party.listener);
                break reason.unwrap();
            }
            event => panic!("{event:?}"),
        }
    }
    let other = DialOpts { role: Role::Dialer, port_use: PortUse::New };
    let dialled = party.transport.dial(party.address.clone(), other).unwrap();
    assert!(dialled.await.is_err(), "it still listens");
}

#[tokio::test]
async fn what_is_no_address_of_quic_is_left_to_others() {
    let mut party = Party::new("/ip4/127.0.0.1/udp/0/quic-v1").await;
    for text in
        ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/0.0.0.0/udp/1/quic-v1"]
    {
        let options = DialOpts { role: Role::Dialer, port_use: PortUse::Reuse };
        let dialled = party.transport.dial(text.parse().unwrap(), options);
        assert!(matches!(dialled, Err(TransportError::MultiaddrNotSupported(_))), "{text}");
    }
}

/// Anybody can send one, from whichever address it likes: no event and no line in the log for each.
#[tokio::test]
async fn a_first_packet_that_does_not_open_is_no_failure_of_the_listener() {
    let mut here = Party::new("/ip4/127.0.0.1/udp/0/quic-v1").await;
    let mut there = Party::new("/ip4/127.0.0.1/udp/0/quic-v1").await;
    let hole = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = QuicParts::address(hole.local_addr().unwrap());
    let dialled = tokio::spawn(there.dial(&to, Role::Dialer, PortUse::Reuse));
    let mut datagram = vec![0; 2048];
    let len = hole.recv(&mut datagram).await.unwrap();
    datagram[len - 1] ^= 1;
    let (to, _) = QuicParts::parse(&here.address).unwrap();
    hole.send_to(&datagram[..len], to).await.unwrap();
    let event = tokio::time::timeout(Duration::from_millis(500), next(&mut here.transport)).await;
    assert!(event.is_err(), "{event:?}");
    dialled.abort();
}
