//! The universe of one run: hosts and connections, and what happens to them, one moment after the
//! other.

mod app;
mod book;
mod checks;
mod faults;
mod network;
mod node;
mod program;
mod rogue;
mod session;
mod settle;
mod storm;
mod substreams;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use glueberry_proto::crypto::{Aead, default_aead};
use glueberry_proto::{DialId, Identity, Instant, PublicKey, StreamName};

pub(crate) use self::node::{address_of, state_name};
pub(crate) use self::program::{Look, Programs};
pub(crate) use self::rogue::Rogue;
pub(crate) use self::session::event_name;
use crate::check::{Checks, Violation};
use crate::cipher::{FastAead, Witness};
use crate::fault::{Faults, Fired};
use crate::host::Host;
use crate::link::{Link, Side};
use crate::model::Model;
use crate::plan::{Plan, stream_names};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::trace::{Kind, NOWHERE, Note, Trace};
use crate::trick::Trick;
use crate::watch::Pulse;

/// A run in progress.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    queue: Queue<Wake>,
    hosts: Vec<Host>,
    links: Vec<Link>,
    /// Connections of each pair so far, so that each draws for itself.
    meetings: Vec<u64>,
    peers: BTreeMap<PublicKey, usize>,
    streams: Vec<StreamName>,
    faults: Faults,
    /// How often each situation was reached.
    reached: Fired,
    model: Model,
    checks: Checks,
    trace: Trace,
    pulse: Arc<Pulse>,
    witness: Witness,
    programs: Option<Programs>,
    program_sent: u64,
    /// Machines whose outputs are to be looked at.
    touched: VecDeque<Touch>,
    inputs: u64,
    pops: u64,
    /// No step is made any more, and nothing goes wrong.
    is_calm: bool,
}

/// Something that is due at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// A step of the plan.
    Step(usize),
    /// What a step did comes to its end.
    Heal(usize),
    /// A step does once more, of so many times.
    Again(usize, u64),
    Restart(usize),
    // A host's own.
    Node(usize, u64),
    Mail(usize, u64),
    Events(usize, u64),
    Retry(usize, u64, usize),
    Flow(usize, usize),
    Dial(usize, u64, DialId),
    Saved(usize, u64),
    Program(usize, u64, u64),
    Failed(usize, u64),
    // One end of a connection.
    Words(usize, Side),
    Session(usize, Side),
    Take(usize, Side),
    /// The application goes on with the handshake.
    Greet(usize, Side),
    Arrive(usize, Side),
    Lose(usize, Side),
    Retire(usize, Side),
    /// A connection may have been silent for too long, since this moment.
    Idle(usize, u64),
    // A substream.
    Offer(usize, usize),
    Answer(usize, usize, bool),
    Write(usize, usize, Side),
    Read(usize, usize, Side),
    Stopped(usize, usize, Side),
    Acknowledge(usize, usize, Side),
    /// A rogue goes on with its trick.
    Rogue(usize, Side, u64),
    /// A rogue goes on with a trick that takes several connections, so many times more.
    Ruse(usize, usize, Trick, u64),
}

/// A machine that was given an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touch {
    Node(usize),
    Session(usize, Side),
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    pub(crate) hash: u128,
    /// Inputs to machines.
    pub(crate) inputs: u64,
    /// Moments of the queue.
    pub(crate) pops: u64,
    pub(crate) accepted: u64,
    pub(crate) delivered: u64,
    /// In microseconds.
    pub(crate) time: u64,
    pub(crate) hosts: u64,
    pub(crate) fired: Fired,
    pub(crate) reached: Fired,
    pub(crate) checked: Vec<u64>,
}

impl World {
    pub(crate) fn new(plan: Plan, keeps_trace: bool) -> Self {
        let count = plan.hosts.len();
        let identities = identities();
        let hosts: Vec<Host> = (0..count)
            .map(|host| {
                let planned = plan.hosts[host];
                let key = identities[usize::from(planned.identity) % identities.len()].1;
                let rng = Rng::derive(plan.seed, HOST, crate::rng::u64_of(host));
                Host::new(key, planned.is_rogue, count, rng)
            })
            .collect();
        let peers = hosts.iter().enumerate().map(|(index, host)| (host.key, index)).collect();
        let aead: Arc<dyn Aead> = if plan.is_real { default_aead() } else { Arc::new(FastAead) };
        Self {
            now: 0,
            queue: Queue::new(plan.seed),
            hosts,
            links: Vec::new(),
            meetings: vec![0; count * count],
            peers,
            streams: stream_names(),
            faults: Faults::new(count),
            reached: Fired::new(),
            model: Model::default(),
            checks: Checks::new(),
            trace: Trace::new(count, keeps_trace),
            pulse: Arc::default(),
            witness: Witness::new(aead),
            programs: None,
            program_sent: 0,
            touched: VecDeque::new(),
            inputs: 0,
            pops: 0,
            is_calm: false,
            plan,
        }
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) -> Outcome {
        for host in 0..self.hosts.len() {
            self.start(host);
        }
        for (at, step) in self.plan.steps.iter().enumerate() {
            self.queue.push(step.at, Wake::Step(at));
        }
        self.run_until(self.plan.calm_from);
        if self.checks.violation().is_some() {
            return self.outcome();
        }
        self.calm_down();
        let settling = self.plan.settling_time();
        self.run_until(self.plan.calm_from + settling / 2);
        let stuck = self.stuck_flows();
        let settled = self.plan.calm_from + settling;
        self.run_until(settled);
        if self.checks.violation().is_some() {
            return self.outcome();
        }
        self.check_settled();
        self.check_released(&stuck);
        self.check_programs_at_rest();
        self.shut_down();
        let over = settled + self.time_to_stop();
        self.run_until(over);
        if self.checks.violation().is_none() {
            self.check_over();
        }
        self.outcome()
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            violation: self.checks.violation().cloned(),
            hash: self.trace.hash(),
            inputs: self.inputs,
            pops: self.pops,
            accepted: crate::rng::u64_of(self.model.len()) + self.program_sent,
            delivered: self.model.delivered,
            time: self.now,
            hosts: crate::rng::u64_of(self.hosts.len()),
            fired: self.faults.fired.clone(),
            reached: self.reached.clone(),
            checked: self.checks.counts().to_vec(),
        }
    }

    pub(crate) const fn violation(&self) -> Option<&Violation> {
        self.checks.violation()
    }

    /// Returns what tells another thread that the run moves.
    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Returns what happened.
    pub(crate) const fn trace(&self) -> &Trace {
        &self.trace
    }

    fn run_until(&mut self, until: u64) {
        while self.checks.violation().is_none()
            && let Some((at, wake)) = self.queue.pop(until)
        {
            self.now = at;
            self.pops += 1;
            self.pulse.beat(at, self.host_of(wake).unwrap_or(0));
            self.wake(wake);
            self.look();
        }
        if self.checks.violation().is_none() {
            self.now = until;
        }
    }

    fn wake(&mut self, wake: Wake) {
        if self.is_held_up(wake) {
            return;
        }
        match wake {
            Wake::Step(step) => self.step(step),
            Wake::Heal(step) => self.heal(step),
            Wake::Again(step, left) => self.again(step, left),
            Wake::Restart(host) => self.restart(host),
            Wake::Node(host, life) => self.node_timer(host, life),
            Wake::Mail(host, life) => self.read_mail(host, life),
            Wake::Events(host, life) => self.read_events(host, life),
            Wake::Retry(host, life, peer) => self.retry(host, life, peer),
            Wake::Flow(host, flow) => self.flow(host, flow),
            Wake::Dial(host, life, dial) => self.dial_goes_on(host, life, dial),
            Wake::Saved(host, life) => self.saved(host, life),
            Wake::Program(host, life, timer) => self.program_timer(host, life, timer),
            Wake::Failed(host, life) => self.program_failed(host, life),
            Wake::Words(link, side) => self.read_words(link, side),
            Wake::Session(link, side) => self.session_timer(link, side),
            Wake::Take(link, side) => self.take(link, side),
            Wake::Greet(link, side) => self.greet(link, side),
            Wake::Arrive(link, side) => self.arrive(link, side),
            Wake::Lose(link, side) => self.lose(link, side),
            Wake::Retire(link, side) => self.retire(link, side),
            Wake::Idle(link, since) => self.idle(link, since),
            Wake::Offer(link, pipe) => self.offer(link, pipe),
            Wake::Answer(link, pipe, is_yes) => self.answer(link, pipe, is_yes),
            Wake::Write(link, pipe, side) => self.write(link, pipe, side),
            Wake::Read(link, pipe, side) => self.read(link, pipe, side),
            Wake::Stopped(link, pipe, side) => self.stopped(link, pipe, side),
            Wake::Acknowledge(link, pipe, side) => self.acknowledge(link, pipe, side),
            Wake::Rogue(link, side, act) => self.rogue_goes_on(link, side, act),
            Wake::Ruse(by, to, trick, left) => self.ruse(by, to, trick, left),
        }
    }

    /// Takes the outputs of all machines that were given an input, until there are no more.
    fn look(&mut self) {
        while let Some(touch) = self.touched.pop_front() {
            let host = match touch {
                Touch::Node(host) => host,
                Touch::Session(link, side) => self.links[link].ends[side].host,
            };
            if self.hosts[host].is_doomed {
                self.kill(host);
                continue;
            }
            match touch {
                Touch::Node(host) => self.drain_node(host),
                Touch::Session(link, side) => self.drain_session(link, side),
            }
        }
    }

    /// Counts a situation.
    fn reach(&mut self, what: Option<&'static str>) {
        if let Some(what) = what {
            *self.reached.entry(what).or_default() += 1;
        }
    }

    fn at(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    /// Notes something that happened on a host.
    fn note(&mut self, host: usize, link: usize, what: Kind, (a, b): (u64, u64)) {
        self.trace.note(Note { at: self.now, host, link, what, a, b });
    }

    /// Counts and notes an input to a machine of a host.
    fn input(&mut self, host: usize, link: usize, what: Kind, numbers: (u64, u64)) {
        self.inputs += 1;
        self.note(host, link, what, numbers);
        if let Some((inputs, _)) = &mut self.hosts[host].doom {
            match inputs.checked_sub(1) {
                Some(fewer) => *inputs = fewer,
                None => self.hosts[host].is_doomed = true,
            }
        }
    }

    /// Counts and notes an input to a session, whose outputs are looked at then.
    fn input_of_session(&mut self, (link, side): (usize, Side), what: Kind, numbers: (u64, u64)) {
        let end = &mut self.links[link].ends[side];
        end.told_at = self.now;
        let host = end.host;
        self.input(host, link, what, numbers);
        self.touched.push_back(Touch::Session(link, side));
    }

    /// Counts and notes an input to a node, whose outputs are looked at then.
    fn input_of_node(&mut self, host: usize, what: Kind, numbers: (u64, u64)) {
        self.hosts[host].told_at = self.now;
        self.input(host, NOWHERE, what, numbers);
        self.touched.push_back(Touch::Node(host));
    }
}

/// Returns the identities that all runs share: making one takes as long as many inputs.
fn identities() -> &'static [([u8; 32], PublicKey)] {
    static POOL: OnceLock<Vec<([u8; 32], PublicKey)>> = OnceLock::new();
    POOL.get_or_init(|| {
        let one = |number: u8| {
            let secret = [number + 1; 32];
            (secret, Identity::from_seed(&secret).public_key())
        };
        (0..64).map(one).collect()
    })
}

const HOST: u64 = 2;
const LINK: u64 = 3;
