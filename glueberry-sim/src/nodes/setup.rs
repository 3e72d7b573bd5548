//! What runs where, what goes wrong, and what came of it.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::host::{Host, UnknownHost};
use super::network::{Event, Fault};
use super::run::run;
use super::{Core, lock};

/// Why a program has failed.
pub type ProgramError = Box<dyn Error + Send + Sync>;

/// What a program comes to.
pub(super) type Running = Pin<Box<dyn Future<Output = Result<(), ProgramError>> + Send>>;

/// Programs that use the async [`Node`](glueberry_tokio::Node), run in virtual time on simulated hosts.
///
/// Each seed is one run: it draws in what order tasks have their turns, how long packets take, what goes
/// wrong, and all random numbers. So a failure repeats. Only a program that looks past the simulation
/// differs from run to run: by threads, the system's clock or random numbers, the order in a `HashMap`,
/// or `tokio::select!` without `biased`. [`repeats`](Self::repeats) finds that out.
///
/// ```
/// use glueberry_sim::nodes::AsyncSimulation;
/// use glueberry_tokio::{HANDSHAKE, PublicKey};
///
/// let simulation = AsyncSimulation::new(|setup| {
///     setup.host("server", |host| async move {
///         let node = host.builder().streams(["chat"]).build_over(host.network()).await?;
///         let mut messages = node.messages().expect("the first call gets them");
///         while let Some(message) = messages.recv().await {
///             if message.stream() == HANDSHAKE {
///                 let key = PublicKey::try_from(&message.peer)?;
///                 node.complete_handshake(message.peer, key, &["chat"]).await?;
///             } else {
///                 node.send(message.peer, "chat", message.data).await?;
///             }
///         }
///         Ok(())
///     });
///     setup.client("client", |host| async move {
///         let node = host.builder().streams(["chat"]).build_over(host.network()).await?;
///         let mut messages = node.messages().expect("the first call gets them");
///         let server = host.peer("server")?;
///         node.add_peer(server.id, [server.addr]).await?;
///         node.connect(server.id).await?;
///         node.send(server.id, HANDSHAKE, "hello").await?;
///         node.complete_handshake(server.id, server.key, &["chat"]).await?;
///         node.send(server.id, "chat", "echo").await?;
///         let echo = messages.recv().await.ok_or("the node has stopped")?;
///         assert_eq!(echo.data, "echo");
///         Ok(())
///     });
/// });
/// let report = simulation.run(0..20)?;
/// assert_eq!(report.runs, 20);
/// # Ok::<(), Box<glueberry_sim::nodes::FailedRun>>(())
/// ```
pub struct AsyncSimulation {
    pub(super) describe: Box<dyn Fn(&mut Setup)>,
    pub(super) latency: Range<Duration>,
    pub(super) faults: Vec<FaultKind>,
    pub(super) trouble: Duration,
    pub(super) limit: Duration,
}

/// What goes wrong when the seed draws it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Two hosts can't reach each other, or one can't reach the other, for a while.
    Partition,
    /// The connections of two hosts are lost, and what is under way with them.
    Cut,
    /// Everything takes ten times as long on one host.
    Slow,
    /// The process on a host that is no client ends at once, between two of its steps or at one of its
    /// [points](Host::point), and is started again later.
    Kill,
}

/// The hosts of one run, and what must hold.
#[derive(Default)]
pub struct Setup {
    pub(super) hosts: Vec<Declared>,
    pub(super) scripts: Vec<Script>,
    pub(super) always: Vec<Check>,
    pub(super) finally: Vec<Check>,
}

pub(super) struct Declared {
    pub(super) name: String,
    pub(super) program: Arc<dyn Fn(Host) -> Running + Send + Sync>,
    pub(super) is_client: bool,
}

pub(super) type Script = Box<dyn FnOnce(Control) -> Running>;
pub(super) type Check = Box<dyn Fn() -> Result<(), String>>;

impl fmt::Debug for AsyncSimulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncSimulation")
            .field("latency", &self.latency)
            .field("faults", &self.faults)
            .field("trouble", &self.trouble)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.hosts.iter().map(|host| &host.name);
        f.debug_list().entries(names).finish()
    }
}

impl AsyncSimulation {
    /// Prepares runs. `describe` is called for each of them, so what programs share with checks is new
    /// each time.
    ///
    /// Nothing goes wrong unless [`faults`](Self::faults) says so, packets take 1 to 50 ms, and a run may
    /// take 300 simulated seconds.
    pub fn new(describe: impl Fn(&mut Setup) + 'static) -> Self {
        Self {
            describe: Box::new(describe),
            latency: Duration::from_millis(1)..Duration::from_millis(50),
            faults: Vec::new(),
            trouble: Duration::from_secs(60),
            limit: Duration::from_secs(300),
        }
    }

    /// Sets how long packets take. Two in a hundred take ten times as long.
    #[must_use]
    pub const fn latency(mut self, latency: Range<Duration>) -> Self {
        self.latency = latency;
        self
    }

    /// Sets what goes wrong, every few seconds something.
    #[must_use]
    pub fn faults(mut self, faults: impl IntoIterator<Item = FaultKind>) -> Self {
        self.faults = faults.into_iter().collect();
        self
    }

    /// Sets for how long things go wrong; 60 s by default. Everything has come right by then.
    #[must_use]
    pub const fn trouble(mut self, trouble: Duration) -> Self {
        self.trouble = trouble;
        self
    }

    /// Sets how long a run may take, in simulated time; 300 s by default. Clients that have not ended by
    /// then have failed.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the programs once for each seed, until all clients have ended.
    ///
    /// # Errors
    ///
    /// The first run in which something did not hold.
    pub fn run(&self, seeds: Range<u64>) -> Result<AsyncReport, Box<FailedRun>> {
        let mut report = AsyncReport::default();
        for seed in seeds {
            report.add(&run(self, seed)?);
        }
        Ok(report)
    }

    /// Runs each seed twice.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run), and [`Cause::Differs`] if the two are not the same.
    pub fn repeats(&self, seeds: Range<u64>) -> Result<AsyncReport, Box<FailedRun>> {
        let mut report = AsyncReport::default();
        for seed in seeds {
            let (first, second) = (run(self, seed)?, run(self, seed)?);
            if first != second {
                let (at, host, latest) = (Duration::ZERO, None, Vec::new());
                return Err(Box::new(FailedRun { seed, at, host, cause: Cause::Differs, latest }));
            }
            report.add(&first);
        }
        Ok(report)
    }
}

impl Setup {
    /// Adds a host whose program serves others: a run does not wait for its end. It is started again
    /// when it was killed.
    pub fn host<F, P>(&mut self, name: impl Into<String>, program: P)
    where
        P: Fn(Host) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), ProgramError>> + Send + 'static,
    {
        self.declare(name.into(), false, program);
    }

    /// Adds a host whose program does something and ends: a run is over when all of these have.
    pub fn client<F, P>(&mut self, name: impl Into<String>, program: P)
    where
        P: Fn(Host) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), ProgramError>> + Send + 'static,
    {
        self.declare(name.into(), true, program);
    }

    fn declare<F, P>(&mut self, name: String, is_client: bool, program: P)
    where
        P: Fn(Host) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), ProgramError>> + Send + 'static,
    {
        let program = Arc::new(move |host| -> Running { Box::pin(program(host)) });
        self.hosts.push(Declared { name, program, is_client });
    }

    /// Adds a script of what happens to the network and the hosts. A run does not wait for its end.
    pub fn script<F>(&mut self, script: impl FnOnce(Control) -> F + 'static)
    where
        F: Future<Output = Result<(), ProgramError>> + Send + 'static,
    {
        self.scripts.push(Box::new(move |control| Box::pin(script(control))));
    }

    /// Adds what must hold after every turn of every task.
    pub fn always(&mut self, check: impl Fn() -> Result<(), String> + 'static) {
        self.always.push(Box::new(check));
    }

    /// Adds what must hold when all clients have ended.
    pub fn finally(&mut self, check: impl Fn() -> Result<(), String> + 'static) {
        self.finally.push(Box::new(check));
    }
}

/// What a [script](Setup::script) does to the network and the hosts.
#[derive(Clone)]
pub struct Control {
    pub(super) core: Arc<Core>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

/// Each returns an error if the setup names no such host.
impl Control {
    /// Waits.
    pub async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Two hosts can't reach each other any more. Their connections are lost after 15 s.
    pub fn partition(&self, one: &str, other: &str) -> Result<(), UnknownHost> {
        self.block(one, other)?;
        self.block(other, one)
    }

    /// Nothing arrives any more of what one host sends to another.
    pub fn block(&self, from: &str, to: &str) -> Result<(), UnknownHost> {
        self.core.network.block(self.core.place(from)?, self.core.place(to)?);
        Ok(())
    }

    /// Two hosts reach each other again, and what was on its way arrives.
    pub fn heal(&self, one: &str, other: &str) -> Result<(), UnknownHost> {
        let (one, other) = (self.core.place(one)?, self.core.place(other)?);
        self.core.network.unblock(one, other);
        self.core.network.unblock(other, one);
        Ok(())
    }

    /// The connections of two hosts are lost, and what is on its way.
    pub fn cut(&self, one: &str, other: &str) -> Result<(), UnknownHost> {
        self.core.network.cut(self.core.place(one)?, self.core.place(other)?);
        Ok(())
    }

    /// The process on a host ends at once.
    pub fn kill(&self, host: &str) -> Result<(), UnknownHost> {
        self.schedule(Fault::Kill(self.core.place(host)?));
        Ok(())
    }

    /// The process on a host ends when it next comes to that [point](Host::point).
    pub fn kill_at(&self, host: &str, point: &str) -> Result<(), UnknownHost> {
        let host = self.core.place(host)?;
        lock(&self.core.points).armed.insert((host, point.to_owned()));
        Ok(())
    }

    /// A process is started on a host that has none.
    pub fn start(&self, host: &str) -> Result<(), UnknownHost> {
        self.schedule(Fault::Start(self.core.place(host)?));
        Ok(())
    }

    /// Returns whether a process is on a host.
    pub fn is_up(&self, host: &str) -> Result<bool, UnknownHost> {
        let host = self.core.place(host)?;
        Ok(self.core.network.state().hosts[host].is_up)
    }

    fn schedule(&self, fault: Fault) {
        self.core.network.schedule(0, Event::Fault(fault));
    }
}

/// What came of runs that all went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AsyncReport {
    /// How many runs.
    pub runs: u64,
    /// Simulated time in seconds.
    pub seconds: u64,
    /// Turns of tasks.
    pub turns: u64,
    /// Packets that have arrived.
    pub packets: u64,
    /// Things that went wrong.
    pub faults: u64,
    /// A hash of all that has happened. It may depend on the processor, because nodes prefer AES where
    /// that has instructions for it.
    pub trace: u64,
}

impl AsyncReport {
    fn add(&mut self, run: &Self) {
        self.runs += run.runs;
        self.seconds += run.seconds;
        self.turns += run.turns;
        self.packets += run.packets;
        self.faults += run.faults;
        self.trace = crate::rng::mix(self.trace ^ run.trace);
    }
}

/// A run in which something did not hold.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedRun {
    /// Its seed; `run(seed..seed + 1)` repeats it.
    pub seed: u64,
    /// When, in simulated time.
    pub at: Duration,
    /// On which host, if it was on one.
    pub host: Option<String>,
    /// What.
    pub cause: Cause,
    /// What happened last, a line each.
    pub latest: Vec<String>,
}

/// What did not hold.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The setup can't be run.
    Setup(String),
    /// A program has returned an error.
    Program(ProgramError),
    /// A program, or the node under it, has panicked.
    Panicked(String),
    /// A check of the setup says so.
    Broken(String),
    /// These clients have not ended in time.
    Unfinished(Vec<String>),
    /// Tasks have turns without end, and no time passes.
    Livelock,
    /// The seed's second run is not the first.
    Differs,
}

impl fmt::Display for FailedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, after {:?}", self.seed, self.at)?;
        if let Some(host) = &self.host {
            write!(f, ", {host}")?;
        }
        write!(f, ": {}", self.cause)?;
        for line in &self.latest {
            write!(f, "\n{line}")?;
        }
        write!(f, "\n`run({}..{})` repeats this", self.seed, self.seed + 1)
    }
}

impl Error for FailedRun {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Program(error) => Some(&**error),
            _ => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(why) => write!(f, "setup can't be run: {why}"),
            Self::Program(error) => write!(f, "program failed: {error}"),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::Broken(what) => write!(f, "{what}"),
            Self::Unfinished(names) => write!(f, "not ended in time: {}", names.join(", ")),
            Self::Livelock => write!(f, "tasks have turns without end, and no time passes"),
            Self::Differs => write!(f, "the second run differs from the first"),
        }
    }
}
