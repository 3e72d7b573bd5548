//! Substreams that share one pipe: what sessions and the network do elsewhere, done by the mux.

use bytes::{Bytes, BytesMut};
use glueberry_proto::mux::{Closed, Event, Mux, OpenError as MuxError};
use glueberry_proto::{ConnectionLost, Direction, Instant, OpenError, Session};

use super::network::Network;
use super::session::Sessions;
use super::substreams::NOT_YET;
use super::wires::Way;
use crate::check::Invariant;
use crate::link::{EndState, Line, LineEnd, Link, Stage};
use crate::run::Run;
use crate::trace::{Kind, digest};
use crate::wake::{Side, Wake};

impl Network {
    /// A host has admitted a connection: if its substreams share a pipe, the mux begins.
    pub(super) fn begin_line(&mut self, run: &mut Run, link: usize, side: Side) {
        if let Some(line) = self.links[link].line.as_mut() {
            let direction = [Direction::Outbound, Direction::Inbound][side];
            // The plan was checked.
            line.ends[side].mux = Mux::new(run.at(), direction, run.plan.mux()).ok();
            self.pump_later(run, link, side);
        }
    }

    /// The process at an end, or its task, is gone, and so is the mux.
    pub(super) fn drop_line(&mut self, link: usize, side: Side) {
        if let Some(line) = self.links[link].line.as_mut() {
            line.ends[side].mux = None;
        }
    }

    pub(super) fn pump_later(&mut self, run: &mut Run, link: usize, side: Side) {
        if let Some(line) = self.links[link].line.as_mut()
            && !std::mem::replace(&mut line.towards[1 - side].write_is_due, true)
        {
            run.push(run.now, Wake::Pump(link, side));
        }
    }

    /// Has what arrives on a pipe at a moment taken then.
    pub(super) fn hear_later(&mut self, run: &mut Run, link: usize, side: Side, when: u64) {
        if let Some(line) = self.links[link].line.as_mut()
            && !std::mem::replace(&mut line.towards[side].read_is_due, true)
        {
            run.push(when.max(run.now), Wake::Hear(link, side));
        }
    }

    /// The reader of a substream has taken bytes, or will not have them.
    pub(super) fn release(
        &mut self,
        run: &mut Run,
        link: usize,
        at: usize,
        side: Side,
        len: usize,
    ) {
        if let Some(line) = self.links[link].line.as_mut()
            && let Some(id) = line.id_of(at)
            && let Some(mux) = line.ends[side].mux.as_mut()
        {
            mux.release(id, len);
            self.pump_later(run, link, side);
        }
    }

    /// The reader of a substream has all of it.
    pub(super) fn acknowledge_all(&mut self, run: &mut Run, link: usize, at: usize, reader: Side) {
        if let Some(line) = self.links[link].line.as_mut()
            && let Some(id) = line.id_of(at)
            && let Some(mux) = line.ends[reader].mux.as_mut()
        {
            mux.acknowledge(id);
            self.pump_later(run, link, reader);
        }
    }
}

impl Sessions<'_> {
    /// A session wants a substream.
    pub(super) fn open_on_line(&mut self, link: usize, at: usize) {
        let state = &mut self.net.links[link];
        let opener = state.pipes[at].opener;
        let Some((id, opened)) = state.open_on_line(at) else {
            // What is at this end is gone.
            return;
        };
        let (end, numbers) = ((link, opener), (id.as_u64(), 0));
        match opened {
            Ok(()) => {
                self.agreed(link, at);
                self.with_session(end, Kind::Opened, numbers, |session, now| {
                    session.handle_opened(now, id, None);
                });
            }
            // It is opened when the peer's hello arrives.
            Err(MuxError::NotReady) => {}
            Err(_) => {
                self.net.links[link].pipes[at].is_answered = true;
                self.with_session(end, Kind::OpenFailed, numbers, |session, now| {
                    session.handle_open_failed(now, id, OpenError::Failed);
                });
            }
        }
    }

    /// A session has something to write on a substream, or its end.
    pub(super) fn write_on_line(&mut self, link: usize, at: usize, side: Side) {
        self.lend_keys(link, side);
        let Link { line, pipes, ends, .. } = &mut self.net.links[link];
        let pipe = &mut pipes[at];
        let half = &mut pipe.halves[1 - side];
        (half.wants_write, half.write_is_due) = (false, false);
        if let Some(line) = line
            && let (Some(id), Some(mux)) = (line.id_of(at), line.ends[side].mux.as_mut())
            && let (Some(buffer), Some(session)) =
                (pipe.buffers[side].as_mut(), ends[side].session.as_mut())
        {
            let stream = pipe.stream.map(|stream| &self.run.streams[stream]);
            let queued = |session: &Session| stream.map_or((0, 0), |name| session.queued(name));
            let before = queued(session);
            let is_over = buffer.is_finishing() && buffer.chunk(session).is_none();
            let written = pipe.carried[side].takes(before, queued(session), self.run.now);
            if let Some(stream) = pipe.stream {
                ends[side].lanes[stream].writes(written, self.run.now);
            }
            if is_over {
                half.is_shut = true;
                mux.finish(id);
            } else {
                mux.want_write(id);
            }
            self.pump(link, side);
        }
    }

    /// A session gives a substream up.
    pub(super) fn reset_on_line(&mut self, link: usize, at: usize, side: Side, code: u32) {
        let Link { line, pipes, .. } = &mut self.net.links[link];
        let pipe = &mut pipes[at];
        if pipe.stage == Stage::Offered {
            pipe.stage = Stage::Dead;
        }
        pipe.halves[1 - side].is_shut = true;
        let inwards = &mut pipe.halves[side];
        (inwards.is_over, inwards.stopped) = (true, Some(self.run.now));
        inwards.drop_all();
        if let Some(line) = line {
            line.ends[side].opening.retain(|waiting| *waiting != at);
            if let (Some(id), Some(mux)) = (line.id_of(at), line.ends[side].mux.as_mut()) {
                mux.reset(id, code);
                self.net.pump_later(self.run, link, side);
            }
        }
    }

    /// A session is over: its mux says so. Returns whether there is one.
    pub(super) fn close_line(&mut self, link: usize, side: Side, code: u64) -> bool {
        let now = self.run.at();
        let line = self.net.links[link].line.as_mut();
        let Some(mux) = line.and_then(|line| line.ends[side].mux.as_mut()) else {
            return false;
        };
        mux.close(now, u32::try_from(code).unwrap_or(u32::MAX));
        self.net.pump_later(self.run, link, side);
        true
    }

    /// The pipe has broken at an end.
    pub(super) fn end_line(&mut self, link: usize, side: Side) {
        let now = self.run.at();
        let line = self.net.links[link].line.as_mut();
        if let Some(mux) = line.and_then(|line| line.ends[side].mux.as_mut())
            && mux.closed().is_none()
        {
            mux.handle_end(now);
        }
    }

    // ---- bytes --------------------------------------------------------------------------------

    /// Moves bytes from an end to the network, as far as the pipe has room.
    pub(super) fn pump(&mut self, link: usize, side: Side) {
        let host = self.net.links[link].ends[side].host;
        if let Some(out) = self.fill(link, side).filter(|out| !out.is_empty()) {
            self.run.note(host, link, Kind::Piped, (digest(&out), 0));
            self.net.put(self.run, link, Way::Line, side, out.freeze());
            self.check_seals(host);
            // A queue that has drained says so.
            self.run.touch_session(link, side);
        }
        self.tend_line(link, side);
    }

    /// Takes what an end has to write, as far as the pipe has room.
    fn fill(&mut self, link: usize, side: Side) -> Option<BytesMut> {
        self.lend_keys(link, side);
        let Link { line, pipes, ends, .. } = &mut self.net.links[link];
        let Line { ends: muxes, towards, substreams } = line.as_deref_mut()?;
        let (way, host) = (&mut towards[1 - side], ends[side].host);
        way.write_is_due = false;
        let room = self.run.plan.pipe_room().saturating_sub(way.in_flight);
        let (mux, mut out) = (muxes[side].mux.as_mut()?, BytesMut::new());
        while out.len() < room {
            mux.write_control(&mut out);
            let Some(id) = mux.next_writable() else {
                break;
            };
            let Some(pipe) = substreams.get(&id).and_then(|at| pipes.get_mut(*at)) else {
                continue;
            };
            let (Some(buffer), Some(session)) =
                (pipe.buffers[side].as_mut(), ends[side].session.as_mut())
            else {
                continue;
            };
            let stream = pipe.stream.map(|stream| &self.run.streams[stream]);
            let queued = |session: &Session| stream.map_or((0, 0), |name| session.queued(name));
            let before = queued(session);
            if let Some(chunk) = buffer.chunk(session) {
                let whole = chunk.clone();
                let taken = whole.slice(..mux.write(id, chunk, &mut out));
                let written = pipe.carried[side].takes(before, queued(session), self.run.now);
                if let Some(stream) = pipe.stream {
                    ends[side].lanes[stream].writes(written, self.run.now);
                }
                let numbers = (buffer.substream().as_u64(), digest(&taken));
                self.run.note(host, link, Kind::Write, numbers);
            } else if buffer.is_finishing() {
                pipe.halves[1 - side].is_shut = true;
                mux.finish(id);
            }
        }
        way.wants_write = out.len() >= room;
        Some(out)
    }

    /// Takes what has arrived on a pipe.
    pub(super) fn hear(&mut self, link: usize, side: Side) {
        self.lend_keys(link, side);
        let now = self.run.now;
        if let Some(line) = self.net.links[link].line.as_mut() {
            line.towards[side].read_is_due = false;
        }
        let [host, from] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        if let Some(until) = self.net.faults.stalled_until(from, host).filter(|at| *at > now) {
            return self.net.hear_later(self.run, link, side, until);
        }
        if self.net.links[link].ends[side].state == EndState::Arriving {
            return self.net.hear_later(self.run, link, side, now + NOT_YET);
        }
        let mut taken = 0;
        while let Some(bytes) = self.net.links[link].take_from_line(side, now) {
            taken += bytes.len();
            let mut input = &bytes[..];
            while let Some(event) = self.read_line(link, side, &mut input) {
                self.carry_out(link, side, event);
            }
            if self.run.kills[host].is_due {
                return;
            }
        }
        if let Some(line) = self.net.links[link].line.as_mut() {
            let way = &mut line.towards[side];
            let (next, has_room) = (way.next(), taken > 0 && way.wants_write);
            if has_room && !std::mem::replace(&mut way.write_is_due, true) {
                way.wants_write = false;
                self.net.send(self.run, link, Wake::Pump(link, 1 - side));
            }
            if let Some(next) = next {
                self.net.hear_later(self.run, link, side, next);
            }
        }
        self.tend_line(link, side);
    }

    fn read_line<'a>(
        &mut self,
        link: usize,
        side: Side,
        input: &mut &'a [u8],
    ) -> Option<Event<'a>> {
        let now = self.run.at();
        let end = &mut self.net.links[link].line.as_mut()?.ends[side];
        end.last_input = self.run.now;
        end.mux.as_mut()?.read(now, input)
    }

    fn carry_out(&mut self, link: usize, side: Side, event: Event<'_>) {
        let state = &mut self.net.links[link];
        match event {
            Event::Ready => {
                for at in state.take_opening(side) {
                    self.open_on_line(link, at);
                }
            }
            Event::Accepted { substream } => {
                if let Some(at) = state.substream_of(substream)
                    && self.accept(link, at, None)
                {
                    self.net.links[link].pipes[at].stage = Stage::Open;
                }
            }
            Event::Data { substream, bytes } => {
                if let Some(at) = state.substream_of(substream) {
                    state.pipes[at].halves[side].send(self.run.now, Bytes::copy_from_slice(bytes));
                    self.read(link, at, side);
                }
            }
            Event::Finished { substream } => {
                if let Some(at) = state.substream_of(substream) {
                    state.pipes[at].halves[side].fin = Some(self.run.now);
                    self.read(link, at, side);
                }
            }
            Event::Reset { substream, .. } => {
                if let Some(at) = state.substream_of(substream) {
                    self.was_reset(link, at, side);
                }
            }
            Event::Acknowledged { substream } => {
                if let Some(at) = state.substream_of(substream) {
                    state.pipes[at].halves[1 - side].is_acknowledged = true;
                    self.acknowledge(link, at, side);
                }
            }
        }
    }

    /// The peer has given a substream up: both halves are over.
    fn was_reset(&mut self, link: usize, at: usize, side: Side) {
        let now = Some(self.run.now);
        self.net.links[link].pipes[at].halves[side].reset = now;
        self.read(link, at, side);
        let outwards = &mut self.net.links[link].pipes[at].halves[1 - side];
        outwards.stopped = now;
        if !outwards.is_acknowledged {
            self.stopped(link, at, side);
        }
    }

    // ---- time, and the end --------------------------------------------------------------------

    pub(super) fn line_timer(&mut self, link: usize, side: Side) {
        let (now, moment) = (self.run.at(), self.run.now);
        if let Some(line) = self.net.links[link].line.as_mut()
            && let LineEnd { mux: Some(mux), timer, last_input, .. } = &mut line.ends[side]
            && *timer == Some(moment)
        {
            (*timer, *last_input) = (None, moment);
            mux.handle_timeout(now);
            self.tend_line(link, side);
        }
    }

    /// A mux has had an input: it may have something to write, to wait for, or have come to its end.
    fn tend_line(&mut self, link: usize, side: Side) {
        let now = self.run.now;
        let Link { line, ends, .. } = &mut self.net.links[link];
        if let Some(line) = line
            && let LineEnd { mux: Some(mux), timer, last_input, .. } = &mut line.ends[side]
        {
            if let Some(at) = mux.poll_timeout().map(Instant::as_micros) {
                let (host, told) = (ends[side].host, *last_input);
                self.run.checks.hold(Invariant::TimerAhead, (now, host), at > told, || {
                    (format!("the mux was told that it is {told}"), format!("it wakes at {at}"))
                });
                if timer.is_none_or(|timer| at < timer) {
                    *timer = Some(at.max(now));
                    self.run.push(at.max(now), Wake::Line(link, side));
                }
            }
            let (closed, is_open) = (mux.closed(), ends[side].state == EndState::Open);
            if mux.has_control() && !line.towards[1 - side].wants_write {
                self.net.pump_later(self.run, link, side);
            }
            if let Some(closed) = closed.filter(|_| is_open) {
                self.line_is_closed(link, side, closed);
            }
        }
    }

    /// A mux ends a session that goes on.
    fn line_is_closed(&mut self, link: usize, side: Side, closed: Closed) {
        let [end, other] = [side, 1 - side].map(|side| &self.net.links[link].ends[side]);
        let at = (self.run.now, end.host);
        let (peer, is_alive) =
            (other.host, matches!(other.state, EndState::Open | EndState::Arriving));
        self.run.checks.hold(
            Invariant::Blame,
            at,
            !matches!(closed, Closed::Misbehaved(_)),
            || (format!("{peer} keeps to the protocol"), format!("the mux says: {closed}")),
        );
        self.net.links[link].ends[side].loss = Some(match closed {
            Closed::Locally { .. } => ConnectionLost::ClosedLocally,
            Closed::ByPeer { code } => ConnectionLost::ClosedByPeer { code: u64::from(code) },
            Closed::TimedOut => ConnectionLost::TimedOut,
            _ => ConnectionLost::Reset,
        });
        self.lose(link, side);
        let other = &mut self.net.links[link].ends[1 - side];
        if is_alive && other.loss.is_none() && !matches!(closed, Closed::ByPeer { .. }) {
            // The pipe is not there any more for the peer, either.
            other.loss = Some(ConnectionLost::Reset);
            self.net.send(self.run, link, Wake::Lose(link, 1 - side));
        }
    }
}
