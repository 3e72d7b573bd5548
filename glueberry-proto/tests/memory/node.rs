//! What a node holds at most, besides its sessions.

use std::time::Duration;

use glueberry_proto::{
    Action, Address, Admission, Config, Identity, Instant, Naming, NewConnection, Node, NodeAction,
    Origin, Profile, Seed, WallTime,
};

use crate::alone;
use crate::support::{A, config, identity};

fn peer(number: u32) -> Identity {
    let mut seed = [5; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Identity::from_seed(&seed)
}

/// The part of the bound that is not the sessions'.
fn without_sessions(config: &Config) -> usize {
    config.node_state_bound()
}

/// Lets a peer connect, agree on a handshake substream, and go; returns whether it was let in.
fn visit(node: &mut Node, now: Instant, number: u32, rejects: bool) -> bool {
    let peer = peer(number).public_key();
    let connection = NewConnection { peer, origin: Origin::Accepted, naming: Naming::Negotiated };
    let Admission::Accept(mut session) = node.handle_connection(now, connection) else {
        return false;
    };
    let id = session.id();
    _ = session.handle_accepted(now, Some(Profile::V1.handshake_id()));
    for _ in 0..3 {
        while let Some(action) = session.poll_action() {
            if let Action::Forward(message) = action {
                node.handle_session_message(now, id, message);
            }
        }
        while let Some(action) = node.poll_action() {
            if let NodeAction::Forward { message, .. } = action {
                session.handle_node_message(now, message);
            }
        }
        if rejects {
            session.reject_handshake(now, "no");
        }
    }
    node.handle_session_gone(now, id);
    true
}

#[test]
fn c10_a_node_is_bounded_whoever_connects_and_though_nobody_takes_its_events() {
    let alone = alone();
    let mut config = config(&["a"]);
    (config.max_sessions, config.max_peers, config.event_queue) = (10, 100, 50);
    let bound = without_sessions(&config);
    let measured = alone.measure();
    let seed = Seed::from_bytes([1; 32]);
    let mut node = Node::new(Instant::ZERO, identity(A), config, seed).unwrap();
    let mut now = Instant::ZERO;
    let mut let_in = 0;
    for round in 0..2_000_u32 {
        let_in += u32::from(visit(&mut node, now, round, round % 2 == 0));
        if round % 100 == 99 {
            now = now + Duration::from_secs(61);
            node.handle_timeout(now);
        }
        if round % 400 == 399 {
            while node.poll_event().is_some() {}
        }
    }
    assert!(let_in > 80, "{let_in}");
    while node.poll_action().is_some() {}
    let peak = measured.peak();
    assert!(peak <= bound, "{peak} bytes held, the bound is {bound}");
}

#[test]
fn c10_a_full_address_book_is_within_the_bound_and_not_far_below() {
    let alone = alone();
    let mut config = config(&["a"]);
    (config.max_sessions, config.max_peers, config.event_queue) = (1, 200, 400);
    config.max_bans = 1;
    (config.max_metadata_size, config.max_book_size) = (0, 1);
    let bound = without_sessions(&config);
    let peers: Vec<_> = (0..200).map(|number| peer(number).public_key()).collect();
    let measured = alone.measure();
    let seed = Seed::from_bytes([1; 32]);
    let mut node = Node::new(Instant::ZERO, identity(A), config, seed).unwrap();
    for peer in &peers {
        let address = |_| Address::new("x".repeat(1024));
        let addresses: Vec<Address> = (0..16).map(address).collect();
        node.add_peer(Instant::ZERO, *peer, &addresses).unwrap();
        node.connect(Instant::ZERO, *peer).unwrap();
        drop(addresses);
        while node.poll_action().is_some() {}
    }
    let peak = measured.peak();
    assert!(peak <= bound, "{peak} bytes held, the bound is {bound}");
    assert!(2 * peak >= bound, "{peak} bytes held, the bound is {bound}");
}

#[test]
fn c10_a_node_is_bounded_whoever_is_banned_and_whatever_is_noted() {
    let alone = alone();
    let mut config = config(&["a"]);
    (config.max_sessions, config.max_peers, config.event_queue) = (1, 200, 50);
    config.max_bans = 300;
    (config.max_metadata_size, config.max_addresses, config.max_book_size) = (256, 1, 1);
    let bound = without_sessions(&config);
    let peers: Vec<_> = (0..1_000).map(|number| peer(number).public_key()).collect();
    let measured = alone.measure();
    let seed = Seed::from_bytes([1; 32]);
    let mut node = Node::new(Instant::ZERO, identity(A), config, seed).unwrap();
    let mut refused = 0;
    for (at, peer) in peers.iter().enumerate() {
        let until = (at % 2 == 0).then_some(WallTime::MAX);
        node.blacklist(Instant::ZERO, *peer, until).unwrap();
        let address = [Address::new("memory")];
        refused += usize::from(node.add_peer(Instant::ZERO, *peer, &address).is_err());
        // A byte for each key is the dearest.
        let metadata =
            (0..256_u16).map(|key| (char::from(key.to_le_bytes()[0] / 2).into(), "v".into()));
        _ = node.update_metadata(Instant::ZERO, *peer, metadata.collect());
        while node.poll_action().is_some() {}
    }
    assert_eq!(refused, 800, "the book is full");
    assert_eq!(node.book().len(), 200 + 300);
    let peak = measured.peak();
    assert!(peak <= bound, "{peak} bytes held, the bound is {bound}");
}
