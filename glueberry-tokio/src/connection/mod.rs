//! The loop that drives a session over a connection, and what a transport implements for it.

mod offer;
mod pump;
mod task;
mod turns;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use glueberry_proto::{
    ConnectionLost, Instant, OpenError, ProtocolId, READ_CHUNK, ResetCode, Session,
    SubstreamBuffer, SubstreamId,
};

pub use self::task::ConnectionLoop;
use crate::memory::PeerMemory;
use crate::path::Path;

/// A connection to one peer.
///
/// The transport has authenticated the peer: the caller that hands in a connection vouches for the peer's
/// key. [`Shared::offer_connection`](crate::adapter::Shared::offer_connection) hands one in.
///
/// A connection that is dropped is closed.
pub trait Connection: Send + Unpin + 'static {
    /// Its substreams.
    type Substream: Substream;

    /// Whether the connection may carry another session after this one.
    ///
    /// If so, [`ConnectionLoop`] ends with its session and before the node knows of that end, so
    /// that the connection is free again when the node dials; the driver of the session is
    /// returned by [`ConnectionLoop::into_driver`]. Else the loop closes the connection.
    const OUTLIVES_SESSION: bool = false;

    /// Returns the address that the peer connects from, if the connection knows it. Strangers from
    /// one network share [`Config::strangers_per_minute`](crate::Config::strangers_per_minute).
    fn remote_ip(&self) -> Option<IpAddr> {
        None
    }

    /// Returns 32 bytes that only the two ends of this connection have: those of TLS's exporter with
    /// the label `EXPORTER-glueberry-2` and an empty context, if the connection is one of TLS. Sessions
    /// of v2 are then tied to it, if the peer's transport has them too.
    fn channel_binding(&self) -> Option<[u8; 32]> {
        None
    }

    /// Returns how the peer is reached, if the connection knows it. It owns the [`Path`], which ends
    /// with it. Asked once, when its session begins.
    fn path(&self) -> Option<Weak<dyn Path>> {
        None
    }

    /// Takes note that the session is Established. Until then the transport should let the peer send
    /// little ahead of the reader; from now on it may lend it windows, charged to its account by
    /// [`PeerMemory::try_lend`]. Called once.
    fn established(&mut self, _memory: &Arc<PeerMemory>) {}

    /// Starts to open a substream, and to agree with the peer on one of `protocols`, best first.
    ///
    /// The outcome is [`Opened`](ConnectionEvent::Opened) or
    /// [`OpenFailed`](ConnectionEvent::OpenFailed) with the same id. A transport of
    /// [`Naming::Preamble`](glueberry_proto::Naming::Preamble) agrees on nothing.
    fn open(&mut self, substream: SubstreamId, protocols: Vec<ProtocolId>);

    /// Returns what happened next on the connection, or arranges for a wake-up.
    ///
    /// A transport that negotiates accepts the protocols that [`Session::protocols`] returns at
    /// that time. Negotiation has a deadline, so that a silent peer holds nothing for ever.
    ///
    /// This is not called again behind [`poll_close`](Self::poll_close). It is called again behind
    /// [`Lost`](ConnectionEvent::Lost), for substreams that had arrived before the loss.
    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        session: &Session,
    ) -> Poll<ConnectionEvent<Self::Substream>>;

    /// Closes the connection, with a code for the peer if the transport can carry one.
    ///
    /// Ready once nothing has to be driven any more. All substreams are gone by then. The loop
    /// gives up, and drops the connection, after the drain timeout.
    fn poll_close(&mut self, cx: &mut Context<'_>, code: u64) -> Poll<()>;
}

/// What happened on a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectionEvent<S> {
    /// A substream that was asked for is open.
    Opened {
        /// The id that [`Connection::open`] was given.
        id: SubstreamId,
        /// What was agreed, if the transport negotiates.
        protocol: Option<ProtocolId>,
        /// The substream.
        substream: S,
    },
    /// A substream that was asked for could not be opened.
    OpenFailed {
        /// The id that [`Connection::open`] was given.
        id: SubstreamId,
        /// Why.
        error: OpenError,
    },
    /// The peer has opened a substream.
    Accepted {
        /// What was agreed, if the transport negotiates.
        protocol: Option<ProtocolId>,
        /// The substream.
        substream: S,
    },
    /// The peer has proposed protocols without end on a substream, which was broken off. The session
    /// ends if that happens more than a few times.
    EndlessNegotiation,
    /// The connection is gone. What has arrived before can still be read.
    Lost(ConnectionLost),
}

/// One ordered, reliable stream of bytes in each direction, inside a connection.
///
/// The transport limits what a peer may send on one substream before it is read, and a substream
/// that is not read holds up no other.
///
/// Each `poll_*` method that returns [`Poll::Pending`] wakes the task when it is worth another try.
/// A substream that is dropped gives up whatever has not ended.
pub trait Substream: Send + Unpin + 'static {
    /// Reads what has arrived into `buffer`.
    ///
    /// `Ready(Ok(()))` with nothing read is the clean end of the peer's half. `Pending` means that
    /// nothing was read.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer<'_>,
    ) -> Poll<Result<(), ReadError>>;

    /// Refuses whatever else the peer sends on this substream. Nothing is read afterwards.
    fn stop(&mut self);

    /// Writes from the front of `bytes`, and takes away what was written: at least one byte if it
    /// is ready.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<(), WriteError>>;

    /// Sends what was written and still waits in a buffer.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        Poll::Ready(Ok(()))
    }

    /// Ends this side's half cleanly, after what was written. It is polled until it is ready.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>>;

    /// Waits until the peer has everything that was written, and the end.
    ///
    /// It is polled once this side's half was finished. What is not acknowledged when the
    /// connection ends is reported as in doubt; a transport that can't know is ready at once, and
    /// so claims more than it knows.
    fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>>;

    /// Waits until the peer refuses to read this side's half. It is polled while there is nothing
    /// to write and the peer's half has ended, because a write would find out sooner.
    fn poll_stopped(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Gives up both halves; a half that has ended needs nothing.
    fn reset(self, code: ResetCode);
}

/// Why a substream can't be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The peer has given up its half.
    Reset,
    /// The connection is lost, which [`Connection::poll_event`] reports.
    ConnectionLost,
}

/// Why a substream can't be written any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The peer refuses to read on.
    Stopped,
    /// The connection is lost, which [`Connection::poll_event`] reports.
    ConnectionLost,
}

/// Where [`Substream::poll_read`] puts what has arrived.
#[derive(Debug)]
pub struct ReadBuffer<'a> {
    buffer: &'a mut SubstreamBuffer,
    session: &'a mut Session,
    now: Instant,
    scratch: &'a mut Scratch,
    is_empty: bool,
}

impl ReadBuffer<'_> {
    /// Appends bytes that the transport holds.
    pub fn append(&mut self, bytes: &[u8]) {
        self.is_empty &= bytes.is_empty();
        self.buffer.expect(bytes.len());
        self.buffer.append(self.session, self.now, bytes);
    }

    /// Lends a slice to read into, and appends as many bytes of it as `read` returns.
    ///
    /// # Errors
    ///
    /// Whatever `read` returns.
    pub fn read_with(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let scratch = self.scratch.bytes();
        let result = read(scratch);
        if let Poll::Ready(Ok(count)) = &result {
            let bytes = scratch.get(..*count).unwrap_or_default();
            self.is_empty &= bytes.is_empty();
            self.buffer.expect(bytes.len());
            self.buffer.append(self.session, self.now, bytes);
        }
        result
    }

    /// Lends empty chunks to put what the transport holds into, and appends as many of them as
    /// `read` returns.
    ///
    /// # Errors
    ///
    /// Whatever `read` returns.
    pub fn read_chunks_with<E>(
        &mut self,
        read: impl FnOnce(&mut [Bytes]) -> Poll<Result<usize, E>>,
    ) -> Poll<Result<usize, E>> {
        let chunks = self.scratch.chunks();
        let result = read(chunks);
        if let Poll::Ready(Ok(count)) = &result {
            let chunks = chunks.get_mut(..*count).unwrap_or_default();
            self.buffer.expect(chunks.iter().map(Bytes::len).sum());
            for chunk in chunks {
                let bytes = std::mem::take(chunk);
                self.is_empty &= bytes.is_empty();
                self.buffer.append(self.session, self.now, &bytes);
            }
        }
        result
    }
}

/// What a [`ReadBuffer`] lends; one for all substreams of a connection.
///
/// It is made and cleared when it is first needed, where room in the buffer of a substream would
/// have to be cleared before every read.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    chunks: Vec<Bytes>,
}

impl Scratch {
    fn bytes(&mut self) -> &mut [u8] {
        self.bytes.resize(READ_CHUNK, 0);
        &mut self.bytes
    }

    fn chunks(&mut self) -> &mut [Bytes] {
        self.chunks.resize(CHUNKS_PER_READ, Bytes::new());
        &mut self.chunks
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch")
    }
}

/// Chunks lent at a time, each about the data of one datagram.
const CHUNKS_PER_READ: usize = 24;
