//! What a session reports to the application.

use core::fmt;

use crate::error::{CloseReason, RecordError};
use crate::owed::Owed;
use crate::prelude::*;
use crate::session_info::SessionInfo;
use crate::wire::StreamName;

/// Something that happened in a session. Events may be taken late; messages are not in them, so
/// that a slow reader of one stream stalls neither another stream nor the events (rule C6).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "events are the only way to learn of the session's end"]
#[non_exhaustive]
pub enum Event {
    /// Handshake messages wait in
    /// [`poll_handshake_message`](crate::Session::poll_handshake_message). Reported again only
    /// after they were all taken.
    HandshakeReadable,
    /// The handshake is over: named streams carry messages.
    Established(SessionInfo),
    /// Messages wait in [`poll_message`](crate::Session::poll_message). Reported again only after
    /// they were all taken.
    Readable {
        /// The stream.
        stream: StreamName,
    },
    /// A stream that refused with [`Backpressure`](crate::SendError::Backpressure) accepts again.
    /// Not reported for a lent queue, whose owner asks it.
    Writable {
        /// The stream.
        stream: StreamName,
    },
    /// A record was not delivered. The stream goes on, within a limit per session.
    RecordRejected {
        /// The stream.
        stream: StreamName,
        /// Why.
        error: RecordError,
    },
    /// The substream that carried this side's messages broke; the next message opens another.
    StreamInterrupted {
        /// The stream.
        stream: StreamName,
        /// Messages that were handed to the transport on it, of which the peer may have any
        /// number from the front.
        in_doubt: u64,
    },
    /// The substream that carried the peer's messages ended other than cleanly (v2). The stream goes
    /// on with the next; what is lost of it is then known.
    StreamTruncated {
        /// The stream.
        stream: StreamName,
    },
    /// The peer has given up messages that it had sent, and goes on behind them (v2).
    MessagesLost {
        /// The stream.
        stream: StreamName,
        /// How many.
        messages: u64,
    },
    /// The peer refused the stream so often that its queue was given up;
    /// [`take_unsent`](crate::Session::take_unsent) returns the messages. Those of a lent queue are
    /// its owner's to give up.
    StreamRefused {
        /// The stream.
        stream: StreamName,
        /// Messages that were never handed to the transport, without those in a lent queue.
        unsent: usize,
    },
    /// A substream that the peer had opened early was reset, because `prepare_streams` did not
    /// name its stream.
    StreamNotPrepared {
        /// The stream.
        stream: StreamName,
    },
    /// The session has ended. Exactly one per session, and the last event of it (rule C2).
    Closed(Closed),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// Accepted messages that were never handed to the transport, those of a refused stream that were
    /// not taken among them; [`take_unsent`](crate::Session::take_unsent) returns them. What is left in
    /// a lent queue is not among them.
    pub unsent: usize,
    /// Messages handed to the transport on substreams that did not end cleanly: the peer may have
    /// them or not. None if the peer has said at the end what it has (v2).
    pub in_doubt: u64,
    /// Messages handed to the transport that the peer certainly does not have, by what it has said at
    /// the end (v2).
    pub not_received: u64,
    /// The oldest that the driver [owed](crate::Session::owed) when the session ended, if that was
    /// because something did not come in time: a likelier cause than the peer.
    pub owed: Option<Box<Owed>>,
}

/// The reason, and what was not certainly delivered.
impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(owed) = &self.owed {
            write!(f, " ({owed})")?;
        }
        let unsent = u64::try_from(self.unsent).unwrap_or(u64::MAX);
        let counts =
            [(unsent, "unsent"), (self.in_doubt, "in doubt"), (self.not_received, "not received")];
        let mut separator = "; ";
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count} {what}")?;
            separator = ", ";
        }
        Ok(())
    }
}
