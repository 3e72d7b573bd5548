//! Proof that the checks bite: each bug of the past, made alive again, is found.

use std::time::{Duration, Instant};

use glueberry_proto::testing::Bug;

use crate::check::{Invariant, Violation};
use crate::generate::{Size, generate};
use crate::plan::Mix;
use crate::world::World;

/// How a bug was found, or not.
#[derive(Clone, Debug)]
pub(crate) struct Hunt {
    pub(crate) bug: Bug,
    /// Seeds that were run.
    pub(crate) seeds: u64,
    pub(crate) took: Duration,
    /// The mixture and the violation of the last seed.
    pub(crate) found: Option<(Mix, u64, Violation)>,
}

/// Looks for a bug with the seeds of the default mixtures, in turn.
pub(crate) fn hunt(bug: Bug) -> Hunt {
    hunt_by(bug, None)
}

/// Looks for a bug until it breaks this invariant, whatever others it breaks in other runs.
pub(crate) fn hunt_by(bug: Bug, by: Option<Invariant>) -> Hunt {
    let began = Instant::now();
    for seed in 0..MOST_SEEDS {
        let mix = MIXES[usize::try_from(seed).unwrap_or(0) % MIXES.len()];
        let mut plan = generate(seed, mix, Size::default());
        plan.bug = Some(bug.name().to_owned());
        let violation = World::new(plan, false).run().violation;
        let took = began.elapsed();
        let is_meant = |one: &Violation| by.is_none_or(|by| by == one.invariant);
        if let Some(violation) = violation.filter(is_meant) {
            return Hunt { bug, seeds: seed + 1, took, found: Some((mix, seed, violation)) };
        }
        if took > MOST_TIME {
            return Hunt { bug, seeds: seed + 1, took, found: None };
        }
    }
    Hunt { bug, seeds: MOST_SEEDS, took: began.elapsed(), found: None }
}

impl Hunt {
    pub(crate) fn line(&self) -> String {
        let millis = self.took.as_millis();
        let (name, seeds) = (self.bug.name(), self.seeds);
        match &self.found {
            Some((_, _, violation)) => {
                let by = violation.invariant.name();
                format!("{name:<20} found by {by:<18} after {seeds:>5} seeds, {millis:>6} ms\n")
            }
            None => {
                format!("{name:<20} NOT FOUND          after {seeds:>5} seeds, {millis:>6} ms\n")
            }
        }
    }
}

/// Mixtures that are hunted in, in turn.
const MIXES: [Mix; 3] = [Mix::Default, Mix::Hostile, Mix::Calm];
const MOST_SEEDS: u64 = 10_000;
const MOST_TIME: Duration = Duration::from_secs(60);
