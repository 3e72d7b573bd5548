//! Programs that use the async [`Node`](glueberry_tokio::Node), in virtual time.
//!
//! The node, its tasks, its locks and its wake-ups are those of production; only what is below them is
//! simulated: the executor, the clock, the entropy and the network. A program is an ordinary async
//! one: it may use `tokio::time`, `tokio::sync` and `tokio::spawn`.

mod connection;
mod disk;
mod executor;
mod fabric;
mod host;
mod link;
mod network;
mod run;
mod runtime;
mod setup;
mod state;
mod trace;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::runtime::TokioRuntime;

pub use self::disk::Disk;
use self::disk::Files;
use self::executor::Executor;
pub use self::fabric::SimNetwork;
pub use self::host::{Host, RemoteHost, UnknownHost};
use self::network::Network;
pub use self::setup::{
    AsyncReport, AsyncSimulation, Cause, Control, FailedRun, FaultKind, ProgramError, Setup,
};

/// What everything in a run shares.
struct Core {
    seed: u64,
    executor: Arc<Executor>,
    network: Arc<Network>,
    tokio: TokioRuntime,
    names: Vec<String>,
    clients: Vec<bool>,
    identities: Vec<Keypair>,
    files: Vec<Mutex<Files>>,
    points: Mutex<host::Points>,
}

/// The run's time: that of tokio's clock, which is paused and goes on only when nothing is ready.
#[derive(Clone, Copy, Debug)]
struct Clock {
    began: Instant,
}

impl Clock {
    fn new() -> Self {
        Self { began: tokio::time::Instant::now().into_std() }
    }

    /// Returns the microseconds since the run began.
    fn now(self) -> u64 {
        let passed = tokio::time::Instant::now().into_std().saturating_duration_since(self.began);
        u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns a moment of the run.
    fn at(self, micros: u64) -> Instant {
        self.began + Duration::from_micros(micros)
    }

    /// Returns the time on a wall clock that is right.
    fn wall(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + EPOCH + Duration::from_micros(self.now())
    }
}

/// Locks a mutex whose data stays sound even if a program has panicked.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When each run begins: 2026-01-01.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);
