//! Being found out: who breaks the protocol is blamed for it, and for nothing else.

use glueberry_proto::CloseReason;

use crate::check::Invariant;
use crate::link::{Side, Standing};
use crate::trick::Trick;
use crate::world::World;

impl World {
    /// A session has taken what a rogue has sent: an offence in it must have ended the session.
    pub(in crate::world) fn check_offence(&mut self, link: usize, at: usize, side: Side) {
        let Some(rogue) = &self.links[link].rogue else {
            return;
        };
        if rogue.offence != Some(at) {
            return;
        }
        let (trick, by_end) = (rogue.trick, rogue.offends_by_end);
        let pipe = &self.links[link].pipes[at];
        let half = &pipe.halves[side];
        let Some(buffer) = &pipe.buffers[side] else {
            return;
        };
        let is_taken = half.segments.is_empty()
            && half.reset.is_none()
            && if by_end { half.is_over } else { buffer.wants_read() || buffer.is_read_over() };
        // What is paused is not taken, and what is discarded offends nobody, or comes on a
        // substream that was given up before.
        let is_paused = !buffer.wants_read() && !buffer.is_read_over();
        let is_given_up = half.stopped.is_some();
        let end = &self.links[link].ends[side];
        let Some(session) = end.session.as_ref() else {
            return;
        };
        if !is_taken || is_paused || is_given_up || end.standing != Standing::Open {
            return;
        }
        if trick != Trick::HalfFrame && trick != Trick::HugeFrame && end.talk.is_finalized {
            return;
        }
        let (host, is_closed) = (end.host, session.is_closed());
        self.checks.hold(Invariant::RogueBlamed, (self.now, host), is_closed, || {
            (format!("the peer has done this: {}", trick.name()), "its session goes on".into())
        });
    }

    /// A session with a rogue has ended: not by a bug of ours.
    pub(in crate::world) fn rogue_blamed(&mut self, link: usize, side: Side, reason: &CloseReason) {
        let host = self.links[link].ends[side].host;
        let Some(rogue) = &self.links[link].rogue else {
            return;
        };
        let trick = rogue.trick;
        let is_mild = matches!(
            trick,
            Trick::Silent | Trick::Slow | Trick::Deaf | Trick::Hangup | Trick::Refuser
        );
        let is_blamed = matches!(reason, CloseReason::Misbehaved(_));
        self.checks.hold(Invariant::Blame, (self.now, host), !(is_mild && is_blamed), || {
            (format!("the peer has only done this: {}", trick.name()), format!("{reason:?}"))
        });
    }

    /// A session delivers what a rogue has sealed: once, and nothing that somebody else has.
    pub(in crate::world) fn check_rogue_message(&mut self, link: usize, side: Side, text: &[u8]) {
        let host = self.links[link].ends[side].host;
        let is_own = self.model.find(text).is_some();
        self.checks.hold(Invariant::NoGhost, (self.now, host), !is_own, || {
            ("a rogue has sent this back".into(), "it is delivered as if he had sealed it".into())
        });
        let Some(rogue) = &mut self.links[link].rogue else {
            return;
        };
        rogue.records += 1;
        let (records, trick) = (rogue.records, rogue.trick);
        self.checks.hold(Invariant::RogueBlamed, (self.now, host), records <= 1, || {
            (format!("a record was repeated ({})", trick.name()), "it is delivered again".into())
        });
    }
}
