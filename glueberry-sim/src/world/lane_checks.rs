//! What must come of the messages of a session: room, ends, and accounts.

use glueberry_proto::{CloseReason, Closed, ConnectionLost, Naming, Profile, SendError};

use super::session::Sessions;
use crate::check::Invariant;
use crate::link::{EndState, Pipe, Stage};
use crate::plan::ANSWER;
use crate::rng::u64_of;
use crate::wake::Side;

/// What an end had accepted on a stream at some time, and how much of it had arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    link: usize,
    side: Side,
    stream: usize,
    accepted: u64,
    received: u64,
}

impl Sessions<'_> {
    /// Returns whether the queue of a stream has drained to its low watermarks.
    fn has_drained(&self, (link, side): (usize, Side), stream: usize) -> Option<bool> {
        let session = self.net.links[link].ends[side].session.as_ref()?;
        let (count, bytes) = session.queued(&self.run.streams[stream]);
        let (low, low_bytes) = self.run.plan.limits.low_watermarks();
        Some(count <= low && bytes <= low_bytes)
    }

    /// A message was accepted, or refused because the queue is full.
    pub(super) fn check_room(
        &mut self,
        (link, side): (usize, Side),
        stream: usize,
        sent: &Result<(), SendError>,
    ) {
        let is_refused = matches!(sent, Err(SendError::Backpressure));
        if !is_refused && sent.is_err() {
            return;
        }
        let is_low = is_refused && self.has_drained((link, side), stream) == Some(true);
        let end = &mut self.net.links[link].ends[side];
        let (host, lane) = (end.host, &mut end.lanes[stream]);
        let was_full = std::mem::replace(&mut lane.is_full, is_refused);
        let holds = !is_low && (is_refused || !was_full);
        self.run.checks.hold(Invariant::Hysteresis, (self.run.now, host), holds, || {
            (
                format!("stream {stream}: full before: {was_full}, drained: {is_low}"),
                format!("send answered {sent:?}, and no event has told of room"),
            )
        });
    }

    /// The session reports that a stream accepts again.
    pub(super) fn check_writable(&mut self, (link, side): (usize, Side), stream: usize) {
        let is_low = self.has_drained((link, side), stream) != Some(false);
        let end = &mut self.net.links[link].ends[side];
        end.lanes[stream].is_full = false;
        self.run.checks.hold(Invariant::Hysteresis, (self.run.now, end.host), is_low, || {
            (format!("stream {stream} is said to be writable"), "it has not drained so far".into())
        });
    }

    /// A stream that was full and has drained has said so.
    pub(super) fn check_waiting(&mut self, link: usize, side: Side) {
        for stream in 0..self.run.streams.len() {
            if !self.net.links[link].ends[side].lanes[stream].is_full {
                continue;
            }
            let is_low = self.has_drained((link, side), stream) == Some(true);
            let host = self.net.links[link].ends[side].host;
            self.run.checks.hold(Invariant::Hysteresis, (self.run.now, host), !is_low, || {
                (format!("stream {stream} was full, and has drained"), "no event tells it".into())
            });
        }
    }

    /// A stream was given up: not before as many attempts in a row as are configured, unless none
    /// ever succeeded.
    pub(super) fn check_given_up(&mut self, (link, side): (usize, Side), stream: usize) {
        // In v2 one that is agreed, and reset unread, is refused as well.
        let refused = u32::from(self.speaks_v2((link, side)));
        let end = &mut self.net.links[link].ends[side];
        let (host, lane) = (end.host, &mut end.lanes[stream]);
        let (attempts, was_agreed) = (std::mem::take(&mut lane.attempts), lane.was_agreed);
        lane.refused_at = None;
        let least = self.run.plan.limits.more.stream_attempts;
        let holds = !was_agreed || attempts + refused >= least;
        self.run.checks.hold(Invariant::Perseveres, (self.run.now, host), holds, || {
            (
                format!("stream {stream} was agreed once, and may be tried {least} times"),
                format!("it is given up after {attempts}"),
            )
        });
    }

    /// A stream is interrupted: not by a substream of which all can go out again.
    pub(super) fn check_interrupted(
        &mut self,
        (link, side): (usize, Side),
        stream: usize,
        in_doubt: u64,
    ) {
        let now = self.run.now;
        let state = &mut self.net.links[link];
        let other = state.ends[1 - side].host;
        let end = &mut state.ends[side];
        end.lanes[stream].in_doubt += in_doubt;
        let (host, profile) = (end.host, end.session.as_ref().and_then(|one| one.profile()));
        let (Some((at, pipe)), Some(Profile::V1Go)) = (end.broke, profile) else {
            return;
        };
        // What has waited for a substream of the peer goes out on it as soon as there is one.
        let is_way = |pipe: &Pipe| {
            let half = &pipe.halves[1 - side];
            let is_open = pipe.stage == Stage::Open && !half.is_shut && half.fin.is_none();
            let is_named = state.naming == Naming::Negotiated || pipe.carried[side].is_named();
            pipe.opener != side && pipe.stream == Some(stream) && is_open && is_named
        };
        let waited = in_doubt > 0 && at < now && !self.run.is_adversary(other);
        let has_way = waited && state.pipes.iter().any(is_way);
        self.run.checks.hold(Invariant::Repeated, (now, host), !has_way, || {
            (
                format!("the peer has a substream of stream {stream}"),
                format!("{in_doubt} messages have waited for one in vain"),
            )
        });
        let pipe = &state.pipes[pipe];
        if at != now || pipe.stream != Some(stream) || self.run.is_adversary(other) {
            return;
        }
        let (limits, carried) = (&self.run.plan.limits, pipe.carried[side]);
        let is_young = carried.since.is_some_and(|since| now < since + limits.more.settle_time);
        let is_small = carried.bytes <= u64_of(limits.more.high_watermark_bytes)
            && carried.messages < u64_of(limits.high_watermark);
        // What broke before this substream did may have waited for another.
        let is_kept = is_young && is_small && !carried.has_read && carried.messages == in_doubt;
        self.run.checks.hold(Invariant::Repeated, (now, host), !is_kept, || {
            (
                format!("{carried:?} were written to the substream that broke"),
                format!("{in_doubt} of them are in doubt, and none goes out again"),
            )
        });
    }

    /// A session has ended, and has given back what was `left` in its queues: what it says of its
    /// messages, and that it had the time for it.
    pub(super) fn check_closed(&mut self, link: usize, side: Side, closed: &Closed, left: usize) {
        let now = self.run.now;
        let state = &self.net.links[link];
        let (end, drain) = (&state.ends[side], state.drain);
        let (at, is_lost) = ((now, end.host), end.state == EndState::Lost);
        let sum = |of: fn(&crate::model::Lane) -> u64| end.lanes.iter().map(of).sum::<u64>();
        let [accepted, unsent, acknowledged] =
            [sum(|lane| lane.accepted), sum(|lane| lane.unsent), sum(|lane| lane.acknowledged)];
        let in_doubt = closed.in_doubt;
        let holds = unsent + acknowledged + in_doubt <= accepted;
        self.run.checks.hold(Invariant::Doubt, at, holds, || {
            (
                format!("{accepted} accepted, {unsent} unsent, {acknowledged} acknowledged"),
                format!("{in_doubt} are said to be in doubt"),
            )
        });
        if let Some((drains, since)) = drain
            && drains == side
            && !is_lost
            && closed.reason == CloseReason::Disconnected
        {
            let drain = self.run.plan.limits.drain_timeout;
            // In v2 the peer then answers, and says what it doesn't have.
            let (least, most) = match end.speaks_v2 {
                true => (drain.min(ANSWER), self.run.plan.time_to_end()),
                false => (drain, drain),
            };
            let passed = now - since;
            // What the peer has refused came back before, whether in that time or not.
            let is_whole = left == 0 && in_doubt == 0 && closed.not_received == 0;
            let is_late = passed > most + 4 * self.run.plan.net.message_delay + 1_000;
            let holds = !is_late && (is_whole || passed >= least);
            self.run.checks.hold(Invariant::Drains, at, holds, || {
                (
                    format!("the session may drain for {most} µs, and has for {passed} µs"),
                    format!("{left} messages are unsent, {in_doubt} in doubt"),
                )
            });
        }
        self.check_counted(link, side, closed);
        self.check_time_was_up(link, side, &closed.reason);
        let keys = self.run.witness.look(|seen| seen.alive(owner(link, side)));
        self.run.checks.hold(Invariant::KeysEnd, at, keys == 0, || {
            ("the session is over".into(), format!("{keys} of its keys are not"))
        });
    }

    /// What ends for lack of time has had it.
    fn check_time_was_up(&mut self, link: usize, side: Side, reason: &CloseReason) {
        let now = self.run.now;
        let end = &self.net.links[link].ends[side];
        let limits = &self.run.plan.limits;
        let (since, least) = match reason {
            // One that has taken the place of another has the rest of its time.
            CloseReason::HandshakeTimeout if !end.progress.has_begun() => {
                (Some(end.admitted_at), limits.negotiation_timeout.min(limits.handshake_timeout))
            }
            // Once the handshake is over its substream is not waited for.
            CloseReason::HandshakeLost if end.progress.is_established => (Some(now), 1),
            // Only the probe says so while the connection lives.
            CloseReason::ConnectionLost(ConnectionLost::TimedOut)
                if end.state != EndState::Lost =>
            {
                let delay = self.run.plan.net.message_delay;
                let granted = end.progress.granted_at.map(|at| at.saturating_sub(delay));
                (end.current_since.or(granted), limits.more.probe_timeout)
            }
            _ => return,
        };
        let passed = since.map_or(least, |since| now.saturating_sub(since));
        self.run.checks.hold(Invariant::NotEarly, (now, end.host), passed >= least, || {
            (
                format!("the session must have {least} µs"),
                format!("it ended after {passed} µs: {reason}"),
            )
        });
    }

    /// Looks at each direction of each stream of sessions that both sides keep.
    pub(super) fn standings(&self) -> Vec<Standing> {
        let mut all = Vec::new();
        for link in self.net.live() {
            let ends = &self.net.links[link].ends;
            let is_kept = |side: Side| {
                let end = &ends[side];
                let peer = ends[1 - side].host;
                end.progress.is_established
                    && !end.progress.is_closed
                    && end.state == EndState::Open
                    && self.hosts.current_end(end.host, peer) == Some((link, side))
            };
            // Who takes bytes out has the other side wait for those that complete a record.
            if !(is_kept(0) && is_kept(1)) || self.net.links[link].is_tampered {
                continue;
            }
            for side in [0, 1] {
                for stream in 0..self.run.streams.len() {
                    let accepted = ends[side].lanes[stream].accepted;
                    let received = ends[1 - side].lanes[stream].received;
                    all.push(Standing { link, side, stream, accepted, received });
                }
            }
        }
        all
    }

    /// Nothing was accepted and nothing has arrived since `before`, so all there was is there.
    pub(super) fn check_arrived(&mut self, before: &[Standing]) {
        let now = self.standings();
        for Standing { link, side, stream, accepted, received } in
            now.into_iter().filter(|one| before.contains(one))
        {
            let ends = &self.net.links[link].ends;
            let (host, lane) = (ends[side].host, ends[side].lanes[stream]);
            let name = &self.run.streams[stream];
            let queued = ends[side].session.as_ref().map(|session| session.queued(name));
            let held = ends[1 - side].session.as_ref().map(|session| session.received_bytes());
            let known = received + lane.unsent + lane.in_doubt;
            let is_narrow = self.run.plan.net.bandwidth > 0 && queued != Some((0, 0));
            let holds = is_narrow
                || (known >= accepted
                    && queued.is_none_or(|queued| queued == (0, 0))
                    && held.is_none_or(|held| held == 0));
            self.run.checks.hold(Invariant::Arrives, (self.run.now, host), holds, || {
                (
                    format!("stream {stream} of connection {link} is at rest: {lane:?}"),
                    format!("{received} arrived, queued are {queued:?}, unread {held:?} bytes"),
                )
            });
        }
    }
}

/// Returns the number that stands for an end of a connection.
pub(super) fn owner(link: usize, side: Side) -> u64 {
    2 * u64_of(link) + u64_of(side) + 1
}
