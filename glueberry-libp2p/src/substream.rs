//! A libp2p substream, over whichever multiplexer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::io::{AsyncRead, AsyncWrite};
use glueberry_proto::wire::StreamVersion;
use glueberry_proto::{Instant, ProtocolId, ResetCode};
use glueberry_tokio::adapter::{ReadBuffer, ReadError, Substream, WriteError};
use libp2p::swarm::Stream;

use crate::silence::Liveness;
use crate::upgrade::Negotiated;

/// A negotiated substream.
pub(crate) struct SwarmSubstream {
    stream: Stream,
    order: Order,
    liveness: Liveness,
    /// It carries the handshake, whose end a peer does not have to answer.
    is_handshake: bool,
    /// The peer's end on it acknowledges all of this side's half (v2).
    is_instance: bool,
    writing: Writing,
    has_written: bool,
    reading_is_over: bool,
    /// The peer's half is over; whether it also refuses ours shows only by writing.
    may_be_refused: bool,
}

/// What is known about the order in which bytes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// All of a connection's, as over TCP.
    PerConnection,
    /// Those of each substream, as over QUIC.
    PerSubstream,
}

/// The state of this side's half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// It is being ended, or can't be written.
    Closing,
    /// Ended; that the peer has it all is to be proven.
    Closed {
        at: Instant,
    },
    /// Ended, and the peer has ended its own half since.
    Answered {
        at: Instant,
    },
}

impl SwarmSubstream {
    pub(crate) fn new(negotiated: Negotiated, order: Order, liveness: Liveness) -> Self {
        Self {
            stream: negotiated.stream,
            order,
            liveness,
            is_handshake: matches!(negotiated.protocol, Some(ProtocolId::Handshake(_))),
            is_instance: matches!(
                negotiated.protocol,
                Some(ProtocolId::Stream { version: StreamVersion::V2, .. })
            ),
            writing: Writing::Open,
            has_written: false,
            reading_is_over: false,
            may_be_refused: false,
        }
    }

    /// An end that acknowledges counts only if the peer stays in the session: else it may have dropped
    /// its half, which looks alike where substreams overtake each other.
    fn poll_end_of_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReadError>> {
        if self.is_instance && self.order == Order::PerSubstream {
            if matches!(self.writing, Writing::Closed { .. }) {
                self.writing = Writing::Answered { at: self.liveness.now() };
            }
            if let Writing::Answered { at } = self.writing
                && !ready!(self.liveness.poll_stays(at))
            {
                return Poll::Ready(self.was_reset());
            }
        }
        Poll::Ready(self.end_of_read(cx))
    }

    /// Tells a clean end from a reset, which yamux reports alike: after a reset it refuses to
    /// write.
    fn end_of_read(&mut self, cx: &mut Context<'_>) -> Result<(), ReadError> {
        if self.writing == Writing::Open && self.is_refused(cx) {
            return self.was_reset();
        }
        self.reading_is_over = true;
        if self.order == Order::PerSubstream {
            // yamux would send an empty frame at each try, and has no way to end one half and
            // refuse the other.
            self.may_be_refused = true;
            if matches!(self.writing, Writing::Closed { .. }) {
                self.writing = Writing::Answered { at: self.liveness.now() };
            }
        }
        Ok(())
    }

    fn was_reset(&mut self) -> Result<(), ReadError> {
        self.reading_is_over = true;
        self.may_be_refused = true;
        Err(ReadError::Reset)
    }

    /// Returns whether nothing more can be written.
    fn is_refused(&mut self, cx: &mut Context<'_>) -> bool {
        matches!(Pin::new(&mut self.stream).poll_write(cx, &[]), Poll::Ready(Err(_)))
    }

    /// The peer refuses to read, or the connection is lost, which then is reported by itself.
    fn refused(&mut self) -> Result<(), WriteError> {
        self.writing = Writing::Closing;
        Err(WriteError::Stopped)
    }
}

impl Substream for SwarmSubstream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer<'_>,
    ) -> Poll<Result<(), ReadError>> {
        let stream = Pin::new(&mut self.stream);
        let read = ready!(buffer.read_with(|bytes| stream.poll_read(cx, bytes)));
        Poll::Ready(match read {
            Ok(count) => {
                self.liveness.received();
                if count == 0 { ready!(self.poll_end_of_read(cx)) } else { Ok(()) }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.liveness.received();
                self.was_reset()
            }
            Err(_) => {
                self.reading_is_over = true;
                Err(ReadError::ConnectionLost)
            }
        })
    }

    fn stop(&mut self) {
        // libp2p can't refuse one half.
        self.reading_is_over = true;
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<(), WriteError>> {
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_write(cx, bytes)) {
            Ok(count) if count > 0 => {
                self.has_written = true;
                bytes.advance(count);
                Ok(())
            }
            Ok(_) | Err(_) => self.refused(),
        })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        // The next write reports an error.
        Pin::new(&mut self.stream).poll_flush(cx).map(|_| Ok(()))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.writing = Writing::Closing;
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_close(cx)) {
            Ok(()) => {
                self.writing = Writing::Closed { at: self.liveness.now() };
                Ok(())
            }
            Err(_) => self.refused(),
        })
    }

    /// Where all bytes keep their order, an answered probe proves what was sent before it.
    ///
    /// Where substreams overtake each other, the end of the peer's half is the only sign that it has
    /// read all of ours, and only if it is an answer and not an end of its own: see [`ProtocolId::Stays`]. What
    /// the peer has no end left to answer with can't be known. If its session is about to be over, it closes
    /// the connection when it has what it can get. Else this half is given up.
    fn poll_acknowledged(&mut self, _: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let stays = match (self.writing, self.order) {
            (Writing::Closed { at }, Order::PerConnection) => {
                return self.liveness.poll_proof(at).map(Ok);
            }
            // Nothing is counted by it, and no end has to answer it.
            (Writing::Answered { .. }, _) if self.is_handshake => return Poll::Ready(Ok(())),
            // Nor where nothing was written. A peer that ended its half first has no end left to answer with:
            // waited for, it would keep the place of another substream for as long as the session lasts.
            (Writing::Closed { at }, _) if self.is_handshake || !self.has_written => {
                return self.liveness.poll_proof(at + LINGER).map(Ok);
            }
            (Writing::Answered { at }, _) => ready!(self.liveness.poll_stays(at)),
            (Writing::Closed { at }, _) if self.reading_is_over => {
                // Waited for, it would hold up the stream's next messages, and keep its place, for as long
                // as the session lasts.
                ready!(self.liveness.poll_proof(at + LINGER));
                false
            }
            // One that goes on answers when it has read all of it. Others, such as Go nodes, never do.
            (Writing::Closed { at }, _) => match ready!(self.liveness.poll_stays(at + LINGER)) {
                true => return Poll::Pending,
                false => false,
            },
            (Writing::Open | Writing::Closing, _) => {
                debug_assert!(false, "it is asked for what has ended");
                return Poll::Pending;
            }
        };
        Poll::Ready(if stays { Ok(()) } else { self.refused() })
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.may_be_refused && self.is_refused(cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// libp2p has no reset but to drop; its multiplexers reset then.
    fn reset(self, _: ResetCode) {}
}

impl fmt::Debug for SwarmSubstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwarmSubstream").field("writing", &self.writing).finish_non_exhaustive()
    }
}

/// libp2p does not show QUIC's acknowledgements. Where no answer comes to the end of this side's half,
/// that is given this long, and the round trip of a substream, to arrive.
const LINGER: Duration = Duration::from_millis(300);
