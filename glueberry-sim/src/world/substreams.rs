//! The substreams of a connection: how they are opened, what goes over them, how they end.

use glueberry_proto::{Naming, OpenError, Profile, Session, SubstreamEnd};

use super::session::Sessions;
use super::wires::Way;
use crate::link::{EndState, Stage};
use crate::rng::{u64_of, usize_of};
use crate::situation::{HALF_CLOSED, LATE};
use crate::trace::{Kind, digest};
use crate::wake::{Side, Wake};

impl Sessions<'_> {
    /// A session wants a substream.
    pub(super) fn open(&mut self, link: usize, at: usize) {
        let opener = self.net.links[link].pipes[at].opener;
        match self.net.links[link].naming {
            _ if self.net.links[link].line.is_some() => self.open_on_line(link, at),
            Naming::Preamble => {
                // The peer learns of it with the first byte.
                let name = self.net.links[link].pipes[at].buffers[opener].as_ref();
                let Some(id) = name.map(|buffer| buffer.substream()) else {
                    return;
                };
                let numbers = (id.as_u64(), 0);
                self.agreed(link, at);
                self.with_session((link, opener), Kind::Opened, numbers, |session, now| {
                    session.handle_opened(now, id, None);
                });
            }
            _ => self.net.send(self.run, link, Wake::Offer(link, at)),
        }
    }

    /// A substream that is being opened reaches the peer, which agrees on a name or doesn't.
    pub(super) fn offer(&mut self, link: usize, at: usize) {
        let Some(pipe) = self.net.links[link].pipes.get(at) else {
            return;
        };
        let acceptor = 1 - pipe.opener;
        if pipe.stage != Stage::Offered {
            return;
        }
        let end = &self.net.links[link].ends[acceptor];
        match end.state {
            EndState::Arriving => {
                return self.run.push(self.run.now + NOT_YET, Wake::Offer(link, at));
            }
            EndState::Open => {}
            _ => return,
        }
        let Some(session) = end.session.as_ref() else {
            return;
        };
        let served = session.protocols();
        let pipe = &mut self.net.links[link].pipes[at];
        pipe.agreed = pipe.proposals.iter().find(|one| served.contains(one)).cloned();
        let is_agreed = match pipe.agreed.clone() {
            Some(protocol) => self.accept(link, at, Some(protocol)),
            None => {
                pipe.stage = Stage::Dead;
                false
            }
        };
        self.net.send(self.run, link, Wake::Answer(link, at, is_agreed));
    }

    /// The opener of a substream learns what was agreed on.
    pub(super) fn answer(&mut self, link: usize, at: usize, is_yes: bool) {
        let Some(pipe) = self.net.links[link].pipes.get(at) else {
            return;
        };
        let (opener, agreed) = (pipe.opener, pipe.agreed.clone());
        let Some(id) = pipe.buffers[opener].as_ref().map(|buffer| buffer.substream()) else {
            return;
        };
        if self.net.links[link].ends[opener].state != EndState::Open {
            return;
        }
        let end = (link, opener);
        if is_yes && self.net.links[link].pipes[at].stage == Stage::Accepted {
            self.net.links[link].pipes[at].stage = Stage::Open;
            self.agreed(link, at);
            self.with_session(end, Kind::Opened, (id.as_u64(), 1), |session, now| {
                session.handle_opened(now, id, agreed);
            });
            self.net.read_later(self.run, link, at, opener, self.run.now);
        } else if !is_yes {
            self.net.links[link].pipes[at].is_answered = true;
            self.note_refused(link, at);
            self.with_session(end, Kind::OpenFailed, (id.as_u64(), 0), |session, now| {
                session.handle_open_failed(now, id, OpenError::Refused);
            });
        }
    }

    /// Moves bytes from a session to the network, as far as the window allows.
    pub(super) fn write(&mut self, link: usize, at: usize, side: Side) {
        if self.net.links[link].line.is_some() {
            return self.write_on_line(link, at, side);
        }
        let host = self.net.links[link].ends[side].host;
        if let Some(pipe) = self.net.links[link].pipes.get_mut(at) {
            pipe.halves[1 - side].write_is_due = false;
        }
        if self.run.is_adversary(host) {
            return;
        }
        self.lend_keys(link, side);
        loop {
            let state = &mut self.net.links[link];
            let (Some(pipe), end) = (state.pipes.get_mut(at), &mut state.ends[side]) else {
                return;
            };
            let half = &mut pipe.halves[1 - side];
            let room = self.run.plan.net.window.saturating_sub(half.in_flight);
            if end.state != EndState::Open || half.is_shut || room == 0 {
                break;
            }
            let (Some(buffer), Some(session)) = (pipe.buffers[side].as_mut(), end.session.as_mut())
            else {
                break;
            };
            let id = buffer.substream().as_u64();
            let stream = pipe.stream.map(|stream| &self.run.streams[stream]);
            let queued = |session: &Session| stream.map_or((0, 0), |name| session.queued(name));
            let before = queued(session);
            match buffer.chunk(session) {
                Some(chunk) => {
                    let bytes = chunk.split_to(chunk.len().min(room));
                    let written = pipe.carried[side].takes(before, queued(session), self.run.now);
                    if let Some(stream) = pipe.stream {
                        end.lanes[stream].writes(written, self.run.now);
                    }
                    self.run.note(host, link, Kind::Write, (id, digest(&bytes)));
                    self.check_confirmed((link, side), at);
                    if self.net.break_off(self.run, link, at, side, &bytes) {
                        break;
                    }
                    let bytes = match self.is_sealed_by_v2((link, side), at) {
                        true => self.net.tamper(self.run, link, side, bytes),
                        false => bytes,
                    };
                    self.net.put(self.run, link, Way::Substream(at), side, bytes);
                }
                None => {
                    half.wants_write = false;
                    if buffer.is_finishing() {
                        half.is_shut = true;
                        let end_at = self.net.arrival(self.run, link, side, 0);
                        let half = &mut self.net.links[link].pipes[at].halves[1 - side];
                        let end_at = half.last.max(end_at);
                        half.fin = Some(end_at);
                        self.net.read_later(self.run, link, at, 1 - side, end_at);
                    }
                    break;
                }
            }
        }
        self.check_seals(host);
        // A queue that has drained says so.
        self.run.touch_session(link, side);
    }

    /// Hands a session what has arrived.
    pub(super) fn read(&mut self, link: usize, at: usize, side: Side) {
        let Some(pipe) = self.net.links[link].pipes.get_mut(at) else {
            return;
        };
        pipe.halves[side].read_is_due = false;
        let (host, from) =
            (self.net.links[link].ends[side].host, self.net.links[link].ends[1 - side].host);
        if let Some(until) = self.net.faults.stalled_until(from, host)
            && self.net.links[link].line.is_none()
            && until > self.run.now
        {
            return self.net.read_later(self.run, link, at, side, until);
        }
        if !self.is_readable(link, at, side) {
            return;
        }
        // What a session that is over discards is not acknowledged.
        let session = self.net.links[link].ends[side].session.as_ref();
        let is_over = session.is_none_or(|session| session.is_closed());
        self.lend_keys(link, side);
        let taken = self.feed(link, at, side);
        self.net.release(self.run, link, at, side, taken);
        self.end_reading(link, at, side);
        self.check_offence(link, at, side);
        if !is_over || self.net.links[link].line.is_none() {
            self.net.try_acknowledge(self.run, link, at, side);
        }
        let Some(pipe) = self.net.links[link].pipes.get_mut(at) else {
            return;
        };
        let half = &mut pipe.halves[side];
        let is_wanted = pipe.buffers[side].as_ref().is_some_and(|buffer| buffer.wants_read());
        if taken > 0 && half.wants_write && !half.is_shut {
            let is_due = std::mem::replace(&mut half.write_is_due, true);
            if !is_due {
                self.net.send(self.run, link, Wake::Write(link, at, 1 - side));
            }
        }
        let half = &self.net.links[link].pipes[at].halves[side];
        if let Some(next) = half.next().filter(|next| is_wanted && *next > self.run.now) {
            self.net.read_later(self.run, link, at, side, next);
        }
    }

    /// Returns whether a session can be handed bytes; the first make the acceptor's end.
    fn is_readable(&mut self, link: usize, at: usize, side: Side) -> bool {
        let state = &self.net.links[link];
        let pipe = &state.pipes[at];
        match state.ends[side].state {
            EndState::Arriving => {
                self.net.read_later(self.run, link, at, side, self.run.now + NOT_YET);
                return false;
            }
            EndState::Open | EndState::Closing => {}
            EndState::Lost | EndState::Gone => return false,
        }
        match pipe.stage {
            Stage::Dead => false,
            Stage::Offered if side != pipe.opener => {
                if state.naming == Naming::Preamble && self.accept(link, at, None) {
                    self.net.links[link].pipes[at].stage = Stage::Open;
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
            let (now, moment) = (self.run.at(), self.run.now);
            let state = &mut self.net.links[link];
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
            pipe.carried[side].has_read = true;
            pipe.carried[side].read += u64_of(bytes.len());
            end.held += u64_of(bytes.len());
            let id = buffer.substream().as_u64();
            buffer.append(session, now, &bytes);
            buffer.received(session, now);
            let (host, is_late) = (end.host, end.state == EndState::Closing);
            let is_half_closed = pipe.halves[1 - side].fin.is_some();
            self.run.reach(is_late.then_some(LATE));
            self.run.reach(is_half_closed.then_some(HALF_CLOSED));
            self.input_of_session((link, side), Kind::Data, (id, digest(&bytes)));
            self.check_memory(link, side);
            if self.run.kills[host].is_due {
                return taken;
            }
        }
    }

    /// Reports to a session the end of the peer's half, once it is there.
    fn end_reading(&mut self, link: usize, at: usize, side: Side) {
        let (now, moment) = (self.run.at(), self.run.now);
        let state = &mut self.net.links[link];
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
        if is_reset {
            end.broke = Some((moment, at));
        }
        self.input_of_session((link, side), Kind::End, (id, u64::from(is_reset)));
    }

    pub(super) fn acknowledge(&mut self, link: usize, at: usize, writer: Side) {
        let Some(pipe) = self.net.links[link].pipes.get(at) else {
            return;
        };
        let Some(id) = pipe.buffers[writer].as_ref().map(|buffer| buffer.substream()) else {
            return;
        };
        if self.net.links[link].ends[writer].state != EndState::Open {
            return;
        }
        self.net.links[link].pipes[at].halves[1 - writer].was_told = true;
        let pipe = &self.net.links[link].pipes[at];
        // In Go's profile what was acknowledged here may have gone out elsewhere as well.
        let session = self.net.links[link].ends[writer].session.as_ref();
        let is_once = session.and_then(|one| one.profile()) == Some(Profile::V1);
        // What broke before was in doubt before.
        let is_whole = is_once && pipe.halves[1 - writer].stopped.is_none();
        if let Some(stream) = pipe.stream.filter(|_| is_whole) {
            let count = pipe.carried[writer].messages;
            self.net.links[link].ends[writer].lanes[stream].acknowledged += count;
        }
        let end = (link, writer);
        self.with_session(end, Kind::Acknowledged, (id.as_u64(), 0), |session, now| {
            session.handle_acknowledged(now, id);
        });
    }

    /// A writer learns that the peer refuses to read.
    pub(super) fn stopped(&mut self, link: usize, at: usize, writer: Side) {
        let now = self.run.at();
        self.lend_keys(link, writer);
        let state = &mut self.net.links[link];
        let (Some(pipe), end) = (state.pipes.get_mut(at), &mut state.ends[writer]) else {
            return;
        };
        if end.state != EndState::Open || self.run.is_adversary(end.host) {
            return;
        }
        pipe.halves[1 - writer].is_shut = true;
        let (Some(buffer), Some(session)) = (pipe.buffers[writer].as_mut(), end.session.as_mut())
        else {
            return;
        };
        let id = buffer.substream().as_u64();
        buffer.ended(session, now, SubstreamEnd::Stopped);
        end.broke = Some((self.run.now, at));
        self.input_of_session((link, writer), Kind::End, (id, 2));
    }
}

/// Microseconds until it is asked again whether a connection has arrived.
pub(super) const NOT_YET: u64 = 500;
