//! The read and the write buffer of one substream, so that adapters don't each write them again.

use core::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crate::id::SubstreamId;
use crate::send_queue::MessageSource;
use crate::session::{Ingest, Session, SubstreamEnd};
use crate::time::Instant;
use crate::v2::PartialMessage;

/// The buffers of one substream between a [`Session`] and a transport. It does no I/O.
///
/// ```text
/// transport ── bytes ──► read_buffer ── received ──► Session ── poll_write ──► chunk ──► transport
/// ```
///
/// - **Reading:** while [`wants_read`](Self::wants_read), read from the transport into
///   [`read_buffer`](Self::read_buffer), or [`append`](Self::append) the bytes, and call
///   [`received`](Self::received). Report an end of the peer's half by [`ended`](Self::ended); it
///   waits here until the session has taken all bytes before it.
/// - **Writing:** after [`Action::WantWrite`](crate::Action::WantWrite) call
///   [`chunk`](Self::chunk), write as much of it as the transport takes, and report that by
///   [`wrote`](Self::wrote), until there is no chunk.
///
/// Where the adapter keeps a window for the peer, bytes that wait here while the buffer wants to be read
/// are no reason to keep it shut: they wait for the rest of their message. See [`mux`](crate::mux).
///
/// An idle substream holds no buffer.
pub struct SubstreamBuffer {
    substream: SubstreamId,
    read: BytesMut,
    /// Roughly the most bytes that the session has lately taken at once. For a large message that is
    /// its length, so the buffer of the next one can be made of that size at once.
    longest: usize,
    /// How many bytes the session has taken, without those of a message of which it has a part.
    taken: u64,
    /// The message of which the session has taken a part.
    partial: Option<PartialMessage>,
    reading: Reading,
    /// The clean end of the peer's half, until all bytes before it are taken.
    end: Option<SubstreamEnd>,
    /// Bytes to write next, cut from `staging`.
    write: Bytes,
    staging: BytesMut,
    finishing: bool,
}

/// Without what messages hold.
impl fmt::Debug for SubstreamBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubstreamBuffer")
            .field("substream", &self.substream)
            .field("read", &self.read.len())
            .field("reading", &self.reading)
            .field("end", &self.end)
            .field("write", &self.write.len())
            .field("finishing", &self.finishing)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The session wants to be called when the buffer holds at least this many bytes.
    Wanted(usize),
    /// The session takes no bytes until it resumes the substream.
    Paused,
    /// The half has ended, or the session discards it.
    Over,
}

impl SubstreamBuffer {
    /// Creates the empty buffers of a substream.
    pub fn new(substream: SubstreamId) -> Self {
        Self {
            substream,
            read: BytesMut::new(),
            longest: 0,
            taken: 0,
            partial: None,
            reading: Reading::Wanted(1),
            end: None,
            write: Bytes::new(),
            staging: BytesMut::new(),
            finishing: false,
        }
    }

    /// Returns the substream.
    pub const fn substream(&self) -> SubstreamId {
        self.substream
    }

    /// True if the transport may be read.
    pub const fn wants_read(&self) -> bool {
        matches!(self.reading, Reading::Wanted(_)) && self.end.is_none()
    }

    /// Returns how many received bytes wait here, or in the session for the rest of their message.
    pub fn held(&self) -> usize {
        let partial = self.partial.filter(|_| !self.is_read_over());
        self.read.len() + partial.map_or(0, |partial| partial.held)
    }

    /// Returns a number that grows whenever the session has done with a message. While one is being
    /// received it stays as it is.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns how many bytes will be [held](Self::held) before the session is done with a message: the
    /// length that the peer has announced, or one. Zero if the transport is not to be read.
    pub fn wanted(&self) -> usize {
        let len = self.partial.map_or(0, |partial| partial.len);
        match self.reading {
            Reading::Wanted(next) if self.end.is_none() => next.saturating_add(len),
            _ => 0,
        }
    }

    /// True if reading can yield nothing more.
    pub const fn is_read_over(&self) -> bool {
        matches!(self.reading, Reading::Over)
    }

    /// Returns the buffer to append received bytes to, with room for at least one.
    ///
    /// A message that fills its buffer is delivered without a copy. Bytes beyond the room would move
    /// it to a larger buffer. So read no more than there is room for, as tokio's `read_buf` does, or
    /// use [`append`](Self::append).
    ///
    /// The buffer grows only as bytes arrive, whatever length a peer announces: to twice what has
    /// arrived, or at once to the size of a message that the peer has sent here before.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        let held = self.read.len();
        let missing = match self.reading {
            Reading::Wanted(len) => len.saturating_sub(held).max(1),
            Reading::Paused | Reading::Over => 1,
        };
        let spare = self.read.capacity() - held;
        let (enough, room) = if held + missing <= SHARED_LEN {
            // Many small messages may arrive at once. Room for the last byte of one would make the
            // adapter read byte by byte.
            (missing.max(READ_CHUNK / 4), SHARED_LEN - held)
        } else {
            // Grows only when full, and then at least doubles: each byte is moved once on average.
            // Requiring more than one byte of room would move everything again with the next bytes,
            // because the room is never as large as the missing part.
            let step = READ_CHUNK.max(held).max(self.longest.saturating_sub(held));
            // If only a few bytes would be missing then, take room for them too: it saves a move.
            (1, if missing <= step + READ_CHUNK { missing } else { step })
        };
        if spare < enough.min(room) && !self.read.try_reclaim(room) {
            // `reserve` could double the capacity, and the memory bound counts on the exact size.
            let mut grown = BytesMut::with_capacity(held + room);
            grown.extend_from_slice(&self.read);
            self.read = grown;
        }
        &mut self.read
    }

    /// Has the next buffer be no larger than `len` bytes that are about to be [appended](Self::append), if
    /// they are few and nothing waits before them. So a small message that comes alone gets a buffer of
    /// its own size, and is delivered without a copy.
    pub fn expect(&mut self, len: usize) {
        if let Reading::Wanted(wanted) = self.reading
            && self.read.capacity() == 0
            && len.max(wanted) <= SMALL_LEN
        {
            self.read = BytesMut::with_capacity(len.max(wanted));
        }
    }

    /// Appends bytes from the transport. Hands them to the session whenever the buffer is full, so
    /// that each message is gathered in a buffer of its own size. Call [`received`](Self::received)
    /// after the last of them.
    ///
    /// Bytes that the session does not take yet wait in the buffer, however many they are. Bytes that
    /// it discards are dropped.
    pub fn append(&mut self, session: &mut Session, now: Instant, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.reading {
                // A whole message fills the buffer. Deliver it first: making room for the bytes behind
                // it would move it to another buffer.
                Reading::Wanted(len) if self.is_full() && self.read.len() >= len => {
                    self.received(session, now);
                    continue;
                }
                Reading::Wanted(_) => {}
                Reading::Paused => return self.read.extend_from_slice(bytes),
                Reading::Over => return,
            }
            let buffer = self.read_buffer();
            let room = buffer.capacity() - buffer.len();
            let (fitting, rest) = bytes.split_at(room.min(bytes.len()));
            buffer.extend_from_slice(fitting);
            bytes = rest;
            if !bytes.is_empty() {
                self.received(session, now);
            }
        }
    }

    /// Hands the received bytes to the session.
    pub fn received(&mut self, session: &mut Session, now: Instant) {
        if self.reading == Reading::Over {
            return;
        }
        let before = self.read.len();
        self.reading = match session.handle_data(now, self.substream, &mut self.read) {
            Ingest::More { missing } => Reading::Wanted(self.read.len().saturating_add(missing)),
            Ingest::Paused => Reading::Paused,
            Ingest::Discard => Reading::Over,
        };
        let taken = before.saturating_sub(self.read.len());
        if taken > 0 {
            let number = |partial: Option<PartialMessage>| partial.map(|partial| partial.number);
            let partial = session.partial_message(self.substream);
            if partial.is_none() || number(partial) != number(self.partial) {
                self.taken = self.taken.wrapping_add(u64::try_from(taken).unwrap_or(0));
            }
            self.partial = partial;
            // Halved each time, so that one large message does not size the buffers for ever.
            self.longest = taken.max(self.longest / 2);
        }
        if self.read.is_empty() {
            // An idle substream holds no memory; most streams are idle most of the time.
            self.read = BytesMut::new();
        }
        self.pass_end(session, now);
    }

    /// Handles [`Action::ResumeRead`](crate::Action::ResumeRead): hands the waiting bytes to the
    /// session.
    pub fn resume(&mut self, session: &mut Session, now: Instant) {
        // A session that has discarded the half meanwhile may still have queued the action.
        if self.reading == Reading::Paused {
            self.reading = Reading::Wanted(1);
            self.received(session, now);
        }
    }

    /// Handles the end of a half. The clean end of the peer's half is reported when all bytes before
    /// it are taken, any other end at once.
    pub fn ended(&mut self, session: &mut Session, now: Instant, end: SubstreamEnd) {
        match end {
            SubstreamEnd::Finished => {
                self.end.get_or_insert(end);
                self.pass_end(session, now);
            }
            // The rest of a cut message is lost, and a paused session must learn that now.
            SubstreamEnd::Reset | SubstreamEnd::Aborted => {
                self.reading = Reading::Over;
                self.read = BytesMut::new();
                self.report_end(session, now, end);
            }
            SubstreamEnd::Stopped => self.report_end(session, now, end),
        }
        if matches!(end, SubstreamEnd::Stopped | SubstreamEnd::Aborted) {
            self.write = Bytes::new();
            self.staging = BytesMut::new();
        }
    }

    /// Returns the bytes to write next, or `None` if there are none. An adapter may take from the
    /// front of them, or report afterwards how many it [`wrote`](Self::wrote).
    pub fn chunk(&mut self, session: &mut Session) -> Option<&mut Bytes> {
        self.chunk_from(session, &mut ())
    }

    /// As [`chunk`](Self::chunk), with a lent queue from which the session may take messages, see
    /// [`Session::poll_write_from`].
    pub fn chunk_from(
        &mut self,
        session: &mut Session,
        source: &mut dyn MessageSource,
    ) -> Option<&mut Bytes> {
        if self.write.is_empty() {
            // An empty view keeps the buffer alive that it was cut from.
            self.write = Bytes::new();
            session.poll_write_from(self.substream, &mut self.staging, WRITE_CHUNK, source);
            if self.staging.is_empty() {
                self.staging = BytesMut::new();
                return None;
            }
            self.write = self.staging.split().freeze();
        }
        Some(&mut self.write)
    }

    /// Removes `count` bytes of the chunk, which the transport has taken.
    /// More than the chunk has is a bug of the driver: a debug build says so, another counts the chunk.
    pub fn wrote(&mut self, count: usize) {
        debug_assert!(count <= self.write.len(), "more was written than the chunk has");
        self.write.advance(count.min(self.write.len()));
    }

    /// Handles [`Action::Finish`](crate::Action::Finish).
    pub const fn finish(&mut self) {
        self.finishing = true;
    }

    /// True if this side's half ends as soon as there is no [`chunk`](Self::chunk).
    pub const fn is_finishing(&self) -> bool {
        self.finishing
    }

    fn is_full(&self) -> bool {
        self.read.len() == self.read.capacity() && !self.read.is_empty()
    }

    fn pass_end(&mut self, session: &mut Session, now: Instant) {
        if matches!(self.reading, Reading::Wanted(_))
            && let Some(end) = self.end.take()
        {
            self.reading = Reading::Over;
            self.report_end(session, now, end);
            self.read = BytesMut::new();
        }
    }

    fn report_end(&self, session: &mut Session, now: Instant, end: SubstreamEnd) {
        session.handle_substream_end(now, self.substream, end, &self.read);
    }
}

/// Bytes that are read at a time. A read buffer grows by no fewer, unless fewer are missing.
pub const READ_CHUNK: usize = 64 * 1024;
/// The size of a buffer that messages share. It also has room for what frame and record add to one
/// message of [`READ_CHUNK`] bytes, which is a common size.
const SHARED_LEN: usize = READ_CHUNK + 64;
/// The most bytes that get a buffer of their own size when they come alone. More are often followed by
/// others.
const SMALL_LEN: usize = 4 * 1024;
/// Bytes that are written at a time. A single message may exceed it.
pub const WRITE_CHUNK: usize = 64 * 1024;
