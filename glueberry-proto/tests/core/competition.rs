//! Which of two sessions of a peer is kept: every case, from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use glueberry_proto::{
    Action, Address, Admission, CloseReason, Direction, Event, Instant, Naming, NewConnection,
    Node, NodeAction, Origin, Profile, PublicKey, Seed, Session, SessionId,
};

use Direction::{Inbound, Outbound};

use crate::support::{A, B, Side, config, identity, key, names};

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

/// One node and the sessions of one peer, which the test agrees on as it likes.
struct Contest {
    node: Node,
    peer: PublicKey,
    now: Instant,
    sessions: BTreeMap<SessionId, Session>,
}

impl Contest {
    fn new(side: Side) -> Self {
        let now = Instant::ZERO;
        let seed = Seed::from_bytes([7; 32]);
        let mut node = Node::new(now, identity(side), config(&["chat"]), seed).unwrap();
        let peer = key(1 - side);
        node.add_peer(now, peer, &[Address::new("memory")]).unwrap();
        Self { node, peer, now, sessions: BTreeMap::new() }
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
        self.node.connect(self.now, self.peer).unwrap();
        let dial = std::iter::from_fn(|| self.node.poll_action()).find_map(|action| match action {
            NodeAction::Dial { dial, .. } => Some(dial),
            _ => None,
        });
        self.connection(Origin::Dialled(dial.unwrap()))
    }

    fn accept(&mut self) -> SessionId {
        self.connection(Origin::Accepted)
    }

    fn connection(&mut self, origin: Origin) -> SessionId {
        let connection = NewConnection { peer: self.peer, origin, naming: Naming::Negotiated };
        let Admission::Accept(session) = self.node.handle_connection(self.now, connection) else {
            panic!("refused");
        };
        let id = session.id();
        self.sessions.insert(id, *session);
        self.run();
        id
    }

    /// The peer opens a handshake substream.
    fn agree(&mut self, id: SessionId) {
        let session = self.sessions.get_mut(&id).unwrap();
        _ = session.handle_accepted(self.now, Some(Profile::V1.handshake_id()));
        self.run();
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

    /// Carries messages between the node and the sessions until there are none. The peer answers
    /// no probe.
    fn run(&mut self) {
        loop {
            let mut moved = false;
            for (id, session) in &mut self.sessions {
                while let Some(action) = session.poll_action() {
                    moved = true;
                    if let Action::Forward(message) = action {
                        self.node.handle_session_message(self.now, *id, message);
                    }
                }
            }
            while let Some(action) = self.node.poll_action() {
                moved = true;
                if let NodeAction::Forward { session, message } = action
                    && let Some(session) = self.sessions.get_mut(&session)
                {
                    session.handle_node_message(self.now, message);
                }
            }
            if !moved {
                return;
            }
        }
    }
}
