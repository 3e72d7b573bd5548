//! Running many seeds on all cores.

use std::convert::Infallible;
use std::io::{IsTerminal, Write};
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use super::{Shape, print_text};
use crate::report::{Failure, Summary};
use crate::watch::watched;
use crate::world::World;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// How many seeds.
    #[arg(long, default_value_t = NonZeroU64::MIN)]
    seeds: NonZeroU64,
    /// The only seed, or the first of them.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    shape: Shape,
    /// Threads; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
}

impl Run {
    pub(super) fn run(&self) -> ExitCode {
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
        print_text(&summary.text(self.shape.profile, began.elapsed(), jobs));
        if summary.is_clean(self.shape.profile) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Runs one seed; tells whether it has failed.
    fn one(&self, seed: u64, summary: &Mutex<Summary>) -> bool {
        let plan = self.shape.plan(seed);
        let began = Instant::now();
        let mut world = World::new(plan.clone(), false);
        let stuck = |violation| -> Infallible {
            let mut lock = summary.lock().unwrap_or_else(|poison| poison.into_inner());
            lock.fail(Failure::stuck(violation, seed, self.shape.arguments()));
            print_text(&lock.text(self.shape.profile, began.elapsed(), 1));
            std::process::exit(1)
        };
        let outcome = watched(&world.pulse(), || world.run(), stuck);
        let mut failed = outcome.violation.is_some();
        let mut lock = summary.lock().unwrap_or_else(|poison| poison.into_inner());
        lock.add(seed, &outcome, began.elapsed());
        if failed {
            lock.fail(Failure::new(&world, &outcome, seed, self.shape.arguments()));
        }
        drop(lock);
        if seed % REPEATED == REPEATED / 2 && !failed {
            let again = World::new(plan, false).run();
            let mut lock = summary.lock().unwrap_or_else(|poison| poison.into_inner());
            lock.repeated(seed, self.shape.arguments(), (outcome.hash, again.hash));
            failed = outcome.hash != again.hash;
        }
        failed
    }

    fn show_progress(&self, next: &AtomicU64, end: u64, has_failed: &AtomicBool) {
        let is_shown = self.seeds.get() > 1 && std::io::stderr().is_terminal();
        loop {
            let at = next.load(Ordering::Relaxed).min(end);
            if at >= end || has_failed.load(Ordering::Relaxed) {
                break;
            }
            if is_shown {
                let (done, all) = (at - self.seed, end - self.seed);
                let filled = usize::try_from(done * 40 / all).unwrap_or(40);
                let bar = format!("{}{}", "#".repeat(filled), "-".repeat(40 - filled));
                let mut err = std::io::stderr().lock();
                // The terminal may be gone.
                drop(write!(err, "\r[{bar}] {done} of {all} seeds"));
                drop(err.flush());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        if is_shown {
            drop(write!(std::io::stderr().lock(), "\r{:70}\r", ""));
        }
    }
}

/// Of how many seeds one is run twice.
const REPEATED: u64 = 10;
