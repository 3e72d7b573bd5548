//! Why a connection of the mux ended, and why a substream was not opened.

use thiserror::Error;

/// Why a [`Mux`](super::Mux) is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Closed {
    /// [`Mux::close`](super::Mux::close) was called.
    #[error("closed locally with code {code}")]
    Locally {
        /// The code that the peer sees.
        code: u32,
    },
    /// The peer has closed it, and all that it sent before was read.
    #[error("closed by the peer with code {code}")]
    ByPeer {
        /// The peer's code; a hint that proves nothing.
        code: u32,
    },
    /// The pipe has ended without a close: what was on its way is lost.
    #[error("the pipe ended without a close")]
    PipeEnded,
    /// The peer's first frame, or any byte after a ping, did not come in time.
    #[error("timed out")]
    TimedOut,
    /// The peer broke the mux's protocol, or speaks another.
    #[error("peer misbehaved: {0}")]
    Misbehaved(Violation),
}

/// How the peer broke the mux's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// Its first frame is not that of this protocol, or not of a version that is known here.
    #[error("did not begin with a HELLO of this protocol")]
    BadHello,
    /// It said hello twice.
    #[error("said HELLO twice")]
    SecondHello,
    /// A frame of no kind that there is.
    #[error("sent a frame of type {kind} with flags {flags:#04x}")]
    UnknownFrame {
        /// The frame's type.
        kind: u8,
        /// The frame's flags.
        flags: u8,
    },
    /// A frame with a length that its type does not have.
    #[error("sent a frame of type {kind} with {len} bytes")]
    BadLength {
        /// The frame's type.
        kind: u8,
        /// The length in bytes.
        len: u16,
    },
    /// A frame for a substream that it cannot be for, or that was never opened.
    #[error("sent a frame that substream {substream} cannot have")]
    BadSubstream {
        /// The substream's number.
        substream: u32,
    },
    /// More substreams than it may open.
    #[error("opened more than {limit} substreams")]
    TooManySubstreams {
        /// How many it may open.
        limit: u16,
    },
    /// More bytes than a window has room for.
    #[error("sent more bytes than substream {substream} or the connection has room for")]
    WindowExceeded {
        /// The substream's number.
        substream: u32,
    },
    /// An increment of zero, or of a window beyond its largest size.
    #[error("changed the window of substream {substream} by {increment}")]
    BadIncrement {
        /// The substream's number, or zero for the connection.
        substream: u32,
        /// The increment in bytes.
        increment: u32,
    },
    /// Bytes, or another end, behind the end of a half.
    #[error("sent on substream {substream} behind its end")]
    BehindEnd {
        /// The substream's number.
        substream: u32,
    },
    /// An acknowledgement of an end that was not sent.
    #[error("acknowledged an end of substream {substream} that was not sent")]
    EarlyAck {
        /// The substream's number.
        substream: u32,
    },
}

/// Why a substream was not opened. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer's first frame has not arrived: [`Event::Ready`](super::Event::Ready) follows.
    #[error("the peer has not said hello yet")]
    NotReady,
    /// As many are open as the peer, or this side's configuration, permits.
    #[error("{limit} substreams are open, which is the limit")]
    LimitReached {
        /// The limit.
        limit: u16,
    },
    /// Every number was used.
    #[error("no number is left for another substream")]
    Exhausted,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}
