//! What two nodes do with each other, over both kinds of transport.

use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::{CloseReason, ConnectionState, Event, Naming, Profile, SendError};

use crate::support::{A, B, BOTH, config, established_world, key, name, new_world};

#[test]
fn from_dial_to_messages_both_ways() {
    use ConnectionState::{Connected, Connecting, Established};
    for naming in BOTH {
        let mut world = new_world(naming, [config(&["chat"]), config(&["chat"])]);
        world.connect(A);
        world.run();
        assert_eq!(world.app.states(A), [Connecting, Connected]);
        assert_eq!(world.app.states(B), [Connected]);
        assert_eq!(world.session(A).profile(), Some(Profile::V2));
        world.send_handshake(A, b"hello");
        world.send_handshake(B, b"good day");
        world.run();
        assert_eq!(world.app.sides[A].handshake, ["good day"]);
        assert_eq!(world.app.sides[B].handshake, ["hello"]);
        world.prepare(A, &["chat"]);
        world.prepare(B, &["chat"]);
        world.finalize(A);
        world.finalize(B);
        world.send(A, "chat", b"ping");
        world.send(B, "chat", b"pong");
        world.send(A, "chat", b"");
        world.send(A, "chat", &[7; 200_000]);
        world.run();
        assert_eq!(world.app.states(A), [Connecting, Connected, Established]);
        assert_eq!(world.app.states(B), [Connected, Established]);
        assert_eq!(world.app.received(A, "chat"), ["pong"]);
        assert_eq!(world.app.received(B, "chat")[..2], [Bytes::from("ping"), Bytes::new()]);
        assert_eq!(world.app.received(B, "chat")[2], vec![7; 200_000]);
    }
}

#[test]
fn v1_go_is_spoken_with_a_peer_that_knows_nothing_else() {
    for naming in BOTH {
        let mut go = config(&["chat"]);
        go.profiles = vec![Profile::V1Go];
        let mut world = established_world(naming, [config(&["chat"]), go], &["chat"]);
        assert_eq!(world.session(A).profile(), Some(Profile::V1Go));
        world.send(A, "chat", b"to go");
        world.send(B, "chat", b"from go");
        world.run();
        assert_eq!(world.app.received(B, "chat"), ["to go"]);
        assert_eq!(world.app.received(A, "chat"), ["from go"]);
    }
}

#[test]
fn no_common_profile_is_told() {
    for naming in BOTH {
        let (mut old, mut new) = (config(&[]), config(&[]));
        old.profiles = vec![Profile::V1Go];
        new.profiles = vec![Profile::V1];
        let mut world = new_world(naming, [old, new]);
        world.connect(A);
        world.run();
        assert_eq!(world.app.closed(A).reason, CloseReason::NoCommonProtocol);
        assert_eq!(world.hosts[A].node.state(key(B)), ConnectionState::Disconnected);
    }
}

#[test]
fn both_dial_at_once_and_one_session_is_kept() {
    for naming in BOTH {
        let mut world = new_world(naming, [config(&["chat"]), config(&["chat"])]);
        world.connect(A);
        world.connect(B);
        world.run();
        world.complete_handshake(&["chat"]);
        assert_eq!(world.hosts[A].node.state(key(B)), ConnectionState::Established);
        assert_eq!(world.hosts[B].node.state(key(A)), ConnectionState::Established);
        world.send(A, "chat", b"one");
        world.send(B, "chat", b"two");
        world.run();
        assert_eq!(world.app.received(B, "chat"), ["one"]);
        assert_eq!(world.app.received(A, "chat"), ["two"]);
    }
}

#[test]
fn both_send_first_and_nothing_is_lost() {
    for naming in BOTH {
        let configs = [config(&["chat"]), config(&["chat"])];
        let mut world = established_world(naming, configs, &["chat"]);
        for round in 0..10_u8 {
            world.send(A, "chat", &[round]);
            world.send(B, "chat", &[round]);
        }
        world.run();
        let expected: Vec<Bytes> = (0..10_u8).map(|round| Bytes::from(vec![round])).collect();
        assert_eq!(world.app.received(A, "chat"), expected);
        assert_eq!(world.app.received(B, "chat"), expected);
    }
}

#[test]
fn a_disconnect_sends_what_was_queued() {
    for naming in BOTH {
        let configs = [config(&["chat"]), config(&["chat"])];
        let mut world = established_world(naming, configs, &["chat"]);
        for round in 0..100_u8 {
            world.send(A, "chat", &[round; 1000]);
        }
        assert!(world.disconnect(A));
        world.run();
        assert_eq!(world.app.received(B, "chat").len(), 100);
        let closed = world.app.closed(A);
        assert_eq!((closed.unsent, closed.in_doubt), (0, 0));
        assert_eq!(closed.reason, CloseReason::Disconnected);
        assert_eq!(world.hosts[B].node.state(key(A)), ConnectionState::Disconnected);
    }
}

/// The side that stays goes on sending, whoever has opened the substream.
#[test]
fn a_disconnect_leaves_the_side_that_stays_in_no_doubt() {
    for naming in BOTH {
        for opener in [A, B] {
            for steps in 0..60 {
                let configs = [config(&["chat"]), config(&["chat"])];
                let mut world = established_world(naming, configs, &["chat"]);
                world.send(opener, "chat", b"first");
                world.run();
                for number in 0..50_u8 {
                    world.send(B, "chat", &[number; 1000]);
                }
                assert!(world.disconnect(A));
                let mut sent = 50;
                for _ in 0..steps {
                    let accepted = world.command(B, |session, now| {
                        session.send(now, &name("chat"), Bytes::from_static(b"more"))
                    });
                    sent += usize::from(matches!(accepted, Some(Ok(()))));
                    world.step();
                }
                world.run();
                let closed = world.app.closed(B);
                assert_eq!(closed.in_doubt, 0, "{naming:?} {opener} {steps}");
                let received = world.app.received(A, "chat").len() - usize::from(opener == B);
                assert_eq!(
                    received + closed.unsent + usize::try_from(closed.not_received).unwrap(),
                    sent,
                    "{naming:?} {opener} {steps}"
                );
                assert_eq!(world.app.closed(A).in_doubt, 0);
            }
        }
    }
}

#[test]
fn a_handshake_that_takes_too_long_ends_in_cooldown() {
    let mut world = new_world(Naming::Negotiated, [config(&[]), config(&[])]);
    world.connect(A);
    world.run();
    world.advance(Duration::from_secs(60));
    assert_eq!(world.hosts[A].node.state(key(B)), ConnectionState::Cooldown);
    world.advance(Duration::from_secs(60));
    assert_eq!(world.hosts[A].node.state(key(B)), ConnectionState::Disconnected);
}

#[test]
fn a_full_queue_says_backpressure_and_then_writable() {
    let mut tight = config(&["chat"]);
    tight.high_watermark = 4;
    tight.low_watermark = 2;
    let configs = [tight, config(&["chat"])];
    let mut world = established_world(Naming::Negotiated, configs, &["chat"]);
    for _ in 0..4 {
        world.send(A, "chat", b"x");
    }
    let now = world.now;
    let refused = world.session(A).send(now, &name("chat"), Bytes::from_static(b"x"));
    assert_eq!(refused, Err(SendError::Backpressure));
    world.run();
    let writable = Event::Writable { stream: name("chat") };
    assert!(world.app.sides[A].session_events.iter().any(|(_, event)| *event == writable));
    world.send(A, "chat", b"x");
    world.run();
    assert_eq!(world.app.received(B, "chat").len(), 5);
}

#[test]
fn a_reader_that_does_not_read_pauses_its_sender_and_loses_nothing() {
    let configs = [config(&["slow"]), config(&["slow"])];
    let mut world = established_world(Naming::Negotiated, configs, &["slow"]);
    world.app.sides[B].is_reading_paused = true;
    let mut sent = 0_u32;
    for _ in 0..5_000 {
        let (now, message) = (world.now, Bytes::copy_from_slice(&sent.to_be_bytes()));
        if world.session(A).send(now, &name("slow"), message).is_ok() {
            sent += 1;
        }
        world.step();
    }
    world.app.sides[B].is_reading_paused = false;
    world.drain_application(B);
    world.run();
    let expected: Vec<Bytes> =
        (0..sent).map(|number| Bytes::copy_from_slice(&number.to_be_bytes())).collect();
    assert_eq!(world.app.received(B, "slow"), expected);
}
