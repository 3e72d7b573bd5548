//! Dials, and connections that neither side has dialled for its node.

use glueberry_proto::{DialError, DialId, Origin};

use super::node::Nodes;
use crate::link::EndState;
use crate::situation::DIAL_REFUSED;
use crate::trace::Kind;
use crate::wake::Wake;

impl Nodes<'_> {
    pub(super) fn dial_begins(&mut self, host: usize, dial: DialId) {
        let wait = self.hosts[host].rng.below(self.run.plan.net.delay + 1);
        let life = self.hosts[host].life;
        self.run.push(self.run.now + wait, Wake::Dial(host, life, dial));
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
        if self.hosts[host].dials_fail_until > self.run.now {
            self.run.fire("refuse");
            return self.dial_failed(host, dial, DialError::NoUsableAddress);
        }
        if to >= self.hosts.len() || to == host {
            return self.dial_failed(host, dial, DialError::NoUsableAddress);
        }
        let is_blocked =
            self.net.faults.is_blocked(host, to) || self.net.faults.is_blocked(to, host);
        let answers = self.hosts.is_up(self.run, to) && self.hosts[to].paused_until <= self.run.now;
        if answers && !is_blocked {
            self.net.connect_hosts(self.run, self.hosts, (host, to), Origin::Dialled(dial));
            return;
        }
        if !is_blocked && !self.hosts.is_up(self.run, to) && self.hosts[host].rng.chance(300) {
            self.run.reach(Some(DIAL_REFUSED));
            return self.dial_failed(host, dial, DialError::Transport("refused".to_owned()));
        }
        let tries = dialled.tries + 1;
        if let Some(dialled) = self.hosts[host].dials.get_mut(&dial) {
            dialled.tries = tries;
        }
        let wait = DIAL_AGAIN << tries.min(3);
        self.run.push(self.run.now + wait, Wake::Dial(host, life, dial));
    }

    /// The task of a session dies, and its connection with it.
    pub(super) fn drop_session(&mut self, host: usize) {
        let links: Vec<_> = self.hosts[host].links.iter().map(|(id, end)| (*id, *end)).collect();
        if links.is_empty() {
            return;
        }
        let at = self.hosts[host].rng.index(links.len());
        let (id, (link, side)) = links[at];
        self.run.fire("dropped session");
        self.net.touch_link(link);
        let end = &mut self.net.links[link].ends[side];
        end.session = None;
        end.state = EndState::Gone;
        self.hosts[host].links.remove(&id);
        self.net.drop_line(link, side);
        self.net.hang_up(self.run, link, side, 0);
        let now = self.run.at();
        if let Some(node) = self.hosts[host].node.as_mut() {
            node.handle_session_gone(now, id);
            self.input_of_node(host, Kind::Gone, (id.as_u64(), 0));
        }
    }

    /// Connections that neither node has dialled, as a swarm shares them.
    pub(super) fn uninvited(&mut self, a: usize, b: usize, count: u64) {
        if a == b || !self.hosts.is_up(self.run, a) || !self.hosts.is_up(self.run, b) {
            return;
        }
        self.run.fire("uninvited connections");
        for _ in 0..count {
            let link = self.net.connect_hosts(self.run, self.hosts, (a, b), Origin::Accepted);
            self.net.touch_link(link);
        }
    }
}

/// Microseconds until a dial is tried again; doubles three times.
const DIAL_AGAIN: u64 = 500_000;
