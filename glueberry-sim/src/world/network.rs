//! The network: connections that come and go, how long things take, and what holds them up.

use std::collections::BTreeMap;

use bytes::Bytes;
use glueberry_proto::{ConnectionLost, Naming, Origin};

use super::hosts::Hosts;
use crate::attack::Attack;
use crate::check::Invariant;
use crate::fault::Faults;
use crate::link::{End, EndState, Link};
use crate::plan::{Family, NamingMode, What};
use crate::rng::{Rng, u64_of};
use crate::run::Run;
use crate::wake::{Side, Wake};

/// All connections of a run, and what is wrong with the network at the moment.
#[derive(Debug)]
pub(crate) struct Network {
    pub(super) links: Vec<Link>,
    /// Those that are not over, in order: most are.
    live: Vec<usize>,
    /// Connections of each pair so far, so that each draws for itself.
    meetings: Vec<u64>,
    pub(super) faults: Faults,
    /// What each host has sealed last by v2 for each other, that somebody may say again.
    pub(super) overheard: BTreeMap<(usize, usize), Bytes>,
}

impl Network {
    pub(super) fn new(hosts: usize) -> Self {
        let (links, live, faults) = (Vec::new(), Vec::new(), Faults::new(hosts));
        let overheard = BTreeMap::new();
        Self { links, live, meetings: vec![0; hosts * hosts], faults, overheard }
    }

    /// Frees a connection that has nothing at either end.
    pub(super) fn link_over(&mut self, run: &mut Run, link: usize) {
        let is_over = self.links[link].ends.iter().all(|end| end.state == EndState::Gone);
        if is_over && !self.links[link].is_over {
            self.check_accounts(run, link);
            self.links[link].clear();
            self.live.retain(|live| *live != link);
        }
    }

    /// Returns the connections that are not over.
    pub(super) fn live(&self) -> Vec<usize> {
        self.live.clone()
    }

    /// A connection flaps: blocked and open in turn.
    pub(super) fn again(&mut self, run: &mut Run, step: usize, left: u64) {
        let What::Flap { a, b, every, .. } = run.plan.steps[step].what else {
            return;
        };
        if run.is_calm || left == 0 || a == b {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            match left % 2 {
                0 => self.faults.block(from, to),
                _ => self.faults.unblock(from, to),
            }
        }
        if left.is_multiple_of(2) {
            self.fire_if_blocked(run, "link flap");
        } else {
            self.release_held(run);
        }
        run.push(run.now + every, Wake::Again(step, left - 1));
    }

    pub(super) fn partition(&mut self, set: u64, one_way: bool, blocks: bool) {
        let count = self.faults.hosts();
        let is_in = |host: usize| set >> host & 1 == 1;
        for from in 0..count {
            for to in 0..count {
                let crosses = is_in(from) != is_in(to) && !(one_way && is_in(from));
                match (crosses, blocks) {
                    (true, true) => self.faults.block(from, to),
                    (true, false) => self.faults.unblock(from, to),
                    (false, _) => {}
                }
            }
        }
    }

    pub(super) fn fire_if_blocked(&mut self, run: &mut Run, kind: &'static str) {
        let is_met = self.note_blocks(run);
        run.fire_if(is_met, kind);
    }

    pub(super) fn touch_links_of(&mut self, host: usize) {
        for link in self.live() {
            if self.links[link].ends.iter().any(|end| end.host == host) {
                self.touch_link(link);
            }
        }
    }

    /// Returns the connections between two hosts that are not over.
    pub(super) fn links_between(&self, a: usize, b: usize) -> Vec<usize> {
        let joins = |link: &usize| {
            let link = &self.links[*link];
            let [x, y] = [link.ends[0].host, link.ends[1].host];
            (x, y) == (a, b) || (x, y) == (b, a)
        };
        self.live.iter().copied().filter(joins).collect()
    }

    /// Returns how many sessions with another host one has admitted since then.
    pub(super) fn count_admitted(&self, host: usize, other: usize, since: u64) -> usize {
        let is_counted = |(end, far): (&End, &End)| {
            (end.host, far.host) == (host, other) && end.id.is_some() && end.admitted_at >= since
        };
        let ends = self.links.iter().map(|link| &link.ends);
        let pairs = ends.flat_map(|[a, b]| [(a, b), (b, a)]);
        pairs.filter(|pair| is_counted(*pair)).count()
    }

    /// Returns whether a session of a host with another has ended since then.
    pub(super) fn has_closed(&self, host: usize, other: usize, since: u64) -> bool {
        let is_it = |(end, far): (&End, &End)| {
            let is_between = (end.host, far.host) == (host, other);
            is_between && end.closed_at.is_some_and(|at| at >= since)
        };
        let ends = self.links.iter().map(|link| &link.ends);
        ends.flat_map(|[a, b]| [(a, b), (b, a)]).any(is_it)
    }

    /// Both ends of a connection are over: what became of each message?
    pub(super) fn check_accounts(&self, run: &mut Run, link: usize) {
        let ends = &self.links[link].ends;
        let (Some(_), Some(_)) = (ends[0].closed, ends[1].closed) else {
            return;
        };
        for side in [0, 1] {
            let [end, other] = [side, 1 - side].map(|side| &self.links[link].ends[side]);
            let accepted: u64 = end.lanes.iter().map(|lane| lane.accepted).sum();
            let unsent: u64 = end.lanes.iter().map(|lane| lane.unsent).sum();
            let received: u64 = other.lanes.iter().map(|lane| lane.received).sum();
            let (in_doubt, not_received) = end.closed.unwrap_or_default();
            let host = end.host;
            let is_adversary = run.is_adversary(host) || run.is_adversary(other.host);
            let certain = accepted.saturating_sub(unsent + in_doubt + not_received);
            // Who takes bytes out of a connection has the transport acknowledge what did not arrive. In
            // v2 it is the peer that says what it has read.
            let is_untouched = run.plan.net.acknowledges_reads && !self.links[link].is_tampered;
            let is_reliable = end.speaks_v2 || is_untouched;
            let is_within = received + unsent <= accepted && (received >= certain || !is_reliable);
            run.checks.hold(
                Invariant::Accounted,
                (run.now, host),
                is_adversary || is_within,
                || {
                    (
                        format!("{accepted} accepted, {unsent} unsent, {in_doubt} in doubt"),
                        format!("{received} were delivered on connection {link}"),
                    )
                },
            );
            // Who is told what has arrived knows it exactly.
            let is_told = end.speaks_v2 && in_doubt == 0 && is_reliable;
            let is_exact = received + unsent + not_received == accepted;
            let holds = is_adversary || !is_told || is_exact;
            run.checks.hold(Invariant::Settled, (run.now, host), holds, || {
                (
                    format!("{accepted} accepted, {unsent} unsent, {not_received} not received"),
                    format!("{received} were delivered on connection {link}"),
                )
            });
        }
    }

    /// The attack is done: it is counted, once per connection.
    pub(super) fn count_attack(&mut self, run: &mut Run, link: usize) {
        if let Some(script) = &mut self.links[link].script
            && !std::mem::replace(&mut script.is_done, true)
        {
            run.fire(script.attack.name());
        }
    }

    pub(super) fn attack(&self, link: usize) -> Option<Attack> {
        self.links[link].script.as_ref().map(|script| script.attack)
    }

    /// Returns whether the other end of a connection claims to have the key of the host itself.
    pub(super) fn is_lookalike(&mut self, run: &mut Run, link: usize) -> bool {
        let is_it = self.attack(link) == Some(Attack::Lookalike);
        if is_it {
            self.count_attack(run, link);
        }
        is_it
    }

    /// Draws how long something takes on a connection.
    pub(super) fn delay(&mut self, run: &Run, link: usize) -> u64 {
        let net = &run.plan.net;
        let rng = &mut self.links[link].rng;
        let more = match net.family {
            Family::Constant => net.jitter,
            Family::Uniform => rng.below(2 * net.jitter + 1),
            Family::Exponential => rng.exponential(net.jitter).min(19 * net.jitter),
            Family::Bimodal if rng.chance(50) => 10 * net.jitter,
            Family::Bimodal => net.jitter / 2,
        };
        let ends = &self.links[link].ends;
        (net.delay + more) * self.faults.slowness(run.now, ends[0].host, ends[1].host)
    }

    /// Puts something into the queue that crosses a connection.
    pub(super) fn send(&mut self, run: &mut Run, link: usize, wake: Wake) {
        let delay = self.delay(run, link);
        run.push(run.now + delay, wake);
    }

    /// Returns the host that does something then.
    pub(super) fn host_of(&self, wake: Wake) -> Option<usize> {
        match wake {
            Wake::Step(_) | Wake::Heal(_) | Wake::Again(..) => None,
            Wake::Restart(_) | Wake::Scan => None,
            Wake::Idle(..) | Wake::AttackAgain(..) => None,
            Wake::Node(host, _)
            | Wake::Mail(host, _)
            | Wake::Events(host, _)
            | Wake::Retry(host, ..)
            | Wake::Flow(host, _)
            | Wake::Saved(host, _)
            | Wake::Program(host, ..)
            | Wake::Failed(host, _)
            | Wake::Dial(host, ..) => Some(host),
            Wake::SessionInbox(link, side)
            | Wake::Session(link, side)
            | Wake::Take(link, side)
            | Wake::Greet(link, side)
            | Wake::Listen(link, side)
            | Wake::Arrive(link, side)
            | Wake::Lose(link, side)
            | Wake::Retire(link, side)
            | Wake::Pump(link, side)
            | Wake::Hear(link, side)
            | Wake::Line(link, side)
            | Wake::Write(link, _, side)
            | Wake::Read(link, _, side)
            | Wake::Stopped(link, _, side)
            | Wake::Acknowledge(link, _, side)
            | Wake::Script(link, side, _) => Some(self.links[link].ends[side].host),
            Wake::Offer(link, pipe) => {
                let opener = self.links[link].pipes.get(pipe)?.opener;
                Some(self.links[link].ends[1 - opener].host)
            }
            Wake::Answer(link, pipe, _) => {
                let opener = self.links[link].pipes.get(pipe)?.opener;
                Some(self.links[link].ends[opener].host)
            }
        }
    }

    /// Returns the end that something reaches over the network.
    pub(super) fn crossing(&self, wake: Wake) -> Option<(usize, Side)> {
        match wake {
            Wake::Read(link, ..) if self.links[link].line.is_some() => None,
            Wake::Lose(link, side) => {
                let is_word = matches!(
                    self.links[link].ends[side].loss,
                    Some(ConnectionLost::ClosedByPeer { .. } | ConnectionLost::Reset)
                );
                is_word.then_some((link, side))
            }
            Wake::Arrive(link, side)
            | Wake::Hear(link, side)
            | Wake::Read(link, _, side)
            | Wake::Stopped(link, _, side)
            | Wake::Acknowledge(link, _, side) => Some((link, side)),
            Wake::Offer(link, pipe) => Some((link, 1 - self.links[link].pipes.get(pipe)?.opener)),
            Wake::Answer(link, pipe, _) => Some((link, self.links[link].pipes.get(pipe)?.opener)),
            _ => None,
        }
    }

    /// Something is blocked since now: its connections may not live through it.
    pub(super) fn note_blocks(&mut self, run: &mut Run) -> bool {
        let mut is_any = false;
        for link in self.live() {
            let [a, b] = [0, 1].map(|side| self.links[link].ends[side].host);
            let is_blocked = self.faults.is_blocked(a, b) || self.faults.is_blocked(b, a);
            match (is_blocked, self.links[link].blocked_since) {
                (true, None) => {
                    is_any = true;
                    self.touch_link(link);
                    self.links[link].blocked_since = Some(run.now);
                    let idle = run.plan.net.idle;
                    run.push(run.now + idle, Wake::Idle(link, run.now));
                }
                (false, Some(_)) => self.links[link].blocked_since = None,
                _ => {}
            }
        }
        is_any
    }

    /// What was held up and is no longer goes on.
    pub(super) fn release_held(&mut self, run: &mut Run) {
        for wake in self.faults.released() {
            run.push(run.now + RESUMES, wake);
        }
        self.note_blocks(run);
    }

    /// A connection was silent for too long.
    pub(super) fn idle(&mut self, run: &mut Run, link: usize, since: u64) {
        if self.links[link].blocked_since == Some(since) {
            self.break_link(run, link, &ConnectionLost::TimedOut);
        }
    }

    /// Both ends lose a connection, each at its own time.
    pub(super) fn break_link(&mut self, run: &mut Run, link: usize, why: &ConnectionLost) {
        self.touch_link(link);
        for side in [0, 1] {
            let later = self.links[link].rng.below(UNEVEN);
            let end = &mut self.links[link].ends[side];
            if !matches!(end.state, EndState::Gone | EndState::Lost) {
                end.loss = Some(why.clone());
                run.push(run.now + later, Wake::Lose(link, side));
            }
        }
    }

    /// From now on messages may be lost on a connection.
    pub(super) fn touch_link(&mut self, link: usize) {
        self.links[link].is_touched = true;
        self.links[link].drain = None;
    }

    /// Two hosts get a connection; the first has dialled it.
    pub(super) fn connect_hosts(
        &mut self,
        run: &mut Run,
        hosts: &Hosts,
        (a, b): (usize, usize),
        origin: Origin,
    ) -> usize {
        let (low, high) = (a.min(b), a.max(b));
        let pair = low * hosts.len() + high;
        self.meetings[pair] += 1;
        let meeting = u64_of(pair) << 32 | self.meetings[pair];
        let mut rng = Rng::derive(run.plan.seed, LINK, meeting);
        let naming = match run.plan.net.naming {
            NamingMode::Negotiated => Naming::Negotiated,
            NamingMode::Preamble => Naming::Preamble,
            NamingMode::Either if rng.chance(500) => Naming::Negotiated,
            NamingMode::Either => Naming::Preamble,
        };
        let ends = [(a, origin), (b, Origin::Accepted)]
            .map(|(host, origin)| End::new(host, hosts[host].life, origin));
        let link = self.links.len();
        let mut made = Link::new(ends, naming, rng);
        made.line = run.plan.net.pipe.map(|_| Box::default());
        self.links.push(made);
        self.live.push(link);
        let is_slow = self.faults.slowness(run.now, a, b) > 1;
        let is_stalled = [(a, b), (b, a)]
            .into_iter()
            .any(|(from, to)| self.faults.stalled_until(from, to).is_some_and(|at| at > run.now));
        let has_adversary = run.is_adversary(a) || run.is_adversary(b);
        self.links[link].is_touched = is_slow || is_stalled || has_adversary;
        let there = self.delay(run, link);
        let back = self.delay(run, link);
        run.push(run.now + there, Wake::Arrive(link, 1));
        // The dialler learns of it when the answer is back, or a little before the other does.
        let heard = if self.links[link].rng.chance(800) { there + back } else { there };
        run.push(run.now + heard, Wake::Arrive(link, 0));
        link
    }

    /// A side closes a connection: the other learns of it later.
    pub(super) fn hang_up(&mut self, run: &mut Run, link: usize, side: Side, code: u64) {
        let other = &mut self.links[link].ends[1 - side];
        if matches!(other.state, EndState::Open | EndState::Arriving) && other.loss.is_none() {
            other.loss = Some(ConnectionLost::ClosedByPeer { code });
            self.send(run, link, Wake::Lose(link, 1 - side));
        }
        self.link_over(run, link);
    }
}

/// Microseconds after which what was held up goes on.
const RESUMES: u64 = 1_000;
/// Most microseconds between the moments at which the two ends notice a loss.
const UNEVEN: u64 = 2_000_000;
const LINK: u64 = 3;
