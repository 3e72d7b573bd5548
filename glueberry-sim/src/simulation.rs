//! Running a program of one's own in the simulator.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use glueberry_proto::handler::Handler;
use glueberry_proto::{Address, PublicKey, StreamName};

use crate::check::Violation;
use crate::generate::{SECOND, Size, generate};
use crate::plan::{MAX_HOSTS, MAX_STREAMS, Mix, MoreLimits, Plan, What};
use crate::profiles::Wires;
use crate::report::latest;
use crate::world::{Look, Programs, World, address_of};

/// A program on several nodes, and what must hold for it however bad the network is.
///
/// ```
/// use bytes::Bytes;
/// use glueberry_proto::handler::{Context, Handler, Notice};
/// use glueberry_proto::{PublicKey, StreamName};
/// use glueberry_sim::{Mix, Simulation};
///
/// /// Does nothing but stay connected to the first node.
/// struct Idle(Vec<glueberry_sim::Peer>);
///
/// impl Handler for Idle {
///     fn on_start(&mut self, context: &mut dyn Context) {
///         let first = &self.0[0];
///         if first.key != context.own_key() {
///             context.add_peer(first.key, &[first.address.clone()]);
///             context.connect(first.key);
///         }
///     }
///     fn on_event(&mut self, _: &mut dyn Context, _: Notice) {}
///     fn on_message(&mut self, _: &mut dyn Context, _: PublicKey, _: &StreamName, _: Bytes) {}
///     fn on_timer(&mut self, _: &mut dyn Context, _: u64) {}
/// }
///
/// let simulation = Simulation::new(3, &["chat"], |peers, _| Idle(peers.to_vec()));
/// let report = simulation.run(Mix::Default, 0..3).unwrap();
/// assert_eq!(report.runs, 3);
/// ```
pub struct Simulation<H> {
    nodes: usize,
    streams: Vec<StreamName>,
    seconds: u64,
    make: Rc<Make<H>>,
    always: Rc<Check<H>>,
    finally: Rc<Check<H>>,
}

type Make<H> = dyn Fn(&[Peer], usize) -> H;
type Check<H> = dyn Fn(&[Option<&H>]) -> Result<(), String>;

/// A node as others reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its key.
    pub key: PublicKey,
    /// Its address in the simulated network.
    pub address: Address,
}

/// What came of runs that all went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How many runs.
    pub runs: u64,
    /// Inputs to nodes and sessions.
    pub core_events: u64,
    /// Messages that the programs have sent.
    pub sent: u64,
    /// Messages that were delivered to them.
    pub delivered: u64,
    /// Simulated time in seconds.
    pub seconds: u64,
    /// Faults that have met something.
    pub faults: u64,
}

/// A run in which something did not hold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failed {
    /// Its seed; `run(mix, seed..seed + 1)` repeats it.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
    /// What happened last on each node.
    pub latest: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}\n{}", self.seed, self.violation, self.latest)
    }
}

impl std::error::Error for Failed {}

impl<H> fmt::Debug for Simulation<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("nodes", &self.nodes)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Simulation<H> {
    /// Prepares runs of 2 to 1024 nodes with up to 8 streams; more of either are left out, and so are
    /// names that no stream may have. `make` makes the program of a node whenever that is started,
    /// from all peers and the node's place among them.
    pub fn new(
        nodes: usize,
        streams: &[&str],
        make: impl Fn(&[Peer], usize) -> H + 'static,
    ) -> Self {
        let names = streams.iter().filter_map(|name| StreamName::new(name).ok());
        Self {
            nodes: nodes.clamp(2, MAX_HOSTS),
            streams: names.take(MAX_STREAMS).collect(),
            seconds: 300,
            make: Rc::new(make),
            always: Rc::new(|_| Ok(())),
            finally: Rc::new(|_| Ok(())),
        }
    }

    /// Sets for how many simulated seconds things go wrong; 300 by default.
    #[must_use]
    pub const fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    /// Sets what must hold after every event. A node that is down is `None`.
    #[must_use]
    pub fn always(mut self, check: impl Fn(&[Option<&H>]) -> Result<(), String> + 'static) -> Self {
        self.always = Rc::new(check);
        self
    }

    /// Sets what must hold once faults have stopped and everything had time to come right.
    #[must_use]
    pub fn finally(
        mut self,
        check: impl Fn(&[Option<&H>]) -> Result<(), String> + 'static,
    ) -> Self {
        self.finally = Rc::new(check);
        self
    }

    /// Runs the program once for each seed.
    ///
    /// # Errors
    ///
    /// The first run in which the program's promises or those of the core did not hold.
    pub fn run(&self, mix: Mix, seeds: Range<u64>) -> Result<Report, Box<Failed>> {
        let mut report = Report::default();
        for seed in seeds {
            let mut world = World::new(self.plan(seed, mix), false).with_programs(self.programs());
            let outcome = world.run();
            if let Some(violation) = outcome.violation {
                return Err(Box::new(Failed { seed, violation, latest: latest(&world) }));
            }
            report.runs += 1;
            report.core_events += outcome.inputs;
            report.sent += outcome.accepted;
            report.delivered += outcome.delivered;
            report.seconds += outcome.time / SECOND;
            report.faults += outcome.fired.values().sum::<u64>();
        }
        Ok(report)
    }

    /// Returns the plan of a seed: its faults, without the traffic of the scripted application.
    fn plan(&self, seed: u64, mix: Mix) -> Plan {
        let time = Some(self.seconds.saturating_mul(SECOND));
        let mut plan = generate(seed, mix, Size { hosts: Some(self.nodes), time });
        plan.steps.retain(|step| {
            let is_ours = matches!(
                step.what,
                What::CallBurst { .. }
                    | What::Attack { .. }
                    | What::Ban { .. }
                    | What::Mislead { .. }
            );
            !step.what.is_wish() && !is_ours
        });
        for host in &mut plan.hosts {
            host.is_adversary = false;
            host.skips = 0;
            host.talk.rejects = 0;
        }
        // No pair of programs is kept apart for ever.
        let MoreLimits { sessions_low, sessions_high, .. } = MoreLimits::default();
        let more = &mut plan.limits.more;
        (more.sessions_low, more.sessions_high) = (sessions_low, sessions_high);
        for host in 0..plan.hosts.len() {
            if (0..plan.hosts.len()).any(|other| !plan.can_talk(host, other)) {
                plan.hosts[host].wires = Wires::All;
            }
        }
        // Whom to connect to is the program's to say.
        plan.limits.autoconnect = false;
        plan
    }

    fn programs(&self) -> Programs {
        let make = self.make.clone();
        Programs {
            streams: self.streams.clone(),
            make: Box::new(move |keys, node| {
                let peers: Vec<Peer> = keys
                    .iter()
                    .enumerate()
                    .map(|(at, key)| Peer { key: *key, address: address_of(at) })
                    .collect();
                Box::new(make(&peers, node))
            }),
            always: look(self.always.clone()),
            finally: look(self.finally.clone()),
        }
    }
}

fn look<H: Handler>(check: Rc<Check<H>>) -> Look {
    Box::new(move |programs| {
        let programs: Vec<Option<&H>> = programs
            .iter()
            .map(|program| {
                let program: &dyn Any = (*program)?;
                program.downcast_ref()
            })
            .collect();
        check(&programs)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use glueberry_proto::handler::{Context, Notice};

    use super::*;

    struct Nothing;

    impl Handler for Nothing {
        fn on_event(&mut self, _: &mut dyn Context, _: Notice) {}
        fn on_message(&mut self, _: &mut dyn Context, _: PublicKey, _: &StreamName, _: Bytes) {}
        fn on_timer(&mut self, _: &mut dyn Context, _: u64) {}
    }

    #[test]
    fn every_two_programs_have_a_profile_in_common() {
        let simulation = Simulation::new(4, &["chat"], |_, _| Nothing);
        let mut apart = 0;
        for seed in 0..200 {
            let size = Size { hosts: Some(4), time: None };
            let drawn = generate(seed, Mix::Default, size);
            let plan = simulation.plan(seed, Mix::Default);
            for (a, b) in (0..4).flat_map(|a| (0..4).map(move |b| (a, b))) {
                apart += u32::from(!drawn.can_talk(a, b));
                assert!(plan.can_talk(a, b), "seed {seed}, hosts {a} and {b}");
            }
        }
        assert!(apart > 0, "no seed keeps two hosts apart, so this shows nothing");
    }
}
