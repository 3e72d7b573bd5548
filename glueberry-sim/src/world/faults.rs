//! The steps of the plan: what applications begin, and what goes wrong.

use glueberry_proto::ConnectionLost;

use super::World;
use super::adversary::OVER;
use crate::host::Flow;
use crate::link::EndState;
use crate::plan::What;
use crate::rng::usize_of;
use crate::run::Kill;
use crate::trace::{Kind, NOWHERE};
use crate::wake::Wake;

impl World {
    /// Makes a step.
    pub(super) fn step(&mut self, step: usize) {
        let what = self.run.plan.steps[step].what;
        if !what.is_wish() {
            let host = what.hosts().first().copied().unwrap_or(0);
            self.run.note(host, NOWHERE, Kind::Fault, (crate::rng::u64_of(step), 0));
        }
        match what {
            What::Want { by, of } => self.apps().want(by, of),
            What::Disconnect { by, of } => self.apps().disconnect(by, of),
            What::Send { from, to, stream, count, burst, size, every } => {
                let size = usize_of(size).min(self.run.plan.limits.max_message_size);
                let (left, is_parked) = (burst, false);
                let flow = Flow { to, stream, count, burst, left, size, every, is_parked };
                self.apps().begin_flow(from, flow);
            }
            What::Partition { hosts, one_way, lasts } => {
                self.net.partition(hosts, one_way, true);
                self.net.fire_if_blocked(
                    &mut self.run,
                    if one_way { "one-way partition" } else { "partition" },
                );
                self.run.push(self.run.now + lasts, Wake::Heal(step));
            }
            What::Flap { times, .. } => self.net.again(&mut self.run, step, 2 * times),
            What::Spike { host, factor, lasts } => {
                self.net.faults.spike(host, factor, self.run.now + lasts);
                self.run.fire_if(self.has_links(host), "latency spike");
                self.net.touch_links_of(host);
            }
            What::Reset { a, b } => {
                let links = self.net.links_between(a, b);
                self.run.fire_if(!links.is_empty(), "connection reset");
                for link in links {
                    self.net.break_link(&mut self.run, link, &ConnectionLost::Reset);
                }
            }
            What::Break { from, to, after } => self.net.faults.set_break(from, to, after),
            What::Tamper { from, to, after, how } => {
                self.net.faults.set_tampering(from, to, (after, how));
            }
            What::Stall { from, to, lasts } => {
                let links = self.net.links_between(from, to);
                self.run.fire_if(!links.is_empty(), "stall");
                for link in links {
                    self.net.touch_link(link);
                }
                self.net.faults.stall(from, to, self.run.now + lasts);
            }
            What::Crash { host, inputs, down, .. } => self.schedule_kill(host, inputs, down),
            What::Pause { host, lasts } => self.pause(host, self.run.now + lasts),
            What::Clock { host, by } => self.nodes().set_wall_clock(host, by),
            What::Sluggish { host, every, lasts } => {
                self.slow_down(host, every, lasts);
                self.run.push(self.run.now + lasts, Wake::Heal(step));
            }
            What::Absent { host, lasts } => {
                self.run.fire_if(self.has_links(host), "absent application");
                self.hosts[host].absent_until = self.run.now + lasts;
                let life = self.hosts[host].life;
                self.run.push(self.run.now + lasts, Wake::Events(host, life));
            }
            What::CallBurst { host, calls } => self.apps().call_burst(host, calls),
            What::Drop { host } => self.nodes().drop_session(host),
            What::Mislead { host, to, lasts } => {
                self.hosts[host].misled = Some((to, self.run.now + lasts));
            }
            What::Uninvited { a, b, count } => self.nodes().uninvited(a, b, count),
            What::Ban { by, of, by_clock, lasts } => {
                self.ban(by, of, by_clock.then_some(lasts));
                self.run.push(self.run.now + lasts, Wake::Heal(step));
            }
            What::FullDisk { host, lasts } => self.fill_disk(host, self.run.now + lasts),
            What::Refuse { host, lasts } => {
                self.hosts[host].dials_fail_until = self.run.now + lasts;
            }
            What::Attack { by, to, attack } => self.begin_attack(by, to, attack),
        }
    }

    /// An application takes one message each so often, or none for a while if that is zero.
    fn slow_down(&mut self, host: usize, every: u64, lasts: u64) {
        let kind = if every == 0 { "application that does not read" } else { "slow application" };
        self.run.fire_if(self.has_links(host), kind);
        let script = &mut self.scripts[host];
        script.pace = every;
        if every == 0 {
            script.unread_until = self.run.now + lasts;
        }
    }

    /// What a step did is over.
    pub(super) fn heal(&mut self, step: usize) {
        if self.run.is_calm {
            return;
        }
        match self.run.plan.steps[step].what {
            What::Partition { hosts, one_way, .. } => {
                self.net.partition(hosts, one_way, false);
                self.net.release_held(&mut self.run);
            }
            What::Sluggish { host, .. } => {
                self.scripts[host].pace = 0;
                self.apps().take_on_all(host);
            }
            What::Ban { by, of, .. } => self.apps().unban(by, of),
            _ => {}
        }
    }

    fn has_links(&self, host: usize) -> bool {
        !self.hosts[host].links.is_empty()
    }

    fn schedule_kill(&mut self, host: usize, inputs: u64, down: u64) {
        if self.hosts[host].node.is_none() || self.run.kills[host].left.is_some() {
            return;
        }
        self.run.fire("crash");
        self.run.kills[host].left = Some((inputs, down));
        if inputs == 0 {
            self.kill(host);
        }
    }

    /// The process of a host ends, whatever it was doing.
    pub(super) fn kill(&mut self, host: usize) {
        let Some((_, down)) = self.run.kills[host].left else {
            return;
        };
        self.run.note(host, NOWHERE, Kind::Crash, (0, 0));
        let state = &mut self.hosts[host];
        state.disk.cut(&mut state.rng);
        self.hosts[host].forget();
        self.expected[host].forget();
        self.scripts[host].retry_is_due.fill(false);
        self.programs.kill(host);
        self.run.kills[host] = Kill::default();
        let idle = self.run.plan.net.idle;
        for link in self.net.live() {
            for side in [0, 1] {
                if self.net.links[link].ends[side].host != host {
                    continue;
                }
                self.net.touch_link(link);
                self.net.drop_line(link, side);
                let end = &mut self.net.links[link].ends[side];
                end.state = EndState::Gone;
                end.session = None;
                end.origin = None;
                let other = &mut self.net.links[link].ends[1 - side];
                if other.state != EndState::Gone && other.state != EndState::Lost {
                    other.loss = Some(ConnectionLost::TimedOut);
                    self.run.push(self.run.now + idle, Wake::Lose(link, 1 - side));
                }
                self.net.link_over(&mut self.run, link);
            }
        }
        self.run.push(self.run.now + down, Wake::Restart(host));
    }

    /// A host is started again, and peers of its former life learn of it.
    pub(super) fn restart(&mut self, host: usize) {
        if self.hosts.is_up(&self.run, host) {
            return;
        }
        for link in self.net.live() {
            for side in [0, 1] {
                let [end, other] = [side, 1 - side].map(|side| &self.net.links[link].ends[side]);
                let is_orphan = end.host == host
                    && end.state == EndState::Gone
                    && other.loss == Some(ConnectionLost::TimedOut)
                    && matches!(other.state, EndState::Open | EndState::Closing);
                if is_orphan && self.net.links[link].rng.chance(700) {
                    self.net.links[link].ends[1 - side].loss = Some(ConnectionLost::Reset);
                    self.net.send(&mut self.run, link, Wake::Lose(link, 1 - side));
                }
            }
        }
        self.start(host);
    }

    fn pause(&mut self, host: usize, until: u64) {
        // A shorter pause within a longer one ends nothing: what is held up waits for the later end.
        let paused_until = self.hosts[host].paused_until;
        let until = until.min(self.run.plan.calm_from).max(paused_until);
        self.hosts[host].paused_until = until;
        // Its clock does not advance.
        self.expected[host].pause(until - paused_until.max(self.run.now));
        let is_long = until > self.run.now + self.run.plan.net.idle;
        let mut is_met = false;
        for link in self.net.live() {
            let joins = self.net.links[link].ends.iter().any(|end| end.host == host);
            if joins {
                is_met = true;
                self.net.touch_link(link);
                if is_long {
                    self.net.break_link(&mut self.run, link, &ConnectionLost::TimedOut);
                }
            }
        }
        self.run.fire_if(is_met, "pause");
    }

    /// Faults are over: what they did is undone.
    pub(super) fn calm_down(&mut self) {
        self.run.is_calm = true;
        self.net.faults.clear();
        self.net.release_held(&mut self.run);
        for link in 0..self.net.links.len() {
            for side in [0, 1] {
                if self.run.is_adversary(self.net.links[link].ends[side].host) {
                    self.adversary().act(link, side, OVER);
                }
            }
        }
        for host in 0..self.hosts.len() {
            self.hosts[host].paused_until = 0;
            self.run.kills[host].left = None;
            (self.scripts[host].pace, self.scripts[host].unread_until) = (0, 0);
            let state = &mut self.hosts[host];
            // That it was absent so far still explains what it has missed.
            state.absent_until = state.absent_until.min(self.run.now);
            (state.dials_fail_until, state.misled) = (0, None);
            state.disk_full_until = state.disk_full_until.min(self.run.now);
            // Its book may have bans, which are lifted as well.
            if !self.hosts.is_up(&self.run, host) {
                self.restart(host);
            }
            for peer in 0..self.hosts.len() {
                if self.hosts[host].banned[peer].is_some() {
                    self.apps().unban(host, peer);
                }
            }
            self.apps().take_on_all(host);
            let life = self.hosts[host].life;
            self.nodes().read_events(host, life);
        }
        self.look();
    }
}
