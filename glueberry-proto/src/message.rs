//! The messages between a node and its sessions: opaque values that the adapter only forwards.

use bytes::Bytes;

use crate::drop_guard::DropGuard;
use crate::error::CloseReason;
use crate::prelude::*;
use crate::session_info::SessionInfo;
use crate::wire::{Profile, StreamName};

/// A message from a session to its node. Hand it to
/// [`Node::handle_session_message`](crate::Node::handle_session_message).
#[derive(Debug)]
#[must_use = "a node that misses a message loses track of its sessions"]
pub struct ToNode(pub(crate) FromSession);

/// A message from a node to one of its sessions. Hand it to
/// [`Session::handle_node_message`](crate::Session::handle_node_message).
#[derive(Debug)]
#[must_use = "a session that misses a message waits for ever"]
pub struct ToSession(pub(crate) FromNode);

#[derive(Debug)]
pub(crate) enum FromSession {
    /// A handshake substream was agreed on, by this profile; the session may become Connected.
    Agreed(Profile),
    /// The application has prepared streams (v1). Once this arrives, the node does not begin to replace
    /// the session: the peer may already have received our consent on it. If it has begun, the
    /// session still yields to the request that is on its way, and hands on what was prepared.
    Prepared,
    /// The peer has confirmed the session (v2): it keeps no other, and may be Established on it.
    Confirmed,
    /// The session is Established.
    Established(SessionInfo),
    /// No handshake substream is left before the handshake is over, or there is one again. Also of a
    /// session that the node has not chosen.
    HandshakeLost(bool),
    /// Something has come from the peer since a probe was asked for, so that it lives.
    Alive,
    /// The peer has answered a probe itself: what it sent before has had the time to arrive.
    ProbeAnswered,
    /// The state that the session hands over to the one that replaces it.
    Yielded(Carry),
    /// The session has ended. With what it held until then, unless it was dropped.
    Closed(
        CloseReason,
        #[expect(dead_code, reason = "held until it has arrived")] Option<DropGuard>,
    ),
}

#[derive(Debug)]
pub(crate) enum FromNode {
    /// Become Connected, and send the messages that another session of this peer has handed over.
    Grant(Carry),
    /// Another session replaces this one: hand over the handshake, and deliver nothing more.
    Yield,
    /// Find out whether the peer still answers.
    Probe,
    /// The peer has spoken v2: have no session of an earlier profile with it.
    Pin,
    /// End. With `drain`, first send the queued messages.
    Close { reason: CloseReason, drain: bool },
}

/// The part of a handshake that moves from one session of a peer to another.
#[derive(Debug, Default)]
pub(crate) struct Carry {
    /// Handshake messages that the peer has not answered.
    pub(crate) messages: Vec<Bytes>,
    /// The streams that were prepared.
    pub(crate) prepared: Option<Vec<StreamName>>,
    /// The application has consented.
    pub(crate) is_finalized: bool,
}
