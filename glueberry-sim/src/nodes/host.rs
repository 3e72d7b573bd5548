//! A host, as the program on it sees it.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use glueberry_proto::PublicKey;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::runtime::Runtime;
use glueberry_tokio::{Builder, Multiaddr, Node};

use super::disk::Disk;
use super::fabric::{SimNetwork, address_of};
use super::network::{Event, Fault, Life};
use super::runtime::HostRuntime;
use super::trace::Note;
use super::{Core, lock};

/// A host of an [`AsyncSimulation`](super::AsyncSimulation), in one of its lives. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    pub(super) core: Arc<Core>,
    pub(super) life: Life,
    runtime: Arc<HostRuntime>,
}

/// Where programs may be killed.
#[derive(Default)]
pub(super) struct Points {
    /// Where a script wants it.
    pub(super) armed: BTreeSet<(usize, String)>,
    /// How many times in a thousand it happens anywhere.
    pub(super) chance: u64,
}

/// Another host, as a program reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteHost {
    /// The id of its node.
    pub id: PeerId,
    /// The key of its node.
    pub key: PublicKey,
    /// The address of its node.
    pub addr: Multiaddr,
}

/// The setup names no such host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownHost(String);

impl fmt::Display for UnknownHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no host {:?}", self.0)
    }
}

impl Error for UnknownHost {}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.name())
            .field("life", &self.life.number)
            .finish_non_exhaustive()
    }
}

impl Host {
    pub(super) fn new(core: Arc<Core>, life: Life) -> Self {
        let runtime = Arc::new(HostRuntime::new(core.clone(), life));
        Self { core, life, runtime }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.core.names[self.life.host]
    }

    /// Returns how many times it was started before.
    pub const fn restarts(&self) -> u64 {
        self.life.number - 1
    }

    /// Returns the key pair of its node, the same in each of its lives.
    pub fn identity(&self) -> Keypair {
        self.core.identities[self.life.host].clone()
    }

    /// Starts to build its node. End with `.build_over(host.network())`.
    ///
    /// The node has no [address book](Builder::address_book) in a file: a simulated host has none.
    pub fn builder(&self) -> Builder {
        Node::builder(self.identity()).runtime(self.runtime.clone())
    }

    /// Returns the network to build the node over.
    pub fn network(&self) -> SimNetwork {
        SimNetwork { core: self.core.clone(), life: self.life }
    }

    /// Returns how to reach a host.
    ///
    /// # Errors
    ///
    /// If the setup has none of that name.
    pub fn peer(&self, name: &str) -> Result<RemoteHost, UnknownHost> {
        let host = self.core.place(name)?;
        let id = self.core.identities[host].public().to_peer_id();
        let key = self.core.network.state().hosts[host].key;
        Ok(RemoteHost { id, key, addr: address_of(host) })
    }

    /// Returns the names of all hosts, in the order in which the setup has them.
    pub fn names(&self) -> &[String] {
        &self.core.names
    }

    /// Returns its disk.
    pub fn disk(&self) -> Disk {
        Disk { core: self.core.clone(), host: self.life.host }
    }

    /// Returns how long the run has gone on.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.core.network.clock.now())
    }

    /// Returns the time on its wall clock. Those of hosts differ by up to 5 s.
    pub fn wall_time(&self) -> SystemTime {
        self.runtime.wall_time()
    }

    /// Waits. `tokio::time::sleep` does the same.
    pub async fn sleep(&self, time: Duration) {
        self.runtime.sleep(time).await;
    }

    /// Runs a task that ends with this life of the host. One of `tokio::spawn` goes on after a kill, with
    /// a node that has stopped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(Box::pin(task));
    }

    /// Draws a number from the run's seed.
    pub fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        // A simulated host never runs out of them.
        drop(self.runtime.fill_random(&mut bytes));
        u64::from_le_bytes(bytes)
    }

    /// Says something that a failure shows among what happened last.
    pub fn log(&self, text: impl Into<String>) {
        self.core.network.note(Note::Said(self.life.host, text.into()));
    }

    /// Marks a point at which the program may be killed: by [`Control::kill_at`](super::Control::kill_at),
    /// or now and then if [`FaultKind::Kill`](super::FaultKind::Kill) is among the faults.
    pub async fn point(&self, name: &str) {
        let draw = self.random() % 1000;
        let is_hit = {
            let mut points = lock(&self.core.points);
            points.armed.remove(&(self.life.host, name.to_owned()))
                || !self.core.clients[self.life.host] && draw < points.chance
        };
        if is_hit && self.core.network.state().is_alive(self.life) {
            self.log(format!("killed at {name:?}"));
            self.core.network.schedule(0, Event::Fault(Fault::Kill(self.life.host)));
            pending::<()>().await;
        }
    }
}

impl Core {
    /// Returns the place of a host.
    pub(super) fn place(&self, name: &str) -> Result<usize, UnknownHost> {
        let place = self.names.iter().position(|of| of == name);
        place.ok_or_else(|| UnknownHost(name.to_owned()))
    }
}
