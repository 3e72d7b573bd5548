//! Both nodes dial at once: one session is kept, and nothing that was said is lost or doubled.

use bytes::Bytes;
use glueberry_proto::{
    CloseReason, Config, ConnectionLost, ConnectionState, Event, Naming, Profile, SendError,
    Session,
};
use proptest::prelude::*;

use crate::support::{A, B, BOTH, Move, Side, World, config, key, new_world};

const SAID: usize = 6;

fn world(naming: Naming) -> World {
    world_of(naming, &config(&["chat"]))
}

fn world_of(naming: Naming, config: &Config) -> World {
    let mut world = new_world(naming, [config.clone(), config.clone()]);
    world.connect(A);
    world.connect(B);
    world
}

fn line(side: Side, number: usize) -> Bytes {
    Bytes::from(format!("{side}:{number}"))
}

/// Lets the application of a side say its next line, if it can.
fn say_next(world: &mut World, side: Side, said: &mut [usize; 2]) {
    let next = line(side, said[side]);
    if said[side] < SAID
        && let Some(result) = world.command(side, |session, now| session.send_handshake(now, next))
    {
        match result {
            Ok(()) => said[side] += 1,
            // The session is being exchanged for another, or has just ended.
            Err(error) => assert!(matches!(error, SendError::NotEstablished | SendError::Closed)),
        }
    }
}

/// Lets chance move the world, and cuts a link on the way if asked to; then lets both sides finish
/// what they have to say, if they still have a session.
fn race(naming: Naming, choices: &[u16], cut: Option<(usize, usize)>) -> World {
    let mut world = world(naming);
    let mut said = [0, 0];
    for (at, choice) in choices.iter().enumerate() {
        if let Some((when, link)) = cut
            && at == when
        {
            world.cut(link);
        }
        if choice % 7 == 0 {
            say_next(&mut world, usize::from(choice / 7 % 2), &mut said);
        }
        world.step_one(usize::from(*choice));
    }
    world.run();
    while said != [SAID; 2] && [A, B].into_iter().all(|side| world.current_session(side).is_some())
    {
        let before = said;
        say_next(&mut world, A, &mut said);
        say_next(&mut world, B, &mut said);
        world.run();
        assert_ne!(before, said, "nobody can say anything");
    }
    world
}

/// Checks that the session that each side has is over the same link, and returns that.
fn common_link(world: &mut World) -> usize {
    let links = [A, B].map(|side| {
        let connection = world.session(side).id();
        world.link_of(side, connection)
    });
    assert_eq!(links[0], links[1]);
    links[0]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_order_one_session_is_kept_and_every_line_is_heard_once(
        preamble: bool,
        choices in prop::collection::vec(any::<u16>(), 0..80),
    ) {
        use ConnectionState::{Connected, Connecting};
        let naming = BOTH[usize::from(preamble)];
        let mut world = race(naming, &choices, None);
        let link = common_link(&mut world);
        for side in [A, B] {
            prop_assert_eq!(world.app.states(side), [Connecting, Connected]);
            let expected: Vec<Bytes> = (0..SAID).map(|number| line(1 - side, number)).collect();
            prop_assert_eq!(&world.app.sides[side].handshake, &expected);
            let sessions = world.hosts[side].sessions.values();
            prop_assert_eq!(sessions.filter(|session| !session.is_closed()).count(), 1);
        }
        prop_assert!(!world.links[link].is_down);
        world.complete_handshake(&["chat"]);
        world.send(A, "chat", b"ping");
        world.send(B, "chat", b"pong");
        world.run();
        prop_assert_eq!(world.app.received(B, "chat"), ["ping"]);
        prop_assert_eq!(world.app.received(A, "chat"), ["pong"]);
    }
}

/// A link is lost on the way. If neither side was told of a loss, there was none.
fn a_loss_is_told(
    naming: Naming,
    choices: &[u16],
    cut: (usize, usize),
) -> Result<(), TestCaseError> {
    let mut world = race(naming, choices, Some(cut));
    let is_told = |side: Side| {
        world.app.sides[side]
            .events
            .iter()
            .any(|event| event.state == ConnectionState::Disconnected)
    };
    if is_told(A) || is_told(B) {
        return Ok(());
    }
    common_link(&mut world);
    for side in [A, B] {
        let expected: Vec<Bytes> = (0..SAID).map(|number| line(1 - side, number)).collect();
        prop_assert_eq!(&world.app.sides[side].handshake, &expected);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_link_that_is_lost_on_the_way_costs_nothing_or_is_told(
        preamble: bool,
        choices in prop::collection::vec(any::<u16>(), 20..80),
        when in 0..60_usize,
        link in 0..2_usize,
    ) {
        a_loss_is_told(BOTH[usize::from(preamble)], &choices, (when, link))?;
    }
}

/// Makes moves that are about one link only.
fn run_link(world: &mut World, link: usize) {
    let is_about = |each: &Move| match each {
        Move::Arrive(at, _)
        | Move::Lose(at, _)
        | Move::Offer(at)
        | Move::Refuse(at)
        | Move::Answer(at, _)
        | Move::Write(at, ..)
        | Move::Deliver(at, ..)
        | Move::Acknowledge(at, ..) => *at == link,
        Move::ToNode(_) | Move::ToSession(_) | Move::Application(_) => true,
    };
    loop {
        let moves = world.moves().into_iter().filter(is_about);
        if !moves.fold(false, |moved, each| world.perform(each) | moved) {
            return;
        }
    }
}

/// the kept session is the link that A dialled, because A's key is the smaller.
const KEPT: usize = 0;
const OTHER: usize = 1;

#[test]
fn the_smaller_key_waits_for_its_own_dial_to_be_agreed() {
    for naming in BOTH {
        let mut world = world(naming);
        // B has not heard of it yet.
        world.perform(Move::Arrive(KEPT, A));
        run_link(&mut world, OTHER);
        assert_eq!(world.hosts[A].node.session_of(key(B)), None);
        assert!(world.hosts[B].node.session_of(key(A)).is_some());
        world.send_handshake(B, b"said on the link that is not kept");
        run_link(&mut world, OTHER);
        assert!(world.app.sides[A].handshake.is_empty());
        world.run();
        assert_eq!(common_link(&mut world), KEPT);
        assert_eq!(world.app.sides[A].handshake, ["said on the link that is not kept"]);
        assert_eq!(world.app.closed(B).reason, CloseReason::Superseded);
    }
}

#[test]
fn the_larger_key_waits_for_a_dial_of_the_peer_that_it_knows_of() {
    use ConnectionState::{Connected, Connecting};
    for naming in BOTH {
        for is_slow in [false, true] {
            let mut world = world(naming);
            for side in [A, B] {
                world.perform(Move::Arrive(KEPT, side));
            }
            run_link(&mut world, OTHER);
            assert_eq!(world.hosts[B].node.session_of(key(A)), None);
            if is_slow {
                // It waits three seconds, and then takes what it has.
                world.wait(std::time::Duration::from_secs(3));
                run_link(&mut world, OTHER);
                assert!(world.hosts[B].node.session_of(key(A)).is_some());
            }
            world.run();
            assert_eq!(common_link(&mut world), KEPT);
            for side in [A, B] {
                assert_eq!(world.app.states(side), [Connecting, Connected]);
                let live = world.hosts[side].sessions.values().filter(|it| !it.is_closed());
                assert_eq!(live.count(), 1);
            }
        }
    }
}

#[test]
fn a_wait_for_the_dial_of_a_peer_ends_with_its_last_connection() {
    for naming in BOTH {
        let configs = [config(&["chat"]), config(&["chat"])];
        let mut world = new_world(naming, configs);
        world.connect(A);
        world.connect(B);
        for side in [A, B] {
            world.perform(Move::Arrive(KEPT, side));
        }
        run_link(&mut world, OTHER);
        world.cut(OTHER);
        world.cut(KEPT);
        world.run();
        for side in [A, B] {
            let node = &world.hosts[side].node;
            assert_eq!(node.state(key(1 - side)), ConnectionState::Disconnected);
            assert_eq!(node.poll_timeout(), None);
        }
    }
}

#[test]
fn a_keeper_that_dies_first_promotes_the_other() {
    for naming in BOTH {
        let mut world = world(naming);
        // B has not heard of it yet.
        world.perform(Move::Arrive(KEPT, A));
        run_link(&mut world, OTHER);
        world.send_handshake(B, b"hello");
        world.cut(KEPT);
        world.run();
        assert_eq!(common_link(&mut world), OTHER);
        assert_eq!(world.app.sides[A].handshake, ["hello"]);
        for side in [A, B] {
            assert_eq!(
                world.app.states(side),
                [ConnectionState::Connecting, ConnectionState::Connected]
            );
        }
    }
}

#[test]
fn a_granted_keeper_that_dies_promotes_the_other_after_a_word_about_the_loss() {
    use ConnectionState::{Connected, Connecting, Disconnected};
    let mut world = world(Naming::Negotiated);
    for link in [KEPT, OTHER] {
        for side in [A, B] {
            world.perform(Move::Arrive(link, side));
        }
    }
    // A has both agreed and keeps its own; B knows only of the other so far.
    world.perform(Move::Offer(KEPT));
    world.perform(Move::Answer(KEPT, 0));
    while world.perform(Move::ToNode(A)) || world.perform(Move::ToSession(A)) {}
    world.perform(Move::Offer(OTHER));
    while world.perform(Move::ToNode(A)) || world.perform(Move::ToSession(A)) {}
    world.cut(KEPT);
    world.run();
    assert_eq!(common_link(&mut world), OTHER);
    assert_eq!(world.app.states(A), [Connecting, Connected, Disconnected, Connected]);
}

#[test]
fn a_session_that_is_prepared_is_not_exchanged() {
    for naming in BOTH {
        let mut world = world(naming);
        run_link(&mut world, OTHER);
        world.prepare(B, &["chat"]);
        world.run();
        assert_eq!(common_link(&mut world), OTHER);
        assert_eq!(world.app.states(B), [ConnectionState::Connecting, ConnectionState::Connected]);
        world.prepare(A, &["chat"]);
        world.finalize(A);
        world.finalize(B);
        world.send(B, "chat", b"kept");
        world.run();
        assert_eq!(world.app.received(A, "chat"), ["kept"]);
    }
}

#[test]
fn what_was_prepared_while_the_sessions_are_exchanged_carries_over() {
    for naming in BOTH {
        let mut world = world(naming);
        // B has not heard of it yet.
        world.perform(Move::Arrive(KEPT, A));
        run_link(&mut world, OTHER);
        // the kept session is agreed at B, whose node wants the exchange, but the session has not heard.
        while world.hosts[B].node.session_of(key(A)).is_some_and(|id| world.link_of(B, id) == OTHER)
            && !has_message_for_session(&world, B)
        {
            assert!(step_link(&mut world, KEPT), "the kept session is never agreed");
        }
        world.send_handshake(B, b"one");
        world.prepare(B, &["chat"]);
        world.run();
        assert_eq!(common_link(&mut world), KEPT);
        assert_eq!(world.app.sides[A].handshake, ["one"]);
        world.finalize(B);
        world.prepare(A, &["chat"]);
        world.finalize(A);
        world.send(B, "chat", b"carried over");
        world.run();
        assert_eq!(world.app.received(A, "chat"), ["carried over"]);
    }
}

/// In v1 the session is Established at once. In v2 it yields as long as the peer has not confirmed it.
#[test]
fn a_session_that_was_finalized_while_the_sessions_are_exchanged_is_kept() {
    for naming in BOTH {
        let mut config = config(&["chat"]);
        config.profiles = vec![Profile::V1];
        let mut world = world_of(naming, &config);
        // B has not heard of it yet.
        world.perform(Move::Arrive(KEPT, A));
        run_link(&mut world, OTHER);
        while !has_message_for_session(&world, B) {
            assert!(step_link(&mut world, KEPT), "the kept session is never agreed");
        }
        world.prepare(B, &["chat"]);
        world.finalize(B);
        world.run();
        // A had the kept session, learns that it is gone, and goes on with the other.
        assert_eq!(common_link(&mut world), OTHER);
        world.prepare(A, &["chat"]);
        world.finalize(A);
        world.send(B, "chat", b"kept");
        world.run();
        assert_eq!(world.app.received(A, "chat"), ["kept"]);
    }
}

/// Moves something of one link or between B's node and sessions, but gives no session of B a word.
fn step_link(world: &mut World, link: usize) -> bool {
    let moves = world.moves().into_iter().filter(|each| match each {
        Move::Arrive(at, _) | Move::Offer(at) | Move::Refuse(at) | Move::Answer(at, _) => {
            *at == link
        }
        Move::Write(at, ..) | Move::Deliver(at, ..) => *at == link,
        Move::ToNode(side) => *side == B,
        _ => false,
    });
    moves.collect::<Vec<Move>>().into_iter().any(|each| world.perform(each))
}

fn has_message_for_session(world: &World, side: Side) -> bool {
    world.hosts[side].messages_to_sessions() > 0
}

#[test]
fn a_peer_that_starts_afresh_over_the_keeper_is_told_as_a_loss() {
    use ConnectionState::{Connected, Connecting, Disconnected};
    for naming in BOTH {
        let mut world = new_world(naming, [config(&["chat"]), config(&["chat"])]);
        world.connect(B);
        world.run();
        world.send_handshake(A, b"a first session");
        world.send_handshake(B, b"and an answer");
        world.run();
        // A loses the connection; B has not noticed.
        world.links[0].is_down = true;
        let connection = world.session(A).id();
        let now = world.now;
        let session = world.hosts[A].sessions.get_mut(&connection).unwrap();
        session.handle_connection_lost(now, ConnectionLost::TimedOut);
        world.run();
        world.connect(A);
        world.run();
        assert_eq!(common_link(&mut world), 1);
        assert_eq!(world.app.states(B), [Connecting, Connected, Disconnected, Connected]);
        let ended = |(_, event): &(_, Event)| matches!(event, Event::Closed(_));
        assert_eq!(
            world.app.sides[B].session_events.iter().filter(|event| ended(event)).count(),
            1
        );
        // What belonged to the first session is not repeated in the second.
        assert_eq!(world.app.sides[A].handshake, ["and an answer"]);
        assert!(world.hosts[B].sessions.values().any(Session::is_closed));
    }
}

#[test]
fn what_was_said_is_not_said_twice_if_the_exchange_comes_to_nothing() {
    let mut config = config(&["chat"]);
    config.max_handshake_size = 17;
    for naming in BOTH {
        let mut world = world_of(naming, &config);
        // B has not heard of it yet.
        world.perform(Move::Arrive(KEPT, A));
        run_link(&mut world, OTHER);
        world.send_handshake(B, b"written");
        run_link(&mut world, OTHER);
        while !has_message_for_session(&world, B) {
            assert!(step_link(&mut world, KEPT), "the kept session is never agreed");
        }
        world.send_handshake(B, b"queued");
        // The kept session dies before the other session has said that it yields.
        while world.perform(Move::ToSession(B)) {}
        world.cut(KEPT);
        let of_keeper = world.links[KEPT].ends[B].unwrap();
        world.prioritise_messages_of(B, of_keeper);
        world.run();
        assert_eq!(common_link(&mut world), OTHER);
        assert_eq!(world.app.sides[A].handshake, ["written", "queued"]);
        world.send_handshake(B, b"more");
        world.send_handshake(A, b"answer");
        world.run();
        assert_eq!(world.app.sides[A].handshake, ["written", "queued", "more"]);
        assert_eq!(world.app.sides[B].handshake, ["answer"]);
        // Nor does it count twice: all of it is answered, and there is room for as much again.
        world.send_handshake(B, b"one");
        world.send_handshake(B, b"fourteen bytes");
    }
}

/// The node's deadline for the handshake and the end of the handshake cross.
#[test]
fn a_handshake_that_is_over_in_the_last_moment_is_not_timed_out() {
    let mut world = new_world(Naming::Negotiated, [config(&["chat"]), config(&["chat"])]);
    world.connect(A);
    world.run();
    for side in [A, B] {
        world.prepare(side, &["chat"]);
    }
    world.finalize(B);
    world.run();
    world.finalize(A);
    world.wait(std::time::Duration::from_secs(60));
    world.run();
    for side in [A, B] {
        let peer = key(1 - side);
        assert_eq!(world.hosts[side].node.state(peer), ConnectionState::Established);
    }
    world.send(A, "chat", b"in time");
    world.run();
    assert_eq!(world.app.received(B, "chat"), ["in time"]);
}
