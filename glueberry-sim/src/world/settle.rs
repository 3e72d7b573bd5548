//! The end of a run: after the last fault everything comes right, and after shutdown nothing is
//! left.

use glueberry_proto::ConnectionState;

use super::World;
use crate::check::Invariant;
use crate::rng::u64_of;
use crate::trace::Kind;

impl World {
    /// Every pair that is wanted must be Established, on one connection.
    pub(super) fn check_settled(&mut self) {
        let wanted: Vec<(usize, usize)> = (0..self.hosts.len())
            .flat_map(|by| (0..self.hosts.len()).map(move |of| (by, of)))
            .filter(|(by, of)| self.hosts[*by].app.wants[*of])
            .filter(|(by, of)| !self.hosts[*by].is_rogue && !self.hosts[*of].is_rogue)
            .collect();
        for (by, of) in wanted {
            let states = [self.state(by, of), self.state(of, by)];
            let links = [self.current_link(by, of), self.current_link(of, by)];
            let holds = states == [ConnectionState::Established; 2] && links[0] == links[1];
            let (now, bound) = (self.now, self.plan.settling_time());
            self.checks.hold(Invariant::Converges, (now, by), holds, || {
                (
                    format!("{by} wants {of}, and nothing went wrong for {bound} µs"),
                    format!("they are {states:?} on connections {links:?}"),
                )
            });
        }
    }

    /// What each host still has to say, and how much its peer was given so far.
    pub(super) fn stuck_flows(&self) -> Vec<(usize, usize, u64, u64)> {
        let mut stuck = Vec::new();
        for (host, state) in self.hosts.iter().enumerate() {
            for (at, flow) in state.app.flows.iter().enumerate() {
                let end = self.current_end(host, flow.to);
                let (true, Some((link, side))) = (flow.is_parked && flow.count > 0, end) else {
                    continue;
                };
                let ends = &self.links[link].ends;
                if ends[side].talk.is_established && ends[1 - side].talk.is_established {
                    let given = ends[1 - side].lanes[flow.stream].received;
                    stuck.push((host, at, u64_of(link), given));
                }
            }
        }
        stuck
    }

    /// Whoever waits for room must have got some since.
    pub(super) fn check_released(&mut self, before: &[(usize, usize, u64, u64)]) {
        let now = self.stuck_flows();
        for host in 0..self.hosts.len() {
            let stuck = now.iter().find(|one| one.0 == host && before.contains(one));
            self.checks.hold(Invariant::Released, (self.now, host), stuck.is_none(), || {
                (
                    "a host had messages to send, and a session to send them on".into(),
                    format!("nothing moved since (host, flow, connection, given): {stuck:?}"),
                )
            });
        }
    }

    pub(super) fn shut_down(&mut self) {
        for host in 0..self.hosts.len() {
            self.hosts[host].is_stopping = true;
            let now = self.at();
            if let Some(node) = self.hosts[host].node.as_mut() {
                node.shutdown(now);
                self.input_of_node(host, Kind::Shutdown, (0, 0));
            }
        }
        self.look();
    }

    /// Returns how long after a shutdown nothing may be left, in microseconds.
    pub(super) fn time_to_stop(&self) -> u64 {
        let limits = &self.plan.limits;
        let net = &self.plan.net;
        limits.drain_timeout
            + limits.cooldown.max(limits.refusal)
            + net.idle
            + 8 * self.plan.longest_delay()
            + 1_000_000
    }

    pub(super) fn check_over(&mut self) {
        for host in 0..self.hosts.len() {
            let Some(node) = &self.hosts[host].node else {
                continue;
            };
            let (is_idle, timer) = (node.is_idle(), node.poll_timeout());
            let (links, dials) = (self.hosts[host].links.len(), self.hosts[host].dials.len());
            let holds = is_idle && timer.is_none() && links == 0 && dials == 0;
            let is_left = [is_idle, timer.is_none()];
            self.checks.hold(Invariant::Freed, (self.now, host), holds, || {
                (
                    format!("shut down {} µs ago", self.now),
                    format!(
                        "{links} sessions, {dials} dials, timer {timer:?}, idle and timerless: \
                         {is_left:?}"
                    ),
                )
            });
        }
    }
}
