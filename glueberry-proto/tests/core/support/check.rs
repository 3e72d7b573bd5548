//! Properties that are tried on random runs.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config as ProptestConfig, TestCaseError, TestRunner};

pub(crate) type Checked = Result<(), TestCaseError>;

/// What a property says: nothing, or the smallest run that breaks it.
pub(crate) type Outcome = Result<(), String>;

/// Tries a property on random runs; `PROPTEST_CASES` says on how many.
pub(crate) fn check<S: Strategy>(runs: S, property: impl Fn(S::Value) -> Checked) -> Outcome {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if !cases_are_chosen() {
        config.cases = 64;
    }
    let mut runner = TestRunner::new(config);
    runner.run(&runs, property).map_err(|error| error.to_string())
}

#[expect(clippy::disallowed_methods, reason = "tests may read the environment; the core may not")]
fn cases_are_chosen() -> bool {
    std::env::var_os("PROPTEST_CASES").is_some()
}

#[track_caller]
pub(crate) fn holds(property: fn() -> Outcome) {
    if let Err(how) = property() {
        panic!("{how}");
    }
}
