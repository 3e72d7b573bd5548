//! What the nodes of one host run on.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use glueberry_tokio::runtime::{Resolving, Runtime, Task, Timer};

use super::network::Life;
use super::{Core, lock};
use crate::rng::{Rng, u64_of};

/// The runtime of one life of a host.
pub(super) struct HostRuntime {
    core: Arc<Core>,
    life: Life,
    rng: Mutex<Rng>,
}

impl HostRuntime {
    pub(super) fn new(core: Arc<Core>, life: Life) -> Self {
        let place = (u64_of(life.host) << 32) + life.number;
        let rng = Mutex::new(Rng::derive(core.seed, ENTROPY, place));
        Self { core, life, rng }
    }
}

impl fmt::Debug for HostRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostRuntime").field(&self.core.names[self.life.host]).finish()
    }
}

impl Runtime for HostRuntime {
    /// A task of a life that is over is dropped.
    fn spawn(&self, task: Task) {
        if self.core.network.state().is_alive(self.life) {
            self.core.executor.spawn(self.life.host, task);
        }
    }

    fn timer(&self) -> Box<dyn Timer> {
        self.core.tokio.timer()
    }

    fn now(&self) -> Instant {
        self.core.tokio.now()
    }

    /// The clocks of hosts differ by some seconds.
    fn wall_time(&self) -> SystemTime {
        let mut skew = Rng::derive(self.core.seed, SKEW, u64_of(self.life.host));
        let skew = skew.below(MAX_SKEW);
        self.core.network.clock.wall() + Duration::from_micros(skew)
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut rng = lock(&self.rng);
        for chunk in bytes.chunks_mut(8) {
            let drawn = rng.next().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
        Ok(())
    }

    /// There are no names.
    fn resolve(&self, _: &str) -> Resolving {
        Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
    }
}

/// Kinds of generators.
const ENTROPY: u64 = 102;
const SKEW: u64 = 103;
/// In microseconds.
const MAX_SKEW: u64 = 5_000_000;
