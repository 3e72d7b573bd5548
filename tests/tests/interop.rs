//! Exchanges with js-libp2p, py-libp2p, rust-libp2p with libp2p-stream, and aioquic: one line per peer,
//! transport, profile and habit.
//!
//! ```text
//! cargo test -p glueberry-tests --test interop [-- [--required] WORD...]
//! ```
//!
//! An implementation that is not installed is told as skipped, or with `--required` as failed;
//! `.ci/interop` installs all and requires them.
#![expect(clippy::print_stdout, reason = "the lines are what it is for")]

use std::process::ExitCode;

use glueberry_tests::interop::{Case, Outcome, all, run};

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_required = args.iter().any(|arg| arg == "--required");
    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let is_chosen = |case: &Case| {
        let line = case.to_string();
        words.iter().all(|word| line.contains(word.as_str()))
    };
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    for case in all().into_iter().filter(is_chosen) {
        let told = match run(case).await {
            Outcome::Passed(took, seen) => {
                passed += 1;
                let separator = if seen.is_empty() { "" } else { ": " };
                format!("ok in {:.2} s{separator}{seen}", took.as_secs_f64())
            }
            Outcome::Missing(what) if !is_required => {
                skipped += 1;
                format!("SKIPPED: {what} was not done")
            }
            Outcome::Missing(what) => {
                failed += 1;
                format!("FAILED: {what} was not done")
            }
            Outcome::Failed(why) => {
                failed += 1;
                format!("FAILED: {why}")
            }
        };
        println!("{case:<66} {told}");
    }
    println!("{passed} passed, {skipped} skipped, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
