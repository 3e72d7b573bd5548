//! Substreams over one ordered pipe of bytes: TCP with TLS, a WebSocket, a serial line, two pipes,
//! a queue in a page.
//!
//! A transport that has substreams of its own (QUIC, libp2p) does not need it. It authenticates and
//! encrypts nothing: that is the pipe's part (rule C0). Its substreams have no names, so a session
//! over it has [`Naming::Preamble`](crate::Naming::Preamble). `WIRE.md`, appendix A, has the format.
//!
//! The pipe has a beginning and an end, and loses nothing in between. A serial line alone has neither: put
//! a link layer below that repeats what was lost and says when the other side begins anew. Each
//! connection then begins with a `Mux` and an empty line; what is left of the last one would break its
//! protocol.
//!
//! [`Endpoint`](crate::endpoint::Endpoint) drives it for you. To drive a [`Mux`] by hand:
//!
//! 1. **bytes arrive**: call [`Mux::read`] until it returns `None`, and carry out its events;
//! 2. **the pipe can take bytes**: call [`Mux::write_control`], then [`Mux::next_writable`] and
//!    [`Mux::write`] with that substream's bytes, until it has none or the output is large enough;
//! 3. **then** look at [`Mux::closed`], and [`Mux::is_over`], after which the pipe may be ended;
//! 4. at [`Mux::poll_timeout`], call [`Mux::handle_timeout`].
//!
//! A session over it has a [`SubstreamBuffer`](crate::SubstreamBuffer) for each substream, and each side asks
//! something of the other:
//!
//! | from the mux | to the session |
//! |---|---|
//! | [`Ready`](Event::Ready) | open what could not be opened before |
//! | [`Accepted`](Event::Accepted) | [`handle_accepted`](crate::Session::handle_accepted) |
//! | [`Data`](Event::Data) | `append` to the buffer, `received`, then *release* |
//! | [`Finished`](Event::Finished) | `ended` with `Finished`, then *release* |
//! | [`Reset`](Event::Reset) | `ended` with `Aborted`; the buffer is over |
//! | [`Acknowledged`](Event::Acknowledged) | [`handle_acknowledged`](crate::Session::handle_acknowledged) |
//! | [`Mux::closed`], other than locally | [`handle_connection_lost`](crate::Session::handle_connection_lost) |
//!
//! | from the session | to the mux |
//! |---|---|
//! | [`OpenSubstream`](crate::Action::OpenSubstream) | [`Mux::open`], and `handle_opened`; after [`NotReady`](OpenError::NotReady) again at [`Ready`](Event::Ready) |
//! | [`WantWrite`](crate::Action::WantWrite) | [`Mux::want_write`] |
//! | [`ResumeRead`](crate::Action::ResumeRead) | `resume` the buffer, then *release* |
//! | [`Finish`](crate::Action::Finish) | `finish` the buffer; [`Mux::finish`] as soon as it has no chunk |
//! | [`Reset`](crate::Action::Reset) | [`Mux::reset`]; the buffer is over |
//! | [`CloseConnection`](crate::Action::CloseConnection) | [`Mux::close`] |
//!
//! *Release* is one rule. If the buffer `wants_read` or `is_read_over`, [`Mux::release`] all bytes that have
//! arrived since the last time, **also those that still wait in the buffer**: there they wait for the rest
//! of a message, which may be longer than a window, and the rest can't come otherwise. If neither is
//! true, the session is paused, and the peer's window is all that may wait. Once the peer has ended its
//! half and the buffer `is_read_over`, [`Mux::acknowledge`]; not if the session was closed before that
//! came, and has only discarded it. (It may be that very end which closes the session.)
//!
//! It holds no bytes of substreams: those that arrive are lent by an event, and those that leave are
//! copied from the caller's buffer behind a header. So a small message costs one copy each way, and
//! nothing that a peer sends makes it grow: it holds an entry per substream, of which
//! [`Config::max_substreams`] limits the number.
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use glueberry_proto::{Direction, Instant, mux};
//! use mux::{Event, Mux};
//!
//! let now = Instant::ZERO;
//! let mut a = Mux::new(now, Direction::Outbound, mux::Config::default())?;
//! let mut b = Mux::new(now, Direction::Inbound, mux::Config::default())?;
//! let (mut to_a, mut to_b) = (BytesMut::new(), BytesMut::new());
//! b.write_control(&mut to_a);
//!
//! // A reads B's HELLO, opens a substream, writes and ends its half.
//! assert!(matches!(a.read(now, &mut &to_a[..]), Some(Event::Ready)));
//! let substream = a.open()?;
//! a.want_write(substream);
//! a.write_control(&mut to_b);
//! assert_eq!(a.next_writable(), Some(substream));
//! a.write(substream, &mut Bytes::from("hello"), &mut to_b);
//! a.finish(substream);
//! a.write_control(&mut to_b);
//!
//! // B takes what has arrived, and says so.
//! let mut input = &to_b[..];
//! while let Some(event) = b.read(now, &mut input) {
//!     match event {
//!         Event::Data { substream, bytes } => {
//!             assert_eq!(bytes, b"hello");
//!             b.release(substream, bytes.len());
//!         }
//!         Event::Finished { substream } => b.acknowledge(substream),
//!         _ => {}
//!     }
//! }
//! to_a.clear();
//! b.write_control(&mut to_a);
//! assert_eq!(a.read(now, &mut &to_a[..]), Some(Event::Acknowledged { substream }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod error;
mod event;
mod frame;
mod life;
mod read;
mod substreams;

use bytes::{Bytes, BytesMut};

pub use self::config::Config;
pub use self::error::{Closed, OpenError, Violation};
pub use self::event::Event;
use self::frame::{Hello, Kind, emit_ping, emit_u32};
use self::life::Life;
use self::read::Parser;
pub use self::substreams::Id;
use self::substreams::{Substreams, emit_ack};
use crate::config::ConfigError;
use crate::prelude::*;
use crate::session::Direction;
use crate::time::Instant;

/// Both directions of one pipe, cut into substreams. See the [module](self).
#[derive(Debug)]
pub struct Mux {
    config: Config,
    side: Direction,
    life: Life,
    parser: Parser,
    substreams: Substreams,
    numbers: Numbers,
    /// What the peer permits, once it has said so.
    peer: Option<Hello>,
    windows: Windows,
    due: Due,
}

/// The numbers of substreams: odd ones are the dialler's.
#[derive(Debug)]
struct Numbers {
    /// Of the next one that is opened here; zero if there is none.
    next: u32,
    /// Of the last one that the peer has opened; zero if it has opened none.
    last_of_peer: u32,
}

/// The windows of the connection.
#[derive(Debug)]
struct Windows {
    /// Bytes that may still be sent.
    send: u32,
    /// Bytes that may still be received.
    recv: u32,
    /// Bytes that were released and not granted again.
    credit: u32,
}

/// Frames of the connection that are to be written.
#[derive(Debug, Default)]
struct Due {
    hello: bool,
    ping: bool,
    /// What the peer's latest ping has brought. An earlier one needs no answer of its own.
    pong: Option<u64>,
    /// Ends that are to be acknowledged ahead of the close: it is no doubt about them.
    acks: Vec<Id>,
    close: Option<u32>,
}

impl Mux {
    /// Makes the mux of one pipe. `side` says which end has dialled; it decides the numbers of
    /// substreams and must be the other one at the other end.
    ///
    /// # Errors
    ///
    /// Names the field of `config` that cannot work.
    pub fn new(now: Instant, side: Direction, config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            life: Life::new(now, &config),
            parser: Parser::default(),
            substreams: Substreams::default(),
            numbers: Numbers {
                next: if side == Direction::Outbound { 1 } else { 2 },
                last_of_peer: 0,
            },
            peer: None,
            windows: Windows { send: 0, recv: config.connection_window, credit: 0 },
            due: Due { hello: true, ..Due::default() },
            config,
            side,
        })
    }

    /// Returns why the connection is closed, if it is. No substream is left then.
    pub const fn closed(&self) -> Option<Closed> {
        self.life.closed()
    }

    /// True if nothing is left to read or to write: the pipe may be ended. That is some time behind
    /// [`closed`](Self::closed), until both sides know that the other has read everything.
    pub fn is_over(&self) -> bool {
        self.life.is_done() && self.due.close.is_none()
    }

    // ---- inputs -------------------------------------------------------------------------------

    /// Takes bytes that arrived from the front of `input`, up to the next event. `None` means that
    /// all of `input` is taken.
    ///
    /// Carry out each event before the next call. Bytes of a substream are lent: keep them for as
    /// long as its reader doesn't take them, and [`release`](Self::release) them then.
    #[must_use = "an event that is dropped is lost, and the bytes with it"]
    pub fn read<'a>(&mut self, now: Instant, input: &mut &'a [u8]) -> Option<Event<'a>> {
        self.handle_timeout(now);
        if !input.is_empty() {
            self.life.heard(&self.config);
        }
        self.parse(input)
    }

    /// Takes note that the pipe has ended: nothing more arrives, or can be written.
    pub fn handle_end(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.life.pipe_ended();
        self.due.close = None;
        self.substreams.clear();
    }

    /// Does what is due. Early and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.life.pass(now, &self.config) {
            life::Step::None => {}
            life::Step::Ping => self.due.ping = true,
            life::Step::TimedOut => {
                // Nothing is expected of the peer any more, not even that it reads.
                self.due = Due::default();
                self.substreams.clear();
            }
        }
    }

    // ---- commands -----------------------------------------------------------------------------

    /// Opens a substream. The peer learns of it with its first bytes or by
    /// [`write_control`](Self::write_control), whichever comes first.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(&mut self) -> Result<Id, OpenError> {
        if self.closed().is_some() {
            return Err(OpenError::Closed);
        }
        let peer = self.peer.ok_or(OpenError::NotReady)?;
        let limit = peer.max_substreams.min(self.config.max_substreams);
        if self.substreams.opened(true) >= usize::from(limit) {
            return Err(OpenError::LimitReached { limit });
        }
        if self.numbers.next == 0 {
            return Err(OpenError::Exhausted);
        }
        let id = Id::new(self.numbers.next);
        self.numbers.next = self.numbers.next.checked_add(2).unwrap_or(0);
        self.substreams.insert(id, true, peer.window, self.config.window);
        Ok(id)
    }

    /// Takes note that there are bytes to write on a substream: it will have its turn in
    /// [`next_writable`](Self::next_writable).
    pub fn want_write(&mut self, substream: Id) {
        self.substreams.want_write(substream);
    }

    /// Ends this side's half behind what was [written](Self::write). The peer's
    /// [`acknowledge`](Self::acknowledge) answers it.
    pub fn finish(&mut self, substream: Id) {
        self.substreams.finish(substream);
    }

    /// Gives up both halves of a substream. Nothing more is reported of it.
    pub fn reset(&mut self, substream: Id, code: u32) {
        let held = self.substreams.reset(substream, code);
        self.give_back(held);
    }

    /// Takes note that the reader has taken, or dropped, `count` bytes that had arrived, or waits for
    /// more before it takes them: the peer may send as many more.
    pub fn release(&mut self, substream: Id, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let released = self.substreams.release(substream, count, self.config.window);
        self.give_back(released);
    }

    /// Takes note that the reader has taken everything, and the [end](Event::Finished): the peer
    /// learns that nothing of it is in doubt.
    pub fn acknowledge(&mut self, substream: Id) {
        let held = self.substreams.acknowledge(substream);
        self.give_back(held);
    }

    /// Closes the connection behind what was written and [acknowledged](Self::acknowledge). The peer
    /// sees `code`. Then goes on for a little to read and write until [`is_over`](Self::is_over).
    pub fn close(&mut self, now: Instant, code: u32) {
        self.handle_timeout(now);
        self.due.acks.extend(self.substreams.unwritten_acks());
        self.begin_close(Closed::Locally { code }, code);
    }

    // ---- outputs ------------------------------------------------------------------------------

    /// Appends the frames of the mux itself, and returns whether there were any. Call it before the
    /// bytes of substreams.
    pub fn write_control(&mut self, out: &mut BytesMut) -> bool {
        let before = out.len();
        if core::mem::take(&mut self.due.hello) {
            Hello::of(&self.config).emit(out);
        }
        if let Some(payload) = self.due.pong.take() {
            emit_ping(true, payload, out);
        }
        if core::mem::take(&mut self.due.ping) {
            emit_ping(false, 0, out);
        }
        if self.closed().is_none() && self.windows.owes(self.config.connection_window) {
            let credit = core::mem::take(&mut self.windows.credit);
            self.windows.recv += credit;
            emit_u32(Kind::Window, 0, credit, out);
        }
        while self.substreams.has_control() {
            self.substreams.write_control(self.config.window, out);
        }
        for id in core::mem::take(&mut self.due.acks) {
            emit_ack(id, out);
        }
        if let Some(code) = self.due.close.take() {
            emit_u32(Kind::Close, 0, code, out);
        }
        out.len() > before
    }

    /// True if [`write_control`](Self::write_control) has something to write.
    pub fn has_control(&self) -> bool {
        self.due.hello
            || self.due.ping
            || self.due.pong.is_some()
            || self.due.close.is_some()
            || self.substreams.has_control()
            || (self.closed().is_none() && self.windows.owes(self.config.connection_window))
    }

    /// Returns the substream whose turn it is to [`write`](Self::write), of those that
    /// [want to](Self::want_write) and have room in their window. It may turn out to have nothing to
    /// write: then ask for the next. It comes again when it wants to.
    pub fn next_writable(&mut self) -> Option<Id> {
        if self.windows.send == 0 {
            // They keep their places.
            return None;
        }
        self.substreams.next_ready()
    }

    /// Appends a frame with bytes from the front of `bytes`, as many as fit, and removes them. Then
    /// it is the others' turn; this one has its next without being asked for, until `bytes` is empty
    /// when it has.
    pub fn write(&mut self, substream: Id, bytes: &mut Bytes, out: &mut BytesMut) -> usize {
        let limit = u32::from(self.config.max_frame).min(self.windows.send);
        let count = self.substreams.write(substream, bytes, limit, out);
        self.windows.send -= count;
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout): strictly later than the
    /// latest `now`, or never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_over() { None } else { self.life.deadline() }
    }

    // ---- parts --------------------------------------------------------------------------------

    /// Bytes of the connection are no longer held.
    const fn give_back(&mut self, count: u32) {
        self.windows.credit = self.windows.credit.saturating_add(count);
    }

    fn begin_close(&mut self, why: Closed, code: u32) {
        if self.life.close(why, &self.config) {
            self.due.close = Some(code);
            self.due.pong = None;
            self.substreams.clear();
        }
    }
}

impl Windows {
    /// True if so much was released that it is worth a frame.
    const fn owes(&self, window: u32) -> bool {
        self.credit > 0 && self.credit >= window / 2
    }
}

#[cfg(test)]
mod tests;
