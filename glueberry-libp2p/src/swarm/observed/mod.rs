//! What peers say of where they see this node, of which little is believed.
//!
//! A peer may say something else in every message of identify, and send as many as it likes. Each would be a
//! line in the log and a candidate for an external address, of which autonat forgets none and hole punching
//! keeps the latest. So
//!
//! | bound | of |
//! |---|---|
//! | messages that are heard, in a time | one connection |
//! | addresses that are new, in a minute | the peers of one network |
//! | addresses that are new, in a time | all peers that this side has dialled, and all others |
//!
//! An address that is known is always heard.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant as StdInstant};

use glueberry_proto::{Instant, Rates};
use glueberry_tokio::adapter::Network;
use glueberry_tokio::runtime::Runtime;
use libp2p::core::Endpoint;
use libp2p::core::connection::ConnectedPoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, identify};

/// identify within these bounds.
pub(super) struct Observed {
    inner: identify::Behaviour,
    runtime: Arc<dyn Runtime>,
    connections: HashMap<ConnectionId, Connection>,
    /// Whose message was reported last. The candidates in it follow.
    from: Option<ConnectionId>,
    candidates: Candidates,
}

/// Who observes.
struct Connection {
    is_dialled: bool,
    network: Option<Network>,
    messages: Allowance,
}

/// The addresses at which this node may be, as peers see it.
struct Candidates {
    began: StdInstant,
    /// Those that were reported lately, the latest last.
    known: VecDeque<Multiaddr>,
    of_network: Rates<Option<Network>>,
    of_dialled: Allowance,
    of_others: Allowance,
}

/// What may be done some times at once, and once more in each span of time.
struct Allowance {
    at_once: u32,
    each: Duration,
    /// When nothing of it is used.
    whole_at: StdInstant,
}

impl Observed {
    pub(super) fn new(inner: identify::Behaviour, runtime: Arc<dyn Runtime>) -> Self {
        let candidates = Candidates::new(runtime.now());
        Self { inner, runtime, connections: HashMap::new(), from: None, candidates }
    }

    fn established(&mut self, id: ConnectionId, endpoint: &ConnectedPoint) {
        let messages = Allowance::new(self.runtime.now(), MESSAGES_AT_ONCE, EACH_MESSAGE);
        let network = ip_of(endpoint.get_remote_address()).and_then(Network::of);
        let connection = Connection { is_dialled: endpoint.is_dialer(), network, messages };
        self.connections.insert(id, connection);
    }

    /// Returns whether an address is passed on as a candidate.
    fn is_candidate(&mut self, address: &Multiaddr) -> bool {
        let from = self.from.and_then(|from| self.connections.get(&from));
        let (is_dialled, network) =
            from.map_or((false, None), |from| (from.is_dialled, from.network));
        self.candidates.hear(address, is_dialled, network, self.runtime.now())
    }
}

impl Candidates {
    fn new(now: StdInstant) -> Self {
        Self {
            began: now,
            known: VecDeque::new(),
            of_network: Rates::default(),
            of_dialled: Allowance::new(now, CANDIDATES_AT_ONCE, EACH_CANDIDATE),
            of_others: Allowance::new(now, CANDIDATES_AT_ONCE, EACH_CANDIDATE),
        }
    }

    fn hear(
        &mut self,
        address: &Multiaddr,
        is_dialled: bool,
        network: Option<Network>,
        now: StdInstant,
    ) -> bool {
        if let Some(at) = self.known.iter().position(|known| known == address) {
            let known = self.known.remove(at);
            self.known.extend(known);
            return true;
        }
        let of_all = if is_dialled { &mut self.of_dialled } else { &mut self.of_others };
        let since = Instant::ZERO + now.saturating_duration_since(self.began);
        let is_heard = address.len() <= LONGEST
            && of_all.has_one(now)
            && self.of_network.take(network, PER_NETWORK, since)
            && of_all.take(now);
        if is_heard {
            if self.known.len() >= MOST_KNOWN {
                self.known.pop_front();
            }
            self.known.push_back(address.clone());
        }
        is_heard
    }
}

impl Allowance {
    const fn new(now: StdInstant, at_once: u32, each: Duration) -> Self {
        Self { at_once, each, whole_at: now }
    }

    fn after_one(&self, now: StdInstant) -> Option<StdInstant> {
        let after = self.whole_at.max(now) + self.each;
        (after.duration_since(now) <= self.each * self.at_once).then_some(after)
    }

    fn has_one(&self, now: StdInstant) -> bool {
        self.after_one(now).is_some()
    }

    fn take(&mut self, now: StdInstant) -> bool {
        let after = self.after_one(now);
        self.whole_at = after.unwrap_or(self.whole_at);
        after.is_some()
    }
}

/// Returns the address of a peer, or of the relay that leads to it.
fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

impl NetworkBehaviour for Observed {
    type ConnectionHandler = THandler<identify::Behaviour>;
    type ToSwarm = identify::Event;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(id, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(it) => self.established(it.connection_id, it.endpoint),
            FromSwarm::ConnectionClosed(it) => drop(self.connections.remove(&it.connection_id)),
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let now = self.runtime.now();
        if self.connections.get_mut(&id).is_some_and(|it| it.messages.take(now)) {
            self.inner.on_connection_handler_event(peer, id, event);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<identify::Event, THandlerInEvent<Self>>> {
        loop {
            let event = ready!(self.inner.poll(cx));
            match &event {
                ToSwarm::GenerateEvent(identify::Event::Received { connection_id, .. }) => {
                    self.from = Some(*connection_id);
                }
                ToSwarm::NewExternalAddrCandidate(address) if !self.is_candidate(address) => {
                    continue;
                }
                _ => {}
            }
            return Poll::Ready(event);
        }
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").finish_non_exhaustive()
    }
}

/// Messages of identify on a connection: there is one each way, and more when addresses change.
const MESSAGES_AT_ONCE: u32 = 16;
const EACH_MESSAGE: Duration = Duration::from_secs(5);
/// New addresses of peers in one network, in a minute.
const PER_NETWORK: usize = 4;
/// New addresses of all peers: more than a node has, with one for each address that it listens on and that
/// its router has. An attacker with many networks adds 144 a day to what autonat keeps.
const CANDIDATES_AT_ONCE: u32 = 32;
const EACH_CANDIDATE: Duration = Duration::from_secs(600);
/// Addresses of which it is known that they were reported.
const MOST_KNOWN: usize = 128;
/// Bytes of an address: one over a relay has about a hundred.
const LONGEST: usize = 256;
