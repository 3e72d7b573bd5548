//! Which connections get no session.

use glueberry_proto::{Config, ConnectionState};

use super::super::checks::{Checker, Grounds};
use crate::check::Invariant;
use crate::wake::Side;

use ConnectionState::{Cooldown, Established};

impl Checker<'_> {
    /// A connection was admitted: nothing speaks against it. `before` is the state of its peer until then.
    pub(in super::super) fn check_admitted(
        &mut self,
        host: usize,
        other: usize,
        (before, grounds): (ConnectionState, Grounds),
    ) {
        let reason = self.reason_to_refuse(host, other, (before, grounds));
        self.run.checks.hold(Invariant::Admitted, (self.run.now, host), reason.is_none(), || {
            (
                format!("a connection with {other}, which was {before}, is to be refused"),
                format!("it is admitted, though: {}", reason.unwrap_or_default()),
            )
        });
    }

    fn reason_to_refuse(
        &self,
        host: usize,
        other: usize,
        (before, grounds): (ConnectionState, Grounds),
    ) -> Option<&'static str> {
        let (state, expected) = (&self.hosts[host], &self.expected[host]);
        let (now, limits) = (self.run.now, &self.run.plan.limits);
        let after = self.hosts.state(host, other);
        let is_cooling = before == Cooldown
            && after == Cooldown
            && now < expected.changed_at[other] + limits.cooldown;
        // Otherwise the node counts sessions whose end is on its way to it.
        let is_heard = state.inbox.is_empty();
        let parted = expected.parted[other];
        let is_parted = parted > 0 && now < parted.saturating_add(limits.refusal);
        let most = Config::default().max_sessions_per_peer;
        let (known, all) = self.living_sessions_of(host);
        let places = limits.max_sessions;
        let reasons = [
            (state.is_stopping, "the node stops"),
            (self.hosts.ban_holds(self.run, host, other), "the peer is banned"),
            (is_cooling, "the peer is in Cooldown"),
            (grounds.is_ours && before == Established && after == Established, "it has a session"),
            (!grounds.is_ours && is_parted, "it was disconnected a moment ago"),
            (
                is_heard && grounds.sessions_of_pair >= most,
                "the peer has as many sessions as it may",
            ),
            (known >= places, "peers that are no strangers have all places"),
            (all >= 2 * places, "there are twice as many sessions as there are places"),
        ];
        reasons.iter().find(|(holds, _)| *holds).map(|(_, reason)| *reason)
    }

    /// Returns how many sessions of a host are not over: those with peers that are no strangers, and all.
    fn living_sessions_of(&self, host: usize) -> (usize, usize) {
        let links = self.hosts[host].links.values();
        let living =
            links.filter(|(link, side)| !self.net.links[*link].ends[*side].progress.is_closed);
        let is_known = |(link, side): &&(usize, Side)| {
            *side == 0 || !self.is_stranger(host, self.net.links[*link].ends[1 - *side].host)
        };
        (living.clone().filter(is_known).count(), living.count())
    }
}
