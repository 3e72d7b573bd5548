//! One run: hosts, network and faults, one step after another.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use glueberry_proto::PublicKey;
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::runtime::TokioRuntime;
use tokio::time::{Sleep, sleep_until};

use super::executor::{Executor, Turn};
use super::host::{Host, Points};
use super::network::{Event, Fault, Network, Step};
use super::setup::{
    AsyncReport, AsyncSimulation, Cause, Control, FailedRun, FaultKind, ProgramError, Setup,
};
use super::trace::Note;
use super::{Clock, Core, lock};
use crate::rng::{Rng, u64_of};

/// Runs one seed.
pub(super) fn run(simulation: &AsyncSimulation, seed: u64) -> Result<AsyncReport, Box<FailedRun>> {
    let failed = |cause| {
        Box::new(FailedRun { seed, at: Duration::ZERO, host: None, cause, latest: Vec::new() })
    };
    let mut setup = Setup::default();
    (simulation.describe)(&mut setup);
    check(&setup).map_err(|why| failed(Cause::Setup(why)))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| failed(Cause::Setup(error.to_string())))?;
    runtime.block_on(async {
        let mut drive = Drive::new(simulation, setup, seed).map_err(failed)?;
        drive.start();
        let result = (&mut drive).await;
        // While there is still a clock: tasks may look at it when they are dropped.
        drive.core.executor.clear();
        result
    })
}

fn check(setup: &Setup) -> Result<(), String> {
    if !setup.hosts.iter().any(|host| host.is_client) {
        return Err("there is no client to wait for".to_owned());
    }
    for (place, host) in setup.hosts.iter().enumerate() {
        if setup.hosts[..place].iter().any(|before| before.name == host.name) {
            return Err(format!("there are two hosts {:?}", host.name));
        }
    }
    Ok(())
}

/// Where programs leave what they came to.
type Results = Arc<Mutex<Vec<(usize, Result<(), ProgramError>)>>>;

struct Drive {
    core: Arc<Core>,
    setup: Setup,
    seed: u64,
    faults: Vec<FaultKind>,
    /// In microseconds of the run.
    trouble: u64,
    limit: u64,
    rng: Rng,
    results: Results,
    /// Clients that have not ended.
    running: Vec<usize>,
    /// Turns since time has passed, and when that was.
    turns: (u64, u64),
    sleep: Pin<Box<Sleep>>,
}

impl Drive {
    fn new(simulation: &AsyncSimulation, setup: Setup, seed: u64) -> Result<Self, Cause> {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let identities: Vec<Keypair> = (0..setup.hosts.len())
            .map(|host| identity(seed, host))
            .collect::<Result<_, _>>()
            .map_err(Cause::Setup)?;
        let keys: Vec<PublicKey> = identities
            .iter()
            .map(|identity| PublicKey::try_from(&identity.public().to_peer_id()))
            .collect::<Result<_, _>>()
            .map_err(|error| Cause::Setup(error.to_string()))?;
        let clock = Clock::new();
        let chance = if simulation.faults.contains(&FaultKind::Kill) { KILLED_AT_POINT } else { 0 };
        let core = Core {
            seed,
            executor: Executor::new(Rng::derive(seed, ORDER, 0)),
            network: Network::new(seed, &simulation.latency, &keys, clock),
            tokio: TokioRuntime::current()
                .ok_or_else(|| Cause::Setup("there is no runtime".to_owned()))?,
            names: setup.hosts.iter().map(|host| host.name.clone()).collect(),
            clients: setup.hosts.iter().map(|host| host.is_client).collect(),
            identities,
            files: setup.hosts.iter().map(|_| Mutex::default()).collect(),
            points: Mutex::new(Points { chance, ..Points::default() }),
        };
        let limit = micros(simulation.limit);
        let clients = setup.hosts.iter().enumerate().filter(|(_, host)| host.is_client);
        Ok(Self {
            running: clients.map(|(host, _)| host).collect(),
            core: Arc::new(core),
            seed,
            faults: simulation.faults.clone(),
            trouble: micros(simulation.trouble).min(limit),
            limit,
            rng: Rng::derive(seed, FAULTS, 0),
            results: Results::default(),
            turns: (0, 0),
            sleep: Box::pin(sleep_until(clock.at(limit).into())),
            setup,
        })
    }

    fn start(&mut self) {
        for host in 0..self.setup.hosts.len() {
            self.start_host(host);
        }
        for script in std::mem::take(&mut self.setup.scripts) {
            let running = script(Control { core: self.core.clone() });
            let results = self.results.clone();
            let task = async move {
                let result = running.await;
                lock(&results).push((SCRIPT, result));
            };
            self.core.executor.spawn(SCRIPT, Box::pin(task));
        }
        if !self.faults.is_empty() {
            self.core.network.schedule(0, Event::Fault(Fault::Draw));
        }
    }

    fn start_host(&self, host: usize) {
        if self.core.network.state().hosts[host].is_up {
            return;
        }
        let life = self.core.network.start(host);
        let program = self.setup.hosts[host].program.clone();
        let handle = Host::new(self.core.clone(), life);
        let results = self.results.clone();
        let task = async move {
            let result = program(handle).await;
            lock(&results).push((host, result));
        };
        self.core.executor.spawn(host, Box::pin(task));
    }

    fn kill_host(&self, host: usize) {
        if self.core.network.state().hosts[host].is_up {
            self.core.network.kill(host);
            self.core.executor.kill(host);
            lock(&self.core.files[host]).cut(self.seed, host);
        }
    }

    // ---- faults -------------------------------------------------------------------------------

    fn fault(&mut self, fault: Fault) {
        let network = &self.core.network;
        match fault {
            Fault::Draw => self.draw(),
            Fault::Block(from, to) => network.block(from, to),
            Fault::Unblock(from, to) => network.unblock(from, to),
            Fault::Cut(one, other) => network.cut(one, other),
            Fault::Slow(host) => network.state().hosts[host].is_slow = true,
            Fault::NotSlow(host) => network.state().hosts[host].is_slow = false,
            Fault::Kill(host) => {
                self.kill_host(host);
                if !self.core.clients[host] && self.faults.contains(&FaultKind::Kill) {
                    let after = self.rng.exponential(DOWN);
                    self.later(after, Fault::Start(host));
                }
            }
            Fault::Start(host) => self.start_host(host),
        }
    }

    /// Schedules a fault, or the end of one: everything is right again when the trouble is over.
    fn later(&self, after: u64, fault: Fault) {
        let left = self.trouble.saturating_sub(self.core.network.clock.now());
        self.core.network.schedule(after.min(left), Event::Fault(fault));
    }

    fn draw(&mut self) {
        let now = self.core.network.clock.now();
        if now >= self.trouble || self.faults.is_empty() {
            return;
        }
        let next = self.rng.exponential(BETWEEN_FAULTS);
        self.core.network.schedule(next, Event::Fault(Fault::Draw));
        let hosts = self.setup.hosts.len();
        let one = self.rng.index(hosts);
        let other = (one + 1 + self.rng.index(hosts.saturating_sub(1).max(1))) % hosts;
        let lasts = self.rng.exponential(FAULT);
        match self.rng.pick(&self.faults) {
            FaultKind::Partition => {
                let is_mutual = self.rng.chance(700);
                for (from, to) in
                    [(one, other), (other, one)].into_iter().take(1 + usize::from(is_mutual))
                {
                    self.fault(Fault::Block(from, to));
                    self.later(lasts, Fault::Unblock(from, to));
                }
            }
            FaultKind::Cut => self.fault(Fault::Cut(one, other)),
            FaultKind::Slow => {
                self.fault(Fault::Slow(one));
                self.later(lasts, Fault::NotSlow(one));
            }
            FaultKind::Kill if !self.core.clients[one] => self.fault(Fault::Kill(one)),
            FaultKind::Kill => {}
        }
    }

    // ---- the run ------------------------------------------------------------------------------

    fn failed(&self, host: Option<usize>, cause: Cause) -> Box<FailedRun> {
        let name = |host: usize| self.core.names.get(host).map_or("the script", String::as_str);
        Box::new(FailedRun {
            seed: self.seed,
            at: Duration::from_micros(self.core.network.clock.now()),
            host: host.map(|host| name(host).to_owned()),
            cause,
            latest: self.core.network.trace().latest(&self.core.names),
        })
    }

    fn names_of(&self, hosts: &[usize]) -> Vec<String> {
        hosts.iter().map(|host| self.core.names[*host].clone()).collect()
    }

    /// Does what the network has due.
    fn network_steps(&mut self) {
        while let Some(step) = self.core.network.step() {
            match step {
                Step::Nothing => {}
                Step::Wake(waker) => waker.wake(),
                Step::DialFailed(node, dial, error) => node.dial_failed(dial, error),
                Step::Offer(node, offered, connection) => {
                    node.offer_connection(offered, connection);
                }
                Step::Fault(fault) => self.fault(fault),
            }
        }
    }

    /// Looks at what programs have come to. Returns whether all clients have ended.
    fn settle(&mut self) -> Result<bool, Box<FailedRun>> {
        for (host, result) in std::mem::take(&mut *lock(&self.results)) {
            self.running.retain(|running| *running != host);
            result.map_err(|error| self.failed(Some(host), Cause::Program(error)))?;
        }
        Ok(self.running.is_empty())
    }

    fn holds(&self, checks: &[super::setup::Check]) -> Result<(), Box<FailedRun>> {
        checks
            .iter()
            .try_for_each(|check| check())
            .map_err(|what| self.failed(None, Cause::Broken(what)))
    }

    /// Gives tasks turns until none is ready, or somebody else should have a turn. Returns whether none
    /// is.
    fn turns(&mut self, cx: &Context<'_>) -> Result<Option<bool>, Box<FailedRun>> {
        let now = self.core.network.clock.now();
        if self.turns.1 != now {
            self.turns = (0, now);
        }
        for _ in 0..=self.rng.below(MOST_TURNS) {
            match self.core.executor.run_one(cx) {
                Turn::Idle => return Ok(Some(true)),
                Turn::Ran(turns) => {
                    turns.into_iter().for_each(|(task, host)| {
                        self.core.network.note(Note::Turn(task, host));
                    });
                }
                Turn::Panicked(host, text) => {
                    return Err(self.failed(Some(host), Cause::Panicked(text)));
                }
            }
            self.holds(&self.setup.always)?;
            if self.settle()? {
                return Ok(None);
            }
            self.turns.0 += 1;
            if self.turns.0 > LIVELOCK {
                return Err(self.failed(None, Cause::Livelock));
            }
        }
        Ok(Some(false))
    }

    fn report(&self) -> AsyncReport {
        let trace = self.core.network.trace();
        AsyncReport {
            runs: 1,
            seconds: self.core.network.clock.now() / 1_000_000,
            turns: trace.turns,
            packets: trace.packets,
            faults: trace.faults,
            trace: trace.hash(),
        }
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Result<Poll<AsyncReport>, Box<FailedRun>> {
        loop {
            self.network_steps();
            match self.turns(cx)? {
                None => {
                    self.holds(&self.setup.finally)?;
                    return Ok(Poll::Ready(self.report()));
                }
                Some(true) => {}
                Some(false) => {
                    // Tasks of `tokio::spawn` have turns in between.
                    cx.waker().wake_by_ref();
                    return Ok(Poll::Pending);
                }
            }
            if self.core.network.clock.now() >= self.limit {
                let names = self.names_of(&self.running);
                return Err(self.failed(None, Cause::Unfinished(names)));
            }
            let next = self.core.network.state().queue.first();
            let next = next.unwrap_or(self.limit).min(self.limit);
            let deadline = self.core.network.clock.at(next).into();
            self.sleep.as_mut().reset(deadline);
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Ok(Poll::Pending);
            }
        }
    }
}

impl Future for Drive {
    type Output = Result<AsyncReport, Box<FailedRun>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.poll_run(cx) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(report)) => Poll::Ready(Ok(report)),
            Err(failed) => Poll::Ready(Err(failed)),
        }
    }
}

/// Returns the key pair of a host.
fn identity(seed: u64, host: usize) -> Result<Keypair, String> {
    let mut rng = Rng::derive(seed, IDENTITY, u64_of(host));
    let mut secret = [0; 32];
    for part in secret.chunks_exact_mut(8) {
        part.copy_from_slice(&rng.next().to_le_bytes());
    }
    Keypair::ed25519_from_bytes(secret).map_err(|error| error.to_string())
}

/// Kinds of generators.
const ORDER: u64 = 105;
const FAULTS: u64 = 106;
const IDENTITY: u64 = 107;

/// The host of scripts, which is none.
const SCRIPT: usize = usize::MAX;
/// The most turns before tasks of `tokio::spawn` have theirs.
const MOST_TURNS: u64 = 8;
/// More turns than any program needs while no time passes.
const LIVELOCK: u64 = 1_000_000;
/// How many of a thousand points a program is killed at.
const KILLED_AT_POINT: u64 = 10;
/// Means, in microseconds.
const BETWEEN_FAULTS: u64 = 4_000_000;
const FAULT: u64 = 5_000_000;
const DOWN: u64 = 3_000_000;
