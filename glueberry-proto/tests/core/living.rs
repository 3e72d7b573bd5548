//! What befalls peers that have sessions: loss, restart, ban, pruning, and getting back.

use std::time::Duration;

use glueberry_proto::{
    Action, CloseReason, ConnectionLost, ConnectionState, Direction, Naming, Node, Origin, Profile,
    ProtocolId, ReconnectPolicy, Seed, StateReason,
};

use crate::life::is_legal;
use crate::support::{A, B, BOTH, Raw, Side, World, accept, config, identity, key, new_world};

const SECOND: Duration = Duration::from_secs(1);

fn world(naming: Naming) -> World {
    let ours = || {
        let mut config = config(&["chat"]);
        config.reconnect = ReconnectPolicy::unlimited();
        config
    };
    new_world(naming, [ours(), ours()])
}

fn states_are_legal(world: &World) {
    for side in [A, B] {
        let mut state = ConnectionState::Disconnected;
        for next in world.app.states(side) {
            assert!(is_legal(state, next), "{side}: {state} to {next}");
            state = next;
        }
    }
}

fn reasons(world: &World, side: Side) -> Vec<StateReason> {
    world.app.sides[side].events.iter().filter_map(|event| event.reason.clone()).collect()
}

fn chats(world: &mut World) {
    let before = [A, B].map(|side| world.app.received(side, "chat").len());
    world.send(A, "chat", b"ping");
    world.send(B, "chat", b"pong");
    world.run();
    for side in [A, B] {
        assert_eq!(world.app.received(side, "chat").len(), before[side] + 1);
    }
}

#[test]
fn a_session_that_is_lost_is_established_again() {
    for naming in BOTH {
        let mut world = world(naming);
        world.establish(&["chat"]);
        for round in 0..5 {
            let connection = world.session(A).id();
            let link = world.link_of(A, connection);
            world.cut(link);
            world.run();
            assert_eq!(world.hosts[A].node.state(key(B)), ConnectionState::Reconnecting);
            // The attempts are counted until a session has lasted.
            world.advance(Duration::from_secs(2 << round));
            world.complete_handshake(&["chat"]);
            chats(&mut world);
        }
        assert_eq!(world.hosts[A].node.peer_status(key(B)).unwrap().attempts, 5);
        world.advance(60 * SECOND);
        let connection = world.session(A).id();
        let link = world.link_of(A, connection);
        world.cut(link);
        world.run();
        assert_eq!(world.hosts[A].node.peer_status(key(B)).unwrap().attempts, 1);
        states_are_legal(&world);
    }
}

#[test]
fn both_sides_that_know_each_other_reconnect_over_one_session() {
    for naming in BOTH {
        let mut world = world(naming);
        world.establish(&["chat"]);
        world.hosts[B]
            .node
            .add_peer(world.now, key(A), &[glueberry_proto::Address::new("memory")])
            .unwrap();
        world.cut(0);
        world.run();
        world.advance(2 * SECOND);
        world.complete_handshake(&["chat"]);
        chats(&mut world);
        for side in [A, B] {
            let live = world.hosts[side].sessions.values().filter(|session| !session.is_closed());
            assert_eq!(live.count(), 1);
        }
        states_are_legal(&world);
    }
}

#[test]
fn a_peer_that_was_killed_and_redials_is_established_again() {
    for (naming, profile) in BOTH.into_iter().flat_map(|it| [(it, Profile::V1), (it, Profile::V2)])
    {
        for side in [A, B] {
            let (killed, other) = (side, 1 - side);
            let mut config = config(&["chat"]);
            config.profiles = vec![profile];
            let mut world = new_world(naming, [config.clone(), config]);
            world.establish(&["chat"]);
            let config = world.hosts[killed].node.config().clone();
            let seed = Seed::from_bytes([99; 32]);
            let node = Node::new(world.now, identity(killed), config, seed).unwrap();
            world.restart(killed, node);
            world.app.sides[killed].events.clear();
            world.connect(killed);
            world.run();
            let lost = match profile {
                // The confirmation of the new session has proven it.
                Profile::V2 => CloseReason::Superseded,
                // The old session has three seconds to prove that it lives.
                _ => {
                    let state = world.hosts[other].node.state(key(killed));
                    assert_eq!(state, ConnectionState::Established);
                    world.advance(3 * SECOND);
                    CloseReason::ConnectionLost(ConnectionLost::TimedOut)
                }
            };
            assert_eq!(reasons(&world, other), [StateReason::SessionEnded(lost)]);
            world.complete_handshake(&["chat"]);
            chats(&mut world);
            states_are_legal(&world);
        }
    }
}

#[test]
fn a_session_that_lives_is_kept_when_its_peer_connects_again() {
    for naming in BOTH {
        let mut world = world(naming);
        world.establish(&["chat"]);
        let before = world.session(B).id();
        // A second connection of the same peer, which its node did not ask for.
        world.link_up(A, Origin::Accepted);
        world.run();
        world.advance(4 * SECOND);
        assert_eq!(world.session(B).id(), before);
        assert_eq!(world.app.states(B).len(), 2, "{:?}", world.app.states(B));
        chats(&mut world);
    }
}

/// An answer to the probe proves that the connection lives; whether the peer still has the session,
/// only what it answers.
#[test]
fn a_peer_that_has_lost_a_session_on_a_living_connection_says_so_when_probed() {
    for (has_it, naming) in [(true, BOTH[0]), (false, BOTH[0]), (true, BOTH[1]), (false, BOTH[1])] {
        let mut raw = Raw::established(naming, config(&["chat"]), &["chat"]);
        let mut other = accept(&mut raw.node, raw.now, raw.peer, Origin::Accepted);
        let handshake = raw.profile.handshake_id();
        let _ = other.handle_accepted(raw.now, Some(handshake));
        while let Some(action) = other.poll_action() {
            if let Action::Forward(word) = action {
                raw.node.handle_session_message(raw.now, other.id(), word);
            }
        }
        raw.settle();
        let expected = if has_it {
            raw.refuse();
            raw.carries_messages("chat");
            raw.session.id()
        } else {
            raw.agree(&ProtocolId::Probe);
            raw.settle();
            let why = ConnectionLost::ClosedByPeer { code: 0 };
            assert_eq!(raw.closed().reason, CloseReason::ConnectionLost(why));
            other.id()
        };
        let states: Vec<_> = std::iter::from_fn(|| raw.node.poll_event()).collect();
        assert_eq!(raw.node.session_of(raw.peer), Some(expected), "{states:?}");
    }
}

/// The peer would take the session that is still sending for alive, and refuse the next.
#[test]
fn a_session_that_is_still_sending_its_last_is_waited_for() {
    for naming in BOTH {
        let mut world = world(naming);
        world.establish(&["chat"]);
        world.send(A, "chat", b"last words");
        assert!(world.disconnect(A));
        world.connect(A);
        assert_eq!(world.app.log.dials[A].len(), 1, "the first session is not over");
        world.run();
        assert_eq!(world.app.received(B, "chat"), ["last words"]);
        assert_eq!(world.app.log.dials[A].len(), 2);
        world.complete_handshake(&["chat"]);
        chats(&mut world);
        states_are_legal(&world);
    }
}

#[test]
fn a_ban_cuts_a_session_in_each_state_and_keeps_the_peer_out() {
    for naming in BOTH {
        for is_established in [false, true] {
            for banned in [A, B] {
                let mut world = world(naming);
                world.connect(A);
                world.run();
                if is_established {
                    world.complete_handshake(&["chat"]);
                }
                let by = 1 - banned;
                let now = world.now;
                world.hosts[by].node.blacklist(now, key(banned), None).unwrap();
                assert_eq!(world.hosts[by].node.state(key(banned)), ConnectionState::Disconnected);
                world.run();
                assert_eq!(world.app.closed(by).reason, CloseReason::Blacklisted);
                assert_eq!(reasons(&world, by), [StateReason::Blacklisted]);
                // Whatever the banned peer tries.
                for _ in 0..20 {
                    world.advance(20 * SECOND);
                }
                assert_eq!(world.hosts[by].node.state(key(banned)), ConnectionState::Disconnected);
                assert!(world.hosts[by].sessions.values().all(|session| session.is_closed()));
                states_are_legal(&world);
            }
        }
    }
}

#[test]
fn after_a_cooldown_the_peer_is_connected_again() {
    let mut world = world(BOTH[0]);
    world.connect(A);
    world.run();
    world.command(A, |session, now| session.reject_handshake(now, "no")).unwrap();
    world.run();
    assert_eq!(world.hosts[A].node.state(key(B)), ConnectionState::Cooldown);
    world.advance(60 * SECOND);
    assert_eq!(world.hosts[A].node.state(key(B)), ConnectionState::Reconnecting);
    world.advance(2 * SECOND);
    assert_eq!(world.hosts[A].node.state(key(B)), ConnectionState::Connected);
    world.complete_handshake(&["chat"]);
    states_are_legal(&world);
}

#[test]
fn a_cooldown_without_reconnection_ends_disconnected() {
    let mut world = world(BOTH[0]);
    world.connect(A);
    world.run();
    world.command(A, |session, now| session.reject_handshake(now, "no")).unwrap();
    world.run();
    let now = world.now;
    assert!(world.hosts[A].node.cancel_reconnection(now, key(B)));
    assert!(!world.hosts[A].node.cancel_reconnection(now, key(B)));
    world.advance(60 * SECOND);
    assert_eq!(world.hosts[A].node.state(key(B)), ConnectionState::Disconnected);
    // It was for this time.
    world.connect(A);
    world.run();
    world.cut(1);
    world.run();
    assert_eq!(world.hosts[A].node.state(key(B)), ConnectionState::Reconnecting);
    states_are_legal(&world);
}

#[test]
fn a_disconnect_is_not_undone() {
    for side in [A, B] {
        let mut world = world(BOTH[0]);
        world.establish(&["chat"]);
        assert!(world.disconnect(side));
        world.run();
        for _ in 0..7 {
            world.advance(4 * SECOND);
            assert_eq!(world.hosts[side].node.state(key(1 - side)), ConnectionState::Disconnected);
        }
        // The other side's own attempts are let in again after a while.
        world.advance(60 * SECOND);
        let expected = if side == A { None } else { Some(Direction::Inbound) };
        let back = world.current_session(side).map(|session| session.direction());
        assert_eq!(back, expected, "only the dialler knows an address");
        states_are_legal(&world);
    }
}

#[test]
fn a_ban_is_said_once_to_a_session_however_often_the_time_is_told() {
    let mut world = world(BOTH[0]);
    world.establish(&["chat"]);
    let now = world.now;
    let node = &mut world.hosts[A].node;
    node.blacklist(now, key(B), None).unwrap();
    let wall = glueberry_proto::WallTime::UNIX_EPOCH;
    let mut words = 0;
    for _ in 0..5 {
        node.set_wall_time(now, wall);
        while let Some(action) = node.poll_action() {
            words += usize::from(matches!(action, glueberry_proto::NodeAction::Forward { .. }));
        }
    }
    assert_eq!(words, 1);
}
