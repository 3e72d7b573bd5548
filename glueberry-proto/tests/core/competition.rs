//! Which of two sessions of a peer is kept: every case, from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use glueberry_proto::{
    Address, CloseReason, Config, ConnectionState, Direction, Event, Instant, Node, OpenError,
    Origin, Profile, ProtocolId, PublicKey, ReconnectPolicy, Session, SessionId, SubstreamEnd,
    SubstreamId,
};

use Direction::{Inbound, Outbound};

use crate::support::{A, B, Side, accept, dial, exchange, key, names, node, stranger};

/// What is there besides the session that is agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rival {
    None,
    /// One of the direction that is preferred, on which nothing is agreed yet.
    Negotiating,
    Current(Direction, bool),
}

/// What becomes of the session that is agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    IsCurrent,
    Waits,
    WaitsForTheProbeTimeout,
    Replaces,
    IsEnded,
    WaitsForTheProbe,
    /// The node does not let it come to that: the smaller key waits for its one session.
    CannotBe,
}

use Outcome::{CannotBe, IsCurrent, IsEnded, Replaces, Waits, WaitsForTheProbe};

/// The direction of the agreed session, its rival, and what becomes of it at the smaller key and at
/// the larger one.
const TABLE: [(Direction, Rival, [Outcome; 2]); 12] = [
    (Outbound, Rival::None, [IsCurrent, IsCurrent]),
    (Inbound, Rival::None, [IsCurrent, IsCurrent]),
    (Outbound, Rival::Negotiating, [CannotBe, Outcome::WaitsForTheProbeTimeout]),
    (Inbound, Rival::Negotiating, [Waits, IsCurrent]),
    (Outbound, Rival::Current(Outbound, false), [CannotBe, IsEnded]),
    (Outbound, Rival::Current(Inbound, false), [CannotBe, IsEnded]),
    (Inbound, Rival::Current(Outbound, false), [WaitsForTheProbe, Replaces]),
    (Inbound, Rival::Current(Inbound, false), [WaitsForTheProbe, WaitsForTheProbe]),
    (Outbound, Rival::Current(Outbound, true), [CannotBe, IsEnded]),
    (Outbound, Rival::Current(Inbound, true), [CannotBe, IsEnded]),
    (Inbound, Rival::Current(Outbound, true), [WaitsForTheProbe, WaitsForTheProbe]),
    (Inbound, Rival::Current(Inbound, true), [WaitsForTheProbe, WaitsForTheProbe]),
];

#[test]
fn every_case_ends_as_the_table_says() {
    for (agreed, rival, outcomes) in TABLE {
        for (side, outcome) in [A, B].into_iter().zip(outcomes) {
            if outcome != CannotBe {
                Contest::new(side).check(agreed, rival, outcome);
            }
        }
    }
}

/// The other half of the claim that some cases cannot be: whatever the peer's session does first,
/// the smaller key's own is the current one in the end.
#[test]
fn the_smaller_key_makes_no_session_current_while_its_own_is_under_way() {
    let mut contest = Contest::new(A);
    let own = contest.dial();
    let others = [contest.accept(), contest.accept()];
    for other in others {
        contest.agree(other);
        assert_eq!(contest.current(), None);
    }
    contest.agree(own);
    assert_eq!(contest.current(), Some(own));
}

/// A session that is ended for another, and the direction that the node then reports.
#[test]
fn the_direction_is_that_of_the_session_that_has_taken_over() {
    let mut contest = Contest::new(B);
    let own = contest.dial();
    contest.agree(own);
    assert_eq!(contest.node.direction(contest.peer), Some(Outbound));
    let theirs = contest.accept();
    contest.agree(theirs);
    assert_eq!(contest.current(), Some(theirs));
    assert_eq!(contest.node.direction(contest.peer), Some(Inbound));
    contest.node.disconnect(contest.now, contest.peer);
    let last = std::iter::from_fn(|| contest.node.poll_event()).last().unwrap();
    assert_eq!(last.direction, Some(Inbound));
}

/// A peer whose waiting session becomes current when there are too many is disconnected like any
/// other that is pruned, and not dialled again because of the session that it lost just before.
#[test]
fn a_peer_that_is_pruned_as_its_next_session_becomes_current_stays_away() {
    let mut contest = Contest::with(A, |config| {
        config.reconnect = ReconnectPolicy::default();
        (config.sessions_low, config.sessions_high) = (1, 2);
    });
    let others = [8, 9].map(stranger);
    let peer = contest.peer;
    for peer in [peer].into_iter().chain(others) {
        contest.node.protect(contest.now, peer, true).unwrap();
    }
    let sessions = [peer, peer, others[0], others[1]].map(|peer| {
        let id = contest.connection(peer, Origin::Accepted);
        contest.agree(id);
        id
    });
    contest.node.protect(contest.now, peer, false).unwrap();
    while contest.node.poll_event().is_some() {}
    contest.sessions.remove(&sessions[0]);
    contest.node.handle_session_gone(contest.now, sessions[0]);
    let events = std::iter::from_fn(|| contest.node.poll_event());
    let states: Vec<_> = events.map(|event| event.state).collect();
    use ConnectionState::{Connected, Disconnected};
    assert_eq!(states, [Disconnected, Connected, Disconnected]);
    contest.advance(Duration::from_secs(600));
    assert_eq!(contest.node.state(peer), Disconnected);
}

/// A Go node keeps one handshake substream, and resets the other as soon as it is agreed, whichever
/// session it is on and whichever of the two is seen first.
#[test]
fn a_session_whose_handshake_substream_is_lost_gives_way_to_one_that_has_its_own() {
    for side in [A, B] {
        for is_lost_first in [true, false] {
            let mut contest = Contest::with(side, |config| config.profiles = vec![Profile::V1Go]);
            let lost = contest.dial();
            let substream = contest.agree_as(lost, Profile::V1Go);
            assert_eq!(contest.current(), Some(lost));
            let theirs = contest.accept();
            if is_lost_first {
                contest.reset(lost, substream);
                contest.agree_as(theirs, Profile::V1Go);
            } else {
                contest.agree_as(theirs, Profile::V1Go);
                contest.reset(lost, substream);
            }
            assert_eq!(contest.current(), Some(theirs), "side {side}, {is_lost_first}");
            let events = std::iter::from_fn(|| contest.node.poll_event());
            assert!(events.into_iter().all(|event| event.state != ConnectionState::Disconnected));
            assert_eq!(contest.node.internal_errors(), 0);
        }
    }
}

/// Of two that wait, one on which nothing can be said comes last, however long it has waited.
#[test]
fn a_session_whose_handshake_substream_is_lost_does_not_take_over_before_another() {
    let mut contest = Contest::new(A);
    let [first, second, third] = [(); 3].map(|()| contest.accept());
    contest.agree(first);
    let substream = contest.agree_as(second, Profile::V1);
    contest.agree(third);
    assert_eq!(contest.current(), Some(first));
    contest.reset(second, substream);
    contest.advance(contest.node.config().probe_timeout);
    assert_eq!(contest.current(), Some(third));
}

/// While the peer may have kept neither of two sessions, or either, an answer on one decides nothing.
#[test]
fn a_go_node_that_has_lost_both_handshake_substreams_may_yet_use_either_session() {
    let mut contest = Contest::go(A);
    let (own, theirs) = (contest.dial(), contest.accept());
    let ours = contest.agree_as(own, Profile::V1Go);
    let peers = contest.agree_as(theirs, Profile::V1Go);
    assert_eq!(contest.current(), Some(own));
    contest.reset(theirs, peers);
    contest.reset(own, ours);
    contest.answer(own);
    assert_eq!(contest.current(), Some(own));
    assert!(!contest.sessions[&theirs].is_closed());
}

#[test]
fn a_handshake_substream_that_is_there_again_keeps_its_session() {
    let mut contest = Contest::with(A, |config| config.profiles = vec![Profile::V1Go]);
    let own = contest.dial();
    let substream = contest.agree_as(own, Profile::V1Go);
    contest.reset(own, substream);
    contest.agree_as(own, Profile::V1Go);
    let theirs = contest.accept();
    contest.agree_as(theirs, Profile::V1Go);
    assert_eq!(contest.current(), Some(own));
}

/// A Go node has one session for all its connections, and may use any of them for its messages. It
/// is to have one before there are messages.
#[test]
fn a_connection_that_a_go_node_does_not_need_is_ended_before_it_is_used() {
    for side in [A, B] {
        for is_theirs_first in [true, false] {
            let mut contest = Contest::go(side);
            let own = contest.dial();
            let mut theirs = is_theirs_first.then(|| contest.accept());
            contest.agree_as(own, Profile::V1Go);
            if contest.current().is_none() {
                // A peer of our kind would open one by then on the session that it has dialled.
                contest.answer(own);
            }
            let theirs = *theirs.get_or_insert_with(|| contest.accept());
            contest.open_another(own);
            assert_eq!(contest.current(), Some(own), "side {side}");
            assert!(!contest.sessions[&theirs].is_closed(), "side {side}");
            contest.answer(own);
            // A node of our kind may have agreed on it, and begun to use it.
            assert!(!contest.sessions[&theirs].is_closed(), "side {side}");
            contest.establish(own);
            assert_eq!(contest.closed(theirs), CloseReason::Superseded, "side {side}");
            assert_eq!(contest.current(), Some(own), "side {side}");
            assert_eq!(contest.node.internal_errors(), 0);
        }
    }
}

/// Nor before its handshake is over: it may be Established with the answer that it waits for.
#[test]
fn a_connection_that_comes_after_established_is_ended_before_it_is_used() {
    let mut contest = Contest::go(B);
    let own = contest.dial();
    contest.agree_as(own, Profile::V1Go);
    contest.establish(own);
    let theirs = contest.accept();
    contest.answer(own);
    assert_eq!(contest.closed(theirs), CloseReason::Superseded);
}

/// A peer that has lost the current session is one that was restarted: what it dials is all it has.
#[test]
fn a_connection_of_a_go_node_that_was_restarted_takes_over() {
    let mut contest = Contest::go(B);
    let own = contest.dial();
    contest.agree_as(own, Profile::V1Go);
    contest.establish(own);
    let theirs = contest.accept();
    contest.agree_as(theirs, Profile::V1Go);
    contest.advance(contest.node.config().probe_timeout);
    assert_eq!(contest.current(), Some(theirs));
}

/// A Go node that has taken our handshake substream while it opened its own ends its own unused.
#[test]
fn the_session_whose_handshake_substream_a_go_node_has_kept_is_not_ended() {
    let mut contest = Contest::go(B);
    let (own, theirs) = (contest.dial(), contest.accept());
    let substream = contest.agree_as(theirs, Profile::V1Go);
    assert_eq!(contest.current(), Some(theirs));
    contest.agree_as(own, Profile::V1Go);
    // The answer may be ahead of the end.
    contest.answer(theirs);
    assert!(!contest.sessions[&own].is_closed());
    contest.end(theirs, substream, SubstreamEnd::Finished);
    assert_eq!(contest.current(), Some(own));
    contest.answer(own);
    assert_eq!(contest.closed(theirs), CloseReason::Superseded);

    // The other way round, it is not current yet when it is ended.
    let mut contest = Contest::go(B);
    let (own, theirs) = (contest.dial(), contest.accept());
    contest.agree_as(own, Profile::V1Go);
    contest.answer(own);
    let substream = contest.agree_as(theirs, Profile::V1Go);
    contest.end(theirs, substream, SubstreamEnd::Finished);
    contest.answer(own);
    assert_eq!(contest.current(), Some(own));
    assert_eq!(contest.closed(theirs), CloseReason::Superseded);
}

#[test]
fn a_session_with_a_go_node_waits_no_longer_than_for_an_answer() {
    let mut contest = Contest::go(B);
    let (own, theirs) = (contest.dial(), contest.accept());
    contest.agree_as(own, Profile::V1Go);
    assert_eq!(contest.current(), None);
    contest.answer(own);
    assert_eq!(contest.current(), Some(own));
    contest.answer(own);
    contest.establish(own);
    assert_eq!(contest.closed(theirs), CloseReason::Superseded);
}

/// Another node of our kind has both handshake substreams still when it has answered, and decides as
/// this side does.
#[test]
fn two_sessions_by_gos_profile_that_both_live_are_decided_by_their_directions() {
    for side in [A, B] {
        let mut contest = Contest::go(side);
        let (own, theirs) = (contest.dial(), contest.accept());
        contest.agree_as(own, Profile::V1Go);
        if contest.current().is_none() {
            contest.answer(own);
        }
        contest.agree_as(theirs, Profile::V1Go);
        contest.answer(own);
        let kept = if side == A { own } else { theirs };
        assert_eq!(contest.current(), Some(kept), "side {side}");
        contest.establish(kept);
        let other = if side == A { theirs } else { own };
        assert_eq!(contest.closed(other), CloseReason::Superseded, "side {side}");
    }
}

/// A peer that has spoken on a session and ended its half of the handshake substream uses that session:
/// another would be of no use to it, and what it sends on this one would be lost.
#[test]
fn a_session_on_which_the_peers_handshake_is_over_is_not_replaced() {
    for side in [A, B] {
        let mut contest = Contest::go(side);
        let theirs = contest.accept();
        let substream = contest.agree_as(theirs, Profile::V1Go);
        contest.deliver(theirs, substream, b"\x02\x01x");
        let other = contest.accept();
        contest.agree_as(other, Profile::V1Go);
        contest.end(theirs, substream, SubstreamEnd::Finished);
        assert_eq!(contest.current(), Some(theirs), "side {side}");
        contest.establish(theirs);
        assert_eq!(contest.closed(other), CloseReason::Superseded, "side {side}");
        assert_eq!(contest.node.internal_errors(), 0);
    }
}

/// One node and the sessions of one peer, which the test agrees on as it likes.
struct Contest {
    node: Node,
    peer: PublicKey,
    now: Instant,
    sessions: BTreeMap<SessionId, Session>,
    /// What the peer has not answered.
    probes: Vec<(SessionId, SubstreamId)>,
}

impl Contest {
    fn new(side: Side) -> Self {
        Self::with(side, |_| {})
    }

    /// Of which the peer may be a Go node.
    fn go(side: Side) -> Self {
        Self::with(side, |config| config.profiles = vec![Profile::V1Go])
    }

    fn with(side: Side, change: impl FnOnce(&mut Config)) -> Self {
        let (mut node, peer, now) = (node(side, change), key(1 - side), Instant::ZERO);
        node.add_peer(now, peer, &[Address::new("memory")]).unwrap();
        Self { node, peer, now, sessions: BTreeMap::new(), probes: Vec::new() }
    }

    fn check(mut self, agreed: Direction, rival: Rival, outcome: Outcome) {
        let case = format!("{agreed:?} {rival:?} {outcome:?}");
        let (id, other) = self.arrange(agreed, rival);
        self.agree(id);
        let probe_timeout = self.node.config().probe_timeout;
        let just_before = probe_timeout.checked_sub(Duration::from_micros(1)).unwrap();
        match outcome {
            IsCurrent => assert_eq!(self.current(), Some(id), "{case}"),
            Waits => {
                self.advance(probe_timeout);
                assert_eq!(self.current(), None, "{case}");
                assert!(!self.sessions[&id].is_closed(), "{case}");
            }
            Outcome::WaitsForTheProbeTimeout => {
                self.advance(just_before);
                assert_eq!(self.current(), None, "{case}");
                self.advance(Duration::from_micros(1));
                assert_eq!(self.current(), Some(id), "{case}");
            }
            Replaces => {
                assert_eq!(self.current(), Some(id), "{case}");
                let old = other.unwrap();
                let is_ours = self.sessions[&old].direction() == Outbound;
                assert_eq!(self.sessions[&old].is_closed(), is_ours, "{case}");
            }
            IsEnded => {
                assert_eq!(self.current(), other, "{case}");
                assert_eq!(self.closed(id), CloseReason::Superseded, "{case}");
            }
            WaitsForTheProbe => {
                self.advance(just_before);
                assert_eq!(self.current(), other, "{case}");
                assert!(!self.sessions[&id].is_closed(), "{case}");
                self.advance(Duration::from_micros(1));
                assert_eq!(self.current(), Some(id), "{case}");
            }
            CannotBe => unreachable!("{case}"),
        }
        assert_eq!(self.node.internal_errors(), 0, "{case}");
    }

    /// Lets it come to the point where a session is about to be agreed. Returns that and its rival.
    fn arrange(&mut self, agreed: Direction, rival: Rival) -> (SessionId, Option<SessionId>) {
        let preferred = if self.node.public_key() < self.peer { Outbound } else { Inbound };
        match rival {
            Rival::None => (self.open(agreed), None),
            Rival::Negotiating => {
                let other = self.open(preferred);
                (self.open(agreed), Some(other))
            }
            Rival::Current(direction, is_prepared) => {
                let (id, other) = match (agreed, direction) {
                    (Outbound, Outbound) => self.dial_twice(),
                    // A dial is cancelled as soon as there is a current session.
                    (Outbound, Inbound) => (self.dial(), self.accept()),
                    (_, direction) => {
                        let other = self.open(direction);
                        self.agree(other);
                        (self.accept(), other)
                    }
                };
                if self.current().is_none() {
                    self.agree(other);
                }
                assert_eq!(self.current(), Some(other), "{agreed:?} {rival:?}");
                if is_prepared {
                    let session = self.sessions.get_mut(&other).unwrap();
                    session.prepare_streams(self.now, self.peer, &names(&["chat"])).unwrap();
                    self.run();
                }
                (id, Some(other))
            }
        }
    }

    /// Has two sessions that were dialled: a dial is allowed after the peer's session was lost,
    /// though the one that was dialled before is still under way.
    fn dial_twice(&mut self) -> (SessionId, SessionId) {
        let first = self.dial();
        let theirs = self.accept();
        self.agree(theirs);
        self.sessions.remove(&theirs);
        self.node.handle_session_gone(self.now, theirs);
        (self.dial(), first)
    }

    fn open(&mut self, direction: Direction) -> SessionId {
        match direction {
            Outbound => self.dial(),
            _ => self.accept(),
        }
    }

    fn dial(&mut self) -> SessionId {
        let dial = dial(&mut self.node, self.now, self.peer);
        self.connection(self.peer, Origin::Dialled(dial))
    }

    fn accept(&mut self) -> SessionId {
        self.connection(self.peer, Origin::Accepted)
    }

    fn connection(&mut self, peer: PublicKey, origin: Origin) -> SessionId {
        let session = accept(&mut self.node, self.now, peer, origin);
        let id = session.id();
        self.sessions.insert(id, session);
        self.run();
        id
    }

    /// The peer opens a handshake substream.
    fn agree(&mut self, id: SessionId) {
        self.agree_as(id, Profile::V1);
    }

    fn agree_as(&mut self, id: SessionId, profile: Profile) -> SubstreamId {
        let session = self.sessions.get_mut(&id).unwrap();
        let substream = session.handle_accepted(self.now, Some(profile.handshake_id()));
        self.run();
        substream
    }

    /// The peer resets a substream.
    fn reset(&mut self, id: SessionId, substream: SubstreamId) {
        self.end(id, substream, SubstreamEnd::Aborted);
    }

    fn end(&mut self, id: SessionId, substream: SubstreamId, end: SubstreamEnd) {
        let session = self.sessions.get_mut(&id).unwrap();
        session.handle_substream_end(self.now, substream, end, &[]);
        self.run();
    }

    /// Bytes of the peer arrive.
    fn deliver(&mut self, id: SessionId, substream: SubstreamId, bytes: &[u8]) {
        let session = self.sessions.get_mut(&id).unwrap();
        let _ = session.handle_data(self.now, substream, &mut BytesMut::from(bytes));
        self.run();
    }

    /// The peer refuses the probe of a session, which must have one.
    fn answer(&mut self, id: SessionId) {
        let of = |probe: &(SessionId, SubstreamId)| probe.0 == id;
        let at = self.probes.iter().position(of).expect("the peer is asked for an answer");
        let (_, probe) = self.probes.remove(at);
        let session = self.sessions.get_mut(&id).unwrap();
        session.handle_open_failed(self.now, probe, OpenError::Refused);
        self.run();
    }

    /// The peer opens a substream that this side has no use for, as a Go node does for identify.
    fn open_another(&mut self, id: SessionId) {
        let session = self.sessions.get_mut(&id).unwrap();
        let _ = session.handle_accepted(self.now, Some(ProtocolId::Probe));
        self.run();
    }

    fn establish(&mut self, id: SessionId) {
        let session = self.sessions.get_mut(&id).unwrap();
        session.prepare_streams(self.now, self.peer, &names(&["chat"])).unwrap();
        session.finalize_handshake(self.now).unwrap();
        self.run();
        assert_eq!(self.node.state(self.peer), ConnectionState::Established);
    }

    fn current(&self) -> Option<SessionId> {
        self.node.session_of(self.peer)
    }

    fn closed(&mut self, id: SessionId) -> CloseReason {
        let session = self.sessions.get_mut(&id).unwrap();
        let reason = std::iter::from_fn(|| session.poll_event()).find_map(|event| match event {
            Event::Closed(closed) => Some(closed.reason),
            _ => None,
        });
        reason.expect("the session has ended")
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.node.handle_timeout(self.now);
        for session in self.sessions.values_mut() {
            session.handle_timeout(self.now);
        }
        self.run();
    }

    fn run(&mut self) {
        let mut sessions: Vec<&mut Session> = self.sessions.values_mut().collect();
        let openings = exchange(&mut self.node, self.now, &mut sessions);
        let probes =
            openings.into_iter().filter(|(.., protocols)| protocols == &[ProtocolId::Probe]);
        self.probes.extend(probes.map(|(id, substream, _)| (id, substream)));
    }
}
