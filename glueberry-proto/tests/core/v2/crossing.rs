//! Two sessions of one pair of nodes: dials that cross, and a peer that begins anew.

use glueberry_proto::testing::pair::{A, B, Side};
use glueberry_proto::{
    CloseReason, Config, ConnectionState, Event, Instant, Naming, Node, Profile, Seed, SessionId,
};
use proptest::prelude::*;

use super::{SECOND, configs, established, v2};
use crate::support::{BOTH, Checked, World, identity, name, new_world};

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
