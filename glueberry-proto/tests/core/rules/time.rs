//! C7 and C8: what time it is, and when to call again.

use proptest::prelude::*;

use super::plan::{Run, any_start, hostile, plans};
use crate::support::{Checked, Clock, Outcome, check, holds};

const SEEDS: [[u8; 32]; 2] = [[10; 32], [20; 32]];

// ---- C7 -----------------------------------------------------------------------------------------

/// C7: every input and command first does what `handle_timeout(now)` would, and an earlier `now`
/// counts as the latest. A run in which each is preceded by that timeout, and then given an earlier
/// time, looks the same.
fn c7() -> Outcome {
    check(plans(any_start(), hostile()), |plan| {
        let exact = plan.run_with(Clock::Exact, SEEDS).all(&plan.ops);
        let earlier = plan.run_with(Clock::Earlier, SEEDS).all(&plan.ops);
        prop_assert_eq!(exact.world.app.log.lines, earlier.world.app.log.lines);
        Ok(())
    })
}

#[test]
fn c7_every_input_does_first_what_is_due_and_time_never_goes_back() {
    holds(c7);
}

// ---- C8 -----------------------------------------------------------------------------------------

/// C8: `poll_timeout` is pure and lies strictly ahead, and spurious timeouts are harmless.
fn c8() -> Outcome {
    check(plans(any_start(), hostile()), |plan| {
        let mut exact = plan.run_with(Clock::Exact, SEEDS);
        for op in &plan.ops {
            exact.apply(op);
            exact.observe();
            is_ahead(&exact)?;
        }
        let spurious = plan.run_with(Clock::Spurious, SEEDS).all(&plan.ops);
        prop_assert_eq!(exact.world.app.log.lines, spurious.world.app.log.lines);
        Ok(())
    })
}

fn is_ahead(run: &Run) -> Checked {
    let now = run.world.now;
    for host in &run.world.hosts {
        let timeouts = host.sessions.values().map(|session| {
            let timeout = session.poll_timeout();
            (timeout, timeout == session.poll_timeout())
        });
        let node = host.node.poll_timeout();
        let node = (node, node == host.node.poll_timeout());
        for (timeout, is_same) in timeouts.chain([node]) {
            prop_assert!(timeout.is_none_or(|at| at > now), "{:?} at {}", timeout, now);
            prop_assert!(is_same);
        }
    }
    Ok(())
}

#[test]
fn c8_the_next_timeout_lies_ahead_and_spurious_ones_are_harmless() {
    holds(c8);
}
