//! Runs every scenario over every pair of fabrics, and prints the table.
//!
//! ```text
//! cargo test -p glueberry-tests --test matrix [-- WORD...]
//! ```
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use glueberry_tests::fabric::pairs;
use glueberry_tests::scenarios::{ALL, Scenario, Stage, Verdict};
use glueberry_tests::simulated;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_chosen = |scenario: &Scenario| {
        words.is_empty() || words.iter().any(|word| scenario.name.contains(word.as_str()))
    };
    let chosen: Vec<Scenario> = ALL.iter().copied().filter(is_chosen).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let began = Instant::now();
    let cells = runtime.block_on(run(&chosen));
    let failed = print(&chosen, &cells);
    println!("{} cells, {failed} failed, {:.0?}", cells.len(), began.elapsed());
    runtime.shutdown_background();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How one scenario went over one pair.
#[derive(Debug)]
enum Cell {
    Went(Verdict, Duration),
    Failed(String),
}

type Cells = BTreeMap<(usize, usize), Cell>;

async fn run(scenarios: &[Scenario]) -> Cells {
    // Leaked, because tasks must own what they use; there is one.
    let turn: &'static Semaphore = Box::leak(Box::new(Semaphore::new(AT_ONE_TIME)));
    let mut running = JoinSet::new();
    for (row, scenario) in scenarios.iter().copied().enumerate() {
        for (column, (a, b)) in pairs().into_iter().enumerate() {
            running.spawn(async move {
                let _turn = turn.acquire().await.expect("never closed");
                let began = Instant::now();
                let task = tokio::spawn((scenario.run)(Stage { a, b }));
                let cell = match tokio::time::timeout(PATIENCE, task).await {
                    Ok(Ok(verdict)) => Cell::Went(verdict, began.elapsed()),
                    Ok(Err(panic)) => Cell::Failed(panic.to_string()),
                    Err(_) => Cell::Failed(format!("still running after {PATIENCE:?}")),
                };
                if let Cell::Failed(why) = &cell {
                    println!("FAILED {} over {a} and {b}: {why}", scenario.name);
                }
                ((row, column), cell)
            });
        }
    }
    for (row, scenario) in scenarios.iter().copied().enumerate() {
        running.spawn(async move {
            let _turn = turn.acquire().await.expect("never closed");
            let began = Instant::now();
            let played = tokio::task::spawn_blocking(move || simulated::play(scenario.name)).await;
            let cell = match played {
                Ok(Ok(verdict)) => Cell::Went(verdict, began.elapsed()),
                Ok(Err(why)) => Cell::Failed(why),
                Err(panic) => Cell::Failed(panic.to_string()),
            };
            if let Cell::Failed(why) = &cell {
                println!("FAILED {} in the simulator: {why}", scenario.name);
            }
            ((row, pairs().len()), cell)
        });
    }
    running.join_all().await.into_iter().collect()
}

/// Prints the table; returns how many cells failed.
fn print(scenarios: &[Scenario], cells: &Cells) -> usize {
    let mut columns: Vec<String> = pairs().iter().map(|(a, b)| format!("{a}>{b}")).collect();
    columns.push("simulator".to_owned());
    print!("\n{:<32}", "scenario");
    for column in &columns {
        print!("{column:>22}");
    }
    println!();
    let (mut failed, mut reasons) = (0, BTreeMap::new());
    for (row, scenario) in scenarios.iter().enumerate() {
        print!("{:<32}", scenario.name);
        for (column, over) in columns.iter().enumerate() {
            let text = match cells.get(&(row, column)) {
                Some(Cell::Went(Verdict::Passed, took)) => format!("{:.2} s", took.as_secs_f64()),
                Some(Cell::Went(Verdict::NotApplicable(why), _)) => {
                    let of: &mut Vec<String> = reasons.entry(*why).or_default();
                    of.push(format!("{} ({over})", scenario.name));
                    "-".to_owned()
                }
                Some(Cell::Failed(_)) | None => {
                    failed += 1;
                    "FAILED".to_owned()
                }
            };
            print!("{text:>22}");
        }
        println!();
    }
    for (why, of) in reasons {
        println!("- {why}: {}", of.join(", "));
    }
    failed
}

/// Scenarios that run at the same time; most of what they do is to wait.
const AT_ONE_TIME: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);
