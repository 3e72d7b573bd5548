//! Nodes whose applications complete every handshake by themselves, and waiting.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{
    Builder, Config, ConnectionState, Event, Events, Message, Messages, Multiaddr, Node, PublicKey,
    ReconnectPolicy,
};
use tokio::net::UdpSocket;
use tokio::sync::Notify;

pub(crate) const STREAM: &str = "chat";
pub(crate) const STREAMS: [&str; 2] = ["chat", "bulk"];

/// A configuration in which things happen soon.
pub(crate) fn quick() -> Config {
    let mut config = Config::default();
    config.keep_alive = Duration::from_millis(300);
    config.core.reconnect = ReconnectPolicy::unlimited();
    config.core.reconnect.initial_backoff = Duration::from_millis(50);
    config.core.reconnect.max_backoff = Duration::from_millis(400);
    config.core.probe_timeout = Duration::from_millis(500);
    config.core.refuse_after_disconnect = Duration::from_millis(500);
    config
}

pub(crate) fn keypair(number: u8) -> Keypair {
    Keypair::ed25519_from_bytes([number; 32]).unwrap()
}

pub(crate) fn any_port() -> Multiaddr {
    "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()
}

/// An address at which nobody is.
pub(crate) fn somewhere() -> Multiaddr {
    "/ip4/127.0.0.1/udp/9/quic-v1".parse().unwrap()
}

pub(crate) fn key(peer: PeerId) -> PublicKey {
    PublicKey::try_from(&peer).unwrap()
}

/// Runs a test, and fails rather than hangs.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(300), test).await.expect("took five minutes");
    });
}

/// A node and what its application reads.
pub(crate) struct Party {
    pub(crate) node: Node,
    pub(crate) messages: Messages,
    pub(crate) events: Events,
}

impl Party {
    pub(crate) async fn new(config: Config) -> Self {
        Self::of(Keypair::generate_ed25519(), config, |builder| builder).await
    }

    pub(crate) async fn of(
        identity: Keypair,
        config: Config,
        change: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let builder = Node::builder(identity).streams(STREAMS).config(config).listen(any_port());
        let node = change(builder).build().await.unwrap();
        let (messages, events) = (node.messages().unwrap(), node.events());
        Self { node, messages, events }
    }

    /// With an application that completes every handshake at once.
    pub(crate) async fn greeting(config: Config) -> Self {
        let party = Self::new(config).await;
        party.greet();
        party
    }

    pub(crate) fn greet(&self) {
        greet(self.node.clone());
    }

    pub(crate) fn id(&self) -> PeerId {
        self.node.peer_id()
    }

    pub(crate) async fn knows(&self, other: &Self) {
        self.node.add_peer(other.id(), other.node.addrs()).await.unwrap();
    }

    pub(crate) async fn dial(&self, other: &Self) {
        self.knows(other).await;
        self.node.connect(other.id()).await.unwrap();
    }

    /// Waits for a change to this state, and returns the event.
    pub(crate) async fn until(&mut self, state: ConnectionState) -> glueberry_tokio::StateChanged {
        loop {
            if let Event::State(changed) = self.events.recv().await.expect("the node stopped")
                && changed.state == state
            {
                return changed;
            }
        }
    }

    pub(crate) async fn event<T>(&mut self, pick: impl Fn(Event) -> Option<T>) -> T {
        loop {
            if let Some(picked) = pick(self.events.recv().await.expect("the node stopped")) {
                return picked;
            }
        }
    }

    /// Returns the next message on a named stream.
    pub(crate) async fn message(&mut self) -> Message {
        loop {
            let message = self.messages.recv().await.expect("the node stopped");
            if !message.is_handshake() {
                return message;
            }
        }
    }

    pub(crate) fn state(&self, other: &Self) -> ConnectionState {
        self.node.connection_state(other.id())
    }
}

/// Completes every handshake of a node as soon as it can.
pub(crate) fn greet(node: Node) {
    let mut connected = node.events_for_states([ConnectionState::Connected]);
    tokio::spawn(async move {
        while let Some(event) = connected.recv().await {
            let Some((peer, _)) = event.state() else { continue };
            // It may be over again by now: then there will be another event.
            drop(node.complete_handshake(peer, key(peer), &STREAMS).await);
        }
    });
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("half a minute has passed: {what}");
}

/// Two parties with an Established session.
pub(crate) async fn pair(config: Config) -> (Party, Party) {
    let (mut a, mut b) = (Party::greeting(config.clone()).await, Party::greeting(config).await);
    a.dial(&b).await;
    a.until(ConnectionState::Established).await;
    b.until(ConnectionState::Established).await;
    (a, b)
}

/// A UDP relay between one dialler and one listener, which can be cut.
pub(crate) struct Relay {
    address: Multiaddr,
    is_cut: Arc<AtomicBool>,
    rebind: Arc<Notify>,
}

impl Relay {
    pub(crate) async fn to(target: &Node) -> Self {
        let target = socket(&target.addrs()[0]);
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = near.local_addr().unwrap().port();
        let (is_cut, rebind) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (cut, rebound) = (is_cut.clone(), rebind.clone());
        tokio::spawn(async move {
            let (mut there, mut back) = (vec![0; 65536], vec![0; 65536]);
            let mut dialler = None;
            loop {
                tokio::select! {
                    Ok((len, from)) = near.recv_from(&mut there) => {
                        dialler = Some(from);
                        if !cut.load(Ordering::Relaxed) {
                            drop(far.send_to(&there[..len], target).await);
                        }
                    }
                    Ok((len, _)) = far.recv_from(&mut back) => {
                        if let Some(dialler) = dialler
                            && !cut.load(Ordering::Relaxed)
                        {
                            drop(near.send_to(&back[..len], dialler).await);
                        }
                    }
                    () = rebound.notified() => {
                        far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                    }
                }
            }
        });
        let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap();
        Self { address, is_cut, rebind }
    }

    pub(crate) fn address(&self) -> Multiaddr {
        self.address.clone()
    }

    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Goes on from another port towards the listener, as a NAT that has forgotten its mapping.
    pub(crate) fn rebind(&self) {
        self.rebind.notify_one();
    }
}

pub(crate) fn socket(address: &Multiaddr) -> SocketAddr {
    let text = address.to_string();
    let parts: Vec<&str> = text.split('/').collect();
    SocketAddr::new(parts[2].parse().unwrap(), parts[4].parse().unwrap())
}
