//! The command line.

use std::io::Write;
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};

use glueberry_proto::testing::Bug;

use crate::generate::{SECOND, Size, generate};
use crate::hunt::hunt;
use crate::plan::{Mix, Plan};
use crate::report::{Failure, Summary};
use crate::world::World;

#[derive(Debug, Parser)]
#[command(name = "glueberry-sim", about = "Runs the Glueberry core in a universe where everything goes wrong.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs many seeds, or one, and says what was exercised.
    Run(Run),
    /// Revives each bug of the past, and looks whether it is found.
    Hunt {
        /// Only these.
        bugs: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// How many seeds.
    #[arg(long, default_value_t = NonZeroU64::MIN)]
    seeds: NonZeroU64,
    /// The only seed, or the first of them.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What runs are mixed from.
    #[arg(long, value_enum, default_value_t = Mix::Default)]
    profile: Mix,
    /// Simulated seconds of a run before faults stop; by default what the seed says.
    #[arg(long)]
    time: Option<u64>,
    /// Nodes of a run; by default what the seed says.
    #[arg(long)]
    nodes: Option<usize>,
    /// Threads; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
    /// A bug of the past to revive.
    #[arg(long)]
    bug: Option<String>,
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Run(run) => run.run(),
        Command::Hunt { bugs } => Ok(hunt_all(&bugs)),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            say(&format!("{error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn hunt_all(names: &[String]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let is_meant = |bug: &&Bug| names.is_empty() || names.iter().any(|name| name == bug.name());
    for bug in Bug::ALL.iter().filter(is_meant) {
        let hunted = hunt(*bug);
        say(&hunted.line());
        if hunted.found.is_none() {
            code = ExitCode::FAILURE;
        }
    }
    code
}

impl Run {
    fn plan(&self, seed: u64) -> Plan {
        let size = Size { hosts: self.nodes, time: self.time.map(|time| time * SECOND) };
        let mut plan = generate(seed, self.profile, size);
        plan.bug.clone_from(&self.bug);
        plan
    }

    fn run(&self) -> std::io::Result<ExitCode> {
        let jobs = match self.jobs {
            Some(jobs) => jobs.max(1),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let began = Instant::now();
        let summary = Mutex::new(Summary::default());
        let next = AtomicU64::new(self.seed);
        let end = self.seed + self.seeds.get();
        let has_failed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end || has_failed.load(Ordering::Relaxed) {
                            return;
                        }
                        let failed = self.one(seed, &summary);
                        has_failed.fetch_or(failed, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| self.show_progress(&next, end, &has_failed));
        });
        let summary = summary.into_inner().unwrap_or_else(|poison| poison.into_inner());
        say(&summary.text(began.elapsed(), jobs));
        Ok(if summary.is_clean(self.seeds.get()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Runs one seed; tells whether it has failed.
    fn one(&self, seed: u64, summary: &Mutex<Summary>) -> bool {
        let plan = self.plan(seed);
        let began = Instant::now();
        let mut world = World::new(plan.clone(), false);
        let outcome = world.run();
        let mut failed = outcome.violation.is_some();
        let mut lock = summary.lock().unwrap_or_else(|poison| poison.into_inner());
        lock.add(seed, &outcome, began.elapsed());
        if failed {
            lock.fail(Failure::new(&world, &outcome, seed, self.profile));
        }
        drop(lock);
        if seed % REPEATED == REPEATED / 2 && !failed {
            let again = World::new(plan, false).run();
            let mut lock = summary.lock().unwrap_or_else(|poison| poison.into_inner());
            lock.repeated(seed, outcome.hash, again.hash);
            failed = outcome.hash != again.hash;
        }
        failed
    }

    fn show_progress(&self, next: &AtomicU64, end: u64, has_failed: &AtomicBool) {
        let mut shown = false;
        loop {
            let at = next.load(Ordering::Relaxed).min(end);
            if at >= end || has_failed.load(Ordering::Relaxed) {
                break;
            }
            if self.seeds.get() > 1 {
                let (done, all) = (at - self.seed, end - self.seed);
                let filled = usize::try_from(done * 40 / all).unwrap_or(40);
                let bar = format!("{}{}", "#".repeat(filled), "-".repeat(40 - filled));
                let mut err = std::io::stderr().lock();
                // Nobody may be there to see it.
                drop(write!(err, "\r[{bar}] {done} of {all} seeds"));
                drop(err.flush());
                shown = true;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        if shown {
            drop(write!(std::io::stderr().lock(), "\r{:70}\r", ""));
        }
    }
}

/// Says something on the standard output, whether or not anybody listens.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()));
    drop(out.flush());
}

/// Of how many seeds one is run twice.
const REPEATED: u64 = 10;
