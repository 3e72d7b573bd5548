//! What a node knows of one peer. Only the `move_to_*` methods change its state.

use super::event::{ConnectionEvent, ConnectionState, StateReason};
use super::policy::ReconnectPolicy;
use super::sessions::SessionRecord;
use crate::crypto::PublicKey;
use crate::id::{DialId, SessionId};
use crate::session::Direction;
use crate::time::{Instant, earliest};

/// One peer: its state, the session that speaks for it, and what is to come.
#[derive(Debug)]
pub(super) struct Peer {
    key: PublicKey,
    state: ConnectionState,
    /// When it came into its state.
    since: Instant,
    /// Never pruned.
    pub(super) is_protected: bool,
    /// In place of the configured one.
    pub(super) policy: Option<ReconnectPolicy>,
    pub(super) dialling: Dialling,
    /// The session that is Connected or Established.
    pub(super) granted: Option<SessionId>,
    /// The session that is to take over once the granted one has yielded.
    pub(super) successor: Option<SessionId>,
    /// The sessions of the peer, which are few.
    pub(super) sessions: Vec<SessionRecord>,
    pub(super) direction: Option<Direction>,
    pub(super) handshake_deadline: Option<Instant>,
    pub(super) cooldown_until: Option<Instant>,
    pub(super) refused_until: Option<Instant>,
    /// Until when a session that could speak for the peer waits for one that the peer is about to
    /// open, and that would be kept.
    pub(super) held_until: Option<Instant>,
    /// When the granted session, which is being probed, counts as lost.
    pub(super) probed_until: Option<Instant>,
    /// Attempts to reconnect since the last session that lasted.
    pub(super) attempts: u32,
    /// When the next attempt begins.
    pub(super) retry_at: Option<Instant>,
    /// The application wants no reconnection once the cooldown is over.
    pub(super) is_retry_cancelled: bool,
    /// The deadline for which there is a timer.
    pub(super) armed: Option<Instant>,
}

/// How far a dial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialling {
    No,
    /// Too many others are under way.
    Queued,
    Dialled(DialId, Instant),
}

impl Peer {
    pub(super) const fn new(key: PublicKey) -> Self {
        Self {
            key,
            state: ConnectionState::Disconnected,
            since: Instant::ZERO,
            is_protected: false,
            policy: None,
            dialling: Dialling::No,
            granted: None,
            successor: None,
            sessions: Vec::new(),
            direction: None,
            handshake_deadline: None,
            cooldown_until: None,
            refused_until: None,
            held_until: None,
            probed_until: None,
            attempts: 0,
            retry_at: None,
            is_retry_cancelled: false,
            armed: None,
        }
    }

    pub(super) const fn state(&self) -> ConnectionState {
        self.state
    }

    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// Returns whether a session speaks for the peer.
    pub(super) const fn is_connected(&self) -> bool {
        matches!(self.state, ConnectionState::Connected | ConnectionState::Established)
    }

    /// Returns whether there is nothing to remember.
    pub(super) const fn is_forgettable(&self) -> bool {
        matches!(self.state, ConnectionState::Disconnected)
            && self.sessions.is_empty()
            && self.refused_until.is_none()
            && self.policy.is_none()
            && !self.is_protected
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let dial = match self.dialling {
            Dialling::Dialled(_, deadline) => Some(deadline),
            Dialling::No | Dialling::Queued => None,
        };
        let sessions = self.sessions.iter().filter_map(|session| session.deadline).min();
        let own = [
            self.handshake_deadline,
            self.cooldown_until,
            self.refused_until,
            self.held_until,
            self.probed_until,
            self.retry_at,
            dial,
        ];
        own.into_iter().fold(sessions, earliest)
    }

    pub(super) fn session(&self, id: SessionId) -> Option<&SessionRecord> {
        self.sessions.iter().find(|session| session.id == id)
    }

    pub(super) fn session_mut(&mut self, id: SessionId) -> Option<&mut SessionRecord> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }

    /// Returns the sessions that have not been told to end.
    pub(super) fn live_sessions(&self) -> impl Iterator<Item = &SessionRecord> {
        self.sessions.iter().filter(|session| !session.is_ending)
    }

    pub(super) fn move_to_connecting(&mut self, now: Instant) -> ConnectionEvent {
        debug_assert!(matches!(
            self.state,
            ConnectionState::Disconnected | ConnectionState::Reconnecting
        ));
        self.refused_until = None;
        self.retry_at = None;
        self.direction = Some(Direction::Outbound);
        self.move_to(ConnectionState::Connecting, None, now)
    }

    pub(super) fn move_to_connected(
        &mut self,
        id: SessionId,
        direction: Direction,
        handshake_deadline: Instant,
        now: Instant,
    ) -> ConnectionEvent {
        debug_assert!(!self.is_connected() && self.state != ConnectionState::Cooldown);
        self.granted = Some(id);
        self.held_until = None;
        self.direction = Some(direction);
        self.handshake_deadline = Some(handshake_deadline);
        self.retry_at = None;
        self.is_retry_cancelled = false;
        self.move_to(ConnectionState::Connected, None, now)
    }

    pub(super) fn move_to_established(&mut self, now: Instant) -> ConnectionEvent {
        debug_assert_eq!(self.state, ConnectionState::Connected);
        self.handshake_deadline = None;
        self.move_to(ConnectionState::Established, None, now)
    }

    pub(super) fn move_to_cooldown(
        &mut self,
        until: Instant,
        reason: StateReason,
        now: Instant,
    ) -> ConnectionEvent {
        debug_assert_eq!(self.state, ConnectionState::Connected);
        self.end_session();
        self.cooldown_until = Some(until);
        self.move_to(ConnectionState::Cooldown, Some(reason), now)
    }

    pub(super) fn move_to_reconnecting(
        &mut self,
        retry_at: Instant,
        now: Instant,
    ) -> ConnectionEvent {
        debug_assert!(matches!(
            self.state,
            ConnectionState::Disconnected | ConnectionState::Cooldown
        ));
        self.attempts = self.attempts.saturating_add(1);
        self.cooldown_until = None;
        self.retry_at = Some(retry_at);
        self.direction = Some(Direction::Outbound);
        self.move_to(ConnectionState::Reconnecting, None, now)
    }

    pub(super) fn move_to_disconnected(
        &mut self,
        reason: StateReason,
        now: Instant,
    ) -> ConnectionEvent {
        debug_assert_ne!(self.state, ConnectionState::Disconnected);
        self.end_session();
        self.cooldown_until = None;
        self.retry_at = None;
        self.dialling = Dialling::No;
        self.move_to(ConnectionState::Disconnected, Some(reason), now)
    }

    fn end_session(&mut self) {
        self.granted = None;
        self.successor = None;
        self.handshake_deadline = None;
        self.probed_until = None;
    }

    fn move_to(
        &mut self,
        state: ConnectionState,
        reason: Option<StateReason>,
        now: Instant,
    ) -> ConnectionEvent {
        self.state = state;
        self.since = now;
        ConnectionEvent { peer: self.key, state, direction: self.direction, reason, at: now }
    }
}
