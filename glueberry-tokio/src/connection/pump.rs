//! One substream between its transport and its buffers.

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use glueberry_proto::{
    Instant, READ_CHUNK, ResetCode, Session, SubstreamBuffer, SubstreamEnd, SubstreamId,
};

use super::{ReadBuffer, ReadError, Scratch, Substream, WriteError};
use crate::memory::SMALL;
use crate::session::SessionDriver;

/// Moves the bytes of one substream.
pub(super) struct SubstreamPump<S> {
    buffer: SubstreamBuffer,
    substream: S,
    wants_write: bool,
    wants_flush: bool,
    writing: Writing,
    reading_is_over: bool,
    /// The transport was not ready, and wakes the task when it is.
    is_write_blocked: bool,
    is_read_blocked: bool,
    /// The account of the node had no room for more.
    is_held_back: bool,
    /// What was charged for the long message that is being read, and how much the session had taken
    /// by then: the next message is another.
    reserved: (usize, u64),
    /// Since when a message is not complete, and how much the session had taken then.
    part: Option<(Instant, u64)>,
}

/// The state of this side's half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// Everything is written; the end is not.
    Finishing,
    /// Ended; the peer's acknowledgement is awaited.
    Finished,
    Over,
}

impl<S: Substream> SubstreamPump<S> {
    pub(super) fn new(id: SubstreamId, substream: S) -> Self {
        Self {
            buffer: SubstreamBuffer::new(id),
            substream,
            wants_write: true,
            wants_flush: false,
            writing: Writing::Open,
            reading_is_over: false,
            is_write_blocked: false,
            is_read_blocked: false,
            is_held_back: false,
            reserved: (0, 0),
            part: None,
        }
    }

    /// Asks the session, which knows the substream by now, whether to read from it at all.
    pub(super) fn begin(&mut self, session: &mut Session, now: Instant) {
        self.buffer.received(session, now);
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

    pub(super) fn reset(self, code: ResetCode) {
        self.substream.reset(code);
    }

    /// Returns whether the session takes no more for now, so that the peer's bytes wait here.
    pub(super) const fn is_paused(&self) -> bool {
        let is_paused = !self.buffer.wants_read() && !self.buffer.is_read_over();
        !self.reading_is_over && (is_paused || self.is_held_back)
    }

    /// Returns whether both halves are over.
    pub(super) fn is_over(&self) -> bool {
        self.reading_is_over && self.writing == Writing::Over
    }

    /// Moves what can be moved, within a budget; returns whether there may be more at once.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        driver: &mut SessionDriver,
        now: Instant,
        scratch: &mut Scratch,
    ) -> bool {
        let reading_was_over = self.reading_is_over;
        let wrote = self.poll_write(cx, driver, now);
        let has_more = (0..READS_PER_POLL).all(|_| {
            self.has_room(cx, driver) && self.poll_read(cx, driver.session(), now, scratch)
        });
        self.note_part(now);
        // What is written next may depend on the end of the peer's half, and nothing would wake
        // the task for it.
        wrote || has_more || reading_was_over != self.reading_is_over
    }

    // ---- memory and time ----------------------------------------------------------------------

    /// Returns what is charged for this substream: what it holds, or has reserved.
    pub(super) fn held(&self) -> usize {
        if self.reading_is_over { 0 } else { self.reserved().max(self.buffer.held()) }
    }

    /// Returns when the message that is being read must be complete.
    pub(super) fn part_deadline(&self, timeout: Duration) -> Option<Instant> {
        let (since, _) = self.part?;
        let chunks = u64::try_from(self.buffer.wanted() / READ_CHUNK).unwrap_or(u64::MAX);
        Some(since + timeout.saturating_add(Duration::from_secs(chunks)))
    }

    /// Gives the substream up, because a message did not arrive in time.
    pub(super) fn give_up(mut self, session: &mut Session, now: Instant) {
        self.buffer.ended(session, now, SubstreamEnd::Aborted);
        self.substream.reset(ResetCode::LimitReached);
    }

    fn reserved(&self) -> usize {
        let (bytes, taken) = self.reserved;
        if taken == self.buffer.taken() { bytes } else { 0 }
    }

    /// Returns whether the account of the node has room for what would be read. A long message is
    /// charged as a whole, so that it can be completed once it has begun.
    fn has_room(&mut self, cx: &Context<'_>, driver: &mut SessionDriver) -> bool {
        self.is_held_back = false;
        if self.reading_is_over || self.is_read_blocked || !self.buffer.wants_read() {
            return true;
        }
        let wanted = self.buffer.wanted();
        let has_room = if wanted <= SMALL {
            driver.may_read(cx)
        } else {
            let reserved = self.reserved();
            wanted <= reserved || driver.reserve(cx, wanted - reserved)
        };
        if has_room && wanted > SMALL {
            self.reserved = (wanted, self.buffer.taken());
        }
        self.is_held_back = !has_room;
        has_room
    }

    /// Time runs while the peer owes the rest of a message, and begins anew with the next.
    fn note_part(&mut self, now: Instant) {
        let is_part = self.buffer.held() > 0
            && self.buffer.wants_read()
            && !self.is_held_back
            && !self.reading_is_over;
        let taken = self.buffer.taken();
        match self.part {
            Some((_, before)) if is_part && before == taken => {}
            _ => self.part = is_part.then_some((now, taken)),
        }
    }

    // ---- this side's half ---------------------------------------------------------------------

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
            Writing::Open if self.wants_flush => self.flush(cx, driver.session(), now),
            // There may be nothing to write by which this side would notice that the peer has
            // given up the substream.
            Writing::Open if self.reading_is_over => {
                let is_stopped = self.substream.poll_stopped(cx).is_ready();
                is_stopped && self.write_failed(driver.session(), now, WriteError::Stopped)
            }
            Writing::Open | Writing::Over => false,
            Writing::Finishing => match self.substream.poll_finish(cx) {
                Poll::Pending => self.write_blocked(),
                Poll::Ready(Ok(())) => {
                    self.writing = Writing::Finished;
                    true
                }
                Poll::Ready(Err(error)) => self.write_failed(driver.session(), now, error),
            },
            Writing::Finished => match self.substream.poll_acknowledged(cx) {
                Poll::Pending => self.write_blocked(),
                Poll::Ready(Ok(())) => {
                    self.writing = Writing::Over;
                    driver.session().handle_acknowledged(now, self.buffer.substream());
                    true
                }
                Poll::Ready(Err(error)) => self.write_failed(driver.session(), now, error),
            },
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, driver: &mut SessionDriver, now: Instant) -> bool {
        let mut budget = WRITE_BUDGET;
        while budget > 0 {
            let Some(chunk) = driver.chunk(&mut self.buffer) else {
                self.wants_write = false;
                if self.buffer.is_finishing() {
                    self.writing = Writing::Finishing;
                    return true;
                }
                return self.flush(cx, driver.session(), now);
            };
            let before = chunk.len();
            match self.substream.poll_write(cx, chunk) {
                Poll::Pending => return self.write_blocked(),
                Poll::Ready(Ok(())) => {
                    budget = budget.saturating_sub(before.saturating_sub(chunk.len()).max(1));
                    self.wants_flush = true;
                }
                Poll::Ready(Err(error)) => return self.write_failed(driver.session(), now, error),
            }
        }
        true
    }

    fn flush(&mut self, cx: &mut Context<'_>, session: &mut Session, now: Instant) -> bool {
        if !self.wants_flush {
            return false;
        }
        match self.substream.poll_flush(cx) {
            Poll::Pending => self.write_blocked(),
            Poll::Ready(Ok(())) => {
                self.wants_flush = false;
                false
            }
            Poll::Ready(Err(error)) => self.write_failed(session, now, error),
        }
    }

    const fn write_blocked(&mut self) -> bool {
        self.is_write_blocked = true;
        false
    }

    fn write_failed(&mut self, session: &mut Session, now: Instant, error: WriteError) -> bool {
        self.writing = Writing::Over;
        match error {
            WriteError::Stopped => {
                self.buffer.ended(session, now, SubstreamEnd::Stopped);
                true
            }
            // The connection reports its own loss. Until then what has arrived is read.
            WriteError::ConnectionLost => false,
        }
    }

    // ---- the peer's half ----------------------------------------------------------------------

    /// Reads once; returns whether there may be more at once.
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
            self.is_write_blocked = false;
            self.substream.stop();
            return false;
        }
        if !self.buffer.wants_read() {
            return false;
        }
        let mut into =
            ReadBuffer { buffer: &mut self.buffer, session, now, scratch, is_empty: true };
        match self.substream.poll_read(cx, &mut into) {
            Poll::Pending => {
                self.is_read_blocked = true;
                false
            }
            Poll::Ready(Ok(())) if into.is_empty => {
                self.read_ended(session, now, SubstreamEnd::Finished)
            }
            Poll::Ready(Ok(())) => {
                self.buffer.received(session, now);
                true
            }
            Poll::Ready(Err(ReadError::Reset)) => {
                self.read_ended(session, now, SubstreamEnd::Reset)
            }
            Poll::Ready(Err(ReadError::ConnectionLost)) => {
                // The connection reports its own loss.
                self.reading_is_over = true;
                false
            }
        }
    }

    fn read_ended(&mut self, session: &mut Session, now: Instant, end: SubstreamEnd) -> bool {
        self.reading_is_over = true;
        // To some transports this is the peer's acknowledgement of this side's half.
        self.is_write_blocked = false;
        self.buffer.ended(session, now, end);
        true
    }
}

impl<S> fmt::Debug for SubstreamPump<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubstreamPump")
            .field("buffer", &self.buffer)
            .field("writing", &self.writing)
            .finish_non_exhaustive()
    }
}

/// Reads before another substream has its turn.
const READS_PER_POLL: usize = 4;
/// Bytes written before another substream has its turn.
const WRITE_BUDGET: usize = 256 * 1024;
