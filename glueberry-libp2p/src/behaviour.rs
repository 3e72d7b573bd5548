//! The behaviour: where a swarm and a node meet.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use glueberry_proto::PublicKey;
use glueberry_tokio::adapter::{Mailbox, Parts, Shared, Transport};
use glueberry_tokio::{Builder, Error, ErrorCode, Node};
use libp2p::core::Endpoint;
use libp2p::core::transport::{ListenerId, PortUse};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

use crate::connections::{Connections, swarm_is_gone};
use crate::handler::{Handler, ToBehaviour};
use crate::settings::{Ownership, Settings};
use crate::transport::{Request, SwarmTransport};

/// Glueberry in a swarm: put it beside other behaviours, and use the [`Node`] that comes with it.
///
/// The node does everything that it does over raw QUIC: it dials, holds the handshake, sends, and
/// hands out messages by its own bounded channels. Nothing of that passes through the swarm's
/// events, of which this behaviour has none.
///
/// Connections belong to the whole swarm. A session begins only on the node's own `connect`, which
/// uses an idle connection to that peer if there is one, or when the peer opens a Glueberry
/// substream; its end leaves the connection to the others. If an idle connection is used just as
/// another behaviour closes it, the `connect` fails, and is tried again as the reconnection policy says.
/// While there is a session the connection is kept alive, and is probed when the peer is silent.
///
/// Over QUIC, the window of a connection must be larger by a quarter than that of all its substreams
/// together (`max_connection_data` above 160 times `max_stream_data` with the default
/// configuration), or streams that are not read could stall the others.
pub struct Behaviour {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    requests: Arc<Mailbox<Request>>,
    is_listening: Arc<AtomicBool>,
    listeners: HashSet<ListenerId>,
    connections: Connections,
    actions: VecDeque<ToSwarm<Infallible, Infallible>>,
}

impl Behaviour {
    /// Makes a behaviour for a swarm that has the builder's identity, and the node that lives in
    /// it. Where the swarm listens is its own affair: [`Builder::listen`] has no effect.
    ///
    /// ```
    /// use glueberry_libp2p::Behaviour;
    /// use glueberry_tokio::Node;
    /// use libp2p::SwarmBuilder;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let identity = libp2p::identity::Keypair::generate_ed25519();
    /// let builder = Node::builder(identity.clone()).streams(["chat"]);
    /// let (behaviour, node) = Behaviour::new(builder)?;
    /// let swarm = SwarmBuilder::with_existing_identity(identity)
    ///     .with_tokio()
    ///     .with_quic()
    ///     .with_behaviour(|_| behaviour)?
    ///     .build();
    /// assert_eq!(*swarm.local_peer_id(), node.peer_id());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorCode::InvalidConfig), naming the field,
    /// [`InvalidStreamName`](ErrorCode::InvalidStreamName), and
    /// [`InvalidPublicKey`](ErrorCode::InvalidPublicKey) if the identity is not an Ed25519 key.
    pub fn new(builder: Builder) -> Result<(Self, Node), Error> {
        let parts = builder.into_parts()?;
        // Others in the swarm decide about relays.
        let wait = std::time::Duration::ZERO;
        let settings = Settings::new(&parts.config, Ownership::Shared, wait);
        Self::bind(parts, settings, |transport| transport)
    }

    /// Starts a node whose transport is the behaviour, wrapped if need be.
    pub(crate) fn bind<T: Transport + Unpin>(
        parts: Parts,
        settings: Settings,
        wrap: impl FnOnce(SwarmTransport) -> T,
    ) -> Result<(Self, Node), Error> {
        let requests = Arc::new(Mailbox::new());
        // A node that never listens is not asked to.
        let is_listening = Arc::new(AtomicBool::new(true));
        let mut kept = None;
        let node = parts.start(Vec::new(), |shared| {
            kept = Some(shared.clone());
            let is_listening = is_listening.clone();
            wrap(SwarmTransport::new(requests.clone(), shared.clone(), is_listening))
        })?;
        let shared = kept.ok_or_else(|| Error::because(ErrorCode::Internal, "no transport"))?;
        let settings = Arc::new(settings);
        let behaviour = Self {
            connections: Connections::new(shared.clone(), settings.clone()),
            shared,
            settings,
            requests,
            is_listening,
            listeners: HashSet::new(),
            actions: VecDeque::new(),
        };
        Ok((behaviour, node))
    }

    /// The node no longer listens on an address.
    #[cfg(feature = "node")]
    pub(crate) fn listener_lost(&self, address: Multiaddr, reason: String) {
        self.shared.listener_lost(address, reason);
    }

    /// The node listens again on an address.
    #[cfg(feature = "node")]
    pub(crate) fn listener_restored(&self, address: Multiaddr) {
        self.shared.listener_restored(address);
    }

    /// Returns the account of a peer that need not have a session.
    #[cfg(feature = "node")]
    pub(crate) fn memory_of(&self, peer: PeerId) -> Arc<glueberry_tokio::adapter::PeerMemory> {
        self.shared.memory_of(peer)
    }

    /// A peer was found at an address.
    #[cfg(any(feature = "kad", feature = "mdns"))]
    pub(crate) fn peer_discovered(&self, peer: PeerId, address: Multiaddr) {
        // Some name the peer, and some do not.
        if let Ok(address) = address.with_p2p(peer) {
            self.shared.peer_discovered(peer, address);
        }
    }

    /// Returns the span that every event of the node is in.
    #[cfg(feature = "node")]
    pub(crate) fn span(&self) -> tracing::Span {
        self.shared.span().clone()
    }

    /// No direct connection to the peer will come about: its dials take the relayed one.
    #[cfg(feature = "node")]
    pub(crate) fn hole_punch_failed(&mut self, peer: PeerId) {
        self.connections.hole_punch_failed(peer);
    }

    /// A banned peer gets no connection, whichever behaviour asks for it.
    fn check(&self, peer: PeerId) -> Result<(), ConnectionDenied> {
        match PublicKey::try_from(&peer) {
            Ok(key) if self.shared.is_banned(key) => {
                Err(ConnectionDenied::new(Denied::Blacklisted))
            }
            _ => Ok(()),
        }
    }

    fn is_refused(&self, peer: PeerId) -> bool {
        PublicKey::try_from(&peer).is_ok_and(|key| self.shared.is_refused(key))
    }
}

/// Why a connection was denied, as the swarm's events tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Denied {
    /// The peer is banned.
    #[error("peer is blacklisted")]
    Blacklisted,
    /// The peer was lately disconnected here, or its handshake failed.
    #[error("peer is refused for a while")]
    Refused,
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        peer.map_or(Ok(()), |peer| self.check(peer))?;
        Ok(Vec::new())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.check(peer)?;
        if self.settings.ownership == Ownership::Owned && self.is_refused(peer) {
            return Err(ConnectionDenied::new(Denied::Refused));
        }
        // The local address is the one that tells of a relay here.
        Ok(self.connections.add(id, peer, local, Some(remote)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.check(peer)?;
        Ok(self.connections.add(id, peer, address, None))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.connections.established(established.connection_id);
                if let Some((peer_id, id)) = self.connections.take_excess() {
                    let connection = CloseConnection::One(id);
                    self.actions.push_back(ToSwarm::CloseConnection { peer_id, connection });
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.connections.closed(closed.connection_id, closed.cause);
            }
            FromSwarm::DialFailure(failure) => {
                self.connections.failed(failure.connection_id, failure.error);
            }
            FromSwarm::ListenFailure(failure) => self.connections.denied(failure.connection_id),
            FromSwarm::NewListener(listener) => {
                self.listeners.insert(listener.listener_id);
                self.is_listening.store(true, Ordering::Release);
            }
            FromSwarm::ListenerClosed(listener) => {
                self.listeners.remove(&listener.listener_id);
                self.is_listening.store(!self.listeners.is_empty(), Ordering::Release);
            }
            FromSwarm::NewListenAddr(listening) => {
                let addr = listening.addr.clone();
                self.shared.update_addrs(|addrs| add(addrs, addr));
            }
            FromSwarm::ExpiredListenAddr(expired) => {
                self.shared.update_addrs(|addrs| addrs.retain(|addr| addr != expired.addr));
            }
            FromSwarm::ExternalAddrConfirmed(confirmed) => {
                let addr = confirmed.addr.clone();
                self.shared.update_addrs(|addrs| add(addrs, addr));
            }
            FromSwarm::ExternalAddrExpired(expired) => {
                self.shared.update_addrs(|addrs| addrs.retain(|addr| addr != expired.addr));
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer_id: PeerId,
        id: ConnectionId,
        event: ToBehaviour,
    ) {
        match event {
            ToBehaviour::Close => {
                let connection = CloseConnection::One(id);
                self.actions.push_back(ToSwarm::CloseConnection { peer_id, connection });
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        for request in self.requests.take(cx) {
            match request {
                Request::Dial(dial, peer, addresses) => {
                    let opts = self.connections.dial(dial, peer, &addresses);
                    self.actions.extend(opts.map(|opts| ToSwarm::Dial { opts }));
                }
                Request::Cancel(dial) => self.connections.cancel(dial),
                Request::Banned(peer_id) => {
                    let connection = CloseConnection::All;
                    self.actions.push_back(ToSwarm::CloseConnection { peer_id, connection });
                }
            }
        }
        self.connections.poll_timer(cx);
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
/// The swarm is gone: requests that it has not seen are answered. `Connections` answers the rest.
impl Drop for Behaviour {
    fn drop(&mut self) {
        for request in self.requests.close() {
            if let Request::Dial(dial, ..) = request {
                self.shared.dial_failed(dial, swarm_is_gone());
            }
        }
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour").field("connections", &self.connections).finish_non_exhaustive()
    }
}

fn add(addrs: &mut Vec<Multiaddr>, addr: Multiaddr) {
    if !addrs.contains(&addr) {
        addrs.push(addr);
    }
}
