//! The twelve rules of the contract, each as a property of random runs. The first words of a test's
//! name are the rule; C10 is measured in `tests/memory.rs`.
//!
//! Every property is run twice: as it is, where it must hold, and with the rule broken on purpose
//! (`Config::fault`), where it must fail. `PROPTEST_CASES` sets how many runs are tried.

mod bytes;
mod inputs;
mod order;
mod plan;
mod replay;
mod time;

use glueberry_proto::Event;
use glueberry_proto::testing::Fault;
use proptest::strategy::Strategy;
use proptest::test_runner::{
    Config as ProptestConfig, RngAlgorithm, TestCaseError, TestRng, TestRunner,
};

pub(crate) type Checked = Result<(), TestCaseError>;

/// What a property says: nothing, or the smallest run that breaks it.
type Outcome = Result<(), String>;

/// Tries a property on random runs.
fn check<S: Strategy>(
    fault: Option<Fault>,
    runs: S,
    property: impl Fn(S::Value) -> Checked,
) -> Outcome {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 64;
    }
    let mut runner = match fault {
        None => TestRunner::new(config),
        // The same runs each time, because one of them has to fail; and any of them will do.
        Some(_) => {
            config.cases = 256;
            config.max_shrink_iters = 0;
            TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
        }
    };
    runner.run(&runs, property).map_err(|error| error.to_string())
}

#[track_caller]
fn holds(property: fn(Option<Fault>) -> Outcome) {
    if let Err(how) = property(None) {
        panic!("{how}");
    }
}

/// Checks that a property fails when its rule is broken.
#[track_caller]
fn is_caught(property: fn(Option<Fault>) -> Outcome, fault: Fault) {
    assert!(property(Some(fault)).is_err(), "nothing has noticed that {fault:?} is broken");
}

/// Leaves out the events that only say that there is something to take or room again: they depend
/// on when it was taken. Counts of what is in doubt are added up, as waiting events are.
fn without_hints(events: &[Event]) -> Vec<Event> {
    let is_hint = |event: &&Event| {
        matches!(event, Event::HandshakeReadable | Event::Readable { .. } | Event::Writable { .. })
    };
    events.iter().filter(|event| !is_hint(event)).cloned().collect()
}
