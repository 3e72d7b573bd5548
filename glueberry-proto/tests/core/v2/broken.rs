//! Substreams that break, and bytes that were altered.

use std::time::Duration;

use glueberry_proto::testing::pair::{A, B};
use glueberry_proto::{CloseReason, Event, Naming, Timer, Violation};

use super::{SECOND, break_pipe, configs, established, events, stall, violation};
use crate::support::{BOTH, Move, established_world, name, new_world};

#[test]
fn what_was_lost_with_a_substream_is_sent_again_and_nothing_arrives_twice() {
    for arrives in [0, 100, 1000, 4000] {
        let mut world = established(Naming::Negotiated);
        world.cuts = vec![97];
        for number in 0..40_u8 {
            world.send(A, "chat", &[number; 100]);
        }
        let pipe = stall(&mut world, B);
        for _ in 0..arrives / 97 {
            world.perform(Move::Deliver(0, pipe, B));
        }
        break_pipe(&mut world, pipe);
        world.run();
        for number in 40..60_u8 {
            world.send(A, "chat", &[number; 100]);
        }
        world.advance(SECOND);
        let received: Vec<u8> = world.app.received(B, "chat").iter().map(|it| it[0]).collect();
        assert_eq!(received, (0..60).collect::<Vec<_>>());
        let is_loss = |event: &Event| {
            matches!(event, Event::StreamInterrupted { .. } | Event::MessagesLost { .. })
        };
        assert!(!events(&world, A).iter().any(is_loss));
        assert!(!events(&world, B).iter().any(is_loss));
        world.command(A, |session, now| session.close(now));
        world.run();
        assert_eq!(world.app.closed(A).in_doubt, 0);
    }
}

/// How long the next substream is waited for says how often the last have broken in a row: one that has
/// carried messages for a while ends the count.
#[test]
fn substreams_that_broke_long_ago_do_not_delay_the_next() {
    let mut world = established(Naming::Negotiated);
    for number in 1..=12 {
        world.send(A, "chat", b"is read");
        world.run();
        world.advance(SECOND * 10);
        world.send(A, "chat", b"is sent again");
        let pipe = stall(&mut world, B);
        break_pipe(&mut world, pipe);
        world.run();
        world.advance(Duration::from_millis(150));
        assert_eq!(world.app.received(B, "chat").len(), 2 * number, "{number}");
    }
    // Each that breaks at once is waited for twice as long as the last.
    world.advance(SECOND * 10);
    for millis in [100, 200, 400] {
        world.send(A, "chat", b"is sent again");
        let pipe = stall(&mut world, B);
        break_pipe(&mut world, pipe);
        world.run();
        let (now, timer) = (world.now, world.session(A).next_timer());
        let Some((at, Timer::Retry(_))) = timer else { panic!("{timer:?}") };
        assert_eq!(at.duration_since(now), Duration::from_millis(millis));
        world.wait(at.duration_since(now));
    }
}

/// A stream that the peer has not prepared is given up with what was written on it before.
#[test]
fn what_was_to_be_sent_again_on_a_stream_that_is_given_up_is_in_doubt() {
    let mut both = configs();
    (both[A].max_stream_attempts, both[A].high_watermark, both[A].low_watermark) = (2, 3, 1);
    let mut world = new_world(Naming::Negotiated, both);
    world.connect(A);
    world.run();
    world.prepare(A, &["chat", "sync"]);
    world.prepare(B, &["sync"]);
    world.finalize(A);
    world.run();
    for number in 0..3_u8 {
        world.send(A, "chat", &[number]);
        world.run();
    }
    world.finalize(B);
    world.run();
    for _ in 0..20 {
        world.advance(SECOND);
    }
    let told = events(&world, A);
    let interrupted = Event::StreamInterrupted { stream: name("chat"), in_doubt: 3 };
    let refused = Event::StreamRefused { stream: name("chat"), unsent: 0 };
    assert!(
        told.ends_with(&[interrupted, refused, Event::Writable { stream: name("chat") }]),
        "{told:?}"
    );
    assert_eq!(world.session(A).queued(&name("chat")), (0, 0));
    world.send(A, "sync", b"arrives");
    world.run();
    world.command(A, |session, now| session.close(now));
    world.run();
    let closed = world.app.closed(A);
    assert_eq!(world.app.received(B, "sync"), ["arrives"]);
    assert_eq!((closed.unsent, closed.in_doubt, closed.not_received), (0, 0, 3));
}

#[test]
fn what_is_not_kept_any_more_is_told_as_lost_on_both_sides() {
    let mut both = configs();
    both[A].settle_time = Duration::from_millis(1);
    let mut world = established_world(Naming::Negotiated, both, &["chat"]);
    world.send(A, "chat", b"arrives");
    world.run();
    world.send(A, "chat", b"is lost");
    let pipe = stall(&mut world, B);
    world.wait(SECOND);
    break_pipe(&mut world, pipe);
    world.run();
    world.send(A, "chat", b"arrives again");
    world.advance(SECOND);
    assert_eq!(world.app.received(B, "chat"), ["arrives", "arrives again"]);
    let interrupted = Event::StreamInterrupted { stream: name("chat"), in_doubt: 2 };
    assert!(events(&world, A).contains(&interrupted), "{:?}", events(&world, A));
    let b = events(&world, B);
    assert!(b.contains(&Event::StreamTruncated { stream: name("chat") }), "{b:?}");
    assert!(b.contains(&Event::MessagesLost { stream: name("chat"), messages: 1 }), "{b:?}");
    world.command(A, |session, now| session.close(now));
    world.run();
    let closed = world.app.closed(A);
    assert_eq!((closed.in_doubt, closed.not_received), (0, 1));
}

#[test]
fn the_loss_of_the_control_channel_ends_only_a_handshake() {
    for naming in BOTH {
        let mut world = new_world(naming, configs());
        world.connect(A);
        world.run();
        break_pipe(&mut world, 0);
        world.run();
        let reasons = [A, B].map(|side| world.app.closed(side).reason);
        assert!(reasons.contains(&CloseReason::HandshakeLost), "{reasons:?}");

        let mut world = established(naming);
        break_pipe(&mut world, 0);
        world.run();
        world.send(A, "chat", b"goes on");
        world.run();
        assert_eq!(world.app.received(B, "chat"), ["goes on"]);
        world.command(A, |session, now| session.close(now));
        world.run();
        assert_eq!(world.app.closed(A).reason, CloseReason::Disconnected);
    }
}

// ---- altered bytes --------------------------------------------------------------------------------

#[test]
fn an_altered_record_ends_the_session_and_both_know_why() {
    let mut world = established(Naming::Negotiated);
    world.send(A, "chat", b"first");
    world.run();
    world.send(A, "chat", b"altered");
    let pipe = stall(&mut world, B);
    let bytes = &mut world.links[0].pipes[pipe].towards[B].bytes;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    world.run();
    assert_eq!(world.app.received(B, "chat"), ["first"]);
    assert_eq!(violation(&world.app.closed(B)), Some(Violation::RecordAuthentication));
    let a = world.app.closed(A);
    assert_eq!(a.reason, CloseReason::EndedByPeer { code: 23 });
    assert_eq!((a.in_doubt, a.not_received), (0, 1));
}

#[test]
fn an_altered_handshake_message_is_not_confirmed() {
    let mut world = new_world(Naming::Negotiated, configs());
    world.connect(A);
    world.run();
    world.send_handshake(B, b"sealed by now");
    world.run();
    assert_eq!(world.app.sides[A].handshake, ["sealed by now"]);
    world.send_handshake(B, b"altered");
    stall(&mut world, A);
    let bytes = &mut world.links[0].pipes[0].towards[A].bytes;
    bytes[4] ^= 1;
    world.run();
    assert_eq!(violation(&world.app.closed(A)), Some(Violation::RecordAuthentication));
    assert_eq!(world.app.closed(B).reason, CloseReason::EndedByPeer { code: 23 });
}
