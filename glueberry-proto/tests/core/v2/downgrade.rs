//! A peer that has spoken v2 is held to it: an earlier profile begins no session, and ends the one there
//! is. The floor, below which no profile is used.

use std::time::Duration;

use glueberry_proto::testing::pair::{A, B, Move, Side};
use glueberry_proto::{
    Address, CloseReason, ConnectionState, Naming, Node, Origin, Profile, Seed, StateReason,
    WallTime,
};

use super::{SECOND, configs, v2};
use crate::support::{BOTH, World, identity, key, new_world};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const V1_ONLY: [Profile; 1] = [Profile::V1];

/// Two nodes that know each other, and have all profiles.
fn world(naming: Naming) -> World {
    let mut both = configs();
    both.iter_mut().for_each(|config| config.profiles = Profile::ALL.to_vec());
    let mut world = new_world(naming, both);
    let address = [Address::new("memory")];
    for side in [A, B] {
        world.hosts[side].node.set_wall_time(world.now, day(0));
        world.hosts[side].node.add_peer(world.now, key(1 - side), &address).unwrap();
    }
    world
}

fn day(number: i64) -> WallTime {
    WallTime::from_unix(1_800_000_000 + number * 86_400, 0).unwrap()
}

/// Ends the session of a pair that is Established, and has one side come back with these profiles.
fn come_back(world: &mut World, side: Side, profiles: &[Profile]) {
    world.cut(world.links.len() - 1);
    world.run();
    let mut config = world.hosts[side].node.config().clone();
    config.profiles = profiles.to_vec();
    let node = Node::new(world.now, identity(side), config, Seed::from_bytes([99; 32])).unwrap();
    world.restart(side, node);
    for taken in &mut world.app.sides {
        taken.events.clear();
        taken.session_events.clear();
    }
}

fn is_established(world: &World) -> bool {
    let is_established =
        |side: Side| world.hosts[side].node.state(key(1 - side)) == ConnectionState::Established;
    is_established(A) && is_established(B)
}

#[test]
fn a_session_of_v2_pins_the_peer_for_90_days_and_the_next_renews_it() {
    for naming in BOTH {
        let mut world = world(naming);
        world.connect(A);
        world.run();
        world.prepare(A, &["chat"]);
        world.prepare(B, &["chat"]);
        world.run();
        for side in [A, B] {
            assert_eq!(world.hosts[side].node.pinned_until(key(1 - side)), None, "not before");
        }
        world.finalize(A);
        world.finalize(B);
        world.run();
        for side in [A, B] {
            assert_eq!(world.hosts[side].node.pinned_until(key(1 - side)), Some(day(90)));
            // The peer was added, which is being stored.
            for _ in 0..2 {
                world.finish_saving(side, true);
                world.run();
            }
            let stored = world.hosts[side].store.as_ref().unwrap();
            assert_eq!(stored.entry(key(1 - side)).unwrap().v2_until(), Some(day(90)));
        }
        world.cut(0);
        world.advance(30 * DAY);
        world.establish(&["chat"]);
        assert_eq!(world.hosts[A].node.pinned_until(key(B)), Some(day(120)));
    }
}

#[test]
fn a_pinned_peer_that_dials_with_v1_is_refused() {
    for naming in BOTH {
        for profile in [Profile::V1, Profile::V1Go] {
            let mut world = world(naming);
            world.establish(&["chat"]);
            come_back(&mut world, B, &[profile]);
            world.connect(B);
            world.run();
            let refused = CloseReason::Downgrade { offered: Some(profile) };
            assert_eq!(world.app.closed(A).reason, refused);
            assert!(world.app.states(A).is_empty(), "{:?}", world.app.states(A));
            assert!(!world.app.states(B).contains(&ConnectionState::Established));
            assert_eq!(world.hosts[A].node.internal_errors(), 0);
        }
    }
}

#[test]
fn a_pinned_peer_that_is_dialled_and_answers_with_v1_is_refused() {
    for naming in BOTH {
        let mut world = world(naming);
        world.establish(&["chat"]);
        come_back(&mut world, B, &V1_ONLY);
        world.connect(A);
        world.run();
        let refused = CloseReason::Downgrade { offered: None };
        assert_eq!(world.app.closed(A).reason, refused);
        let reasons: Vec<_> =
            world.app.sides[A].events.iter().filter_map(|it| it.reason.clone()).collect();
        let failed = glueberry_proto::DialError::Session(refused);
        assert_eq!(reasons, [StateReason::DialFailed(failed)]);
        assert!(!world.app.states(A).contains(&ConnectionState::Connected));
        assert!(world.app.states(B).is_empty(), "{:?}", world.app.states(B));
    }
}

#[test]
fn a_pinned_peer_goes_on_with_v2() {
    for dialler in [A, B] {
        let mut world = world(Naming::Negotiated);
        world.establish(&["chat"]);
        come_back(&mut world, B, &Profile::ALL);
        world.connect(dialler);
        world.run();
        world.complete_handshake(&["chat"]);
        assert_eq!(world.session(A).profile(), Some(Profile::V2));
    }
}

#[test]
fn a_pin_ends_by_the_command_and_by_time() {
    for is_by_time in [false, true] {
        let mut world = world(Naming::Negotiated);
        world.establish(&["chat"]);
        come_back(&mut world, B, &V1_ONLY);
        if is_by_time {
            world.advance(90 * DAY - SECOND);
            assert!(world.hosts[A].node.pinned_until(key(B)).is_some());
            world.advance(SECOND);
        } else {
            assert!(world.hosts[A].node.clear_pin(world.now, key(B)));
        }
        assert_eq!(world.hosts[A].node.pinned_until(key(B)), None);
        assert!(!world.hosts[A].node.clear_pin(world.now, key(B)), "there is none any more");
        world.connect(B);
        world.run();
        world.complete_handshake(&["chat"]);
        assert_eq!(world.session(A).profile(), Some(Profile::V1));
    }
}

#[test]
fn no_peer_is_pinned_where_that_is_switched_off() {
    let mut both = configs();
    for config in &mut both {
        (config.profiles, config.pin_time) = (Profile::ALL.to_vec(), Duration::ZERO);
    }
    let mut world = new_world(Naming::Negotiated, both);
    world.establish(&["chat"]);
    assert_eq!(world.hosts[A].node.pinned_until(key(B)), None);
    // Nor does one count that is in the book.
    let mut book = world.hosts[A].node.book().clone();
    assert!(book.set_v2_until(key(B), day(9000), day(0)));
    world.hosts[A].node.load_book(world.now, book);
    assert_eq!(world.hosts[A].node.pinned_until(key(B)), None);
    come_back(&mut world, B, &V1_ONLY);
    world.connect(B);
    world.run();
    world.complete_handshake(&["chat"]);
    assert!(is_established(&world));
}

#[test]
fn a_peer_that_is_in_no_book_is_not_pinned() {
    let mut world = new_world(Naming::Negotiated, configs());
    world.establish(&["chat"]);
    assert!(world.hosts[A].node.pinned_until(key(B)).is_some());
    assert_eq!(world.hosts[B].node.pinned_until(key(A)), None);
    assert!(world.hosts[B].node.book().is_empty());
}

/// A second connection of the peer, on which v1 was agreed while the first was not Established.
#[test]
fn a_v1_session_that_exists_when_the_pin_is_set_ends() {
    let mut world = world(Naming::Negotiated);
    world.connect(A);
    world.run();
    world.prepare(A, &["chat"]);
    world.prepare(B, &["chat"]);
    world.finalize(B);
    world.run();
    world.link_up(B, Origin::Accepted);
    assert!(world.perform(Move::Arrive(1, A)));
    world.intrude(1, A, Some(Profile::V1.handshake_id()));
    assert!(world.perform(Move::ToNode(A)), "it is agreed, and waits for the first");
    let waiting = world.links[1].ends[A].unwrap();
    assert_eq!(world.hosts[A].sessions[&waiting].profile(), Some(Profile::V1));
    world.finalize(A);
    world.run();
    let refused = CloseReason::Downgrade { offered: Some(Profile::V1) };
    assert_eq!(world.app.closed(A).reason, refused);
    assert!(world.hosts[A].sessions[&waiting].is_closed());
    assert!(is_established(&world));
}

/// A second connection that is there when the pin is set, and comes with v1 only then.
#[test]
fn a_session_that_has_no_profile_when_the_pin_is_set_gets_no_earlier_one() {
    for naming in BOTH {
        for profile in [Profile::V1, Profile::V1Go] {
            let mut world = world(naming);
            world.connect(A);
            world.run();
            world.link_up(B, Origin::Accepted);
            assert!(world.perform(Move::Arrive(1, A)));
            world.complete_handshake(&["chat"]);
            let late = world.links[1].ends[A].unwrap();
            assert_eq!(world.hosts[A].sessions[&late].profile(), None);
            let id = profile.handshake_id();
            if naming == Naming::Negotiated {
                world.intrude(1, A, Some(id));
            } else {
                world.intrude(1, A, None);
                let mut name = vec![u8::try_from(id.to_string().len()).unwrap()];
                name.extend_from_slice(id.to_string().as_bytes());
                world.links[1].pipes[0].towards[A].bytes.extend_from_slice(&name);
            }
            world.run();
            let refused = CloseReason::Downgrade { offered: Some(profile) };
            assert_eq!(world.app.closed(A).reason, refused);
            assert!(world.hosts[A].sessions[&late].is_closed());
            assert!(is_established(&world), "the session of v2 is untouched");
        }
    }
}

#[test]
fn a_running_v1_session_ends_when_a_book_is_loaded_that_pins_its_peer() {
    for is_pinned in [false, true] {
        let mut both = configs();
        both[A].profiles = Profile::ALL.to_vec();
        both[B].profiles = V1_ONLY.to_vec();
        let mut world = new_world(Naming::Negotiated, both);
        world.hosts[A].node.set_wall_time(world.now, day(0));
        world.establish(&["chat"]);
        assert_eq!(world.session(A).profile(), Some(Profile::V1));
        let mut book = world.hosts[A].node.book().clone();
        if is_pinned {
            assert!(book.set_v2_until(key(B), day(1), day(0)));
        }
        world.hosts[A].node.load_book(world.now, book);
        world.run();
        assert_eq!(is_established(&world), !is_pinned);
        if is_pinned {
            let refused = CloseReason::Downgrade { offered: Some(Profile::V1) };
            assert_eq!(world.app.closed(A).reason, refused.clone());
            let last = world.app.sides[A].events.last().unwrap();
            assert_eq!(last.reason, Some(StateReason::SessionEnded(refused)));
        }
    }
}

#[test]
fn below_the_floor_nothing_is_offered_or_accepted() {
    for naming in BOTH {
        for dialler in [A, B] {
            let mut both = [v2(&["chat"]), v2(&["chat"])];
            (both[A].profiles, both[A].min_profile) = (Profile::ALL.to_vec(), Profile::V2);
            both[B].profiles = vec![Profile::V1, Profile::V1Go];
            let mut world = new_world(naming, both);
            world.connect(dialler);
            world.run();
            let closed = world.app.closed(dialler).reason;
            assert_eq!(closed, CloseReason::NoCommonProtocol);
            for side in [A, B] {
                assert!(!world.app.states(side).contains(&ConnectionState::Connected));
            }
        }
    }
}
