//! What an application does with a node itself: its peers, its bans, its book, its policies.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use glueberry_proto::book::{Book, Unsaved};
use glueberry_proto::{
    Address, Admission, ConnectionEvent, ConnectionState, DialError, DialId, Instant, Node,
    NodeAction, Origin, PublicKey, ReconnectPolicy, SessionId, WallTime,
};
use proptest::prelude::*;

use super::plan::{Run, STREAMS, any_start, hostile, plans};
use crate::support::{A, B, Side, World, arrive, check, config, holds, key, node, stranger};

/// One command to a node, or an answer to what it asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NodeOp {
    /// For ever, or for so many seconds.
    Ban(Whom, Option<u32>),
    Lift(Whom),
    /// With so many addresses and bytes of metadata.
    Add(Whom, usize, Option<usize>),
    Remove(Whom),
    Metadata(Whom, usize),
    Load(usize),
    Flush,
    /// The book was stored, or could not be.
    Stored(bool),
    /// So many seconds after the epoch.
    Wall(u32),
    Policy(usize),
    Cancel,
    Autoconnect,
    Protect(Whom, bool),
    /// Dials fail from now on, or no longer.
    Unreachable(bool),
    Shutdown,
}

/// The other side or somebody else.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whom {
    Peer,
    Stranger(u8),
    Oneself,
}

pub(crate) fn node_op() -> impl Strategy<Value = NodeOp> {
    let whom = || {
        prop_oneof![
            6 => Just(Whom::Peer),
            2 => (1..4_u8).prop_map(Whom::Stranger),
            1 => Just(Whom::Oneself),
        ]
    };
    let until = prop_oneof![1 => Just(None), 3 => (0..300_u32).prop_map(Some)];
    let metadata = || prop::option::of(0..150_usize);
    prop_oneof![
        3 => (whom(), until).prop_map(|(whom, until)| NodeOp::Ban(whom, until)),
        3 => whom().prop_map(NodeOp::Lift),
        3 => (whom(), 0..4_usize, metadata()).prop_map(|(whom, count, size)| NodeOp::Add(whom, count, size)),
        1 => whom().prop_map(NodeOp::Remove),
        1 => (whom(), 0..150_usize).prop_map(|(whom, size)| NodeOp::Metadata(whom, size)),
        1 => (0..4_usize).prop_map(NodeOp::Load),
        2 => Just(NodeOp::Flush),
        4 => any::<bool>().prop_map(NodeOp::Stored),
        1 => (0..300_u32).prop_map(NodeOp::Wall),
        3 => (0..POLICIES.len() + 1).prop_map(NodeOp::Policy),
        1 => Just(NodeOp::Cancel),
        1 => Just(NodeOp::Autoconnect),
        1 => (whom(), any::<bool>()).prop_map(|(whom, is)| NodeOp::Protect(whom, is)),
        1 => any::<bool>().prop_map(NodeOp::Unreachable),
        1 => Just(NodeOp::Shutdown),
    ]
}

/// Initial and longest wait in milliseconds, and how many attempts. One of them cannot work.
const POLICIES: [(u64, u64, Option<u32>); 4] =
    [(1_000, 5_000, Some(3)), (100, 60_000, None), (0, 0, Some(20)), (1_000, 1_000, Some(0))];

impl NodeOp {
    /// Gives the command; returns whether it was accepted.
    pub(crate) fn apply(self, node: &mut Node, now: Instant, side: Side) -> bool {
        let who = |whom| whom_of(whom, side);
        match self {
            Self::Ban(whom, until) => node.blacklist(now, who(whom), until.map(wall)).is_ok(),
            Self::Add(whom, count, size) => {
                let addresses = vec![Address::new("memory"); count];
                let metadata = size.map(metadata);
                node.add_peer_with_metadata(now, who(whom), &addresses, metadata).is_ok()
            }
            Self::Metadata(whom, size) => {
                node.update_metadata(now, who(whom), metadata(size)).is_ok()
            }
            Self::Policy(at) => {
                let policy = POLICIES.get(at).map(policy);
                node.set_reconnect_policy(now, key(1 - side), policy).is_ok()
            }
            Self::Protect(whom, is_protected) => node.protect(now, who(whom), is_protected).is_ok(),
            done => {
                done.apply_surely(node, now, side);
                true
            }
        }
    }

    /// Gives a command that is never refused.
    fn apply_surely(self, node: &mut Node, now: Instant, side: Side) {
        let who = |whom| whom_of(whom, side);
        match self {
            Self::Lift(whom) => _ = node.unblacklist(now, who(whom)),
            Self::Remove(whom) => _ = node.remove_peer(now, who(whom)),
            Self::Load(what) => node.load_book(now, book(what, side, node)),
            Self::Flush => node.flush_book(now),
            Self::Wall(at) => node.set_wall_time(now, wall(at)),
            Self::Cancel => _ = node.cancel_reconnection(now, key(1 - side)),
            Self::Autoconnect => node.autoconnect(now),
            Self::Shutdown => node.shutdown(now),
            other => panic!("{other:?} is for others to apply"),
        }
    }
}

fn whom_of(whom: Whom, side: Side) -> PublicKey {
    match whom {
        Whom::Peer => key(1 - side),
        Whom::Stranger(number) => stranger(100 + number),
        Whom::Oneself => key(side),
    }
}

fn wall(seconds: u32) -> WallTime {
    WallTime::from_unix(seconds.into(), 0).unwrap()
}

fn metadata(size: usize) -> BTreeMap<String, String> {
    [("k".to_owned(), "v".repeat(size.saturating_sub(1)))].into()
}

fn policy(&(initial, max, attempts): &(u64, u64, Option<u32>)) -> ReconnectPolicy {
    let mut policy = ReconnectPolicy::default();
    policy.initial_backoff = Duration::from_millis(initial);
    policy.max_backoff = Duration::from_millis(max);
    policy.max_attempts = attempts;
    policy
}

/// A book as it may have been stored: empty, with the peer, with the peer banned, or for a while.
fn book(what: usize, side: Side, node: &Node) -> Book {
    let (peer, mut book) = (key(1 - side), Book::new(node.config().book_limits()));
    if what > 0 {
        book.add(peer, vec![Address::new("memory")], None, wall(0)).unwrap();
    }
    if what > 1 {
        let until = (what > 2).then(|| wall(100));
        book.blacklist(peer, until, wall(0));
    }
    book.handle_saved(book.revision());
    book
}

// ---- runs ---------------------------------------------------------------------------------------

impl Run {
    pub(super) fn node_op(&mut self, side: Side, op: NodeOp) {
        match op {
            NodeOp::Stored(is_stored) => self.world.finish_saving(side, is_stored),
            NodeOp::Unreachable(is) => self.world.hosts[side].is_unreachable = is,
            NodeOp::Load(what) => {
                let host = &mut self.world.hosts[side];
                host.store = Some(book(what, side, &host.node));
                self.command_node(side, |node, now| op.apply(node, now, side));
            }
            op => self.command_node(side, |node, now| op.apply(node, now, side)),
        }
    }
}

/// Undoes whatever keeps the nodes from meeting.
pub(crate) fn make_peace(world: &mut World) {
    for side in [A, B] {
        let (now, peer) = (world.now, key(1 - side));
        let host = &mut world.hosts[side];
        host.is_unreachable = false;
        host.node.unblacklist(now, peer);
        host.node.set_reconnect_policy(now, peer, None).unwrap();
        host.node.protect(now, peer, false).unwrap();
    }
    world.drain_actions();
}

// ---- C4 -----------------------------------------------------------------------------------------

/// Something that happens to a node that has no transport.
#[derive(Clone, Copy, Debug)]
enum Step {
    Command(NodeOp),
    Connect,
    Disconnect,
    Wait(u32),
    /// The oldest dial fails.
    Fail,
    /// The peer, or a stranger, connects.
    Arrive(Whom),
    Gone,
}

fn step() -> impl Strategy<Value = Step> {
    let command = node_op().prop_filter("is answered where it is asked", |op| {
        !matches!(op, NodeOp::Stored(_) | NodeOp::Unreachable(_))
    });
    prop_oneof![
        6 => command.prop_map(Step::Command),
        3 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        4 => (0..40_000_u32).prop_map(Step::Wait),
        4 => Just(Step::Fail),
        2 => prop_oneof![3 => Just(Whom::Peer), 1 => Just(Whom::Stranger(1))].prop_map(Step::Arrive),
        1 => Just(Step::Gone),
    ]
}

/// A node, what it put out, and what was taken of it so far.
struct Alone {
    node: Node,
    now: Instant,
    dials: VecDeque<DialId>,
    sessions: VecDeque<SessionId>,
    actions: Vec<String>,
    events: Vec<ConnectionEvent>,
}

impl Alone {
    fn new() -> Self {
        Self {
            node: node(A, |chosen| *chosen = config(&STREAMS)),
            now: Instant::ZERO,
            dials: VecDeque::new(),
            sessions: VecDeque::new(),
            actions: Vec::new(),
            events: Vec::new(),
        }
    }

    fn take_actions(&mut self) {
        while let Some(action) = self.node.poll_action() {
            match &action {
                NodeAction::Dial { dial, .. } => self.dials.push_back(*dial),
                NodeAction::CancelDial(dial) => self.dials.retain(|other| other != dial),
                // How many changes go into one save is another matter.
                NodeAction::SaveBook => {
                    let revision = self.node.book().revision();
                    self.node.handle_book_saved(self.now, revision);
                    continue;
                }
                _ => {}
            }
            self.actions.push(format!("{action:?}"));
        }
    }

    fn take_events(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.node.poll_event()));
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Command(op) => _ = op.apply(&mut self.node, now, A),
            Step::Connect => _ = self.node.connect(now, key(B)),
            Step::Disconnect => _ = self.node.disconnect(now, key(B)),
            Step::Wait(millis) => {
                self.now = now + Duration::from_millis(millis.into());
                self.node.handle_timeout(self.now);
            }
            Step::Fail => {
                // Who answers has taken what was asked.
                self.take_actions();
                if let Some(dial) = self.dials.pop_front() {
                    self.node.handle_dial_failed(now, dial, DialError::NoUsableAddress);
                }
            }
            Step::Arrive(whom) => {
                let admission = arrive(&mut self.node, now, whom_of(whom, A), Origin::Accepted);
                if let Admission::Accept(session) = admission {
                    self.sessions.push_back(session.id());
                }
            }
            Step::Gone => {
                if let Some(connection) = self.sessions.pop_front() {
                    self.node.handle_session_gone(now, connection);
                }
            }
        }
    }
}

/// C4: when a node's actions and events are taken changes neither.
#[test]
fn c4_when_a_node_is_drained_changes_nothing() {
    let taken = prop::collection::vec((step(), any::<[bool; 2]>()), 0..80);
    let outcome = check(taken, |steps| {
        let (mut eager, mut lazy) = (Alone::new(), Alone::new());
        for (step, [takes_actions, takes_events]) in steps {
            eager.step(step);
            eager.take_actions();
            eager.take_events();
            lazy.step(step);
            if takes_actions {
                lazy.take_actions();
            }
            if takes_events {
                lazy.take_events();
            }
        }
        lazy.take_actions();
        lazy.take_events();
        prop_assert_eq!(eager.events, lazy.events);
        prop_assert_eq!(eager.actions, lazy.actions);
        prop_assert_eq!(eager.node.book(), lazy.node.book());
        Ok(())
    });
    assert_eq!(outcome, Ok(()));
}

// ---- C6 -----------------------------------------------------------------------------------------

/// C6: nothing that a node has learnt of its peers is lost, however often it could not be stored,
/// and whatever was being stored when the book was read anew.
#[test]
fn c6_what_is_in_the_book_is_stored_in_the_end() {
    let outcome = check(plans(any_start(), hostile()), |plan| {
        let mut world = plan.run().all(&plan.ops).world;
        for host in &mut world.hosts {
            host.node.shutdown(world.now);
        }
        world.run();
        for side in [A, B] {
            for _ in 0..4 {
                world.finish_saving(side, true);
                world.advance(Duration::from_secs(31));
            }
            let host = &world.hosts[side];
            prop_assert_eq!(host.node.book().unsaved(), Unsaved::Nothing);
            if let Some(store) = &host.store {
                prop_assert_eq!(store, host.node.book());
            } else {
                prop_assert!(host.node.book().is_empty());
            }
        }
        Ok(())
    });
    assert_eq!(outcome, Ok(()));
}

// ---- bans ---------------------------------------------------------------------------------------

#[test]
fn a_banned_peer_is_disconnected_whatever_happens() {
    holds(|| {
        check(plans(any_start(), hostile()), |plan| {
            let mut run = plan.run();
            for op in &plan.ops {
                run.apply(op);
                for side in [A, B] {
                    let (node, peer) = (&run.world.hosts[side].node, key(1 - side));
                    if node.is_blacklisted(peer) {
                        prop_assert_eq!(node.state(peer), ConnectionState::Disconnected);
                        prop_assert!(node.peer_status(peer).is_none_or(|peer| !peer.is_dialling));
                    }
                }
            }
            Ok(())
        })
    });
}
