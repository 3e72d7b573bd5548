//! How large the values are that wait in queues.

use std::mem::size_of;

use glueberry_proto::{Action, ConnectionEvent, Event, NodeAction, ToNode, ToSession};

/// A queue of a machine holds as many of these as its configuration allows, and each value is moved
/// from the machine to the adapter and on to the application. All variants pay for the largest: one
/// that carries more belongs in a box. The limits are what 64-bit targets need today, in steps of 16
/// bytes.
#[test]
fn events_and_actions_stay_small() {
    let sizes = [
        ("Event", size_of::<Event>(), 80),
        ("Action", size_of::<Action>(), 64),
        ("ConnectionEvent", size_of::<ConnectionEvent>(), 96),
        ("NodeAction", size_of::<NodeAction>(), 80),
        ("ToNode", size_of::<ToNode>(), 64),
        ("ToSession", size_of::<ToSession>(), 64),
    ];
    let too_large: Vec<_> = sizes.into_iter().filter(|(_, size, limit)| size > limit).collect();
    assert!(too_large.is_empty(), "larger than their limits: {too_large:?}");
}
