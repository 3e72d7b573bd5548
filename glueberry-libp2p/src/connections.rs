//! The swarm's connections, and the dials of the node that wait for one.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant as StdInstant;

use glueberry_proto::{
    Address, ConnectionLost, DialError, DialId, Naming, NewConnection, Origin, PublicKey, printable,
};
use glueberry_tokio::adapter::Shared;
use glueberry_tokio::runtime::Timer;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionError, ConnectionId, DialError as SwarmDialError};
use libp2p::{Multiaddr, PeerId};
use tracing::debug;

use crate::handler::Handler;
use crate::link::{Link, PendingLink};
use crate::settings::{Ownership, Settings};
use crate::substream::Order;

/// Every connection of the swarm, and which dial of the node waits for which.
pub(crate) struct Connections {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    connections: BTreeMap<ConnectionId, Connection>,
    dials: BTreeMap<DialId, Dialling>,
    timer: Box<dyn Timer>,
}

/// A connection of the swarm, whatever uses it.
struct Connection {
    peer: PeerId,
    link: Arc<Link>,
    /// The peer has made it.
    is_inbound: bool,
    is_relayed: bool,
    is_established: bool,
    /// The swarm was asked to close it.
    is_closing: bool,
}

/// How far a dial of the node is.
#[derive(Clone, Copy, Debug)]
enum Dialling {
    Pending(ConnectionId),
    /// Connected over a relay; a direct connection is waited for, without an end if `until` is `None`.
    Punching {
        relayed: ConnectionId,
        until: Option<StdInstant>,
    },
}

impl Connections {
    pub(crate) fn new(shared: Arc<Shared>, settings: Arc<Settings>) -> Self {
        let timer = shared.runtime().timer();
        Self { shared, settings, connections: BTreeMap::new(), dials: BTreeMap::new(), timer }
    }

    /// No direct connection to the peer will come about: dials that wait for one take the relayed.
    #[cfg(feature = "node")]
    pub(crate) fn hole_punch_failed(&mut self, peer: PeerId) {
        for (dial, relayed) in self.punching(peer) {
            self.use_relayed(dial, relayed);
        }
    }

    // ---- dials --------------------------------------------------------------------------------

    /// Finds a connection for a dial of the node, or returns what the swarm is to dial.
    pub(crate) fn dial(
        &mut self,
        dial: DialId,
        peer: PeerId,
        addresses: &[Address],
    ) -> Option<DialOpts> {
        let idle = self.connections.values().filter(|one| one.peer == peer && one.is_established);
        let mut idle: Vec<&Connection> = idle.collect();
        idle.sort_by_key(|one| one.is_relayed);
        if let Some(link) = idle.iter().find(|one| one.link.claim()).map(|one| one.link.clone()) {
            self.offer(dial, peer, link);
            return None;
        }
        let usable = |address: &Address| address.as_str().parse::<Multiaddr>().ok();
        let addresses: Vec<Multiaddr> = addresses.iter().filter_map(usable).collect();
        if addresses.is_empty() {
            self.shared.dial_failed(dial, DialError::NoUsableAddress);
            return None;
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
        Some(opts)
    }

    pub(crate) fn cancel(&mut self, dial: DialId) {
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

    // ---- connections --------------------------------------------------------------------------

    /// Adds a connection that is about to be established; returns its handler. `address` is the one that
    /// was dialled, by this side or by the peer, and `from` where the peer's connection comes from.
    pub(crate) fn add(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        from: Option<&Multiaddr>,
    ) -> Handler {
        let is_inbound = from.is_some();
        let is_relayed = is_relayed(address);
        let link = Arc::new(Link::new(from.filter(|_| !is_relayed).and_then(ip_of)));
        if self.dial_of(id).is_some() {
            // Before the peer can ask for a session of its own on it.
            link.claim();
        }
        let order = if is_relayed || !is_quic(address) {
            Order::PerConnection
        } else {
            Order::PerSubstream
        };
        let connection = Connection {
            peer,
            link: link.clone(),
            is_inbound,
            is_relayed,
            is_established: false,
            is_closing: false,
        };
        self.connections.insert(id, connection);
        let (shared, settings) = (self.shared.clone(), self.settings.clone());
        Handler::new((peer, relay_of(address)), link, shared, settings, order, is_inbound)
    }

    /// Returns the oldest of the connections that peers have made and not used, if there are more
    /// than may wait. It is to be closed: a peer that wants a session asks for it in moments.
    pub(crate) fn take_excess(&mut self) -> Option<(PeerId, ConnectionId)> {
        if self.settings.ownership == Ownership::Shared {
            return None;
        }
        let is_unused = |one: &Connection| {
            one.is_inbound && one.is_established && !one.is_closing && !one.link.is_claimed()
        };
        let count = self.connections.values().filter(|one| is_unused(one)).count();
        if count <= self.settings.max_unused {
            return None;
        }
        let (id, oldest) = self.connections.iter_mut().find(|(_, one)| is_unused(one))?;
        oldest.is_closing = true;
        Some((oldest.peer, *id))
    }

    pub(crate) fn established(&mut self, id: ConnectionId) {
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
                let until = self.shared.runtime().now().checked_add(wait);
                self.dials.insert(dial, Dialling::Punching { relayed: id, until });
            }
            Some(dial) => {
                self.dials.remove(&dial);
                self.offer(dial, peer, link);
            }
            None if !is_relayed => self.went_direct(peer, &link),
            None => {}
        }
        self.offer_others(peer);
    }

    /// Offers the connections with a peer that are not used, if there is one in use: those that the peer
    /// has made, and those whose dial was cancelled too late. The node decides which it keeps. A Go node,
    /// which has one session for all of them, could use any of them for its messages.
    fn offer_others(&self, peer: PeerId) {
        if self.settings.ownership == Ownership::Shared {
            return;
        }
        let open = || {
            let of_peer = self.connections.values().filter(|one| one.peer == peer);
            of_peer.filter(|one| one.is_established && !one.is_closing)
        };
        let Ok(key) = PublicKey::try_from(&peer) else {
            return;
        };
        // A direct one beside a relayed one is to take its place.
        let is_direct = open().any(|one| one.link.is_claimed() && !one.is_relayed);
        let is_used = open().any(|one| one.link.is_claimed());
        let is_spare = |one: &&Connection| is_used && (one.is_inbound || is_direct);
        for other in open().filter(is_spare).filter(|one| one.link.claim()) {
            PendingLink::offer_accepted(&other.link, &self.shared, key);
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

    /// Forgets a connection that was denied before it was established.
    pub(crate) fn denied(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
    }

    pub(crate) fn closed(&mut self, id: ConnectionId, cause: Option<&ConnectionError>) {
        let why = connection_lost(cause);
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

    pub(crate) fn failed(&mut self, id: ConnectionId, error: &SwarmDialError) {
        self.connections.remove(&id);
        if let Some(dial) = self.dial_of(id) {
            self.dials.remove(&dial);
            self.shared.dial_failed(dial, dial_error(error));
        }
    }

    /// Gives up waiting for direct connections that have not come in time.
    pub(crate) fn poll_timer(&mut self, cx: &mut Context<'_>) {
        loop {
            let now = self.shared.runtime().now();
            let overdue = self.dials.iter().find_map(|(dial, dialling)| match dialling {
                Dialling::Punching { relayed, until: Some(until) } if *until <= now => {
                    Some((*dial, *relayed))
                }
                _ => None,
            });
            if let Some((dial, relayed)) = overdue {
                self.use_relayed(dial, relayed);
                continue;
            }
            let next = self.dials.values().filter_map(|dialling| match dialling {
                Dialling::Punching { until, .. } => *until,
                Dialling::Pending(_) => None,
            });
            self.timer.reset(next.min());
            if self.timer.poll(cx).is_pending() {
                return;
            }
        }
    }
}

/// The swarm is gone, and every connection with it.
impl Drop for Connections {
    fn drop(&mut self) {
        for dial in std::mem::take(&mut self.dials).into_keys() {
            self.shared.dial_failed(dial, swarm_is_gone());
        }
        for connection in self.connections.values() {
            connection.link.lost(ConnectionLost::ClosedLocally);
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("connections", &self.connections.len())
            .field("dials", &self.dials)
            .finish_non_exhaustive()
    }
}

/// The error of a dial that the swarm will never answer.
pub(crate) fn swarm_is_gone() -> DialError {
    DialError::Transport("the swarm is gone".to_owned())
}

fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Returns the relay that an address leads over.
fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let before = address.iter().take_while(|part| *part != Protocol::P2pCircuit);
    let named = before.filter_map(|part| match part {
        Protocol::P2p(relay) => Some(relay),
        _ => None,
    });
    named.last().filter(|_| is_relayed(address))
}

/// Returns the address of the machine at the other end.
fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
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
        SwarmDialError::Transport(errors) => {
            let each = errors.iter().map(|(address, error)| {
                let mut address = address.clone();
                // Who was dialled is known; where is not, of several addresses.
                if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
                    address.pop();
                }
                format!("{address}: {}", root(error))
            });
            DialError::Transport(printable(each.collect::<Vec<_>>().join("; ")))
        }
        error => DialError::Transport(printable(error)),
    }
}

/// Returns what an error comes from: the text of each transport around it repeats it.
fn root(mut error: &dyn StdError) -> &dyn StdError {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}
