//! Two sessions of one pair of nodes: dials that cross, and a peer that begins anew.

use bytes::BytesMut;
use glueberry_proto::testing::pair::{A, B, Side};
use glueberry_proto::{
    CloseReason, Config, ConnectionState, Event, Instant, Naming, Node, NodeTimer, Origin,
    PeerTimer, Profile, Seed, Session, SessionId, Suite,
};
use proptest::prelude::*;

use super::{SECOND, configs, established, v2};
use crate::support::{
    BOTH, Checked, Move, World, accept, dial, established_world, exchange, identity, key, name,
    new_world, node,
};

/// Returns the sessions of a side that were Established.
fn established_sessions(world: &World, side: Side) -> Vec<SessionId> {
    let events = world.app.sides[side].session_events.iter();
    events.filter(|(_, event)| matches!(event, Event::Established(_))).map(|(id, _)| *id).collect()
}

/// Where one side is Established, the other keeps the session.
fn check_kept(world: &World) -> Checked {
    for side in [A, B] {
        for id in established_sessions(world, side) {
            let session = &world.hosts[side].sessions[&id];
            if session.profile() != Some(Profile::V2) {
                continue;
            }
            let link = &world.links[world.link_of(side, id)];
            let other = link.ends[1 - side].and_then(|id| world.hosts[1 - side].sessions.get(&id));
            prop_assert!(other.is_some_and(|it| it.is_granted() && !it.is_closed()), "{side}");
            prop_assert!(!session.is_closed(), "{side}");
        }
    }
    Ok(())
}

/// An application that greets its peer whenever it is Connected, and consents once it is greeted there.
#[derive(Debug, Default)]
struct Greeter {
    /// How often it was Connected.
    times: usize,
    has_greeted: bool,
    /// How many greetings it had received when it was Connected last, and at its last turn.
    before: usize,
    received: usize,
}

impl Greeter {
    fn turn(&mut self, world: &mut World, side: Side) {
        let states = world.app.states(side);
        let times = states.iter().filter(|state| **state == ConnectionState::Connected).count();
        if times > self.times {
            (self.times, self.has_greeted, self.before) = (times, false, self.received);
        }
        self.received = world.app.sides[side].handshake.len();
        if states.last() != Some(&ConnectionState::Connected) {
            return;
        }
        let hello =
            |session: &mut Session, now| session.send_handshake(now, "hello".into()).is_ok();
        if !self.has_greeted {
            self.has_greeted = world.command(side, hello) == Some(true);
        }
        if self.has_greeted && self.received > self.before {
            hold_handshake(world, side);
        }
    }
}

/// The application of a side holds the handshake, as soon as it has its turn.
fn hold_handshake(world: &mut World, side: Side) {
    let peer = world.key(1 - side);
    world.command(side, |session, now| {
        // What is not allowed now is tried again.
        drop(session.prepare_streams(now, peer, &[name("chat")]));
        drop(session.finalize_handshake(now));
    });
}

fn mixed(profiles: &[Profile]) -> Config {
    let mut config = v2(&["chat"]);
    config.profiles = profiles.to_vec();
    config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Both dial, and bytes, messages of the nodes and calls of the applications come in any order.
    #[test]
    fn both_keep_the_session_on_which_one_is_established(
        choices in prop::collection::vec(0..1000_usize, 0..150),
        calls in prop::collection::vec((0..150_usize, 0..2_usize), 0..12),
        cuts in prop::collection::vec(1..100_usize, 1..4),
        is_preamble: bool,
        second_dial in 0..40_usize,
        older in prop::option::of(0..2_usize),
    ) {
        let naming = if is_preamble { Naming::Preamble } else { Naming::Negotiated };
        let mut both = configs();
        if let Some(side) = older {
            both[side] = mixed(&[Profile::V1]);
            both[1 - side] = mixed(&[Profile::V2, Profile::V1]);
        }
        let mut world = new_world(naming, both);
        world.cuts = cuts;
        world.connect(A);
        for (at, choice) in choices.into_iter().enumerate() {
            if at == second_dial && world.hosts[B].node.state(world.key(A)) == ConnectionState::Disconnected {
                world.connect(B);
            }
            world.step_one(choice);
            for (_, side) in calls.iter().filter(|(when, _)| *when == at) {
                hold_handshake(&mut world, *side);
            }
            check_kept(&world)?;
        }
        for _ in 0..40 {
            world.run();
            check_kept(&world)?;
            [A, B].into_iter().for_each(|side| hold_handshake(&mut world, side));
            world.run();
            check_kept(&world)?;
            world.advance(SECOND / 2);
        }
        for side in [A, B] {
            let node = &world.hosts[side].node;
            prop_assert_eq!(node.state(world.key(1 - side)), ConnectionState::Established);
            prop_assert_eq!(node.internal_errors(), 0);
        }
        let ids = [A, B].map(|side| world.hosts[side].node.session_of(world.key(1 - side)).unwrap());
        prop_assert_eq!(world.link_of(A, ids[A]), world.link_of(B, ids[B]));
        for side in [A, B] {
            world.send(side, "chat", b"there");
        }
        world.run();
        for side in [A, B] {
            prop_assert_eq!(world.app.received(side, "chat"), ["there"]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Both dial, and whatever the order is, the applications need no second greeting.
    #[test]
    fn no_greeting_is_lost_where_dials_cross(
        choices in prop::collection::vec(0..1000_usize, 0..200),
        is_preamble: bool,
        second_dial in 0..40_usize,
        reading in prop::collection::vec(0..3_usize, 1..6),
    ) {
        let naming = if is_preamble { Naming::Preamble } else { Naming::Negotiated };
        let mut world = new_world(naming, configs());
        let mut greeters = [Greeter::default(), Greeter::default()];
        world.connect(A);
        for (at, choice) in choices.into_iter().enumerate() {
            if at == second_dial && world.hosts[B].node.state(world.key(A)) == ConnectionState::Disconnected {
                world.connect(B);
            }
            world.step_one(choice);
            // An application has its turn now and then.
            let side = reading[at % reading.len()];
            if side < 2 {
                greeters[side].turn(&mut world, side);
            }
        }
        for _ in 0..20 {
            world.run();
            [A, B].into_iter().for_each(|side| greeters[side].turn(&mut world, side));
        }
        for side in [A, B] {
            use ConnectionState::{Connected, Connecting, Established};
            let mut states = world.app.states(side);
            states.retain(|state| *state != Connecting);
            prop_assert_eq!(states, [Connected, Established], "{}", side);
            prop_assert_eq!(&world.app.sides[side].handshake, &["hello"]);
        }
        prop_assert_eq!(world.now, Instant::ZERO, "nothing waits for time");
    }
}

/// Returns two nodes that have dialled each other. A waits for its own connection, link 0, which B does
/// not know yet; B has its own, link 1, and A's key there, so that it confirms it.
fn crossed() -> World {
    use Move::{Answer, Arrive, Deliver, Offer, ToNode, ToSession, Write};
    let mut world = new_world(Naming::Negotiated, configs());
    world.connect(A);
    world.connect(B);
    let arrive = [Arrive(0, A), Arrive(1, A), Arrive(1, B), Offer(1), ToNode(A), Answer(1, 0)];
    let agree = [ToNode(B), ToSession(B), Write(1, 0, A), Deliver(1, 0, B)];
    for each in [&arrive[..], &agree].concat() {
        assert!(world.perform(each), "{each:?}");
    }
    world
}

/// The node asks for the session to yield when this side has confirmed it, and the application has spoken
/// and consented: that goes on with the session that the peer has chosen.
#[test]
fn a_session_that_the_peer_has_not_confirmed_yields_with_the_consent() {
    use Move::{Arrive, Deliver, Offer, ToNode, Write};
    let mut world = crossed();
    let is_on = |world: &World, link: usize| {
        let id = world.hosts[B].node.session_of(world.key(A)).expect("B has a session");
        world.link_of(B, id) == link
    };
    let perform = |world: &mut World, moves: &[Move]| {
        moves.iter().for_each(|each| assert!(world.perform(*each), "{each:?}"));
    };
    world.send_handshake(B, b"from B");
    hold_handshake(&mut world, B);
    perform(&mut world, &[Write(1, 0, B), Deliver(1, 0, A)]);
    // B learns of it, and prefers it.
    perform(&mut world, &[Arrive(0, B), Offer(0), ToNode(B)]);
    assert!(is_on(&world, 1));
    world.run();
    assert!(is_on(&world, 0));
    hold_handshake(&mut world, A);
    world.run();
    check_kept(&world).unwrap();
    assert!([A, B].into_iter().all(|side| world.session(side).is_established()));
    assert_eq!(world.app.sides[A].handshake, ["from B"]);
    use ConnectionState::{Connected, Connecting, Established};
    assert!(
        [A, B].iter().all(|side| world.app.states(*side) == [Connecting, Connected, Established])
    );
}

/// The node of B asks its session for it to yield, and ahead of that comes the peer's confirmation: the one
/// that is preferred is lost there, which B does not know yet.
fn confirmed_before_it_yields() -> World {
    use Move::{Arrive, Deliver, Lose, Offer, ToNode, ToSession, Write};
    let mut world = crossed();
    let perform = |world: &mut World, moves: &[Move]| {
        moves.iter().for_each(|each| assert!(world.perform(*each), "{each:?}"));
    };
    perform(&mut world, &[Write(1, 0, B), Deliver(1, 0, A), Arrive(0, B), Offer(0), ToNode(B)]);
    world.take_down(0);
    perform(
        &mut world,
        &[Lose(0, A), ToNode(A), ToNode(A), ToSession(A), Write(1, 0, A), Deliver(1, 0, B)],
    );
    assert!(world.hosts[B].messages_to_sessions() > 0, "the request is on its way");
    assert!(world.perform(ToNode(B)));
    let timer = world.hosts[B].node.next_timer().map(|(_, timer)| timer);
    let is_probe = matches!(timer, Some(NodeTimer::Peer { timer: PeerTimer::Probe, .. }));
    assert!(is_probe, "who waits is told whether the chosen one lives: {timer:?}");
    world
}

#[test]
fn a_session_that_the_peer_has_confirmed_does_not_yield() {
    let mut world = confirmed_before_it_yields();
    world.run();
    world.complete_handshake(&["chat"]);
    use ConnectionState::{Connected, Connecting, Established};
    for side in [A, B] {
        assert_eq!(world.app.states(side), [Connecting, Connected, Established], "{side}");
    }
}

/// Who was to take over from it waits like any other, and is not needed once it has answered.
#[test]
fn a_session_that_was_to_take_over_from_a_confirmed_one_is_ended_by_its_answer() {
    let mut world = confirmed_before_it_yields();
    let is_heard = |it: &Move| *it != Move::Lose(0, B);
    while world.moves().into_iter().filter(is_heard).any(|it| world.perform(it)) {}
    // The loss of its connection comes too late to be the reason.
    world.run();
    let closed = world.app.sides[B].session_events.iter().filter_map(|(_, event)| match event {
        Event::Closed(closed) => Some(&closed.reason),
        _ => None,
    });
    assert_eq!(closed.collect::<Vec<_>>(), [&CloseReason::Superseded]);
}

/// The larger key confirms its own connection, learns of the preferred one, and confirms that, too. What it
/// has said first arrives last, and means nothing any more.
#[test]
fn a_confirmation_that_comes_late_does_not_end_the_session_that_the_peer_has_moved_to() {
    use Move::{Deliver, Write};
    let mut world = crossed();
    assert!(world.perform(Write(1, 0, B)), "B confirms its own");
    let is_late = |it: &Move| matches!(it, Deliver(1, _, A) | Move::Lose(1, _));
    while world.moves().into_iter().filter(|it| !is_late(it)).any(|it| world.perform(it)) {}
    let id = world.hosts[A].node.session_of(world.key(B)).unwrap();
    assert_eq!(world.link_of(A, id), 0);
    assert!(world.perform(Deliver(1, 0, A)), "what B has said first");
    world.run();
    assert_eq!(world.hosts[A].node.session_of(world.key(B)), Some(id));
    world.complete_handshake(&["chat"]);
    use ConnectionState::{Connected, Connecting, Established};
    for side in [A, B] {
        assert_eq!(world.app.states(side), [Connecting, Connected, Established], "{side}");
    }
}

/// A peer that was restarted confirms another session: it has given up the one that this side still
/// has, which is not probed.
#[test]
fn a_confirmed_session_takes_over_at_once() {
    for naming in BOTH {
        for side in [A, B] {
            let mut world = established(naming);
            let seed = Seed::from_bytes([77; 32]);
            let node = Node::new(world.now, identity(side), v2(&["chat"]), seed).unwrap();
            world.restart(side, node);
            world.connect(side);
            world.run();
            let states = world.app.states(1 - side);
            let tail = [ConnectionState::Disconnected, ConnectionState::Connected];
            assert!(states.ends_with(&tail), "{states:?}");
            assert_eq!(world.app.closed(1 - side).reason, CloseReason::Superseded);
            world.complete_handshake(&["chat"]);
            world.send(side, "chat", b"here again");
            world.run();
            assert_eq!(world.app.received(1 - side, "chat"), ["here again"]);
            assert_eq!(world.now, Instant::ZERO, "nothing waits for time");
        }
    }
}

/// A session of an earlier profile says nothing of itself when the peer confirms another: whether it
/// lives is found out first.
#[test]
fn a_confirmed_session_waits_for_one_of_an_earlier_profile_to_be_lost() {
    for side in [A, B] {
        let mut both = [(); 2].map(|()| mixed(&[Profile::V2, Profile::V1]));
        both[side].profiles = vec![Profile::V1];
        let mut world = established_world(Naming::Negotiated, both, &["chat"]);
        let seed = Seed::from_bytes([77; 32]);
        let node = Node::new(world.now, identity(side), v2(&["chat"]), seed).unwrap();
        world.restart(side, node);
        world.connect(side);
        world.run();
        let states = world.app.states(1 - side);
        assert_eq!(states.last(), Some(&ConnectionState::Established));
        world.advance(SECOND * 3);
        let states = world.app.states(1 - side);
        let tail = [ConnectionState::Disconnected, ConnectionState::Connected];
        assert!(states.ends_with(&tail), "{states:?}");
    }
}

/// Both open a handshake substream, and the larger key goes on with the peer's: what it has said is said
/// again there, and the key that it has shown on its own is used no second time.
#[test]
fn a_second_key_exchange_of_a_session_has_a_key_of_its_own() {
    let (now, handshake) = (Instant::ZERO, Profile::V2.handshake_id());
    let mut node = node(B, |config| {
        config.profiles = vec![Profile::V2];
        config.suites = vec![Suite::ChaCha20Poly1305];
    });
    let dialled = dial(&mut node, now, key(A));
    let mut session = accept(&mut node, now, key(A), Origin::Dialled(dialled));
    let openings = exchange(&mut node, now, &mut [&mut session]);
    let [(_, own, _)] = openings[..] else { panic!("{openings:?}") };
    session.handle_opened(now, own, Some(handshake.clone()));
    exchange(&mut node, now, &mut [&mut session]);
    session.send_handshake(now, "a word".into()).unwrap();
    let [mut first, mut second] = [(); 2].map(|()| BytesMut::new());
    session.poll_write(own, &mut first, 4096);
    let peers = session.handle_accepted(now, Some(handshake));
    session.poll_write(peers, &mut second, 4096);
    for frames in [&first, &second] {
        assert!(frames.ends_with(b"a word"));
    }
    // Behind the length, the type, the version, the bindings and one suite (WIRE.md §6.3).
    let ephemeral = |frames: &BytesMut| frames[7..39].to_vec();
    assert_eq!(first[..7], second[..7]);
    assert_ne!(ephemeral(&first), ephemeral(&second));
}
