//! Both nodes dial at once: one session is kept, and nothing that was said is lost or doubled.

use bytes::Bytes;
use glueberry_proto::{
    CloseReason, ConnectionLost, ConnectionState, Event, Naming, SendError, Session,
};
use proptest::prelude::*;

use crate::support::{A, B, BOTH, Move, Side, World, config, key};

const SAID: usize = 6;

fn world(naming: Naming) -> World {
    let mut world = World::new(naming, [config(&["chat"]), config(&["chat"])]);
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
            // The session is being exchanged for another.
            Err(error) => assert_eq!(error, SendError::NotEstablished),
        }
    }
}

fn race(naming: Naming, choices: &[u16]) -> World {
    let mut world = world(naming);
    let mut said = [0, 0];
    for choice in choices {
        if choice % 7 == 0 {
            say_next(&mut world, usize::from(choice / 7 % 2), &mut said);
        }
        world.step_one(usize::from(*choice));
    }
    world.run();
    while said != [SAID; 2] {
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
        let connection = world.session(side).connection();
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
        let mut world = race(naming, &choices);
        let link = common_link(&mut world);
        for side in [A, B] {
            prop_assert_eq!(world.states(side), [Connecting, Connected]);
            let expected: Vec<Bytes> = (0..SAID).map(|number| line(1 - side, number)).collect();
            prop_assert_eq!(&world.hosts[side].handshake, &expected);
            let sessions = world.hosts[side].sessions.values();
            prop_assert_eq!(sessions.filter(|session| !session.is_closed()).count(), 1);
        }
        prop_assert!(!world.links[link].is_down);
        world.shake_hands(&["chat"]);
        world.send(A, "chat", b"ping");
        world.send(B, "chat", b"pong");
        world.run();
        prop_assert_eq!(world.received(B, "chat"), ["ping"]);
        prop_assert_eq!(world.received(A, "chat"), ["pong"]);
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
        let moves: Vec<Move> = world.moves().into_iter().filter(is_about).collect();
        if !moves.into_iter().fold(false, |moved, each| world.perform(each) | moved) {
            return;
        }
    }
}

/// The keeper is the link that A dialled, because A's key is the smaller.
const KEEPER: usize = 0;
const OTHER: usize = 1;

#[test]
fn the_smaller_key_waits_for_its_own_dial_to_be_agreed() {
    for naming in BOTH {
        let mut world = world(naming);
        for side in [A, B] {
            world.perform(Move::Arrive(KEEPER, side));
        }
        run_link(&mut world, OTHER);
        assert_eq!(world.hosts[A].node.session_of(key(B)), None);
        assert!(world.hosts[B].node.session_of(key(A)).is_some());
        world.say(B, b"said on the link that is not kept");
        run_link(&mut world, OTHER);
        assert!(world.hosts[A].handshake.is_empty());
        world.run();
        assert_eq!(common_link(&mut world), KEEPER);
        assert_eq!(world.hosts[A].handshake, ["said on the link that is not kept"]);
        assert_eq!(world.closed(B).reason, CloseReason::Superseded);
    }
}

#[test]
fn a_keeper_that_dies_first_promotes_the_other() {
    for naming in BOTH {
        let mut world = world(naming);
        for side in [A, B] {
            world.perform(Move::Arrive(KEEPER, side));
        }
        run_link(&mut world, OTHER);
        world.say(B, b"hello");
        world.cut(KEEPER);
        world.run();
        assert_eq!(common_link(&mut world), OTHER);
        assert_eq!(world.hosts[A].handshake, ["hello"]);
        for side in [A, B] {
            assert_eq!(
                world.states(side),
                [ConnectionState::Connecting, ConnectionState::Connected]
            );
        }
    }
}

#[test]
fn a_granted_keeper_that_dies_promotes_the_other_after_a_word_about_the_loss() {
    use ConnectionState::{Connected, Connecting, Disconnected};
    let mut world = world(Naming::Negotiated);
    for link in [KEEPER, OTHER] {
        for side in [A, B] {
            world.perform(Move::Arrive(link, side));
        }
    }
    // A has both agreed and keeps its own; B knows only of the other so far.
    world.perform(Move::Offer(KEEPER));
    world.perform(Move::Answer(KEEPER, 0));
    while world.perform(Move::ToNode(A)) || world.perform(Move::ToSession(A)) {}
    world.perform(Move::Offer(OTHER));
    while world.perform(Move::ToNode(A)) || world.perform(Move::ToSession(A)) {}
    world.cut(KEEPER);
    world.run();
    assert_eq!(common_link(&mut world), OTHER);
    assert_eq!(world.states(A), [Connecting, Connected, Disconnected, Connected]);
}

#[test]
fn a_session_that_is_prepared_is_not_exchanged() {
    for naming in BOTH {
        let mut world = world(naming);
        run_link(&mut world, OTHER);
        world.prepare(B, &["chat"]);
        world.run();
        assert_eq!(common_link(&mut world), OTHER);
        assert_eq!(world.states(B), [ConnectionState::Connecting, ConnectionState::Connected]);
        world.prepare(A, &["chat"]);
        world.finalize(A);
        world.finalize(B);
        world.send(B, "chat", b"kept");
        world.run();
        assert_eq!(world.received(A, "chat"), ["kept"]);
    }
}

#[test]
fn what_was_prepared_while_the_sessions_are_exchanged_carries_over() {
    for naming in BOTH {
        let mut world = world(naming);
        for side in [A, B] {
            world.perform(Move::Arrive(KEEPER, side));
        }
        run_link(&mut world, OTHER);
        // The keeper is agreed at B, whose node wants the exchange, but the session has not heard.
        while world.hosts[B].node.session_of(key(A)).is_some_and(|id| world.link_of(B, id) == OTHER)
            && !has_word_for_session(&world, B)
        {
            assert!(step_link(&mut world, KEEPER), "the keeper is never agreed");
        }
        world.say(B, b"one");
        world.prepare(B, &["chat"]);
        world.run();
        assert_eq!(common_link(&mut world), KEEPER);
        assert_eq!(world.hosts[A].handshake, ["one"]);
        world.finalize(B);
        world.prepare(A, &["chat"]);
        world.finalize(A);
        world.send(B, "chat", b"carried over");
        world.run();
        assert_eq!(world.received(A, "chat"), ["carried over"]);
    }
}

#[test]
fn a_session_that_was_finalized_while_the_sessions_are_exchanged_is_kept() {
    for naming in BOTH {
        let mut world = world(naming);
        for side in [A, B] {
            world.perform(Move::Arrive(KEEPER, side));
        }
        run_link(&mut world, OTHER);
        while !has_word_for_session(&world, B) {
            assert!(step_link(&mut world, KEEPER), "the keeper is never agreed");
        }
        world.prepare(B, &["chat"]);
        world.finalize(B);
        world.run();
        // A had the keeper, learns that it is gone, and goes on with the other.
        assert_eq!(common_link(&mut world), OTHER);
        world.prepare(A, &["chat"]);
        world.finalize(A);
        world.send(B, "chat", b"kept");
        world.run();
        assert_eq!(world.received(A, "chat"), ["kept"]);
    }
}

/// Moves something of one link or between B's node and sessions, but gives no session of B a word.
fn step_link(world: &mut World, link: usize) -> bool {
    let moves = world.moves().into_iter().filter(|each| match each {
        Move::Offer(at) | Move::Refuse(at) | Move::Answer(at, _) => *at == link,
        Move::Write(at, ..) | Move::Deliver(at, ..) => *at == link,
        Move::ToNode(side) => *side == B,
        _ => false,
    });
    moves.collect::<Vec<Move>>().into_iter().any(|each| world.perform(each))
}

fn has_word_for_session(world: &World, side: Side) -> bool {
    world.words_for_sessions(side) > 0
}

#[test]
fn a_peer_that_starts_afresh_over_the_keeper_is_told_as_a_loss() {
    use ConnectionState::{Connected, Connecting, Disconnected};
    for naming in BOTH {
        let mut world = World::new(naming, [config(&["chat"]), config(&["chat"])]);
        world.connect(B);
        world.run();
        world.say(A, b"a first session");
        world.say(B, b"and an answer");
        world.run();
        // A loses the connection; B has not noticed.
        world.links[0].is_down = true;
        let connection = world.session(A).connection();
        let now = world.now;
        let session = world.hosts[A].sessions.get_mut(&connection).unwrap();
        session.handle_connection_lost(now, ConnectionLost::TimedOut);
        world.run();
        world.connect(A);
        world.run();
        assert_eq!(common_link(&mut world), 1);
        assert_eq!(world.states(B), [Connecting, Connected, Disconnected, Connected]);
        let ended = |(_, event): &(_, Event)| matches!(event, Event::Closed(_));
        assert_eq!(world.hosts[B].session_events.iter().filter(|event| ended(event)).count(), 1);
        // What belonged to the first session is not repeated in the second.
        assert_eq!(world.hosts[A].handshake, ["and an answer"]);
        assert!(world.hosts[B].sessions.values().any(Session::is_closed));
    }
}
