//! Driving a session: its inputs, its actions, its events, its end.

use glueberry_proto::handler::Notice;
use glueberry_proto::{
    Action, Closed, ConnectionLost, Event, Naming, PublicKey, Session, SubstreamBuffer, SubstreamId,
};

use super::{Wake, World};
use crate::check::Invariant;
use crate::link::{Pipe, Side, Stage, Standing};
use crate::model::Fate;
use crate::rng::u64_of;
use crate::situation::{IN_DOUBT, INTERRUPTED, STREAM_REFUSED, TWO_SUBSTREAMS, UNSENT};
use crate::trace::Kind;

impl World {
    /// Gives an input or a command to a session, if it is there.
    pub(super) fn with_session<T>(
        &mut self,
        (link, side): (usize, Side),
        what: Kind,
        numbers: (u64, u64),
        give: impl FnOnce(&mut Session, glueberry_proto::Instant) -> T,
    ) -> Option<T> {
        let now = self.at();
        let end = &mut self.links[link].ends[side];
        let given = give(end.session.as_mut()?, now);
        self.input_of_session((link, side), what, numbers);
        Some(given)
    }

    pub(super) fn drain_session(&mut self, link: usize, side: Side) {
        loop {
            let Some(session) = self.links[link].ends[side].session.as_mut() else {
                return;
            };
            if let Some(action) = session.poll_action() {
                self.session_action(link, side, action);
            } else if let Some(event) = session.poll_event() {
                self.session_event(link, side, event);
            } else {
                break;
            }
            if self.hosts[self.links[link].ends[side].host].is_doomed {
                return;
            }
        }
        let end = &self.links[link].ends[side];
        let (host, is_told) = (end.host, end.talk.is_closed);
        let is_over = end.session.as_ref().is_some_and(|session| session.is_closed());
        self.checks.hold(Invariant::OneClosed, (self.now, host), is_told || !is_over, || {
            ("the session is over".into(), "it has not told its end".into())
        });
        self.check_session(link, side);
        self.arm_session(link, side);
    }

    fn session_action(&mut self, link: usize, side: Side, action: Action) {
        let end = &mut self.links[link].ends[side];
        let (host, life) = (end.host, end.life);
        match action {
            Action::Forward(word) => {
                if let Some(id) = end.id {
                    let delay = self.word_delay(host);
                    let to = &mut self.hosts[host];
                    to.mail.push_back((id, word));
                    if !std::mem::replace(&mut to.mail_is_due, true) {
                        self.queue.push(self.now + delay, Wake::Mail(host, life));
                    }
                }
            }
            Action::CloseConnection { code } => {
                self.note(host, link, Kind::Close, (code, 0));
                if self.links[link].ends[side].standing == Standing::Open {
                    self.links[link].ends[side].standing = Standing::Closing;
                    self.hang_up(link, side, code);
                }
                self.retire_later(link, side);
            }
            // Nothing goes out on a connection that is closed or lost.
            _ if end.standing != Standing::Open => {}
            Action::OpenSubstream { substream, protocols } => {
                self.note(host, link, Kind::Open, (substream.as_u64(), 0));
                let pipe = self.links[link].pipes.len();
                self.links[link].pipes.push(Pipe::new(side, Some(substream), protocols));
                self.name_substream(link, side, substream, pipe);
                self.open(link, pipe);
            }
            Action::WantWrite(id) => self.want_write(link, side, id),
            Action::ResumeRead(id) => self.resume(link, side, id),
            Action::Finish(id) => {
                self.note(host, link, Kind::Finish, (id.as_u64(), 0));
                if let Some(pipe) = self.links[link].pipe_of(side, id)
                    && let Some(buffer) = self.links[link].pipes[pipe].buffers[side].as_mut()
                {
                    buffer.finish();
                    self.want_write(link, side, id);
                }
            }
            Action::Reset { substream, .. } => {
                self.note(host, link, Kind::Reset, (substream.as_u64(), 0));
                if let Some(pipe) = self.links[link].pipe_of(side, substream) {
                    self.reset(link, pipe, side);
                }
            }
            _ => {}
        }
    }

    pub(super) fn name_substream(&mut self, link: usize, side: Side, id: SubstreamId, pipe: usize) {
        let end = &mut self.links[link].ends[side];
        let (host, is_new) = (end.host, end.name(id, pipe));
        self.checks.hold(Invariant::OneId, (self.now, host), is_new, || {
            (format!("{id} is in use"), "it was given to another substream".into())
        });
    }

    fn want_write(&mut self, link: usize, side: Side, id: SubstreamId) {
        let Some(pipe) = self.links[link].pipe_of(side, id) else {
            return;
        };
        let half = &mut self.links[link].pipes[pipe].halves[1 - side];
        half.wants_write = true;
        if !half.is_shut && !std::mem::replace(&mut half.write_is_due, true) {
            self.queue.push(self.now, Wake::Write(link, pipe, side));
        }
    }

    fn resume(&mut self, link: usize, side: Side, id: SubstreamId) {
        let now = self.at();
        let Some(at) = self.links[link].pipe_of(side, id) else {
            return;
        };
        let link_state = &mut self.links[link];
        let end = &mut link_state.ends[side];
        let (Some(session), Some(buffer)) =
            (end.session.as_mut(), link_state.pipes[at].buffers[side].as_mut())
        else {
            return;
        };
        buffer.resume(session, now);
        self.input_of_session((link, side), Kind::Data, (id.as_u64(), 0));
        self.read_later(link, at, side, self.now);
    }

    fn session_event(&mut self, link: usize, side: Side, event: Event) {
        let end = &self.links[link].ends[side];
        let (host, was_closed) = (end.host, end.talk.is_closed);
        self.note(host, link, Kind::Event, (event_number(&event), 0));
        self.checks.hold(Invariant::OneClosed, (self.now, host), !was_closed, || {
            ("the session has told its end".into(), format!("then it told {event:?}"))
        });
        match event {
            Event::Closed(closed) => self.session_closed(link, side, &closed),
            Event::HandshakeReadable => self.hear(link, side),
            Event::Established => self.established(link, side),
            Event::Readable { stream } => self.readable(link, side, &stream),
            Event::Writable { stream } => {
                self.unpark(link, side);
                self.tell_session((link, side), |peer| Notice::Writable { peer, stream });
            }
            Event::RecordRejected { stream, error } => {
                self.check_rejected(link, side, &stream, error);
            }
            Event::StreamInterrupted { stream, in_doubt } => {
                self.reach(Some(INTERRUPTED));
                self.check_untouched(link, side, &|| {
                    format!("stream {stream} was interrupted with {in_doubt} messages in doubt")
                });
                self.unpark(link, side);
                self.tell_session((link, side), |peer| Notice::Interrupted {
                    peer,
                    stream,
                    in_doubt,
                });
            }
            Event::StreamRefused { stream, unsent } => {
                self.reach(Some(STREAM_REFUSED));
                self.check_untouched(link, side, &|| {
                    format!("stream {stream} was refused with {unsent} messages unsent")
                });
                let count = self.take_unsent(link, side);
                let (now, taken) = (self.now, &mut self.links[link].ends[side].taken_back);
                *taken = (now, if taken.0 == now { taken.1 + count } else { count });
                self.unpark(link, side);
            }
            Event::StreamNotPrepared { stream } => {
                self.check_untouched(link, side, &|| format!("stream {stream} was not prepared"));
            }
            _ => {}
        }
    }

    /// Tells the program of a host something about one of its sessions.
    fn tell_session(
        &mut self,
        (link, side): (usize, Side),
        notice: impl FnOnce(PublicKey) -> Notice,
    ) {
        if self.runs_programs() {
            let ends = &self.links[link].ends;
            let (host, peer) = (ends[side].host, self.hosts[ends[1 - side].host].key);
            self.tell_program(host, notice(peer));
        }
    }

    fn session_closed(&mut self, link: usize, side: Side, closed: &Closed) {
        let host = self.links[link].ends[side].host;
        self.note(host, link, Kind::Closed, (u64_of(closed.unsent), closed.in_doubt));
        self.reach((closed.unsent > 0).then_some(UNSENT));
        self.reach((closed.in_doubt > 0).then_some(IN_DOUBT));
        let mut given_back = self.take_unsent(link, side);
        // The end may have come before the application took note of a refusal.
        let (at, before) = self.links[link].ends[side].taken_back;
        if at == self.now && closed.unsent > given_back {
            given_back += before;
        }
        let end = &mut self.links[link].ends[side];
        end.talk.is_closed = true;
        end.closed = Some((closed.unsent, closed.in_doubt));
        let said = end.talk.said;
        // Some were perhaps said on another session first, and carried over.
        let is_counted = (given_back..=given_back + said + CARRIED).contains(&closed.unsent);
        self.checks.hold(Invariant::Accounted, (self.now, host), is_counted, || {
            (
                format!("the end tells of {} unsent messages", closed.unsent),
                format!("{given_back} were given back, and {said} were said in the handshake"),
            )
        });
        self.check_close_reason(link, side, &closed.reason);
        let closed = closed.clone();
        self.tell_session((link, side), |peer| Notice::Closed { peer, closed });
        self.retire_later(link, side);
    }

    /// Takes back what was never sent; returns how many messages that are.
    fn take_unsent(&mut self, link: usize, side: Side) -> usize {
        let mut count = 0;
        for stream in 0..self.streams.len() {
            let end = &mut self.links[link].ends[side];
            let host = end.host;
            let Some(session) = end.session.as_mut() else {
                return count;
            };
            for message in session.take_unsent(&self.streams[stream]) {
                count += 1;
                self.links[link].ends[side].lanes[stream].unsent += 1;
                if self.runs_programs() {
                    continue;
                }
                let found = self.model.find(&message).filter(|(_, sent)| {
                    sent.link == link && sent.side == side && sent.fate == Fate::Accepted
                });
                self.checks.hold(Invariant::UnsentStays, (self.now, host), found.is_some(), || {
                    let sent = self.model.find(&message);
                    ("a message was given back as unsent".into(), format!("it is {sent:?}"))
                });
                if let Some((number, _)) = found {
                    self.model.set(number, Fate::Unsent);
                }
            }
        }
        count
    }

    pub(super) fn arm_session(&mut self, link: usize, side: Side) {
        let end = &mut self.links[link].ends[side];
        let host = end.host;
        let Some(next) = end.session.as_ref().and_then(|session| session.poll_timeout()) else {
            return;
        };
        let (now, told, next) = (self.now, end.told_at, next.as_micros());
        self.checks.hold(Invariant::TimerAhead, (now, host), next > told, || {
            (
                format!("the session was told that it is {told}"),
                format!("it wants to wake at {next}"),
            )
        });
        let at = next.max(now);
        if end.timer.is_none_or(|timer| at < timer) {
            end.timer = Some(at);
            self.queue.push(at, Wake::Session(link, side));
        }
    }

    pub(super) fn session_timer(&mut self, link: usize, side: Side) {
        let now = self.at();
        let end = &mut self.links[link].ends[side];
        if end.timer != Some(self.now) {
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
        session.handle_timeout(now);
        let is_again = session.poll_timeout().is_some_and(|at| at <= now);
        end.idle_wakes = if is_again { end.idle_wakes + 1 } else { 0 };
        let wakes = end.idle_wakes;
        self.checks.hold(Invariant::NoStorm, (self.now, host), wakes < 3, || {
            (format!("the session was woken {wakes} times in a row"), "it wants to be again".into())
        });
        self.input_of_session((link, side), Kind::SessionTimer, (0, 0));
    }

    /// Hands a session the words of its node that are there.
    pub(super) fn read_words(&mut self, link: usize, side: Side) {
        self.links[link].ends[side].mail_is_due = false;
        while let Some(word) = self.links[link].ends[side].mail.pop_front() {
            let given = self.with_session((link, side), Kind::NodeWord, (0, 0), |session, now| {
                session.handle_node_message(now, word);
            });
            if given.is_none() {
                return;
            }
        }
    }

    /// Tells a session that its connection is gone.
    pub(super) fn lose(&mut self, link: usize, side: Side) {
        let end = &mut self.links[link].ends[side];
        let host = end.host;
        match end.standing {
            Standing::Arriving if end.origin.is_some() => {
                // It arrives first.
                return self.queue.push(self.now + ARRIVES_SOON, Wake::Lose(link, side));
            }
            Standing::Arriving | Standing::Gone | Standing::Lost => return,
            Standing::Open | Standing::Closing => {}
        }
        let why = end.loss.take().unwrap_or(ConnectionLost::TimedOut);
        let is_closing = end.standing == Standing::Closing;
        end.standing = Standing::Lost;
        if self.hosts[host].is_rogue {
            return self.retire(link, side);
        }
        self.with_session((link, side), Kind::Lost, (0, 0), |session, now| {
            session.handle_connection_lost(now, why);
        });
        let end = &self.links[link].ends[side];
        let is_over = end.session.as_ref().is_none_or(|session| session.is_closed());
        self.checks.hold(Invariant::DeadIsNoticed, (self.now, host), is_over, || {
            ("the connection is lost and the session was told".into(), "it is not over".into())
        });
        if is_closing {
            self.retire_later(link, side);
        }
    }

    /// Drops a session that is over once nothing more can come of it.
    pub(super) fn retire_later(&mut self, link: usize, side: Side) {
        let end = &self.links[link].ends[side];
        if end.talk.is_closed && end.standing != Standing::Gone {
            let linger = self.links[link].rng.below(4 * self.plan.net.delay + 1);
            self.queue.push(self.now + linger, Wake::Retire(link, side));
        }
    }

    pub(super) fn retire(&mut self, link: usize, side: Side) {
        let end = &self.links[link].ends[side];
        if matches!(end.standing, Standing::Gone | Standing::Arriving) {
            return;
        }
        if !self.hosts[end.host].is_rogue {
            if end.standing == Standing::Open {
                return;
            }
            self.take_all(link, side);
        }
        let end = &mut self.links[link].ends[side];
        end.standing = Standing::Gone;
        end.session = None;
        end.mail.clear();
        if let Some(id) = end.id {
            let host = end.host;
            self.hosts[host].links.remove(&id);
        }
        self.link_over(link);
    }

    /// Frees a connection that has nobody at either end.
    pub(super) fn link_over(&mut self, link: usize) {
        let is_over = self.links[link].ends.iter().all(|end| end.standing == Standing::Gone);
        if is_over && !self.links[link].is_over {
            self.check_accounts(link);
            self.links[link].clear();
        }
    }

    /// Makes the acceptor's end of a substream.
    pub(super) fn accept(
        &mut self,
        link: usize,
        pipe: usize,
        protocol: Option<glueberry_proto::ProtocolId>,
    ) -> bool {
        let side = 1 - self.links[link].pipes[pipe].opener;
        debug_assert!(self.links[link].naming == Naming::Negotiated || protocol.is_none());
        let given = self.with_session((link, side), Kind::Accepted, (u64_of(pipe), 0), {
            |session, now| session.handle_accepted(now, protocol.clone())
        });
        let Some(id) = given else {
            return false;
        };
        self.name_substream(link, side, id, pipe);
        let state = &mut self.links[link];
        let is_twin = |other: &Pipe| {
            let is_live = matches!(other.stage, Stage::Accepted | Stage::Open);
            is_live && other.opener == side && other.agreed == state.pipes[pipe].agreed
        };
        let has_twin = protocol.is_some() && state.pipes.iter().any(is_twin);
        let pipe = &mut state.pipes[pipe];
        pipe.buffers[side] = Some(SubstreamBuffer::new(id));
        pipe.stage = Stage::Accepted;
        self.reach(has_twin.then_some(TWO_SUBSTREAMS));
        true
    }
}

/// Returns the number that stands for an event in notes.
pub(crate) const fn event_number(event: &Event) -> u64 {
    match event {
        Event::HandshakeReadable => 0,
        Event::Established => 1,
        Event::Readable { .. } => 2,
        Event::Writable { .. } => 3,
        Event::RecordRejected { .. } => 4,
        Event::StreamInterrupted { .. } => 5,
        Event::StreamRefused { .. } => 6,
        Event::StreamNotPrepared { .. } => 7,
        Event::Closed(_) => 8,
        _ => 9,
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
        _ => "an unknown event",
    }
}

/// Handshake messages that may have come from another session of the same peer.
const CARRIED: usize = 16;
/// Microseconds until it is asked again whether a connection has arrived.
const ARRIVES_SOON: u64 = 1_000;
