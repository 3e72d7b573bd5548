//! The end of a run: after the last fault everything comes right, and after shutdown nothing is
//! left.

use glueberry_proto::ConnectionState;

use super::World;
use super::app::Application;
use super::checks::Checker;
use crate::check::Invariant;
use crate::rng::u64_of;
use crate::trace::Kind;

impl Checker<'_> {
    /// Every pair that is wanted must be Established, on one connection.
    pub(super) fn check_settled(&mut self) {
        let wanted: Vec<(usize, usize)> = (0..self.hosts.len())
            .flat_map(|by| (0..self.hosts.len()).map(move |of| (by, of)))
            .filter(|(by, of)| self.hosts[*by].wants[*of])
            .filter(|(by, of)| !self.run.is_adversary(*by) && !self.run.is_adversary(*of))
            .filter(|(by, of)| self.run.plan.can_talk(*by, *of))
            .collect();
        for (by, of) in wanted {
            let states = [self.hosts.state(by, of), self.hosts.state(of, by)];
            let links = [self.hosts.current_link(by, of), self.hosts.current_link(of, by)];
            let is_crowded = [by, of].into_iter().any(|host| self.is_crowded(host));
            let is_joined = states == [ConnectionState::Established; 2] && links[0] == links[1];
            let holds = is_joined || is_crowded;
            let (now, bound) = (self.run.now, self.run.plan.settling_time());
            self.run.checks.hold(Invariant::Converges, (now, by), holds, || {
                (
                    format!("{by} wants {of}, and nothing went wrong for {bound} µs"),
                    format!("they are {states:?} on connections {links:?}"),
                )
            });
        }
    }

    /// Returns whether a host prunes peers, though nothing goes wrong: more want it than it may have.
    fn is_crowded(&self, host: usize) -> bool {
        let last = self.expected[host].watched.pruned_at;
        last.is_some_and(|at| at >= self.run.plan.calm_from)
    }

    pub(super) fn check_over(&mut self) {
        for host in 0..self.hosts.len() {
            self.check_book_at_end(host);
            let Some(node) = &self.hosts[host].node else {
                continue;
            };
            let (is_idle, timer) = (node.is_idle(), node.poll_timeout());
            let (links, dials) = (self.hosts[host].links.len(), self.hosts[host].dials.len());
            let holds = is_idle && timer.is_none() && links == 0 && dials == 0;
            let is_left = [is_idle, timer.is_none()];
            self.run.checks.hold(Invariant::Freed, (self.run.now, host), holds, || {
                (
                    format!("shut down {} µs ago", self.run.now),
                    format!(
                        "{links} sessions, {dials} dials, timer {timer:?}, idle and timerless: \
                         {is_left:?}"
                    ),
                )
            });
        }
    }
}

impl Application<'_> {
    /// What each host still has to say, and how much its peer was given so far.
    pub(super) fn stuck_flows(&self) -> Vec<(usize, usize, u64, u64)> {
        let mut stuck = Vec::new();
        for (host, script) in self.scripts.iter().enumerate() {
            for (at, flow) in script.flows.iter().enumerate() {
                let end = self.hosts.current_end(host, flow.to);
                // What the peer never prepares is given up slowly, again and again.
                let is_wanted = !self.run.skips(flow.to, flow.stream);
                let is_waiting = flow.is_parked && flow.count > 0 && is_wanted;
                let (true, Some((link, side))) = (is_waiting, end) else {
                    continue;
                };
                let ends = &self.net.links[link].ends;
                let is_tampered = self.net.links[link].is_tampered;
                let is_established = |side: usize| ends[side].progress.is_established;
                if is_established(side) && is_established(1 - side) && !is_tampered {
                    let given = ends[1 - side].lanes[flow.stream].received;
                    stuck.push((host, at, u64_of(link), given));
                }
            }
        }
        stuck
    }

    /// An application that waits for room must have got some since.
    pub(super) fn check_released(&mut self, before: &[(usize, usize, u64, u64)]) {
        let now = self.stuck_flows();
        for host in 0..self.hosts.len() {
            let stuck = now.iter().find(|one| one.0 == host && before.contains(one));
            self.run.checks.hold(
                Invariant::Released,
                (self.run.now, host),
                stuck.is_none(),
                || {
                    (
                        "a host had messages to send, and a session to send them on".into(),
                        format!("nothing moved since (host, flow, connection, given): {stuck:?}"),
                    )
                },
            );
        }
    }
}

impl World {
    pub(super) fn shut_down(&mut self) {
        for host in 0..self.hosts.len() {
            self.hosts[host].is_stopping = true;
            let now = self.run.at();
            if let Some(node) = self.hosts[host].node.as_mut() {
                node.shutdown(now);
                self.nodes().input_of_node(host, Kind::Shutdown, (0, 0));
            }
        }
        self.look();
    }
}
