//! One QUIC stream between its socket and its buffers.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use glueberry_proto::{Instant, ResetCode, Session, SubstreamBuffer, SubstreamEnd, SubstreamId};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};

use crate::session::SessionDriver;

/// A negotiated substream.
pub(super) struct QuicSubstream {
    buffer: SubstreamBuffer,
    send: SendStream,
    recv: RecvStream,
    wants_write: bool,
    writing: Writing,
    reading_is_over: bool,
    /// The peer's half is over: whether it also refuses this side's.
    refusal: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    /// The transport has said "not now" and will wake the task.
    is_write_blocked: bool,
    is_read_blocked: bool,
}

/// How far this side's half is.
enum Writing {
    Open,
    /// Ended; the peer's acknowledgement is awaited.
    Finished(Pin<Box<dyn Future<Output = bool> + Send>>),
    Over,
}

impl QuicSubstream {
    pub(super) fn new(id: SubstreamId, send: SendStream, recv: RecvStream) -> Self {
        Self {
            buffer: SubstreamBuffer::new(id),
            send,
            recv,
            wants_write: true,
            writing: Writing::Open,
            reading_is_over: false,
            refusal: None,
            is_write_blocked: false,
            is_read_blocked: false,
        }
    }

    /// The task was woken: whatever was blocked may have become ready.
    pub(super) const fn woken(&mut self) {
        self.is_write_blocked = false;
        self.is_read_blocked = false;
    }

    pub(super) const fn want_write(&mut self) {
        self.wants_write = true;
    }

    pub(super) const fn finish(&mut self) {
        self.buffer.finish();
        self.wants_write = true;
    }

    pub(super) fn resume(&mut self, session: &mut Session, now: Instant) {
        self.buffer.resume(session, now);
    }

    pub(super) fn reset(mut self, code: ResetCode) {
        let code = VarInt::from_u32(code.as_u32());
        // A half that has ended already needs no reset.
        drop(self.send.reset(code));
        drop(self.recv.stop(code));
    }

    /// Returns whether the session wants no more for now, so that the peer's bytes wait here.
    pub(super) const fn is_paused(&self) -> bool {
        !self.reading_is_over && !self.buffer.wants_read() && !self.buffer.is_read_over()
    }

    /// Returns whether neither half has anything more to say.
    pub(super) const fn is_over(&self) -> bool {
        self.reading_is_over && matches!(self.writing, Writing::Over)
    }

    /// Moves what can be moved, within a budget; returns whether there may be more at once.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        driver: &mut SessionDriver,
        now: Instant,
        chunks: &mut ReadChunks,
    ) -> bool {
        let wrote = self.poll_write(cx, driver, now);
        let session = driver.session();
        let has_more = (0..READS_PER_POLL).all(|_| self.poll_read(cx, session, now, chunks));
        wrote || has_more
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
        match &mut self.writing {
            Writing::Open if self.wants_write => {}
            Writing::Open => return self.poll_refusal(cx, driver.session(), now),
            Writing::Finished(acknowledged) => {
                let Poll::Ready(is_acknowledged) = acknowledged.as_mut().poll(cx) else {
                    self.is_write_blocked = true;
                    return false;
                };
                self.writing = Writing::Over;
                if is_acknowledged {
                    driver.session().handle_acknowledged(now, self.buffer.substream());
                } else {
                    self.buffer.ended(driver.session(), now, SubstreamEnd::Stopped);
                }
                return true;
            }
            Writing::Over => return false,
        }
        for _ in 0..WRITES_PER_POLL {
            let Some(chunk) = driver.chunk(&mut self.buffer) else {
                self.wants_write = false;
                return self.finish_if_asked();
            };
            let write = {
                let write = pin!(self.send.write_chunks(std::slice::from_mut(chunk)));
                write.poll(cx)
            };
            match write {
                Poll::Pending => {
                    self.is_write_blocked = true;
                    return false;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(WriteError::Stopped(_))) => {
                    self.writing = Writing::Over;
                    self.buffer.ended(driver.session(), now, SubstreamEnd::Stopped);
                    return true;
                }
                Poll::Ready(Err(_)) => {
                    // The connection is lost, and says so itself.
                    self.writing = Writing::Over;
                    return false;
                }
            }
        }
        true
    }

    /// A peer that gives a substream up may have nothing written to it that would tell.
    fn poll_refusal(&mut self, cx: &mut Context<'_>, session: &mut Session, now: Instant) -> bool {
        let Some(Poll::Ready(is_refused)) =
            self.refusal.as_mut().map(|refusal| refusal.as_mut().poll(cx))
        else {
            return false;
        };
        self.refusal = None;
        if is_refused {
            self.writing = Writing::Over;
            self.buffer.ended(session, now, SubstreamEnd::Stopped);
        }
        is_refused
    }

    fn finish_if_asked(&mut self) -> bool {
        if !self.buffer.is_finishing() {
            return false;
        }
        self.writing = match self.send.finish() {
            Ok(()) => {
                let stopped = self.send.stopped();
                Writing::Finished(Box::pin(async move { matches!(stopped.await, Ok(None)) }))
            }
            Err(_) => Writing::Over,
        };
        true
    }

    /// Reads once; returns whether there may be more at once.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        now: Instant,
        chunks: &mut ReadChunks,
    ) -> bool {
        if self.reading_is_over || self.is_read_blocked {
            return false;
        }
        if self.buffer.is_read_over() {
            self.reading_is_over = true;
            drop(self.recv.stop(VarInt::from_u32(0)));
            return false;
        }
        if !self.buffer.wants_read() {
            return false;
        }
        let read = pin!(self.recv.read_chunks(chunks)).poll(cx);
        match read {
            Poll::Pending => {
                self.is_read_blocked = true;
                false
            }
            Poll::Ready(Ok(Some(count))) => {
                for chunk in chunks.iter_mut().take(count) {
                    self.buffer.append(session, now, &std::mem::take(chunk));
                }
                self.buffer.received(session, now);
                true
            }
            Poll::Ready(Ok(None)) => self.read_ended(session, now, SubstreamEnd::Finished),
            Poll::Ready(Err(ReadError::Reset(_))) => {
                self.read_ended(session, now, SubstreamEnd::Reset)
            }
            Poll::Ready(Err(_)) => {
                // The connection is lost, and says so itself.
                self.reading_is_over = true;
                false
            }
        }
    }

    fn read_ended(&mut self, session: &mut Session, now: Instant, end: SubstreamEnd) -> bool {
        self.reading_is_over = true;
        let stopped = self.send.stopped();
        self.refusal = Some(Box::pin(async move { matches!(stopped.await, Ok(Some(_))) }));
        self.buffer.ended(session, now, end);
        true
    }
}

impl fmt::Debug for QuicSubstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicSubstream").field("buffer", &self.buffer).finish_non_exhaustive()
    }
}

/// Where chunks are read to, empty between two reads; one for all substreams of a connection.
pub(super) type ReadChunks = [Bytes; CHUNKS_PER_READ];

/// Datagrams' worth of data read at a time.
const CHUNKS_PER_READ: usize = 24;
/// Reads before another substream has its turn.
const READS_PER_POLL: usize = 4;
/// Chunks written before another substream has its turn.
const WRITES_PER_POLL: usize = 4;
