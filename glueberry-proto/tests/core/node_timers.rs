//! What a node says that it waits for.

use std::time::Duration;

use glueberry_proto::{
    Address, ConnectionLost, ConnectionState, DialError, Instant, Node, NodeAction, NodeTimer,
    Origin, PeerTimer, Profile, ReconnectPolicy, Session,
};

use crate::support::{A, B, accept, dial, exchange, key, node};

const NOW: Instant = Instant::ZERO;

/// The peer opens a handshake substream.
fn agree(node: &mut Node, session: &mut Session) {
    _ = session.handle_accepted(NOW, Some(Profile::V1.handshake_id()));
    exchange(node, NOW, &mut [session]);
}

/// Checks what is due first, and when.
#[track_caller]
fn waits_for(node: &Node, expected: PeerTimer, wait: Duration) {
    let peer = node.peers().next().unwrap();
    let timer = NodeTimer::Peer { peer, timer: expected };
    assert_eq!(node.next_timer(), Some((NOW + wait, timer)));
    assert_eq!(node.poll_timeout(), Some(NOW + wait));
}

#[test]
fn a_node_that_waits_for_nothing_has_no_timer() {
    let node = node(A, |_| {});
    assert_eq!((node.next_timer(), node.poll_timeout()), (None, None));
}

#[test]
fn changes_of_the_book_that_can_wait_have_a_timer() {
    let flush = Duration::from_secs(20);
    let mut node = node(A, |config| config.book_flush_interval = flush);
    node.add_peer(NOW, key(B), &[Address::new("memory")]).unwrap();
    assert!(matches!(node.poll_action(), Some(NodeAction::SaveBook)));
    let revision = node.book().revision();
    node.handle_book_saved(NOW, revision);
    assert_eq!(node.next_timer(), None);
    // When the peer was seen is stored later.
    let mut session = accept(&mut node, NOW, key(B), Origin::Accepted);
    agree(&mut node, &mut session);
    assert_eq!(node.next_timer(), Some((NOW + flush, NodeTimer::BookFlush)));
    node.handle_timeout(NOW + flush);
    assert!(matches!(node.poll_action(), Some(NodeAction::SaveBook)));
    assert_eq!(node.next_timer().map(|(at, _)| at), Some(NOW + node.config().handshake_timeout));
}

/// A book that is loaded as it was stored leaves nothing to be stored of the one before.
#[test]
fn a_book_that_has_nothing_to_be_stored_is_not_waited_for() {
    let mut node = node(A, |config| config.book_flush_interval = Duration::from_secs(20));
    node.add_peer(NOW, key(B), &[Address::new("memory")]).unwrap();
    assert!(matches!(node.poll_action(), Some(NodeAction::SaveBook)));
    let revision = node.book().revision();
    node.handle_book_saved(NOW, revision);
    let stored = node.book().clone();
    let mut session = accept(&mut node, NOW, key(B), Origin::Accepted);
    agree(&mut node, &mut session);
    assert!(matches!(node.next_timer(), Some((_, NodeTimer::BookFlush))));
    node.load_book(NOW, stored);
    waits_for(&node, PeerTimer::Handshake, node.config().handshake_timeout);
}

#[test]
fn each_wait_for_a_peer_has_its_name() {
    let mut node = node(A, |config| {
        config.reconnect = ReconnectPolicy::default();
        config.book_flush_interval = Duration::from_secs(3600);
    });
    let limits = node.config().clone();
    let dialled = dial(&mut node, NOW, key(B));
    waits_for(&node, PeerTimer::Dial, limits.dial_timeout);
    node.handle_dial_failed(NOW, dialled, DialError::NoUsableAddress);
    let Some((_, NodeTimer::Peer { timer: PeerTimer::Retry, .. })) = node.next_timer() else {
        panic!("{:?}", node.next_timer());
    };
    let mut session = accept(&mut node, NOW, key(B), Origin::Accepted);
    assert!(node.cancel_reconnection(NOW, key(B)));
    assert!(node.next_timer().is_none(), "the session was asked to end");
    exchange(&mut node, NOW, &mut [&mut session]);
    let mut session = accept(&mut node, NOW, key(B), Origin::Accepted);
    waits_for(&node, PeerTimer::Session, limits.negotiation_timeout);
    agree(&mut node, &mut session);
    waits_for(&node, PeerTimer::Handshake, limits.handshake_timeout);
    let mut second = accept(&mut node, NOW, key(B), Origin::Accepted);
    agree(&mut node, &mut second);
    waits_for(&node, PeerTimer::Probe, limits.probe_timeout);
    session.reject_handshake(NOW, "no");
    exchange(&mut node, NOW, &mut [&mut session]);
    assert_eq!(node.state(key(B)), ConnectionState::Cooldown);
    waits_for(&node, PeerTimer::Cooldown, limits.cooldown);
    node.disconnect(NOW, key(B));
    waits_for(&node, PeerTimer::Refusal, limits.refuse_after_disconnect);
}

#[test]
fn the_wait_for_a_session_of_the_smaller_key_has_its_name() {
    let mut node = node(B, |_| {});
    let dialled = dial(&mut node, NOW, key(A));
    let mut own = accept(&mut node, NOW, key(A), Origin::Dialled(dialled));
    let _theirs = accept(&mut node, NOW, key(A), Origin::Accepted);
    agree(&mut node, &mut own);
    let probe_timeout = node.config().probe_timeout;
    waits_for(&node, PeerTimer::Hold, probe_timeout);
}

/// Two sessions that the peer has opened, of which the later one waits for the probe of the first.
fn current_and_waiting(node: &mut Node) -> (Session, Session) {
    let [mut first, mut second] = [(); 2].map(|()| accept(node, NOW, key(B), Origin::Accepted));
    agree(node, &mut first);
    agree(node, &mut second);
    assert_eq!(node.session_of(key(B)), Some(first.id()));
    waits_for(node, PeerTimer::Probe, node.config().probe_timeout);
    (first, second)
}

/// Time for the answer to a probe is given to the session that was asked, not to the one after it.
#[test]
fn the_wait_for_an_answer_ends_with_the_session_that_was_asked() {
    let mut node = node(A, |_| {});
    let (mut first, mut second) = current_and_waiting(&mut node);
    first.handle_connection_lost(NOW, ConnectionLost::TimedOut);
    exchange(&mut node, NOW, &mut [&mut first, &mut second]);
    assert_eq!(node.session_of(key(B)), Some(second.id()));
    waits_for(&node, PeerTimer::Handshake, node.config().handshake_timeout);
    let later = NOW + node.config().probe_timeout;
    node.handle_timeout(later);
    exchange(&mut node, later, &mut [&mut second]);
    assert_eq!(node.session_of(key(B)), Some(second.id()));
    assert!(!second.is_closed());
}
