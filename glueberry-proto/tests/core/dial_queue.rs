//! Whose dial goes first, and who joins one that is under way.

use std::time::Duration;

use glueberry_proto::{
    Address, ConnectError, ConnectionState, DialError, DialId, Instant, Node, NodeAction, Origin,
    Profile, PublicKey, RefuseReason, StateReason,
};

use crate::support::{A, Side, accept, arrive, dial, exchange, name, node, stranger};

const NOW: Instant = Instant::ZERO;

/// Returns the dials that were started and the ones that were cancelled since the last time.
fn actions(node: &mut Node) -> (Vec<(DialId, PublicKey)>, Vec<DialId>) {
    let (mut started, mut cancelled) = (Vec::new(), Vec::new());
    while let Some(action) = node.poll_action() {
        match action {
            NodeAction::Dial { dial, peer, .. } => started.push((dial, peer)),
            NodeAction::CancelDial(dial) => cancelled.push(dial),
            _ => {}
        }
    }
    (started, cancelled)
}

/// A node with as many offline peers in its book, all of which it dials.
fn autoconnecting(side: Side, max_dials: usize, offline: u8) -> Node {
    let mut node = node(side, |config| config.max_dials = max_dials);
    for number in 0..offline {
        node.add_peer(NOW, stranger(100 + number), &[Address::new("offline")]).unwrap();
    }
    node.autoconnect(NOW);
    node
}

#[test]
fn a_dial_that_is_waited_for_goes_ahead_of_those_that_are_not() {
    let mut node = autoconnecting(A, 2, 5);
    let (background, _) = actions(&mut node);
    assert_eq!(background.len(), 2);
    let wanted = stranger(3);
    node.add_peer(NOW, wanted, &[Address::new("a")]).unwrap();
    node.connect(NOW, wanted).unwrap();
    let (started, cancelled) = actions(&mut node);
    let Ok([(id, peer)]) = <[_; 1]>::try_from(started) else { panic!("not one dial") };
    assert_eq!((peer, &cancelled[..]), (wanted, &[background[0].0][..]));
    // The one that gave way is told of nothing, and has another turn.
    let postponed = background[0].1;
    assert_eq!(node.state(postponed), ConnectionState::Connecting);
    let late = arrive(&mut node, NOW, postponed, Origin::Dialled(background[0].0));
    assert!(matches!(late, glueberry_proto::Admission::Refuse(RefuseReason::DialCancelled)));
    let _session = accept(&mut node, NOW, wanted, Origin::Dialled(id));
    let mut dialled = Vec::new();
    let mut now = NOW;
    for _ in 0..5 {
        dialled.extend(actions(&mut node).0.into_iter().map(|(_, peer)| peer));
        now = now + Duration::from_secs(30);
        node.handle_timeout(now);
    }
    assert!(dialled.contains(&postponed));
    assert_eq!(node.internal_errors(), 0);
}

#[test]
fn those_that_are_waited_for_do_not_give_way_to_each_other() {
    let mut node = autoconnecting(A, 2, 5);
    for number in 3..8 {
        node.add_peer(NOW, stranger(number), &[Address::new("a")]).unwrap();
        node.connect(NOW, stranger(number)).unwrap();
    }
    let (started, cancelled) = actions(&mut node);
    let peers: Vec<PublicKey> = started.iter().map(|(_, peer)| *peer).collect();
    assert_eq!(peers[2..], [stranger(3), stranger(4)]);
    assert_eq!(cancelled, [started[0].0, started[1].0]);
    node.handle_dial_failed(NOW, started[2].0, DialError::NoUsableAddress);
    let (next, cancelled) = actions(&mut node);
    assert_eq!((next[0].1, cancelled.len()), (stranger(5), 0));
}

#[test]
fn an_attempt_that_waits_in_the_queue_is_hurried() {
    let mut node = autoconnecting(A, 1, 5);
    let (background, _) = actions(&mut node);
    let last = node.peers().find(|peer| *peer != background[0].1).unwrap();
    assert_eq!(node.state(last), ConnectionState::Connecting);
    node.connect(NOW, last).unwrap();
    let (started, cancelled) = actions(&mut node);
    assert_eq!((started[0].1, &cancelled[..]), (last, &[background[0].0][..]));
    // One that is under way is joined, and from then on does not give way.
    node.connect(NOW, last).unwrap();
    node.connect(NOW, background[0].1).unwrap();
    let (started, cancelled) = actions(&mut node);
    assert!(started.is_empty() && cancelled.is_empty(), "{started:?} {cancelled:?}");
}

#[test]
fn a_dial_in_the_background_that_is_joined_gives_way_no_more() {
    let mut node = autoconnecting(A, 1, 1);
    let (background, _) = actions(&mut node);
    node.connect(NOW, background[0].1).unwrap();
    node.add_peer(NOW, stranger(3), &[Address::new("a")]).unwrap();
    node.connect(NOW, stranger(3)).unwrap();
    let (started, cancelled) = actions(&mut node);
    assert!(started.is_empty() && cancelled.is_empty(), "{started:?} {cancelled:?}");
}

/// The peer would refuse the connection for as long as it takes the last session for alive.
#[test]
fn no_dial_gives_way_to_one_that_has_to_wait_for_the_last_session() {
    let mut node = autoconnecting(A, 1, 1);
    assert_eq!(actions(&mut node).0.len(), 1);
    let (peer, chat) = (stranger(3), name("chat"));
    node.add_peer(NOW, peer, &[Address::new("a")]).unwrap();
    let mut session = accept(&mut node, NOW, peer, Origin::Accepted);
    let _ = session.handle_accepted(NOW, Some(Profile::V1.handshake_id()));
    exchange(&mut node, NOW, &mut [&mut session]);
    session.prepare_streams(NOW, peer, std::slice::from_ref(&chat)).unwrap();
    session.finalize_handshake(NOW).unwrap();
    session.send(NOW, &chat, "last".into()).unwrap();
    exchange(&mut node, NOW, &mut [&mut session]);
    assert!(node.disconnect(NOW, peer));
    exchange(&mut node, NOW, &mut [&mut session]);
    assert!(!session.is_closed(), "what is queued is still sent");
    node.connect(NOW, peer).unwrap();
    let action = node.poll_action();
    let is_dial = matches!(action, Some(NodeAction::Dial { .. } | NodeAction::CancelDial(_)));
    assert!(!is_dial, "{action:?}");
    assert_eq!(node.internal_errors(), 0);
}

#[test]
fn connect_joins_the_attempt_that_is_under_way() {
    let mut node = node(A, |_| {});
    let peer = stranger(3);
    let id = dial(&mut node, NOW, peer);
    node.connect(NOW, peer).unwrap();
    assert!(actions(&mut node).0.is_empty());
    node.handle_dial_failed(NOW, id, DialError::TimedOut);
    let events: Vec<_> = std::iter::from_fn(|| node.poll_event()).collect();
    let failures = events
        .iter()
        .filter(|event| event.reason == Some(StateReason::DialFailed(DialError::TimedOut)));
    assert_eq!(failures.count(), 1);
    let id = dial(&mut node, NOW, peer);
    let _session = accept(&mut node, NOW, peer, Origin::Dialled(id));
    // The session is there, and not agreed yet.
    node.connect(NOW, peer).unwrap();
    assert_eq!(node.connect(NOW, stranger(4)), Err(ConnectError::NoAddress));
}

#[test]
fn the_address_by_which_a_peer_was_reached_is_tried_first_next_time() {
    let mut node = node(A, |_| {});
    let (peer, all) = (stranger(3), ["a", "b", "c"].map(Address::new));
    node.add_peer(NOW, peer, &all).unwrap();
    let dial = |node: &mut Node| {
        node.connect(NOW, peer).unwrap();
        loop {
            if let Some(NodeAction::Dial { dial, addresses, .. }) = node.poll_action() {
                return (dial, addresses);
            }
        }
    };
    let (first, addresses) = dial(&mut node);
    assert_eq!(addresses, all);
    node.handle_dial_answered(NOW, first, &all[2]);
    node.handle_dial_failed(NOW, first, DialError::TimedOut);
    let (second, addresses) = dial(&mut node);
    assert_eq!(addresses, ["c", "a", "b"].map(Address::new));
    assert_eq!(node.book().entry(peer).unwrap().addresses(), all, "as they were added");
    node.handle_dial_failed(NOW, second, DialError::TimedOut);
    // The application's new list counts, and one that it has dropped is not tried.
    node.add_peer(NOW, peer, &all[..2]).unwrap();
    let (_, addresses) = dial(&mut node);
    assert_eq!(addresses, all[..2]);
}
