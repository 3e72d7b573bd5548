//! Sessions of v2: two nodes with each other, over every order and every cut.

mod broken;
mod crossing;
mod downgrade;
mod end;
mod orders;
mod replay;
mod stolen;

use std::num::NonZeroU16;
use std::time::Duration;

use glueberry_proto::testing::pair::{A, B, Side};
use glueberry_proto::{
    CloseReason, Closed, Config, Event, Instant, Naming, Node, Padding, PeerMisbehaved, Problem,
    Profile, Seed, SendError, SessionInfo, Suite, Violation,
};

use crate::support::{BOTH, Move, World, config, established_world, identity, name, new_world};

const SECOND: Duration = Duration::from_secs(1);

fn v2(streams: &[&str]) -> Config {
    let mut config = config(streams);
    config.profiles = vec![Profile::V2];
    config
}

/// Without ML-KEM, whatever the build has.
fn classic(streams: &[&str]) -> Config {
    let mut config = v2(streams);
    config.suites = vec![Suite::Aes256Gcm, Suite::ChaCha20Poly1305];
    config
}

fn configs() -> [Config; 2] {
    [v2(&["chat", "sync"]), v2(&["chat", "sync"])]
}

fn established(naming: Naming) -> World {
    established_world(naming, configs(), &["chat", "sync"])
}

fn infos(world: &World, side: Side) -> Vec<SessionInfo> {
    let events = world.app.sides[side].session_events.iter();
    events
        .filter_map(
            |(_, event)| if let Event::Established(info) = event { Some(*info) } else { None },
        )
        .collect()
}

fn events(world: &World, side: Side) -> Vec<Event> {
    world.app.sides[side].session_events.iter().map(|(_, event)| event.clone()).collect()
}

/// Makes all moves but those that bring bytes to a side. Returns the last pipe that has some for it.
fn stall(world: &mut World, side: Side) -> usize {
    let is_other = |it: &Move| !matches!(it, Move::Deliver(_, _, to) if *to == side);
    while world.moves().into_iter().filter(is_other).any(|it| world.perform(it)) {}
    let pipes = &world.links[0].pipes;
    pipes.iter().rposition(|pipe| !pipe.towards[side].bytes.is_empty()).expect("bytes on their way")
}

/// Breaks the substream on which a side sends, with all that is on its way, as a bad transport does.
fn break_pipe(world: &mut World, pipe: usize) {
    for side in [A, B] {
        let half = &mut world.links[0].pipes[pipe].towards[side];
        half.reset = true;
        half.stopped = true;
    }
}

/// What two sides without instructions for AES agree on.
const SUITE: Suite = match cfg!(feature = "ml-kem") {
    true => Suite::MlKem768ChaCha20Poly1305,
    false => Suite::ChaCha20Poly1305,
};

fn violation(closed: &Closed) -> Option<Violation> {
    match closed.reason {
        CloseReason::Misbehaved(PeerMisbehaved::V2 { violation, .. }) => Some(violation),
        _ => None,
    }
}

#[test]
fn both_sides_get_established_and_say_what_they_have() {
    for naming in BOTH {
        let mut world = established(naming);
        for side in [A, B] {
            let [info] = infos(&world, side)[..] else { panic!("one event") };
            assert_eq!(info.profile, Profile::V2);
            assert_eq!(info.suite, Some(SUITE));
            assert!(info.is_forward_secret && !info.is_bound);
            assert_eq!(info.is_post_quantum, cfg!(feature = "ml-kem"));
            assert_eq!(world.session(side).info(), Some(info));
        }
        let exporter = *world.session(A).exporter().unwrap().as_bytes();
        assert_eq!(world.session(B).exporter().unwrap().as_bytes(), &exporter);
        let debug = format!("{:?}", world.session(A));
        assert!(debug.contains(&format!("suite: {SUITE:?}")), "{debug}");
        assert!(!debug.contains(&format!("{:?}", &exporter[..4])), "no secret is shown");
    }
}

#[test]
fn messages_go_both_ways_in_order() {
    for naming in BOTH {
        let mut world = established(naming);
        // Both sides open a substream of one name at once: each sends on its own.
        for number in 0..50_u8 {
            world.send(A, "chat", &vec![number; usize::from(number)]);
            world.send(B, "chat", &[number]);
            world.send(B, "sync", &vec![number; 3000]);
        }
        world.run();
        let expect = |of: &dyn Fn(u8) -> Vec<u8>| (0..50).map(of).collect::<Vec<_>>();
        assert_eq!(world.app.received(B, "chat"), expect(&|it| vec![it; it.into()]));
        assert_eq!(world.app.received(A, "chat"), expect(&|it| vec![it]));
        assert_eq!(world.app.received(A, "sync"), expect(&|it| vec![it; 3000]));
    }
}

/// The longest handshake message is v2's own, also where the configuration allows longer ones for the
/// sake of other profiles.
#[test]
fn a_handshake_message_is_no_longer_than_v2_can_carry() {
    const LONGEST: usize = 65_536;
    for naming in BOTH {
        let mut configs = configs();
        for config in &mut configs {
            config.max_handshake_size = 4 * LONGEST;
        }
        let mut world = new_world(naming, configs);
        world.connect(A);
        world.run();
        for size in [LONGEST + 1, 2 * LONGEST, LONGEST] {
            let message = vec![7; size].into();
            let sent = world.command(A, |session, now| session.send_handshake(now, message));
            let limit = LONGEST;
            let expected =
                if size > limit { Err(SendError::TooLarge { size, limit }) } else { Ok(()) };
            assert_eq!(sent, Some(expected));
        }
        world.run();
        let lengths: Vec<usize> = world.app.sides[B].handshake.iter().map(|it| it.len()).collect();
        assert_eq!(lengths, [LONGEST]);
        // What is still on its way when the other side finalizes is dropped there, which has a limit.
        world.prepare(B, &["chat"]);
        world.finalize(B);
        let more = world.command(A, |session, now| session.send_handshake(now, "more".into()));
        assert_eq!(more, Some(Err(SendError::Backpressure)), "the first is not answered");
        world.prepare(A, &["chat"]);
        world.finalize(A);
        world.run();
        assert!(world.session(A).is_established() && world.session(B).is_established());
    }
}

#[test]
fn what_is_sent_is_not_seen_on_the_wire() {
    let mut world = new_world(Naming::Negotiated, configs());
    world.app.log.is_on = true;
    world.connect(A);
    world.run();
    world.send_handshake(A, b"early words are in the clear");
    world.run();
    world.send_handshake(A, b"later words are not");
    world.run();
    world.complete_handshake(&["chat", "sync"]);
    world.send(A, "chat", b"a secret message");
    world.run();
    assert_eq!(world.app.received(B, "chat"), ["a secret message"]);
    let written = std::mem::take(&mut world.app.log.written);
    let holds = |text: &[u8]| written.windows(text.len()).any(|it| it == text);
    assert!(!holds(b"a secret message"));
    assert!(!holds(b"later words are not"));
    assert_eq!(world.app.sides[B].handshake.len(), 2);
}

/// A side that pads shows how many records it sends and not how long its messages are; the other side
/// need not pad.
#[test]
fn messages_of_a_side_that_pads_look_alike() {
    let mut configs = configs();
    configs[A].padding = Padding::Multiple(NonZeroU16::new(256).expect("it is above zero"));
    let mut world = new_world(Naming::Negotiated, configs);
    world.app.log.is_on = true;
    world.connect(A);
    world.run();
    let written = |world: &mut World| {
        world.run();
        std::mem::take(&mut world.app.log.written).len()
    };
    written(&mut world);
    world.complete_handshake(&["chat", "sync"]);
    world.send(A, "chat", b"opens the substream");
    written(&mut world);
    for len in [0, 1, 100, 200] {
        world.send(A, "chat", &vec![7; len]);
        // Length, type and tag.
        assert_eq!(written(&mut world), 2 + 1 + 256 + 16, "{len}");
    }
    world.send(B, "chat", b"short");
    world.run();
    let lengths: Vec<usize> = world.app.received(B, "chat").iter().map(|it| it.len()).collect();
    assert_eq!(lengths, [19, 0, 1, 100, 200]);
    assert_eq!(world.app.received(A, "chat"), ["short"]);
}

/// Makes a world in which A is Connected and has finalized the handshake, and B has not said anything.
fn finalized_alone() -> World {
    let mut world = new_world(Naming::Negotiated, configs());
    world.connect(A);
    // A is Connected as soon as B has agreed to its substream; B's bytes have not come.
    while world.current_session(A).is_none_or(|session| session.profile().is_none()) {
        let moves = world.moves();
        let moved = moves.into_iter().any(|it| !matches!(it, Move::Write(..)) && world.perform(it));
        assert!(moved);
    }
    while [Move::ToNode(A), Move::ToSession(A)].into_iter().any(|it| world.perform(it)) {}
    world.prepare(A, &["chat"]);
    world.finalize(A);
    world
}

/// Established is when this side has finalized and the peer has confirmed, in whatever order.
#[test]
fn the_session_is_established_when_the_peer_has_confirmed() {
    let mut world = finalized_alone();
    assert!(!world.session(A).is_established());
    let message = "too early".into();
    let refused = world.command(A, |session, now| session.send(now, &name("chat"), message));
    assert_eq!(refused, Some(Err(SendError::NotEstablished)));
    world.run();
    assert!(world.session(A).is_established());
    assert!(!world.session(B).is_established());
    world.send(A, "chat", b"waits");
    world.run();
    assert!(world.app.received(B, "chat").is_empty());
    world.prepare(B, &["chat"]);
    world.finalize(B);
    world.run();
    assert_eq!(world.app.received(B, "chat"), ["waits"]);
}

#[test]
fn the_first_profile_that_both_have_is_chosen() {
    use Profile::{V1, V1Go, V2};
    for (a, b, chosen) in [
        (vec![V2, V1, V1Go], vec![V2, V1, V1Go], V2),
        (vec![V2, V1, V1Go], vec![V1, V1Go], V1),
        (vec![V1Go], vec![V2, V1, V1Go], V1Go),
        (vec![V1], vec![V2, V1], V1),
    ] {
        for naming in BOTH {
            let mut both = configs();
            both[A].profiles.clone_from(&a);
            both[B].profiles.clone_from(&b);
            let mut world = established_world(naming, both, &["chat", "sync"]);
            world.send(A, "chat", b"to b");
            world.send(B, "chat", b"to a");
            world.run();
            for side in [A, B] {
                let info = world.session(side).info().unwrap();
                assert_eq!(info.profile, chosen);
                assert_eq!(info.is_forward_secret, chosen == V2);
                assert_eq!(world.session(side).exporter().is_some(), chosen == V2);
            }
            assert_eq!(world.app.received(A, "chat"), ["to a"]);
            assert_eq!(world.app.received(B, "chat"), ["to b"]);
        }
    }
}

#[cfg(feature = "aes-gcm")]
#[test]
fn aes_is_chosen_where_both_have_it() {
    let aes = match cfg!(feature = "ml-kem") {
        true => Suite::MlKem768Aes256Gcm,
        false => Suite::Aes256Gcm,
    };
    for (hardware, suite) in [([true, true], aes), ([true, false], SUITE)] {
        let mut both = configs();
        for side in [A, B] {
            both[side].hardware_aes = hardware[side];
        }
        let mut world = established_world(Naming::Negotiated, both, &["chat", "sync"]);
        world.send(A, "chat", b"sealed");
        world.run();
        assert_eq!(world.app.received(B, "chat"), ["sealed"]);
        assert_eq!(world.session(A).info().unwrap().suite, Some(suite));
    }
}

/// Each suite alone by configuration; what is not available makes no node.
#[test]
fn a_suite_can_be_the_only_one() {
    for suite in Suite::RANKED {
        let mut alone = v2(&["chat"]);
        (alone.suites, alone.hardware_aes) = (vec![suite], true);
        let node = Node::new(Instant::ZERO, identity(A), alone.clone(), Seed::from_bytes([7; 32]));
        let has_aes = cfg!(any(feature = "aes-gcm", feature = "aws-lc-rs"));
        let needs_aes = matches!(suite, Suite::Aes256Gcm | Suite::MlKem768Aes256Gcm);
        let is_available =
            (has_aes || !needs_aes) && (cfg!(feature = "ml-kem") || !suite.is_post_quantum());
        if !is_available {
            let error = node.unwrap_err();
            assert_eq!((error.field, error.problem), ("suites", UNAVAILABLE));
            continue;
        }
        // With a peer that has all of them, and with one that has no other.
        let mut all = v2(&["chat"]);
        all.hardware_aes = true;
        for peer in [all, alone.clone()] {
            let mut world = established_world(Naming::Negotiated, [alone.clone(), peer], &["chat"]);
            assert_eq!(infos(&world, B)[0].suite, Some(suite));
            world.send(A, "chat", b"sealed");
            world.run();
            assert_eq!(world.app.received(B, "chat"), ["sealed"]);
        }
    }
    // Without v2 no suite is used.
    let mut v1 = config(&["chat"]);
    v1.profiles = vec![Profile::V1];
    v1.suites = vec![Suite::Aes256Gcm];
    assert!(Node::new(Instant::ZERO, identity(A), v1, Seed::from_bytes([7; 32])).is_ok());
}

const UNAVAILABLE: Problem = Problem::Unusable("none of them is available here");

#[cfg(any(feature = "aes-gcm", feature = "aws-lc-rs"))]
#[test]
fn without_a_common_suite_there_is_no_session() {
    let mut both = configs();
    both.iter_mut().for_each(|config| config.hardware_aes = true);
    both[A].suites = vec![Suite::ChaCha20Poly1305];
    both[B].suites = vec![Suite::Aes256Gcm];
    let mut world = new_world(Naming::Negotiated, both);
    world.connect(A);
    world.run();
    world.advance(2 * SECOND);
    let violations = [A, B].map(|side| violation(&world.app.closed(side)));
    assert!(violations.contains(&Some(Violation::NoCommonSuite)), "{violations:?}");
}

#[test]
fn a_session_is_bound_to_its_connection_if_both_sides_can() {
    for (values, bound) in [
        ([Some(7), Some(7)], Some(true)),
        ([Some(7), None], Some(false)),
        ([None, None], Some(false)),
        ([Some(7), Some(8)], None),
    ] {
        let mut world = new_world(Naming::Negotiated, configs());
        world.connect(A);
        for side in [A, B] {
            assert!(world.perform(Move::Arrive(0, side)));
            if let Some(value) = values[side] {
                for session in world.hosts[side].sessions.values_mut() {
                    session.set_channel_binding([value; 32]);
                }
            }
        }
        world.run();
        let Some(bound) = bound else {
            world.advance(2 * SECOND);
            let violations = [A, B].map(|side| violation(&world.app.closed(side)));
            assert!(violations.contains(&Some(Violation::BadConfirm)), "{violations:?}");
            continue;
        };
        world.complete_handshake(&["chat"]);
        assert_eq!(world.session(A).info().unwrap().is_bound, bound);
        assert_eq!(world.session(B).info().unwrap().is_bound, bound);
    }
}

/// Its FINISHED says that it prepares no more streams, so there is nothing to wait for.
#[test]
fn a_stream_that_the_peer_does_not_have_is_given_back_at_once() {
    for naming in BOTH {
        let mut world = new_world(naming, [v2(&["chat", "sync"]), v2(&["sync"])]);
        world.connect(A);
        world.run();
        world.prepare(A, &["chat", "sync"]);
        world.prepare(B, &["sync"]);
        [A, B].into_iter().for_each(|side| world.finalize(side));
        world.run();
        world.send(A, "chat", b"one");
        world.send(A, "sync", b"two");
        world.run();
        let refused = Event::StreamRefused { stream: name("chat"), unsent: 1 };
        assert!(events(&world, A).contains(&refused), "{:?}", events(&world, A));
        assert_eq!(world.now, Instant::ZERO);
        assert_eq!(world.app.received(B, "sync").len(), 1);
    }
}
