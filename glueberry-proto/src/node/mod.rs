//! The machine of one process: peers, dials, which session may speak for a peer, events.

mod book;
mod dial;
mod event;
mod peer;
mod peers;
mod policy;
mod prune;
mod reconnect;
mod sessions;
mod status;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::book::Saving;
pub use self::event::{ConnectionEvent, ConnectionState, NodeAction, StateReason};
use self::peer::Peer;
use self::peers::Peers;
pub use self::policy::ReconnectPolicy;
pub use self::sessions::{Admission, NewConnection, Origin};
pub use self::status::PeerStatus;
use crate::book::Book;
use crate::config::{Config, ConfigError};
use crate::crypto::{Aead, Identity, PublicKey, default_aead};
use crate::error::{CloseReason, ConnectError, DialError, NoteError};
use crate::id::{Counter, DialId, SessionId};
use crate::message::{FromNode, FromSession, ToNode, ToSession};
use crate::seed::{Generator, Seed};
use crate::session::Direction;
use crate::time::{Instant, earliest};

/// One running Glueberry identity: who its peers are, which of them are dialled, and which
/// session speaks for each. It sees peers and time, never payload.
///
/// Inputs (`handle_*`) never fail, commands (plain verbs) return an error or are accepted, outputs
/// (`poll_*`) say what is wanted, as on [`Session`](crate::Session). Sessions and their node talk
/// through opaque values that the adapter carries: [`Action::Forward`](crate::Action::Forward)
/// one way and [`NodeAction::Forward`] the other.
///
/// ```
/// use glueberry_proto::*;
///
/// // In production both come from the operating system.
/// let (identity, seed) = (Identity::from_seed(&[1; 32]), Seed::from_bytes([2; 32]));
/// let mut node = Node::new(Instant::ZERO, identity, Config::default(), seed)?;
/// let peer = Identity::from_seed(&[3; 32]).public_key();
/// node.add_peer(Instant::ZERO, peer, &[Address::new("/ip4/192.0.2.1/udp/9000/quic-v1")])?;
/// node.connect(Instant::ZERO, peer)?;
/// let Some(NodeAction::Dial { dial, .. }) = node.poll_action() else { panic!() };
///
/// // The transport could not reach it: the node tells, and tries again later.
/// node.handle_dial_failed(Instant::ZERO, dial, DialError::TimedOut);
/// let states: Vec<_> = std::iter::from_fn(|| node.poll_event()).map(|event| event.state).collect();
/// use ConnectionState::{Connecting, Disconnected, Reconnecting};
/// assert_eq!(states, [Connecting, Disconnected, Reconnecting]);
/// let next = node.poll_timeout().unwrap();
/// node.handle_timeout(next);
/// assert_eq!(node.state(peer), Connecting);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Node {
    config: Arc<Config>,
    aead: Arc<dyn Aead>,
    identity: Arc<Identity>,
    seed: Seed,
    /// What backoffs are drawn from.
    random: Generator,
    now: Instant,
    book: Book,
    saving: Saving,
    peers: Peers,
    sessions: BTreeMap<SessionId, PublicKey>,
    dials: BTreeMap<DialId, PublicKey>,
    /// Peers that wait for a dial to be allowed.
    dial_queue: VecDeque<PublicKey>,
    session_ids: Counter,
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
            book: Book::new(config.book_limits()),
            saving: Saving::new(now),
            config: Arc::new(config),
            aead,
            identity: Arc::new(identity),
            random: seed.child(b"backoff", 0).generator(),
            seed,
            now,
            peers: Peers::default(),
            sessions: BTreeMap::new(),
            dials: BTreeMap::new(),
            dial_queue: VecDeque::new(),
            session_ids: Counter::default(),
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
        self.peers.get(peer).map_or(ConnectionState::Disconnected, Peer::state)
    }

    /// Returns who dialled the connection that the peer has or last had.
    pub fn direction(&self, peer: PublicKey) -> Option<Direction> {
        self.peers.get(peer)?.direction
    }

    /// Returns the session that speaks for the peer: the one to give commands to.
    pub fn session_of(&self, peer: PublicKey) -> Option<SessionId> {
        self.peers.get(peer)?.granted
    }

    /// Returns the peers that the node holds a state for, in order of their keys. Others may be in
    /// the [book](Self::book).
    pub fn peers(&self) -> impl Iterator<Item = PublicKey> {
        self.peers.keys()
    }

    /// Returns whether nothing is left to wait for after [`shutdown`](Self::shutdown).
    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.dials.is_empty()
    }

    // ---- commands -----------------------------------------------------------------------------

    /// Dials a peer by the addresses that were [added](Self::add_peer): at once if it is waiting to
    /// be reconnected, and with a new count of attempts.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]; the node is then as it was.
    pub fn connect(&mut self, now: Instant, peer: PublicKey) -> Result<(), ConnectError> {
        self.handle_timeout(now);
        self.check_connect(peer)?;
        self.begin_connect(peer);
        self.start_dials();
        self.settle();
        Ok(())
    }

    /// Dials every peer in the book that is Disconnected, not banned and has an address, at most
    /// [`max_dials`](Config::max_dials) at one time.
    pub fn autoconnect(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.connect_all();
        self.start_dials();
        self.settle();
    }

    /// Ends whatever there is with a peer, and what the node does to get back to it. The peer's own
    /// attempts are refused for a while, or they would undo it. Returns whether there was anything
    /// to end.
    pub fn disconnect(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.handle_timeout(now);
        let is_anything = self.state(peer) != ConnectionState::Disconnected;
        if is_anything {
            self.cut_off(peer, CloseReason::Disconnected);
        }
        self.settle();
        is_anything
    }

    /// Ends the attempts to reconnect to a peer, or keeps them from beginning after its cooldown.
    /// Returns whether there were any; a session is not touched.
    pub fn cancel_reconnection(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.handle_timeout(now);
        let was_any = self.cancel_retries(peer);
        self.settle();
        was_any
    }

    /// Sets when this peer is dialled again, in place of the configured policy; `None` goes back to
    /// that. Counts from the next loss on.
    ///
    /// # Errors
    ///
    /// [`NoteError::Policy`] if the policy does not pass its [check](ReconnectPolicy::check), and
    /// [`NoteError::LimitReached`] if the node holds a state for as many other peers as it may.
    pub fn set_reconnect_policy(
        &mut self,
        now: Instant,
        peer: PublicKey,
        policy: Option<ReconnectPolicy>,
    ) -> Result<(), NoteError> {
        self.handle_timeout(now);
        if let Some(policy) = &policy {
            policy.check()?;
        }
        self.note(peer, policy.is_some(), |peer| peer.policy = policy)
    }

    /// Protects a peer from being pruned, or no longer does.
    ///
    /// # Errors
    ///
    /// [`NoteError::LimitReached`] if the node holds a state for as many other peers as it may.
    pub fn protect(
        &mut self,
        now: Instant,
        peer: PublicKey,
        is_protected: bool,
    ) -> Result<(), NoteError> {
        self.handle_timeout(now);
        self.note(peer, is_protected, |peer| peer.is_protected = is_protected)
    }

    /// Ends everything and admits nothing more; [`is_idle`](Self::is_idle) tells when it is done.
    pub fn shutdown(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.is_stopping = true;
        let peers: Vec<PublicKey> = self.peers.keys().collect();
        for peer in peers {
            self.end_all(peer, &CloseReason::Disconnected, true);
        }
        self.flush_book(now);
        self.settle();
    }

    // ---- inputs -------------------------------------------------------------------------------

    /// Takes note that a connection can carry a session with a peer whose key the transport has
    /// authenticated: one that was dialled for the node, or one that the peer has opened.
    pub fn handle_connection(&mut self, now: Instant, connection: NewConnection) -> Admission {
        self.handle_timeout(now);
        let admission = self.admit(connection);
        self.settle();
        admission
    }

    /// Takes note that a dial failed.
    pub fn handle_dial_failed(&mut self, now: Instant, dial: DialId, error: DialError) {
        self.handle_timeout(now);
        self.dial_failed(dial, error);
        self.settle();
    }

    /// Takes a word from a session.
    pub fn handle_session_message(&mut self, now: Instant, session: SessionId, message: ToNode) {
        self.handle_timeout(now);
        match message.0 {
            FromSession::Agreed => self.session_agreed(session),
            FromSession::Prepared => self.session_prepared(session),
            FromSession::Established => self.session_established(session),
            FromSession::Alive => self.session_alive(session),
            FromSession::Yielded(carry) => self.session_yielded(session, carry),
            FromSession::Closed(reason) => self.session_closed(session, reason),
        }
        self.start_dials();
        self.settle();
    }

    /// Takes note that a session was dropped without having said so, because its task died.
    pub fn handle_session_gone(&mut self, now: Instant, session: SessionId) {
        self.handle_timeout(now);
        self.session_closed(session, CloseReason::Internal("session was dropped"));
        self.start_dials();
        self.settle();
    }

    /// Does what is due. Early and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some(peer) = self.peers.due(self.now) {
            self.expire(peer);
            self.peers.settle();
        }
        self.flush_if_due();
        self.start_dials();
        self.settle();
    }

    // ---- outputs ------------------------------------------------------------------------------

    /// Returns the next thing to do at once.
    pub fn poll_action(&mut self) -> Option<NodeAction> {
        self.actions.pop_front().or_else(|| self.poll_save())
    }

    /// Returns the next change of a peer's state. While
    /// [`event_queue`](Config::event_queue) of them wait, no session is admitted and no dial
    /// starts.
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        let event = self.events.pop_front();
        self.start_dials();
        self.settle();
        event
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout): strictly later than the
    /// latest `now`, or never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.peers.next_deadline(), self.saving.flush_at)
    }

    // ---- parts --------------------------------------------------------------------------------

    /// Notes something about a peer; only what is worth it makes a peer known that is not.
    fn note(
        &mut self,
        key: PublicKey,
        is_worth_it: bool,
        what: impl FnOnce(&mut Peer),
    ) -> Result<(), NoteError> {
        if self.peers.get(key).is_none() {
            if !is_worth_it {
                return Ok(());
            }
            if self.peers.len() >= self.config.max_peers {
                return Err(NoteError::LimitReached("max_peers"));
            }
        }
        what(self.peers.get_or_insert(key));
        self.settle();
        Ok(())
    }

    fn forward(&mut self, session: SessionId, message: FromNode) {
        self.actions.push_back(NodeAction::Forward { session, message: ToSession(message) });
    }

    /// Returns when a wait that may be of no length is over: later than now, as every deadline is.
    fn after(&self, wait: Duration) -> Instant {
        self.now + wait.max(Duration::from_micros(1))
    }

    fn has_event_room(&self) -> bool {
        self.events.len() < self.config.event_queue
    }

    fn settle(&mut self) {
        self.peers.settle();
    }

    /// Ends everything with a peer, sends what was queued, and refuses it for a while.
    fn cut_off(&mut self, peer: PublicKey, reason: CloseReason) {
        let until = self.after(self.config.refuse_after_disconnect);
        if let Some(known) = self.peers.get_mut(peer) {
            known.refused_until = Some(until);
            self.end_all(peer, &reason, true);
        }
    }

    /// Cancels the peer's dials and ends its sessions, and says so by one event.
    fn end_all(&mut self, peer: PublicKey, reason: &CloseReason, drain: bool) {
        self.cancel_dial(peer);
        self.end_sessions(peer, reason, drain);
        let now = self.now;
        let told = match reason {
            CloseReason::Blacklisted => StateReason::Blacklisted,
            CloseReason::Pruned => StateReason::Pruned,
            _ if self.is_stopping => StateReason::ShuttingDown,
            _ => StateReason::Disconnected,
        };
        if let Some(known) = self.peers.get_mut(peer) {
            known.attempts = 0;
            known.is_retry_cancelled = false;
            if known.state() != ConnectionState::Disconnected {
                let event = known.move_to_disconnected(told, now);
                self.events.push_back(event);
            }
        }
    }

    /// Does what is due for one peer.
    fn expire(&mut self, key: PublicKey) {
        let now = self.now;
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        self.expire_dial(key, now);
        self.expire_sessions(key);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if is_past(peer.refused_until) {
            peer.refused_until = None;
        }
        let (is_cooled, is_retry) = (is_past(peer.cooldown_until), is_past(peer.retry_at));
        if is_cooled {
            self.cooldown_over(key);
        }
        if is_retry {
            self.retry(key);
        }
    }
}

/// An address that the adapter understands; to the core it is a text that it stores and hands
/// back.
///
/// ```
/// use glueberry_proto::Address;
///
/// let address = Address::new("/ip4/192.0.2.1/udp/9000/quic-v1");
/// assert_eq!(address.as_str(), "/ip4/192.0.2.1/udp/9000/quic-v1");
/// ```
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
