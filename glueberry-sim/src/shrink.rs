//! Making a failure small: steps are taken out and made simpler for as long as the same thing
//! breaks (delta debugging over the log of choices).

use std::time::{Duration, Instant};

use crate::check::{Invariant, Violation};
use crate::plan::{Cuts, Family, HandshakeStyle, MoreLimits, Plan, Step, What};
use crate::world::World;

/// A failure that was made small.
#[derive(Clone, Debug)]
pub(crate) struct Shrunk {
    pub(crate) plan: Plan,
    pub(crate) violation: Violation,
    /// Inputs to machines until the violation.
    pub(crate) inputs: u64,
    /// Runs that it took.
    pub(crate) runs: u64,
}

/// Shrinks a plan that fails; nothing if it doesn't.
pub(crate) fn shrink(plan: &Plan, time: Duration) -> Option<Shrunk> {
    shrink_by(plan, time, &|plan| {
        let outcome = World::new(plan.clone(), false).run();
        outcome.violation.map(|violation| (violation, outcome.inputs))
    })
}

/// How a plan fails, and after how many inputs to machines; nothing if it doesn't.
type Fails<'a> = &'a dyn Fn(&Plan) -> Option<(Violation, u64)>;

fn shrink_by(plan: &Plan, time: Duration, fails: Fails<'_>) -> Option<Shrunk> {
    let until = Instant::now() + time;
    let mut search = Search { fails, target: None, best: None, runs: 0, until };
    search.is_broken(plan);
    search.target = Some(search.best.as_ref()?.violation.invariant);
    // What makes a step or a magnitude smaller may make another superfluous.
    loop {
        let before = search.best.as_ref()?.plan.clone();
        search.take_out_steps();
        search.simplify();
        search.weaken_steps();
        if search.best.as_ref()?.plan == before || search.is_late() {
            break;
        }
    }
    let runs = search.runs;
    search.best.map(|best| Shrunk { runs, ..best })
}

struct Search<'a> {
    fails: Fails<'a>,
    /// What must break; at first, anything.
    target: Option<Invariant>,
    best: Option<Shrunk>,
    runs: u64,
    until: Instant,
}

impl Search<'_> {
    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Runs a plan; keeps it if it breaks the same thing.
    fn is_broken(&mut self, plan: &Plan) -> bool {
        self.runs += 1;
        let Some((violation, inputs)) = (self.fails)(plan) else {
            return false;
        };
        if self.target.is_some_and(|one| one != violation.invariant) {
            return false;
        }
        self.best = Some(Shrunk { plan: plan.clone(), violation, inputs, runs: self.runs });
        true
    }

    /// Tries a changed copy of the best plan.
    fn attempt(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let Some(best) = &self.best else {
            return false;
        };
        let mut plan = best.plan.clone();
        change(&mut plan);
        plan != best.plan && !self.is_late() && self.is_broken(&plan)
    }

    fn steps(&self) -> usize {
        self.best.as_ref().map_or(0, |best| best.plan.steps.len())
    }

    /// Takes out steps, in pieces that become smaller.
    fn take_out_steps(&mut self) {
        let mut piece = self.steps().div_ceil(2);
        while piece > 0 {
            let mut at = 0;
            while at < self.steps() {
                let end = (at + piece).min(self.steps());
                let is_smaller = self.attempt(|plan| drop(plan.steps.drain(at..end)));
                if !is_smaller {
                    at += piece;
                }
                if self.is_late() {
                    return;
                }
            }
            piece /= 2;
        }
    }

    /// Makes everything but the steps as plain as it can be.
    fn simplify(&mut self) {
        self.attempt(|plan| plan.net.jitter = 0);
        self.attempt(|plan| plan.net.family = Family::Constant);
        self.attempt(|plan| plan.net.cuts = Cuts::Whole);
        self.attempt(|plan| plan.net.bandwidth = 0);
        self.attempt(|plan| plan.net.message_delay = 0);
        self.attempt(|plan| plan.net.window = 1 << 20);
        self.attempt(|plan| plan.net.pipe = None);
        self.attempt(|plan| plan.limits.autoconnect = false);
        self.attempt(|plan| plan.limits.more = MoreLimits::default());
        self.attempt(|plan| plan.is_real = false);
        for host in 0..self.best.as_ref().map_or(0, |best| best.plan.hosts.len()) {
            self.attempt(|plan| plan.hosts[host].handshake_style = HandshakeStyle::Prompt);
        }
        loop {
            let is_smaller = self.attempt(|plan| {
                let last = plan.hosts.len() - 1;
                if last >= 2 && !plan.steps.iter().any(|step| step.what.hosts().contains(&last)) {
                    plan.hosts.pop();
                }
            });
            if !is_smaller {
                break;
            }
        }
        let last = self.best.as_ref().and_then(|best| best.plan.steps.last().map(|step| step.at));
        self.attempt(|plan| plan.calm_from = last.unwrap_or(0) + 1_000_000);
    }

    /// Makes each step do less, and sooner.
    fn weaken_steps(&mut self) {
        for at in 0..self.steps() {
            while self.attempt(|plan| plan.steps[at] = plan.steps[at].halved()) {}
        }
    }
}

impl Step {
    /// Returns a step that does half as much.
    fn halved(mut self) -> Self {
        match &mut self.what {
            What::Send { count, burst, size, .. } => {
                if *count > 1 {
                    *count /= 2;
                } else if *burst > 1 {
                    *burst /= 2;
                } else {
                    *size = (*size / 2).max(8);
                }
            }
            What::Partition { lasts, .. }
            | What::Spike { lasts, .. }
            | What::Stall { lasts, .. }
            | What::Pause { lasts, .. }
            | What::Sluggish { lasts, .. }
            | What::Absent { lasts, .. }
            | What::Mislead { lasts, .. }
            | What::Refuse { lasts, .. }
            | What::Ban { lasts, .. }
            | What::FullDisk { lasts, .. } => *lasts /= 2,
            What::Flap { times, .. } => *times = (*times / 2).max(1),
            What::Crash { inputs, down, .. } => {
                *inputs /= 2;
                *down /= 2;
            }
            What::CallBurst { calls, .. } => *calls /= 2,
            What::Uninvited { count, .. } => *count = (*count / 2).max(1),
            What::Break { after, .. } | What::Tamper { after, .. } => *after /= 2,
            What::Clock { by, .. } => *by /= 2,
            What::Want { .. }
            | What::Disconnect { .. }
            | What::Reset { .. }
            | What::Drop { .. }
            | What::Attack { .. } => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Size, generate};
    use crate::plan::Mix;

    /// Fails if a message of at least 1000 bytes goes out on the second stream after a first one.
    fn fails(plan: &Plan) -> Option<(Violation, u64)> {
        let is_bad =
            |step: &&Step| matches!(step.what, What::Send { stream: 1, size, .. } if size >= 1000);
        let (fact, clash) = (String::new(), String::new());
        let violation = Violation { invariant: Invariant::Gate, at: 0, host: 0, fact, clash };
        (plan.steps.iter().filter(is_bad).count() >= 2).then_some((violation, 0))
    }

    /// A long plan comes down to the few that matter, and breaks the same.
    #[test]
    fn a_failure_becomes_small_and_stays_the_same() {
        let plan = generate(1, Mix::Traffic, Size::default());
        let (violation, _) = fails(&plan).unwrap();
        let shrunk = shrink_by(&plan, Duration::from_secs(20), &fails).unwrap();
        assert_eq!(shrunk.violation, violation);
        assert_eq!(shrunk.plan.steps.len(), 2, "{:#?}", shrunk.plan.steps);
        assert!(fails(&shrunk.plan).is_some());
    }

    #[test]
    fn what_does_not_fail_is_not_shrunk() {
        let plan = generate(1, Mix::Calm, Size { hosts: Some(2), time: Some(10_000_000) });
        assert!(shrink(&plan, Duration::from_secs(5)).is_none());
    }
}
