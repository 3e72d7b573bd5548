//! What a node and its sessions tell each other: opaque values that the adapter only carries.

use bytes::Bytes;

use crate::error::CloseReason;
use crate::wire::StreamName;

/// A word from a session to its node; hand it to
/// [`Node::handle_session_message`](crate::Node::handle_session_message).
#[derive(Debug)]
#[must_use = "the node must hear what its sessions say"]
pub struct ToNode(pub(crate) FromSession);

/// A word from a node to one of its sessions; hand it to
/// [`Session::handle_node_message`](crate::Session::handle_node_message).
#[derive(Debug)]
#[must_use = "the session must hear what its node says"]
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
    /// What the session hands on to the one that is kept in its stead.
    Yielded(Carry),
    /// The session has ended.
    Closed(CloseReason),
}

#[derive(Debug)]
pub(crate) enum FromNode {
    /// Become Connected, and repeat what another session of this peer had begun to say.
    Grant(Carry),
    /// Another session is kept: hand on what was said, and deliver nothing more.
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
