//! The states of a peer: each change told once, in order, and only along the legal ones.

use std::collections::BTreeMap;

use glueberry_proto::{CloseReason, ConnectionState, PublicKey, StateReason};
use proptest::prelude::*;

use crate::life::is_legal;
use crate::rules::plan::{any_start, hostile, plans};
use crate::support::{A, B, check, key};

#[test]
fn states_change_only_along_the_table_and_each_change_is_told() {
    let outcome = check(plans(any_start(), hostile()), |plan| {
        let mut world = plan.run().all(&plan.ops).world;
        world.run();
        for side in [A, B] {
            let mut states: BTreeMap<PublicKey, ConnectionState> = BTreeMap::new();
            let mut at = glueberry_proto::Instant::ZERO;
            for event in &world.app.sides[side].events {
                let state = states.entry(event.peer).or_default();
                prop_assert!(is_legal(*state, event.state), "{state} to {}", event.state);
                prop_assert!(at <= event.at);
                let is_cooldown = event.state == ConnectionState::Cooldown;
                let failed = matches!(
                    event.reason,
                    Some(StateReason::SessionEnded(
                        CloseReason::HandshakeTimeout | CloseReason::Rejected(_)
                    ))
                );
                prop_assert!(!is_cooldown || failed, "{:?}", event);
                (*state, at) = (event.state, event.at);
            }
            for (peer, state) in &states {
                prop_assert_eq!(*state, world.hosts[side].node.state(*peer));
            }
            let state = states.get(&key(1 - side)).copied().unwrap_or_default();
            prop_assert_eq!(state, world.hosts[side].node.state(key(1 - side)));
            let speaks = matches!(state, ConnectionState::Connected | ConnectionState::Established);
            prop_assert_eq!(world.hosts[side].node.session_of(key(1 - side)).is_some(), speaks);
        }
        Ok(())
    });
    assert_eq!(outcome, Ok(()));
}
