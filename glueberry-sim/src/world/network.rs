//! The network: dials, connections that come and go, and what holds them up.

use glueberry_proto::{ConnectionLost, DialError, DialId, Naming, Origin};

use super::{LINK, Wake, World};
use crate::link::{End, Link, Side, Standing};
use crate::plan::{Family, NamingMode};
use crate::rng::{Rng, u64_of};
use crate::situation::DIAL_REFUSED;

impl World {
    // ---- delays -------------------------------------------------------------------------------

    /// Draws how long something takes on a connection.
    pub(super) fn delay(&mut self, link: usize) -> u64 {
        let net = &self.plan.net;
        let rng = &mut self.links[link].rng;
        let more = match net.family {
            Family::Constant => net.jitter,
            Family::Uniform => rng.below(2 * net.jitter + 1),
            Family::Exponential => rng.exponential(net.jitter).min(19 * net.jitter),
            Family::Bimodal if rng.chance(50) => 10 * net.jitter,
            Family::Bimodal => net.jitter / 2,
        };
        let ends = &self.links[link].ends;
        (net.delay + more) * self.faults.slowness(self.now, ends[0].host, ends[1].host)
    }

    /// Puts something into the queue that crosses a connection.
    pub(super) fn send(&mut self, link: usize, wake: Wake) {
        let delay = self.delay(link);
        self.queue.push(self.now + delay, wake);
    }

    // ---- what is held up ----------------------------------------------------------------------

    /// Keeps back what can't happen now, and says so.
    pub(super) fn is_held_up(&mut self, wake: Wake) -> bool {
        let Some(host) = self.host_of(wake) else {
            return false;
        };
        let until = self.hosts[host].paused_until;
        if until > self.now {
            self.queue.push(until, wake);
            // The queue must not forget that the timer stands.
            self.move_timer(wake, until);
            return true;
        }
        let Some((link, side)) = self.crossing(wake) else {
            return false;
        };
        let from = self.links[link].ends[1 - side].host;
        if self.faults.is_blocked(from, host) {
            self.faults.hold(wake, from, host);
            return true;
        }
        false
    }

    fn move_timer(&mut self, wake: Wake, until: u64) {
        let timer = match wake {
            Wake::Node(host, life) if self.hosts[host].life == life => &mut self.hosts[host].timer,
            Wake::Session(link, side) => &mut self.links[link].ends[side].timer,
            _ => return,
        };
        if *timer == Some(self.now) {
            *timer = Some(until);
        }
    }

    /// Returns the host that does something then.
    pub(super) fn host_of(&self, wake: Wake) -> Option<usize> {
        match wake {
            Wake::Step(_) | Wake::Heal(_) | Wake::Again(..) | Wake::Restart(_) => None,
            Wake::Idle(..) | Wake::Ruse(..) => None,
            Wake::Node(host, _)
            | Wake::Mail(host, _)
            | Wake::Events(host, _)
            | Wake::Retry(host, ..)
            | Wake::Flow(host, _)
            | Wake::Saved(host, _)
            | Wake::Program(host, ..)
            | Wake::Failed(host, _)
            | Wake::Dial(host, ..) => Some(host),
            Wake::Words(link, side)
            | Wake::Session(link, side)
            | Wake::Take(link, side)
            | Wake::Greet(link, side)
            | Wake::Arrive(link, side)
            | Wake::Lose(link, side)
            | Wake::Retire(link, side)
            | Wake::Write(link, _, side)
            | Wake::Read(link, _, side)
            | Wake::Stopped(link, _, side)
            | Wake::Acknowledge(link, _, side)
            | Wake::Rogue(link, side, _) => Some(self.links[link].ends[side].host),
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
    fn crossing(&self, wake: Wake) -> Option<(usize, Side)> {
        match wake {
            Wake::Lose(link, side) => {
                let is_word = matches!(
                    self.links[link].ends[side].loss,
                    Some(ConnectionLost::ClosedByPeer { .. } | ConnectionLost::Reset)
                );
                is_word.then_some((link, side))
            }
            Wake::Arrive(link, side)
            | Wake::Read(link, _, side)
            | Wake::Stopped(link, _, side)
            | Wake::Acknowledge(link, _, side) => Some((link, side)),
            Wake::Offer(link, pipe) => Some((link, 1 - self.links[link].pipes.get(pipe)?.opener)),
            Wake::Answer(link, pipe, _) => Some((link, self.links[link].pipes.get(pipe)?.opener)),
            _ => None,
        }
    }

    /// Something is blocked since now: its connections may not live through it.
    pub(super) fn note_blocks(&mut self) -> bool {
        let mut is_any = false;
        for link in 0..self.links.len() {
            let [a, b] = [0, 1].map(|side| self.links[link].ends[side].host);
            if self.links[link].is_over {
                continue;
            }
            let is_blocked = self.faults.is_blocked(a, b) || self.faults.is_blocked(b, a);
            match (is_blocked, self.links[link].blocked_since) {
                (true, None) => {
                    is_any = true;
                    self.touch_link(link);
                    self.links[link].blocked_since = Some(self.now);
                    let idle = self.plan.net.idle;
                    self.queue.push(self.now + idle, Wake::Idle(link, self.now));
                }
                (false, Some(_)) => self.links[link].blocked_since = None,
                _ => {}
            }
        }
        is_any
    }

    /// What was held up and is no longer goes on.
    pub(super) fn release_held(&mut self) {
        for wake in self.faults.released() {
            self.queue.push(self.now + RESUMES, wake);
        }
        self.note_blocks();
    }

    /// A connection was silent for too long.
    pub(super) fn idle(&mut self, link: usize, since: u64) {
        if self.links[link].blocked_since == Some(since) {
            self.break_link(link, &ConnectionLost::TimedOut);
        }
    }

    /// Both ends lose a connection, each at its own time.
    pub(super) fn break_link(&mut self, link: usize, why: &ConnectionLost) {
        self.touch_link(link);
        for side in [0, 1] {
            let later = self.links[link].rng.below(UNEVEN);
            let end = &mut self.links[link].ends[side];
            if !matches!(end.standing, Standing::Gone | Standing::Lost) {
                end.loss = Some(why.clone());
                self.queue.push(self.now + later, Wake::Lose(link, side));
            }
        }
    }

    /// From now on messages may be lost on a connection.
    pub(super) fn touch_link(&mut self, link: usize) {
        self.links[link].is_touched = true;
    }

    // ---- dials --------------------------------------------------------------------------------

    pub(super) fn dial_begins(&mut self, host: usize, dial: DialId) {
        let wait = self.hosts[host].rng.below(self.plan.net.delay + 1);
        let life = self.hosts[host].life;
        self.queue.push(self.now + wait, Wake::Dial(host, life, dial));
    }

    /// Tries to reach whom a dial is for, again and again.
    pub(super) fn dial_goes_on(&mut self, host: usize, life: u64, dial: DialId) {
        if self.hosts[host].life != life {
            return;
        }
        let Some(dialled) = self.hosts[host].dials.get(&dial).copied() else {
            return;
        };
        let to = dialled.to;
        if self.hosts[host].app.dials_fail_until > self.now {
            self.faults.fire("refuse");
            return self.dial_failed(host, dial, DialError::NoUsableAddress);
        }
        if to >= self.hosts.len() || to == host {
            return self.dial_failed(host, dial, DialError::NoUsableAddress);
        }
        let is_blocked = self.faults.is_blocked(host, to) || self.faults.is_blocked(to, host);
        let answers = self.hosts[to].is_up() && self.hosts[to].paused_until <= self.now;
        if answers && !is_blocked {
            self.connect_hosts(host, to, Origin::Dialled(dial));
            return;
        }
        if !is_blocked && !self.hosts[to].is_up() && self.hosts[host].rng.chance(300) {
            self.reach(Some(DIAL_REFUSED));
            return self.dial_failed(host, dial, DialError::Transport("refused".to_owned()));
        }
        let tries = dialled.tries + 1;
        if let Some(dialled) = self.hosts[host].dials.get_mut(&dial) {
            dialled.tries = tries;
        }
        let wait = DIAL_AGAIN << tries.min(3);
        self.queue.push(self.now + wait, Wake::Dial(host, life, dial));
    }

    /// Two hosts get a connection; the first has dialled it.
    pub(super) fn connect_hosts(&mut self, a: usize, b: usize, origin: Origin) -> usize {
        let (low, high) = (a.min(b), a.max(b));
        let pair = low * self.hosts.len() + high;
        self.meetings[pair] += 1;
        let meeting = u64_of(pair) << 32 | self.meetings[pair];
        let mut rng = Rng::derive(self.plan.seed, LINK, meeting);
        let naming = match self.plan.net.naming {
            NamingMode::Negotiated => Naming::Negotiated,
            NamingMode::Preamble => Naming::Preamble,
            NamingMode::Either if rng.chance(500) => Naming::Negotiated,
            NamingMode::Either => Naming::Preamble,
        };
        let ends = [(a, origin), (b, Origin::Accepted)]
            .map(|(host, origin)| End::new(host, self.hosts[host].life, origin));
        let link = self.links.len();
        self.links.push(Link::new(ends, naming, rng));
        let is_slow = self.faults.slowness(self.now, a, b) > 1;
        let has_rogue = self.hosts[a].is_rogue || self.hosts[b].is_rogue;
        self.links[link].is_touched = is_slow || has_rogue;
        let there = self.delay(link);
        let back = self.delay(link);
        self.queue.push(self.now + there, Wake::Arrive(link, 1));
        // The dialler hears of it when the answer is back, or a little before the other does.
        let heard = if self.links[link].rng.chance(800) { there + back } else { there };
        self.queue.push(self.now + heard, Wake::Arrive(link, 0));
        link
    }

    /// A side closes a connection: the other hears of it later.
    pub(super) fn hang_up(&mut self, link: usize, side: Side, code: u64) {
        let other = &mut self.links[link].ends[1 - side];
        if matches!(other.standing, Standing::Open | Standing::Arriving) && other.loss.is_none() {
            other.loss = Some(ConnectionLost::ClosedByPeer { code });
            self.send(link, Wake::Lose(link, 1 - side));
        }
        self.link_over(link);
    }
}

/// Microseconds until a dial is tried again; doubles three times.
const DIAL_AGAIN: u64 = 500_000;
/// Microseconds after which what was held up goes on.
const RESUMES: u64 = 1_000;
/// Most microseconds between the moments at which the two ends notice a loss.
const UNEVEN: u64 = 2_000_000;
