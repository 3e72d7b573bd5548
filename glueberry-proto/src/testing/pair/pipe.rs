//! The substreams between two hosts: bytes on their way, ends, resets.

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};

use super::transport::Link;
use super::{Application, Pair, Side};
use crate::{ProtocolId, Session, SessionId, SubstreamBuffer, SubstreamEnd, SubstreamId};

/// A substream: a buffer at each end, and the bytes between them.
#[derive(Debug)]
pub struct Pipe {
    /// The buffer of each side. An end without a buffer is the test's.
    pub buffers: [Option<SubstreamBuffer>; 2],
    /// What is on its way to each side.
    pub towards: [Half; 2],
    /// The agreed protocol, on its way to the opener.
    answer: Option<(Side, Option<ProtocolId>)>,
}

/// One direction of a substream.
#[derive(Debug, Default)]
pub struct Half {
    /// Bytes on their way.
    pub bytes: BytesMut,
    /// True if the writer has finished: the end follows the bytes.
    pub fin: bool,
    /// True if the writer has reset its half: the bytes are lost.
    pub reset: bool,
    /// True if the reader wants no more.
    pub stopped: bool,
    /// True if the end has reached the reader.
    pub is_over: bool,
    is_acknowledged: bool,
    pub(super) wants_write: bool,
}

impl<App: Application> Pair<App> {
    /// Moves bytes from a session to a pipe.
    pub(super) fn write(&mut self, link: usize, at: usize, side: Side) -> bool {
        let (cut, window) = (self.next_cut(), self.window);
        let sessions = &mut self.hosts[side].sessions;
        let Some((session, pipe)) = parts(&mut self.links, sessions, link, at, side) else {
            return false;
        };
        let is_unanswered = pipe.is_unanswered(side);
        let half = &mut pipe.towards[1 - side];
        let is_shut = half.fin || half.reset || half.bytes.len() >= window;
        if !half.wants_write || is_shut || is_unanswered {
            return false;
        }
        let Some(buffer) = &mut pipe.buffers[side] else {
            return false;
        };
        match buffer.chunk(session) {
            Some(bytes) => {
                let taken = bytes.len().min(cut).min(window - half.bytes.len());
                half.bytes.extend_from_slice(&bytes[..taken]);
                self.app.written(side, at, &bytes[..taken]);
                bytes.advance(taken);
            }
            None => {
                half.wants_write = false;
                half.fin = buffer.is_finishing();
            }
        }
        true
    }

    /// Moves bytes, or an end, from a pipe to a session.
    pub(super) fn deliver(&mut self, link: usize, at: usize, side: Side) -> bool {
        let cut = self.next_cut();
        let (now, clock) = (self.now, self.clock);
        let sessions = &mut self.hosts[side].sessions;
        let Some((session, pipe)) = parts(&mut self.links, sessions, link, at, side) else {
            return false;
        };
        if pipe.is_unanswered(side) {
            return false;
        }
        let Some(buffer) = &mut pipe.buffers[side] else {
            return false;
        };
        if std::mem::take(&mut pipe.towards[1 - side].stopped) {
            let now = clock.input_time(now, session);
            buffer.ended(session, now, SubstreamEnd::Stopped);
            return true;
        }
        let half = &mut pipe.towards[side];
        if half.is_over {
            return false;
        }
        if half.reset {
            half.is_over = true;
            let now = clock.input_time(now, session);
            buffer.ended(session, now, SubstreamEnd::Reset);
            return true;
        }
        if buffer.is_read_over() {
            half.is_over = true;
            half.bytes.clear();
            return true;
        }
        if !half.bytes.is_empty() {
            if !buffer.wants_read() {
                return false;
            }
            let taken = half.bytes.len().min(cut);
            let now = clock.input_time(now, session);
            buffer.append(session, now, &half.bytes[..taken]);
            half.bytes.advance(taken);
            buffer.received(session, now);
            return true;
        }
        if half.fin {
            half.is_over = true;
            let now = clock.input_time(now, session);
            buffer.ended(session, now, SubstreamEnd::Finished);
            return true;
        }
        false
    }

    /// Reports to a side that the peer has read all that it wrote, and the end.
    pub(super) fn acknowledge(&mut self, link: usize, at: usize, side: Side) -> bool {
        let (now, clock) = (self.now, self.clock);
        let sessions = &mut self.hosts[side].sessions;
        let Some((session, pipe)) = parts(&mut self.links, sessions, link, at, side) else {
            return false;
        };
        let [Some(own), Some(peers)] = [&pipe.buffers[side], &pipe.buffers[1 - side]] else {
            return false;
        };
        let half = &mut pipe.towards[1 - side];
        let is_read = half.is_over && peers.is_read_over();
        if !half.fin || half.reset || half.is_acknowledged || !is_read {
            return false;
        }
        half.is_acknowledged = true;
        let now = clock.input_time(now, session);
        session.handle_acknowledged(now, own.substream());
        true
    }
}

impl Pipe {
    pub(super) fn new(
        buffers: [Option<SubstreamBuffer>; 2],
        answer: Option<(Side, Option<ProtocolId>)>,
    ) -> Self {
        Self { buffers, towards: <[Half; 2]>::default(), answer }
    }

    /// Resets the half of a side and refuses the other.
    pub fn reset(&mut self, side: Side) {
        self.towards[1 - side].reset = true;
        self.towards[side].stopped = true;
        self.towards[side].is_over = true;
    }

    /// Finishes the half of a side.
    pub(super) fn finish(&mut self, side: Side) {
        if let Some(buffer) = &mut self.buffers[side] {
            buffer.finish();
            self.towards[1 - side].wants_write = true;
        }
    }

    /// Returns the opener, its substream and the agreed protocol, once.
    pub(super) fn take_answer(&mut self) -> Option<(Side, SubstreamId, Option<ProtocolId>)> {
        let (opener, agreed) = self.answer.take()?;
        let buffer = self.buffers[opener].as_ref()?;
        Some((opener, buffer.substream(), agreed))
    }

    pub(super) fn is_substream(&self, side: Side, id: SubstreamId) -> bool {
        self.buffers[side].as_ref().is_some_and(|buffer| buffer.substream() == id)
    }

    pub(super) fn buffer(&mut self, side: Side, id: SubstreamId) -> Option<&mut SubstreamBuffer> {
        self.buffers[side].as_mut().filter(|buffer| buffer.substream() == id)
    }

    /// True if a side has opened the substream and does not know yet that it is open.
    fn is_unanswered(&self, side: Side) -> bool {
        self.answer.as_ref().is_some_and(|(opener, _)| *opener == side)
    }
}

/// Returns a pipe of a link that is up, and the session at one end of it.
fn parts<'a>(
    links: &'a mut [Link],
    sessions: &'a mut BTreeMap<SessionId, Session>,
    link: usize,
    pipe: usize,
    side: Side,
) -> Option<(&'a mut Session, &'a mut Pipe)> {
    let link = links.get_mut(link).filter(|link| !link.is_down)?;
    let session = sessions.get_mut(&link.ends[side]?)?;
    Some((session, link.pipes.get_mut(pipe)?))
}
