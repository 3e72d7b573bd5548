//! Which dials are begun, and which give way to others.

use glueberry_proto::{ConnectionState, DialId};

use super::super::checks::Checker;
use crate::check::Invariant;

use ConnectionState::Connecting;

impl Checker<'_> {
    /// A dial of a peer begins: none that has just made way for others, or those needed no room.
    pub(in super::super) fn check_begun(&mut self, host: usize, peer: usize) {
        let expected = &mut self.expected[host];
        // Of many calls the first may need the room that a later one frees.
        let is_burst = expected.burst_at == Some(self.run.now);
        let holds = expected.postponed.remove(&peer) != Some(self.run.inputs) || is_burst;
        self.run.checks.hold(Invariant::Postponed, (self.run.now, host), holds, || {
            (
                format!("the dial of {peer} makes way for another"),
                "it is begun again at once".into(),
            )
        });
    }

    /// A dial is given up. If it is only to be begun later, then for one that the application waits
    /// for: it is not waited for itself.
    pub(in super::super) fn check_given_way(&mut self, host: usize, dial: DialId) {
        let Some(given_up) = self.hosts[host].dials.get(&dial) else {
            return;
        };
        let Some(peer) = self.hosts.by_key.get(&given_up.peer).copied() else {
            return;
        };
        let status =
            self.hosts[host].node.as_ref().and_then(|node| node.peer_status(given_up.peer));
        let is_postponed = status.is_some_and(|status| {
            let is_older = status.since.as_micros() < self.hosts[host].last_input;
            status.state == Connecting && status.is_dialling && is_older
        });
        if !is_postponed {
            return;
        }
        self.expected[host].postponed.insert(peer, self.run.inputs);
        if given_up.wanted_at.is_some() {
            self.expected[host].awaited.insert(peer);
        }
        // What the application has asked for since the node was asked for its actions came behind.
        let was_wanted = given_up.wanted_at.is_some_and(|at| at < self.run.now);
        self.run.checks.hold(Invariant::Postponed, (self.run.now, host), !was_wanted, || {
            (
                format!("the dial of {peer} makes way: {given_up:?}"),
                "the application waits for it".into(),
            )
        });
    }

    /// The application waits for the dial of a peer no more, if none is queued.
    pub(in super::super) fn forget_wishes(&mut self, host: usize) {
        let hosts = self.hosts;
        let is_dialled = |peer: &usize| hosts.state(host, *peer) == Connecting;
        self.expected[host].awaited.retain(is_dialled);
    }
}
