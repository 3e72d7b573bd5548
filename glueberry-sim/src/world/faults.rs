//! The steps of the plan: what applications begin, and what goes wrong.

use glueberry_proto::ConnectionLost;

use super::rogue::OVER;
use super::{Wake, World};
use crate::host::Flow;
use crate::link::Standing;
use crate::plan::{Disk, What};
use crate::rng::usize_of;
use crate::trace::{Kind, NOWHERE};

impl World {
    /// Makes a step.
    pub(super) fn step(&mut self, step: usize) {
        let what = self.plan.steps[step].what;
        if !what.is_wish() {
            let host = what.hosts().first().copied().unwrap_or(0);
            self.note(host, NOWHERE, Kind::Fault, (crate::rng::u64_of(step), 0));
        }
        match what {
            What::Want { by, of } => self.want(by, of),
            What::Part { by, of } => self.part(by, of),
            What::Talk { from, to, stream, count, burst, size, every } => {
                let size = usize_of(size).min(self.plan.limits.max_message_size);
                let (left, is_parked) = (burst, false);
                let flow = Flow { to, stream, count, burst, left, size, every, is_parked };
                self.begin_flow(from, flow);
            }
            What::Partition { hosts, one_way, lasts } => {
                self.partition(hosts, one_way, true);
                self.fire_if_blocked(if one_way { "one-way partition" } else { "partition" });
                self.queue.push(self.now + lasts, Wake::Heal(step));
            }
            What::Flap { times, .. } => self.again(step, 2 * times),
            What::Spike { host, factor, lasts } => {
                self.faults.spike(host, factor, self.now + lasts);
                self.fire_if(self.has_links(host), "latency spike");
                self.touch_links_of(host);
            }
            What::Reset { a, b } => {
                let links = self.links_between(a, b);
                self.fire_if(!links.is_empty(), "connection reset");
                for link in links {
                    self.break_link(link, &ConnectionLost::Reset);
                }
            }
            What::Break { from, to, after } => self.faults.set_break(from, to, after),
            What::Stall { from, to, lasts } => {
                let links = self.links_between(from, to);
                self.fire_if(!links.is_empty(), "stall");
                for link in links {
                    self.touch_link(link);
                }
                self.faults.stall(from, to, self.now + lasts);
            }
            What::Crash { host, inputs, down, .. } => self.doom(host, inputs, down),
            What::Pause { host, lasts } => self.pause(host, self.now + lasts),
            What::Clock { host, by } => self.set_wall_clock(host, by),
            What::Sluggish { host, every, lasts } => {
                self.fire_if(
                    self.has_links(host),
                    if every == 0 { "deaf application" } else { "slow application" },
                );
                let app = &mut self.hosts[host].app;
                app.pace = every;
                if every == 0 {
                    app.deaf_until = self.now + lasts;
                }
                self.queue.push(self.now + lasts, Wake::Heal(step));
            }
            What::Absent { host, lasts } => {
                self.fire_if(self.has_links(host), "absent application");
                self.hosts[host].app.absent_until = self.now + lasts;
                let life = self.hosts[host].life;
                self.queue.push(self.now + lasts, Wake::Events(host, life));
            }
            What::Storm { host, calls } => self.storm(host, calls),
            What::Drop { host } => self.drop_session(host),
            What::Mislead { host, to, lasts } => {
                self.hosts[host].app.misled = Some((to, self.now + lasts));
            }
            What::Uninvited { a, b, count } => self.uninvited(a, b, count),
            What::Ban { by, of, by_clock, lasts } => {
                self.ban(by, of, by_clock.then_some(lasts));
                self.queue.push(self.now + lasts, Wake::Heal(step));
            }
            What::FullDisk { host, lasts } => self.fill_disk(host, self.now + lasts),
            What::Refuse { host, lasts } => {
                self.hosts[host].app.dials_fail_until = self.now + lasts;
            }
            What::Trick { by, to, trick } => self.begin_trick(by, to, trick),
        }
    }

    /// What a step did is over.
    pub(super) fn heal(&mut self, step: usize) {
        if self.is_calm {
            return;
        }
        match self.plan.steps[step].what {
            What::Partition { hosts, one_way, .. } => {
                self.partition(hosts, one_way, false);
                self.release_held();
            }
            What::Sluggish { host, .. } => {
                self.hosts[host].app.pace = 0;
                self.take_on_all(host);
            }
            What::Ban { by, of, .. } => self.unban(by, of),
            _ => {}
        }
    }

    /// A connection flaps: blocked and open in turn.
    pub(super) fn again(&mut self, step: usize, left: u64) {
        let What::Flap { a, b, every, .. } = self.plan.steps[step].what else {
            return;
        };
        if self.is_calm || left == 0 || a == b {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            match left % 2 {
                0 => self.faults.block(from, to),
                _ => self.faults.unblock(from, to),
            }
        }
        if left.is_multiple_of(2) {
            self.fire_if_blocked("link flap");
        } else {
            self.release_held();
        }
        self.queue.push(self.now + every, Wake::Again(step, left - 1));
    }

    fn partition(&mut self, set: u64, one_way: bool, blocks: bool) {
        let count = self.hosts.len();
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

    fn fire_if_blocked(&mut self, kind: &'static str) {
        let is_met = self.note_blocks();
        self.fire_if(is_met, kind);
    }

    pub(super) fn fire_if(&mut self, is_met: bool, kind: &'static str) {
        if is_met {
            self.faults.fire(kind);
        }
    }

    fn has_links(&self, host: usize) -> bool {
        !self.hosts[host].links.is_empty()
    }

    fn touch_links_of(&mut self, host: usize) {
        for link in 0..self.links.len() {
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
            !link.is_over && ((x, y) == (a, b) || (x, y) == (b, a))
        };
        (0..self.links.len()).filter(joins).collect()
    }

    // ---- crashes and pauses -------------------------------------------------------------------

    fn doom(&mut self, host: usize, inputs: u64, down: u64) {
        if self.hosts[host].node.is_none() || self.hosts[host].doom.is_some() {
            return;
        }
        self.faults.fire("crash");
        self.hosts[host].doom = Some((inputs, down));
        if inputs == 0 {
            self.kill(host);
        }
    }

    /// The process of a host ends, whatever it was doing.
    pub(super) fn kill(&mut self, host: usize) {
        let Some((_, down)) = self.hosts[host].doom else {
            return;
        };
        self.note(host, NOWHERE, Kind::Crash, (0, 0));
        self.cut_disk(host);
        self.hosts[host].forget();
        let idle = self.plan.net.idle;
        for link in 0..self.links.len() {
            if self.links[link].is_over {
                continue;
            }
            for side in [0, 1] {
                if self.links[link].ends[side].host != host {
                    continue;
                }
                self.touch_link(link);
                let end = &mut self.links[link].ends[side];
                end.standing = Standing::Gone;
                end.session = None;
                end.origin = None;
                let other = &mut self.links[link].ends[1 - side];
                if other.standing != Standing::Gone && other.standing != Standing::Lost {
                    other.loss = Some(ConnectionLost::TimedOut);
                    self.queue.push(self.now + idle, Wake::Lose(link, 1 - side));
                }
                self.link_over(link);
            }
        }
        self.queue.push(self.now + down, Wake::Restart(host));
    }

    /// A host is started again, and whoever still talks to its former life hears that.
    pub(super) fn restart(&mut self, host: usize) {
        if self.hosts[host].is_up() {
            return;
        }
        for link in 0..self.links.len() {
            for side in [0, 1] {
                let [end, other] = [side, 1 - side].map(|side| &self.links[link].ends[side]);
                let is_orphan = end.host == host
                    && end.standing == Standing::Gone
                    && other.loss == Some(ConnectionLost::TimedOut)
                    && matches!(other.standing, Standing::Open | Standing::Closing);
                if is_orphan && self.links[link].rng.chance(700) {
                    self.links[link].ends[1 - side].loss = Some(ConnectionLost::Reset);
                    self.send(link, Wake::Lose(link, 1 - side));
                }
            }
        }
        self.start(host);
    }

    fn pause(&mut self, host: usize, until: u64) {
        let until = until.min(self.plan.calm_from);
        self.hosts[host].paused_until = until;
        // Nobody's time passes for it.
        for (_, since) in &mut self.hosts[host].told {
            *since += until - self.now;
        }
        let is_long = until > self.now + self.plan.net.idle;
        let mut is_met = false;
        for link in 0..self.links.len() {
            let joins = self.links[link].ends.iter().any(|end| end.host == host);
            if joins && !self.links[link].is_over {
                is_met = true;
                self.touch_link(link);
                if is_long {
                    self.break_link(link, &ConnectionLost::TimedOut);
                }
            }
        }
        self.fire_if(is_met, "pause");
    }

    /// The task of a session dies, and its connection with it.
    fn drop_session(&mut self, host: usize) {
        let links: Vec<_> = self.hosts[host].links.iter().map(|(id, link)| (*id, *link)).collect();
        if links.is_empty() {
            return;
        }
        let at = self.hosts[host].rng.index(links.len());
        let (id, link) = links[at];
        let Some(side) = self.side_of(link, host, id) else {
            return;
        };
        self.faults.fire("dropped session");
        self.touch_link(link);
        let end = &mut self.links[link].ends[side];
        end.session = None;
        end.standing = Standing::Gone;
        self.hosts[host].links.remove(&id);
        self.hang_up(link, side, 0);
        let now = self.at();
        if let Some(node) = self.hosts[host].node.as_mut() {
            node.handle_session_gone(now, id);
            self.input_of_node(host, Kind::Gone, (id.as_u64(), 0));
        }
    }

    /// Connections that nobody has dialled, as a swarm shares them.
    fn uninvited(&mut self, a: usize, b: usize, count: u64) {
        if a == b || !self.hosts[a].is_up() || !self.hosts[b].is_up() {
            return;
        }
        self.faults.fire("uninvited connections");
        for _ in 0..count {
            let link = self.connect_hosts(a, b, glueberry_proto::Origin::Accepted);
            self.touch_link(link);
        }
    }

    /// Faults are over: what they did is undone.
    pub(super) fn calm_down(&mut self) {
        self.is_calm = true;
        self.faults.clear();
        self.release_held();
        for link in 0..self.links.len() {
            for side in [0, 1] {
                if self.hosts[self.links[link].ends[side].host].is_rogue {
                    self.rogue_goes_on(link, side, OVER);
                }
            }
        }
        for host in 0..self.hosts.len() {
            self.hosts[host].paused_until = 0;
            self.hosts[host].doom = None;
            let app = &mut self.hosts[host].app;
            (app.pace, app.deaf_until, app.absent_until) = (0, 0, 0);
            (app.dials_fail_until, app.disk_full_until, app.misled) = (0, 0, None);
            // Its book may have bans, which are lifted as well.
            if !self.hosts[host].is_up() {
                self.restart(host);
            }
            for peer in 0..self.hosts.len() {
                if self.hosts[host].banned[peer].is_some() {
                    self.unban(host, peer);
                }
            }
            self.take_on_all(host);
            let life = self.hosts[host].life;
            self.read_events(host, life);
        }
        self.look();
    }

    /// Returns what is left of the disk of a host that is killed by a step of the plan.
    pub(super) fn disk_after(&self, host: usize) -> Disk {
        let crash = self.plan.steps.iter().rev().find_map(|step| match step.what {
            What::Crash { host: dead, disk, .. } if dead == host && step.at <= self.now => {
                Some(disk)
            }
            _ => None,
        });
        crash.unwrap_or(Disk::Intact)
    }
}
