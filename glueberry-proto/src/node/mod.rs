//! The machine of one process: peers, dials, sessions, the address book, events.
//!
//! [`Node`] routes: what comes in goes to one [`Peer`], with the other parts lent to it
//! as a [`Context`]. [`Dials`] knows which dials are queued or under way, [`Sessions`] which peer a
//! session belongs to, [`Store`] the book and when it is saved, [`Gate`] what the limits allow,
//! [`Rates`] how often a peer may come, and [`Outputs`] what is to be polled. Who gives way when places
//! are short is decided in [`strangers`].

mod admission;
mod commands;
mod connection;
mod context;
mod dials;
mod env;
mod event;
mod getters;
mod outputs;
mod peer;
mod peers;
mod rates;
mod sessions;
mod status;
mod store;
mod strangers;
mod timer;

use alloc::sync::Arc;

pub use self::admission::Admission;
use self::admission::Gate;
pub use self::connection::{NewConnection, Origin};
use self::context::Context;
use self::dials::Dials;
use self::env::Env;
pub use self::event::{ConnectionEvent, ConnectionState, NodeAction, StateReason};
use self::outputs::Outputs;
use self::peer::Peer;
use self::peers::Peers;
pub(crate) use self::rates::MOST_KEPT as MOST_RATES;
pub use self::rates::Rates;
use self::sessions::Sessions;
pub use self::status::PeerStatus;
use self::store::Store;
pub use self::timer::{NodeTimer, PeerTimer};
use crate::address::Address;
use crate::config::{Config, ConfigError, Problem};
use crate::crypto::{Aead, Identity, PublicKey, default_aead};
use crate::error::{CloseReason, DialError, RefuseReason};
use crate::id::{DialId, SessionId};
use crate::message::{FromSession, ToNode};
use crate::prelude::*;
use crate::seed::{Generator, Seed};
use crate::session::{Direction, Session};
use crate::time::Instant;
use crate::v2::suite::offered;
use crate::wire::Profile;

/// One running Glueberry identity: who its peers are, which of them are dialled, and which
/// session of each is the current one. It sees peers and time, never payload.
///
/// Inputs (`handle_*`) never fail, commands (plain verbs) return an error or are accepted, outputs
/// (`poll_*`) say what is wanted, as on [`Session`]. Sessions and their node exchange opaque
/// messages that the adapter carries: [`Action::Forward`](crate::Action::Forward) one way and
/// [`NodeAction::Forward`] the other.
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
/// // The transport could not reach it: the node says so, and tries again later.
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
    env: Env,
    store: Store,
    peers: Peers,
    sessions: Sessions,
    dials: Dials,
    rates: Rates<PublicKey>,
    out: Outputs,
    /// What backoffs are drawn from.
    random: Generator,
}

impl Node {
    /// Makes a node. `seed` must be fresh from the operating system, unless the run is to be
    /// replayed: see [`Seed`]. A caller that signs with the identity, too, shares it as an `Arc`.
    ///
    /// # Errors
    ///
    /// Names the field of `config` that cannot work, or the seed if it is of zeros.
    pub fn new(
        now: Instant,
        identity: impl Into<Arc<Identity>>,
        config: Config,
        seed: Seed,
    ) -> Result<Self, ConfigError> {
        Self::with_aead(now, identity, config, seed, default_aead())
    }

    /// Makes a node that seals with the given implementation.
    ///
    /// # Errors
    ///
    /// Names the field of `config` that cannot work, or the seed if it is of zeros.
    pub fn with_aead(
        now: Instant,
        identity: impl Into<Arc<Identity>>,
        config: Config,
        seed: Seed,
        aead: Arc<dyn Aead>,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        if seed.is_zero() {
            return Err(ConfigError::new("seed", Problem::Zero));
        }
        let has_v2 = config.allowed_profiles().any(|profile| profile == Profile::V2);
        if has_v2 && offered(&*aead, config.hardware_aes, &config.suites).is_empty() {
            let problem = Problem::Unusable("none of them is available here");
            return Err(ConfigError::new("suites", problem));
        }
        let identity = identity.into();
        let own_key = identity.public_key();
        Ok(Self {
            store: Store::new(now, config.book_limits()),
            out: Outputs::new(config.event_queue),
            env: Env { config: Arc::new(config), own_key, now, is_stopping: false },
            peers: Peers::default(),
            dials: Dials::default(),
            rates: Rates::default(),
            random: seed.child(b"backoff", 0).generator(),
            sessions: Sessions::new(aead, identity, seed),
        })
    }

    // ---- inputs -------------------------------------------------------------------------------

    /// Has the sessions that are made from now on depend on fresh entropy as well, besides the node's
    /// seed. The caller wipes its copy.
    ///
    /// A driver with an operating system calls it before each
    /// [`handle_connection`](Self::handle_connection): then a machine that was cloned or restored from
    /// a snapshot draws other nonces in its next sessions than it has drawn before. Without it, a run is
    /// decided by its seed.
    pub fn add_entropy(&mut self, now: Instant, entropy: &[u8; 32]) {
        self.step(now, |node| node.sessions.add_entropy(entropy));
    }

    /// Takes note that a connection can carry a session with a peer whose key the transport has
    /// authenticated: one that was dialled for the node, or one that the peer has opened.
    pub fn handle_connection(&mut self, now: Instant, connection: NewConnection) -> Admission {
        self.step(now, |node| match node.admit(connection) {
            Ok(session) => Admission::Accept(Box::new(session)),
            Err(reason) => Admission::Refuse(reason),
        })
    }

    /// Takes note by which address the peer of a dial was reached: the next dial of it tries that
    /// one first. Before [`handle_connection`](Self::handle_connection), which ends the dial.
    pub fn handle_dial_answered(&mut self, now: Instant, dial: DialId, address: &Address) {
        self.step(now, |node| {
            // It may have been cancelled meanwhile.
            if let Some(peer) = node.dials.peer(dial) {
                node.store.book.reached(peer, address);
            }
        });
    }

    /// Takes note that a dial failed.
    pub fn handle_dial_failed(&mut self, now: Instant, dial: DialId, error: DialError) {
        self.step(now, |node| node.dial_failed(dial, error));
    }

    /// Takes a message of a session, which must be the one that has forwarded it.
    pub fn handle_session_message(&mut self, now: Instant, session: SessionId, message: ToNode) {
        self.step(now, |node| node.session_message(session, message.0));
    }

    /// Takes note that a session was dropped without having reported its end, because its task
    /// died. The node also finds that out by itself, with its next input: this one is for drivers
    /// that learn of it and have no other.
    pub fn handle_session_gone(&mut self, now: Instant, session: SessionId) {
        self.step(now, |node| node.session_dropped(session));
    }

    /// Does what is due. Early and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.step(now, |_| ());
    }

    // ---- outputs ------------------------------------------------------------------------------

    /// Returns the next thing to do at once.
    ///
    /// Poll it after every input and command, and again after events were polled: the room that
    /// they leave lets dials start.
    pub fn poll_action(&mut self) -> Option<NodeAction> {
        if let Some(action) = self.out.poll_action() {
            return Some(action);
        }
        // Events that were polled since the last input may have made room.
        self.finish_step();
        // A save comes after everything that is more urgent.
        let action = self.out.poll_action();
        let action = action.or_else(|| self.store.poll_save().then_some(NodeAction::SaveBook));
        if action.is_none() {
            self.out.note_taken(self.env.now);
        }
        action
    }

    /// Returns the next change of a peer's state. While
    /// [`event_queue`](Config::event_queue) of them wait, no session is admitted and no dial
    /// starts.
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        self.out.poll_event()
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout): strictly later than the
    /// latest `now`, or never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_timer().map(|(at, _)| at)
    }

    /// Returns the time of [`poll_timeout`](Self::poll_timeout) and what it is for: for traces, and
    /// for people who look for a cause.
    ///
    /// ```
    /// # use glueberry_proto::*;
    /// # let (identity, seed) = (Identity::from_seed(&[1; 32]), Seed::from_bytes([2; 32]));
    /// # let mut node = Node::new(Instant::ZERO, identity, Config::default(), seed)?;
    /// # let peer = Identity::from_seed(&[3; 32]).public_key();
    /// let connection = NewConnection { peer, origin: Origin::Accepted, naming: Naming::Negotiated };
    /// let admission = node.handle_connection(Instant::ZERO, connection);
    /// # assert!(matches!(admission, Admission::Accept(_)));
    /// let (at, timer) = node.next_timer().unwrap();
    /// assert_eq!(at, Instant::ZERO + node.config().negotiation_timeout);
    /// assert_eq!(timer, NodeTimer::Peer { peer, timer: PeerTimer::Session });
    /// # Ok::<(), ConfigError>(())
    /// ```
    pub fn next_timer(&self) -> Option<(Instant, NodeTimer)> {
        let flush = self.store.flush_at().map(|at| (at, NodeTimer::BookFlush));
        let peer = self.peers.next_due().and_then(|(at, peer)| {
            let timer = self.peers.get(peer)?.next_timer()?;
            Some((at, NodeTimer::Peer { peer, timer }))
        });
        peer.into_iter().chain(flush).min_by_key(|(at, _)| *at)
    }

    // ---- steps --------------------------------------------------------------------------------

    /// Handles an input or a command. First comes what is due by then, as if
    /// [`handle_timeout`](Self::handle_timeout) had been called before.
    fn step<R>(&mut self, now: Instant, input: impl FnOnce(&mut Self) -> R) -> R {
        self.env.now = self.env.now.max(now);
        for session in self.sessions.take_dropped() {
            self.session_dropped(session);
        }
        self.expire();
        self.finish_step();
        let result = input(self);
        self.finish_step();
        result
    }

    /// Does what the step has made possible, and updates what is derived from the peers.
    fn finish_step(&mut self) {
        self.start_dials();
        self.peers.settle();
    }

    fn expire(&mut self) {
        let now = self.env.now;
        while let Some((_, peer)) = self.peers.next_due().filter(|(at, _)| *at <= now) {
            self.with_known_peer(peer, Peer::handle_timeout);
            self.peers.settle();
        }
        self.store.flush_if_due(now);
    }

    /// Starts queued dials for as long as the limits allow.
    fn start_dials(&mut self) {
        self.make_way_for_wanted_dials();
        while self.dials.count_under_way() < self.env.config.max_dials && self.out.has_event_room()
        {
            let peers = &self.peers;
            // The others in the queue are not held up by one whose last session is still sending.
            let may_dial = |peer| !peers.get(peer).is_some_and(Peer::is_draining);
            let Some((peer, urgency)) = self.dials.dequeue(may_dial) else {
                return;
            };
            self.with_known_peer(peer, |peer, cx| peer.start_dial(urgency, cx));
        }
    }

    /// Postpones as many dials in the background as take the places of those that the application
    /// waits for.
    fn make_way_for_wanted_dials(&mut self) {
        if !self.out.has_event_room() {
            return;
        }
        let peers = &self.peers;
        let may_dial = |peer| !peers.get(peer).is_some_and(Peer::is_draining);
        let free = self.env.config.max_dials.saturating_sub(self.dials.count_under_way());
        for _ in free..self.dials.count_wanted(may_dial) {
            let Some(peer) = self.dials.oldest_in_background() else {
                return;
            };
            self.with_known_peer(peer, Peer::postpone_dial);
        }
    }

    /// Makes the session of a connection, if there may be one.
    fn admit(&mut self, connection: NewConnection) -> Result<Session, RefuseReason> {
        let peer = connection.peer;
        let direction = match connection.origin {
            Origin::Dialled(dial) => {
                self.dial_succeeded(dial, peer)?;
                Direction::Outbound
            }
            Origin::Accepted => Direction::Inbound,
        };
        if let Err(reason) = self.find_place(peer, direction) {
            if direction == Direction::Outbound {
                // The attempt ends here: no session will report its failure.
                let error = match reason {
                    RefuseReason::LimitReached(limit) => DialError::LimitReached(limit),
                    _ => DialError::Transport(reason.to_string()),
                };
                self.with_peer(peer, |peer, cx| peer.connecting_failed(error, cx));
            }
            return Err(reason);
        }
        let session = self.sessions.create(&self.env, connection, direction, &self.store);
        self.peers.get_or_insert(peer);
        self.with_known_peer(peer, |peer, cx| peer.add_session(session.id(), direction, cx));
        Ok(session)
    }

    /// Checks that a connection may carry a session, and makes room for it.
    fn find_place(&mut self, peer: PublicKey, direction: Direction) -> Result<(), RefuseReason> {
        let checked = self.gate().check_connection(peer, direction);
        if checked == Err(RefuseReason::Blacklisted) {
            self.store.banned_seen(peer, self.env.now);
        }
        checked?;
        let (per_minute, now) = (self.env.config.max_sessions_per_minute, self.env.now);
        if direction == Direction::Inbound && !self.rates.take(peer, per_minute, now) {
            return Err(RefuseReason::LimitReached("max_sessions_per_minute"));
        }
        self.make_room(peer, direction)
    }

    /// Takes the result of a dial, if it is still awaited and is for this peer.
    fn dial_succeeded(&mut self, dial: DialId, peer: PublicKey) -> Result<(), RefuseReason> {
        match self.dials.peer(dial) {
            // It was cancelled while the adapter connected.
            None => Err(RefuseReason::DialCancelled),
            Some(dialled) if dialled != peer => {
                self.dial_failed(dial, DialError::WrongPeer { actual: peer.to_string() });
                Err(RefuseReason::WrongPeer)
            }
            Some(_) => {
                self.dials.finish(dial);
                self.with_known_peer(peer, Peer::dial_succeeded);
                Ok(())
            }
        }
    }

    fn dial_failed(&mut self, dial: DialId, error: DialError) {
        // It may have been cancelled while the adapter tried.
        if let Some(peer) = self.dials.finish(dial) {
            self.with_known_peer(peer, |peer, cx| peer.dial_failed(error, cx));
        }
    }

    fn session_dropped(&mut self, session: SessionId) {
        self.session_message(session, FromSession::Closed(CloseReason::Dropped, None));
    }

    fn session_message(&mut self, session: SessionId, message: FromSession) {
        let ends = matches!(message, FromSession::Closed(..));
        let owner = match ends {
            true => self.sessions.remove(session),
            false => self.sessions.owner(session),
        };
        let is_established = matches!(message, FromSession::Established(_));
        // The adapter may report a session as gone whose messages are on their way.
        if let Some(peer) = owner {
            self.with_known_peer(peer, |peer, cx| {
                peer.session_message(session, message, cx);
                if is_established {
                    peer.pin(cx);
                }
            });
        }
    }

    /// Has one peer take a step, with all that it may use.
    fn with_peer<R>(
        &mut self,
        key: PublicKey,
        step: impl FnOnce(&mut Peer, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let peer = self.peers.get_mut(key)?;
        let mut cx = Context {
            env: &self.env,
            dials: &mut self.dials,
            store: &mut self.store,
            out: &mut self.out,
            random: &mut self.random,
            has_activated: false,
        };
        let result = step(peer, &mut cx);
        if cx.has_activated {
            self.prune();
        }
        Some(result)
    }

    /// Has a peer take a step that has a dial, a session or a timer, so that the node must hold a
    /// state for it.
    fn with_known_peer(&mut self, key: PublicKey, step: impl FnOnce(&mut Peer, &mut Context<'_>)) {
        let is_known = self.with_peer(key, step).is_some();
        if !is_known {
            self.out.internal_error("a peer was forgotten too early");
        }
    }

    const fn gate(&self) -> Gate<'_> {
        let Self { env, store, peers, sessions, out, .. } = self;
        Gate { env, store, peers, sessions, out }
    }
}
