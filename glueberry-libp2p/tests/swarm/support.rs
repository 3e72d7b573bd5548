//! Swarms that Glueberry shares with another behaviour.

use std::future::Future;
use std::time::Duration;

use glueberry_libp2p::Behaviour;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{
    CloseReason, Config, ConnectionState, Event, Events, HANDSHAKE, Messages, Node,
};
use libp2p::futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, tcp, yamux};
use libp2p_stream::Control;
use tokio::sync::{mpsc, oneshot};

pub(crate) const STREAM: &str = "chat";

#[derive(NetworkBehaviour)]
struct Behaviours {
    glueberry: Behaviour,
    other: libp2p_stream::Behaviour,
}

/// A swarm in its task, the node that lives in it, and a handle of the other behaviour.
pub(crate) struct Party {
    pub(crate) node: Node,
    pub(crate) messages: Messages,
    pub(crate) events: Events,
    pub(crate) address: Multiaddr,
    pub(crate) other: Control,
    orders: mpsc::Sender<Order>,
}

enum Order {
    Dial(Multiaddr),
    Connections(oneshot::Sender<u32>),
}

impl Party {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default(), Duration::from_secs(60)).await
    }

    pub(crate) async fn with(config: Config, idle: Duration) -> Self {
        let identity = Keypair::generate_ed25519();
        let builder = Node::builder(identity.clone()).streams([STREAM]).config(config);
        let (glueberry, node) = Behaviour::new(builder).unwrap();
        let stream = libp2p_stream::Behaviour::new();
        let other = stream.new_control();
        let mut swarm = SwarmBuilder::with_existing_identity(identity)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| Behaviours { glueberry, other: stream })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(idle))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let (orders, from_orders) = mpsc::channel(1);
        tokio::spawn(run(swarm, from_orders));
        let (messages, events) = (node.messages().unwrap(), node.events());
        Self { node, messages, events, address, other, orders }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.node.peer_id()
    }

    /// Has the swarm dial, past Glueberry.
    pub(crate) async fn swarm_dials(&self, other: &Self) {
        self.orders.send(Order::Dial(other.address.clone())).await.ok().unwrap();
        eventually(|| async { self.connections().await == 1 && other.connections().await == 1 })
            .await;
    }

    /// Has the swarm dial an address, and does not wait.
    pub(crate) async fn swarm_dials_to(&self, address: Multiaddr) {
        self.orders.send(Order::Dial(address)).await.ok().unwrap();
    }

    pub(crate) async fn connections(&self) -> u32 {
        let (count, counted) = oneshot::channel();
        self.orders.send(Order::Connections(count)).await.ok().unwrap();
        counted.await.unwrap()
    }

    pub(crate) async fn connect(&self, other: &Self) {
        self.node.add_peer(other.id(), [other.address.clone()]).await.unwrap();
        self.node.connect(other.id()).await.unwrap();
    }

    pub(crate) async fn wait_for(&self, peer: PeerId, state: ConnectionState) {
        eventually(|| async { self.node.connection_state(peer) == state }).await;
    }
}

async fn run(mut swarm: Swarm<Behaviours>, mut orders: mpsc::Receiver<Order>) {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                // The party is gone, and its swarm with it.
                None => return,
                Some(Order::Dial(address)) => swarm.dial(address).unwrap(),
                Some(Order::Connections(count)) => {
                    count
                        .send(swarm.network_info().connection_counters().num_established())
                        .unwrap();
                }
            },
            event = swarm.select_next_some() => drop(event),
        }
    }
}

/// Takes two that are about to be Connected through the handshake.
pub(crate) async fn greet(a: &Party, b: &mut Party) {
    a.node.send(b.id(), HANDSHAKE, "hello").await.unwrap();
    let hello = b.messages.recv().await.unwrap();
    assert!(hello.is_handshake());
    assert_eq!(hello.peer, a.id());
    let (a_key, b_key) = (a.node.public_key(), b.node.public_key());
    b.node.complete_handshake(a.id(), a_key, &[STREAM]).await.unwrap();
    a.node.complete_handshake(b.id(), b_key, &[STREAM]).await.unwrap();
}

/// One message arrives.
pub(crate) async fn exchange(a: &Party, b: &mut Party, text: &'static str) {
    a.node.send(b.id(), STREAM, text).await.unwrap();
    let message = b.messages.recv().await.unwrap();
    assert_eq!((message.stream(), &message.data[..]), (STREAM, text.as_bytes()));
}

/// Waits until a session is over, and returns why.
pub(crate) async fn closed(party: &mut Party) -> CloseReason {
    loop {
        if let Event::SessionClosed { closed, .. } = party.events.recv().await.unwrap() {
            return closed.reason;
        }
    }
}

pub(crate) async fn eventually<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    for _ in 0..2_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come to be");
}

/// Fails rather than hangs.
pub(crate) fn run_test(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("took too long");
    });
}
