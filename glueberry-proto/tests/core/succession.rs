//! What a session, a dial or a calendar leaves behind for what comes after it: deadlines, reasons,
//! counts.

use glueberry_proto::{
    Action, Address, CloseReason, ConnectionEvent, ConnectionState, DialError, Event, Instant,
    Node, NodeAction, Origin, Profile, ProtocolId, ReconnectPolicy, Session, StateReason,
    SubstreamEnd, WallTime,
};

use crate::support::{A, B, accept, arrive, dial, exchange, key, names, node, stranger};

const NOW: Instant = Instant::ZERO;

/// The peer opens a handshake substream, and the node hears of it.
fn agree(node: &mut Node, now: Instant, session: &mut Session) {
    _ = session.handle_accepted(now, Some(Profile::V1.handshake_id()));
    report(node, now, session);
}

/// Carries what a session says to the node.
fn report(node: &mut Node, now: Instant, session: &mut Session) {
    while let Some(action) = session.poll_action() {
        if let Action::Forward(message) = action {
            node.handle_session_message(now, session.id(), message);
        }
    }
}

/// Carries what the node says to a session; what it says to others is lost.
fn tell(node: &mut Node, now: Instant, session: &mut Session) {
    while let Some(action) = node.poll_action() {
        if let NodeAction::Forward { session: id, message } = action
            && id == session.id()
        {
            session.handle_node_message(now, message);
        }
    }
}

fn events(node: &mut Node) -> Vec<ConnectionEvent> {
    std::iter::from_fn(|| node.poll_event()).collect()
}

/// The time for the handshake is over while one session is being replaced by another: it is over for
/// that one, too.
#[test]
fn a_session_that_takes_over_too_late_has_no_time_left() {
    let mut node = node(B, |_| {});
    let peer = key(A);
    let dialled = dial(&mut node, NOW, peer);
    let mut own = accept(&mut node, NOW, peer, Origin::Dialled(dialled));
    agree(&mut node, NOW, &mut own);
    tell(&mut node, NOW, &mut own);
    let soon = NOW + node.config().probe_timeout;
    let mut theirs = accept(&mut node, soon, peer, Origin::Accepted);
    agree(&mut node, soon, &mut theirs);
    // The request to yield and the end are on their way together.
    let later = NOW + node.config().handshake_timeout;
    node.handle_timeout(later);
    tell(&mut node, later, &mut own);
    report(&mut node, later, &mut own);
    exchange(&mut node, later, &mut [&mut own, &mut theirs]);
    assert!(theirs.is_closed(), "{:?}", node.next_timer());
    assert_eq!(node.state(peer), ConnectionState::Cooldown);
    let last = events(&mut node).pop().unwrap();
    assert_eq!(last.reason, Some(StateReason::SessionEnded(CloseReason::HandshakeTimeout)));
    assert_eq!(node.internal_errors(), 0);
}

/// A connection of the peer that is refused says nothing about the one that this side has dialled.
#[test]
fn a_connection_that_is_refused_is_not_the_failure_of_a_dial() {
    let mut node = node(A, |config| {
        config.max_sessions_per_peer = 1;
        config.reconnect = ReconnectPolicy::unlimited();
    });
    let peer = key(B);
    let dialled = dial(&mut node, NOW, peer);
    let mut own = accept(&mut node, NOW, peer, Origin::Dialled(dialled));
    let later = NOW + node.config().handshake_timeout;
    node.handle_timeout(later);
    // It was asked to end, and has not said so yet.
    _ = arrive(&mut node, later, peer, Origin::Accepted);
    assert_eq!(node.state(peer), ConnectionState::Connecting);
    exchange(&mut node, later, &mut [&mut own]);
    let failure = events(&mut node).into_iter().find_map(|event| event.reason);
    let is_own = |reason| matches!(reason, StateReason::DialFailed(DialError::Session(_)));
    assert!(failure.clone().is_some_and(is_own), "{failure:?}");
}

/// A peer that was restarted twice has two connections that wait for the first: the older of the two
/// is as dead as that, and is asked whether it lives when it becomes current.
#[test]
fn a_session_that_takes_over_is_asked_whether_it_lives_if_a_later_one_waits() {
    let mut node = node(A, |_| {});
    let peer = key(B);
    let mut sessions = [(); 3].map(|()| accept(&mut node, NOW, peer, Origin::Accepted));
    for session in &mut sessions {
        agree(&mut node, NOW, session);
    }
    let ids = [0, 1, 2].map(|at: usize| sessions[at].id());
    let mut now = NOW;
    for current in ids {
        assert_eq!(node.session_of(peer), Some(current));
        now = now + node.config().probe_timeout;
        node.handle_timeout(now);
        exchange(&mut node, now, &mut sessions.each_mut());
    }
    assert!(!sessions[2].is_closed(), "it is the last, and nothing waits for it");
    assert_eq!(node.session_of(peer), Some(ids[2]));
}

/// A pin that holds again, because the calendar was set back, ends what began while it did not.
#[test]
fn a_calendar_that_is_set_back_ends_what_a_pin_forbids() {
    let day = |day: i64| WallTime::from_unix(day * 86_400, 0).unwrap();
    let mut node = node(A, |_| {});
    let peer = key(B);
    node.set_wall_time(NOW, day(0));
    node.add_peer(NOW, peer, &[Address::new("memory")]).unwrap();
    let mut book = node.book().clone();
    assert!(book.set_v2_until(peer, day(90), day(0)));
    node.load_book(NOW, book);
    node.set_wall_time(NOW, day(100));
    let mut session = accept(&mut node, NOW, peer, Origin::Accepted);
    agree(&mut node, NOW, &mut session);
    exchange(&mut node, NOW, &mut [&mut session]);
    assert_eq!(node.state(peer), ConnectionState::Connected);
    // What changes nothing ends nothing.
    node.set_wall_time(NOW, day(99));
    exchange(&mut node, NOW, &mut [&mut session]);
    assert!(!session.is_closed());
    node.set_wall_time(NOW, day(50));
    exchange(&mut node, NOW, &mut [&mut session]);
    assert!(session.is_closed());
    assert_eq!(node.state(peer), ConnectionState::Disconnected);
    let refused = CloseReason::Downgrade { offered: Some(Profile::V1) };
    let last = events(&mut node).pop().unwrap();
    assert_eq!(last.reason, Some(StateReason::SessionEnded(refused)));
}

/// It ends all that it forbids, and not only the session that is current.
#[test]
fn a_pin_that_holds_again_ends_what_waits_too() {
    let mut node = node(A, |_| {});
    let day = |day: i64| WallTime::from_unix(day * 86_400, 0).unwrap();
    node.set_wall_time(NOW, day(0));
    node.add_peer(NOW, key(B), &[Address::new("memory")]).unwrap();
    let mut book = node.book().clone();
    assert!(book.set_v2_until(key(B), day(90), day(0)));
    node.load_book(NOW, book);
    node.set_wall_time(NOW, day(100));
    let [mut first, mut second] = current_and_waiting(&mut node);
    node.set_wall_time(NOW, day(50));
    exchange(&mut node, NOW, &mut [&mut first, &mut second]);
    for mut session in [first, second] {
        let mut events = std::iter::from_fn(|| session.poll_event());
        let Some(Event::Closed(closed)) = events.next() else { panic!("it has not ended") };
        assert_eq!(closed.reason, CloseReason::Downgrade { offered: Some(Profile::V1) });
    }
}

/// A dial that waits for its turn needs an address when that has come.
#[test]
fn a_dial_whose_last_address_is_gone_is_not_begun() {
    for is_wanted in [true, false] {
        for is_by_book in [true, false] {
            let mut node = node(A, |config| config.max_dials = 1);
            let peers = [8, 9].map(stranger);
            for peer in peers {
                node.add_peer(NOW, peer, &[Address::new("memory")]).unwrap();
                if is_wanted {
                    node.connect(NOW, peer).unwrap();
                }
            }
            node.autoconnect(NOW);
            let mut actions = std::iter::from_fn(|| node.poll_action());
            let begun = actions.find_map(|action| match action {
                NodeAction::Dial { peer, .. } => Some(peer),
                _ => None,
            });
            let waiting = peers.into_iter().find(|peer| Some(*peer) != begun).unwrap();
            if is_by_book {
                let mut book = node.book().clone();
                book.remove(waiting, WallTime::UNIX_EPOCH).unwrap();
                node.load_book(NOW, book);
            } else {
                node.remove_peer(NOW, waiting).unwrap();
            }
            let later = NOW + node.config().dial_timeout;
            node.handle_timeout(later);
            while let Some(action) = node.poll_action() {
                let is_empty =
                    matches!(&action, NodeAction::Dial { addresses, .. } if addresses.is_empty());
                assert!(!is_empty, "{action:?}");
            }
            assert_eq!(node.state(waiting), ConnectionState::Disconnected);
            let last = events(&mut node).into_iter().rfind(|event| event.peer == waiting).unwrap();
            assert_eq!(last.reason, Some(StateReason::NoAddress));
            assert_eq!(node.internal_errors(), 0);
        }
    }
}

/// A peer that is cut off for a ban is sent nothing more, whatever tells the node of the ban.
#[test]
fn a_ban_by_the_book_ends_what_is_still_being_sent() {
    let mut node = node(A, |_| {});
    let peer = key(B);
    let mut session = accept(&mut node, NOW, peer, Origin::Accepted);
    agree(&mut node, NOW, &mut session);
    exchange(&mut node, NOW, &mut [&mut session]);
    let streams = names(&["chat"]);
    session.prepare_streams(NOW, peer, &streams).unwrap();
    session.finalize_handshake(NOW).unwrap();
    session.send(NOW, &streams[0], "last".into()).unwrap();
    exchange(&mut node, NOW, &mut [&mut session]);
    node.disconnect(NOW, peer);
    exchange(&mut node, NOW, &mut [&mut session]);
    assert!(!session.is_closed(), "what is queued is still sent");
    let mut book = node.book().clone();
    _ = book.blacklist(peer, None, WallTime::UNIX_EPOCH);
    node.load_book(NOW, book);
    exchange(&mut node, NOW, &mut [&mut session]);
    assert!(session.is_closed());
}

/// The wait for a session that the peer is about to open begins with each session that waits.
#[test]
fn a_wait_for_the_preferred_session_is_not_that_of_the_one_before() {
    let mut node = node(B, |_| {});
    let peer = key(A);
    let probe_timeout = node.config().probe_timeout;
    let dialled = dial(&mut node, NOW, peer);
    let mut own = accept(&mut node, NOW, peer, Origin::Dialled(dialled));
    let theirs = accept(&mut node, NOW, peer, Origin::Accepted);
    agree(&mut node, NOW, &mut own);
    assert_eq!(node.session_of(peer), None);
    node.disconnect(NOW, peer);
    node.connect(NOW, peer).unwrap();
    let _next = accept(&mut node, NOW, peer, Origin::Accepted);
    for gone in [own.id(), theirs.id()] {
        node.handle_session_gone(NOW, gone);
    }
    let mut actions = std::iter::from_fn(|| node.poll_action());
    let dialled = actions.find_map(|action| match action {
        NodeAction::Dial { dial, .. } => Some(dial),
        _ => None,
    });
    let later = NOW + probe_timeout / 2;
    let mut second = accept(&mut node, later, peer, Origin::Dialled(dialled.unwrap()));
    agree(&mut node, later, &mut second);
    node.handle_timeout(NOW + probe_timeout);
    assert_eq!(node.session_of(peer), None, "it has not waited for long enough");
    node.handle_timeout(later + probe_timeout);
    assert_eq!(node.session_of(peer), Some(second.id()));
}

/// Two connections of the peer, of which the first is current and has been asked whether it lives.
fn current_and_waiting(node: &mut Node) -> [Session; 2] {
    let [mut first, mut second] = [(); 2].map(|()| accept(node, NOW, key(B), Origin::Accepted));
    agree(node, NOW, &mut first);
    exchange(node, NOW, &mut [&mut first]);
    agree(node, NOW, &mut second);
    tell(node, NOW, &mut first);
    assert_eq!(node.session_of(key(B)), Some(first.id()));
    [first, second]
}

/// The peer opens a substream, which shows that it has the session.
fn answer(node: &mut Node, now: Instant, session: &mut Session) {
    _ = session.handle_accepted(now, Some(ProtocolId::Probe));
    report(node, now, session);
}

/// An answer ends the sessions that wait for it, but for one that is about to take over.
#[test]
fn an_answer_does_not_end_the_session_that_takes_over() {
    let mut node = node(A, |_| {});
    let [mut first, mut second] =
        [(); 2].map(|()| accept(&mut node, NOW, key(B), Origin::Accepted));
    let handshake = first.handle_accepted(NOW, Some(Profile::V1.handshake_id()));
    exchange(&mut node, NOW, &mut [&mut first]);
    agree(&mut node, NOW, &mut second);
    tell(&mut node, NOW, &mut first);
    // The peer goes on with its handshake on the second, which the first is asked to make way for.
    first.handle_substream_end(NOW, handshake, SubstreamEnd::Aborted, &[]);
    report(&mut node, NOW, &mut first);
    answer(&mut node, NOW, &mut first);
    exchange(&mut node, NOW, &mut [&mut first, &mut second]);
    assert_eq!(node.session_of(key(B)), Some(second.id()));
    assert!(!second.is_closed());
}

/// An answer that comes when the time for it is over ends no session that is to take over.
#[test]
fn an_answer_that_comes_too_late_decides_nothing() {
    let mut node = node(A, |_| {});
    let [mut first, mut second] = current_and_waiting(&mut node);
    let later = NOW + node.config().probe_timeout;
    node.handle_timeout(later);
    answer(&mut node, later, &mut first);
    exchange(&mut node, later, &mut [&mut first, &mut second]);
    assert!(first.is_closed());
    assert_eq!(node.session_of(key(B)), Some(second.id()));
}

/// One that was agreed has waited for nothing, and its peer has failed at nothing.
#[test]
fn a_session_that_has_waited_for_too_long_ends_as_superseded() {
    let mut node = node(A, |_| {});
    let dialled = dial(&mut node, NOW, key(B));
    let _own = accept(&mut node, NOW, key(B), Origin::Dialled(dialled));
    let mut theirs = accept(&mut node, NOW, key(B), Origin::Accepted);
    agree(&mut node, NOW, &mut theirs);
    let later = NOW + node.config().handshake_timeout;
    node.handle_timeout(later);
    tell(&mut node, later, &mut theirs);
    let Some(Event::Closed(closed)) = theirs.poll_event() else { panic!("it has not ended") };
    assert_eq!(closed.reason, CloseReason::Superseded);
}

/// What the application ends or begins, begins anew: attempts of before do not count against the next.
#[test]
fn what_the_application_ends_or_begins_ends_the_count_of_attempts() {
    let commands: [fn(&mut Node) -> bool; 3] = [
        |node| node.disconnect(NOW, key(B)),
        |node| node.cancel_reconnection(NOW, key(B)),
        |node| node.connect(NOW, key(B)).is_ok(),
    ];
    for command in commands {
        let mut node = node(A, |config| config.reconnect = ReconnectPolicy::unlimited());
        // Of whom the node remembers more than that it is Disconnected.
        node.protect(NOW, key(B), true).unwrap();
        let dialled = dial(&mut node, NOW, key(B));
        node.handle_dial_failed(NOW, dialled, DialError::TimedOut);
        assert_eq!(node.peer_status(key(B)).unwrap().attempts, 1);
        assert!(command(&mut node));
        assert_eq!(node.peer_status(key(B)).unwrap().attempts, 0);
    }
}

/// What was being stored when the book was replaced was not stored: that says nothing of the next time.
#[test]
fn a_book_that_is_stored_at_the_second_attempt_is_not_stored_again() {
    let mut node = node(A, |_| {});
    let saves = |node: &mut Node| {
        let actions = std::iter::from_fn(|| node.poll_action());
        actions.filter(|action| matches!(action, NodeAction::SaveBook)).count()
    };
    _ = node.blacklist(NOW, key(B), None).unwrap();
    assert_eq!(saves(&mut node), 1);
    let mut book = node.book().clone();
    _ = book.blacklist(stranger(9), None, WallTime::UNIX_EPOCH);
    node.load_book(NOW, book);
    node.handle_book_not_saved(NOW);
    node.flush_book(NOW);
    assert_eq!(saves(&mut node), 1);
    let revision = node.book().revision();
    node.handle_book_saved(NOW, revision);
    node.flush_book(NOW);
    assert_eq!(saves(&mut node), 0, "{:?}", node.next_timer());
}
