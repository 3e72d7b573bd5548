//! What a node knows of one peer. Only the `move_to_*` methods change its state.

use super::Address;
use super::event::{ConnectionEvent, ConnectionState, StateReason};
use crate::crypto::PublicKey;
use crate::id::{ConnectionId, DialId};
use crate::session::Direction;
use crate::time::{Instant, earliest};

/// One peer: where it may be reached, its state, and the session that speaks for it.
#[derive(Debug)]
pub(super) struct Peer {
    key: PublicKey,
    state: ConnectionState,
    pub(super) addresses: Vec<Address>,
    pub(super) dialling: Dialling,
    /// The session that is Connected or Established.
    pub(super) granted: Option<ConnectionId>,
    /// The session that is to take over once the granted one has yielded.
    pub(super) successor: Option<ConnectionId>,
    pub(super) direction: Option<Direction>,
    pub(super) handshake_deadline: Option<Instant>,
    cooldown_until: Option<Instant>,
    pub(super) refused_until: Option<Instant>,
}

/// How far a dial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialling {
    No,
    /// Too many others are under way.
    Queued,
    Dialled(DialId),
}

impl Peer {
    pub(super) const fn new(key: PublicKey) -> Self {
        Self {
            key,
            state: ConnectionState::Disconnected,
            addresses: Vec::new(),
            dialling: Dialling::No,
            granted: None,
            successor: None,
            direction: None,
            handshake_deadline: None,
            cooldown_until: None,
            refused_until: None,
        }
    }

    pub(super) const fn state(&self) -> ConnectionState {
        self.state
    }

    /// Tells whether nothing is known of the peer that is worth keeping.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        self.addresses.is_empty()
            && self.state == ConnectionState::Disconnected
            && self.refused_until.is_none_or(|until| until <= now)
    }

    pub(super) const fn cooldown_until(&self) -> Option<Instant> {
        self.cooldown_until
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let soon = earliest(self.handshake_deadline, self.cooldown_until);
        earliest(soon, self.refused_until)
    }

    pub(super) fn move_to_connecting(&mut self, now: Instant) -> ConnectionEvent {
        debug_assert_eq!(self.state, ConnectionState::Disconnected);
        self.refused_until = None;
        self.direction = Some(Direction::Outbound);
        self.move_to(ConnectionState::Connecting, None, now)
    }

    pub(super) fn move_to_connected(
        &mut self,
        connection: ConnectionId,
        direction: Direction,
        handshake_deadline: Instant,
        now: Instant,
    ) -> ConnectionEvent {
        debug_assert!(!self.is_connected());
        self.granted = Some(connection);
        self.direction = Some(direction);
        self.handshake_deadline = Some(handshake_deadline);
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

    pub(super) fn move_to_disconnected(
        &mut self,
        reason: StateReason,
        now: Instant,
    ) -> ConnectionEvent {
        debug_assert_ne!(self.state, ConnectionState::Disconnected);
        self.end_session();
        self.cooldown_until = None;
        self.dialling = Dialling::No;
        self.move_to(ConnectionState::Disconnected, Some(reason), now)
    }

    /// Tells whether a session speaks for the peer.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, ConnectionState::Connected | ConnectionState::Established)
    }

    fn end_session(&mut self) {
        self.granted = None;
        self.successor = None;
        self.handshake_deadline = None;
    }

    fn move_to(
        &mut self,
        state: ConnectionState,
        reason: Option<StateReason>,
        now: Instant,
    ) -> ConnectionEvent {
        self.state = state;
        ConnectionEvent { peer: self.key, state, direction: self.direction, reason, at: now }
    }
}
