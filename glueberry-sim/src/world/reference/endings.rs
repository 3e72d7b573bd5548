//! What must have ended: sessions that are not needed, and what an application has called off.

use glueberry_proto::{CloseReason, ConnectionEvent, ConnectionState, StateReason};

use super::super::checks::Checker;
use crate::check::Invariant;
use crate::generate::SECOND;
use crate::link::{EndState, Link};
use crate::wake::Side;

use ConnectionState::{Connected, Cooldown, Disconnected, Established, Reconnecting};

impl Checker<'_> {
    /// A peer has changed its state: a handshake that has failed is followed by a cooldown, and
    /// nothing else is; what was called off during it does not come behind it.
    pub(in super::super) fn check_cooldown(
        &mut self,
        host: usize,
        peer: usize,
        from: ConnectionState,
        event: &ConnectionEvent,
    ) {
        let at = (self.run.now, host);
        if let (Connected, Some(StateReason::SessionEnded(why))) = (from, &event.reason) {
            let has_failed =
                matches!(why, CloseReason::HandshakeTimeout | CloseReason::Rejected(_));
            let holds = has_failed == (event.state == Cooldown);
            self.run.checks.hold(Invariant::Transition, at, holds, || {
                (format!("the handshake with {peer} has ended: {why}"), format!("{}", event.state))
            });
        }
        if from == Cooldown {
            let is_called_off = self.expected[host].called_off.remove(&peer);
            let is_retried = event.state == Reconnecting;
            self.run.checks.hold(Invariant::Attempts, at, !(is_called_off && is_retried), || {
                (format!("attempts to reconnect to {peer} were called off"), "one is made".into())
            });
            let is_over = event.reason == Some(StateReason::CooldownOver);
            if is_over && event.state == Disconnected && !is_called_off {
                self.expected[host].watched.owes(peer);
            }
        }
    }

    /// Looks from time to time for sessions that should be over by the state of their peer.
    pub(in super::super) fn check_unneeded(&mut self, host: usize) {
        let state = &self.hosts[host];
        let away_until = state.absent_until.max(state.paused_until);
        if away_until + 5 * SECOND >= self.run.now {
            return;
        }
        let slack = 8 * self.run.plan.longest_delay() + 3 * SECOND;
        let unneeded = state.links.values().find_map(|(link, side)| {
            let state = &self.net.links[*link];
            let since = self.unneeded_since(state, *side)?;
            let holds = self.run.now <= since + slack;
            (!holds).then_some((*link, since))
        });
        self.run.checks.hold(
            Invariant::Superfluous,
            (self.run.now, host),
            unneeded.is_none(),
            || {
                (
                    "a session that waits for nothing ends".into(),
                    format!("this connection's, and since when: {unneeded:?}"),
                )
            },
        );
    }

    /// Returns since when a session has nothing to wait for any more.
    fn unneeded_since(&self, link: &Link, side: Side) -> Option<u64> {
        let (end, peer) = (&link.ends[side], link.ends[1 - side].host);
        // What has spoken for its peer is drained, or ends with its connection.
        if end.progress.has_begun() || end.progress.is_closed || end.state != EndState::Open {
            return None;
        }
        let (expected, limits) = (&self.expected[end.host], &self.run.plan.limits);
        let (state, since) = (expected.reported[peer].0, expected.changed_at[peer]);
        match state {
            // No handshake follows one that has failed.
            Cooldown => Some(since.max(end.admitted_at)),
            // The peer answers on the session that it has, or that is lost.
            // Who breaks the protocol may not answer.
            Established if !self.run.is_adversary(peer) => {
                // A Go node answers a probe by refusing a substream, and that only shows what it keeps.
                let time = limits.more.probe_timeout.max(limits.negotiation_timeout);
                end.agreed_at.map(|agreed| agreed.max(since) + time)
            }
            _ => None,
        }
    }
}
