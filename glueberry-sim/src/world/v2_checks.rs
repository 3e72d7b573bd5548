//! What must hold for sessions of v2.

use glueberry_proto::{CloseReason, Closed, Naming, Profile, ProtocolId};

use super::session::Sessions;
use crate::check::Invariant;
use crate::link::EndState;
use crate::situation::TAKEN_OVER;
use crate::wake::Side;

impl Sessions<'_> {
    pub(super) fn speaks_v2(&self, (link, side): (usize, Side)) -> bool {
        let session = self.net.links[link].ends[side].session.as_ref();
        session.is_some_and(|session| session.profile() == Some(Profile::V2))
    }

    /// Returns whether all that a side writes on a substream from now on is sealed.
    pub(super) fn is_sealed_by_v2(&self, (link, side): (usize, Side), at: usize) -> bool {
        let state = &self.net.links[link];
        let pipe = &state.pipes[at];
        let is_channel = matches!(pipe.proposals.first(), Some(ProtocolId::Handshake(_)));
        let is_named = state.naming == Naming::Negotiated || pipe.carried[side].has_read;
        let carries = is_channel || (pipe.stream.is_some() && pipe.opener == side && is_named);
        carries && state.ends[side].progress.is_established && self.speaks_v2((link, side))
    }

    /// The peer of an end loses or gives up something: on a connection that nothing has happened to only
    /// because it ends its session. That ends substreams at once, and says so behind.
    pub(super) fn check_loss(&mut self, (link, side): (usize, Side), fact: &dyn Fn() -> String) {
        let long_ago = self.run.now.saturating_sub(self.run.plan.limits.negotiation_timeout);
        let is_v2 = self.speaks_v2((link, side));
        let state = &mut self.net.links[link];
        // The bytes that say of which stream and instance a substream is may be behind others for too
        // long. It is then given up, and with it what it carries.
        state.is_touched |= is_v2
            && state.pipes.iter().any(|pipe| {
                let is_named = pipe.carried[1 - pipe.opener].is_named();
                pipe.stream.is_some() && pipe.opened_at <= long_ago && !is_named
            });
        let other = &state.ends[1 - side];
        let ends = other.session.as_ref().is_none_or(|session| session.protocols().is_empty());
        if !(ends && is_v2) {
            self.check_untouched(link, side, fact);
        }
    }

    /// A side writes on a substream.
    pub(super) fn check_confirmed(&mut self, (link, side): (usize, Side), at: usize) {
        let (state, pipe) = (&self.net.links[link], &self.net.links[link].pipes[at]);
        if pipe.stream.is_none() || pipe.opener != side || !self.speaks_v2((link, side)) {
            return;
        }
        let (host, holds) = (state.ends[side].host, state.ends[side].progress.is_established);
        self.run.checks.hold(Invariant::Confirmed, (self.run.now, host), holds, || {
            (format!("connection {link} is not Established"), "a stream is written".into())
        });
    }

    /// A side is Established.
    pub(super) fn check_established(&mut self, link: usize, side: Side) {
        let ends = &self.net.links[link].ends;
        let [end, other] = [side, 1 - side].map(|side| &ends[side]);
        let profile = end.session.as_ref().and_then(|session| session.profile());
        let speaks = |host: usize| {
            let profiles = self.run.plan.hosts[host].wires.profiles();
            profile.is_some_and(|profile| profiles.contains(&profile))
        };
        let is_offered =
            speaks(end.host) && (self.run.is_adversary(other.host) || speaks(other.host));
        self.run.checks.hold(Invariant::Offered, (self.run.now, end.host), is_offered, || {
            let [ours, theirs] = [end, other].map(|end| self.run.plan.hosts[end.host].wires);
            (format!("{} speaks {ours:?}, the peer {theirs:?}", end.host), format!("{profile:?}"))
        });
        if self.run.is_adversary(other.host) || !self.speaks_v2((link, side)) {
            return;
        }
        let at = (self.run.now, end.host);
        let is_kept = match &other.session {
            Some(session) => session.is_granted() || session.is_closed(),
            // It has died since.
            None => other.progress.was_granted,
        };
        self.run.checks.hold(Invariant::Kept, at, is_kept, || {
            (format!("connection {link} is Established here"), "there it was not chosen".into())
        });
        if let (Some(ours), Some(theirs)) = (&end.session, &other.session)
            && let (Some(own), Some(peers)) = (ours.exporter(), theirs.exporter())
        {
            let is_same = own.as_bytes() == peers.as_bytes() && ours.info() == theirs.info();
            self.run.checks.hold(Invariant::SameKeys, at, is_same, || {
                let [ours, theirs] = [ours, theirs].map(|one| one.info());
                (format!("{ours:?}"), format!("{theirs:?}, or another secret"))
            });
        }
    }

    /// A session has ended: where the peer has said the last thing nothing is in doubt.
    pub(super) fn check_goodbye(&mut self, link: usize, side: Side, closed: &Closed) {
        if !matches!(closed.reason, CloseReason::EndedByPeer { .. }) {
            return;
        }
        let (host, in_doubt) = (self.net.links[link].ends[side].host, closed.in_doubt);
        self.run.checks.hold(Invariant::Settled, (self.run.now, host), in_doubt == 0, || {
            ("the peer has said what it has".into(), format!("{in_doubt} messages are in doubt"))
        });
    }

    /// A session has ended because another is kept.
    pub(super) fn check_superseded(&mut self, link: usize, side: Side, reason: &CloseReason) {
        let ends = &self.net.links[link].ends;
        let [end, other] = [side, 1 - side].map(|side| &ends[side]);
        if *reason != CloseReason::Superseded || !self.speaks_v2((link, side)) {
            return;
        }
        self.run.reach(end.progress.is_established.then_some(TAKEN_OVER));
        let is_alive = other.progress.is_established
            && !other.progress.is_closed
            && other.state == EndState::Open;
        let speaks = self.hosts.current_end(other.host, end.host) == Some((link, 1 - side));
        let at = (self.run.now, end.host);
        self.run.checks.hold(Invariant::Kept, at, !(is_alive && speaks), || {
            (format!("connection {link} is Established there"), "here another is kept".into())
        });
    }
}
