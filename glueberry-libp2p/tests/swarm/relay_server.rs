//! A ready-made node that is a relay, and those that it relays for.

use std::sync::mpsc;
use std::time::Duration;

use glueberry_tokio::Node;
use glueberry_tokio::identity::{Keypair, PeerId};
use libp2p::futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise, relay, tcp, yamux};
use libp2p_stream::Control;

use crate::relays::{circuit, over_relays};
use crate::support::run_test;

const NAME: StreamProtocol = StreamProtocol::new("/test/1");

#[derive(NetworkBehaviour)]
struct Client {
    relay: relay::client::Behaviour,
    stream: libp2p_stream::Behaviour,
}

/// A swarm of libp2p's own, whose peers may send so much ahead on a stream over QUIC.
fn client(window: u32) -> (Swarm<Client>, Control) {
    let swarm = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic_config(|mut config| {
            config.max_stream_data = window;
            config
        })
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_, relay| Client { relay, stream: libp2p_stream::Behaviour::new() })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    let control = swarm.behaviour().stream.new_control();
    (swarm, control)
}

/// Is reached over the relay and answers with what it reads; reads nothing more once `stop` says so.
fn reached(relay: Multiaddr) -> (PeerId, mpsc::SyncSender<()>) {
    let (ready, is_ready) = mpsc::sync_channel(1);
    let (stop, stopped) = mpsc::sync_channel::<()>(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut swarm, mut control) = client(4096);
            let mut incoming = control.accept(NAME).unwrap();
            swarm.listen_on(circuit(&relay)).unwrap();
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => {
                        if let SwarmEvent::NewListenAddr { .. } = event {
                            ready.try_send(*swarm.local_peer_id()).ok();
                        }
                    }
                    Some((_, mut stream)) = incoming.next() => {
                        tokio::spawn(async move {
                            let mut bytes = [0; 1024];
                            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                                stream.write_all(&bytes[..count]).await.unwrap();
                                stream.flush().await.unwrap();
                            }
                        });
                    }
                    () = tokio::time::sleep(Duration::from_millis(20)) => {
                        if stopped.try_recv().is_ok() {
                            // Nothing of this thread runs any more, connections neither.
                            stopped.recv().ok();
                        }
                    }
                }
            }
        });
    });
    (is_ready.recv_timeout(Duration::from_secs(20)).unwrap(), stop)
}

async fn relaying(listen: [&str; 2]) -> Node {
    let mut over = over_relays();
    (over.quic, over.relay_server) = (true, true);
    let builder = listen.iter().fold(Node::builder(Keypair::generate_ed25519()), |builder, at| {
        let at: Multiaddr = at.parse().unwrap();
        over.external_addresses.push(at.clone());
        builder.listen(at)
    });
    builder.build_over(over.clone()).await.unwrap()
}

/// A circuit ends after 128 KiB or two minutes. Until then it is not to cost its client the others.
#[test]
fn a_circuit_that_is_not_read_holds_up_no_other_of_its_client() {
    run_test(async {
        let port =
            || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let tcp = format!("/ip4/127.0.0.1/tcp/{}", port());
        let quic = format!("/ip4/127.0.0.1/udp/{}/quic-v1", port());
        let relaying = relaying([&tcp, &quic]).await;
        let relay = relaying.dial_addrs();
        let over_quic = relay.iter().find(|it| it.to_string().contains("quic")).unwrap();
        for relay in &relay {
            let [(deaf, stop), (heard, _kept)] = [(); 2].map(|()| {
                let relay = over_quic.clone();
                tokio::task::block_in_place(|| reached(relay))
            });
            let (mut swarm, mut control) = client(512 * 1024);
            swarm.dial(relay.clone()).unwrap();
            while !matches!(
                swarm.select_next_some().await,
                SwarmEvent::ConnectionEstablished { .. }
            ) {}
            for peer in [deaf, heard] {
                swarm.dial(circuit(relay).with_p2p(peer).unwrap()).unwrap();
            }
            let talking = async {
                let mut streams = Vec::new();
                for peer in [deaf, heard] {
                    let mut stream = loop {
                        match control.open_stream(peer, NAME).await {
                            Ok(stream) => break stream,
                            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                        }
                    };
                    stream.write_all(b"hello").await.unwrap();
                    stream.read_exact(&mut [0; 5]).await.unwrap();
                    streams.push(stream);
                }
                stop.send(()).unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
                let [deaf, heard] = &mut streams[..] else { panic!() };
                let writing = async {
                    for _ in 0..100 {
                        deaf.write_all(&[7; 1024]).await.unwrap();
                        deaf.flush().await.unwrap();
                    }
                };
                let written = tokio::time::timeout(Duration::from_secs(2), writing).await;
                for _ in 0..5 {
                    let echo = async {
                        heard.write_all(b"hello").await.unwrap();
                        heard.read_exact(&mut [0; 5]).await.unwrap();
                    };
                    let echoed = tokio::time::timeout(Duration::from_secs(2), echo).await;
                    assert!(echoed.is_ok(), "over {relay}: no answer; all written: {written:?}");
                }
            };
            tokio::select! {
                () = talking => {}
                () = async { loop { swarm.select_next_some().await; } } => {}
            }
        }
    });
}
