//! The life of a peer at one node: lost and connected again, banned, pruned, remembered.

use std::time::Duration;

use glueberry_proto::book::Unsaved;
use glueberry_proto::{
    Address, Admission, Config, ConnectError, ConnectionState, DialError, DialId, Instant, Node,
    NodeAction, Origin, PublicKey, ReconnectPolicy, RefuseReason, StateReason, WallTime,
};
use proptest::prelude::*;

use crate::support::{A, B, arrive, key, node, stranger};

const NOW: Instant = Instant::ZERO;
const SECOND: Duration = Duration::from_secs(1);

/// A node that knows one peer, which it can reach or not.
struct Lab {
    node: Node,
    now: Instant,
    dial: Option<DialId>,
    dials: usize,
    saves: usize,
}

impl Lab {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let node = node(A, |config| {
            config.reconnect = ReconnectPolicy::default();
            change(config);
        });
        let mut lab = Self { node, now: NOW, dial: None, dials: 0, saves: 0 };
        lab.node.add_peer(NOW, peer(), &[Address::new("memory")]).unwrap();
        lab.act();
        lab
    }

    fn act(&mut self) {
        while let Some(action) = self.node.poll_action() {
            match action {
                NodeAction::Dial { dial, .. } => {
                    assert!(self.dial.replace(dial).is_none(), "one dial at a time");
                    self.dials += 1;
                }
                NodeAction::CancelDial(dial) => assert_eq!(self.dial.take(), Some(dial)),
                NodeAction::SaveBook => {
                    self.saves += 1;
                    let revision = self.node.book().revision();
                    self.node.handle_book_saved(self.now, revision);
                }
                _ => {}
            }
        }
    }

    fn connect(&mut self) {
        self.node.connect(self.now, peer()).unwrap();
        self.act();
    }

    fn fail_dial(&mut self) {
        let dial = self.dial.take().expect("a dial is under way");
        self.node.handle_dial_failed(self.now, dial, DialError::NoUsableAddress);
        self.act();
    }

    /// Lets time pass up to what is due next, and returns how long that was.
    fn sleep(&mut self) -> Duration {
        let next = self.node.poll_timeout().expect("something is to come");
        assert!(next > self.now, "C8");
        let slept = next.duration_since(self.now);
        self.now = next;
        self.node.handle_timeout(next);
        self.act();
        slept
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now + by;
        self.node.handle_timeout(self.now);
        self.act();
    }

    fn states(&mut self) -> Vec<ConnectionState> {
        self.events().into_iter().map(|(state, _)| state).collect()
    }

    fn events(&mut self) -> Vec<(ConnectionState, Option<StateReason>)> {
        std::iter::from_fn(|| self.node.poll_event())
            .map(|event| (event.state, event.reason))
            .collect()
    }

    fn arrive(&mut self, origin: Origin) -> Admission {
        arrive(&mut self.node, self.now, peer(), origin)
    }
}

fn peer() -> PublicKey {
    key(B)
}

#[test]
fn a_peer_that_cannot_be_reached_is_tried_ten_times_and_given_up() {
    use ConnectionState::{Connecting, Disconnected, Reconnecting};
    let mut lab = Lab::new(|_| {});
    lab.connect();
    assert_eq!(lab.states(), [Connecting]);
    for attempt in 0..10_u32 {
        lab.fail_dial();
        let (events, base) = (lab.events(), 1_u64 << attempt);
        let reason = Some(StateReason::DialFailed(DialError::NoUsableAddress));
        assert_eq!(events, [(Disconnected, reason), (Reconnecting, None)]);
        let slept = lab.sleep();
        let (base, max) = (SECOND * u32::try_from(base).unwrap(), 300 * SECOND);
        let base = base.min(max);
        assert!(slept >= base * 3 / 4 && slept <= (base * 5 / 4).min(max), "{attempt} {slept:?}");
        assert_eq!(lab.states(), [Connecting]);
    }
    lab.fail_dial();
    let last = DialError::NoUsableAddress;
    let reason = Some(StateReason::AttemptsExhausted { attempts: 10, last });
    assert_eq!(lab.events(), [(Disconnected, reason)]);
    assert_eq!(lab.dials, 11);
    assert_eq!(lab.node.poll_timeout(), None);
    // The application may try again, with a new count.
    lab.connect();
    lab.fail_dial();
    assert_eq!(lab.states(), [Connecting, Disconnected, Reconnecting]);
}

#[test]
fn without_a_limit_nobody_is_given_up_and_without_a_policy_nobody_is_tried() {
    let mut lab = Lab::new(|config| config.reconnect = ReconnectPolicy::unlimited());
    lab.connect();
    for _ in 0..100 {
        lab.fail_dial();
        lab.sleep();
        lab.events();
    }
    assert_eq!(lab.dials, 101);
    let mut lab = Lab::new(|_| {});
    lab.node.set_reconnect_policy(NOW, peer(), Some(ReconnectPolicy::never())).unwrap();
    lab.connect();
    lab.fail_dial();
    assert_eq!(lab.states(), [ConnectionState::Connecting, ConnectionState::Disconnected]);
}

#[test]
fn connect_does_not_wait_for_the_backoff() {
    use ConnectionState::{Connecting, Disconnected, Reconnecting};
    let mut lab = Lab::new(|_| {});
    lab.connect();
    lab.fail_dial();
    lab.connect();
    assert_eq!(lab.states(), [Connecting, Disconnected, Reconnecting, Connecting]);
    assert!(lab.dial.is_some());
    // The wait that was cut short has no echo.
    lab.wait(29 * SECOND);
    assert_eq!(lab.states(), []);
    assert_eq!(lab.dials, 2);
}

#[test]
fn reconnection_can_be_cancelled_while_it_waits_and_while_it_dials() {
    use ConnectionState::{Connecting, Disconnected, Reconnecting};
    let mut lab = Lab::new(|_| {});
    assert!(!lab.node.cancel_reconnection(NOW, peer()), "there is nothing to cancel");
    lab.connect();
    assert!(!lab.node.cancel_reconnection(NOW, peer()), "that was the application's own wish");
    lab.fail_dial();
    lab.events();
    assert!(lab.node.cancel_reconnection(lab.now, peer()));
    assert_eq!(lab.events(), [(Disconnected, Some(StateReason::ReconnectionCancelled))]);
    assert_eq!(lab.node.poll_timeout(), None);
    lab.connect();
    lab.fail_dial();
    lab.sleep();
    assert_eq!(lab.states(), [Connecting, Disconnected, Reconnecting, Connecting]);
    assert!(lab.node.cancel_reconnection(lab.now, peer()));
    lab.act();
    assert_eq!(lab.dial, None);
    assert_eq!(lab.events(), [(Disconnected, Some(StateReason::ReconnectionCancelled))]);
}

#[test]
fn a_peer_whose_addresses_are_removed_is_not_tried_again() {
    let mut lab = Lab::new(|_| {});
    lab.connect();
    lab.fail_dial();
    lab.events();
    assert!(lab.node.remove_peer(lab.now, peer()).is_some());
    let gone = (ConnectionState::Disconnected, Some(StateReason::NoAddress));
    assert_eq!(lab.events(), [gone]);
    assert_eq!(lab.node.poll_timeout(), None);
    assert_eq!(lab.node.connect(lab.now, peer()), Err(ConnectError::NoAddress));
}

#[test]
fn a_banned_peer_is_neither_dialled_nor_admitted_until_the_ban_is_over() {
    let wall = WallTime::from_unix(1_000_000, 0).unwrap();
    let mut lab = Lab::new(|_| {});
    lab.node.set_wall_time(NOW, wall);
    lab.node.blacklist(NOW, peer(), Some(wall + 60 * SECOND)).unwrap();
    assert_eq!(lab.states(), [], "there was nothing to end");
    assert_eq!(lab.node.connect(NOW, peer()), Err(ConnectError::Blacklisted));
    let refused = lab.arrive(Origin::Accepted);
    assert!(matches!(refused, Admission::Refuse(RefuseReason::Blacklisted)), "{refused:?}");
    lab.wait(59 * SECOND);
    assert!(lab.node.is_blacklisted(peer()));
    lab.wait(SECOND);
    assert!(!lab.node.is_blacklisted(peer()));
    lab.connect();
    // The calendar was set back: the ban holds again.
    assert_eq!(lab.node.state(peer()), ConnectionState::Connecting);
    lab.node.set_wall_time(lab.now, wall);
    assert!(lab.node.is_blacklisted(peer()));
    assert_eq!(lab.node.state(peer()), ConnectionState::Disconnected);
    assert!(lab.node.unblacklist(lab.now, peer()));
    assert!(!lab.node.unblacklist(lab.now, peer()));
    assert!(!lab.node.is_blacklisted(peer()));
}

#[test]
fn a_stranger_can_be_banned() {
    let mut lab = Lab::new(|_| {});
    let stranger = stranger(1);
    lab.node.remove_peer(NOW, peer());
    lab.node.blacklist(NOW, stranger, None).unwrap();
    assert!(lab.node.is_blacklisted(stranger));
    assert!(lab.node.remove_peer(NOW, stranger).is_none());
    assert!(lab.node.is_blacklisted(stranger), "removing a peer does not forgive it");
}

#[test]
fn a_ban_ends_a_dial_and_a_wait() {
    use ConnectionState::{Connecting, Disconnected, Reconnecting};
    let mut lab = Lab::new(|_| {});
    lab.connect();
    lab.node.blacklist(NOW, peer(), None).unwrap();
    lab.act();
    assert_eq!(lab.dial, None);
    let banned = (Disconnected, Some(StateReason::Blacklisted));
    assert_eq!(lab.events(), [(Connecting, None), banned.clone()]);
    lab.node.unblacklist(NOW, peer());
    lab.connect();
    lab.fail_dial();
    assert_eq!(lab.states(), [Connecting, Disconnected, Reconnecting]);
    lab.node.blacklist(NOW, peer(), None).unwrap();
    lab.act();
    assert_eq!(lab.events(), [banned]);
    assert_eq!(lab.node.poll_timeout(), None);
}

#[test]
fn the_book_is_stored_at_once_or_with_the_next_flush() {
    let mut lab = Lab::new(|_| {});
    assert_eq!(lab.saves, 1, "a peer was added");
    lab.node.blacklist(NOW, stranger(1), None).unwrap();
    lab.act();
    assert_eq!(lab.saves, 2);
    assert_eq!(lab.node.book().unsaved(), Unsaved::Nothing);
    assert_eq!(lab.node.poll_timeout(), None);
    // What fails to be stored is tried again.
    lab.node.blacklist(NOW, stranger(4), None).unwrap();
    assert!(matches!(lab.node.poll_action(), Some(NodeAction::SaveBook)));
    lab.node.blacklist(NOW, stranger(3), None).unwrap();
    assert!(lab.node.poll_action().is_none(), "one at a time");
    lab.node.handle_book_not_saved(NOW);
    lab.act();
    assert_eq!(lab.saves, 3);
    lab.node.flush_book(NOW);
    assert!(lab.node.poll_action().is_none(), "there is nothing to store");
}

#[test]
fn a_flush_behind_a_save_stores_nothing_twice() {
    let mut lab = Lab::new(|_| {});
    lab.node.blacklist(NOW, stranger(1), None).unwrap();
    assert!(matches!(lab.node.poll_action(), Some(NodeAction::SaveBook)));
    let revision = lab.node.book().revision();
    // The file may be edited once it is known to be stored, so it must not be written again.
    lab.node.flush_book(NOW);
    lab.node.handle_book_saved(NOW, revision);
    assert_eq!(lab.node.book().unsaved(), Unsaved::Nothing);
    assert!(lab.node.poll_action().is_none(), "all is stored");
    lab.node.blacklist(NOW, stranger(4), None).unwrap();
    assert!(matches!(lab.node.poll_action(), Some(NodeAction::SaveBook)));
}

#[test]
fn a_change_that_is_refused_stores_nothing() {
    let mut lab = Lab::new(|config| config.max_metadata_size = 1);
    lab.node.blacklist(NOW, stranger(1), None).unwrap();
    assert!(matches!(lab.node.poll_action(), Some(NodeAction::SaveBook)));
    // It is tried again, but later.
    lab.node.handle_book_not_saved(NOW);
    let too_much = [("key".to_owned(), "value".to_owned())].into();
    lab.node.add_peer_with_metadata(NOW, stranger(4), &[], Some(too_much)).unwrap_err();
    assert!(lab.node.poll_action().is_none());
    lab.wait(30 * SECOND);
    assert_eq!(lab.saves, 2);
}

#[test]
fn autoconnect_dials_everybody_a_few_at_a_time() {
    let mut lab = Lab::new(|config| config.max_dials = 3);
    for number in 10..30 {
        let key = stranger(number);
        lab.node.add_peer(NOW, key, &[Address::new("memory")]).unwrap();
        if number % 2 == 0 {
            lab.node.blacklist(NOW, key, None).unwrap();
        }
    }
    lab.node.set_reconnect_policy(NOW, peer(), Some(ReconnectPolicy::never())).unwrap();
    lab.node.autoconnect(NOW);
    let mut waiting = Vec::new();
    let mut dialled = 0;
    loop {
        while let Some(action) = lab.node.poll_action() {
            if let NodeAction::Dial { dial, peer, .. } = action {
                assert!(!lab.node.is_blacklisted(peer));
                waiting.push(dial);
                dialled += 1;
            }
        }
        assert!(waiting.len() <= 3);
        let Some(dial) = waiting.pop() else { break };
        lab.node.handle_dial_failed(NOW, dial, DialError::NoUsableAddress);
    }
    assert_eq!(dialled, 11, "the ten that are not banned, and the first");
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Connect,
    Disconnect,
    Cancel,
    Ban,
    Lift,
    Remove,
    Add,
    FailDial,
    Sleep,
    Wait(u16),
    Protect,
    Autoconnect,
    Shutdown,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Connect),
        1 => Just(Op::Disconnect),
        1 => Just(Op::Cancel),
        1 => Just(Op::Ban),
        1 => Just(Op::Lift),
        1 => Just(Op::Remove),
        2 => Just(Op::Add),
        4 => Just(Op::FailDial),
        4 => Just(Op::Sleep),
        2 => any::<u16>().prop_map(Op::Wait),
        1 => Just(Op::Protect),
        1 => Just(Op::Autoconnect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever an application does in whatever order, transitions are legal, timers lie ahead, and
    /// a banned peer is never dialled.
    #[test]
    fn any_order_of_commands_keeps_to_the_transitions(
        ops in prop::collection::vec(op(), 0..120),
        stops: bool,
    ) {
        let mut lab = Lab::new(|_| {});
        let mut state = ConnectionState::Disconnected;
        let end = if stops { Some(Op::Shutdown) } else { None };
        for op in ops.into_iter().chain(end) {
            let (node, now) = (&mut lab.node, lab.now);
            match op {
                Op::Connect => drop(node.connect(now, peer())),
                Op::Disconnect => drop(node.disconnect(now, peer())),
                Op::Cancel => drop(node.cancel_reconnection(now, peer())),
                Op::Ban => drop(node.blacklist(now, peer(), None)),
                Op::Lift => drop(node.unblacklist(now, peer())),
                Op::Remove => drop(node.remove_peer(now, peer())),
                Op::Add => node.add_peer(now, peer(), &[Address::new("memory")]).unwrap(),
                Op::FailDial if lab.dial.is_some() => lab.fail_dial(),
                Op::Sleep if node.poll_timeout().is_some() => drop(lab.sleep()),
                Op::FailDial | Op::Sleep => {}
                Op::Wait(millis) => lab.wait(Duration::from_millis(millis.into())),
                Op::Protect => node.protect(now, peer(), true).unwrap(),
                Op::Autoconnect => node.autoconnect(now),
                Op::Shutdown => node.shutdown(now),
            }
            lab.act();
            prop_assert!(lab.dial.is_none() || !lab.node.is_blacklisted(peer()));
            prop_assert!(lab.node.poll_timeout().is_none_or(|at| at > lab.now));
            for next in lab.states() {
                prop_assert!(is_legal(state, next), "{state} to {next}");
                state = next;
            }
            prop_assert_eq!(state, lab.node.state(peer()));
        }
        if stops {
            prop_assert!(lab.node.is_idle());
            prop_assert_eq!(state, ConnectionState::Disconnected);
        }
    }
}

/// The table of the design.
pub(crate) fn is_legal(from: ConnectionState, to: ConnectionState) -> bool {
    use ConnectionState::{
        Connected, Connecting, Cooldown, Disconnected, Established, Reconnecting,
    };
    matches!(
        (from, to),
        (Disconnected, Connecting | Connected | Reconnecting)
            | (Connecting, Connected | Disconnected)
            | (Connected, Established | Cooldown | Disconnected)
            | (Established, Disconnected)
            | (Cooldown, Reconnecting | Disconnected)
            | (Reconnecting, Connecting | Connected | Disconnected)
    )
}
