//! The machine of one process: peers, dials, which session may speak for a peer, events.

mod dial;
mod event;
mod peer;
mod sessions;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use self::dial::Dial;
pub use self::event::{ConnectionEvent, ConnectionState, NodeAction, StateReason};
use self::peer::{Dialling, Peer};
use self::sessions::SessionRecord;
pub use self::sessions::{Admission, NewConnection, Origin};
use crate::config::{Config, ConfigError};
use crate::crypto::{Aead, Identity, PublicKey, default_aead};
use crate::error::{AddPeerError, CloseReason, ConnectError, DialError};
use crate::id::{ConnectionId, Counter, DialId};
use crate::message::{FromNode, FromSession, ToNode, ToSession};
use crate::seed::Seed;
use crate::session::Direction;
use crate::time::{Instant, earliest};

/// One running Glueberry identity: who its peers are, which of them are dialled, and which
/// session speaks for each. It sees peers and time, never payload.
///
/// Inputs (`handle_*`) never fail, commands (plain verbs) return an error or are accepted, outputs
/// (`poll_*`) say what is wanted, as on [`Session`](crate::Session). Sessions and their node talk
/// through opaque values that the adapter carries: [`Action::Forward`](crate::Action::Forward)
/// one way and [`NodeAction::Forward`] the other.
#[derive(Debug)]
pub struct Node {
    config: Arc<Config>,
    aead: Arc<dyn Aead>,
    identity: Arc<Identity>,
    seed: Seed,
    now: Instant,
    peers: BTreeMap<PublicKey, Peer>,
    sessions: BTreeMap<ConnectionId, SessionRecord>,
    dials: BTreeMap<DialId, Dial>,
    /// Peers that wait for a dial to be allowed.
    dial_queue: VecDeque<PublicKey>,
    connection_ids: Counter,
    dial_ids: Counter,
    actions: VecDeque<NodeAction>,
    events: VecDeque<ConnectionEvent>,
    is_stopping: bool,
}

impl Node {
    /// Makes a node. `seed` must be fresh from the operating system, unless the run is to be
    /// replayed: see [`Seed`].
    ///
    /// # Errors
    ///
    /// Names the field of `config` that cannot work.
    pub fn new(
        now: Instant,
        identity: Identity,
        config: Config,
        seed: Seed,
    ) -> Result<Self, ConfigError> {
        Self::with_aead(now, identity, config, seed, default_aead())
    }

    /// Makes a node that seals with the given implementation.
    ///
    /// # Errors
    ///
    /// Names the field of `config` that cannot work.
    pub fn with_aead(
        now: Instant,
        identity: Identity,
        config: Config,
        seed: Seed,
        aead: Arc<dyn Aead>,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            config: Arc::new(config),
            aead,
            identity: Arc::new(identity),
            seed,
            now,
            peers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            dials: BTreeMap::new(),
            dial_queue: VecDeque::new(),
            connection_ids: Counter::default(),
            dial_ids: Counter::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            is_stopping: false,
        })
    }

    /// Returns this node's own key.
    pub fn public_key(&self) -> PublicKey {
        self.identity.public_key()
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the state of a peer; `Disconnected` if it is unknown.
    pub fn state(&self, peer: PublicKey) -> ConnectionState {
        self.peers.get(&peer).map_or(ConnectionState::Disconnected, Peer::state)
    }

    /// Returns who dialled the connection that the peer has or last had.
    pub fn direction(&self, peer: PublicKey) -> Option<Direction> {
        self.peers.get(&peer)?.direction
    }

    /// Returns the session that speaks for the peer: the one to give commands to.
    pub fn session_of(&self, peer: PublicKey) -> Option<ConnectionId> {
        self.peers.get(&peer)?.granted
    }

    /// Returns the peers that the node holds anything about, in order of their keys.
    pub fn peers(&self) -> impl Iterator<Item = PublicKey> {
        self.peers.keys().copied()
    }

    /// Tells whether nothing is left to wait for after [`shutdown`](Self::shutdown).
    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.dials.is_empty()
    }

    // ---- commands -----------------------------------------------------------------------------

    /// Learns addresses of a peer, or replaces those that are known.
    ///
    /// # Errors
    ///
    /// See [`AddPeerError`]; the node is then as it was.
    pub fn add_peer(
        &mut self,
        now: Instant,
        peer: PublicKey,
        addresses: &[Address],
    ) -> Result<(), AddPeerError> {
        self.handle_timeout(now);
        if peer == self.public_key() {
            return Err(AddPeerError::OwnKey);
        }
        if addresses.len() > self.config.max_addresses {
            return Err(AddPeerError::LimitReached("max_addresses"));
        }
        if !self.peers.contains_key(&peer) && self.peers.len() >= self.config.max_peers {
            return Err(AddPeerError::LimitReached("max_peers"));
        }
        if let Some(address) = addresses.iter().find(|address| address.0.len() > MAX_ADDRESS) {
            return Err(AddPeerError::AddressTooLong { len: address.0.len() });
        }
        self.peer(peer).addresses = addresses.to_vec();
        Ok(())
    }

    /// Dials a peer by the addresses that were [added](Self::add_peer).
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]; the node is then as it was.
    pub fn connect(&mut self, now: Instant, peer: PublicKey) -> Result<(), ConnectError> {
        self.handle_timeout(now);
        self.check_connect(peer)?;
        let now = self.now;
        let event = self.peer(peer).move_to_connecting(now);
        self.events.push_back(event);
        self.peer(peer).dialling = Dialling::Queued;
        self.dial_queue.push_back(peer);
        self.start_dials();
        Ok(())
    }

    /// Ends whatever there is with a peer. Its own attempts are refused for a while, or they would
    /// undo it. Returns whether there was anything to end.
    pub fn disconnect(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.handle_timeout(now);
        let until = self.now + self.config.refuse_after_disconnect;
        let Some(known) = self.peers.get_mut(&peer) else {
            return false;
        };
        if matches!(known.state(), ConnectionState::Disconnected | ConnectionState::Cooldown) {
            return false;
        }
        known.refused_until = Some(until);
        self.end_all(peer, &CloseReason::Disconnected, true);
        true
    }

    /// Ends everything and admits nothing more; [`is_idle`](Self::is_idle) tells when it is done.
    pub fn shutdown(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.is_stopping = true;
        let peers: Vec<PublicKey> = self.peers.keys().copied().collect();
        for peer in peers {
            self.end_all(peer, &CloseReason::Disconnected, true);
        }
    }

    // ---- inputs -------------------------------------------------------------------------------

    /// Takes note that a connection can carry a session with a peer whose key the transport has
    /// authenticated: one that was dialled for the node, or one that the peer has opened.
    pub fn handle_connection(&mut self, now: Instant, connection: NewConnection) -> Admission {
        self.handle_timeout(now);
        self.admit(connection)
    }

    /// Takes note that a dial failed.
    pub fn handle_dial_failed(&mut self, now: Instant, dial: DialId, error: DialError) {
        self.handle_timeout(now);
        self.dial_failed(dial, error);
    }

    /// Takes a word from a session.
    pub fn handle_session_message(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        message: ToNode,
    ) {
        self.handle_timeout(now);
        match message.0 {
            FromSession::Agreed => self.session_agreed(connection),
            FromSession::Prepared => self.session_prepared(connection),
            FromSession::Established => self.session_established(connection),
            FromSession::Yielded(carry) => self.session_yielded(connection, carry),
            FromSession::Closed(reason) => self.session_closed(connection, reason),
        }
    }

    /// Takes note that a session was dropped without having said so, because its task died.
    pub fn handle_session_gone(&mut self, now: Instant, connection: ConnectionId) {
        self.handle_timeout(now);
        self.session_closed(connection, CloseReason::Internal("session was dropped"));
    }

    /// Does what is due. Early and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.expire_dials();
        self.expire_sessions();
        self.expire_peers();
        self.start_dials();
    }

    // ---- outputs ------------------------------------------------------------------------------

    /// Returns the next thing to do at once.
    pub fn poll_action(&mut self) -> Option<NodeAction> {
        self.actions.pop_front()
    }

    /// Returns the next change of a peer's state. While
    /// [`event_queue`](Config::event_queue) of them wait, no session is admitted and no dial
    /// starts.
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        let event = self.events.pop_front();
        self.start_dials();
        event
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout): strictly later than the
    /// latest `now`, or never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let dials = self.dials.values().map(|dial| dial.deadline).min();
        let sessions = self.sessions.values().filter_map(|session| session.deadline).min();
        let peers = self.peers.values().filter_map(Peer::next_deadline).min();
        earliest(dials, earliest(sessions, peers))
    }

    // ---- parts --------------------------------------------------------------------------------

    fn peer(&mut self, key: PublicKey) -> &mut Peer {
        self.peers.entry(key).or_insert_with(|| Peer::new(key))
    }

    fn forward(&mut self, connection: ConnectionId, message: FromNode) {
        self.actions.push_back(NodeAction::Forward { connection, message: ToSession(message) });
    }

    fn has_event_room(&self) -> bool {
        self.events.len() < self.config.event_queue
    }

    /// Cancels the peer's dials and ends its sessions, and says so by one event.
    fn end_all(&mut self, peer: PublicKey, reason: &CloseReason, drain: bool) {
        self.cancel_dial(peer);
        let of_peer = |record: &&mut SessionRecord| record.peer == peer && !record.is_ending;
        let mut ending = Vec::new();
        for (connection, record) in &mut self.sessions {
            if let Some(record) = Some(record).filter(of_peer) {
                record.is_ending = true;
                ending.push(*connection);
            }
        }
        for connection in ending {
            self.forward(connection, FromNode::Close { reason: reason.clone(), drain });
        }
        let now = self.now;
        if let Some(known) = self.peers.get_mut(&peer)
            && known.state() != ConnectionState::Disconnected
        {
            let event = known.move_to_disconnected(StateReason::Disconnected, now);
            self.events.push_back(event);
        }
    }

    /// Ends cooldowns and handshakes whose time is up, and forgets peers that are of no interest.
    fn expire_peers(&mut self) {
        let now = self.now;
        let is_due = |peer: &Peer| peer.next_deadline().is_some_and(|at| at <= now);
        let due: Vec<PublicKey> =
            self.peers.iter().filter(|(_, peer)| is_due(peer)).map(|(key, _)| *key).collect();
        for key in due {
            self.expire_peer(key);
        }
    }

    fn expire_peer(&mut self, key: PublicKey) {
        let now = self.now;
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if is_past(peer.refused_until) {
            peer.refused_until = None;
        }
        if is_past(peer.cooldown_until()) {
            let event = peer.move_to_disconnected(StateReason::CooldownOver, now);
            self.events.push_back(event);
        }
        if is_past(peer.handshake_deadline) {
            peer.handshake_deadline = None;
            if let Some(connection) = peer.granted {
                self.time_out_handshake(connection);
            }
        }
        self.forget_if_unknown(key);
    }

    fn forget_if_unknown(&mut self, key: PublicKey) {
        let now = self.now;
        let is_used = self.sessions.values().any(|session| session.peer == key);
        if !is_used && self.peers.get(&key).is_some_and(|peer| peer.is_forgettable(now)) {
            self.peers.remove(&key);
        }
    }
}

/// An address that the adapter understands; to the core it is a text that it stores and hands
/// back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl Address {
    /// Wraps the text form of an address.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(feature = "multiformats")]
impl From<&multiaddr::Multiaddr> for Address {
    fn from(address: &multiaddr::Multiaddr) -> Self {
        Self(address.to_string())
    }
}

/// Longest address in bytes of text.
pub(crate) const MAX_ADDRESS: usize = 1024;
