//! The ready-made handshake, who is there, and dialling by one address.

use std::future::Future;
use std::time::Duration;

use glueberry_tokio::identity::PeerId;
use glueberry_tokio::proto::greeting::GreetingConfig;
use glueberry_tokio::{
    Builder, ConnectionState, Direction, ErrorCode, Handshake, Message, Multiaddr, Node, Profile,
    ProtocolVersion,
};
use tokio::time::timeout;

use crate::support::{Party, any_port, keypair, quick, run, somewhere};

async fn node(number: u8, change: impl FnOnce(Builder) -> Builder) -> Node {
    let builder = Node::builder(keypair(number)).config(quick()).streams(["chat"]);
    change(builder.listen(any_port())).build().await.unwrap()
}

fn address(of: &Node) -> Multiaddr {
    of.dial_addrs().remove(0)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("took a minute")
}

#[test]
fn both_sides_are_established_by_a_dial_alone() {
    run(async {
        let accept = |builder: Builder| builder.handshake(Handshake::accept_all());
        let (alice, bob) = (node(1, accept).await, node(2, accept).await);
        let (mut to_alice, mut to_bob) = (alice.messages().unwrap(), bob.messages().unwrap());
        let text = address(&bob).to_string();
        assert_eq!(alice.dial(text.as_str()).await.unwrap(), bob.peer_id());
        soon(alice.wait_established(bob.peer_id())).await.unwrap();
        soon(bob.wait_established(alice.peer_id())).await.unwrap();
        alice.send(bob.peer_id(), "chat", "hello").await.unwrap();
        bob.send(alice.peer_id(), "chat", "hello yourself").await.unwrap();
        // The handshake's messages have not come among them.
        let Message { peer, data, .. } = to_bob.recv().await.unwrap();
        assert_eq!((peer, data), (alice.peer_id(), "hello".into()));
        assert_eq!(to_alice.recv().await.unwrap().data, "hello yourself");
        // Again is no error.
        assert_eq!(alice.dial(address(&bob)).await.unwrap(), bob.peer_id());
    });
}

#[test]
fn a_peer_that_is_not_accepted_is_rejected() {
    run(async {
        let alice = node(1, |it| it.handshake(Handshake::accept_all())).await;
        let bob = node(2, |it| it.handshake(Handshake::accept_only([PeerId::random()]))).await;
        let mut losses = bob.events_for_states([ConnectionState::Cooldown]);
        let waiting = tokio::spawn({
            let (alice, bob) = (alice.clone(), bob.peer_id());
            async move { alice.wait_established(bob).await }
        });
        tokio::task::yield_now().await;
        // Bob may reject her even before her dial is done.
        alice.dial(address(&bob)).await.ok();
        // It does not wait for the dials that follow.
        assert!(soon(waiting).await.unwrap().is_err());
        let reason = soon(losses.recv()).await.unwrap();
        let text = format!("{reason:?}");
        assert!(text.contains("not among those accepted"), "{text}");
    });
}

#[test]
fn a_closure_decides_and_its_panic_rejects() {
    run(async {
        let carol = keypair(3).public().to_peer_id();
        let decide = move |candidate: &glueberry_tokio::Candidate| {
            assert_eq!(candidate.direction, Direction::Inbound);
            assert!(candidate.peer != carol, "this closure is buggy");
            Ok(())
        };
        let bob = node(2, |it| it.handshake(Handshake::accept_if(decide))).await;
        let accept = |builder: Builder| builder.handshake(Handshake::accept_all());
        let (alice, carol) = (node(1, accept).await, node(3, accept).await);
        let mut losses = bob.events_for_states([ConnectionState::Cooldown]);
        // He may reject her even before her dial is done.
        carol.dial(address(&bob)).await.ok();
        let lost = soon(losses.recv()).await.unwrap();
        assert_eq!(lost.peer(), Some(carol.peer_id()));
        alice.dial(address(&bob)).await.unwrap();
        soon(alice.wait_established(bob.peer_id())).await.unwrap();
    });
}

#[test]
fn on_request_the_node_waits_for_the_application() {
    run(async {
        let alice = node(1, |it| it.handshake(Handshake::accept_all())).await;
        let bob = node(2, |it| it.handshake(Handshake::on_request())).await;
        let mut connected = bob.events_for_states([ConnectionState::Connected]);
        alice.dial(address(&bob)).await.unwrap();
        soon(connected.recv()).await.unwrap();
        // Alice has said hello by now or says it later: neither is lost.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(bob.connection_state(alice.peer_id()), ConnectionState::Connected);
        soon(bob.greet(alice.peer_id())).await.unwrap();
        soon(alice.wait_established(bob.peer_id())).await.unwrap();
        let nobody = bob.greet(PeerId::random()).await.unwrap_err();
        assert_eq!(nobody.code(), ErrorCode::NotConnected);
    });
}

#[test]
fn incompatible_versions_reject_each_other() {
    run(async {
        let says = |version: ProtocolVersion| {
            let mut greeting = GreetingConfig::default();
            greeting.version = Some(version);
            move |builder: Builder| builder.handshake(Handshake::accept_all().greeting(greeting))
        };
        let other = "9.0.0".parse().unwrap();
        let alice = node(1, says(ProtocolVersion::CURRENT)).await;
        let bob = node(2, says(other)).await;
        let mut cooldown = bob.events_for_states([ConnectionState::Cooldown]);
        let mut also = alice.events_for_states([ConnectionState::Cooldown]);
        alice.dial(address(&bob)).await.unwrap();
        tokio::select! {
            event = soon(cooldown.recv()) => assert!(event.is_some()),
            event = soon(also.recv()) => assert!(event.is_some()),
        }
        assert!(soon(alice.wait_established(bob.peer_id())).await.is_err());
    });
}

#[test]
fn waiting_ends_when_the_dial_has_failed_for_good() {
    run(async {
        let mut config = quick();
        config.core.dial_timeout = Duration::from_millis(200);
        config.core.reconnect.max_attempts = Some(1);
        let alice = node(1, |it| it.config(config).handshake(Handshake::accept_all())).await;
        let ghost = keypair(9).public().to_peer_id();
        alice.add_peer(ghost, [somewhere()]).await.unwrap();
        let waiting = tokio::spawn({
            let alice = alice.clone();
            async move { alice.wait_established(ghost).await }
        });
        tokio::task::yield_now().await;
        let error = alice.connect(ghost).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ConnectionFailed);
        let error = soon(waiting).await.unwrap().unwrap_err();
        assert_eq!(error.code(), ErrorCode::ConnectionFailed, "{error:#}");
        // The side that has dialled knows that it is over.
        let late = alice.wait_established(ghost);
        assert!(soon(late).await.is_err());
    });
}

#[test]
fn what_cannot_work_is_said_at_once() {
    run(async {
        let alice = node(1, |it| it).await;
        let error = alice.dial("/ip4/127.0.0.1/udp/9/quic-v1").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidAddress);
        assert!(error.hint().contains("dial_addrs"), "{}", error.hint());
        let error = alice.dial("nowhere").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidAddress);
        let error = alice.greet(keypair(2).public().to_peer_id()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::HandshakeFailed);
        let builder = Node::builder(keypair(3)).handshake(Handshake::accept_all());
        let error = builder.build().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NoStreamsRequested);
        let mut greeting = GreetingConfig::default();
        greeting.retry_after = Duration::ZERO;
        let handshake = Handshake::accept_all().greeting(greeting);
        let builder = Node::builder(keypair(3)).streams(["chat"]).handshake(handshake);
        assert_eq!(builder.build().await.unwrap_err().code(), ErrorCode::InvalidConfig);
    });
}

#[test]
fn a_lost_peer_is_greeted_again() {
    run(async {
        let accept = |builder: Builder| builder.handshake(Handshake::accept_all());
        let (alice, bob) = (node(1, accept).await, node(2, accept).await);
        let mut established = alice.events_for_states([ConnectionState::Established]);
        alice.dial(address(&bob)).await.unwrap();
        soon(established.recv()).await.unwrap();
        let listen = bob.addrs().remove(0);
        bob.shutdown().await;
        let bob = soon(async {
            loop {
                let builder = Node::builder(keypair(2)).config(quick()).streams(["chat"]);
                let handshake = Handshake::accept_all();
                match builder.listen(listen.clone()).handshake(handshake).build().await {
                    Ok(bob) => return bob,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        })
        .await;
        soon(established.recv()).await.unwrap();
        soon(bob.wait_established(alice.peer_id())).await.unwrap();
    });
}

#[test]
fn a_node_whose_application_shakes_hands_is_met_by_one_that_does_not() {
    run(async {
        // An application that speaks the greeting by hand is one of the original's.
        let alice = node(1, |it| it.handshake(Handshake::accept_all())).await;
        let mut bob = Party::of(keypair(2), quick(), |it| it).await;
        let peer = alice.dial(address(&bob.node)).await.unwrap();
        let streams = ["chat"];
        let own = bob.node.public_key();
        let handshake = async {
            loop {
                let message = bob.messages.recv().await.unwrap();
                let from = message.peer;
                match message.data.first() {
                    Some(1) => {
                        bob.node.send(from, "handshake", vec![1]).await.unwrap();
                        let key = [&[2][..], own.as_bytes()].concat();
                        bob.node.send(from, "handshake", key).await.unwrap();
                    }
                    Some(2) => {
                        let key = glueberry_tokio::PublicKey::from_bytes(&message.data[1..]);
                        bob.node.prepare_streams(from, key.unwrap(), &streams).await.unwrap();
                        bob.node.send(from, "handshake", vec![3]).await.unwrap();
                    }
                    Some(3) => return bob.node.finalize_handshake(from).await.unwrap(),
                    _ => panic!("{message:?}"),
                }
            }
        };
        soon(handshake).await;
        soon(alice.wait_established(peer)).await.unwrap();
    });
}

#[test]
fn a_hub_knows_who_is_there_and_tells_all() {
    run(async {
        let accept = |builder: Builder| builder.handshake(Handshake::accept_all());
        let hub = node(1, accept).await;
        let mut peers = Vec::new();
        for number in 2..6 {
            let peer = node(number, accept).await;
            peer.dial(address(&hub)).await.unwrap();
            soon(peer.wait_established(hub.peer_id())).await.unwrap();
            soon(hub.wait_established(peer.peer_id())).await.unwrap();
            peers.push(peer);
        }
        let connected = hub.connected();
        let mut ids: Vec<PeerId> = peers.iter().map(Node::peer_id).collect();
        ids.sort();
        assert_eq!(connected.iter().map(|it| it.peer).collect::<Vec<_>>(), ids);
        for one in &connected {
            assert_eq!(one.state, ConnectionState::Established);
            assert_eq!(one.direction, Direction::Inbound);
            assert!(one.profile == Some(Profile::V2) || one.profile == Some(Profile::V1));
            assert!(one.round_trip.is_some_and(|it| it < Duration::from_secs(5)));
            assert!(one.address.as_ref().unwrap().to_string().starts_with("/ip4/127.0.0.1/udp/"));
        }
        assert!(hub.broadcast("chat", "hello, all").is_empty());
        for peer in &peers {
            let mut messages = peer.messages().unwrap();
            assert_eq!(soon(messages.recv()).await.unwrap().data, "hello, all");
        }
        let failed = hub.broadcast("news", "a peer without this stream");
        assert_eq!(failed.len(), 4);
        assert!(failed.iter().all(|(peer, error)| {
            ids.contains(peer) && error.code() == ErrorCode::StreamNotFound
        }));
        let gone = hub.disconnect(ids[0]).await;
        gone.unwrap();
        assert_eq!(hub.connected().len(), 3);
    });
}

#[test]
fn a_peer_is_dialled_by_a_name() {
    run(async {
        let accept = |builder: Builder| builder.handshake(Handshake::accept_all());
        let bob = node(2, accept).await;
        let text = address(&bob).to_string();
        // Of the two addresses that `localhost` may have, only one is listened on: both are tried.
        for (number, kind) in [(3, "dns4"), (4, "dns")] {
            let alice = node(number, accept).await;
            let named = text.replace("/ip4/127.0.0.1", &format!("/{kind}/localhost"));
            let peer = soon(alice.dial(named.as_str())).await.unwrap();
            soon(alice.wait_established(peer)).await.unwrap();
            // What is kept is the name, which may lead elsewhere another day.
            let entry = alice.peer(peer).await.unwrap();
            assert!(entry.addrs[0].to_string().starts_with(&format!("/{kind}/localhost")));
        }
    });
}

#[test]
fn a_name_that_leads_nowhere_is_a_reason() {
    run(async {
        let alice = node(1, |it| it.handshake(Handshake::accept_all())).await;
        let ghost = keypair(9).public().to_peer_id();
        let named = format!("/dns4/nobody.invalid/udp/4001/quic-v1/p2p/{ghost}");
        let error = soon(alice.dial(named.as_str())).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ConnectionFailed);
        assert!(format!("{error:#}").contains("name nobody.invalid"), "{error:#}");
        // Where the resolver is slow, the other address of the peer is tried meanwhile.
        let bob = node(2, |it| it.handshake(Handshake::accept_all())).await;
        let nowhere = "/dns/nobody.invalid/udp/1/quic-v1".parse().unwrap();
        alice.add_peer(bob.peer_id(), [nowhere, bob.addrs().remove(0)]).await.unwrap();
        soon(alice.connect(bob.peer_id())).await.unwrap();
        let error = alice.dial("/dnsaddr/example.org/udp/1/quic-v1").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidAddress);
    });
}
