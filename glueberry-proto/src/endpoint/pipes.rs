//! Connections that are one pipe of bytes, with a mux inside.

use alloc::collections::{BTreeMap, VecDeque};
use core::fmt;

use bytes::{Bytes, BytesMut};

use super::connection::{Cx, Link};
use super::memory::{Part, Room};
use super::{Endpoint, sealed};
use crate::buffer::{SubstreamBuffer, WRITE_CHUNK};
use crate::config::ConfigError;
use crate::error::ConnectionLost;
use crate::id::{ConnectionId, SubstreamId};
use crate::mux::{self, Closed, Event, Mux};
use crate::owed::Waiting;
use crate::prelude::*;
use crate::session::{Action, Direction, Naming, OpenError, ResetCode, Session, SubstreamEnd};
use crate::time::{Instant, earliest};

/// A transport whose connections are pipes.
#[derive(Debug, Default)]
pub struct Pipes {
    config: mux::Config,
}

/// Write these bytes on the pipe, behind those before, and report it by
/// [`handle_written`](Endpoint::handle_written). No more follow until then.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "an output that drivers take apart")]
pub struct Write {
    /// The connection.
    pub connection: ConnectionId,
    /// At least one byte.
    pub bytes: Bytes,
}

impl Endpoint<Pipes> {
    /// Sets the mux's windows and times for connections from now on.
    ///
    /// # Errors
    ///
    /// Names the field of `config` that cannot work.
    pub fn mux(mut self, config: mux::Config) -> Result<Self, ConfigError> {
        config.check()?;
        self.transport.config = config;
        Ok(self)
    }

    /// Takes bytes that arrived on a pipe, cut anywhere.
    pub fn handle_bytes(&mut self, now: Instant, connection: ConnectionId, bytes: &[u8]) {
        self.pass(now);
        if let Some(it) = self.connections.get_mut(&connection)
            && let Some(link) = &mut it.link
        {
            let session = it.session.as_deref();
            let mut cx = Cx::new(connection, self.now, session, &self.account, &mut self.outputs);
            link.read(it.session.as_deref_mut(), bytes, &mut cx);
            self.charge(connection);
            self.touch(connection);
            self.carry();
        }
    }

    /// Takes note that the bytes of [`Write`] were written.
    pub fn handle_written(&mut self, now: Instant, connection: ConnectionId) {
        self.pass(now);
        if let Some(it) = self.connections.get_mut(&connection)
            && let Some(link) = &mut it.link
        {
            link.writing = None;
            self.touch(connection);
        }
    }
}

impl sealed::Transport for Pipes {
    type Output = Write;
    type Link = PipeLink;

    fn naming(&self) -> Naming {
        Naming::Preamble
    }

    fn link(&self, now: Instant, side: Direction) -> Option<PipeLink> {
        Some(PipeLink {
            mux: Mux::new(now, side, self.config.clone()).ok()?,
            ids: BTreeMap::new(),
            substreams: BTreeMap::new(),
            opening: VecDeque::new(),
            out: BytesMut::new(),
            writing: None,
            give_up: None,
            grace: self.config.close_timeout,
            now,
        })
    }
}

/// One pipe.
#[expect(unnameable_types, reason = "part of a trait that nobody else implements")]
pub struct PipeLink {
    mux: Mux,
    ids: BTreeMap<SubstreamId, mux::Id>,
    substreams: BTreeMap<mux::Id, Substream>,
    /// Substreams that the peer's hello is awaited for.
    opening: VecDeque<SubstreamId>,
    out: BytesMut,
    /// Bytes that were handed out and not reported as written, and since when.
    writing: Option<(usize, Instant)>,
    /// When the pipe is closed though bytes were not written.
    give_up: Option<Instant>,
    grace: core::time::Duration,
    now: Instant,
}

/// Without what messages hold.
impl fmt::Debug for PipeLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeLink")
            .field("mux", &self.mux)
            .field("substreams", &self.substreams)
            .field("opening", &self.opening)
            .field("out", &self.out.len())
            .field("writing", &self.writing)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Substream {
    buffer: SubstreamBuffer,
    part: Part,
    /// Bytes that the session has not taken, and the mux was not told.
    held: usize,
    /// The peer has taken all of this side's half.
    is_acknowledged: bool,
    /// The peer has ended its half.
    has_ended: bool,
}

impl Link for PipeLink {
    type Output = Write;

    fn act(&mut self, session: &mut Session, action: Action, cx: &mut Cx<'_, Write>) {
        match action {
            Action::OpenSubstream { substream, .. } => self.open(session, substream, cx.now),
            Action::WantWrite(id) => {
                if let Some(id) = self.ids.get(&id) {
                    self.mux.want_write(*id);
                }
            }
            Action::ResumeRead(id) => {
                let is_over = session.is_closed();
                if let Some((id, it)) = self.find(id) {
                    it.buffer.resume(session, cx.now);
                    self.taken(id, is_over, cx.now, &mut cx.room);
                }
            }
            Action::Finish(id) => {
                if let Some((id, it)) = self.find(id) {
                    it.buffer.finish();
                    if it.buffer.chunk(session).is_none() {
                        self.mux.finish(id);
                    } else {
                        self.mux.want_write(id);
                    }
                }
            }
            Action::Reset { substream, code } => {
                self.opening.retain(|id| *id != substream);
                if let Some(id) = self.ids.remove(&substream) {
                    self.substreams.remove(&id);
                    self.mux.reset(id, code.as_u32());
                }
            }
            // The endpoint carries them out itself.
            Action::Forward(_) | Action::CloseConnection { .. } => {}
        }
    }

    fn pump(&mut self, mut session: Option<&mut Session>, cx: &mut Cx<'_, Write>) -> bool {
        self.now = cx.now;
        let mut is_news = self.note_closed(session.as_deref_mut());
        if let Some(session) = session.as_deref_mut() {
            is_news |= self.give_up_overdue(session, cx.now);
        }
        if self.is_starved() {
            let is_over = session.as_deref().is_none_or(Session::is_closed);
            for id in self.starved() {
                self.taken(id, is_over, cx.now, &mut cx.room);
            }
        }
        if self.writing.is_some() {
            return is_news;
        }
        loop {
            self.mux.write_control(&mut self.out);
            if self.out.len() >= WRITE_CHUNK {
                break;
            }
            let Some(session) = session.as_deref_mut() else {
                break;
            };
            let Some(id) = self.mux.next_writable() else {
                break;
            };
            let Some(it) = self.substreams.get_mut(&id) else {
                continue;
            };
            let is_finishing = it.buffer.is_finishing();
            match it.buffer.chunk(session) {
                Some(chunk) => _ = self.mux.write(id, chunk, &mut self.out),
                None if is_finishing => self.mux.finish(id),
                None => {}
            }
        }
        if self.out.is_empty() {
            // An empty view keeps the buffer alive that it was cut from.
            self.out = BytesMut::new();
            return is_news;
        }
        let bytes = self.out.split().freeze();
        self.writing = Some((bytes.len(), cx.now));
        cx.ask(Write { connection: cx.id, bytes });
        // The session may have something to do now that its queue is shorter.
        true
    }

    fn close(&mut self, now: Instant, code: u64) {
        self.mux.close(now, u32::try_from(code).unwrap_or(u32::MAX));
        self.substreams.clear();
        self.ids.clear();
        self.opening.clear();
    }

    fn closes(&self) -> Option<u64> {
        let is_late = self.give_up.is_some_and(|at| at <= self.now);
        let is_over = self.mux.is_over() && self.writing.is_none();
        (is_over || is_late).then_some(match self.mux.closed() {
            Some(Closed::Locally { code } | Closed::ByPeer { code }) => u64::from(code),
            _ => 0,
        })
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.mux.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let part = self.substreams.values().filter_map(|it| it.part.deadline()).min();
        earliest(earliest(self.mux.poll_timeout(), self.give_up), part)
    }

    fn held(&self) -> usize {
        self.substreams.values().map(|it| it.part.charge(&it.buffer)).sum()
    }

    fn is_starved(&self) -> bool {
        self.substreams.values().any(|it| it.part.is_starved())
    }

    fn owed(&self, each: &mut dyn FnMut(Waiting, Instant)) {
        if let Some((bytes, since)) = self.writing {
            each(Waiting::Written { bytes }, since);
        }
    }
}

impl PipeLink {
    fn read(&mut self, session: Option<&mut Session>, mut bytes: &[u8], cx: &mut Cx<'_, Write>) {
        let now = cx.now;
        self.now = now;
        let Some(session) = session else {
            // Nothing but the peer's close is of interest.
            while self.mux.read(now, &mut bytes).is_some() {}
            return;
        };
        while let Some(event) = self.mux.read(now, &mut bytes) {
            let is_over = session.is_closed();
            match event {
                Event::Ready => {
                    for substream in core::mem::take(&mut self.opening) {
                        self.open(session, substream, now);
                    }
                }
                Event::Accepted { substream } => {
                    let id = session.handle_accepted(now, None);
                    self.insert(substream, id);
                }
                Event::Data { substream, bytes } => {
                    if let Some(it) = self.substreams.get_mut(&substream) {
                        it.held += bytes.len();
                        it.buffer.append(session, now, bytes);
                        it.buffer.received(session, now);
                        self.taken(substream, is_over, now, &mut cx.room);
                    }
                }
                Event::Finished { substream } => {
                    if let Some(it) = self.substreams.get_mut(&substream) {
                        it.has_ended = true;
                        it.buffer.ended(session, now, SubstreamEnd::Finished);
                        self.taken(substream, is_over, now, &mut cx.room);
                    }
                }
                Event::Reset { substream, .. } => {
                    if let Some(mut it) = self.substreams.remove(&substream) {
                        self.ids.remove(&it.buffer.substream());
                        it.buffer.ended(session, now, SubstreamEnd::Aborted);
                    }
                }
                Event::Acknowledged { substream } => {
                    if let Some(it) = self.substreams.get_mut(&substream) {
                        it.is_acknowledged = true;
                        session.handle_acknowledged(now, it.buffer.substream());
                        self.forget_if_over(substream);
                    }
                }
            }
        }
    }

    fn open(&mut self, session: &mut Session, substream: SubstreamId, now: Instant) {
        match self.mux.open() {
            Ok(id) => {
                self.insert(id, substream);
                session.handle_opened(now, substream, None);
            }
            Err(mux::OpenError::NotReady) => self.opening.push_back(substream),
            Err(_) => session.handle_open_failed(now, substream, OpenError::Failed),
        }
    }

    fn insert(&mut self, id: mux::Id, substream: SubstreamId) {
        let buffer = SubstreamBuffer::new(substream);
        let part = Part::default();
        let it = Substream { buffer, part, held: 0, is_acknowledged: false, has_ended: false };
        self.ids.insert(substream, id);
        self.substreams.insert(id, it);
    }

    fn find(&mut self, substream: SubstreamId) -> Option<(mux::Id, &mut Substream)> {
        let id = *self.ids.get(&substream)?;
        Some((id, self.substreams.get_mut(&id)?))
    }

    /// Tells the mux what the session has taken. If that `is_over`, it has only discarded it.
    fn taken(&mut self, id: mux::Id, is_over: bool, now: Instant, room: &mut Room) {
        let Some(it) = self.substreams.get_mut(&id) else {
            return;
        };
        // While the session is paused, or the account full, the peer's window is all that may wait.
        let may_read = it.part.may_read(&it.buffer, now, room);
        if may_read || it.buffer.is_read_over() {
            self.mux.release(id, core::mem::take(&mut it.held));
        }
        if it.has_ended && it.buffer.is_read_over() && !is_over {
            self.mux.acknowledge(id);
        }
        self.forget_if_over(id);
    }

    fn starved(&self) -> Vec<mux::Id> {
        let starved = self.substreams.iter().filter(|(_, it)| it.part.is_starved());
        starved.map(|(id, _)| *id).collect()
    }

    /// Resets the substreams on which a message did not arrive in time.
    fn give_up_overdue(&mut self, session: &mut Session, now: Instant) -> bool {
        let is_overdue = |it: &Substream| it.part.deadline().is_some_and(|at| at <= now);
        let overdue = self.substreams.iter().filter(|(_, it)| is_overdue(it));
        let overdue: Vec<mux::Id> = overdue.map(|(id, _)| *id).collect();
        for id in &overdue {
            if let Some(mut it) = self.substreams.remove(id) {
                self.ids.remove(&it.buffer.substream());
                self.mux.reset(*id, ResetCode::LimitReached.as_u32());
                it.buffer.ended(session, now, SubstreamEnd::Aborted);
            }
        }
        !overdue.is_empty()
    }

    fn forget_if_over(&mut self, id: mux::Id) {
        let is_over =
            |it: &Substream| it.is_acknowledged && it.has_ended && it.buffer.is_read_over();
        if self.substreams.get(&id).is_some_and(is_over)
            && let Some(it) = self.substreams.remove(&id)
        {
            self.ids.remove(&it.buffer.substream());
        }
    }

    /// Tells the session that the mux is closed. Returns whether that is news.
    fn note_closed(&mut self, session: Option<&mut Session>) -> bool {
        let Some(closed) = self.mux.closed().filter(|_| self.give_up.is_none()) else {
            return false;
        };
        // Twice, because the close has to be written first and then answered.
        self.give_up = Some(match closed {
            Closed::TimedOut => self.now,
            _ => self.now + self.grace + self.grace,
        });
        let why = match closed {
            Closed::Locally { .. } => ConnectionLost::ClosedLocally,
            Closed::ByPeer { code } => ConnectionLost::ClosedByPeer { code: u64::from(code) },
            Closed::TimedOut => ConnectionLost::TimedOut,
            Closed::PipeEnded => ConnectionLost::Reset,
            Closed::Misbehaved(_) => ConnectionLost::Transport(closed.to_string()),
        };
        if let Some(session) = session {
            session.handle_connection_lost(self.now, why);
        }
        true
    }
}
