//! Which connections get a session, and which session speaks for a peer.

use super::Node;
use super::event::{ConnectionState, StateReason};
use super::peer::Peer;
use crate::bug::Bug;
use crate::crypto::PublicKey;
use crate::error::{CloseReason, ConnectionLost, DialError, RefuseReason};
use crate::id::{DialId, SessionId};
use crate::message::{Carry, FromNode};
use crate::session::{Direction, Naming, Session, SessionParams};
use crate::time::Instant;

/// A connection that could carry a session.
///
/// ```
/// # use glueberry_proto::*;
/// # let (identity, seed) = (Identity::from_seed(&[1; 32]), Seed::from_bytes([2; 32]));
/// # let mut node = Node::new(Instant::ZERO, identity, Config::default(), seed)?;
/// # let peer = Identity::from_seed(&[3; 32]).public_key();
/// let connection = NewConnection { peer, origin: Origin::Accepted, naming: Naming::Negotiated };
/// match node.handle_connection(Instant::ZERO, connection) {
///     Admission::Accept(session) => assert_eq!(session.peer(), peer),
///     Admission::Refuse(reason) => println!("close it: {reason}"),
///     _ => {}
/// }
/// # Ok::<(), ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "an input that adapters build")]
pub struct NewConnection {
    /// The peer, as the transport has authenticated it.
    pub peer: PublicKey,
    /// How it came about.
    pub origin: Origin,
    /// Whether the transport negotiates a name for each substream.
    pub naming: Naming,
}

/// How a connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an input that adapters build")]
pub enum Origin {
    /// By the dial of [`NodeAction::Dial`](crate::NodeAction::Dial).
    Dialled(DialId),
    /// The peer dialled, or opened a handshake substream on a connection that it shares with
    /// others.
    Accepted,
}

/// What becomes of a connection.
#[derive(Debug)]
#[must_use = "a session that is dropped must be reported as gone"]
#[non_exhaustive]
pub enum Admission {
    /// It carries this session, which belongs into the task that owns the connection.
    Accept(Box<Session>),
    /// It is of no use to the node: close it if nobody else uses it.
    Refuse(RefuseReason),
}

/// What a node remembers of a session that it made.
#[derive(Debug)]
pub(super) struct SessionRecord {
    pub(super) id: SessionId,
    pub(super) direction: Direction,
    is_agreed: bool,
    is_prepared: bool,
    /// It was told to end, and speaks for nobody.
    pub(super) is_ending: bool,
    /// When it ends unless it is granted.
    pub(super) deadline: Option<Instant>,
}

impl Node {
    pub(super) fn admit(&mut self, connection: NewConnection) -> Admission {
        let NewConnection { peer, origin, naming } = connection;
        let direction = match origin {
            Origin::Dialled(dial) => match self.take_dial(dial, peer) {
                Ok(()) => Direction::Outbound,
                Err(reason) => return Admission::Refuse(reason),
            },
            Origin::Accepted => Direction::Inbound,
        };
        if let Err(reason) = self.check_admission(peer, direction) {
            self.connecting_failed(peer, DialError::Transport(reason.to_string()));
            return Admission::Refuse(reason);
        }
        let id = SessionId::new(self.session_ids.next());
        let record = SessionRecord {
            id,
            direction,
            is_agreed: false,
            is_prepared: false,
            is_ending: false,
            deadline: Some(self.now + self.config.handshake_timeout),
        };
        self.sessions.insert(id, peer);
        self.peers.get_or_insert(peer).sessions.push(record);
        let params = SessionParams {
            config: self.config.clone(),
            aead: self.aead.clone(),
            identity: self.identity.clone(),
            peer,
            id,
            direction,
            naming,
            seed: self.seed.child(b"session", id.as_u64()),
        };
        Admission::Accept(Box::new(Session::new(self.now, params)))
    }

    pub(super) fn session_agreed(&mut self, id: SessionId) {
        let Some((key, peer)) = self.peer_of(id) else {
            return;
        };
        let granted = peer.granted;
        let Some(record) = peer.session_mut(id) else {
            return;
        };
        record.is_agreed = true;
        if record.is_ending {
            return;
        }
        match granted {
            None => self.promote(key),
            Some(granted) => self.compete(key, granted, id),
        }
    }

    pub(super) fn session_prepared(&mut self, id: SessionId) {
        if let Some((_, peer)) = self.peer_of(id)
            && let Some(record) = peer.session_mut(id)
        {
            record.is_prepared = true;
        }
    }

    pub(super) fn session_established(&mut self, id: SessionId) {
        let (now, runs_on) = (self.now, self.config.has(Bug::TimerRunsOn));
        let Some((key, peer)) = self.peer_of(id) else {
            return;
        };
        if peer.granted != Some(id) || peer.state() != ConnectionState::Connected {
            return;
        }
        let successor = peer.successor.take();
        let running = peer.handshake_deadline.filter(|_| runs_on);
        let event = peer.move_to_established(now);
        peer.handshake_deadline = running;
        if !self.config.has(Bug::SilentChange) {
            self.events.push_back(event);
        }
        self.confirmed(key);
        if let Some(successor) = successor {
            self.end(successor, CloseReason::Superseded);
        }
    }

    /// The session that spoke for the peer hands over to the one that is kept.
    pub(super) fn session_yielded(&mut self, id: SessionId, carry: Carry) {
        let Some((_, peer)) = self.peer_of(id) else {
            return;
        };
        if peer.granted != Some(id) {
            return;
        }
        let direction = peer.session(id).map(|record| record.direction);
        let Some(successor) = peer.successor.take() else {
            return;
        };
        let Some(record) = peer.session_mut(successor).filter(|record| !record.is_ending) else {
            // The keeper died first: the one that has yielded speaks on.
            return self.forward(id, FromNode::Grant(carry));
        };
        record.deadline = None;
        let successor_direction = record.direction;
        peer.granted = Some(successor);
        peer.direction = Some(successor_direction);
        self.forward(successor, FromNode::Grant(carry));
        if direction == Some(Direction::Outbound) {
            self.end(id, CloseReason::Superseded);
        }
    }

    pub(super) fn session_closed(&mut self, id: SessionId, reason: CloseReason) {
        let closed = match self.config.has(Bug::LeaksSession) {
            true => self.sessions.get(&id).copied(),
            false => self.sessions.remove(&id),
        };
        let Some(key) = closed else {
            return;
        };
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.sessions.retain(|record| record.id != id);
        if peer.sessions.is_empty() {
            peer.held_until = None;
        }
        match peer.granted {
            Some(granted) if granted == id || self.config.has(Bug::WrongSessionEnds) => {
                self.granted_closed(key, reason);
            }
            Some(_) => {}
            None => {
                self.promote(key);
                self.connecting_failed(key, DialError::Session(reason));
            }
        }
    }

    /// The peer has answered the probe of its session: those that it has opened since are of no
    /// use.
    pub(super) fn session_alive(&mut self, id: SessionId) {
        let Some((_, peer)) = self.peer_of(id) else {
            return;
        };
        if peer.granted != Some(id) || peer.probed_until.take().is_none() {
            return;
        }
        let successor = peer.successor;
        let waiting: Vec<SessionId> = peer
            .live_sessions()
            .filter(|record| record.is_agreed && record.direction == Direction::Inbound)
            .map(|record| record.id)
            .filter(|waiting| *waiting != id && Some(*waiting) != successor)
            .collect();
        for waiting in waiting {
            self.end(waiting, CloseReason::Superseded);
        }
    }

    /// Does what is due for the sessions of a peer.
    pub(super) fn expire_sessions(&mut self, key: PublicKey) {
        let now = self.now;
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let granted = peer.granted;
        let has_timed_out = is_past(peer.handshake_deadline);
        if has_timed_out {
            peer.handshake_deadline = None;
        }
        let was_held = is_past(peer.held_until);
        let is_lost = is_past(peer.probed_until);
        if is_lost {
            peer.probed_until = None;
        }
        let overdue: Vec<(SessionId, bool)> = peer
            .sessions
            .iter()
            .filter(|record| is_past(record.deadline))
            .map(|record| (record.id, record.is_agreed))
            .collect();
        for (id, is_agreed) in overdue {
            let superseded = CloseReason::Superseded;
            let reason = if is_agreed { superseded } else { CloseReason::HandshakeTimeout };
            self.end(id, reason);
        }
        if was_held {
            self.promote(key);
            if let Some(peer) = self.peers.get_mut(key) {
                peer.held_until = None;
            }
        }
        let Some(granted) = granted else {
            return;
        };
        if has_timed_out {
            let reason = CloseReason::HandshakeTimeout;
            self.forward(granted, FromNode::Close { reason, drain: false });
        }
        if is_lost {
            let reason = CloseReason::ConnectionLost(ConnectionLost::TimedOut);
            self.forward(granted, FromNode::Close { reason, drain: false });
        }
    }

    /// Tells the sessions of a peer to end.
    pub(super) fn end_sessions(&mut self, key: PublicKey, reason: &CloseReason, drain: bool) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let mut ending = Vec::new();
        for record in peer.sessions.iter_mut().filter(|record| !record.is_ending || !drain) {
            record.is_ending = true;
            record.deadline = None;
            ending.push(record.id);
        }
        for id in ending {
            self.forward(id, FromNode::Close { reason: reason.clone(), drain });
        }
    }

    fn peer_of(&mut self, id: SessionId) -> Option<(PublicKey, &mut Peer)> {
        let key = *self.sessions.get(&id)?;
        Some((key, self.peers.get_mut(key)?))
    }

    fn check_admission(&self, peer: PublicKey, direction: Direction) -> Result<(), RefuseReason> {
        if self.is_stopping {
            return Err(RefuseReason::ShuttingDown);
        }
        if peer == self.public_key() {
            return Err(RefuseReason::OwnKey);
        }
        if self.is_blacklisted(peer) {
            return Err(RefuseReason::Blacklisted);
        }
        if self.sessions.len() >= self.config.max_sessions {
            return Err(RefuseReason::LimitReached("max_sessions"));
        }
        if !self.has_event_room() {
            return Err(RefuseReason::LimitReached("event_queue"));
        }
        let Some(known) = self.peers.get(peer) else {
            return match self.peers.len() >= self.config.max_peers {
                true => Err(RefuseReason::LimitReached("max_peers")),
                false => Ok(()),
            };
        };
        if known.sessions.len() >= self.config.max_sessions_per_peer {
            return Err(RefuseReason::LimitReached("max_sessions_per_peer"));
        }
        match (known.state(), direction) {
            (ConnectionState::Connecting, Direction::Inbound)
                if self.config.has(Bug::MutualRefusal) =>
            {
                Err(RefuseReason::AlreadyConnected)
            }
            (ConnectionState::Established, _) if self.config.has(Bug::IgnoresRedial) => {
                Err(RefuseReason::AlreadyConnected)
            }
            (ConnectionState::Cooldown, _) => Err(RefuseReason::InCooldown),
            (ConnectionState::Established, Direction::Outbound) => {
                Err(RefuseReason::AlreadyConnected)
            }
            (_, Direction::Inbound) if known.refused_until.is_some_and(|at| at > self.now) => {
                Err(RefuseReason::Disconnected)
            }
            _ => Ok(()),
        }
    }

    /// Lets a session that is agreed speak for a peer that has none.
    ///
    /// While one is under way that would be kept, the others wait for it: nothing that is said has
    /// then to be taken back. If it is the peer's, they wait only so long, as it may never do what
    /// is expected of it.
    pub(super) fn promote(&mut self, key: PublicKey) {
        let (now, keeper) = (self.now, self.keeper(key));
        let held_until = now + self.config.probe_timeout;
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let best = peer
            .live_sessions()
            .filter(|record| record.is_agreed)
            .min_by_key(|record| record.direction != keeper)
            .map(|record| (record.id, record.direction));
        let is_keeper_pending =
            peer.live_sessions().any(|record| record.direction == keeper && !record.is_agreed);
        let Some((id, direction)) = best else {
            return;
        };
        if peer.state() == ConnectionState::Cooldown {
            return;
        }
        if is_keeper_pending && direction != keeper {
            // A session of ours has a deadline of its own.
            let is_ours = keeper == Direction::Outbound;
            if is_ours || now < *peer.held_until.get_or_insert(held_until) {
                return;
            }
        }
        self.grant(key, id);
    }

    /// Returns the direction of the session that is kept if there are two: that which the smaller
    /// key has dialled.
    fn keeper(&self, peer: PublicKey) -> Direction {
        if self.public_key() < peer { Direction::Outbound } else { Direction::Inbound }
    }

    /// Lets a session speak for its peer.
    fn grant(&mut self, key: PublicKey, id: SessionId) {
        self.cancel_dial(key);
        let (now, deadline) = (self.now, self.now + self.config.handshake_timeout);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let Some(record) = peer.session_mut(id) else {
            return;
        };
        record.deadline = None;
        let direction = record.direction;
        let event = peer.move_to_connected(id, direction, deadline, now);
        let losers: Vec<SessionId> = peer
            .live_sessions()
            .filter(|record| record.is_agreed && record.direction == Direction::Outbound)
            .map(|record| record.id)
            .filter(|loser| *loser != id)
            .collect();
        self.events.push_back(event);
        self.forward(id, FromNode::Grant(Carry::default()));
        for loser in losers {
            self.end(loser, CloseReason::Superseded);
        }
        self.seen(key);
        self.prune();
    }

    /// Another session is agreed than speaks for the peer. It takes over if it is the one to be kept,
    /// unless the other has gone too far; of two that crossed, the loser is closed by its own
    /// dialler. Otherwise the peer may have been restarted: whether the one that speaks for it still
    /// lives is found out, and decides.
    fn compete(&mut self, key: PublicKey, granted: SessionId, newcomer: SessionId) {
        let keeper = self.keeper(key);
        let probed_until = self.now + self.config.probe_timeout;
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let (Some(old), Some(new)) = (peer.session(granted), peer.session(newcomer)) else {
            return;
        };
        let is_exchanged = new.direction == keeper && old.direction != keeper && !old.is_prepared;
        let is_ours = new.direction == Direction::Outbound;
        if self.config.has(Bug::Evicts) && peer.state() == ConnectionState::Established {
            self.end(granted, CloseReason::Superseded);
        } else if is_exchanged {
            peer.successor = Some(newcomer);
            self.forward(granted, FromNode::Yield);
        } else if is_ours {
            self.end(newcomer, CloseReason::Superseded);
        } else if peer.probed_until.is_none() {
            peer.probed_until = Some(probed_until);
            self.forward(granted, FromNode::Probe);
        }
    }

    fn end(&mut self, id: SessionId, reason: CloseReason) {
        if let Some((_, peer)) = self.peer_of(id)
            && let Some(record) = peer.session_mut(id)
        {
            record.deadline = None;
            record.is_ending = true;
            self.forward(id, FromNode::Close { reason, drain: false });
        }
    }

    /// The session that spoke for a peer is over: another that waits takes its place, after an
    /// event that tells the loss.
    fn granted_closed(&mut self, key: PublicKey, reason: CloseReason) {
        let (now, stable_after) = (self.now, self.config.stable_after);
        let cooldown = self.after(self.config.cooldown);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let has_lasted =
            peer.state() == ConnectionState::Established && peer.since() + stable_after <= now;
        if has_lasted && !self.config.has(Bug::AttemptsGoOn) {
            peer.attempts = 0;
        }
        let has_failed = matches!(reason, CloseReason::HandshakeTimeout | CloseReason::Rejected(_))
            && peer.state() == ConnectionState::Connected;
        let reason = StateReason::SessionEnded(reason);
        if has_failed {
            let event = peer.move_to_cooldown(cooldown, reason, now);
            self.events.push_back(event);
            return self.end_sessions(key, &CloseReason::Superseded, true);
        }
        let event = peer.move_to_disconnected(reason, now);
        self.events.push_back(event);
        self.promote(key);
        self.retry_later(key);
    }
}
