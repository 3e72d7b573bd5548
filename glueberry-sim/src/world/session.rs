//! Driving a session: its inputs, its actions, its events, its end.

use glueberry_proto::{
    Action, ConnectionLost, Event, Naming, ProtocolId, Session, SubstreamBuffer, SubstreamId,
};

use super::hosts::Hosts;
use super::lane_checks::owner;
use super::network::Network;
use crate::check::Invariant;
use crate::link::{EndState, Pipe, Stage};
use crate::rng::u64_of;
use crate::run::Run;
use crate::situation::{BEHIND_ANOTHER, TWO_SUBSTREAMS};
use crate::trace::Kind;
use crate::wake::{Side, Wake};

/// What drives sessions: their inputs and actions, over the network.
#[derive(Debug)]
pub(crate) struct Sessions<'a> {
    pub(super) run: &'a mut Run,
    pub(super) net: &'a mut Network,
    /// Where messages to the node of a session go.
    pub(super) hosts: &'a mut Hosts,
}

impl Sessions<'_> {
    /// Counts and notes an input to a session, whose outputs are looked at then.
    pub(super) fn input_of_session(
        &mut self,
        (link, side): (usize, Side),
        what: Kind,
        numbers: (u64, u64),
    ) {
        let end = &mut self.net.links[link].ends[side];
        end.last_input = self.run.now;
        let host = end.host;
        self.run.input(host, link, what, numbers);
        self.run.touch_session(link, side);
    }

    /// Gives an input or a command to a session, if it is there.
    pub(super) fn with_session<T>(
        &mut self,
        (link, side): (usize, Side),
        what: Kind,
        numbers: (u64, u64),
        give: impl FnOnce(&mut Session, glueberry_proto::Instant) -> T,
    ) -> Option<T> {
        let now = self.run.at();
        self.lend_keys(link, side);
        let end = &mut self.net.links[link].ends[side];
        let given = give(end.session.as_mut()?, now);
        self.input_of_session((link, side), what, numbers);
        Some(given)
    }

    /// Keys that are made from now on are those of an end.
    pub(super) fn lend_keys(&self, link: usize, side: Side) {
        self.run.witness.look(|seen| seen.owner = owner(link, side));
    }

    pub(super) fn session_action(&mut self, link: usize, side: Side, action: Action) {
        let end = &mut self.net.links[link].ends[side];
        let (host, life) = (end.host, end.life);
        match action {
            Action::Forward(word) => {
                if let Some(id) = end.id {
                    let delay = self.hosts[host].message_delay(&self.run.plan.net);
                    let to = &mut self.hosts[host];
                    to.inbox.push_back((id, word));
                    if !std::mem::replace(&mut to.inbox_is_due, true) {
                        self.run.push(self.run.now + delay, Wake::Mail(host, life));
                    }
                }
            }
            Action::CloseConnection { code } => {
                self.run.note(host, link, Kind::Close, (code, 0));
                if self.net.links[link].ends[side].state == EndState::Open {
                    self.net.links[link].ends[side].state = EndState::Closing;
                    if !self.close_line(link, side, code) {
                        self.net.hang_up(self.run, link, side, code);
                    }
                }
                self.retire_later(link, side);
            }
            // Nothing goes out on a connection that is closed or lost.
            _ if end.state != EndState::Open => {}
            Action::OpenSubstream { substream, protocols } => {
                self.run.note(host, link, Kind::Open, (substream.as_u64(), 0));
                let pipe = self.net.links[link].pipes.len();
                let stream = self.proposed(link, side, &protocols);
                let opened_at = self.run.now;
                let opened =
                    Pipe { stream, opened_at, ..Pipe::new(side, Some(substream), protocols) };
                self.net.links[link].pipes.push(opened);
                self.net.links[link].ends[side].unanswered.push(pipe);
                self.name_substream(link, side, substream, pipe);
                self.open(link, pipe);
            }
            Action::WantWrite(id) => self.want_write(link, side, id),
            Action::ResumeRead(id) => self.resume(link, side, id),
            Action::Finish(id) => {
                self.run.note(host, link, Kind::Finish, (id.as_u64(), 0));
                if let Some(pipe) = self.net.links[link].pipe_of(side, id)
                    && let Some(buffer) = self.net.links[link].pipes[pipe].buffers[side].as_mut()
                {
                    buffer.finish();
                    self.want_write(link, side, id);
                }
            }
            Action::Reset { substream, code } => {
                self.run.note(host, link, Kind::Reset, (substream.as_u64(), 0));
                if let Some(pipe) = self.net.links[link].pipe_of(side, substream) {
                    self.reset(link, pipe, side, code.as_u32());
                }
            }
        }
    }

    fn reset(&mut self, link: usize, pipe: usize, side: Side, code: u32) {
        match self.net.links[link].line {
            Some(_) => self.reset_on_line(link, pipe, side, code),
            None => self.net.reset(self.run, link, pipe, side),
        }
    }

    /// Returns the stream that a substream is proposed for, and counts the attempt.
    fn proposed(&mut self, link: usize, side: Side, protocols: &[ProtocolId]) -> Option<usize> {
        let Some(ProtocolId::Stream { name, .. }) = protocols.first() else {
            return None;
        };
        let stream = self.run.streams.iter().position(|one| one == name)?;
        self.check_patience(link, side, stream);
        self.net.links[link].ends[side].lanes[stream].attempts += 1;
        Some(stream)
    }

    /// A substream that an end has proposed is agreed.
    pub(super) fn agreed(&mut self, link: usize, at: usize) {
        self.net.links[link].pipes[at].is_answered = true;
        let Pipe { opener, stream, ref halves, .. } = self.net.links[link].pipes[at];
        // A name in a preamble is not answered.
        let is_negotiated = self.net.links[link].naming == Naming::Negotiated;
        // A peer that was refused before the answer came has given it up.
        let is_answered = is_negotiated && !halves[1 - opener].is_shut;
        if let Some(stream) = stream.filter(|_| is_answered) {
            let lane = &mut self.net.links[link].ends[opener].lanes[stream];
            (lane.attempts, lane.was_agreed) = (0, true);
        }
    }

    pub(super) fn name_substream(&mut self, link: usize, side: Side, id: SubstreamId, pipe: usize) {
        let end = &mut self.net.links[link].ends[side];
        let (host, is_new) = (end.host, end.name(id, pipe));
        self.run.checks.hold(Invariant::OneId, (self.run.now, host), is_new, || {
            (format!("{id} is in use"), "it was given to another substream".into())
        });
    }

    fn want_write(&mut self, link: usize, side: Side, id: SubstreamId) {
        let Some(pipe) = self.net.links[link].pipe_of(side, id) else {
            return;
        };
        let half = &mut self.net.links[link].pipes[pipe].halves[1 - side];
        half.wants_write = true;
        if !half.is_shut && !std::mem::replace(&mut half.write_is_due, true) {
            self.run.push(self.run.now, Wake::Write(link, pipe, side));
        }
    }

    fn resume(&mut self, link: usize, side: Side, id: SubstreamId) {
        let now = self.run.at();
        let Some(at) = self.net.links[link].pipe_of(side, id) else {
            return;
        };
        let link_state = &mut self.net.links[link];
        let end = &mut link_state.ends[side];
        let (Some(session), Some(buffer)) =
            (end.session.as_mut(), link_state.pipes[at].buffers[side].as_mut())
        else {
            return;
        };
        self.run.witness.look(|seen| seen.owner = owner(link, side));
        buffer.resume(session, now);
        self.input_of_session((link, side), Kind::Data, (id.as_u64(), 0));
        self.net.read_later(self.run, link, at, side, self.run.now);
    }

    pub(super) fn arm_session(&mut self, link: usize, side: Side) {
        let end = &mut self.net.links[link].ends[side];
        let host = end.host;
        let Some(next) = end.session.as_ref().and_then(|session| session.poll_timeout()) else {
            return;
        };
        let (now, reported, next) = (self.run.now, end.last_input, next.as_micros());
        self.run.checks.hold(Invariant::TimerAhead, (now, host), next > reported, || {
            (
                format!("the session was told that it is {reported}"),
                format!("it wants to wake at {next}"),
            )
        });
        let at = next.max(now);
        if end.timer.is_none_or(|timer| at < timer) {
            end.timer = Some(at);
            self.run.push(at, Wake::Session(link, side));
        }
    }

    pub(super) fn session_timer(&mut self, link: usize, side: Side) {
        let now = self.run.at();
        let end = &mut self.net.links[link].ends[side];
        if end.timer != Some(self.run.now) {
            return;
        }
        end.timer = None;
        let host = end.host;
        let Some(session) = end.session.as_mut() else {
            return;
        };
        if session.poll_timeout().is_none_or(|at| at > now) {
            return self.arm_session(link, side);
        }
        self.run.witness.look(|seen| seen.owner = owner(link, side));
        session.handle_timeout(now);
        let is_again = session.poll_timeout().is_some_and(|at| at <= now);
        end.idle_wakes = if is_again { end.idle_wakes + 1 } else { 0 };
        let wakes = end.idle_wakes;
        self.run.checks.hold(Invariant::NoBusyLoop, (self.run.now, host), wakes < 3, || {
            (format!("the session was woken {wakes} times in a row"), "it wants to be again".into())
        });
        self.input_of_session((link, side), Kind::SessionTimer, (0, 0));
    }

    /// Hands a session the messages of its node that have arrived.
    pub(super) fn read_session_inbox(&mut self, link: usize, side: Side) {
        self.net.links[link].ends[side].inbox_is_due = false;
        while let Some(word) = self.net.links[link].ends[side].inbox.pop_front() {
            let given =
                self.with_session((link, side), Kind::NodeMessage, (0, 0), |session, now| {
                    session.handle_node_message(now, word);
                });
            if given.is_none() {
                return;
            }
            let end = &mut self.net.links[link].ends[side];
            let is_granted = end.session.as_ref().is_some_and(|one| one.is_granted());
            end.progress.was_granted |= is_granted && !end.progress.is_closed;
            let since = end.progress.granted_at.unwrap_or(self.run.now);
            end.progress.granted_at = is_granted.then_some(since);
        }
    }

    /// Reports to a session that its connection is gone.
    pub(super) fn lose(&mut self, link: usize, side: Side) {
        let end = &mut self.net.links[link].ends[side];
        let host = end.host;
        match end.state {
            EndState::Arriving if end.origin.is_some() => {
                // It arrives first.
                return self.run.push(self.run.now + ARRIVES_SOON, Wake::Lose(link, side));
            }
            EndState::Arriving | EndState::Gone | EndState::Lost => return,
            EndState::Open | EndState::Closing => {}
        }
        let why = end.loss.take().unwrap_or(ConnectionLost::TimedOut);
        let is_closing = end.state == EndState::Closing;
        end.state = EndState::Lost;
        self.end_line(link, side);
        if self.run.is_adversary(host) {
            return self.drop_end(link, side);
        }
        self.with_session((link, side), Kind::Lost, (0, 0), |session, now| {
            session.handle_connection_lost(now, why);
        });
        let end = &self.net.links[link].ends[side];
        let is_over = end.session.as_ref().is_none_or(|session| session.is_closed());
        self.run.checks.hold(Invariant::DeadIsNoticed, (self.run.now, host), is_over, || {
            ("the connection is lost and the session was told".into(), "it is not over".into())
        });
        if is_closing {
            self.retire_later(link, side);
        }
    }

    /// Drops a session that is over once nothing more can come of it.
    pub(super) fn retire_later(&mut self, link: usize, side: Side) {
        let end = &self.net.links[link].ends[side];
        if end.progress.is_closed && end.state != EndState::Gone {
            let linger = self.net.links[link].rng.below(4 * self.run.plan.net.delay + 1);
            self.run.push(self.run.now + linger, Wake::Retire(link, side));
        }
    }

    /// Nothing is at an end of a connection any more.
    pub(super) fn drop_end(&mut self, link: usize, side: Side) {
        let end = &mut self.net.links[link].ends[side];
        end.state = EndState::Gone;
        end.session = None;
        end.inbox.clear();
        if let Some(id) = end.id {
            let host = end.host;
            self.hosts[host].links.remove(&id);
        }
        self.net.link_over(self.run, link);
    }

    /// Makes the acceptor's end of a substream.
    pub(super) fn accept(
        &mut self,
        link: usize,
        pipe: usize,
        protocol: Option<ProtocolId>,
    ) -> bool {
        let side = 1 - self.net.links[link].pipes[pipe].opener;
        debug_assert!(self.net.links[link].naming == Naming::Negotiated || protocol.is_none());
        let given = self.with_session((link, side), Kind::Accepted, (u64_of(pipe), 0), {
            |session, now| session.handle_accepted(now, protocol.clone())
        });
        let Some(id) = given else {
            return false;
        };
        self.name_substream(link, side, id, pipe);
        let state = &mut self.net.links[link];
        let is_twin = |other: &Pipe| {
            let is_live = matches!(other.stage, Stage::Accepted | Stage::Open);
            is_live && other.opener == side && other.agreed == state.pipes[pipe].agreed
        };
        let has_twin = protocol.is_some() && state.pipes.iter().any(is_twin);
        let is_elder = |(other, it): (usize, &Pipe)| {
            let is_read = it.stage == Stage::Open && !it.halves[side].is_over;
            other != pipe && it.opener != side && is_read && it.stream == state.pipes[pipe].stream
        };
        let has_elder =
            state.pipes[pipe].stream.is_some() && state.pipes.iter().enumerate().any(is_elder);
        let pipe = &mut state.pipes[pipe];
        pipe.buffers[side] = Some(SubstreamBuffer::new(id));
        pipe.stage = Stage::Accepted;
        self.run.reach(has_twin.then_some(TWO_SUBSTREAMS));
        self.run.reach(has_elder.then_some(BEHIND_ANOTHER));
        true
    }
}

/// Returns the number that stands for an event in notes.
pub(crate) const fn event_number(event: &Event) -> u64 {
    match event {
        Event::HandshakeReadable => 0,
        Event::Established(_) => 1,
        Event::Readable { .. } => 2,
        Event::Writable { .. } => 3,
        Event::RecordRejected { .. } => 4,
        Event::StreamInterrupted { .. } => 5,
        Event::StreamRefused { .. } => 6,
        Event::StreamNotPrepared { .. } => 7,
        Event::Closed(_) => 8,
        Event::StreamTruncated { .. } => 9,
        Event::MessagesLost { .. } => 10,
        _ => 11,
    }
}

/// Returns the name of the event that a number stands for.
pub(crate) const fn event_name(number: u64) -> &'static str {
    match number {
        0 => "HandshakeReadable",
        1 => "Established",
        2 => "Readable",
        3 => "Writable",
        4 => "RecordRejected",
        5 => "StreamInterrupted",
        6 => "StreamRefused",
        7 => "StreamNotPrepared",
        8 => "Closed",
        9 => "StreamTruncated",
        10 => "MessagesLost",
        _ => "an unknown event",
    }
}

/// Microseconds until it is asked again whether a connection has arrived.
const ARRIVES_SOON: u64 = 1_000;
