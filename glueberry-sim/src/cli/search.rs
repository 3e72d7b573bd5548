//! Searching for a seed whose run violates an invariant.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::{CliError, print_text};
use crate::check::{Invariant, Violation};
use crate::generate::{Size, generate};
use crate::plan::Mix;
use crate::report::profile_name;
use crate::search::search;
use crate::watch::watched;
use crate::world::World;

#[derive(Debug, Args)]
pub(super) struct Search {
    /// Goes on until this invariant is violated, whatever others are; by default until any is.
    #[arg(long, value_parser = known_invariant)]
    by: Option<Invariant>,
    /// Seeds to run at most.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Seconds to search at most.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

impl Search {
    /// Prints one line: the invariant, the profile and the seed that violate it, the seeds that
    /// were run and the time that took. Succeeds if a violation was found.
    pub(super) fn run(&self) -> ExitCode {
        let began = Instant::now();
        let most = (self.seeds, Duration::from_secs(self.seconds));
        let done = search(self.by, most, |mix, seed| {
            let mut world = World::new(generate(seed, mix, Size::default()), false);
            // A run that never comes back can't be abandoned: its end is the end of the search.
            let stuck = |violation: Violation| {
                let is_meant = self.by.is_none_or(|by| by == violation.invariant);
                let found = is_meant.then_some((mix, seed, &violation));
                print_text(&line(found, seed + 1, began.elapsed()));
                std::process::exit(i32::from(!is_meant))
            };
            watched(&world.pulse(), || world.run(), stuck).violation
        });
        let found = done.found.as_ref().map(|(mix, seed, violation)| (*mix, *seed, violation));
        print_text(&line(found, done.seeds, done.took));
        if found.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn line(found: Option<(Mix, u64, &Violation)>, seeds: u64, took: Duration) -> String {
    let found = match found {
        Some((mix, seed, violation)) => {
            let (by, profile) = (violation.invariant.name(), profile_name(mix));
            format!("violated={by} profile={profile} seed={seed}")
        }
        None => "violated=none".to_owned(),
    };
    format!("{found} seeds={seeds} ms={}\n", took.as_millis())
}

fn known_invariant(name: &str) -> Result<Invariant, CliError> {
    let is_named = |one: &Invariant| one.name() == name;
    let found = Invariant::ALL.iter().copied().find(is_named);
    found.ok_or_else(|| CliError::UnknownInvariant(name.to_owned()))
}
