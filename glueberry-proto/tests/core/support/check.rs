//! Properties that hold, and fail once their rule is broken on purpose.

use glueberry_proto::testing::Fault;
use proptest::strategy::Strategy;
use proptest::test_runner::{
    Config as ProptestConfig, RngAlgorithm, TestCaseError, TestRng, TestRunner,
};

pub(crate) type Checked = Result<(), TestCaseError>;

/// What a property says: nothing, or the smallest run that breaks it.
pub(crate) type Outcome = Result<(), String>;

/// Tries a property on random runs; `PROPTEST_CASES` says on how many.
pub(crate) fn check<S: Strategy>(
    fault: Option<Fault>,
    runs: S,
    property: impl Fn(S::Value) -> Checked,
) -> Outcome {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if !cases_are_chosen() {
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

#[expect(clippy::disallowed_methods, reason = "tests may read the environment; the core may not")]
fn cases_are_chosen() -> bool {
    std::env::var_os("PROPTEST_CASES").is_some()
}

#[track_caller]
pub(crate) fn holds(property: fn(Option<Fault>) -> Outcome) {
    if let Err(how) = property(None) {
        panic!("{how}");
    }
}

/// Checks that a property fails when its rule is broken.
#[track_caller]
pub(crate) fn is_caught(property: fn(Option<Fault>) -> Outcome, fault: Fault) {
    assert!(property(Some(fault)).is_err(), "nothing has noticed that {fault:?} is broken");
}
