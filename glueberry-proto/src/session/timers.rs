//! The timers of a session, each with a name.

use crate::id::SubstreamId;
use crate::wire::StreamName;

/// What a session waits for. The name is for traces and debugging; nothing follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timer {
    /// A substream must be agreed by then, or is given up.
    Negotiation(SubstreamId),
    /// Another substream is tried for a stream then.
    Retry(StreamName),
    /// What was written on a stream is no longer kept to go out again.
    Settle(StreamName),
    /// A later instance has waited for long enough for the one that is read, or for one that has not
    /// come (v2).
    Instance(StreamName),
    /// A frame may go out that had to wait, because few are allowed in a second (v2).
    Control,
    /// The session ends, unless there is a handshake substream again.
    HandshakeLost,
    /// Draining is given up, or what the peer says at the end is.
    Drain,
}

/// A [`Timer`] that borrows its name: drivers ask for the next time after every input.
#[derive(Clone, Copy)]
pub(super) enum Due<'a> {
    Negotiation(SubstreamId),
    Retry(&'a StreamName),
    Settle(&'a StreamName),
    Instance(&'a StreamName),
    Control,
    HandshakeLost,
    Drain,
}

impl From<Due<'_>> for Timer {
    fn from(due: Due<'_>) -> Self {
        match due {
            Due::Negotiation(id) => Self::Negotiation(id),
            Due::Retry(stream) => Self::Retry(stream.clone()),
            Due::Settle(stream) => Self::Settle(stream.clone()),
            Due::Instance(stream) => Self::Instance(stream.clone()),
            Due::Control => Self::Control,
            Due::HandshakeLost => Self::HandshakeLost,
            Due::Drain => Self::Drain,
        }
    }
}
