//! What a session asks of its adapter, and what the adapter reports about substreams.

use crate::id::SubstreamId;
use crate::message::ToNode;
use crate::prelude::*;
use crate::wire::ProtocolId;

/// Something that the adapter must do now, in order.
#[derive(Debug)]
#[must_use = "an action that is dropped leaves the session waiting for ever"]
#[expect(clippy::exhaustive_enums, reason = "a driver must know that it has handled all there is")]
pub enum Action {
    /// Open a bidirectional substream and answer with
    /// [`handle_opened`](crate::Session::handle_opened) or
    /// [`handle_open_failed`](crate::Session::handle_open_failed).
    OpenSubstream {
        /// The substream's name from now on.
        substream: SubstreamId,
        /// What to propose, in this order, if the transport negotiates a name per substream; else
        /// of no concern to the adapter, because the session writes a name preamble by itself.
        protocols: Vec<ProtocolId>,
    },
    /// Call [`poll_write`](crate::Session::poll_write) whenever the transport can take bytes,
    /// until it gives none.
    WantWrite(SubstreamId),
    /// Read from the substream again.
    ResumeRead(SubstreamId),
    /// End this side's half cleanly behind what `poll_write` still gives. Then report by
    /// [`handle_acknowledged`](crate::Session::handle_acknowledged) that the peer's transport has
    /// it all.
    Finish(SubstreamId),
    /// Reset this side's half and refuse the peer's; the session has forgotten the substream.
    Reset {
        /// The substream.
        substream: SubstreamId,
        /// Why, as a number that the peer may see.
        code: ResetCode,
    },
    /// Carry this to the node.
    Forward(ToNode),
    /// The session is over: close the connection unless something else uses it.
    CloseConnection {
        /// A number that the peer may see; a hint that proves nothing.
        code: u64,
    },
}

/// Why a substream was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetCode {
    /// Not wanted: the name was not prepared, the handshake is over, or there is one already.
    Refused,
    /// Above the number of substreams that a session may have.
    LimitReached,
    /// The session is over.
    Closed,
    /// Belongs to another session (v2).
    WrongSession,
    /// Its instance was skipped, or is over (v2).
    Stale,
    /// Bytes came on the half that carries none (v2).
    ReverseBytes,
    /// Nothing came for a long time, while a later instance waits (v2).
    Abandoned,
    /// Too many instances wait (v2).
    Parked,
}

impl ResetCode {
    /// Returns the number that goes on the wire.
    pub const fn as_u32(self) -> u32 {
        match self {
            Self::Refused => 1,
            Self::LimitReached => 2,
            Self::Closed => 3,
            Self::WrongSession => 4,
            Self::Stale => 5,
            Self::ReverseBytes => 6,
            Self::Abandoned => 7,
            Self::Parked => 8,
        }
    }
}

/// What to do after bytes were handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a session that is paused must not be fed"]
#[expect(clippy::exhaustive_enums, reason = "a driver must know that it has handled all there is")]
pub enum Ingest {
    /// Read on. At least `missing` more bytes are needed before anything comes of it.
    More {
        /// Bytes still missing from what is being gathered; at least 1.
        missing: usize,
    },
    /// Do not read until [`Action::ResumeRead`]; what was not taken stays in the buffer and must
    /// be handed in again then, even if nothing was added.
    Paused,
    /// Nothing is read from the substream any more: drop what was read and read no more.
    Discard,
}

/// How a half of a substream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubstreamEnd {
    /// The peer ended its half cleanly, and all before it was handed in.
    Finished,
    /// The peer reset its half.
    Reset,
    /// The peer refuses to read this side's half.
    Stopped,
    /// Both halves are gone.
    Aborted,
}

/// Why a substream could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer refused every proposal (multistream-select: `na`).
    Refused,
    /// The transport could not open it, or it broke during negotiation.
    Failed,
}

/// Whether the transport negotiates a name for each substream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Naming {
    /// It does, as libp2p does with multistream-select.
    Negotiated,
    /// It does not (a custom multiplexer, a pipe): the session writes and reads a name preamble.
    Preamble,
}

/// Who dialled the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// This node.
    Outbound,
    /// The peer.
    Inbound,
}
