//! What a node asks of its adapter and reports to the application.

use core::fmt;

use thiserror::Error;

use crate::address::Address;
use crate::crypto::PublicKey;
use crate::error::{CloseReason, DialError};
use crate::id::{DialId, SessionId};
use crate::message::ToSession;
use crate::prelude::*;
use crate::session::Direction;
use crate::session_info::SessionInfo;
use crate::time::Instant;

/// Something that the adapter must do now, in order.
#[derive(Debug)]
#[must_use = "an action that is dropped leaves the node waiting for ever"]
#[expect(clippy::exhaustive_enums, reason = "a driver must know that it has handled all there is")]
pub enum NodeAction {
    /// Get a connection to the peer, by one of the addresses or one that exists; answer with
    /// [`Node::handle_connection`](crate::Node::handle_connection) or
    /// [`Node::handle_dial_failed`](crate::Node::handle_dial_failed).
    Dial {
        /// The dial.
        dial: DialId,
        /// The peer to reach; if another one answers, the dial has failed.
        peer: PublicKey,
        /// Where to try.
        addresses: Vec<Address>,
    },
    /// Give a dial up; no answer is needed.
    CancelDial(DialId),
    /// Hand this to the session.
    Forward {
        /// The session.
        session: SessionId,
        /// What to hand over.
        message: ToSession,
    },
    /// Store [`Node::book`](crate::Node::book) as it is now, and answer with
    /// [`Node::handle_book_saved`](crate::Node::handle_book_saved) or
    /// [`Node::handle_book_not_saved`](crate::Node::handle_book_not_saved). Asked again only after
    /// that; a node whose book is not to outlive it may leave it unanswered.
    SaveBook,
}

/// The state of a peer changed. One event per transition, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "events are the only history of a peer's states"]
#[non_exhaustive]
pub struct ConnectionEvent {
    /// The peer.
    pub peer: PublicKey,
    /// The state that it is in now.
    pub state: ConnectionState,
    /// Who dialled the connection that there is, last was, or is to be.
    pub direction: Option<Direction>,
    /// What the session gives, if the state is [`Established`](ConnectionState::Established).
    pub session: Option<SessionInfo>,
    /// Why, as judged here; `None` where the state says it all.
    pub reason: Option<StateReason>,
    /// When.
    pub at: Instant,
}

/// How far a peer is from exchanging messages.
///
/// ```
/// use glueberry_proto::ConnectionState;
///
/// assert_eq!(ConnectionState::default(), ConnectionState::Disconnected);
/// assert_eq!(ConnectionState::Cooldown.to_string(), "Cooldown");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// No connection, and none wanted.
    #[default]
    Disconnected,
    /// Being dialled.
    Connecting,
    /// The handshake can be held.
    Connected,
    /// Named streams carry messages. In the v1 profiles it is a local matter: the peer may not have
    /// consented yet.
    Established,
    /// Waiting for the next attempt.
    Reconnecting,
    /// Left alone after a failed handshake.
    Cooldown,
}

impl ConnectionState {
    /// All states, in the order in which a peer that is dialled comes to be Established; then those
    /// between attempts.
    pub const ALL: [Self; 6] = [
        Self::Disconnected,
        Self::Connecting,
        Self::Connected,
        Self::Established,
        Self::Reconnecting,
        Self::Cooldown,
    ];
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "Disconnected",
            Self::Connecting => "Connecting",
            Self::Connected => "Connected",
            Self::Established => "Established",
            Self::Reconnecting => "Reconnecting",
            Self::Cooldown => "Cooldown",
        })
    }
}

/// Why a peer's state changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StateReason {
    /// It could not be reached.
    #[error("dial failed: {0}")]
    DialFailed(DialError),
    /// Its session ended.
    #[error("{0}")]
    SessionEnded(CloseReason),
    /// The application asked for it.
    #[error("disconnected locally")]
    Disconnected,
    /// Its cooldown is over.
    #[error("cooldown is over")]
    CooldownOver,
    /// The last attempt that the policy allows has failed.
    #[error("given up after {attempts} attempts: {last}")]
    AttemptsExhausted {
        /// How often it was dialled again.
        attempts: u32,
        /// Why the last dial failed.
        last: DialError,
    },
    /// The application wants no further attempts.
    #[error("reconnection cancelled")]
    ReconnectionCancelled,
    /// No address is left to reach it by.
    #[error("no address is known any more")]
    NoAddress,
    /// It was banned.
    #[error("blacklisted")]
    Blacklisted,
    /// There were too many sessions.
    #[error("pruned to make room")]
    Pruned,
    /// The node shuts down.
    #[error("node is shutting down")]
    ShuttingDown,
}
