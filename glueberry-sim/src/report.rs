//! The report of many runs, and of the one that failed.

use std::fmt::Write;
use std::time::Duration;

use crate::attack::Attack;
use crate::check::{Invariant, Violation};
use crate::fault::Fired;
use crate::plan::{Mix, Plan};
use crate::situation::SITUATIONS;
use crate::trace::{Kind, NOWHERE, Note};
use crate::world::{Outcome, World, event_name, state_name};

/// The sum of many runs.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    seeds: u64,
    inputs: u64,
    pops: u64,
    accepted: u64,
    delivered: u64,
    /// In microseconds.
    time: u64,
    hosts: u64,
    kinds: u64,
    repeated: u64,
    busy: Duration,
    hash: u128,
    fired: Fired,
    reached: Fired,
    checked: Vec<u64>,
    failures: Vec<Failure>,
    slowest: (Duration, u64),
}

/// A run that has failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    /// The arguments that lead to its plan.
    arguments: String,
    violation: Violation,
    /// The last events per node.
    latest: String,
}

impl Failure {
    pub(crate) fn new(world: &World, outcome: &Outcome, seed: u64, arguments: String) -> Self {
        let violation = outcome.violation.clone().unwrap_or_else(|| Violation {
            invariant: Invariant::Repeats,
            at: 0,
            host: 0,
            fact: String::new(),
            clash: String::new(),
        });
        Self { seed, arguments, latest: latest(world), violation }
    }

    /// A run that has not come to an end, so that nothing else is known of it.
    pub(crate) const fn stuck(violation: Violation, seed: u64, arguments: String) -> Self {
        Self { seed, arguments, violation, latest: String::new() }
    }

    fn text(&self) -> String {
        format!(
            "{}\n{}repeat it with: cargo run --release -p glueberry-sim -- replay --seed {} {}\n",
            self.violation, self.latest, self.seed, self.arguments
        )
    }
}

/// Returns the name of a mixture on the command line.
pub(crate) fn profile_name(mix: Mix) -> String {
    clap::ValueEnum::to_possible_value(&mix).map_or_else(String::new, |it| it.get_name().to_owned())
}

impl Summary {
    pub(crate) fn add(&mut self, seed: u64, outcome: &Outcome, took: Duration) {
        self.seeds += 1;
        self.inputs += outcome.inputs;
        self.pops += outcome.pops;
        self.accepted += outcome.accepted;
        self.delivered += outcome.delivered;
        self.time += outcome.time;
        self.hosts += outcome.hosts;
        self.kinds += crate::rng::u64_of(outcome.fired.len());
        self.busy += took;
        self.hash = outcome.hash;
        self.slowest = self.slowest.max((took, seed));
        for (kind, count) in &outcome.fired {
            *self.fired.entry(kind).or_default() += count;
        }
        for (what, count) in &outcome.reached {
            *self.reached.entry(what).or_default() += count;
        }
        self.checked.resize(outcome.checked.len(), 0);
        for (sum, count) in self.checked.iter_mut().zip(&outcome.checked) {
            *sum += count;
        }
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failures.push(failure);
    }

    /// Takes note that a seed was run twice.
    pub(crate) fn repeated(&mut self, seed: u64, arguments: String, (hash, again): (u128, u128)) {
        self.repeated += 1;
        if hash != again {
            self.failures.push(Failure {
                seed,
                arguments,
                violation: Violation {
                    invariant: Invariant::Repeats,
                    at: 0,
                    host: 0,
                    fact: format!("{hash:032x}"),
                    clash: format!("{again:032x}"),
                },
                latest: String::new(),
            });
        }
    }

    /// Returns whether nothing has failed, and everything was exercised if there were enough seeds of
    /// the mixture that has everything.
    pub(crate) fn is_clean(&self, mix: Mix) -> bool {
        self.failures.is_empty() && (!self.must_have_all(mix) || self.never().is_empty())
    }

    fn must_have_all(&self, mix: Mix) -> bool {
        mix == Mix::Default && self.seeds >= ENOUGH
    }

    /// Returns what was never exercised.
    fn never(&self) -> Vec<&'static str> {
        let checks = Invariant::ALL.iter().zip(&self.checked);
        let mut never: Vec<&'static str> = checks
            .filter(|(one, count)| **count == 0 && !SEEN_ELSEWHERE.contains(one))
            .map(|(one, _)| one.name())
            .collect();
        let attacks = Attack::ALL.iter().map(|attack| attack.name());
        let kinds = FAULTS.iter().copied().chain(attacks);
        never.extend(kinds.filter(|kind| !self.fired.contains_key(kind)));
        never.extend(SITUATIONS.iter().filter(|what| !self.reached.contains_key(*what)));
        never
    }

    pub(crate) fn text(&self, mix: Mix, took: Duration, jobs: usize) -> String {
        let mut text = String::new();
        self.write(&mut text, took, jobs).unwrap_or_default();
        let never = self.never();
        if self.must_have_all(mix) && !never.is_empty() && self.failures.is_empty() {
            text.push_str(&format!("  FAILED: never exercised: {}\n", never.join(", ")));
        }
        text
    }

    fn write(&self, out: &mut String, took: Duration, jobs: usize) -> std::fmt::Result {
        for failure in &self.failures {
            writeln!(out, "seed {} FAILED\n{}", failure.seed, failure.text())?;
        }
        let seeds = self.seeds.max(1);
        let busy = u64::try_from(self.busy.as_micros()).unwrap_or(u64::MAX).max(1);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        writeln!(out, "{} seeds in {:.1} s on {jobs} threads", self.seeds, took.as_secs_f64())?;
        writeln!(
            out,
            "  per seed: {} nodes, {} s, {} core events, {} messages ({} delivered), {} kinds of \
             faults, {} moments",
            self.hosts / seeds,
            self.time / seeds / 1_000_000,
            self.inputs / seeds,
            self.accepted / seeds,
            self.delivered / seeds,
            self.kinds / seeds,
            self.pops / seeds
        )?;
        writeln!(
            out,
            "  core events per second and core: {}\n  simulated seconds per second and core: {}\n  \
             slowest seed: {} in {} ms; run twice with equal hashes: {}",
            scaled(self.inputs, 1_000_000, busy),
            self.time / busy,
            self.slowest.1,
            millis(self.slowest.0),
            self.repeated
        )?;
        if self.seeds == 1 {
            writeln!(out, "  trace hash: {:032x}", self.hash)?;
        }
        writeln!(out, "  faults that met something:")?;
        for (kind, count) in &self.fired {
            writeln!(out, "    {count:>10}  {kind}")?;
        }
        writeln!(out, "  situations:")?;
        for (what, count) in &self.reached {
            writeln!(out, "    {count:>10}  {what}")?;
        }
        writeln!(out, "  checks:")?;
        for (one, count) in Invariant::ALL.iter().zip(&self.checked) {
            if !SEEN_ELSEWHERE.contains(one) {
                writeln!(out, "    {count:>10}  {}: {}", one.name(), one.text())?;
            }
        }
        Ok(())
    }
}

/// Multiplies before it divides, without overflow.
fn scaled(number: u64, by: u64, over: u64) -> u64 {
    u64::try_from(u128::from(number) * u128::from(by) / u128::from(over)).unwrap_or(u64::MAX)
}

/// Returns what happened last on each node.
pub(crate) fn latest(world: &World) -> String {
    let mut text = String::new();
    for host in 0..world.plan().hosts.len() {
        text.push_str(&format!("node {host}, lately:\n"));
        for note in world.trace().latest(host) {
            text.push_str(&line(note, world.plan()));
        }
    }
    text
}

/// Returns a note as a line of text.
fn line(note: &Note, plan: &Plan) -> String {
    let at = format!("{:>5}.{:06}", note.at / 1_000_000, note.at % 1_000_000);
    let what = spoken(note, plan);
    match note.link {
        NOWHERE => format!("  {at}  {what}\n"),
        link => format!("  {at}  connection {link}: {what}\n"),
    }
}

/// Returns what a note says.
pub(crate) fn spoken(note: &Note, plan: &Plan) -> String {
    let (mut a, mut b) = (note.a.to_string(), note.b.to_string());
    match note.what {
        Kind::State => b = state_name(note.b).to_owned(),
        Kind::Event => a = event_name(note.a).to_owned(),
        Kind::Fault if note.b == 0 => {
            let step = usize::try_from(note.a).ok().and_then(|at| plan.steps.get(at));
            a = step.map_or(a, |step| format!("{:?}", step.what));
        }
        _ => {}
    }
    note.what.text().replace("{a}", &a).replace("{b}", &b)
}

/// Checked where runs are compared or looked on at, or at the end of runs that have the matter.
const SEEN_ELSEWHERE: [Invariant; 3] =
    [Invariant::Repeats, Invariant::Application, Invariant::Returns];

/// Seeds from which on everything must have been exercised.
const ENOUGH: u64 = 500;

/// All kinds of faults, as they are counted.
pub(crate) const FAULTS: [&str; 26] = [
    "ban",
    "disk: stale",
    "disk: lost",
    "disk: torn",
    "disk: bit flipped",
    "full disk",
    "partition",
    "one-way partition",
    "link flap",
    "latency spike",
    "connection reset",
    "break",
    "tampering",
    "stall",
    "crash",
    "pause",
    "clock jump",
    "slow application",
    "application that does not read",
    "absent application",
    "call burst",
    "dropped session",
    "misled dial",
    "uninvited connections",
    "refuse",
    "disconnect",
];
