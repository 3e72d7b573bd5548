//! The universe of one run: hosts and connections, and what happens to them, one moment after the
//! other.
//!
//! It is made of machines that each own a part: the [`Run`] (plan, time, record), the [`Network`]
//! (connections and what is wrong with them), the [`Hosts`] (nodes, disks, clocks), what is
//! [`Expected`] of nodes, the applications and the [`Model`] of their messages. Who acts borrows
//! what he needs, and no more: [`Sessions`] and [`Nodes`] drive the core, [`Application`] uses it,
//! [`Adversary`] writes to the network, [`Checker`] only looks. The [`World`] itself routes: what
//! is due to who does it, and outputs to where they go.

mod adversary;
mod app;
mod book;
mod call_burst;
mod checks;
mod dials;
mod events;
mod expected;
mod faults;
mod handshake;
mod hosts;
mod lane_checks;
mod line;
mod network;
mod node;
mod node_checks;
mod outputs;
mod program;
mod reference;
mod session;
mod session_checks;
mod settle;
mod substreams;
mod tampering;
mod v2_checks;
mod wires;
mod words;

use std::sync::{Arc, OnceLock};

use glueberry_proto::{Identity, PublicKey};

use self::adversary::Adversary;
use self::app::Application;
use self::checks::Checker;
use self::expected::Expected;
use self::hosts::Hosts;
use self::network::Network;
pub(crate) use self::node::{Nodes, address_of, state_name};
use self::program::Runtime;
pub(crate) use self::program::{Look, Programs};
pub(crate) use self::session::{Sessions, event_name};
use crate::check::Violation;
use crate::fault::Fired;
use crate::host::{App, Host};
use crate::model::Model;
use crate::plan::{MAX_HOSTS, Plan};
use crate::rng::Rng;
use crate::run::Run;
use crate::trace::Trace;
use crate::wake::{Touch, Wake};
use crate::watch::Pulse;

/// A run in progress: the machines, each with what is its own, and who is given what comes next.
#[derive(Debug)]
pub(crate) struct World {
    run: Run,
    net: Network,
    hosts: Hosts,
    expected: Vec<Expected>,
    /// The scripted application of each host.
    scripts: Vec<App>,
    programs: Runtime,
    model: Model,
    pulse: Arc<Pulse>,
    /// Moments of the queue.
    pops: u64,
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
        let hosts: Vec<Host> = (0..count)
            .map(|host| {
                let planned = plan.hosts[host];
                let key = key_of(planned.identity);
                let rng = Rng::derive(plan.seed, HOST, crate::rng::u64_of(host));
                Host::new(key, count, rng)
            })
            .collect();
        Self {
            run: Run::new(plan, keeps_trace),
            net: Network::new(count),
            hosts: Hosts::new(hosts),
            expected: vec![Expected::new(count); count],
            scripts: (0..count).map(|_| App::new(count)).collect(),
            programs: Runtime::none(count),
            model: Model::default(),
            pulse: Arc::default(),
            pops: 0,
        }
    }

    /// Returns the plan of the run.
    pub(crate) const fn plan(&self) -> &Plan {
        &self.run.plan
    }

    /// Returns the time of the run, in microseconds.
    pub(crate) const fn now(&self) -> u64 {
        self.run.now
    }

    // ---- who is lent what -----------------------------------------------------------------------

    fn sessions(&mut self) -> Sessions<'_> {
        Sessions { run: &mut self.run, net: &mut self.net, hosts: &mut self.hosts }
    }

    fn nodes(&mut self) -> Nodes<'_> {
        let Self { run, net, hosts, expected, .. } = self;
        Nodes { run, net, hosts, expected }
    }

    fn checker(&mut self) -> Checker<'_> {
        let Self { run, net, hosts, expected, .. } = self;
        Checker { run, net, hosts, expected }
    }

    fn adversary(&mut self) -> Adversary<'_> {
        Adversary { run: &mut self.run, net: &mut self.net, hosts: &self.hosts }
    }

    fn apps(&mut self) -> Application<'_> {
        let Self { run, net, hosts, expected, scripts, programs, model, .. } = self;
        Application { run, net, hosts, expected, scripts, programs, model }
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) -> Outcome {
        for host in 0..self.hosts.len() {
            self.start(host);
        }
        for step in 0..self.run.plan.steps.len() {
            self.run.push(self.run.plan.steps[step].at, Wake::Step(step));
        }
        self.scan();
        self.run_until(self.run.plan.calm_from);
        if self.run.checks.violation().is_some() {
            return self.outcome();
        }
        self.calm_down();
        let settling = self.run.plan.settling_time();
        self.run_until(self.run.plan.calm_from + settling / 2);
        let stuck = self.apps().stuck_flows();
        let standings = self.sessions().standings();
        let settled = self.run.plan.calm_from + settling;
        self.run_until(settled);
        if self.run.checks.violation().is_some() {
            return self.outcome();
        }
        self.checker().check_settled();
        self.apps().check_released(&stuck);
        self.sessions().check_arrived(&standings);
        self.apps().check_programs_at_rest();
        self.shut_down();
        let over = settled + self.run.plan.time_to_stop();
        self.run_until(over);
        if self.run.checks.violation().is_none() {
            self.checker().check_over();
        }
        self.outcome()
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            violation: self.run.checks.violation().cloned(),
            hash: self.run.trace.hash(),
            inputs: self.run.inputs,
            pops: self.pops,
            accepted: crate::rng::u64_of(self.model.len()) + self.programs.sent,
            delivered: self.model.delivered,
            time: self.run.now,
            hosts: crate::rng::u64_of(self.hosts.len()),
            fired: self.run.fired.clone(),
            reached: self.run.reached.clone(),
            checked: self.run.checks.counts().to_vec(),
        }
    }

    pub(crate) const fn violation(&self) -> Option<&Violation> {
        self.run.checks.violation()
    }

    /// Returns what tells another thread that the run moves.
    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Returns what happened.
    pub(crate) const fn trace(&self) -> &Trace {
        &self.run.trace
    }

    /// Returns what was sent, and what became of it.
    pub(crate) const fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the hosts at the ends of a connection.
    pub(crate) fn ends_of(&self, link: usize) -> Option<[usize; 2]> {
        self.net.links.get(link).map(|link| [link.ends[0].host, link.ends[1].host])
    }

    fn run_until(&mut self, until: u64) {
        while self.run.checks.violation().is_none()
            && let Some(wake) = self.run.next(until)
        {
            self.pops += 1;
            self.pulse.beat(self.run.now, self.net.host_of(wake).unwrap_or(0));
            self.wake(wake);
            self.look();
        }
        if self.run.checks.violation().is_none() {
            self.run.now = until;
        }
    }

    fn wake(&mut self, wake: Wake) {
        if self.is_held_up(wake) {
            return;
        }
        match wake {
            Wake::Step(step) => self.step(step),
            Wake::Heal(step) => self.heal(step),
            Wake::Again(step, left) => self.net.again(&mut self.run, step, left),
            Wake::Restart(host) => self.restart(host),
            Wake::Scan => self.scan(),
            Wake::Node(host, life) => self.nodes().node_timer(host, life),
            Wake::Mail(host, life) => self.nodes().read_node_inbox(host, life),
            Wake::Events(host, life) => self.nodes().read_events(host, life),
            Wake::Retry(host, life, peer) => self.apps().retry(host, life, peer),
            Wake::Flow(host, flow) => self.apps().flow(host, flow),
            Wake::Dial(host, life, dial) => self.nodes().dial_goes_on(host, life, dial),
            Wake::Saved(host, life) => self.nodes().saved(host, life),
            Wake::Program(host, life, timer) => self.apps().program_timer(host, life, timer),
            Wake::Failed(host, life) => self.apps().program_failed(host, life),
            Wake::SessionInbox(link, side) => self.sessions().read_session_inbox(link, side),
            Wake::Session(link, side) => self.sessions().session_timer(link, side),
            Wake::Take(link, side) => self.apps().take(link, side),
            Wake::Greet(link, side) => self.apps().continue_handshake(link, side),
            Wake::Listen(link, side) => self.apps().read_handshake(link, side),
            Wake::Arrive(link, side) => self.arrive(link, side),
            Wake::Lose(link, side) => self.sessions().lose(link, side),
            Wake::Retire(link, side) => self.retire(link, side),
            Wake::Idle(link, since) => self.net.idle(&mut self.run, link, since),
            Wake::Pump(link, side) => self.sessions().pump(link, side),
            Wake::Hear(link, side) => self.sessions().hear(link, side),
            Wake::Line(link, side) => self.sessions().line_timer(link, side),
            Wake::Offer(link, pipe) => self.offer(link, pipe),
            Wake::Answer(link, pipe, is_yes) => self.answer(link, pipe, is_yes),
            Wake::Write(link, pipe, side) => self.sessions().write(link, pipe, side),
            Wake::Read(link, pipe, side) => self.read(link, pipe, side),
            Wake::Stopped(link, pipe, side) => self.sessions().stopped(link, pipe, side),
            Wake::Acknowledge(link, pipe, side) => self.sessions().acknowledge(link, pipe, side),
            Wake::Script(link, side, act) => self.adversary().act(link, side, act),
            Wake::AttackAgain(by, to, attack, left) => self.repeat_attack(by, to, attack, left),
        }
    }

    /// Keeps back what can't happen now, and returns whether it did.
    fn is_held_up(&mut self, wake: Wake) -> bool {
        let Some(host) = self.net.host_of(wake) else {
            return false;
        };
        let until = self.hosts[host].paused_until;
        if until > self.run.now {
            self.run.push(until, wake);
            // The queue must not forget that the timer stands.
            self.move_timer(wake, until);
            return true;
        }
        let Some((link, side)) = self.net.crossing(wake) else {
            return false;
        };
        let from = self.net.links[link].ends[1 - side].host;
        if self.net.faults.is_blocked(from, host) {
            self.net.faults.hold(wake, from, host);
            return true;
        }
        false
    }

    /// Looks at what should have ended, and does so again later.
    fn scan(&mut self) {
        self.checker().scan();
        for link in self.net.live() {
            for side in [0, 1] {
                self.sessions().check_rooms(link, side);
                self.sessions().check_still(link, side);
            }
        }
        let every = (self.run.plan.calm_from / 100).max(SCAN);
        self.run.push(self.run.now + every, Wake::Scan);
    }

    fn move_timer(&mut self, wake: Wake, until: u64) {
        if let Wake::Line(link, side) = wake
            && let Some(line) = &mut self.net.links[link].line
        {
            let timer = &mut line.ends[side].timer;
            *timer = timer.map(|at| if at == self.run.now { until } else { at });
            return;
        }
        let timer = match wake {
            Wake::Node(host, life) if self.hosts[host].life == life => &mut self.hosts[host].timer,
            Wake::Session(link, side) => &mut self.net.links[link].ends[side].timer,
            _ => return,
        };
        if *timer == Some(self.run.now) {
            *timer = Some(until);
        }
    }

    /// Takes the outputs of all machines that were given an input, until there are no more.
    fn look(&mut self) {
        while let Some(touch) = self.run.touched.pop_front() {
            let host = match touch {
                Touch::Node(host) => host,
                Touch::Session(link, side) => self.net.links[link].ends[side].host,
            };
            if self.run.kills[host].is_due {
                self.kill(host);
                continue;
            }
            match touch {
                Touch::Node(host) => self.drain_node(host),
                Touch::Session(link, side) => self.drain_session(link, side),
            }
        }
    }
}

/// Returns the secret of an identity.
fn secret_of(identity: u16) -> [u8; 32] {
    let [high, low] = identity.wrapping_add(1).to_be_bytes();
    let mut secret = [low; 32];
    secret[31] ^= high;
    secret
}

/// Returns the key of an identity, which all runs share: making one takes as long as many inputs.
fn key_of(identity: u16) -> PublicKey {
    static POOL: [OnceLock<PublicKey>; MAX_HOSTS] = [const { OnceLock::new() }; MAX_HOSTS];
    let make = || Identity::from_seed(&secret_of(identity)).public_key();
    POOL.get(usize::from(identity)).map_or_else(make, |known| *known.get_or_init(make))
}

const HOST: u64 = 2;
/// Least microseconds between two looks at what should have ended.
const SCAN: u64 = 5_000_000;
