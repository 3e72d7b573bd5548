//! What stands still: for no longer than the time that belongs to it.

use glueberry_proto::Profile;

use super::super::session::Sessions;
use super::waits::PATIENCE;
use crate::check::Invariant;
use crate::generate::SECOND;
use crate::link::{EndState, Found, Pipe, Stage};
use crate::model::Lane;
use crate::rng::u64_of;
use crate::wake::Side;

impl Sessions<'_> {
    /// Looks from time to time whether messages wait for a substream, or a substream to be read, and
    /// nothing is done about it.
    pub(in super::super) fn check_still(&mut self, link: usize, side: Side) {
        let at = (self.run.now, self.net.links[link].ends[side].host);
        let limits = &self.run.plan.limits;
        let slack = 2 * SECOND + self.run.plan.net.message_delay;
        let retried = limits.negotiation_timeout.max(limits.more.settle_time) + slack;
        // One is read, and two may wait.
        let given_up = 3 * PATIENCE + slack;
        let mut still = self.net.links[link].ends[side].still;
        for stream in 0..self.run.streams.len() {
            let queued = self.queued_still(link, side, stream);
            let passed = Found::again(&mut still.queued[stream], queued, self.run.now);
            self.run.checks.hold(Invariant::Told, at, passed <= retried, || {
                (
                    format!("messages wait on stream {stream}, and no substream carries it"),
                    format!("none is proposed for {passed} µs, {retried} is the most"),
                )
            });
            let unread = self.unread_still(link, side, stream);
            let passed = Found::again(&mut still.unread[stream], unread, self.run.now);
            self.run.checks.hold(Invariant::Told, at, passed <= given_up, || {
                (
                    format!("a substream of stream {stream} is not read, and no message waits"),
                    format!("it is so for {passed} µs, {given_up} is the most"),
                )
            });
        }
        self.net.links[link].ends[side].still = still;
    }

    /// Returns what shows whether something is done about a stream on which messages wait, and that no
    /// substream carries.
    fn queued_still(&self, link: usize, side: Side, stream: usize) -> Option<[u64; 3]> {
        let state = &self.net.links[link];
        if state.line.is_some() || !self.is_at_work(link, side) {
            return None;
        }
        let end = &state.ends[side];
        let session = end.session.as_ref()?;
        let is_v2 = session.profile() == Some(Profile::V2);
        let is_of = |pipe: &&Pipe| pipe.stream == Some(stream);
        let is_way = |pipe: &Pipe| {
            let half = &pipe.halves[1 - side];
            let is_awaited = half.fin.is_some() && !half.was_told;
            let is_known = half.stopped.is_none_or(|at| at < self.run.now);
            let may_carry = pipe.opener == side || !is_v2;
            may_carry && pipe.stage != Stage::Dead && (!half.is_shut || is_awaited || !is_known)
        };
        let waits = session.queued(&self.run.streams[stream]).0 > 0;
        if !waits || state.pipes.iter().filter(is_of).any(is_way) {
            return None;
        }
        let proposed = state.pipes.iter().filter(is_of).filter(|pipe| pipe.opener == side).count();
        let Lane { written, unsent, .. } = end.lanes[stream];
        Some([u64_of(proposed), written.0, unsent])
    }

    /// Returns what shows whether something is done about a substream of a stream that is not read,
    /// though the application has taken all.
    fn unread_still(&self, link: usize, side: Side, stream: usize) -> Option<[u64; 3]> {
        let state = &self.net.links[link];
        let end = &state.ends[side];
        let session = end.session.as_ref().filter(|_| self.is_at_work(link, side))?;
        let is_prepared = !self.run.skips(end.host, stream);
        if session.received_bytes() > 0 || !is_prepared {
            return None;
        }
        let is_paused = |pipe: &Pipe| {
            let is_open = pipe.stage == Stage::Open && !pipe.halves[side].is_over;
            let buffer = pipe.buffers[side].as_ref().filter(|_| is_open);
            pipe.stream == Some(stream)
                && buffer.is_some_and(|it| !it.wants_read() && !it.is_read_over())
        };
        let mut pipes = state.pipes.iter().enumerate();
        let (at, pipe) = pipes.find(|(_, pipe)| is_paused(pipe))?;
        Some([u64_of(at), pipe.carried[side].read, end.lanes[stream].received])
    }

    /// Returns whether a session should do what is to be done: it is Established, and its host runs.
    fn is_at_work(&self, link: usize, side: Side) -> bool {
        let state = &self.net.links[link];
        let end = &state.ends[side];
        let is_honest = !self.run.is_adversary(state.ends[1 - side].host);
        let has_run = self.hosts[end.host].paused_until + SECOND < self.run.now;
        let is_established = end.session.as_ref().is_some_and(|one| one.is_established());
        // Word of what broke may be held up.
        let is_reached = state.blocked_since.is_none();
        end.state == EndState::Open && has_run && is_reached && is_honest && is_established
    }
}
