//! What a session waits for: each of its timers belongs to something that is still to come.

use glueberry_proto::{Instant, Naming, Profile, SubstreamId, Timer};

use super::super::session::Sessions;
use crate::check::Invariant;
use crate::generate::SECOND;
use crate::link::{EndState, Link, Pipe, Stage};
use crate::plan::ANSWER;
use crate::wake::Side;

impl Sessions<'_> {
    /// A session was driven: what it waits for can still come, in the time that belongs to it.
    pub(in super::super) fn check_waits(&mut self, link: usize, side: Side) {
        let end = &self.net.links[link].ends[side];
        let Some(session) = &end.session else {
            return;
        };
        let timer = session.next_timer();
        let at = (self.run.now, end.host);
        let last = self.run.now;
        // What a paused host has missed is made up for when it goes on.
        let is_paused = self.hosts[end.host].paused_until >= last;
        if let Some((due, timer)) = &timer {
            let holds = self.has_cause(link, side, due.as_micros(), timer);
            self.run.checks.hold(Invariant::Cause, at, holds, || {
                (
                    format!("at {last}, the session waits until {} for {timer:?}", due.as_micros()),
                    "there is no reason for it, or not for so long".into(),
                )
            });
        }
        let first = self.first_answer_due(link, side);
        let wakes = timer.map(|(at, _)| at);
        let holds = first.is_none_or(|due| {
            (due > last || is_paused) && wakes.is_some_and(|at: Instant| at.as_micros() <= due)
        });
        self.run.checks.hold(Invariant::Due, at, holds, || {
            (
                format!("at {last}, a substream is not agreed, and is to be given up at {first:?}"),
                format!("the session wants to wake at {wakes:?}"),
            )
        });
    }

    fn has_cause(&self, link: usize, side: Side, due: u64, timer: &Timer) -> bool {
        let state = &self.net.links[link];
        let end = &state.ends[side];
        let limits = &self.run.plan.limits;
        let soon = self.run.now + limits.negotiation_timeout;
        let profile = end.session.as_ref().and_then(|session| session.profile());
        match timer {
            Timer::Negotiation(id) => self.is_negotiated(link, side, *id, due),
            Timer::Retry(stream) => {
                let at = self.run.streams.iter().position(|one| one == stream);
                let session = end.session.as_ref();
                let has_any = session.is_some_and(|session| session.queued(stream).0 > 0);
                let longest = match profile {
                    // There one that is agreed, and breaks, counts as well.
                    Some(Profile::V2) => limits.negotiation_timeout,
                    _ => at.map_or(0, |at| self.longest_retry(link, end.lanes[at].attempts)),
                };
                has_any && due <= self.run.now + longest
            }
            Timer::Settle(stream) => {
                let at = self.run.streams.iter().position(|one| one == stream);
                let written = at.map(|at| end.lanes[at].written).filter(|it| it.0 > 0);
                let written = written.map(|(_, at)| at);
                let broke = end.broke.map(|(at, _)| at);
                let from = written.max(broke).filter(|_| written.is_some());
                // What v2 has written is looked at each time that the oldest of it may be forgotten.
                let times = if profile == Some(Profile::V2) { 2 } else { 1 };
                let most = times * limits.more.settle_time;
                let is_in_time = from.is_some_and(|from| due <= from + most);
                let is_honest = !self.run.is_adversary(state.ends[1 - side].host);
                profile != Some(Profile::V1) && (is_in_time || !is_honest)
            }
            Timer::Instance(stream) => {
                let at = self.run.streams.iter().position(|one| one == stream);
                let has_come = |pipe: &Pipe| pipe.opener != side && pipe.stream == at;
                let has_any = state.pipes.iter().any(has_come);
                profile == Some(Profile::V2) && has_any && due <= self.run.now + PATIENCE
            }
            Timer::Control => profile == Some(Profile::V2) && due <= self.run.now + SECOND,
            Timer::HandshakeLost => {
                let is_over = end.progress.is_established || end.progress.is_finalized;
                !is_over && due <= soon
            }
            // In v2 what the peer says at the end is awaited, too.
            Timer::Drain if profile == Some(Profile::V2) => {
                due <= self.run.now + limits.drain_timeout.max(ANSWER)
            }
            Timer::Drain => due <= self.run.now + limits.drain_timeout,
            _ => false,
        }
    }

    /// Returns whether a substream waits to be agreed until then.
    fn is_negotiated(&self, link: usize, side: Side, id: SubstreamId, due: u64) -> bool {
        let state = &self.net.links[link];
        let Some(pipe) = state.pipe_of(side, id).and_then(|at| state.pipes.get(at)) else {
            return false;
        };
        let time = self.run.plan.limits.negotiation_timeout;
        match pipe.opener == side {
            // A name in a preamble is answered by the peer's preamble.
            true => {
                let is_named = pipe.is_answered && state.naming == Naming::Preamble;
                let is_awaited = !pipe.is_answered || (is_named && !pipe.carried[side].is_named());
                is_awaited && due == pipe.opened_at + time
            }
            // Its name is awaited, or its end, once it was refused.
            false => due <= self.run.now + time,
        }
    }

    /// Returns how long a stream waits at most, after so many attempts in a row that were refused.
    fn longest_retry(&self, link: usize, attempts: u32) -> u64 {
        let limits = &self.run.plan.limits;
        if self.net.links[link].naming != Naming::Negotiated {
            return limits.negotiation_timeout;
        }
        let doublings = attempts.saturating_sub(1).min(16);
        (limits.more.retry_delay << doublings).min(limits.negotiation_timeout)
    }

    /// A substream that a session has proposed was refused.
    pub(in super::super) fn note_refused(&mut self, link: usize, at: usize) {
        let pipe = &self.net.links[link].pipes[at];
        let (opener, Some(stream)) = (pipe.opener, pipe.stream) else {
            return;
        };
        if pipe.halves[1 - opener].is_shut {
            // It was given up before, and the wait runs since then.
            return;
        }
        let end = &mut self.net.links[link].ends[opener];
        let name = &self.run.streams[stream];
        let waits = end.session.as_ref().is_some_and(|one| one.queued(name).0 > 0);
        end.lanes[stream].refused_at = waits.then_some(self.run.now);
    }

    /// A session proposes a substream for a stream: not before the wait that belongs to the refusals
    /// in a row is over.
    pub(in super::super) fn check_patience(&mut self, link: usize, side: Side, stream: usize) {
        // There it is tried at once when the peer opens a substream of this stream.
        let is_v2 = self.speaks_v2((link, side));
        let end = &mut self.net.links[link].ends[side];
        let (host, attempts) = (end.host, end.lanes[stream].attempts);
        let Some(refused_at) = end.lanes[stream].refused_at.take().filter(|_| !is_v2) else {
            return;
        };
        let least = self.longest_retry(link, attempts);
        let passed = self.run.now - refused_at;
        self.run.checks.hold(Invariant::Cause, (self.run.now, host), passed >= least, || {
            (
                format!("stream {stream} was refused {attempts} times in a row"),
                format!("it is tried again after {passed} µs, and not {least}"),
            )
        });
    }

    /// Returns when the first of its substreams is given up that no answer has come for.
    fn first_answer_due(&mut self, link: usize, side: Side) -> Option<u64> {
        let Link { ends, pipes, .. } = &mut self.net.links[link];
        let end = &mut ends[side];
        end.unanswered.retain(|at| {
            pipes.get(*at).is_some_and(|pipe| {
                let is_alive = pipe.stage != Stage::Dead && !pipe.halves[1 - side].is_shut;
                !pipe.is_answered && is_alive
            })
        });
        // In v2 one that has said the last thing gives up no substream any more.
        let session = end.session.as_ref().filter(|_| end.state == EndState::Open)?;
        let first = end.unanswered.first().filter(|_| !session.protocols().is_empty());
        first.map(|at| pipes[*at].opened_at + self.run.plan.limits.negotiation_timeout)
    }
}

/// How long an instance of v2 waits for an earlier one.
pub(super) const PATIENCE: u64 = 10 * SECOND;
