//! The messages between a node and its sessions: opaque values that the adapter only carries.

use bytes::Bytes;

use crate::error::CloseReason;
use crate::wire::StreamName;

/// A message of a session for its node; hand it to
/// [`Node::handle_session_message`](crate::Node::handle_session_message).
#[derive(Debug)]
#[must_use = "a node that misses a message no longer knows its sessions"]
pub struct ToNode(pub(crate) FromSession);

/// A message of a node for one of its sessions; hand it to
/// [`Session::handle_node_message`](crate::Session::handle_node_message).
#[derive(Debug)]
#[must_use = "a session that misses a message waits for ever"]
pub struct ToSession(pub(crate) FromNode);

#[derive(Debug)]
pub(crate) enum FromSession {
    /// A handshake substream was agreed; the session may become Connected.
    Agreed,
    /// The application has prepared streams: the session can no longer be exchanged for another.
    Prepared,
    /// The session is Established.
    Established,
    /// The peer has answered a probe.
    Alive,
    /// What the session hands over to the one that replaces it.
    Yielded(Carry),
    /// The session has ended.
    Closed(CloseReason),
}

#[derive(Debug)]
pub(crate) enum FromNode {
    /// Become Connected, and send what another session of this peer has handed over.
    Grant(Carry),
    /// Another session replaces this one: hand over what was sent, and deliver nothing more.
    Yield,
    /// Find out whether the peer still answers.
    Probe,
    /// End; `drain` first sends what is queued.
    Close { reason: CloseReason, drain: bool },
}

/// Handshake messages and the consent that move from one session of a peer to another.
#[derive(Debug, Default)]
pub(crate) struct Carry {
    /// Handshake messages without an answer so far.
    pub(crate) messages: Vec<Bytes>,
    /// The streams that were prepared.
    pub(crate) prepared: Option<Vec<StreamName>>,
}
