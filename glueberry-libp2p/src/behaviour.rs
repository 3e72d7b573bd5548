//! The behaviour: where a swarm and a node meet.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant as StdInstant;

use glueberry_proto::{
    Address, ConnectionLost, DialError, DialId, Naming, NewConnection, Origin, PublicKey, printable,
};
use glueberry_tokio::adapter::{Mailbox, Parts, Shared, Transport};
use glueberry_tokio::runtime::Timer;
use glueberry_tokio::{Builder, Error, ErrorCode, Node};
use libp2p::core::Endpoint;
use libp2p::core::transport::{ListenerId, PortUse};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionError, ConnectionId, DialError as SwarmDialError,
    FromSwarm, NetworkBehaviour, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tracing::debug;

use crate::handler::{Handler, ToBehaviour};
use crate::link::{Link, PendingLink};
use crate::settings::{Ownership, Settings};
use crate::substream::Order;
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
/// somebody closes it, the `connect` fails, and is tried again as the reconnection policy says.
/// While there is a session the connection is kept alive, and is probed when the peer is silent.
///
/// Over QUIC, the window of a connection must be larger than that of all its substreams together
/// (`max_connection_data` above 128 times `max_stream_data` with the default
/// configuration), or streams that nobody reads could stall the others.
pub struct Behaviour {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    requests: Arc<Mailbox<Request>>,
    is_listening: Arc<AtomicBool>,
    listeners: HashSet<ListenerId>,
    connections: BTreeMap<ConnectionId, Connection>,
    dials: BTreeMap<DialId, Dialling>,
    actions: VecDeque<ToSwarm<Infallible, Infallible>>,
    timer: Box<dyn Timer>,
}

/// A connection of the swarm, whoever uses it.
struct Connection {
    peer: PeerId,
    link: Arc<Link>,
    is_relayed: bool,
    is_established: bool,
}

/// How far a dial of the node is.
#[derive(Clone, Copy, Debug)]
enum Dialling {
    Pending(ConnectionId),
    /// Connected over a relay; a direct connection is waited for.
    Punching {
        relayed: ConnectionId,
        until: StdInstant,
    },
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
        let timer = shared.runtime().timer();
        let behaviour = Self {
            shared,
            settings: Arc::new(settings),
            requests,
            is_listening,
            listeners: HashSet::new(),
            connections: BTreeMap::new(),
            dials: BTreeMap::new(),
            actions: VecDeque::new(),
            timer,
        };
        Ok((behaviour, node))
    }

    /// Returns the span that every event of the node is in.
    #[cfg(feature = "node")]
    pub(crate) fn span(&self) -> tracing::Span {
        self.shared.span().clone()
    }

    /// No direct connection to the peer will come about: whoever waits for one takes the relayed.
    #[cfg(feature = "node")]
    pub(crate) fn hole_punch_failed(&mut self, peer: PeerId) {
        for (dial, relayed) in self.punching(peer) {
            self.use_relayed(dial, relayed);
        }
    }

    // ---- dials --------------------------------------------------------------------------------

    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: &[Address]) {
        let idle = self.connections.values().filter(|one| one.peer == peer && one.is_established);
        let mut idle: Vec<&Connection> = idle.collect();
        idle.sort_by_key(|one| one.is_relayed);
        if let Some(link) = idle.iter().find(|one| one.link.claim()).map(|one| one.link.clone()) {
            return self.offer(dial, peer, link);
        }
        let usable = |address: &Address| address.as_str().parse::<Multiaddr>().ok();
        let addresses: Vec<Multiaddr> = addresses.iter().filter_map(usable).collect();
        if addresses.is_empty() {
            return self.shared.dial_failed(dial, DialError::NoUsableAddress);
        }
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            // From the port that it listens on, two dials that cross are one TCP connection that
            // both sides have opened, and neither plays the server in the handshake that follows.
            .allocate_new_port()
            .build();
        self.dials.insert(dial, Dialling::Pending(opts.connection_id()));
        self.actions.push_back(ToSwarm::Dial { opts });
    }

    fn cancel(&mut self, dial: DialId) {
        if let Some(Dialling::Punching { relayed, .. }) = self.dials.remove(&dial)
            && let Some(connection) = self.connections.get(&relayed)
        {
            connection.link.release();
        }
    }

    /// Offers a connection that is claimed to the node.
    fn offer(&self, dial: DialId, peer: PeerId, link: Arc<Link>) {
        let Ok(key) = PublicKey::try_from(&peer) else {
            link.release();
            return self.shared.dial_failed(dial, DialError::NoUsableAddress);
        };
        let origin = Origin::Dialled(dial);
        let offered = NewConnection { peer: key, origin, naming: Naming::Negotiated };
        self.shared.offer(offered, Box::new(PendingLink::new(link, self.shared.clone())));
    }

    fn dial_of(&self, id: ConnectionId) -> Option<DialId> {
        let is_it = |dialling: &Dialling| matches!(dialling, Dialling::Pending(of) if *of == id);
        self.dials.iter().find(|(_, dialling)| is_it(dialling)).map(|(dial, _)| *dial)
    }

    fn punching(&self, peer: PeerId) -> Vec<(DialId, ConnectionId)> {
        let is_of =
            |id: &ConnectionId| self.connections.get(id).is_some_and(|one| one.peer == peer);
        let dials = self.dials.iter().filter_map(|(dial, dialling)| match dialling {
            Dialling::Punching { relayed, .. } => Some((*dial, *relayed)),
            Dialling::Pending(_) => None,
        });
        dials.filter(|(_, relayed)| is_of(relayed)).collect()
    }

    fn use_relayed(&mut self, dial: DialId, relayed: ConnectionId) {
        self.dials.remove(&dial);
        match self.connections.get(&relayed) {
            Some(connection) => self.offer(dial, connection.peer, connection.link.clone()),
            None => self.shared.dial_failed(dial, DialError::TimedOut),
        }
    }

    // ---- who is let in ------------------------------------------------------------------------

    /// A banned peer gets no connection, whoever wants it.
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

    // ---- connections --------------------------------------------------------------------------

    fn handler(&mut self, id: ConnectionId, peer: PeerId, address: &Multiaddr) -> Handler {
        let link = Arc::new(Link::default());
        if self.dial_of(id).is_some() {
            // Before the peer can ask for a session of its own on it.
            link.claim();
        }
        let is_relayed = is_relayed(address);
        let order = if is_relayed || !is_quic(address) {
            Order::PerConnection
        } else {
            Order::PerSubstream
        };
        let connection = Connection { peer, link: link.clone(), is_relayed, is_established: false };
        self.connections.insert(id, connection);
        let key = PublicKey::try_from(&peer).ok();
        Handler::new(key, link, self.shared.clone(), self.settings.clone(), order)
    }

    fn established(&mut self, id: ConnectionId) {
        let dial = self.dial_of(id);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.is_established = true;
        let (peer, link) = (connection.peer, connection.link.clone());
        let (is_relayed, wait) = (connection.is_relayed, self.settings.hole_punch_wait);
        match dial {
            Some(dial) if is_relayed && !wait.is_zero() => {
                debug!(%peer, "connected over a relay, waiting for a direct connection");
                let until = self.shared.runtime().now() + wait;
                self.dials.insert(dial, Dialling::Punching { relayed: id, until });
            }
            Some(dial) => {
                self.dials.remove(&dial);
                self.offer(dial, peer, link);
            }
            None if !is_relayed => self.went_direct(peer, &link),
            None => {}
        }
    }

    /// A direct connection takes the place of the relayed one that waits for it.
    fn went_direct(&mut self, peer: PeerId, link: &Arc<Link>) {
        if let Some((dial, relayed)) = self.punching(peer).first().copied()
            && link.claim()
        {
            debug!(%peer, "the direct connection is there");
            self.dials.remove(&dial);
            if let Some(connection) = self.connections.get(&relayed) {
                connection.link.release();
            }
            self.offer(dial, peer, link.clone());
        }
    }

    fn closed(&mut self, id: ConnectionId, why: ConnectionLost) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        let punching = self.punching_over(id);
        if let Some(dial) = punching {
            self.dials.remove(&dial);
            self.shared.dial_failed(dial, DialError::Transport(why.to_string()));
        }
        connection.link.lost(why);
    }

    fn punching_over(&self, id: ConnectionId) -> Option<DialId> {
        let is_it = |dialling: &Dialling| matches!(dialling, Dialling::Punching { relayed, .. } if *relayed == id);
        self.dials.iter().find(|(_, dialling)| is_it(dialling)).map(|(dial, _)| *dial)
    }

    fn failed(&mut self, id: ConnectionId, error: &SwarmDialError) {
        self.connections.remove(&id);
        if let Some(dial) = self.dial_of(id) {
            self.dials.remove(&dial);
            self.shared.dial_failed(dial, dial_error(error));
        }
    }

    /// Gives up waiting for direct connections that have not come in time.
    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        loop {
            let now = self.shared.runtime().now();
            let overdue = self.dials.iter().find_map(|(dial, dialling)| match dialling {
                Dialling::Punching { relayed, until } if *until <= now => Some((*dial, *relayed)),
                _ => None,
            });
            if let Some((dial, relayed)) = overdue {
                self.use_relayed(dial, relayed);
                continue;
            }
            let next = self.dials.values().filter_map(|dialling| match dialling {
                Dialling::Punching { until, .. } => Some(*until),
                Dialling::Pending(_) => None,
            });
            self.timer.reset(next.min());
            if self.timer.poll(cx).is_pending() {
                return;
            }
        }
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
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.check(peer)?;
        if self.settings.ownership == Ownership::Owned && self.is_refused(peer) {
            return Err(ConnectionDenied::new(Denied::Refused));
        }
        // The local address is the one that tells of a relay here.
        Ok(self.handler(id, peer, local))
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
        Ok(self.handler(id, peer, address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.established(established.connection_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.closed(closed.connection_id, connection_lost(closed.cause));
            }
            FromSwarm::DialFailure(failure) => self.failed(failure.connection_id, failure.error),
            FromSwarm::ListenFailure(failure) => {
                self.connections.remove(&failure.connection_id);
            }
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
                Request::Dial(dial, peer, addresses) => self.dial(dial, peer, &addresses),
                Request::Cancel(dial) => self.cancel(dial),
                Request::Banned(peer_id) => {
                    let connection = CloseConnection::All;
                    self.actions.push_back(ToSwarm::CloseConnection { peer_id, connection });
                }
            }
        }
        self.poll_timer(cx);
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The swarm is gone, and every connection with it.
impl Drop for Behaviour {
    fn drop(&mut self) {
        for request in self.requests.close() {
            if let Request::Dial(dial, ..) = request {
                self.shared.dial_failed(dial, DialError::Transport("the swarm is gone".to_owned()));
            }
        }
        for dial in std::mem::take(&mut self.dials).into_keys() {
            self.shared.dial_failed(dial, DialError::Transport("the swarm is gone".to_owned()));
        }
        for connection in self.connections.values() {
            connection.link.lost(ConnectionLost::ClosedLocally);
        }
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour")
            .field("connections", &self.connections.len())
            .field("dials", &self.dials)
            .finish_non_exhaustive()
    }
}

fn add(addrs: &mut Vec<Multiaddr>, addr: Multiaddr) {
    if !addrs.contains(&addr) {
        addrs.push(addr);
    }
}

fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Quic | Protocol::QuicV1))
}

fn connection_lost(cause: Option<&ConnectionError>) -> ConnectionLost {
    match cause {
        None => ConnectionLost::ClosedLocally,
        Some(ConnectionError::KeepAliveTimeout) => ConnectionLost::TimedOut,
        Some(ConnectionError::IO(error)) => match error.kind() {
            std::io::ErrorKind::TimedOut => ConnectionLost::TimedOut,
            std::io::ErrorKind::ConnectionReset => ConnectionLost::Reset,
            _ => ConnectionLost::Transport(printable(error)),
        },
    }
}

fn dial_error(error: &SwarmDialError) -> DialError {
    match error {
        SwarmDialError::WrongPeerId { obtained, .. } => {
            DialError::WrongPeer { actual: obtained.to_string() }
        }
        SwarmDialError::NoAddresses => DialError::NoUsableAddress,
        SwarmDialError::Transport(errors)
            if !errors.is_empty()
                && errors.iter().all(|(_, error)| {
                    matches!(error, libp2p::TransportError::MultiaddrNotSupported(_))
                }) =>
        {
            DialError::NoUsableAddress
        }
        error => DialError::Transport(printable(error)),
    }
}
