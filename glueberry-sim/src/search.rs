//! Running seed after seed until an invariant is violated.

use std::time::{Duration, Instant};

use crate::check::{Invariant, Violation};
use crate::plan::Mix;

/// How a search ended.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// Seeds that were run.
    pub(crate) seeds: u64,
    pub(crate) took: Duration,
    /// The mixture, the seed and the violation of the last run, if it is the one searched for.
    pub(crate) found: Option<(Mix, u64, Violation)>,
}

/// Runs seeds, with the mixtures in turn, until one violates the invariant `by`, or any if there is
/// none, or `most` seeds or that much time have passed. Violations of other invariants are passed
/// over: a bug may break several, and each run stops at its first.
pub(crate) fn search(
    by: Option<Invariant>,
    most: (u64, Duration),
    mut run: impl FnMut(Mix, u64) -> Option<Violation>,
) -> Search {
    let began = Instant::now();
    let (most_seeds, most_time) = most;
    let mut seeds = 0;
    while seeds < most_seeds && began.elapsed() <= most_time {
        let (mix, seed) = (mix_of(seeds), seeds);
        seeds += 1;
        let violation = run(mix, seed).filter(|one| by.is_none_or(|by| by == one.invariant));
        if let Some(violation) = violation {
            return Search { seeds, took: began.elapsed(), found: Some((mix, seed, violation)) };
        }
    }
    Search { seeds, took: began.elapsed(), found: None }
}

fn mix_of(seed: u64) -> Mix {
    MIXES[usize::try_from(seed).unwrap_or(0) % MIXES.len()]
}

/// The mixtures that are searched.
const MIXES: [Mix; 4] = [Mix::Default, Mix::Hostile, Mix::Calm, Mix::Pipe];

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(invariant: Invariant) -> Violation {
        let (fact, clash) = (String::new(), String::new());
        Violation { invariant, at: 0, host: 0, fact, clash }
    }

    #[test]
    fn the_mixtures_are_run_in_turn_until_the_invariant_that_is_meant_is_violated() {
        let mut runs = Vec::new();
        let search = search(Some(Invariant::Gate), (100, Duration::MAX), |mix, seed| {
            runs.push((mix, seed));
            match seed {
                1 => Some(violation(Invariant::Order)),
                4 => Some(violation(Invariant::Gate)),
                _ => None,
            }
        });
        let (mix, seed, found) = search.found.unwrap();
        assert_eq!((mix, seed, found.invariant), (Mix::Default, 4, Invariant::Gate));
        assert_eq!(search.seeds, 5);
        assert_eq!(
            runs,
            [
                (Mix::Default, 0),
                (Mix::Hostile, 1),
                (Mix::Calm, 2),
                (Mix::Pipe, 3),
                (Mix::Default, 4)
            ]
        );
    }

    #[test]
    fn a_search_ends_after_its_seeds_or_its_time() {
        let none = search(None, (7, Duration::MAX), |_, _| None);
        assert_eq!((none.seeds, none.found.is_none()), (7, true));
        let none = search(None, (u64::MAX, Duration::ZERO), |_, _| {
            std::thread::sleep(Duration::from_millis(1));
            None
        });
        assert!(none.seeds <= 1 && none.found.is_none());
    }
}
