//! One libp2p substream between its multiplexer and its buffers.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::io::{AsyncRead, AsyncWrite};
use glueberry_proto::{
    Instant, ProtocolId, READ_CHUNK, Session, SubstreamBuffer, SubstreamEnd, SubstreamId,
};
use glueberry_tokio::adapter::SessionDriver;
use libp2p::swarm::Stream;

use crate::upgrade::Negotiated;

/// A negotiated substream.
pub(crate) struct Substream {
    buffer: SubstreamBuffer,
    stream: Stream,
    order: Order,
    /// It carries the handshake, whose end nobody has to answer.
    is_handshake: bool,
    wants_write: bool,
    wants_flush: bool,
    writing: Writing,
    reading_is_over: bool,
    /// The peer's half is over; whether it also refuses ours shows only by writing.
    may_be_refused: bool,
    /// The multiplexer has said "not now" and will wake the task.
    is_write_blocked: bool,
    is_read_blocked: bool,
}

/// What is known about the order in which bytes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// All of a connection's, as over TCP.
    PerConnection,
    /// Those of each substream, as over QUIC.
    PerSubstream,
}

/// How far this side's half is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    Closing,
    /// Ended; that the peer has it all is to be proven.
    Closed {
        at: Instant,
    },
    Over,
}

/// What a round has moved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    /// There may be more to move at once.
    pub(crate) has_more: bool,
    /// Something came from the peer.
    pub(crate) has_heard: bool,
}

impl Substream {
    pub(crate) fn new(id: SubstreamId, negotiated: Negotiated, order: Order) -> Self {
        Self {
            order,
            is_handshake: matches!(negotiated.protocol, Some(ProtocolId::Handshake(_))),
            buffer: SubstreamBuffer::new(id),
            stream: negotiated.stream,
            wants_write: true,
            wants_flush: false,
            writing: Writing::Open,
            reading_is_over: false,
            may_be_refused: false,
            is_write_blocked: false,
            is_read_blocked: false,
        }
    }

    /// The task was woken: whatever was blocked may have become ready.
    pub(crate) const fn woken(&mut self) {
        self.is_write_blocked = false;
        self.is_read_blocked = false;
    }

    pub(crate) const fn want_write(&mut self) {
        self.wants_write = true;
    }

    pub(crate) const fn finish(&mut self) {
        self.buffer.finish();
        self.wants_write = true;
    }

    pub(crate) fn resume(&mut self, session: &mut Session, now: Instant) {
        self.buffer.resume(session, now);
    }

    /// Returns whether neither half has anything more to say.
    pub(crate) fn is_over(&self) -> bool {
        self.reading_is_over && self.writing == Writing::Over
    }

    /// Returns what a probe must begin after to prove that the peer has all of this side's half.
    ///
    /// Where substreams overtake each other a probe proves nothing, and the end of the peer's half is
    /// waited for. It stands in only where there is no such end to come.
    pub(crate) fn unproven(&self) -> Option<Instant> {
        let Writing::Closed { at } = self.writing else {
            return None;
        };
        match self.order {
            Order::PerConnection => Some(at),
            Order::PerSubstream => {
                (self.is_handshake || self.reading_is_over).then_some(at + LINGER)
            }
        }
    }

    /// The peer has all of this side's half.
    pub(crate) fn proven(&mut self, session: &mut Session, now: Instant) {
        if matches!(self.writing, Writing::Closed { .. }) {
            self.writing = Writing::Over;
            session.handle_acknowledged(now, self.buffer.substream());
        }
    }

    /// Moves what can be moved, within a budget.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        driver: &mut SessionDriver,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Moved {
        let was_over = self.reading_is_over;
        let wrote = self.poll_write(cx, driver, now);
        let session = driver.session();
        let mut moved = Moved::default();
        moved.has_more = (0..READS_PER_POLL).all(|_| {
            let read = self.poll_read(cx, session, now, scratch);
            moved.has_heard |= read;
            read
        });
        moved.has_more |= wrote || was_over != self.reading_is_over;
        moved
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        driver: &mut SessionDriver,
        now: Instant,
    ) -> bool {
        if self.is_write_blocked {
            return false;
        }
        match self.writing {
            Writing::Open if self.wants_write => self.write(cx, driver, now),
            Writing::Open if self.wants_flush => self.flush(cx),
            Writing::Open if self.may_be_refused => match self.is_refused(cx) {
                true => self.write_failed(driver.session(), now),
                false => false,
            },
            Writing::Closing => self.close(cx, driver.session(), now),
            _ => false,
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, driver: &mut SessionDriver, now: Instant) -> bool {
        for _ in 0..WRITES_PER_POLL {
            let Some(chunk) = driver.chunk(&mut self.buffer) else {
                self.wants_write = false;
                if self.buffer.is_finishing() {
                    self.writing = Writing::Closing;
                    return true;
                }
                return self.flush(cx);
            };
            match Pin::new(&mut self.stream).poll_write(cx, chunk) {
                Poll::Pending => {
                    self.is_write_blocked = true;
                    return false;
                }
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.buffer.wrote(count);
                    self.wants_flush = true;
                }
                Poll::Ready(Ok(_) | Err(_)) => return self.write_failed(driver.session(), now),
            }
        }
        true
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        if self.wants_flush {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => self.is_write_blocked = true,
                // Whoever writes next hears of an error.
                Poll::Ready(_) => self.wants_flush = false,
            }
        }
        false
    }

    fn close(&mut self, cx: &mut Context<'_>, session: &mut Session, now: Instant) -> bool {
        match Pin::new(&mut self.stream).poll_close(cx) {
            Poll::Pending => {
                self.is_write_blocked = true;
                false
            }
            Poll::Ready(Ok(())) => {
                self.writing = Writing::Closed { at: now };
                true
            }
            Poll::Ready(Err(_)) => self.write_failed(session, now),
        }
    }

    /// The peer refuses to read, or the connection is lost, which then says so itself.
    fn write_failed(&mut self, session: &mut Session, now: Instant) -> bool {
        self.writing = Writing::Over;
        self.buffer.ended(session, now, SubstreamEnd::Stopped);
        true
    }

    /// Reads once; returns whether something came.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        now: Instant,
        scratch: &mut Scratch,
    ) -> bool {
        if self.reading_is_over || self.is_read_blocked {
            return false;
        }
        if self.buffer.is_read_over() {
            self.reading_is_over = true;
            return false;
        }
        if !self.buffer.wants_read() {
            return false;
        }
        match Pin::new(&mut self.stream).poll_read(cx, &mut scratch.0) {
            Poll::Pending => {
                self.is_read_blocked = true;
                false
            }
            Poll::Ready(Ok(0)) => {
                let end = self.end_of_read(cx);
                self.read_ended(session, now, end);
                true
            }
            Poll::Ready(Ok(count)) => {
                let read = scratch.0.get(..count).unwrap_or_default();
                self.buffer.append(session, now, read);
                self.buffer.received(session, now);
                true
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.read_ended(session, now, SubstreamEnd::Reset);
                true
            }
            Poll::Ready(Err(_)) => {
                // The connection is lost, and says so itself.
                self.reading_is_over = true;
                false
            }
        }
    }

    /// Tells a clean end from a reset, which yamux reports alike: after a reset it refuses to
    /// write.
    fn end_of_read(&mut self, cx: &mut Context<'_>) -> SubstreamEnd {
        if self.writing == Writing::Open && self.is_refused(cx) {
            return SubstreamEnd::Reset;
        }
        SubstreamEnd::Finished
    }

    /// Returns whether nothing more can be written.
    fn is_refused(&mut self, cx: &mut Context<'_>) -> bool {
        matches!(Pin::new(&mut self.stream).poll_write(cx, &[]), Poll::Ready(Err(_)))
    }

    fn read_ended(&mut self, session: &mut Session, now: Instant, end: SubstreamEnd) {
        self.reading_is_over = true;
        // yamux would send an empty frame at each try, and has no way to end one half and refuse
        // the other.
        self.may_be_refused = end == SubstreamEnd::Reset || self.order == Order::PerSubstream;
        self.buffer.ended(session, now, end);
        if end == SubstreamEnd::Finished && self.order == Order::PerSubstream {
            // A peer ends its half in answer to the end of ours, or has no more to say: it has
            // read on until then.
            self.proven(session, now);
        }
    }
}

impl fmt::Debug for Substream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Substream").field("buffer", &self.buffer).finish_non_exhaustive()
    }
}

/// Where bytes are read to before they are put where they belong; one for all substreams of a
/// connection. It is cleared once, where room in a buffer would be before every read.
pub(crate) struct Scratch(Box<[u8]>);

impl Default for Scratch {
    fn default() -> Self {
        Self(vec![0; READ_CHUNK].into_boxed_slice())
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

/// libp2p does not show QUIC's acknowledgements. Where the peer's half is no answer to the end of
/// ours, that is given this long, and the round trip of a probe, to arrive.
const LINGER: Duration = Duration::from_millis(300);
/// Reads before another substream has its turn.
const READS_PER_POLL: usize = 4;
/// Chunks written before another substream has its turn. A multiplexer takes as little as 16 KiB
/// of one at a time.
const WRITES_PER_POLL: usize = 16;
