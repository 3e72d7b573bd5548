//! Who waits for whom: what has come was told, and where there is room it is read on.

use glueberry_proto::Profile;

use super::super::session::Sessions;
use crate::check::Invariant;
use crate::link::{EndState, Pipe, Stage};
use crate::model::Lane;
use crate::rng::u64_of;
use crate::wake::Side;

impl Sessions<'_> {
    /// A session was driven, and its events were taken: what waits to be taken was told.
    pub(in super::super) fn check_told(&mut self, link: usize, side: Side) {
        let end = &self.net.links[link].ends[side];
        let Some(session) = &end.session else {
            return;
        };
        let held = session.received_bytes();
        // In v2 what comes before the session is granted is held, and may be void.
        let is_void = !session.is_granted();
        let is_told = end.progress.has_words || end.progress.readable.contains(&true);
        let holds = held == 0 || is_void || is_told;
        self.run.checks.hold(Invariant::Told, (self.run.now, end.host), holds, || {
            (
                format!("{held} bytes of messages wait to be taken"),
                "no event has told of them".into(),
            )
        });
        self.check_handshake_read(link, side, held);
    }

    /// While the handshake goes on, and nothing of it waits for the application, more of it is read.
    fn check_handshake_read(&mut self, link: usize, side: Side, held: usize) {
        let state = &self.net.links[link];
        let end = &state.ends[side];
        let Some(session) = &end.session else {
            return;
        };
        let is_honest = !self.run.is_adversary(state.ends[1 - side].host);
        if held > 0 || !is_honest || !session.is_granted() || session.handshake_is_over() {
            return;
        }
        let is_paused = |pipe: &&Pipe| {
            let is_open = pipe.stage == Stage::Open && !pipe.halves[side].is_over;
            let buffer = pipe.buffers[side].as_ref().filter(|_| is_open && pipe.is_handshake());
            buffer.is_some_and(|buffer| !buffer.wants_read() && !buffer.is_read_over())
        };
        let is_stuck = end.state == EndState::Open && state.pipes.iter().any(|it| is_paused(&it));
        self.run.checks.hold(Invariant::Told, (self.run.now, end.host), !is_stuck, || {
            (
                format!("the handshake on connection {link} goes on, and no message waits"),
                "the substream of the handshake is not read".into(),
            )
        });
    }

    /// Looks from time to time at the ends of a connection: nothing stands still for no reason, and
    /// queues hold what was accepted and not written.
    pub(in super::super) fn check_rooms(&mut self, link: usize, side: Side) {
        let state = &self.net.links[link];
        let end = &state.ends[side];
        let Some(session) = end.session.as_ref().filter(|one| one.is_established()) else {
            return;
        };
        let is_honest = !self.run.is_adversary(state.ends[1 - side].host);
        let is_paused = self.hosts[end.host].paused_until >= self.run.now;
        if end.state != EndState::Open || is_paused || !is_honest {
            return;
        }
        let at = (self.run.now, end.host);
        let held = session.received_bytes();
        let stuck = state.pipes.iter().enumerate().find(|(number, pipe)| {
            let buffer = pipe.buffers[side].as_ref();
            let is_paused =
                buffer.is_some_and(|buffer| !buffer.wants_read() && !buffer.is_read_over());
            let is_first = pipe.stream.is_some() && !self.is_behind(link, side, *number);
            let is_given_up = pipe.halves[side].is_over;
            // An instance of v2 may wait for an earlier one, of which nothing was seen. But none waits
            // for a stream that is never prepared.
            let is_read = pipe.stream.is_some_and(|it| !self.run.skips(end.host, it));
            let is_given_up = is_given_up || (is_read && session.profile() == Some(Profile::V2));
            is_paused && is_first && !is_given_up && pipe.stage == Stage::Open
        });
        let stuck = stuck.map(|(number, pipe)| (number, pipe.stream)).filter(|_| held == 0);
        let queued = self.run.streams.iter().map(|stream| session.queued(stream));
        // In Go's profile what was written may wait to go out again.
        let is_once = session.profile() == Some(Profile::V1);
        let is_right = |((count, bytes), lane): ((usize, usize), &Lane)| {
            let left = lane.accepted - (lane.written.0 + lane.unsent).min(lane.accepted);
            (count > 0 || bytes == 0) && (!is_once || left == u64_of(count))
        };
        let idle = self.idle_queue(link, side);
        let is_balanced = queued.clone().zip(&end.lanes).all(is_right);
        let queued: Vec<(usize, usize)> = if is_balanced { Vec::new() } else { queued.collect() };
        let lanes = end.lanes;
        self.run.checks.hold(Invariant::Told, at, stuck.is_none(), || {
            ("no message waits to be taken".into(), format!("not read on: {stuck:?}"))
        });
        self.run.checks.hold(Invariant::Counted, at, is_balanced, || {
            (format!("{lanes:?}"), format!("queued are {queued:?}"))
        });
        self.run.checks.hold(Invariant::Told, at, idle.is_none(), || {
            ("the session waits for nothing".into(), format!("messages wait on stream {idle:?}"))
        });
    }

    /// Returns a stream on which messages wait, though no substream carries it or may come to, and the
    /// session waits for no time.
    fn idle_queue(&self, link: usize, side: Side) -> Option<usize> {
        let state = &self.net.links[link];
        // Word of what broke may be held up.
        let is_reached = state.line.is_none() && state.blocked_since.is_none();
        let session = state.ends[side].session.as_ref().filter(|_| is_reached)?;
        let is_way = |pipe: &Pipe| {
            let half = &pipe.halves[1 - side];
            // What was ended is acknowledged first.
            let is_awaited = half.fin.is_some() && !half.was_told;
            // What broke on the way is known when word of it has come.
            let is_known = half.stopped.is_none_or(|at| at < self.run.now);
            pipe.stage != Stage::Dead && (!half.is_shut || is_awaited || !is_known)
        };
        let is_idle = |stream: &usize| {
            session.queued(&self.run.streams[*stream]).0 > 0
                && !state.pipes.iter().any(|pipe| pipe.stream == Some(*stream) && is_way(pipe))
        };
        let is_timeless = session.next_timer().is_none();
        (0..self.run.streams.len()).find(|stream| is_timeless && is_idle(stream))
    }

    /// Returns whether what comes on a substream waits for another of the same stream: an earlier one,
    /// or one that was read first.
    fn is_behind(&self, link: usize, side: Side, at: usize) -> bool {
        let pipes = &self.net.links[link].pipes;
        pipes.iter().enumerate().any(|(other, pipe)| {
            let is_read_over =
                pipe.buffers[side].as_ref().is_none_or(|buffer| buffer.is_read_over());
            let is_first = other < at || (other > at && pipe.carried[side].has_read);
            pipe.stream == pipes[at].stream && !is_read_over && is_first
        })
    }
}
