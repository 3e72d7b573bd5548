//! Which timer a session waits for.

use std::time::Duration;

use glueberry_proto::{CloseReason, ConnectionState, Naming, Profile, SubstreamEnd, Timer};

use crate::substreams::{only, written_on_own};
use crate::support::{Raw, config, name};

/// Returns the next timer, with the time from now on.
fn next(raw: &Raw) -> Option<(Duration, Timer)> {
    let (at, timer) = raw.session.next_timer()?;
    assert_eq!(raw.session.poll_timeout(), Some(at));
    Some((at.duration_since(raw.now), timer))
}

#[test]
fn an_outbound_session_waits_for_its_handshake_substream() {
    let mut raw = Raw::outbound(Naming::Negotiated, only(Profile::V1));
    let timeout = raw.node.config().negotiation_timeout;
    let (id, _) = raw.opening();
    assert_eq!(next(&raw), Some((timeout, Timer::Negotiation(id))));
    raw.wait(timeout);
    assert_eq!(raw.closed().reason, CloseReason::HandshakeLost);
    assert_eq!(raw.session.next_timer(), None);
}

#[test]
fn a_session_without_a_handshake_substream_waits_for_another() {
    let (mut raw, handshake) = Raw::connected(Naming::Negotiated, only(Profile::V1));
    assert_eq!(next(&raw), None);
    raw.end(handshake, SubstreamEnd::Aborted);
    let timeout = raw.node.config().negotiation_timeout;
    assert_eq!(next(&raw), Some((timeout, Timer::HandshakeLost)));
    raw.wait(timeout);
    assert_eq!(raw.closed().reason, CloseReason::HandshakeLost);
}

#[test]
fn a_refused_stream_waits_to_be_tried_again() {
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    raw.send("chat", b"one");
    raw.refuse();
    let delay = raw.node.config().retry_delay;
    assert_eq!(next(&raw), Some((delay, Timer::Retry(name("chat")))));
    raw.wait(delay);
    let (id, _) = raw.opening();
    assert!(matches!(next(&raw), Some((_, Timer::Negotiation(opening))) if opening == id));
}

#[test]
fn what_a_go_node_may_not_have_read_waits_to_settle() {
    let (mut raw, _) = written_on_own(Profile::V1Go, &[b"one"]);
    let time = raw.node.config().settle_time;
    assert_eq!(next(&raw), Some((time, Timer::Settle(name("chat")))));
    raw.wait(time);
    assert_eq!(next(&raw), None);
}

#[test]
fn a_session_that_drains_does_not_do_so_for_ever() {
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    raw.open_stream("chat");
    raw.send("chat", b"one");
    raw.session.close(raw.now);
    let timeout = raw.node.config().drain_timeout;
    assert_eq!(next(&raw), Some((timeout, Timer::Drain)));
    raw.wait(timeout);
    let closed = raw.closed();
    assert_eq!((closed.reason, closed.unsent), (CloseReason::Disconnected, 1));
    assert_eq!(raw.session.next_timer(), None);
}

/// The node's time for the handshake runs out while the word of its end is on its way: the session
/// is Established by then, and stays.
#[test]
fn a_handshake_timeout_that_crosses_the_end_of_the_handshake_ends_nothing() {
    let (mut raw, _) = Raw::connected(Naming::Negotiated, config(&["chat"]));
    raw.prepare(&["chat"]);
    raw.session.finalize_handshake(raw.now).unwrap();
    raw.now = raw.now + raw.node.config().handshake_timeout;
    raw.node.handle_timeout(raw.now);
    raw.settle();
    assert!(raw.session.is_established());
    assert_eq!(raw.node.state(raw.peer), ConnectionState::Established);
    raw.carries_messages("chat");
}

/// The handshake substream is lost, and the application finalizes before it is too late for another.
#[test]
fn the_loss_of_a_handshake_substream_matters_no_more_once_the_handshake_is_over() {
    let (mut raw, handshake) = Raw::connected(Naming::Negotiated, config(&["chat"]));
    raw.prepare(&["chat"]);
    raw.end(handshake, SubstreamEnd::Aborted);
    assert!(matches!(next(&raw), Some((_, Timer::HandshakeLost))), "{:?}", next(&raw));
    raw.finalize();
    raw.wait(2 * raw.node.config().negotiation_timeout);
    assert!(raw.session.is_established());
    raw.carries_messages("chat");
}
