//! Which connections get a session, and which session speaks for a peer.

use super::Node;
use super::event::{ConnectionState, StateReason};
use super::peer::Dialling;
use crate::crypto::PublicKey;
use crate::error::{CloseReason, DialError, RefuseReason};
use crate::id::{ConnectionId, DialId};
use crate::message::{Carry, FromNode};
use crate::session::{Direction, Naming, Session, SessionParams};
use crate::time::Instant;

/// A connection that could carry a session.
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
    pub(super) peer: PublicKey,
    direction: Direction,
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
        let id = ConnectionId::new(self.connection_ids.next());
        let record = SessionRecord {
            peer,
            direction,
            is_agreed: false,
            is_prepared: false,
            is_ending: false,
            deadline: Some(self.now + self.config.handshake_timeout),
        };
        self.sessions.insert(id, record);
        self.peer(peer);
        let params = SessionParams {
            config: self.config.clone(),
            aead: self.aead.clone(),
            identity: self.identity.clone(),
            peer,
            connection: id,
            direction,
            naming,
            seed: self.seed.child(b"session", id.as_u64()),
        };
        Admission::Accept(Box::new(Session::new(self.now, params)))
    }

    pub(super) fn session_agreed(&mut self, connection: ConnectionId) {
        let Some(record) = self.sessions.get_mut(&connection) else {
            return;
        };
        record.is_agreed = true;
        if record.is_ending {
            return;
        }
        let peer = record.peer;
        match self.peers.get(&peer).and_then(|peer| peer.granted) {
            None => self.promote(peer),
            Some(granted) => self.compete(peer, granted, connection),
        }
    }

    pub(super) fn session_prepared(&mut self, connection: ConnectionId) {
        if let Some(record) = self.sessions.get_mut(&connection) {
            record.is_prepared = true;
        }
    }

    pub(super) fn session_established(&mut self, connection: ConnectionId) {
        let now = self.now;
        let Some(record) = self.sessions.get(&connection) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&record.peer)
            && peer.granted == Some(connection)
            && peer.state() == ConnectionState::Connected
        {
            let successor = peer.successor.take();
            let event = peer.move_to_established(now);
            self.events.push_back(event);
            if let Some(successor) = successor {
                self.end(successor, CloseReason::Superseded);
            }
        }
    }

    /// The session that spoke for the peer hands over to the one that is kept.
    pub(super) fn session_yielded(&mut self, connection: ConnectionId, carry: Carry) {
        let Some(record) = self.sessions.get(&connection) else {
            return;
        };
        let (peer, direction) = (record.peer, record.direction);
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let Some(successor) = known.successor.take() else {
            return;
        };
        if known.granted != Some(connection) {
            return;
        }
        let successor_record = self.sessions.get_mut(&successor);
        let Some(record) = successor_record.filter(|record| !record.is_ending) else {
            // The keeper died first: the one that has yielded speaks on.
            return self.forward(connection, FromNode::Grant(carry));
        };
        record.deadline = None;
        known.granted = Some(successor);
        known.direction = Some(record.direction);
        self.forward(successor, FromNode::Grant(carry));
        if direction == Direction::Outbound {
            self.end(connection, CloseReason::Superseded);
        }
    }

    pub(super) fn session_closed(&mut self, connection: ConnectionId, reason: CloseReason) {
        let Some(record) = self.sessions.remove(&connection) else {
            return;
        };
        let peer = record.peer;
        match self.peers.get(&peer).and_then(|known| known.granted) {
            Some(granted) if granted == connection => self.granted_closed(peer, reason),
            Some(_) => {}
            None => {
                self.promote(peer);
                self.connecting_failed(peer, DialError::Session(reason));
            }
        }
        self.forget_if_unknown(peer);
    }

    /// The handshake took too long.
    pub(super) fn time_out_handshake(&mut self, connection: ConnectionId) {
        let reason = CloseReason::HandshakeTimeout;
        self.forward(connection, FromNode::Close { reason, drain: false });
    }

    /// Ends sessions that were not granted in time.
    pub(super) fn expire_sessions(&mut self) {
        let now = self.now;
        let is_due = |record: &SessionRecord| record.deadline.is_some_and(|at| at <= now);
        let due: Vec<ConnectionId> = self
            .sessions
            .iter()
            .filter(|(_, record)| is_due(record))
            .map(|(connection, _)| *connection)
            .collect();
        for connection in due {
            let is_agreed = self.sessions.get(&connection).is_some_and(|record| record.is_agreed);
            let reason =
                if is_agreed { CloseReason::Superseded } else { CloseReason::HandshakeTimeout };
            self.end(connection, reason);
        }
    }

    fn check_admission(&self, peer: PublicKey, direction: Direction) -> Result<(), RefuseReason> {
        if self.is_stopping {
            return Err(RefuseReason::ShuttingDown);
        }
        if peer == self.public_key() {
            return Err(RefuseReason::OwnKey);
        }
        if self.sessions.len() >= self.config.max_sessions {
            return Err(RefuseReason::LimitReached("max_sessions"));
        }
        if !self.has_event_room() {
            return Err(RefuseReason::LimitReached("event_queue"));
        }
        let of_peer = self.sessions.values().filter(|record| record.peer == peer).count();
        if of_peer >= self.config.max_sessions_per_peer {
            return Err(RefuseReason::LimitReached("max_sessions_per_peer"));
        }
        let Some(known) = self.peers.get(&peer) else {
            return match self.peers.len() >= self.config.max_peers {
                true => Err(RefuseReason::LimitReached("max_peers")),
                false => Ok(()),
            };
        };
        match (known.state(), direction) {
            (ConnectionState::Cooldown, _) => Err(RefuseReason::InCooldown),
            (ConnectionState::Established, _) => Err(RefuseReason::AlreadyConnected),
            (_, Direction::Inbound) if known.refused_until.is_some_and(|at| at > self.now) => {
                Err(RefuseReason::Disconnected)
            }
            _ => Ok(()),
        }
    }

    fn take_dial(&mut self, dial: DialId, peer: PublicKey) -> Result<(), RefuseReason> {
        let Some(dialled) = self.dials.get(&dial).map(|dial| dial.peer) else {
            return Err(RefuseReason::DialCancelled);
        };
        if dialled != peer {
            self.dial_failed(dial, DialError::WrongPeer { actual: peer.to_string() });
            return Err(RefuseReason::WrongPeer);
        }
        self.dials.remove(&dial);
        self.peer(peer).dialling = Dialling::No;
        self.start_dials();
        Ok(())
    }

    /// Lets a session that is agreed speak for a peer that has none.
    ///
    /// While a session of ours that would be kept is not agreed yet, none is: nothing that is said
    /// has then to be taken back. The peer cannot wait likewise, as it does not know of our dials;
    /// it exchanges its session, and nothing that it said was heard.
    fn promote(&mut self, peer: PublicKey) {
        let keeper = self.keeper(peer);
        let rivals =
            || self.sessions.iter().filter(|(_, record)| record.peer == peer && !record.is_ending);
        let is_ours_pending = keeper == Direction::Outbound
            && rivals().any(|(_, record)| record.direction == keeper && !record.is_agreed);
        let best = rivals()
            .filter(|(_, record)| record.is_agreed)
            .min_by_key(|(_, record)| record.direction != keeper)
            .map(|(connection, _)| *connection);
        if let Some(connection) = best
            && !is_ours_pending
        {
            self.grant(connection, Carry::default());
        }
    }

    /// Returns the direction of the session that is kept if there are two: that which the smaller
    /// key has dialled.
    fn keeper(&self, peer: PublicKey) -> Direction {
        if self.public_key() < peer { Direction::Outbound } else { Direction::Inbound }
    }

    /// Lets a session speak for its peer.
    fn grant(&mut self, connection: ConnectionId, carry: Carry) {
        let Some(record) = self.sessions.get_mut(&connection) else {
            return;
        };
        record.deadline = None;
        let (peer, direction) = (record.peer, record.direction);
        self.cancel_dial(peer);
        let (now, deadline) = (self.now, self.now + self.config.handshake_timeout);
        let event = self.peer(peer).move_to_connected(connection, direction, deadline, now);
        self.events.push_back(event);
        self.forward(connection, FromNode::Grant(carry));
    }

    /// Another session is agreed than speaks for the peer. It takes over if it is the one to be kept,
    /// unless the other has gone too far; the loser is closed by its own dialler.
    fn compete(&mut self, peer: PublicKey, granted: ConnectionId, newcomer: ConnectionId) {
        let keeper = self.keeper(peer);
        let (Some(old), Some(new)) = (self.sessions.get(&granted), self.sessions.get(&newcomer))
        else {
            return;
        };
        let is_exchanged = new.direction == keeper && old.direction != keeper && !old.is_prepared;
        let is_too_late = new.direction == keeper || old.direction == new.direction;
        let is_ours = new.direction == Direction::Outbound;
        if is_exchanged {
            self.peer(peer).successor = Some(newcomer);
            self.forward(granted, FromNode::Yield);
        } else if is_too_late || is_ours {
            self.end(newcomer, CloseReason::Superseded);
        }
    }

    fn end(&mut self, connection: ConnectionId, reason: CloseReason) {
        if let Some(record) = self.sessions.get_mut(&connection) {
            record.deadline = None;
            record.is_ending = true;
            self.forward(connection, FromNode::Close { reason, drain: false });
        }
    }

    /// The session that spoke for a peer is over: another that waits takes its place, after an
    /// event that tells the loss.
    fn granted_closed(&mut self, peer: PublicKey, reason: CloseReason) {
        let now = self.now;
        let cooldown = now + self.config.cooldown;
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let has_failed = matches!(reason, CloseReason::HandshakeTimeout | CloseReason::Rejected(_))
            && known.state() == ConnectionState::Connected;
        let reason = StateReason::SessionEnded(reason);
        if has_failed {
            let event = known.move_to_cooldown(cooldown, reason, now);
            self.events.push_back(event);
            return self.end_others(peer);
        }
        let event = known.move_to_disconnected(reason, now);
        self.events.push_back(event);
        self.promote(peer);
    }

    fn end_others(&mut self, peer: PublicKey) {
        let others: Vec<ConnectionId> = self
            .sessions
            .iter()
            .filter(|(_, record)| record.peer == peer && !record.is_ending)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in others {
            self.end(connection, CloseReason::Superseded);
        }
    }
}
