//! The state of a peer, with what each state needs.

use super::sessions::{SessionRecord, Stage};
use crate::id::SessionId;
use crate::node::dials::Dial;
use crate::node::event::ConnectionState;
use crate::session::Direction;
use crate::session_info::SessionInfo;
use crate::time::Instant;
use crate::wire::Profile;

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
        /// The application has prepared streams (v1), or the peer has confirmed the session (v2): no
        /// replacement of it begins.
        is_kept: bool,
        /// The session that becomes current once this one has yielded.
        successor: Option<SessionId>,
    },
    Established {
        current: Current,
        info: SessionInfo,
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
    /// The profile of its handshake.
    pub(super) profile: Option<Profile>,
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
            Self::Connected { current, .. } | Self::Established { current, .. } => Some(current),
            _ => None,
        }
    }

    pub(super) const fn current_mut(&mut self) -> Option<&mut Current> {
        match self {
            Self::Connected { current, .. } | Self::Established { current, .. } => Some(current),
            _ => None,
        }
    }

    /// Returns what the Established session gives.
    pub(super) const fn session_info(&self) -> Option<SessionInfo> {
        match self {
            Self::Established { info, .. } => Some(*info),
            _ => None,
        }
    }

    /// Returns the current session, if it is of v2 and the peer has confirmed it.
    pub(super) fn confirmed_session(&self) -> Option<SessionId> {
        match self {
            Self::Connected { current, is_kept: true, .. } | Self::Established { current, .. } => {
                (current.profile == Some(Profile::V2)).then_some(current.id)
            }
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
            Self::Connected { current, .. } | Self::Established { current, .. } => {
                Some(current.direction)
            }
            Self::Cooldown { last_direction, .. } => Some(*last_direction),
        }
    }
}

impl Current {
    pub(super) const fn new(session: &SessionRecord) -> Self {
        let SessionRecord { id, direction, profile, is_handshake_lost, .. } = *session;
        Self { id, direction, probe: None, is_handshake_lost, profile }
    }

    /// Returns what remains of it when another takes its place.
    pub(super) const fn yielded(self) -> SessionRecord {
        let Self { id, direction, profile, is_handshake_lost, .. } = self;
        let (stage, follows) = (Stage::Yielded, None);
        SessionRecord { id, direction, stage, profile, is_handshake_lost, follows }
    }

    /// True if the peer may be a Go node, which has one handshake substream for all its sessions.
    pub(super) fn keeps_one_handshake(&self) -> bool {
        self.profile.is_some_and(Profile::keeps_one_handshake)
    }
}
