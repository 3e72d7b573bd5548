//! Which of several sessions of a peer is the current one.
//!
//! Each side decides by itself, and both must come to the same end. The preferred direction is that
//! of the session that the smaller key has dialled: `Outbound` on the one side, `Inbound` on the
//! other. A session enters the table when a handshake substream is agreed on it; a session that
//! waits enters it again when the rival has ended or may no longer be waited for.
//!
//! | agreed session | rival | what happens | why |
//! |---|---|---|---|
//! | any | none | becomes current | |
//! | preferred | preferred one is being negotiated | becomes current | the rival is no better |
//! | not preferred, preferred is `Outbound` | preferred one is being negotiated | waits | the rival is ours and has a deadline; nothing that was said has then to be taken back |
//! | not preferred, preferred is `Inbound` | preferred one is being negotiated | waits for [`probe_timeout`](crate::Config::probe_timeout) | the rival is the peer's, which may never go on with it |
//! | any | current has lost its handshake substream, streams not prepared | replaces it | a Go node keeps one handshake substream, on whichever session |
//! | preferred | current is not preferred, streams not prepared | replaces it | the connections crossed, and the peer decides the same |
//! | `Outbound` | any other current | is ended | of two connections each is closed by the side that dialled it |
//! | `Inbound` | any other current | waits; the current one is probed | the peer may have been restarted, and no longer have the current one |
//!
//! A session that is agreed by Go's profile may be with a Go node. That has one session for all its
//! connections, keeps the first handshake substream that it has, on whichever, gives up the others at
//! once, and may use any of its connections for its messages. A node of our kind keeps both. So:
//!
//! | agreed session | rival | what happens | why |
//! |---|---|---|---|
//! | not preferred, preferred is `Inbound` | preferred one is being negotiated | waits until its peer has answered a probe | a node of our kind has opened its handshake substream by then |
//! | any | any current, streams not prepared | waits; the current one is probed | the answer comes behind the end of the handshake substream that the peer does not keep |
//!
//! The current one is probed as well as soon as there is any other session, and then its answer ends
//! all others whose handshake substream has ended, and the rest end once streams are prepared: a Go
//! node has to have one connection before it sends on another. Two that crossed and both live are
//! those of a node of our kind, and are decided by the preferred direction. An answer is the refusal
//! of the probe: whatever else comes may have been sent before.
//!
//! A handshake substream that the peer has ended is lost, unless the peer has spoken on the session:
//! then its side of the handshake is over, and it uses this session.
//!
//! The smaller key never sees an outbound session with a rival: while its own session is negotiating
//! no other becomes current, and once another is current its dial is cancelled.
//!
//! No replacement begins of a session that has reported that it has prepared streams, or that it is
//! Established: what was encrypted for it would be lost. One that has begun by then goes on, unless
//! the session is Established before it is asked to yield.
//!
//! In v2 it is the peer's confirmation, and not the prepared streams, from which on a session is kept:
//! nothing is encrypted on a session that the peer has not confirmed, and the consent is handed on with
//! the messages. A side confirms the session that is current, as soon as there are keys. So the larger
//! key may have confirmed its own connection when it learns of the preferred one, and moves to that. The
//! smaller one has not chosen the other then, and hence not confirmed it.
//!
//! A peer confirms no session but its current one. If it confirms one that began after it had confirmed
//! the current one of this side, it has given that up: the new one takes over at once.
//!
//! A probe that is answered ends the sessions that wait because of it, and one that is not ends the
//! current session, so that one that waits becomes current: the oldest, which is probed at once if the
//! peer has opened another since.

use super::Peer;
use super::sessions::{SessionRecord, Stage};
use super::state::{Current, State};
use crate::crypto::PublicKey;
use crate::error::CloseReason;
use crate::id::SessionId;
use crate::message::{Carry, FromNode};
use crate::node::context::Context;
use crate::node::env::Env;
use crate::prelude::*;
use crate::session::Direction;
use crate::wire::Profile;

/// An agreed session, and what keeps it from becoming current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    /// The direction of the session that is kept of two that crossed.
    preferred: Direction,
    /// The direction of the agreed session.
    agreed: Direction,
    /// The peer may be a Go node, in both sessions.
    keeps_one_handshake: bool,
    rival: Rival,
}

/// The other session that matters most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rival {
    None,
    /// There is no current session, but one of the preferred direction is being negotiated.
    Negotiating,
    /// There is a current session.
    Current {
        direction: Direction,
        is_kept: bool,
    },
    /// There is a current session that has no handshake substream, and no streams.
    Lost,
}

/// What happens to the agreed session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It becomes current.
    Activate,
    /// It waits until the rival is agreed or has ended.
    Wait,
    /// It waits for the rival, but not longer than the peer has to answer a probe.
    Hold,
    /// It waits until its peer has answered a probe, in place of that.
    Ask,
    /// It becomes current once the current one has yielded.
    Replace,
    /// It ends.
    End,
    /// It waits until the current one is known to be alive or lost.
    Probe,
}

impl Case {
    fn decide(self) -> Verdict {
        let is_preferred = self.agreed == self.preferred;
        match self.rival {
            Rival::None => Verdict::Activate,
            Rival::Negotiating if is_preferred => Verdict::Activate,
            Rival::Negotiating => match self.preferred {
                Direction::Outbound => Verdict::Wait,
                Direction::Inbound if self.keeps_one_handshake => Verdict::Ask,
                Direction::Inbound => Verdict::Hold,
            },
            Rival::Lost => Verdict::Replace,
            Rival::Current { is_kept: false, .. } if self.keeps_one_handshake => Verdict::Probe,
            Rival::Current { direction, is_kept: false }
                if is_preferred && direction != self.preferred =>
            {
                Verdict::Replace
            }
            Rival::Current { .. } => match self.agreed {
                Direction::Outbound => Verdict::End,
                Direction::Inbound => Verdict::Probe,
            },
        }
    }
}

impl Peer {
    /// A handshake substream is agreed on a session.
    pub(super) fn session_agreed(&mut self, id: SessionId, profile: Profile, cx: &mut Context<'_>) {
        let Some(record) = self.others.get_mut(id) else {
            return cx.out.internal_error("a session that is agreed is not its peer's");
        };
        match record.stage {
            Stage::Negotiating { .. } => {
                let deadline = cx.env.now + cx.env.config.handshake_timeout;
                record.stage = Stage::Agreed { deadline };
                record.profile = Some(profile);
            }
            // The node has asked it to end meanwhile.
            Stage::Ending { .. } => return,
            Stage::Agreed { .. } | Stage::Yielded => {
                return cx.out.internal_error("a session was agreed twice");
            }
        }
        let agreed = *record;
        match self.current().copied() {
            None => self.promote(cx),
            Some(current) => self.compete(&agreed, current, cx),
        }
    }

    /// Makes the best agreed session current, of a peer that has no current one.
    pub(super) fn promote(&mut self, cx: &mut Context<'_>) {
        let preferred = preferred_direction(cx.env, self.key);
        let best = self
            .others
            .agreed()
            .min_by_key(|session| (session.is_handshake_lost, session.direction != preferred));
        let Some(best) = best.copied() else {
            return;
        };
        // The sessions of a peer whose handshake failed are about to end.
        if matches!(self.state, State::Cooldown { .. }) {
            return;
        }
        let is_negotiating = self
            .others
            .live()
            .any(|session| session.direction == preferred && !session.is_agreed());
        let rival = if is_negotiating { Rival::Negotiating } else { Rival::None };
        let keeps_one_handshake = best.keeps_one_handshake();
        let case = Case { preferred, agreed: best.direction, keeps_one_handshake, rival };
        let is_asked = self.others.hold.is_some();
        match case.decide() {
            Verdict::Wait => {}
            Verdict::Hold if !self.hold_is_over(cx.env) => {}
            Verdict::Ask if !self.hold_is_over(cx.env) => {
                if !is_asked {
                    cx.out.forward(best.id, FromNode::Probe);
                }
            }
            _ => self.activate(&best, cx),
        }
    }

    /// Decides what becomes of a session that is agreed while another is current.
    pub(super) fn compete(
        &mut self,
        agreed: &SessionRecord,
        current: Current,
        cx: &mut Context<'_>,
    ) {
        let preferred = preferred_direction(cx.env, self.key);
        let (is_kept, direction) = (self.is_kept(), current.direction);
        let rival = match current.is_handshake_lost && !is_kept {
            true => Rival::Lost,
            false => Rival::Current { direction, is_kept },
        };
        let keeps_one_handshake = agreed.keeps_one_handshake() && current.keeps_one_handshake();
        let case = Case { preferred, agreed: agreed.direction, keeps_one_handshake, rival };
        match case.decide() {
            Verdict::Replace => self.replace(agreed.id, cx),
            // A replacement that has begun goes on.
            Verdict::End if self.is_successor(agreed.id) => {}
            Verdict::End => self.end_other(agreed.id, CloseReason::Superseded, cx),
            _ => self.probe(cx),
        }
    }

    /// Makes a session current.
    fn activate(&mut self, session: &SessionRecord, cx: &mut Context<'_>) {
        let id = session.id;
        self.cancel_dial(cx);
        self.others.remove(id);
        self.others.hold = None;
        let event = self.move_to_connected(session, cx);
        cx.out.publish(event);
        cx.out.forward(id, FromNode::Grant(Carry::default()));
        // The peer ends those that it has dialled. What a Go node has kept is not known yet.
        let may_be_kept =
            |other: &SessionRecord| session.keeps_one_handshake() && other.keeps_one_handshake();
        let outbound = self.others.agreed().filter(|other| other.direction == Direction::Outbound);
        let losers: Vec<SessionId> =
            outbound.filter(|other| !may_be_kept(other)).map(|other| other.id).collect();
        for loser in losers {
            self.end_other(loser, CloseReason::Superseded, cx);
        }
        cx.store.peer_connected(self.key, cx.env);
        cx.has_activated = true;
        self.settle_soon(cx);
        // One that the peer has opened since shows that it may have lost this one, too.
        let is_later =
            |other: &SessionRecord| other.id > id && other.direction == Direction::Inbound;
        if session.direction == Direction::Inbound && self.others.agreed().any(is_later) {
            self.probe(cx);
        }
    }

    /// Asks a current session whose peer may be a Go node for an answer, if there are others: it
    /// shows which handshake substream the peer has kept, and the peer is to have one connection
    /// before it uses another for its messages.
    pub(super) fn settle_soon(&mut self, cx: &mut Context<'_>) {
        let is_alone = self.others.live().next().is_none();
        if !is_alone && self.current().is_some_and(Current::keeps_one_handshake) {
            self.probe(cx);
        }
    }

    /// The peer of the current session has answered a probe there, which was asked for after the
    /// handshake substream was agreed. A Go node has given up by now what it does not keep.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) {
        let Some(current) = self.current().copied().filter(Current::keeps_one_handshake) else {
            return;
        };
        if let State::Connected { successor: Some(_), .. } = self.state {
            return;
        }
        if !self.is_kept() {
            if current.is_handshake_lost {
                // It may have kept another's that is not agreed yet.
                return;
            }
            // A Go node keeps no two: it is another of our kind, which decides the same.
            let preferred = preferred_direction(cx.env, self.key);
            let crossed = self.others.agreed().find(|other| {
                other.direction == preferred
                    && other.keeps_one_handshake()
                    && other.stage != Stage::Yielded
            });
            let crossed = crossed.filter(|other| !other.is_handshake_lost).map(|other| other.id);
            if let Some(crossed) = crossed
                && current.direction != preferred
            {
                return self.replace(crossed, cx);
            }
        }
        // One that lives may yet be the one that the peer has kept, and one that is not agreed here
        // may be agreed there, and current: a node of our kind loses what it has said on it.
        let is_kept = self.is_kept();
        let may_be_kept = |other: &&SessionRecord| !is_kept && !other.is_handshake_lost;
        let losers = self.others.live().filter(|other| !may_be_kept(other));
        let losers: Vec<SessionId> = losers.map(|other| other.id).collect();
        for loser in losers {
            self.end_other(loser, CloseReason::Superseded, cx);
        }
    }

    /// A session that waits to become current has had its answer: the peer has had the time to open
    /// a handshake substream on the one that is preferred.
    pub(super) fn other_answered(&mut self, id: SessionId, cx: &mut Context<'_>) {
        let is_held = self.current().is_none() && self.others.hold.is_some();
        let is_it = |other: &SessionRecord| other.id == id && other.keeps_one_handshake();
        if is_held && self.others.agreed().any(is_it) {
            self.others.hold = Some(cx.env.now);
            self.promote(cx);
        }
    }

    /// The peer has confirmed a session that is not current. It confirms none but its own current one:
    /// if it had confirmed the one that is current here before, it has given that up.
    pub(super) fn other_confirmed(&self, id: SessionId, cx: &mut Context<'_>) {
        let confirmed = self.state.confirmed_session();
        let other = self.others.agreed().find(|other| other.id == id);
        if let Some(current) = confirmed
            && other.is_some_and(|other| other.follows == Some(current))
        {
            cx.out.close(current, CloseReason::Superseded);
        }
    }

    /// Returns whether the current session was asked to hand over to this one.
    fn is_successor(&self, id: SessionId) -> bool {
        matches!(self.state, State::Connected { successor: Some(successor), .. } if successor == id)
    }

    /// Asks the current session to hand over to another.
    fn replace(&mut self, id: SessionId, cx: &mut Context<'_>) {
        let State::Connected { current, successor, .. } = &mut self.state else {
            return cx.out.internal_error("a session is to be replaced that is not Connected");
        };
        *successor = Some(id);
        cx.out.forward(current.id, FromNode::Yield);
    }

    /// Finds out whether the peer still has the current session, unless that is being done.
    fn probe(&mut self, cx: &mut Context<'_>) {
        let until = cx.env.now + cx.env.config.probe_timeout;
        if let Some(current) = self.state.current_mut()
            && current.probe.is_none()
        {
            current.probe = Some(until);
            cx.out.forward(current.id, FromNode::Probe);
        }
    }

    /// True if a session that waits for one of the peer's has waited long enough. The wait begins
    /// when this is asked first.
    fn hold_is_over(&mut self, env: &Env) -> bool {
        let until = env.now + env.config.probe_timeout;
        env.now >= *self.others.hold.get_or_insert(until)
    }

    /// True if no replacement of the current session may begin.
    const fn is_kept(&self) -> bool {
        match self.state {
            State::Connected { is_kept, .. } => is_kept,
            _ => true,
        }
    }
}

/// Returns the direction of the session that is kept of two that crossed: that which the smaller
/// key has dialled.
fn preferred_direction(env: &Env, peer: PublicKey) -> Direction {
    if env.own_key < peer { Direction::Outbound } else { Direction::Inbound }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Inbound, Outbound};

    const fn current(direction: Direction, is_kept: bool) -> Rival {
        Rival::Current { direction, is_kept }
    }

    /// Every case: the agreed session's direction, the rival, and the verdict where `Outbound` is
    /// preferred and where `Inbound` is.
    const TABLE: [(Direction, Rival, [Verdict; 2]); 14] = [
        (Outbound, Rival::Lost, [Verdict::Replace, Verdict::Replace]),
        (Inbound, Rival::Lost, [Verdict::Replace, Verdict::Replace]),
        (Outbound, Rival::None, [Verdict::Activate, Verdict::Activate]),
        (Inbound, Rival::None, [Verdict::Activate, Verdict::Activate]),
        (Outbound, Rival::Negotiating, [Verdict::Activate, Verdict::Hold]),
        (Inbound, Rival::Negotiating, [Verdict::Wait, Verdict::Activate]),
        (Outbound, current(Outbound, false), [Verdict::End, Verdict::End]),
        (Outbound, current(Inbound, false), [Verdict::Replace, Verdict::End]),
        (Inbound, current(Outbound, false), [Verdict::Probe, Verdict::Replace]),
        (Inbound, current(Inbound, false), [Verdict::Probe, Verdict::Probe]),
        (Outbound, current(Outbound, true), [Verdict::End, Verdict::End]),
        (Outbound, current(Inbound, true), [Verdict::End, Verdict::End]),
        (Inbound, current(Outbound, true), [Verdict::Probe, Verdict::Probe]),
        (Inbound, current(Inbound, true), [Verdict::Probe, Verdict::Probe]),
    ];

    fn rivals() -> Vec<Rival> {
        let mut rivals = vec![Rival::None, Rival::Negotiating, Rival::Lost];
        for direction in [Outbound, Inbound] {
            rivals.extend([false, true].map(|is_kept| current(direction, is_kept)));
        }
        rivals
    }

    #[test]
    fn every_case_is_in_the_table_once_and_decided_by_it() {
        for agreed in [Outbound, Inbound] {
            for rival in rivals() {
                let mut rows = TABLE.iter().filter(|row| (row.0, row.1) == (agreed, rival));
                let (.., verdicts) = rows.next().unwrap();
                assert_eq!(rows.count(), 0, "{agreed:?} {rival:?}");
                for (preferred, expected) in [Outbound, Inbound].into_iter().zip(verdicts) {
                    let case = Case { preferred, agreed, keeps_one_handshake: false, rival };
                    assert_eq!(case.decide(), *expected, "{case:?}");
                    let case = Case { keeps_one_handshake: true, ..case };
                    let expected = match rival {
                        Rival::Current { is_kept: false, .. } => Verdict::Probe,
                        _ if *expected == Verdict::Hold => Verdict::Ask,
                        _ => *expected,
                    };
                    assert_eq!(case.decide(), expected, "{case:?}");
                }
            }
        }
        assert_eq!(TABLE.len(), 2 * rivals().len());
    }

    /// What one side keeps the other keeps, too: where two sessions crossed and nothing is
    /// prepared, either side ends up with the preferred one.
    #[test]
    fn both_sides_keep_the_same_of_two_that_crossed() {
        for first in [Outbound, Inbound] {
            let second = if first == Outbound { Inbound } else { Outbound };
            for preferred in [Outbound, Inbound] {
                let rival = current(first, false);
                let case = Case { preferred, agreed: second, keeps_one_handshake: false, rival };
                let keeps_first = case.decide() != Verdict::Replace;
                assert_eq!(keeps_first, first == preferred, "{case:?}");
            }
        }
    }
}
