//! Connections whose transport has substreams of its own.

use alloc::collections::BTreeMap;

use bytes::Bytes;

use super::connection::{Cx, Link};
use super::memory::{Part, Room};
use super::{Endpoint, sealed};
use crate::buffer::SubstreamBuffer;
use crate::id::{ConnectionId, SubstreamId};
use crate::owed::Waiting;
use crate::prelude::*;
use crate::session::{Action, Direction, Naming, OpenError, ResetCode, Session, SubstreamEnd};
use crate::time::Instant;
use crate::wire::ProtocolId;

/// A transport with substreams of its own, such as QUIC.
///
/// The endpoint asks for [`SubstreamOutput`]s, and the driver reports what came of them. Names: with
/// [`Naming::Negotiated`] it agrees on one per substream by multistream-select, with
/// [`Naming::Preamble`] the sessions do.
#[derive(Debug)]
pub struct Substreams {
    naming: Naming,
}

impl Substreams {
    pub(super) const fn new(naming: Naming) -> Self {
        Self { naming }
    }
}

/// What an [`Endpoint`] over [`Substreams`] wants from a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver must know that it has handled all there is")]
pub enum SubstreamOutput {
    /// Open a bidirectional substream, and answer with [`handle_opened`](Endpoint::handle_opened) or
    /// [`handle_open_failed`](Endpoint::handle_open_failed).
    Open {
        /// The connection.
        connection: ConnectionId,
        /// The substream's name from now on.
        substream: SubstreamId,
        /// What to propose, in this order, if the transport negotiates names.
        protocols: Vec<ProtocolId>,
    },
    /// Write these bytes, behind those before, and report it by
    /// [`handle_substream_written`](Endpoint::handle_substream_written). No more follow until then.
    Write {
        /// The connection.
        connection: ConnectionId,
        /// The substream.
        substream: SubstreamId,
        /// At least one byte.
        bytes: Bytes,
    },
    /// End this side's half behind what was written. Then report by
    /// [`handle_acknowledged`](Endpoint::handle_acknowledged) that the peer's transport has it all.
    Finish {
        /// The connection.
        connection: ConnectionId,
        /// The substream.
        substream: SubstreamId,
    },
    /// Reset this side's half and refuse the peer's.
    Reset {
        /// The connection.
        connection: ConnectionId,
        /// The substream.
        substream: SubstreamId,
        /// Why.
        code: ResetCode,
    },
    /// Read again, after [`handle_data`](Endpoint::handle_data) has returned false.
    ResumeRead {
        /// The connection.
        connection: ConnectionId,
        /// The substream.
        substream: SubstreamId,
    },
}

impl Endpoint<Substreams> {
    /// Takes note that a substream of [`SubstreamOutput::Open`] is open, on this of the proposed
    /// protocols if the transport negotiates names.
    pub fn handle_opened(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        substream: SubstreamId,
        protocol: Option<ProtocolId>,
    ) {
        self.with(now, connection, |link, session, now, _| {
            if let Some(it) = link.substreams.get_mut(&substream) {
                it.opening = None;
            }
            session.handle_opened(now, substream, protocol);
        });
    }

    /// Takes note that a substream of [`SubstreamOutput::Open`] could not be opened.
    pub fn handle_open_failed(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        substream: SubstreamId,
        error: OpenError,
    ) {
        self.with(now, connection, |link, session, now, _| {
            link.substreams.remove(&substream);
            session.handle_open_failed(now, substream, error);
        });
    }

    /// Takes note that the peer has opened a substream, on this of the session's
    /// [`protocols`](Self::protocols) if the transport negotiates names. Returns its id; `None` if the
    /// connection is over.
    pub fn handle_substream_accepted(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        protocol: Option<ProtocolId>,
    ) -> Option<SubstreamId> {
        self.with(now, connection, |link, session, now, _| {
            let id = session.handle_accepted(now, protocol);
            link.substreams.insert(id, Substream::new(id, None));
            id
        })
    }

    /// Returns the protocols that a substream of the peer may be agreed on now.
    pub fn protocols(&self, connection: ConnectionId) -> Vec<ProtocolId> {
        let session = self.connections.get(&connection).and_then(|it| it.session.as_ref());
        session.map_or_else(Vec::new, |session| session.protocols())
    }

    /// Takes bytes that arrived on a substream. Returns whether to read on; if not,
    /// [`SubstreamOutput::ResumeRead`] may follow.
    pub fn handle_data(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        substream: SubstreamId,
        bytes: &[u8],
    ) -> bool {
        self.with(now, connection, |link, session, now, room| {
            link.substreams.get_mut(&substream).is_some_and(|it| {
                it.buffer.append(session, now, bytes);
                it.buffer.received(session, now);
                it.part.may_read(&it.buffer, now, room)
            })
        })
        .unwrap_or(false)
    }

    /// Takes note that a half of a substream has ended.
    pub fn handle_substream_end(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        substream: SubstreamId,
        end: SubstreamEnd,
    ) {
        self.with(now, connection, |link, session, now, _| {
            if let Some(it) = link.substreams.get_mut(&substream) {
                it.buffer.ended(session, now, end);
                if matches!(end, SubstreamEnd::Stopped | SubstreamEnd::Aborted) {
                    (it.writing, it.wants_write, it.end) = (None, false, End::Over);
                }
            }
        });
    }

    /// Takes note that the bytes of [`SubstreamOutput::Write`] were written.
    pub fn handle_substream_written(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        substream: SubstreamId,
    ) {
        self.with(now, connection, |link, _, _, _| {
            if let Some(it) = link.substreams.get_mut(&substream) {
                it.writing = None;
            }
        });
    }

    /// Takes note that the peer's transport has all that was written on a substream, and its end.
    pub fn handle_acknowledged(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        substream: SubstreamId,
    ) {
        self.with(now, connection, |link, session, now, _| {
            if let Some(it) = link.substreams.get_mut(&substream) {
                it.end = End::Over;
                session.handle_acknowledged(now, substream);
            }
        });
    }

    fn with<R>(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        input: impl FnOnce(&mut Connection, &mut Session, Instant, &mut Room) -> R,
    ) -> Option<R> {
        self.pass(now);
        let it = self.connections.get_mut(&connection)?;
        let session = it.session.as_deref_mut()?;
        let mut room = self.account.room(Some(session.peer()), session.is_established());
        let result = input(it.link.as_mut()?, session, self.now, &mut room);
        self.charge(connection);
        self.touch(connection);
        self.carry();
        Some(result)
    }
}

impl sealed::Transport for Substreams {
    type Output = SubstreamOutput;
    type Link = Connection;

    fn naming(&self) -> Naming {
        self.naming
    }

    fn link(&self, _: Instant, _: Direction) -> Option<Connection> {
        Some(Connection { substreams: BTreeMap::new(), closed: None })
    }
}

/// The substreams of one connection.
#[derive(Debug)]
#[expect(unnameable_types, reason = "part of a trait that nobody else implements")]
pub struct Connection {
    substreams: BTreeMap<SubstreamId, Substream>,
    closed: Option<u64>,
}

#[derive(Debug)]
struct Substream {
    buffer: SubstreamBuffer,
    part: Part,
    /// It was asked for, and not reported as open, since then.
    opening: Option<Instant>,
    wants_write: bool,
    /// Bytes that were handed out and not reported as written, and since when.
    writing: Option<(usize, Instant)>,
    end: End,
}

/// The end of this side's half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Asked for, and not acknowledged, since then.
    Asked(Instant),
    Over,
}

impl Substream {
    fn new(id: SubstreamId, opening: Option<Instant>) -> Self {
        let buffer = SubstreamBuffer::new(id);
        let part = Part::default();
        Self { buffer, part, opening, wants_write: false, writing: None, end: End::Open }
    }
}

impl Link for Connection {
    type Output = SubstreamOutput;

    fn act(&mut self, session: &mut Session, action: Action, cx: &mut Cx<'_, SubstreamOutput>) {
        let connection = cx.id;
        match action {
            Action::OpenSubstream { substream, protocols } => {
                self.substreams.insert(substream, Substream::new(substream, Some(cx.now)));
                cx.ask(SubstreamOutput::Open { connection, substream, protocols });
            }
            Action::WantWrite(id) => {
                if let Some(it) = self.substreams.get_mut(&id) {
                    it.wants_write = true;
                }
            }
            Action::ResumeRead(substream) => {
                if let Some(it) = self.substreams.get_mut(&substream) {
                    it.buffer.resume(session, cx.now);
                    if it.part.may_read(&it.buffer, cx.now, &mut cx.room) {
                        cx.ask(SubstreamOutput::ResumeRead { connection, substream });
                    }
                }
            }
            Action::Finish(id) => {
                if let Some(it) = self.substreams.get_mut(&id) {
                    it.buffer.finish();
                    it.wants_write = true;
                }
            }
            Action::Reset { substream, code } => {
                self.substreams.remove(&substream);
                cx.ask(SubstreamOutput::Reset { connection, substream, code });
            }
            // The endpoint carries them out itself.
            Action::Forward(_) | Action::CloseConnection { .. } => {}
        }
    }

    fn pump(&mut self, session: Option<&mut Session>, cx: &mut Cx<'_, SubstreamOutput>) -> bool {
        let Some(session) = session else {
            return false;
        };
        let (connection, mut moved) = (cx.id, false);
        for (id, it) in &mut self.substreams {
            let substream = *id;
            if it.part.is_starved() && it.part.may_read(&it.buffer, cx.now, &mut cx.room) {
                cx.ask(SubstreamOutput::ResumeRead { connection, substream });
            }
            if it.part.deadline().is_some_and(|at| at <= cx.now) {
                // A message did not arrive in time.
                let code = ResetCode::LimitReached;
                cx.ask(SubstreamOutput::Reset { connection, substream, code });
                it.buffer.ended(session, cx.now, SubstreamEnd::Aborted);
                (it.part, it.end, moved) = (Part::default(), End::Over, true);
                continue;
            }
            if !it.wants_write || it.writing.is_some() || it.opening.is_some() {
                continue;
            }
            moved = true;
            if let Some(chunk) = it.buffer.chunk(session) {
                let bytes = chunk.split_off(0);
                it.writing = Some((bytes.len(), cx.now));
                cx.ask(SubstreamOutput::Write { connection, substream, bytes });
                continue;
            }
            it.wants_write = false;
            if it.buffer.is_finishing() && it.end == End::Open {
                it.end = End::Asked(cx.now);
                cx.ask(SubstreamOutput::Finish { connection, substream });
            }
        }
        self.substreams.retain(|_, it| it.end != End::Over || !it.buffer.is_read_over());
        moved
    }

    fn close(&mut self, _: Instant, code: u64) {
        self.substreams.clear();
        self.closed = Some(code);
    }

    fn closes(&self) -> Option<u64> {
        self.closed
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_timeout(&self) -> Option<Instant> {
        self.substreams.values().filter_map(|it| it.part.deadline()).min()
    }

    fn held(&self) -> usize {
        self.substreams.values().map(|it| it.part.charge(&it.buffer)).sum()
    }

    fn is_starved(&self) -> bool {
        self.substreams.values().any(|it| it.part.is_starved())
    }

    fn owed(&self, each: &mut dyn FnMut(Waiting, Instant)) {
        for (id, it) in &self.substreams {
            if let Some(since) = it.opening {
                each(Waiting::Opened(*id), since);
            }
            if let Some((bytes, since)) = it.writing {
                each(Waiting::Written { bytes }, since);
            }
            if let End::Asked(since) = it.end {
                each(Waiting::Acknowledged(*id), since);
            }
        }
    }
}
