//! The twelve rules of the contract, each as a property of random runs. The first words of a test's
//! name are the rule; C10 is measured in `tests/memory`.
//!
//! `PROPTEST_CASES` sets how many runs are tried. That each property fails when its rule is broken is
//! seen by `hunts/run`, which breaks it by a patch of the code that ships.

mod bytes;
mod inputs;
pub(crate) mod nodes;
mod order;
pub(crate) mod plan;
mod replay;
mod time;

use glueberry_proto::Event;

/// Leaves out the events that only say that there is something to take or room again: they depend
/// on when it was taken. Counts of what is in doubt are added up, as waiting events are.
fn without_hints(events: &[Event]) -> Vec<Event> {
    let is_hint = |event: &&Event| {
        matches!(event, Event::HandshakeReadable | Event::Readable { .. } | Event::Writable { .. })
    };
    events.iter().filter(|event| !is_hint(event)).cloned().collect()
}
