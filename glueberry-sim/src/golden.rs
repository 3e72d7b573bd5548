//! Trace hashes of a few seeds: the same in every build and on every platform.

use std::fmt::Write;

use crate::generate::{MINUTE, Size, generate};
use crate::plan::Mix;
use crate::report::profile_name;
use crate::world::World;

/// Runs a few short seeds of each mixture, and returns a line for each.
pub(crate) fn hashes() -> String {
    let mut out = String::new();
    for mix in [Mix::Default, Mix::Lifecycle, Mix::Traffic, Mix::Calm, Mix::Hostile, Mix::Pipe] {
        // The first runs real cryptography.
        for seed in 0..3 {
            let plan = generate(seed, mix, Size { hosts: Some(5), time: Some(2 * MINUTE) });
            let outcome = World::new(plan, false).run();
            let (name, inputs, hash) = (profile_name(mix), outcome.inputs, outcome.hash);
            writeln!(out, "{name} {seed} {inputs} {hash:032x}").unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    /// What is stored came from a release build: so this compares two builds, too. After a change
    /// that is meant to change what happens, store them anew:
    /// `cargo run --release -p glueberry-sim -- hashes > glueberry-sim/golden`
    #[test]
    fn hashes_are_those_that_are_stored() {
        assert_eq!(super::hashes(), include_str!("../golden"));
    }
}
