//! What sessions report to their applications.

use glueberry_proto::handler::Notice;
use glueberry_proto::{Closed, Event, Profile, PublicKey, StreamName};

use super::app::Application;
use super::session::event_number;
use crate::check::Invariant;
use crate::model::Fate;
use crate::rng::u64_of;
use crate::situation::{IN_DOUBT, INTERRUPTED, STREAM_REFUSED, UNSENT};
use crate::trace::Kind;
use crate::wake::Side;

impl Application<'_> {
    pub(super) fn session_event(&mut self, link: usize, side: Side, event: Event) {
        let end = &self.net.links[link].ends[side];
        let (host, was_closed) = (end.host, end.progress.is_closed);
        self.run.note(host, link, Kind::Event, (event_number(&event), 0));
        self.run.checks.hold(Invariant::OneClosed, (self.run.now, host), !was_closed, || {
            ("the session has told its end".into(), format!("then it told {event:?}"))
        });
        match event {
            Event::Closed(closed) => self.session_closed(link, side, &closed),
            Event::HandshakeReadable => self.hear(link, side),
            Event::Established(_) => self.established(link, side),
            Event::Readable { stream } => self.readable(link, side, &stream),
            Event::Writable { stream } => {
                if let Some(at) = self.stream_at(&stream) {
                    self.sessions().check_writable((link, side), at);
                }
                self.resume_flows(link, side);
                self.notify_program_of((link, side), |peer| Notice::Writable { peer, stream });
            }
            Event::RecordRejected { stream, error } => {
                self.sessions().check_rejected(link, side, &stream, error);
            }
            Event::StreamInterrupted { stream, in_doubt } => {
                self.run.reach(Some(INTERRUPTED));
                if let Some(at) = self.stream_at(&stream) {
                    self.sessions().check_interrupted((link, side), at, in_doubt);
                }
                if !self.may_be_refused(link, side, &stream) {
                    self.sessions().check_loss((link, side), &|| {
                        format!("stream {stream} was interrupted with {in_doubt} in doubt")
                    });
                }
                self.resume_flows(link, side);
                self.notify_program_of((link, side), |peer| Notice::Interrupted {
                    peer,
                    stream,
                    in_doubt,
                });
            }
            Event::StreamRefused { stream, unsent } => {
                self.run.reach(Some(STREAM_REFUSED));
                let may_be_refused = self.may_be_refused(link, side, &stream);
                if let Some(at) = self.stream_at(&stream) {
                    self.sessions().check_given_up((link, side), at);
                }
                if !may_be_refused {
                    self.sessions().check_untouched(link, side, &|| {
                        format!("stream {stream} was refused with {unsent} messages unsent")
                    });
                }
                let count = self.take_unsent(link, side);
                let (now, taken) = (self.run.now, &mut self.net.links[link].ends[side].taken_back);
                *taken = (now, if taken.0 == now { taken.1 + count } else { count });
                self.resume_flows(link, side);
            }
            Event::StreamTruncated { stream } => {
                self.sessions()
                    .check_loss((link, side), &|| format!("stream {stream} was truncated"));
            }
            Event::MessagesLost { stream, messages } => {
                self.sessions().check_loss((link, side), &|| {
                    format!("{messages} messages of stream {stream} were given up")
                });
            }
            Event::StreamNotPrepared { stream } => {
                let host = self.net.links[link].ends[side].host;
                let skips = self.stream_at(&stream).is_some_and(|at| self.run.skips(host, at));
                if !skips {
                    self.sessions().check_untouched(link, side, &|| {
                        format!("stream {stream} was not prepared")
                    });
                }
            }
            _ => {}
        }
    }

    fn stream_at(&self, stream: &StreamName) -> Option<usize> {
        self.run.streams.iter().position(|name| name == stream)
    }

    /// Returns whether the peer has a reason to refuse a stream: its application has not prepared
    /// it yet, or never does.
    fn may_be_refused(&self, link: usize, side: Side, stream: &StreamName) -> bool {
        let [end, other] = [side, 1 - side].map(|side| &self.net.links[link].ends[side]);
        let least = self.run.plan.limits.more.stream_attempts;
        let is_excused = |at: usize| {
            let lane = &end.lanes[at];
            // All attempts may have come before.
            self.run.skips(other.host, at) || (!lane.was_agreed && lane.attempts >= least)
        };
        // In Go's profile the end of the peer's half does not tell whether it has prepared, and a
        // refusal behind it is final.
        let is_go = end.session.as_ref().and_then(|one| one.profile()) == Some(Profile::V1Go);
        let crossing = if is_go { 2 * self.run.plan.longest_delay() } else { 0 };
        let was_prepared =
            other.progress.prepared_at.is_some_and(|at| at + crossing <= self.run.now);
        self.stream_at(stream).is_some_and(is_excused) || !was_prepared
    }

    /// Reports to the program of a host something about one of its sessions.
    fn notify_program_of(
        &mut self,
        (link, side): (usize, Side),
        notice: impl FnOnce(PublicKey) -> Notice,
    ) {
        if self.runs_programs() {
            let ends = &self.net.links[link].ends;
            let (host, peer) = (ends[side].host, self.hosts[ends[1 - side].host].key);
            self.notify_program(host, notice(peer));
        }
    }

    fn session_closed(&mut self, link: usize, side: Side, closed: &Closed) {
        let host = self.net.links[link].ends[side].host;
        self.run.note(host, link, Kind::Closed, (u64_of(closed.unsent), closed.in_doubt));
        self.run.reach((closed.unsent > 0).then_some(UNSENT));
        self.run.reach((closed.in_doubt > 0).then_some(IN_DOUBT));
        let left = self.take_unsent(link, side);
        let mut given_back = left;
        // The end may have come before the application took note of a refusal.
        let (at, before) = self.net.links[link].ends[side].taken_back;
        if at == self.run.now && closed.unsent > given_back {
            given_back += before;
        }
        let end = &mut self.net.links[link].ends[side];
        end.progress.is_closed = true;
        end.closed_at = Some(self.run.now);
        end.closed = Some((closed.in_doubt, closed.not_received));
        end.speaks_v2 = end.session.as_ref().is_some_and(|one| one.profile() == Some(Profile::V2));
        let handshakes_sent = end.progress.handshakes_sent;
        let words = self.most_unsent_words(link, side);
        let is_counted = (given_back..=given_back + words).contains(&closed.unsent);
        self.run.checks.hold(Invariant::Accounted, (self.run.now, host), is_counted, || {
            (
                format!("the end tells of {} unsent messages", closed.unsent),
                format!(
                    "{given_back} were given back, {handshakes_sent} were said in the handshake, and \
                     {words} of these may be unsent"
                ),
            )
        });
        self.sessions().check_close_reason(link, side, &closed.reason);
        self.sessions().check_superseded(link, side, &closed.reason);
        self.sessions().check_goodbye(link, side, closed);
        self.sessions().check_closed(link, side, closed, left);
        let closed = closed.clone();
        self.notify_program_of((link, side), |peer| Notice::Closed { peer, closed });
        self.sessions().retire_later(link, side);
    }

    /// Takes back what was never sent; returns how many messages that are.
    fn take_unsent(&mut self, link: usize, side: Side) -> usize {
        let mut count = 0;
        for stream in 0..self.run.streams.len() {
            let end = &mut self.net.links[link].ends[side];
            let host = end.host;
            let Some(session) = end.session.as_mut() else {
                return count;
            };
            for message in session.take_unsent(&self.run.streams[stream]) {
                count += 1;
                self.net.links[link].ends[side].lanes[stream].unsent += 1;
                if self.runs_programs() {
                    continue;
                }
                let found = self.model.find(&message).filter(|(_, sent)| {
                    sent.link == link && sent.side == side && sent.fate == Fate::Accepted
                });
                self.run.checks.hold(
                    Invariant::UnsentStays,
                    (self.run.now, host),
                    found.is_some(),
                    || {
                        let sent = self.model.find(&message);
                        ("a message was given back as unsent".into(), format!("it is {sent:?}"))
                    },
                );
                if let Some((number, _)) = found {
                    self.model.set(number, Fate::Unsent);
                }
            }
        }
        count
    }

    /// A session delivers what an adversary has sealed: once, and nothing that somebody else has.
    pub(super) fn check_adversary_message(&mut self, link: usize, side: Side, text: &[u8]) {
        let end = &self.net.links[link].ends[side];
        let (host, own) = (end.host, self.model.find(text).map(|(_, sent)| sent));
        // In version 1 a session knows its own records by their nonces, and remembers so many: what
        // it has sealed since this one is no more than it has accepted on all of its streams.
        let accepted: u64 = end.lanes.iter().map(|lane| lane.accepted).sum();
        let is_forgotten = own.is_some_and(|sent| {
            (sent.link, sent.side) == (link, side) && accepted > sent.place + REMEMBERED
        });
        let is_right = own.is_none() || is_forgotten;
        self.run.checks.hold(Invariant::NoGhost, (self.run.now, host), is_right, || {
            (
                "an adversary has sent this back".into(),
                "it is delivered as if it had sealed it".into(),
            )
        });
        if is_forgotten {
            return;
        }
        let Some(script) = &mut self.net.links[link].script else {
            return;
        };
        script.delivered += 1;
        let (delivered, sealed, attack) = (script.delivered, script.sealed, script.attack);
        let holds = delivered <= sealed;
        self.run.checks.hold(Invariant::AdversaryBlamed, (self.run.now, host), holds, || {
            (
                format!("of the records of this peer, {sealed} may be opened ({})", attack.name()),
                format!("{delivered} were delivered"),
            )
        });
    }
}

/// Nonces that a session remembers of what it has sealed.
const REMEMBERED: u64 = 256;
