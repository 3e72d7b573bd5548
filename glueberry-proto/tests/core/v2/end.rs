//! How sessions of v2 end, and what is known then.

use std::time::Duration;

use glueberry_proto::testing::pair::{A, B};
use glueberry_proto::{CloseReason, Instant, Naming, PeerMisbehaved};

use super::{SECOND, break_pipe, configs, established, finalized_alone, stall};
use crate::support::{BOTH, established_world, name, new_world};

#[test]
fn after_an_orderly_end_nothing_is_in_doubt() {
    for naming in BOTH {
        let mut world = established(naming);
        for number in 0..20_u8 {
            world.send(A, "chat", &[number; 100]);
            world.send(B, "sync", &[number; 5000]);
        }
        // What B has queued is not drained: A has asked for the end.
        world.command(A, |session, now| session.close(now));
        world.run();
        assert_eq!(world.app.received(B, "chat").len(), 20);
        let [a, b] = [A, B].map(|side| world.app.closed(side));
        assert_eq!(a.reason, CloseReason::Disconnected);
        assert_eq!(b.reason, CloseReason::EndedByPeer { code: 0 });
        assert_eq!((a.unsent, a.in_doubt, a.not_received), (0, 0, 0));
        let arrived = u64::try_from(world.app.received(A, "sync").len()).unwrap();
        let unsent = u64::try_from(b.unsent).unwrap();
        assert_eq!(b.in_doubt, 0);
        assert_eq!(arrived + unsent + b.not_received, 20);
    }
}

#[test]
fn what_was_on_its_way_when_the_peer_ended_is_known_not_to_have_arrived() {
    let mut world = established(Naming::Negotiated);
    world.send(A, "chat", b"first");
    world.run();
    world.app.sides[B].is_reading_paused = true;
    for _ in 0..1002 {
        if world.session(A).queued(&name("chat")).0 < 900 {
            world.send(A, "chat", b"B has no room for all of these");
        }
        world.step();
    }
    world.run();
    world.command(B, |session, now| session.close(now));
    world.run();
    let closed = world.app.closed(A);
    assert_eq!(closed.reason, CloseReason::EndedByPeer { code: 0 });
    assert_eq!(closed.in_doubt, 0);
    assert_eq!(closed.not_received, 2);
    // B keeps what it has received, and gives it to its application also afterwards.
    world.app.sides[B].is_reading_paused = false;
    world.run();
    assert_eq!(world.app.received(B, "chat").len(), 1001);
}

/// The last frame of the handshake is on its way when the other side ends the session: the answer comes
/// behind it.
#[test]
fn an_end_right_after_the_handshake_is_answered_at_once() {
    for naming in BOTH {
        for side in [A, B] {
            let mut world = new_world(naming, configs());
            world.connect(A);
            world.run();
            [A, B].into_iter().for_each(|side| world.prepare(side, &["chat"]));
            world.finalize(1 - side);
            world.run();
            world.finalize(side);
            assert!(world.session(side).is_established());
            assert!(world.disconnect(1 - side));
            world.run();
            assert_eq!(world.now, Instant::ZERO);
            let reasons = [side, 1 - side].map(|side| world.app.closed(side).reason);
            assert_eq!(reasons, [CloseReason::EndedByPeer { code: 0 }, CloseReason::Disconnected]);
        }
    }
}

#[test]
fn both_may_end_at_once() {
    for naming in BOTH {
        let mut world = established(naming);
        world.send(A, "chat", b"a");
        world.send(B, "chat", b"b");
        for side in [A, B] {
            world.command(side, |session, now| session.close(now));
        }
        world.run();
        for side in [A, B] {
            let closed = world.app.closed(side);
            assert_eq!(closed.reason, CloseReason::Disconnected);
            assert_eq!((closed.unsent, closed.in_doubt), (0, 0));
        }
    }
}

/// Its transport has acknowledged it, and its session reads nothing more: whether it has the message, only
/// it can say.
#[test]
fn what_only_the_transport_of_a_peer_has_is_in_doubt() {
    let mut world = established(Naming::Preamble);
    world.send(A, "chat", b"read");
    world.run();
    world.send(A, "chat", b"on its way when B ends");
    for side in [B, A] {
        world.command(side, |session, now| session.close(now));
    }
    // B has all that A has written, and A nothing of what B says.
    stall(&mut world, A);
    assert!(world.current_session(A).is_some_and(|session| !session.is_closed()));
    world.cut(0);
    world.run();
    let closed = world.app.closed(A);
    assert_eq!((closed.unsent, closed.in_doubt, closed.not_received), (0, 2, 0));
    assert_eq!(world.app.received(B, "chat"), ["read"]);
}

/// A transport that does not show what has arrived can't tell a peer that leaves too from a substream
/// that broke.
#[test]
fn a_substream_that_seems_to_break_at_its_end_is_not_repeated_for_long() {
    let mut world = established(Naming::Negotiated);
    for number in 0..20_u8 {
        world.send(A, "chat", &[number; 1000]);
    }
    world.command(A, |session, now| session.close(now));
    // It is sent once more, as it may have been lost.
    let mut broken = 0;
    for _ in 0..2 {
        let pipe = stall(&mut world, B);
        assert!(pipe > broken, "not sent again");
        broken = pipe;
        break_pipe(&mut world, pipe);
        stall(&mut world, B);
        world.wait(SECOND);
    }
    world.run();
    // B waits for what A has sent, by what A says.
    world.advance(3 * SECOND);
    let closed = world.app.closed(A);
    assert_eq!((closed.unsent, closed.in_doubt, closed.not_received), (0, 0, 20));
    assert_eq!(closed.reason, CloseReason::Disconnected);
}

#[test]
fn a_peer_that_does_not_answer_the_end_is_not_waited_for_long() {
    let mut world = established(Naming::Negotiated);
    world.send(A, "chat", b"arrives or not");
    world.run();
    // B no longer gets anything.
    let session = world.session(B).id();
    world.hosts[B].sessions.remove(&session);
    world.command(A, |session, now| session.close(now));
    world.run();
    let mut waited = Duration::ZERO;
    while world.current_session(A).is_some_and(|session| !session.is_closed()) {
        let at = world.session(A).poll_timeout().expect("it waits for something");
        let by = at.duration_since(world.now);
        waited += by;
        world.advance(by);
    }
    assert!(waited <= 10 * SECOND, "{waited:?}");
    let closed = world.app.closed(A);
    assert_eq!((closed.reason, closed.in_doubt), (CloseReason::Disconnected, 1));
}

#[test]
fn a_loss_leaves_in_doubt_what_was_not_acknowledged() {
    let mut world = established(Naming::Negotiated);
    for _ in 0..7 {
        world.send(A, "chat", b"arrives, but A can't know");
    }
    world.run();
    world.send(A, "sync", b"is not sent");
    world.cut(0);
    world.run();
    let closed = world.app.closed(A);
    assert_eq!((closed.unsent, closed.in_doubt, closed.not_received), (1, 7, 0));
    assert_eq!(world.app.received(B, "chat").len(), 7);
}

/// An end before Established is as orderly as one after it, and says no more.
#[test]
fn an_end_of_the_handshake_is_orderly() {
    for naming in BOTH {
        let mut world = new_world(naming, configs());
        world.connect(A);
        world.run();
        world.command(A, |session, now| session.close(now));
        world.run();
        let [a, b] = [A, B].map(|side| world.app.closed(side));
        assert_eq!(a.reason, CloseReason::Disconnected);
        assert_eq!(b.reason, CloseReason::EndedByPeer { code: 0 });
        assert_eq!((a.in_doubt, b.in_doubt), (0, 0));
    }
}

#[test]
fn a_rejection_reaches_the_peer() {
    for naming in BOTH {
        let mut world = new_world(naming, configs());
        world.connect(A);
        world.run();
        world.command(B, |session, now| session.reject_handshake(now, "no"));
        world.run();
        let [a, b] = [A, B].map(|side| world.app.closed(side));
        assert_eq!(a.reason, CloseReason::EndedByPeer { code: 1 });
        assert_eq!(b.reason, CloseReason::Rejected("no".to_owned()));
    }
}

/// Its own consent binds no application before the peer has confirmed the session.
#[test]
fn a_rejection_is_possible_until_the_session_is_established() {
    let mut world = finalized_alone();
    world.command(A, |session, now| session.reject_handshake(now, "no"));
    world.run();
    assert_eq!(world.app.closed(A).reason, CloseReason::Rejected("no".to_owned()));
}

#[test]
fn a_message_above_the_limit_is_told_with_its_lengths_and_has_a_number_of_its_own() {
    let mut both = configs();
    both[B].max_message_size = 1000;
    let mut world = established_world(Naming::Negotiated, both, &["chat"]);
    world.send(A, "chat", &[7; 1000]);
    world.send(A, "chat", &[7; 1001]);
    world.run();
    assert_eq!(world.app.received(B, "chat").len(), 1);
    let (stream, announced, limit) = (Some(name("chat")), 1001, 1000);
    let how = PeerMisbehaved::MessageTooLarge { stream, announced, limit };
    assert_eq!(world.app.closed(B).reason, CloseReason::Misbehaved(how));
    assert_eq!(world.app.closed(A).reason, CloseReason::EndedByPeer { code: 26 });
}
