//! The state of a peer, with what each state needs. Only the `move_to_*` methods change which it is.

use super::Peer;
use super::sessions::SessionRecord;
use crate::id::SessionId;
use crate::node::context::Context;
use crate::node::dials::Dial;
use crate::node::event::{ConnectionEvent, ConnectionState, StateReason};
use crate::session::Direction;
use crate::time::Instant;

/// How far a peer is from exchanging messages; see [`ConnectionState`].
#[derive(Debug)]
pub(super) enum State {
    Disconnected {
        /// Who dialled the last connection, if there was one.
        last_direction: Option<Direction>,
    },
    Connecting {
        /// `None` once the dial is over: then its session has not become current yet.
        dial: Option<Dial>,
    },
    Connected {
        current: Current,
        /// When the handshake fails; `None` once the session was asked to end because of that.
        deadline: Option<Instant>,
        /// The application has prepared streams: no replacement of the session begins.
        is_prepared: bool,
        /// The session that becomes current once this one has yielded.
        successor: Option<SessionId>,
    },
    Established {
        current: Current,
    },
    Reconnecting {
        retry: Retry,
    },
    Cooldown {
        until: Instant,
        last_direction: Direction,
        /// The application wants no reconnection once the cooldown is over.
        is_retry_cancelled: bool,
    },
}

/// The one session of a peer to which handshake messages and streams belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) struct Current {
    pub(in crate::node) id: SessionId,
    pub(in crate::node) direction: Direction,
    /// When it counts as lost, because it was asked whether its peer still lives.
    pub(super) probe: Option<Instant>,
    /// It has no handshake substream, though its handshake is not over.
    pub(super) is_handshake_lost: bool,
}

/// How far an attempt to reconnect is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// The backoff ends then.
    At(Instant),
    /// The backoff is over, and too many other dials are under way.
    Queued,
}

impl State {
    pub(super) const fn kind(&self) -> ConnectionState {
        match self {
            Self::Disconnected { .. } => ConnectionState::Disconnected,
            Self::Connecting { .. } => ConnectionState::Connecting,
            Self::Connected { .. } => ConnectionState::Connected,
            Self::Established { .. } => ConnectionState::Established,
            Self::Reconnecting { .. } => ConnectionState::Reconnecting,
            Self::Cooldown { .. } => ConnectionState::Cooldown,
        }
    }

    pub(super) const fn current(&self) -> Option<&Current> {
        match self {
            Self::Connected { current, .. } | Self::Established { current } => Some(current),
            _ => None,
        }
    }

    pub(super) const fn current_mut(&mut self) -> Option<&mut Current> {
        match self {
            Self::Connected { current, .. } | Self::Established { current } => Some(current),
            _ => None,
        }
    }

    /// Returns the dial that is queued or under way.
    pub(super) const fn dial(&self) -> Option<Dial> {
        match self {
            Self::Connecting { dial } => *dial,
            Self::Reconnecting { retry: Retry::Queued } => Some(Dial::Queued),
            _ => None,
        }
    }

    /// Returns who dialled the connection that there is, or last was, or is to be.
    pub(super) const fn direction(&self) -> Option<Direction> {
        match self {
            Self::Disconnected { last_direction } => *last_direction,
            Self::Connecting { .. } | Self::Reconnecting { .. } => Some(Direction::Outbound),
            Self::Connected { current, .. } | Self::Established { current } => {
                Some(current.direction)
            }
            Self::Cooldown { last_direction, .. } => Some(*last_direction),
        }
    }
}

impl Peer {
    pub(super) fn move_to_connecting(
        &mut self,
        dial: Dial,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal =
            matches!(self.state, State::Disconnected { .. } | State::Reconnecting { .. });
        // A peer that is dialled here is wanted again, so it may dial, too.
        self.refused_until = None;
        self.move_to(is_legal, State::Connecting { dial: Some(dial) }, None, cx)
    }

    /// The dial must have been cancelled.
    pub(super) fn move_to_connected(
        &mut self,
        session: &SessionRecord,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal = match self.state {
            State::Disconnected { .. } | State::Connecting { .. } | State::Reconnecting { .. } => {
                self.state.dial().is_none()
            }
            State::Connected { .. } | State::Established { .. } | State::Cooldown { .. } => false,
        };
        let state = State::Connected {
            current: Current::new(session),
            deadline: Some(cx.env.now + cx.env.config.handshake_timeout),
            is_prepared: false,
            successor: None,
        };
        self.move_to(is_legal, state, None, cx)
    }

    pub(super) fn move_to_established(
        &mut self,
        current: Current,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal = matches!(self.state, State::Connected { .. });
        self.move_to(is_legal, State::Established { current }, None, cx)
    }

    /// The current session must be over.
    pub(super) fn move_to_cooldown(
        &mut self,
        reason: StateReason,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal = matches!(self.state, State::Connected { .. });
        let state = State::Cooldown {
            until: cx.env.after(cx.env.config.cooldown),
            last_direction: self.state.direction().unwrap_or(Direction::Outbound),
            is_retry_cancelled: false,
        };
        self.move_to(is_legal, state, Some(reason), cx)
    }

    pub(super) fn move_to_reconnecting(
        &mut self,
        at: Instant,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal = matches!(self.state, State::Disconnected { .. } | State::Cooldown { .. });
        self.attempts = self.attempts.saturating_add(1);
        self.move_to(is_legal, State::Reconnecting { retry: Retry::At(at) }, None, cx)
    }

    /// The dial must have been cancelled, and the current session must be over or among the
    /// [others](Peer::others).
    pub(super) fn move_to_disconnected(
        &mut self,
        reason: StateReason,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal =
            !matches!(self.state, State::Disconnected { .. }) && self.state.dial().is_none();
        let last_direction = self.state.direction();
        self.move_to(is_legal, State::Disconnected { last_direction }, Some(reason), cx)
    }

    fn move_to(
        &mut self,
        is_legal: bool,
        state: State,
        reason: Option<StateReason>,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        if !is_legal {
            cx.out.internal_error("a peer changed to a state that does not follow its last");
        }
        self.state = state;
        self.since = cx.env.now;
        let (state, direction) = (self.state.kind(), self.state.direction());
        ConnectionEvent { peer: self.key, state, direction, reason, at: self.since }
    }
}

impl Current {
    pub(super) const fn new(session: &SessionRecord) -> Self {
        let SessionRecord { id, direction, .. } = *session;
        Self { id, direction, probe: None, is_handshake_lost: false }
    }
}
