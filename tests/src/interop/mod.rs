//! Exchanges with implementations that were not written here.

mod cases;
mod greeter;
mod other;
mod v2;

use std::time::{Duration, Instant};

pub use self::cases::{Case, Habit, all};
pub use self::other::{Implementation, Other};

/// How a case went.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the runner tells each")]
pub enum Outcome {
    /// All was as it must be: in which time, and what was seen.
    Passed(Duration, String),
    /// Something was not.
    Failed(String),
    /// The implementation is not installed.
    Missing(&'static str),
}

/// Runs one case to its end.
pub async fn run(case: Case) -> Outcome {
    if let Some(what) = case.with.missing() {
        return Outcome::Missing(what);
    }
    let began = Instant::now();
    let task = tokio::spawn(case.run());
    match tokio::time::timeout(PATIENCE, task).await {
        Ok(Ok(seen)) => Outcome::Passed(began.elapsed(), seen),
        Ok(Err(panic)) => Outcome::Failed(panic.to_string()),
        Err(_) => Outcome::Failed(format!("still running after {PATIENCE:?}")),
    }
}

const PATIENCE: Duration = Duration::from_secs(40);
