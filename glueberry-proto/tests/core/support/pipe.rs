//! The substreams between the two hosts: bytes on their way, ends, resets.

use std::collections::{BTreeMap, VecDeque};

use bytes::Buf;
use glueberry_proto::{ProtocolId, Session, SessionId, SubstreamBuffer, SubstreamEnd, SubstreamId};

use super::net::Link;
use super::{Side, World};

/// One substream: a buffer at each end, and the bytes on their way.
pub(crate) struct Pipe {
    /// At the end that is missing, there is nobody but the test.
    pub(crate) buffers: [Option<SubstreamBuffer>; 2],
    /// Bytes on their way to each side, and how they end.
    pub(crate) towards: [Half; 2],
    /// All that ever travelled towards each side.
    pub(crate) log: [Vec<u8>; 2],
    /// What was agreed on, which the opener is still to be told.
    pub(super) answer: Option<(Side, Option<ProtocolId>)>,
}

#[derive(Default)]
pub(crate) struct Half {
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) fin: bool,
    pub(crate) reset: bool,
    pub(crate) stopped: bool,
    /// The end was passed on.
    pub(crate) is_over: bool,
    is_acknowledged: bool,
    pub(super) wants_write: bool,
}

impl World {
    /// Moves bytes from a session to the pipe.
    pub(super) fn write(&mut self, link: usize, pipe: usize, side: Side) -> bool {
        let (at, cut, window) = (pipe, self.next_cut(), self.window);
        let Some((session, pipe)) =
            parts(&mut self.links, &mut self.hosts[side].sessions, link, pipe, side)
        else {
            return false;
        };
        let half = &mut pipe.towards[1 - side];
        let is_shut = half.fin || half.reset || half.bytes.len() >= window;
        if !half.wants_write
            || is_shut
            || pipe.answer.as_ref().is_some_and(|(opener, _)| *opener == side)
        {
            return false;
        }
        let buffer = pipe.buffers[side].as_mut().unwrap();
        match buffer.chunk(session) {
            Some(bytes) => {
                let taken = bytes.len().min(cut).min(window - half.bytes.len());
                half.bytes.extend(&bytes[..taken]);
                pipe.log[1 - side].extend_from_slice(&bytes[..taken]);
                self.log.bytes(side, at, &bytes[..taken]);
                bytes.advance(taken);
            }
            None => {
                half.wants_write = false;
                half.fin = buffer.is_finishing();
            }
        }
        true
    }

    /// Moves bytes, or an end, from the pipe to a session.
    pub(super) fn deliver(&mut self, link: usize, pipe: usize, side: Side) -> bool {
        let cut = self.next_cut();
        let (now, clock) = (self.now, self.clock);
        let Some((session, pipe)) =
            parts(&mut self.links, &mut self.hosts[side].sessions, link, pipe, side)
        else {
            return false;
        };
        if pipe.answer.as_ref().is_some_and(|(opener, _)| *opener == side) {
            return false;
        }
        let buffer = pipe.buffers[side].as_mut().unwrap();
        if std::mem::take(&mut pipe.towards[1 - side].stopped) {
            let now = clock.tell(now, session);
            buffer.ended(session, now, SubstreamEnd::Stopped);
            return true;
        }
        let half = &mut pipe.towards[side];
        if half.is_over {
            return false;
        }
        if half.reset {
            half.is_over = true;
            let now = clock.tell(now, session);
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
            let bytes: Vec<u8> = half.bytes.drain(..taken).collect();
            let now = clock.tell(now, session);
            buffer.append(session, now, &bytes);
            buffer.received(session, now);
            return true;
        }
        if half.fin {
            half.is_over = true;
            let now = clock.tell(now, session);
            buffer.ended(session, now, SubstreamEnd::Finished);
            return true;
        }
        false
    }

    /// Tells a side that the peer has read all that it wrote, and the end.
    pub(super) fn acknowledge(&mut self, link: usize, pipe: usize, side: Side) -> bool {
        let (now, clock) = (self.now, self.clock);
        let Some((session, pipe)) =
            parts(&mut self.links, &mut self.hosts[side].sessions, link, pipe, side)
        else {
            return false;
        };
        let has_reader = pipe.buffers[1 - side].as_ref();
        let is_read = has_reader.is_some_and(SubstreamBuffer::is_read_over);
        let half = &mut pipe.towards[1 - side];
        if !half.fin || half.reset || half.is_acknowledged || !half.is_over || !is_read {
            return false;
        }
        half.is_acknowledged = true;
        let id = pipe.buffers[side].as_ref().unwrap().substream();
        let now = clock.tell(now, session);
        session.handle_acknowledged(now, id);
        true
    }
}

impl Pipe {
    pub(super) fn buffer(&mut self, side: Side, id: SubstreamId) -> Option<&mut SubstreamBuffer> {
        self.buffers[side].as_mut().filter(|buffer| buffer.substream() == id)
    }

    /// A side resets its half and refuses the other.
    pub(crate) fn reset(&mut self, side: Side) {
        self.towards[1 - side].reset = true;
        self.towards[side].stopped = true;
        self.towards[side].is_over = true;
    }
}

/// Returns a pipe of a link that is not down, and the session at one end of it.
fn parts<'a>(
    links: &'a mut [Link],
    sessions: &'a mut BTreeMap<SessionId, Session>,
    link: usize,
    pipe: usize,
    side: Side,
) -> Option<(&'a mut Session, &'a mut Pipe)> {
    let link = links.get_mut(link).filter(|link| !link.is_down)?;
    let session = sessions.get_mut(&link.ends[side]?)?;
    let pipe = link.pipes.get_mut(pipe)?;
    pipe.buffers[side].as_ref()?;
    Some((session, pipe))
}
