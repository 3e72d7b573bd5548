//! The substreams of a connection: how they are opened, what goes over them, how they end.

use bytes::Bytes;
use glueberry_proto::{Naming, OpenError, SubstreamEnd};

use super::{Touch, Wake, World};
use crate::link::{Half, Side, Stage, Standing};
use crate::plan::Cuts;
use crate::rng::{u64_of, usize_of};
use crate::situation::{HALF_CLOSED, LATE};
use crate::trace::{Kind, digest};

impl World {
    // ---- opening ------------------------------------------------------------------------------

    /// A session wants a substream.
    pub(super) fn open(&mut self, link: usize, at: usize) {
        let opener = self.links[link].pipes[at].opener;
        match self.links[link].naming {
            Naming::Preamble => {
                // The peer hears of it with the first byte.
                let name = self.links[link].pipes[at].buffers[opener].as_ref();
                let Some(id) = name.map(|buffer| buffer.substream()) else {
                    return;
                };
                let numbers = (id.as_u64(), 0);
                self.with_session((link, opener), Kind::Opened, numbers, |session, now| {
                    session.handle_opened(now, id, None);
                });
            }
            _ => self.send(link, Wake::Offer(link, at)),
        }
    }

    /// A substream that is being opened reaches the peer, which agrees on a name or doesn't.
    pub(super) fn offer(&mut self, link: usize, at: usize) {
        let Some(pipe) = self.links[link].pipes.get(at) else {
            return;
        };
        let acceptor = 1 - pipe.opener;
        if pipe.stage != Stage::Offered {
            return;
        }
        if self.hosts[self.links[link].ends[acceptor].host].is_rogue {
            return self.rogue_offered(link, at);
        }
        let end = &self.links[link].ends[acceptor];
        match end.standing {
            Standing::Arriving => {
                return self.queue.push(self.now + NOT_YET, Wake::Offer(link, at));
            }
            Standing::Open => {}
            _ => return,
        }
        let Some(session) = end.session.as_ref() else {
            return;
        };
        let served = session.protocols();
        let pipe = &mut self.links[link].pipes[at];
        pipe.agreed = pipe.proposals.iter().find(|one| served.contains(one)).cloned();
        let is_agreed = match pipe.agreed.clone() {
            Some(protocol) => self.accept(link, at, Some(protocol)),
            None => {
                pipe.stage = Stage::Dead;
                false
            }
        };
        self.send(link, Wake::Answer(link, at, is_agreed));
    }

    /// The opener of a substream hears what was agreed on.
    pub(super) fn answer(&mut self, link: usize, at: usize, is_yes: bool) {
        let Some(pipe) = self.links[link].pipes.get(at) else {
            return;
        };
        let (opener, agreed) = (pipe.opener, pipe.agreed.clone());
        if self.hosts[self.links[link].ends[opener].host].is_rogue {
            return self.rogue_answered(link, at, opener, is_yes);
        }
        let Some(id) = pipe.buffers[opener].as_ref().map(|buffer| buffer.substream()) else {
            return;
        };
        if self.links[link].ends[opener].standing != Standing::Open {
            return;
        }
        let end = (link, opener);
        if is_yes && self.links[link].pipes[at].stage == Stage::Accepted {
            self.links[link].pipes[at].stage = Stage::Open;
            self.with_session(end, Kind::Opened, (id.as_u64(), 1), |session, now| {
                session.handle_opened(now, id, agreed);
            });
            self.read_later(link, at, opener, self.now);
        } else if !is_yes {
            self.with_session(end, Kind::OpenFailed, (id.as_u64(), 0), |session, now| {
                session.handle_open_failed(now, id, OpenError::Refused);
            });
        }
    }

    // ---- writing ------------------------------------------------------------------------------

    /// Moves bytes from a session to the network, as far as the window allows.
    pub(super) fn write(&mut self, link: usize, at: usize, side: Side) {
        let host = self.links[link].ends[side].host;
        let to = self.links[link].ends[1 - side].host;
        if let Some(pipe) = self.links[link].pipes.get_mut(at) {
            pipe.halves[1 - side].write_is_due = false;
        }
        if self.hosts[host].is_rogue {
            return;
        }
        loop {
            let state = &mut self.links[link];
            let (Some(pipe), end) = (state.pipes.get_mut(at), &mut state.ends[side]) else {
                return;
            };
            let half = &mut pipe.halves[1 - side];
            let room = self.plan.net.window.saturating_sub(half.in_flight);
            if end.standing != Standing::Open || half.is_shut || room == 0 {
                break;
            }
            let (Some(buffer), Some(session)) = (pipe.buffers[side].as_mut(), end.session.as_mut())
            else {
                break;
            };
            let id = buffer.substream().as_u64();
            match buffer.chunk(session) {
                Some(chunk) => {
                    let bytes = chunk.split_to(chunk.len().min(room));
                    self.note(host, link, Kind::Write, (id, digest(&bytes)));
                    if self.break_off(link, at, side, (host, to), &bytes) {
                        break;
                    }
                    self.put(link, at, side, bytes);
                }
                None => {
                    half.wants_write = false;
                    if buffer.is_finishing() {
                        half.is_shut = true;
                        let end_at = self.arrival(link, side, 0);
                        let half = &mut self.links[link].pipes[at].halves[1 - side];
                        let end_at = half.last.max(end_at);
                        half.fin = Some(end_at);
                        self.read_later(link, at, 1 - side, end_at);
                    }
                    break;
                }
            }
        }
        self.check_seals(host);
        // A queue that has drained says so.
        self.touched.push_back(Touch::Session(link, side));
    }

    /// Sends bytes, in pieces.
    pub(super) fn put(&mut self, link: usize, at: usize, side: Side, mut bytes: Bytes) {
        let mut crumbs = CRUMBS;
        while !bytes.is_empty() {
            let most = match self.plan.net.cuts {
                Cuts::Whole => bytes.len(),
                Cuts::UpTo(most) => usize_of(self.links[link].rng.range(1, most)),
                Cuts::Crumbs if crumbs > 0 => 1,
                Cuts::Crumbs => bytes.len(),
            };
            crumbs -= 1.min(crumbs);
            let piece = bytes.split_to(most.min(bytes.len()));
            let arrives = self.arrival(link, side, piece.len());
            let half = &mut self.links[link].pipes[at].halves[1 - side];
            let arrives = half.send(arrives, piece);
            self.read_later(link, at, 1 - side, arrives);
        }
    }

    /// Breaks a substream after so many bytes, if that is due; says whether it did.
    fn break_off(
        &mut self,
        link: usize,
        at: usize,
        side: Side,
        (from, to): (usize, usize),
        bytes: &Bytes,
    ) -> bool {
        let Some(after) = self.faults.break_after(from, to) else {
            return false;
        };
        if after > u64_of(bytes.len()) {
            self.faults.set_break(from, to, after - u64_of(bytes.len()));
            return false;
        }
        self.faults.fire("break");
        self.touch_link(link);
        self.put(link, at, side, bytes.slice(..usize_of(after)));
        let arrives = self.arrival(link, side, 0);
        let half = &mut self.links[link].pipes[at].halves[1 - side];
        half.is_shut = true;
        half.reset = Some(half.last.max(arrives));
        let arrives = half.last.max(arrives);
        self.read_later(link, at, 1 - side, arrives);
        self.refuse_half(link, at, side);
        // Where both halves are one thing, as in yamux, the other breaks with it.
        let is_acknowledged = self.links[link].pipes[at].halves[side].is_acknowledged;
        if self.links[link].rng.chance(500) && !is_acknowledged {
            let resets = self.arrival(link, 1 - side, 0);
            let half = &mut self.links[link].pipes[at].halves[side];
            half.is_shut = true;
            half.reset = half.reset.or(Some(resets));
            self.read_later(link, at, side, resets);
            self.refuse_half(link, at, 1 - side);
        }
        true
    }

    /// Lets a writer hear that nobody reads its half any more.
    pub(super) fn refuse_half(&mut self, link: usize, at: usize, writer: Side) {
        let hears = self.arrival(link, 1 - writer, 0);
        self.links[link].pipes[at].halves[1 - writer].stopped = Some(hears);
        self.queue.push(hears, Wake::Stopped(link, at, writer));
    }

    /// Draws when so many bytes that leave now arrive.
    pub(super) fn arrival(&mut self, link: usize, side: Side, len: usize) -> u64 {
        let delay = self.delay(link);
        let bandwidth = self.plan.net.bandwidth;
        if bandwidth == 0 {
            return self.now + delay;
        }
        let busy = &mut self.links[link].busy_until[side];
        *busy = (*busy).max(self.now) + u64_of(len) * 1_000_000 / bandwidth;
        *busy + delay
    }

    // ---- reading ------------------------------------------------------------------------------

    /// Has what arrives at a moment handed to its reader then.
    pub(super) fn read_later(&mut self, link: usize, at: usize, side: Side, when: u64) {
        if let Some(pipe) = self.links[link].pipes.get_mut(at)
            && !std::mem::replace(&mut pipe.halves[side].read_is_due, true)
        {
            self.queue.push(when.max(self.now), Wake::Read(link, at, side));
        }
    }

    /// Hands a session what has arrived.
    pub(super) fn read(&mut self, link: usize, at: usize, side: Side) {
        let Some(pipe) = self.links[link].pipes.get_mut(at) else {
            return;
        };
        pipe.halves[side].read_is_due = false;
        let (host, from) = (self.links[link].ends[side].host, self.links[link].ends[1 - side].host);
        if let Some(until) = self.faults.stalled_until(from, host)
            && until > self.now
        {
            return self.read_later(link, at, side, until);
        }
        if self.hosts[host].is_rogue {
            return self.rogue_reads(link, at, side);
        }
        if !self.is_readable(link, at, side) {
            return;
        }
        let taken = self.feed(link, at, side);
        self.end_reading(link, at, side);
        self.check_offence(link, at, side);
        self.try_acknowledge(link, at, side);
        let Some(pipe) = self.links[link].pipes.get_mut(at) else {
            return;
        };
        let half = &mut pipe.halves[side];
        let is_wanted = pipe.buffers[side].as_ref().is_some_and(|buffer| buffer.wants_read());
        if taken > 0 && half.wants_write && !half.is_shut {
            let is_due = std::mem::replace(&mut half.write_is_due, true);
            if !is_due {
                self.send(link, Wake::Write(link, at, 1 - side));
            }
        }
        let half = &self.links[link].pipes[at].halves[side];
        if let Some(next) = half.next().filter(|next| is_wanted && *next > self.now) {
            self.read_later(link, at, side, next);
        }
    }

    /// Returns whether a session can be handed bytes; the first make the acceptor's end.
    fn is_readable(&mut self, link: usize, at: usize, side: Side) -> bool {
        let state = &self.links[link];
        let pipe = &state.pipes[at];
        match state.ends[side].standing {
            Standing::Arriving => {
                self.read_later(link, at, side, self.now + NOT_YET);
                return false;
            }
            Standing::Open | Standing::Closing => {}
            Standing::Lost | Standing::Gone => return false,
        }
        match pipe.stage {
            Stage::Dead => false,
            Stage::Offered if side != pipe.opener => {
                if state.naming == Naming::Preamble && self.accept(link, at, None) {
                    self.links[link].pipes[at].stage = Stage::Open;
                    return true;
                }
                false
            }
            // The answer comes first.
            Stage::Offered | Stage::Accepted if side == pipe.opener => false,
            Stage::Offered | Stage::Accepted | Stage::Open => true,
        }
    }

    /// Feeds the session what has arrived; returns how many bytes were taken off the network.
    fn feed(&mut self, link: usize, at: usize, side: Side) -> usize {
        let mut taken = 0;
        loop {
            let (now, moment) = (self.at(), self.now);
            let state = &mut self.links[link];
            let (Some(pipe), end) = (state.pipes.get_mut(at), &mut state.ends[side]) else {
                return taken;
            };
            let (Some(buffer), Some(session)) = (pipe.buffers[side].as_mut(), end.session.as_mut())
            else {
                return taken;
            };
            let half = &mut pipe.halves[side];
            if half.is_over {
                half.drop_all();
                return taken;
            }
            if half.reset.is_some_and(|reset| reset <= moment) {
                return taken;
            }
            if buffer.is_read_over() {
                return taken + usize_of(half.drop_all());
            }
            if !buffer.wants_read() {
                return taken;
            }
            let Some(bytes) = half.take(moment) else {
                return taken;
            };
            taken += bytes.len();
            end.held += u64_of(bytes.len());
            let id = buffer.substream().as_u64();
            buffer.append(session, now, &bytes);
            buffer.received(session, now);
            let (host, is_late) = (end.host, end.standing == Standing::Closing);
            let is_half_closed = pipe.halves[1 - side].fin.is_some();
            self.reach(is_late.then_some(LATE));
            self.reach(is_half_closed.then_some(HALF_CLOSED));
            self.input_of_session((link, side), Kind::Data, (id, digest(&bytes)));
            self.check_memory(link, side);
            if self.hosts[host].is_doomed {
                return taken;
            }
        }
    }

    /// Tells a session the end of the peer's half, once it is there.
    fn end_reading(&mut self, link: usize, at: usize, side: Side) {
        let (now, moment) = (self.at(), self.now);
        let state = &mut self.links[link];
        let (Some(pipe), end) = (state.pipes.get_mut(at), &mut state.ends[side]) else {
            return;
        };
        let half = &mut pipe.halves[side];
        let is_reset = half.reset.is_some_and(|reset| reset <= moment);
        let is_finished = half.segments.is_empty() && half.fin.is_some_and(|fin| fin <= moment);
        if half.is_over || !(is_reset || is_finished) {
            return;
        }
        half.is_over = true;
        half.drop_all();
        let (Some(buffer), Some(session)) = (pipe.buffers[side].as_mut(), end.session.as_mut())
        else {
            return;
        };
        let ended = if is_reset { SubstreamEnd::Reset } else { SubstreamEnd::Finished };
        let id = buffer.substream().as_u64();
        buffer.ended(session, now, ended);
        self.input_of_session((link, side), Kind::End, (id, u64::from(is_reset)));
    }

    // ---- acknowledgements, resets -------------------------------------------------------------

    /// Lets the writer know that its reader has it all, if that is so.
    pub(super) fn try_acknowledge(&mut self, link: usize, at: usize, reader: Side) {
        let state = &mut self.links[link];
        let is_open = state.ends[reader].standing == Standing::Open;
        let Some(pipe) = state.pipes.get_mut(at) else {
            return;
        };
        let is_read = pipe.buffers[reader].as_ref().is_some_and(|buffer| buffer.is_read_over());
        let half: &mut Half = &mut pipe.halves[reader];
        let has_all = half.fin.is_some_and(|fin| fin <= self.now)
            && (is_read || !self.plan.net.acknowledges_reads);
        if is_open && has_all && half.reset.is_none() && !half.is_acknowledged {
            half.is_acknowledged = true;
            self.send(link, Wake::Acknowledge(link, at, 1 - reader));
        }
    }

    pub(super) fn acknowledge(&mut self, link: usize, at: usize, writer: Side) {
        let Some(pipe) = self.links[link].pipes.get(at) else {
            return;
        };
        let Some(id) = pipe.buffers[writer].as_ref().map(|buffer| buffer.substream()) else {
            return;
        };
        if self.links[link].ends[writer].standing != Standing::Open {
            return;
        }
        let end = (link, writer);
        self.with_session(end, Kind::Acknowledged, (id.as_u64(), 0), |session, now| {
            session.handle_acknowledged(now, id);
        });
    }

    /// A side resets its half of a substream and refuses the peer's.
    pub(super) fn reset(&mut self, link: usize, at: usize, side: Side) {
        let hears = self.arrival(link, side, 0);
        let Some(pipe) = self.links[link].pipes.get_mut(at) else {
            return;
        };
        if pipe.stage == Stage::Offered {
            // Nobody has heard of it yet, or will learn that it is of no use.
            let was_silent = pipe.halves[1 - side].segments.is_empty();
            if was_silent {
                pipe.stage = Stage::Dead;
                return;
            }
        }
        let outwards = &mut pipe.halves[1 - side];
        outwards.is_shut = true;
        // It overtakes what was sent before, or doesn't.
        let overtakes = self.links[link].rng.chance(500);
        let outwards = &mut self.links[link].pipes[at].halves[1 - side];
        let resets = if overtakes { hears } else { hears.max(outwards.last) };
        outwards.reset = Some(resets);
        let inwards = &mut self.links[link].pipes[at].halves[side];
        inwards.is_over = true;
        inwards.drop_all();
        let was_shut = inwards.is_acknowledged;
        inwards.stopped = Some(hears);
        self.read_later(link, at, 1 - side, resets);
        if !was_shut {
            self.queue.push(hears, Wake::Stopped(link, at, 1 - side));
        }
    }

    /// A writer hears that the peer refuses to read.
    pub(super) fn stopped(&mut self, link: usize, at: usize, writer: Side) {
        let now = self.at();
        let state = &mut self.links[link];
        let (Some(pipe), end) = (state.pipes.get_mut(at), &mut state.ends[writer]) else {
            return;
        };
        if end.standing != Standing::Open || self.hosts[end.host].is_rogue {
            return;
        }
        pipe.halves[1 - writer].is_shut = true;
        let (Some(buffer), Some(session)) = (pipe.buffers[writer].as_mut(), end.session.as_mut())
        else {
            return;
        };
        let id = buffer.substream().as_u64();
        buffer.ended(session, now, SubstreamEnd::Stopped);
        self.input_of_session((link, writer), Kind::End, (id, 2));
    }
}

/// Microseconds until it is asked again whether a connection has arrived.
const NOT_YET: u64 = 500;
/// Single bytes at the beginning of a chunk that is cut so.
const CRUMBS: usize = 12;
