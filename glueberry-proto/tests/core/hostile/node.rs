//! What a node refuses, and by which error.

use std::time::Duration;

use glueberry_proto::book::ChangeError;
use glueberry_proto::{
    Address, Admission, CloseReason, ConnectError, ConnectionState, DialError, DialId, Instant,
    Node, NodeAction, Origin, PeerError, ReconnectPolicy, RefuseReason, StateReason,
};

use crate::support::{A, BOTH, Raw, accept, arrive, config, dial, key, node, stranger as peer};

#[track_caller]
fn refused(admission: Admission) -> RefuseReason {
    match admission {
        Admission::Refuse(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn states(node: &mut Node) -> Vec<(ConnectionState, Option<StateReason>)> {
    std::iter::from_fn(|| node.poll_event()).map(|event| (event.state, event.reason)).collect()
}

const NOW: Instant = Instant::from_micros(1_000_000);

#[test]
fn our_own_key_is_turned_away() {
    let mut node = node(A, |_| {});
    let own = node.public_key();
    assert_eq!(refused(arrive(&mut node, NOW, own, Origin::Accepted)), RefuseReason::OwnKey);
    assert_eq!(node.add_peer(NOW, own, &[]), Err(PeerError::OwnKey));
    assert_eq!(node.connect(NOW, own), Err(ConnectError::OwnKey));
    assert_eq!(node.peers().count(), 0);
}

#[test]
fn addresses_are_bounded_in_number_and_length() {
    let mut node = node(A, |config| (config.max_addresses, config.max_peers) = (2, 1));
    let address = || Address::new("a");
    let three = node.add_peer(NOW, peer(3), &[address(), address(), address()]);
    assert_eq!(three, Err(ChangeError::TooManyAddresses { got: 3, limit: 2 }.into()));
    let long = Address::new("x".repeat(1025));
    assert_eq!(
        node.add_peer(NOW, peer(3), &[long]),
        Err(ChangeError::AddressTooLong { len: 1025 }.into())
    );
    node.add_peer(NOW, peer(3), &[address()]).unwrap();
    let second = node.add_peer(NOW, peer(4), &[address()]);
    assert_eq!(second, Err(ChangeError::TooManyEntries { limit: 1 }.into()));
    node.add_peer(NOW, peer(3), &[address(), address()]).unwrap();
    let _first = accept(&mut node, NOW, peer(3), Origin::Accepted);
    let stranger = refused(arrive(&mut node, NOW, peer(4), Origin::Accepted));
    assert_eq!(stranger, RefuseReason::LimitReached("max_peers"));
}

#[test]
fn what_is_noted_about_strangers_is_bounded() {
    let mut node = node(A, |config| config.max_peers = 2);
    node.protect(NOW, peer(3), true).unwrap();
    node.set_reconnect_policy(NOW, peer(4), Some(ReconnectPolicy::never())).unwrap();
    let full = Err(PeerError::LimitReached("max_peers"));
    assert_eq!(node.protect(NOW, peer(5), true), full);
    assert_eq!(node.set_reconnect_policy(NOW, peer(5), Some(ReconnectPolicy::never())), full);
    assert_eq!(node.peer_status(peer(5)), None);
    // Those that are known go on, and what is taken back makes room.
    node.protect(NOW, peer(4), true).unwrap();
    node.protect(NOW, peer(3), false).unwrap();
    node.protect(NOW, peer(5), true).unwrap();
}

#[test]
fn a_policy_that_cannot_work_is_refused() {
    let mut node = node(A, |_| {});
    let mut policy = ReconnectPolicy::default();
    policy.initial_backoff = Duration::ZERO;
    let error = node.set_reconnect_policy(NOW, peer(3), Some(policy)).unwrap_err();
    assert_eq!(error, PeerError::Policy(policy.check().unwrap_err()));
    assert_eq!(node.peer_status(peer(3)), None);
}

#[test]
fn a_peer_without_address_is_not_dialled() {
    let mut node = node(A, |_| {});
    assert_eq!(node.connect(NOW, peer(3)), Err(ConnectError::NoAddress));
}

#[test]
fn sessions_are_bounded() {
    let mut node = node(A, |config| {
        (config.max_sessions, config.max_sessions_per_peer) = (3, 2);
        config.reserved_sessions = 0;
    });
    for friend in 3..6 {
        node.add_peer(NOW, peer(friend), &[Address::new("a")]).unwrap();
    }
    let first = accept(&mut node, NOW, peer(3), Origin::Accepted);
    let _second = accept(&mut node, NOW, peer(3), Origin::Accepted);
    let third = refused(arrive(&mut node, NOW, peer(3), Origin::Accepted));
    assert_eq!(third, RefuseReason::LimitReached("max_sessions_per_peer"));
    let _third = accept(&mut node, NOW, peer(4), Origin::Accepted);
    let fourth = refused(arrive(&mut node, NOW, peer(5), Origin::Accepted));
    assert_eq!(fourth, RefuseReason::LimitReached("max_sessions"));
    assert_eq!(node.connect(NOW, peer(5)), Err(ConnectError::LimitReached("max_sessions")));
    node.handle_session_gone(NOW, first.id());
    accept(&mut node, NOW, peer(5), Origin::Accepted);
}

#[test]
fn a_dial_that_finds_the_node_full_fails() {
    let mut node = node(A, |config| config.max_sessions = 1);
    let dial = dial(&mut node, NOW, peer(3));
    node.add_peer(NOW, peer(4), &[Address::new("a")]).unwrap();
    let _session = accept(&mut node, NOW, peer(4), Origin::Accepted);
    let reason = RefuseReason::LimitReached("max_sessions");
    assert_eq!(refused(arrive(&mut node, NOW, peer(3), Origin::Dialled(dial))), reason);
    let why = StateReason::DialFailed(DialError::LimitReached("max_sessions"));
    let expected =
        [(ConnectionState::Connecting, None), (ConnectionState::Disconnected, Some(why))];
    assert_eq!(states(&mut node), expected);
}

#[test]
fn while_events_wait_nothing_new_begins() {
    let mut node = node(A, |config| (config.event_queue, config.max_dials) = (2, 1));
    let first = dial(&mut node, NOW, peer(3));
    node.add_peer(NOW, peer(4), &[Address::new("a")]).unwrap();
    node.add_peer(NOW, peer(5), &[Address::new("a")]).unwrap();
    node.connect(NOW, peer(4)).unwrap();
    assert_eq!(node.connect(NOW, peer(5)), Err(ConnectError::LimitReached("event_queue")));
    let stranger = refused(arrive(&mut node, NOW, peer(6), Origin::Accepted));
    assert_eq!(stranger, RefuseReason::LimitReached("event_queue"));
    node.handle_dial_failed(NOW, first, DialError::NoUsableAddress);
    assert!(matches!(node.poll_action(), Some(NodeAction::SaveBook)), "the queued dial waits");
    assert!(node.poll_action().is_none(), "the queued dial waits");
    assert_eq!(states(&mut node).len(), 3);
    assert!(matches!(node.poll_action(), Some(NodeAction::Dial { .. })));
    accept(&mut node, NOW, peer(6), Origin::Accepted);
}

#[test]
fn a_dial_that_is_answered_by_somebody_else_fails() {
    let mut node = node(A, |_| {});
    let dial_id = dial(&mut node, NOW, peer(3));
    let answer = refused(arrive(&mut node, NOW, peer(4), Origin::Dialled(dial_id)));
    assert_eq!(answer, RefuseReason::WrongPeer);
    let why = StateReason::DialFailed(DialError::WrongPeer { actual: peer(4).to_string() });
    let expected =
        [(ConnectionState::Connecting, None), (ConnectionState::Disconnected, Some(why))];
    assert_eq!(states(&mut node), expected);
    assert_eq!(node.book().iter().map(|(peer, _)| peer).collect::<Vec<_>>(), [peer(3)]);
    assert_eq!(node.peers().count(), 0);
    let again = dial(&mut node, NOW, peer(3));
    accept(&mut node, NOW, peer(3), Origin::Dialled(again));
}

#[test]
fn a_cancelled_or_overdue_dial_is_of_no_use() {
    let mut node = node(A, |_| {});
    let cancelled = dial(&mut node, NOW, peer(3));
    assert!(node.disconnect(NOW, peer(3)));
    assert!(matches!(node.poll_action(), Some(NodeAction::CancelDial(dial)) if dial == cancelled));
    let late = refused(arrive(&mut node, NOW, peer(3), Origin::Dialled(cancelled)));
    assert_eq!(late, RefuseReason::DialCancelled);
    let overdue = dial(&mut node, NOW, peer(4));
    let later = NOW + Duration::from_secs(30);
    let late = refused(arrive(&mut node, later, peer(4), Origin::Dialled(overdue)));
    assert_eq!(late, RefuseReason::DialCancelled);
    let events = states(&mut node);
    let why = StateReason::DialFailed(DialError::TimedOut);
    assert_eq!(events.last(), Some(&(ConnectionState::Disconnected, Some(why))));
    // Both are dialled again as if nothing had been.
    for number in [3, 4] {
        let again = dial(&mut node, later, peer(number));
        accept(&mut node, later, peer(number), Origin::Dialled(again));
    }
}

#[test]
fn dials_are_bounded_and_wait_their_turn() {
    let mut node = node(A, |config| config.max_dials = 2);
    for number in 3..8 {
        node.add_peer(NOW, peer(number), &[Address::new("a")]).unwrap();
        node.connect(NOW, peer(number)).unwrap();
    }
    let dials = |node: &mut Node| -> Vec<DialId> {
        let dials = std::iter::from_fn(|| node.poll_action()).filter_map(|action| match action {
            NodeAction::Dial { dial, .. } => Some(dial),
            _ => None,
        });
        dials.collect()
    };
    let started = dials(&mut node);
    assert_eq!(started.len(), 2);
    node.handle_dial_failed(NOW, started[0], DialError::NoUsableAddress);
    assert_eq!(dials(&mut node).len(), 1);
    node.disconnect(NOW, peer(6));
    let later = NOW + Duration::from_secs(30);
    node.handle_timeout(later);
    assert_eq!(dials(&mut node).len(), 1, "peer 6 was given up while it waited");
}

#[test]
fn a_peer_in_cooldown_is_left_alone() {
    let (mut raw, _) = Raw::connected(BOTH[0], config(&["chat"]));
    raw.session.reject_handshake(raw.now, "no");
    raw.settle();
    raw.node.add_peer(raw.now, raw.peer, &[Address::new("a")]).unwrap();
    raw.wait(Duration::from_secs(20));
    let (now, peer) = (raw.now, raw.peer);
    let inbound = refused(arrive(&mut raw.node, now, peer, Origin::Accepted));
    assert_eq!(inbound, RefuseReason::InCooldown);
    let remaining = Duration::from_secs(40);
    assert_eq!(raw.node.connect(now, peer), Err(ConnectError::InCooldown { remaining }));
    raw.wait(remaining);
    accept(&mut raw.node, raw.now, peer, Origin::Accepted);
    raw.node_is_usable();
}

#[test]
fn after_a_disconnect_here_the_peer_is_refused_for_a_while() {
    let mut raw = Raw::chat(BOTH[0], glueberry_proto::Profile::V1);
    let peer = raw.peer;
    assert!(raw.node.disconnect(raw.now, peer));
    raw.settle();
    assert_eq!(raw.closed().reason, CloseReason::Disconnected);
    assert!(!raw.node.disconnect(raw.now, peer));
    let refusal = refused(arrive(&mut raw.node, raw.now, peer, Origin::Accepted));
    assert_eq!(refusal, RefuseReason::Disconnected);
    // Our own dial is another matter, and ends the refusal.
    let mut other = Raw::chat(BOTH[0], glueberry_proto::Profile::V1);
    assert!(other.node.disconnect(NOW, peer));
    other.settle();
    let other = &mut other.node;
    dial(other, NOW, peer);
    accept(other, NOW, peer, Origin::Accepted);
    raw.wait(Duration::from_secs(30));
    raw.node_is_usable();
}

#[test]
fn a_node_that_shuts_down_admits_nothing() {
    let mut raw = Raw::chat(BOTH[0], glueberry_proto::Profile::V1);
    let waiting = dial(&mut raw.node, raw.now, peer(3));
    raw.node.shutdown(raw.now);
    raw.settle();
    assert!(raw.session.is_closed());
    assert!(raw.node.is_idle());
    let now = raw.now;
    let inbound = refused(arrive(&mut raw.node, now, peer(4), Origin::Accepted));
    assert_eq!(inbound, RefuseReason::ShuttingDown);
    let dialled = refused(arrive(&mut raw.node, now, peer(3), Origin::Dialled(waiting)));
    assert_eq!(dialled, RefuseReason::DialCancelled);
    assert_eq!(raw.node.connect(now, peer(3)), Err(ConnectError::ShuttingDown));
}

#[test]
fn words_about_sessions_that_do_not_exist_do_nothing() {
    let mut node = node(A, |_| {});
    let mut other = Raw::chat(BOTH[0], glueberry_proto::Profile::V1);
    let connection = other.session.id();
    node.handle_session_gone(NOW, connection);
    other.session.close(NOW);
    while let Some(action) = other.session.poll_action() {
        if let glueberry_proto::Action::Forward(message) = action {
            node.handle_session_message(NOW, connection, message);
        }
    }
    assert!(states(&mut node).is_empty() && node.poll_action().is_none());
    assert_eq!(node.state(key(1)), ConnectionState::Disconnected);
}

#[test]
fn a_session_that_was_dropped_is_over() {
    let mut raw = Raw::chat(BOTH[0], glueberry_proto::Profile::V1);
    raw.node.handle_session_gone(raw.now, raw.session.id());
    let dropped = StateReason::SessionEnded(CloseReason::Dropped);
    let last = states(&mut raw.node).pop();
    assert_eq!(last, Some((ConnectionState::Disconnected, Some(dropped))));
    raw.session.close(raw.now);
    raw.settle();
    raw.node_is_usable();
}
