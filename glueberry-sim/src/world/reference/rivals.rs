//! Which of several sessions with one peer wins.

use glueberry_proto::Profile;

use super::super::checks::Checker;
use super::super::session::Sessions;
use crate::check::Invariant;
use crate::link::EndState;
use crate::wake::Side;

impl Checker<'_> {
    /// A session becomes the one that speaks for its peer. Of two that are agreed, the one that the
    /// smaller key has dialled does.
    pub(in super::super) fn check_chosen(&mut self, link: usize, side: Side) {
        let ends = &self.net.links[link].ends;
        let (host, peer) = (ends[side].host, ends[1 - side].host);
        if self.is_dialled_by_smaller(link) || !self.hosts[host].inbox.is_empty() {
            return;
        }
        // What the node has heard of before: of several words at one moment the first may decide.
        let is_known = |(link, side): (usize, Side)| {
            let agreed = self.net.links[link].ends[side].agreed_at;
            agreed.is_some_and(|at| at + self.run.plan.net.message_delay < self.run.now)
        };
        let was_waiting = is_known((link, side));
        let rival = self.rivals(link, side).find(|(other, at)| {
            let end = &self.net.links[*other].ends[*at];
            let is_heard = is_known((*other, *at)) || (was_waiting && end.agreed_at.is_some());
            is_heard && !end.progress.has_begun() && self.is_dialled_by_smaller(*other)
        });
        self.run.checks.hold(Invariant::Keeper, (self.run.now, host), rival.is_none(), || {
            (
                format!("connection {rival:?} with {peer} was dialled by the smaller key"),
                format!("connection {link} is chosen"),
            )
        });
    }

    /// Returns the other sessions of an end's peer that nothing has happened to.
    fn rivals(&self, link: usize, side: Side) -> impl Iterator<Item = (usize, Side)> {
        let ends = &self.net.links[link].ends;
        let peer = ends[1 - side].host;
        self.hosts[ends[side].host].links.values().copied().filter(move |(other, at)| {
            let state = &self.net.links[*other];
            let end = &state.ends[*at];
            let is_alive = end.state == EndState::Open && !end.progress.is_closed;
            // By Go's profile the one that still has its handshake substream is kept.
            let profile = end.session.as_ref().and_then(|session| session.profile());
            let is_alive = is_alive && profile != Some(Profile::V1Go);
            *other != link && is_alive && state.ends[1 - *at].host == peer && !state.is_touched
        })
    }

    fn is_dialled_by_smaller(&self, link: usize) -> bool {
        let [dialler, other] =
            [0, 1].map(|side| self.hosts[self.net.links[link].ends[side].host].key);
        dialler < other
    }
}

impl Sessions<'_> {
    /// A session was driven: takes note that its handshake substream is agreed.
    pub(in super::super) fn note_agreed(&mut self, link: usize, side: Side) {
        let end = &mut self.net.links[link].ends[side];
        if end.agreed_at.is_none()
            && end.session.as_ref().is_some_and(|session| session.profile().is_some())
        {
            end.agreed_at = Some(self.run.now);
        }
    }
}
