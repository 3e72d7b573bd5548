//! A node with a runtime of its own, so that it can be killed and stalled, and its application.

use std::time::Duration;

use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{
    Config, ConnectionState, Error, Event, Events, HANDSHAKE, Message, Messages, Multiaddr, Node,
    Profile, StateReason,
};
use tokio::runtime::Runtime;

use crate::fabric::{Fabric, Ground};

/// The stream that scenarios use unless they say otherwise.
pub const STREAM: &str = "chat";

/// One node, and what its application reads.
#[derive(Debug)]
pub struct Party {
    /// The node.
    pub node: Node,
    /// Its messages.
    pub messages: Messages,
    /// Its events.
    pub events: Events,
    identity: Keypair,
    fabric: Fabric,
    config: Config,
    streams: Vec<String>,
    runtime: Option<Runtime>,
}

impl Party {
    /// Starts a node of a new identity.
    pub async fn start(ground: impl Into<Ground>, mut config: Config, streams: &[&str]) -> Self {
        let ground = ground.into();
        ground.configure(&mut config);
        let fabric = ground.fabric;
        let streams = streams.iter().map(ToString::to_string).collect();
        let listen = fabric.listen();
        Self::run(fabric, config, streams, Keypair::generate_ed25519(), listen).await
    }

    /// Ends the node without a word to anybody, as a crash does.
    pub fn kill(mut self) -> Grave {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        Grave {
            identity: self.identity.clone(),
            fabric: self.fabric,
            config: self.config.clone(),
            streams: std::mem::take(&mut self.streams),
            address: self.address(),
        }
    }

    /// Keeps the node from doing anything, even from answering the transport's probes.
    pub fn stall(&self, time: Duration) {
        if let Some(runtime) = &self.runtime {
            // It has one thread, and this takes it.
            drop(runtime.spawn(async move { std::thread::sleep(time) }));
        }
    }

    /// Returns who it is.
    pub fn id(&self) -> PeerId {
        self.node.peer_id()
    }

    /// Returns where it listens.
    pub fn address(&self) -> Multiaddr {
        self.node.addrs().first().expect("it listens").clone()
    }

    /// Tells it where another is.
    pub async fn meet(&self, other: &Self) {
        self.node.add_peer(other.id(), other.node.addrs()).await.expect("peer added");
    }

    /// Connects to another, and waits until that one has seen it too.
    pub async fn dial(&self, other: &Self) {
        self.meet(other).await;
        self.node.connect(other.id()).await.expect("connected");
        other.wait_for(self.id(), ConnectionState::Connected).await;
    }

    /// Completes this side of the handshake.
    pub async fn complete(&self, other: &Self, streams: &[&str]) {
        let key = other.node.public_key();
        self.node.complete_handshake(other.id(), key, streams).await.expect("completed");
    }

    /// Waits until a peer has reached a state.
    pub async fn wait_for(&self, peer: PeerId, state: ConnectionState) {
        while self.node.connection_state(peer) != state {
            pause(1).await;
        }
    }

    /// Waits for the next event from which something can be picked.
    pub async fn event<T>(&mut self, pick: impl Fn(Event) -> Option<T>) -> T {
        loop {
            let event = self.events.recv().await.expect("the node runs");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    }

    /// Waits for the event of a state.
    pub async fn until(&mut self, state: ConnectionState) {
        self.event(|event| event.state().filter(|(_, now)| *now == state)).await;
    }

    /// Waits until a peer is Disconnected, and returns the reason.
    pub async fn ended(&mut self) -> Option<StateReason> {
        self.event(|event| match event {
            Event::State(changed) if changed.state == ConnectionState::Disconnected => {
                Some(changed.reason)
            }
            _ => None,
        })
        .await
    }

    /// Waits for the next message of the application.
    pub async fn receive(&mut self) -> Message {
        self.messages.recv().await.expect("the node runs")
    }

    async fn run(
        fabric: Fabric,
        config: Config,
        streams: Vec<String>,
        identity: Keypair,
        listen: Multiaddr,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let builder = Node::builder(identity.clone())
            .listen(listen)
            .streams(streams.iter().cloned())
            .config(config.clone());
        let built = runtime.spawn(fabric.build(builder)).await;
        let node: Result<Node, Error> = built.expect("no panic");
        let node = node.expect("built");
        let messages = node.messages().expect("first");
        let events = node.events();
        let runtime = Some(runtime);
        Self { node, messages, events, identity, fabric, config, streams, runtime }
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What is left of a node that was killed.
#[derive(Debug)]
pub struct Grave {
    identity: Keypair,
    fabric: Fabric,
    config: Config,
    streams: Vec<String>,
    address: Multiaddr,
}

impl Grave {
    /// Returns who it was.
    pub fn id(&self) -> PeerId {
        self.identity.public().to_peer_id()
    }

    /// Has it come back with these profiles only.
    #[must_use]
    pub fn with_profiles(mut self, profiles: &[Profile]) -> Self {
        self.config.core.profiles = profiles.to_vec();
        self
    }

    /// Brings it back, with the same identity and at the same address.
    pub async fn rise(self) -> Party {
        // The system may hold the port for a moment, and another test have it meanwhile.
        pause(200).await;
        for _ in 0..100 {
            if is_free(&self.address) {
                break;
            }
            pause(100).await;
        }
        Party::run(self.fabric, self.config, self.streams, self.identity, self.address).await
    }
}

/// Returns whether nobody has the UDP port of an address.
fn is_free(address: &Multiaddr) -> bool {
    let text = address.to_string();
    let port = text.split('/').skip_while(|part| *part != "udp").nth(1);
    let port = port.and_then(|port| port.parse::<u16>().ok());
    port.is_none_or(|port| std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok())
}

/// Connects two, says hello, and takes both through the handshake.
pub async fn establish(a: &mut Party, b: &mut Party, streams: &[&str]) {
    a.dial(b).await;
    greet(a, b, streams).await;
}

/// Takes two that are Connected through the handshake.
pub async fn greet(a: &mut Party, b: &mut Party, streams: &[&str]) {
    let hello = a.node.public_key().as_bytes().to_vec();
    a.node.send(b.id(), HANDSHAKE, hello.clone()).await.expect("said");
    let heard = b.receive().await;
    assert!(heard.is_handshake());
    assert_eq!((heard.peer, &heard.data[..]), (a.id(), &hello[..]));
    b.complete(a, streams).await;
    a.complete(b, streams).await;
}

/// Waits.
pub async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
