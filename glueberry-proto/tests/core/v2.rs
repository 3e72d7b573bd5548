//! Sessions of v2: two nodes with each other, over every order and every cut.

use std::time::Duration;

use glueberry_proto::testing::pair::{A, B, Side};
use glueberry_proto::{
    CloseReason, Closed, Config, Event, Instant, Naming, PeerMisbehaved, Profile, SessionInfo,
    Suite, Violation,
};
use proptest::prelude::*;

use crate::support::{BOTH, Move, World, config, established_world, name, new_world};

const SECOND: Duration = Duration::from_secs(1);

fn v2(streams: &[&str]) -> Config {
    let mut config = config(streams);
    config.profiles = vec![Profile::V2];
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
            assert_eq!(info.suite, Some(Suite::ChaCha20Poly1305));
            assert!(info.is_forward_secret && !info.is_post_quantum && !info.is_bound);
            assert_eq!(world.session(side).info(), Some(info));
        }
        let exporter = *world.session(A).exporter().unwrap().as_bytes();
        assert_eq!(world.session(B).exporter().unwrap().as_bytes(), &exporter);
        let debug = format!("{:?}", world.session(A));
        assert!(debug.contains("suite: ChaCha20Poly1305"), "{debug}");
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

/// Established is when this side has finalized and the peer has confirmed, in whatever order.
#[test]
fn the_session_is_established_when_the_peer_has_confirmed() {
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
    assert!(!world.session(A).is_established());
    let message = "too early".into();
    let refused = world.command(A, |session, now| session.send(now, &name("chat"), message));
    assert_eq!(refused, Some(Err(glueberry_proto::SendError::NotEstablished)));
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
    for (hardware, suite) in
        [([true, true], Suite::Aes256Gcm), ([true, false], Suite::ChaCha20Poly1305)]
    {
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

// ---- the end --------------------------------------------------------------------------------------

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

// ---- substreams that break ------------------------------------------------------------------------

/// Breaks the substream on which a side sends, with all that is on its way, as a bad transport does.
fn break_pipe(world: &mut World, pipe: usize) {
    for side in [A, B] {
        let half = &mut world.links[0].pipes[pipe].towards[side];
        half.reset = true;
        half.stopped = true;
    }
}

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

// ---- every order ----------------------------------------------------------------------------------

/// What happens in a world of v2.
#[derive(Clone, Debug)]
enum Deed {
    Send(Side, usize, usize),
    Step(usize),
    Break(usize),
    Wait(u64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let size = prop_oneof![3 => 0..200_usize, 1 => 0..70_000_usize];
    let deed = prop_oneof![
        4 => (0..2_usize, 0..2_usize, size).prop_map(|(side, at, len)| Deed::Send(side, at, len)),
        8 => (0..1000_usize).prop_map(Deed::Step),
        1 => (0..8_usize).prop_map(Deed::Break),
        1 => (0..3_000_u64).prop_map(Deed::Wait),
    ];
    prop::collection::vec(deed, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever breaks, each message arrives once, in its order, or is counted: after an orderly end
    /// both sides know exactly what did not arrive.
    #[test]
    fn nothing_is_lost_silently(
        deeds in deeds(),
        cuts in prop::collection::vec(1..3000_usize, 1..4),
        is_preamble: bool,
        closer in 0..2_usize,
    ) {
        let naming = if is_preamble { Naming::Preamble } else { Naming::Negotiated };
        let mut world = established(naming);
        world.cuts = cuts;
        let streams = ["chat", "sync"];
        let mut sent = [[0_u64; 2]; 2];
        for deed in deeds {
            match deed {
                Deed::Send(side, at, len) => {
                    let mut message = sent[side][at].to_be_bytes().to_vec();
                    message.resize(8 + len, 7);
                    let stream = name(streams[at]);
                    let result = world.command(side, |session, now| {
                        session.send(now, &stream, message.into())
                    });
                    if result == Some(Ok(())) {
                        sent[side][at] += 1;
                    }
                }
                Deed::Step(choice) => _ = world.step_one(choice),
                Deed::Break(pipe) if pipe > 0 && pipe < world.links[0].pipes.len() => {
                    break_pipe(&mut world, pipe);
                }
                Deed::Break(_) => {}
                Deed::Wait(millis) => world.wait(Duration::from_millis(millis)),
            }
        }
        world.run();
        for _ in 0..30 {
            world.advance(SECOND);
        }
        world.command(closer, |session, now| session.close(now));
        world.run();
        for _ in 0..10 {
            world.advance(SECOND);
        }
        for side in [A, B] {
            let closed = world.app.closed(side);
            prop_assert_eq!(closed.in_doubt, 0, "{:?}", closed);
            let mut missing = 0;
            for (at, stream) in streams.into_iter().enumerate() {
                let received = world.app.received(1 - side, stream);
                let numbers: Vec<u64> = received
                    .iter()
                    .map(|it| u64::from_be_bytes(it[..8].try_into().unwrap()))
                    .collect();
                prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
                missing += sent[side][at] - u64::try_from(numbers.len()).unwrap();
            }
            let unsent = u64::try_from(closed.unsent).unwrap();
            prop_assert_eq!(missing, closed.not_received + unsent, "{:?}", closed);
        }
    }

    /// Both sides get Established in whatever order bytes and calls come.
    #[test]
    fn every_order_of_calls_gets_established(
        choices in prop::collection::vec(0..1000_usize, 0..80),
        calls in prop::collection::vec((0..80_usize, 0..2_usize), 0..20),
        cuts in prop::collection::vec(1..100_usize, 1..4),
        is_preamble: bool,
    ) {
        let naming = if is_preamble { Naming::Preamble } else { Naming::Negotiated };
        let mut world = new_world(naming, configs());
        world.cuts = cuts;
        world.connect(A);
        let mut said = [0_usize; 2];
        let mut is_finalized = [false; 2];
        let streams = [name("chat")];
        for (at, choice) in choices.into_iter().enumerate() {
            world.step_one(choice);
            for (_, side) in calls.iter().filter(|(when, _)| *when == at) {
                let peer = world.key(1 - side);
                // Whatever is not allowed yet changes nothing.
                let sent = world.command(*side, |session, now| {
                    session.send_handshake(now, "words".into())
                });
                said[*side] += usize::from(sent == Some(Ok(())));
                if at % 3 == 0 {
                    world.command(*side, |session, now| {
                        session.prepare_streams(now, peer, &streams)
                    });
                }
                if at % 5 == 0 {
                    let done = world.command(*side, |session, now| session.finalize_handshake(now));
                    is_finalized[*side] |= done == Some(Ok(()));
                }
            }
        }
        world.run();
        for side in [A, B] {
            if !is_finalized[side] {
                world.prepare(side, &["chat"]);
                world.finalize(side);
            }
        }
        world.run();
        for side in [A, B] {
            prop_assert!(world.session(side).is_established());
            let heard = world.app.sides[1 - side].handshake.len();
            // Words that came after the other side has finalized are dropped.
            prop_assert!(heard <= said[side] && (is_finalized[1 - side] || heard == said[side]));
        }
        world.send(A, "chat", b"there");
        world.run();
        prop_assert_eq!(world.app.received(B, "chat"), ["there"]);
        prop_assert_eq!(world.now, Instant::ZERO, "nothing waits for time");
    }
}
