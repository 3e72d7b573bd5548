//! Proof that the checks bite: each bug of the past, made alive again, is found.

use std::time::Duration;

use glueberry_proto::testing::Bug;

use crate::check::Invariant;
use crate::generate::{Size, generate};
use crate::search::{Search, search};
use crate::world::World;

/// How a bug was found, or not.
#[derive(Clone, Debug)]
pub(crate) struct Hunt {
    bug: Bug,
    pub(crate) search: Search,
}

/// Looks for a bug with the seeds of the default mixtures, in turn.
pub(crate) fn hunt(bug: Bug) -> Hunt {
    hunt_by(bug, None)
}

/// Looks for a bug until it breaks this invariant, whatever others it breaks in other runs.
pub(crate) fn hunt_by(bug: Bug, by: Option<Invariant>) -> Hunt {
    let search = search(by, (MOST_SEEDS, MOST_TIME), |mix, seed| {
        let mut plan = generate(seed, mix, Size::default());
        plan.bug = Some(bug.name().to_owned());
        World::new(plan, false).run().violation
    });
    Hunt { bug, search }
}

impl Hunt {
    pub(crate) fn line(&self) -> String {
        let millis = self.search.took.as_millis();
        let (name, seeds) = (self.bug.name(), self.search.seeds);
        match &self.search.found {
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

const MOST_SEEDS: u64 = 10_000;
const MOST_TIME: Duration = Duration::from_secs(60);
