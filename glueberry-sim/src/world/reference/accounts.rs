//! What became of the messages of a session, as its transport knows it.

use glueberry_proto::{CloseReason, Closed, Profile};

use super::super::session::Sessions;
use crate::check::Invariant;
use crate::plan::HandshakeStyle;
use crate::wake::Side;

impl Sessions<'_> {
    /// A session of version 1 has ended: each message it had accepted was written or is unsent, and
    /// each that was written was acknowledged or is in doubt.
    pub(in super::super) fn check_counted(&mut self, link: usize, side: Side, closed: &Closed) {
        let state = &self.net.links[link];
        let end = &state.ends[side];
        let is_honest = state.ends.iter().all(|end| !self.run.is_adversary(end.host));
        let profile = end.session.as_ref().and_then(|one| one.profile());
        if profile != Some(Profile::V1) || !is_honest {
            return;
        }
        let sum = |of: fn(&crate::model::Lane) -> u64| end.lanes.iter().map(of).sum::<u64>();
        let [accepted, unsent, acknowledged] =
            [sum(|lane| lane.accepted), sum(|lane| lane.unsent), sum(|lane| lane.acknowledged)];
        let written = sum(|lane| lane.written.0);
        let in_doubt = closed.in_doubt;
        let holds = accepted == written + unsent && written == acknowledged + in_doubt;
        self.run.checks.hold(Invariant::Counted, (self.run.now, end.host), holds, || {
            (
                format!("{accepted} accepted, {written} written, {acknowledged} acknowledged"),
                format!("said to be: {unsent} unsent, {in_doubt} in doubt"),
            )
        });
    }

    /// The time for a handshake is over: on a connection that nothing has happened to, between two
    /// that take less time to answer, it is enough.
    pub(in super::super) fn check_handshake_ended(
        &mut self,
        link: usize,
        side: Side,
        reason: &CloseReason,
    ) {
        let state = &self.net.links[link];
        let end = &state.ends[side];
        let net = &self.run.plan.net;
        if *reason != CloseReason::HandshakeTimeout || !end.progress.has_begun() {
            return;
        }
        let slowest =
            state.ends.iter().map(|end| match self.run.plan.hosts[end.host].handshake_style {
                HandshakeStyle::Slow(after) => after,
                _ => 0,
            });
        let hears = state.ends.iter().map(|end| self.run.plan.hosts[end.host].talk.hears_after);
        let needed =
            3 * slowest.sum::<u64>() + 12 * hears.sum::<u64>() + 40 * self.run.plan.longest_delay();
        let is_slow = net.bandwidth > 0 || needed >= self.run.plan.limits.handshake_timeout;
        // Neither has another session since.
        let is_settled = state
            .ends
            .iter()
            .all(|end| end.progress.granted_at.is_some_and(|since| since + needed <= self.run.now));
        // An application that was away goes on too late.
        let begun = self.run.now.saturating_sub(self.run.plan.limits.handshake_timeout);
        let is_idle = state.ends.iter().any(|end| {
            let did = &end.progress;
            (did.got_hello && !did.is_prepared)
                || (did.got_ready && !did.is_finalized)
                || self.hosts[end.host].absent_until > begun
        });
        let is_excused = state.is_touched || is_slow || !is_settled || is_idle;
        // In v2 that waits for the peer, whose node may have chosen another session.
        let is_finalized = end.progress.is_finalized && !self.speaks_v2((link, side));
        let holds = is_excused && !is_finalized;
        self.run.checks.hold(Invariant::HandshakeEnds, (self.run.now, end.host), holds, || {
            (
                format!("the handshake on connection {link} needs {needed} µs"),
                format!("its time is over, finalized: {is_finalized}"),
            )
        });
    }
}
