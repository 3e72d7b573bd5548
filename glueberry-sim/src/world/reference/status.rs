//! What a node says of a peer when it is asked: what its events have told, and what was done to it.

use glueberry_proto::{ConnectionState, PeerStatus};

use super::super::checks::{Checker, UNKNOWN};
use crate::check::Invariant;

use ConnectionState::{Connected, Connecting, Cooldown, Disconnected, Established, Reconnecting};

impl Checker<'_> {
    /// Compares all that a node says of its peers.
    pub(in super::super) fn check_statuses(&mut self, host: usize) {
        let state = &self.hosts[host];
        if state.absent_until >= state.last_input || state.paused_until >= self.run.now {
            return;
        }
        for peer in 0..self.hosts.len() {
            let key = self.hosts[peer].key;
            let status = self.hosts[host].node.as_ref().and_then(|node| node.peer_status(key));
            let Some(status) = status else {
                continue;
            };
            let fault = self.fault_of_status(host, peer, &status);
            let at = (self.run.now, host);
            self.run.checks.hold(Invariant::Status, at, fault.is_none(), || {
                let expected = &self.expected[host];
                let (state, since) = (expected.reported[peer].0, expected.changed_at[peer]);
                (
                    format!("{peer} is {state} since {since}"),
                    format!("the node is wrong about {}: {status:?}", fault.unwrap_or_default()),
                )
            });
        }
    }

    /// Says in what a node is wrong, if it is.
    fn fault_of_status(
        &self,
        host: usize,
        peer: usize,
        status: &PeerStatus,
    ) -> Option<&'static str> {
        let (expected, limits) = (&self.expected[host], &self.run.plan.limits);
        let (state, since) = (expected.reported[peer].0, expected.changed_at[peer]);
        let last = self.hosts[host].last_input;
        let micros = |at: glueberry_proto::Instant| at.as_micros();
        let refused = expected.parted[peer] + limits.refusal;
        let is_refused = (expected.parted[peer] > 0 && refused > last).then_some(refused);
        let known = expected.attempts[peer];
        let is_counted = match state {
            _ if known >= UNKNOWN => true,
            // What it has forgotten begins anew, as does what the application asks for.
            Disconnected => status.attempts <= known,
            Connecting => true,
            _ => status.attempts == known,
        };
        let is_heard = self.hosts[host].inbox.is_empty();
        let has_end = !matches!(state, Connected | Established)
            || !is_heard
            || self.hosts.current_end(host, peer).is_some_and(|(link, side)| {
                status.direction == Some(self.net.links[link].ends[side].direction)
            });
        let are_known = !is_heard || status.sessions == self.sessions_with(host, peer).count();
        let is_retried = match state {
            Reconnecting => status.next_attempt_at.is_some() || status.is_dialling,
            _ => status.next_attempt_at.is_none(),
        };
        let cooldown = (state == Cooldown).then(|| since + limits.cooldown);
        let is_protected = expected.watched.protects.get(&peer) == Some(&true);
        let checks = [
            (status.state == state, "its state"),
            // What it has forgotten begins anew.
            (micros(status.since) == since || state == Disconnected, "since when"),
            (status.session.is_some() == (state == Established), "what its session gives"),
            (
                state != Connecting || status.is_dialling || status.sessions > 0,
                "whether it is dialled",
            ),
            (is_retried, "when it is dialled again"),
            (status.cooldown_until.map(micros) == cooldown, "its cooldown"),
            (status.refused_until.map(micros) == is_refused, "until when it is refused"),
            (is_counted, "its attempts"),
            (has_end, "who has dialled"),
            (are_known, "how many sessions there are"),
            (status.is_protected == is_protected, "whether it is protected"),
        ];
        checks.iter().find(|(holds, _)| !holds).map(|(_, what)| *what)
    }
}
