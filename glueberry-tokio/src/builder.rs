//! How a node comes about.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::SystemTime;

use glueberry_proto::{Identity, Seed, SendLimits};
use libp2p_identity::Keypair;
use multiaddr::Multiaddr;
use tracing::{Span, error_span, info, warn};
use zeroize::Zeroizing;

use crate::adapter::{Fabric, Parts};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, ErrorCode, Misuse};
use crate::events::EventHub;
use crate::inbox::Inbox;
use crate::mailbox::Mailbox;
use crate::memory::Account;
use crate::metrics::{Metrics, NoMetrics};
use crate::node::{Node, Shared, stream_name};
use crate::node_task::NodeTask;
use crate::readers::Readers;
use crate::runtime::{Runtime, default_runtime};
use crate::stats::Statistics;
use crate::store::{FileStore, wall_time};
use crate::store_thread::{StoreThread, findings};
use crate::telemetry::Telemetry;
use crate::transport::Transport;
use crate::views::PeerViews;

/// Builds a [`Node`]: see [`Node::builder`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::{Config, Node, identity::Keypair};
///
/// let mut config = Config::default();
/// config.core.max_message_size = 64 * 1024;
/// let node = Node::builder(Keypair::generate_ed25519())
///     .config(config)
///     .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)
///     .streams(["chat"])
///     .build()
///     .await?;
/// assert_eq!(node.addrs().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct Builder {
    identity: Keypair,
    config: Config,
    listen: Vec<Multiaddr>,
    streams: Vec<String>,
    runtime: Option<Arc<dyn Runtime>>,
    book: Option<PathBuf>,
    metrics: Arc<dyn Metrics>,
}

impl Builder {
    pub(crate) fn new(identity: Keypair) -> Self {
        Self {
            identity,
            config: Config::default(),
            listen: Vec::new(),
            streams: Vec::new(),
            runtime: None,
            book: None,
            metrics: Arc::new(NoMetrics),
        }
    }

    /// Listens on an address such as `/ip4/0.0.0.0/udp/4001/quic-v1`; may be called again for
    /// more. A node that listens nowhere can only dial.
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Accepts streams of these names from peers, once they are prepared: names that are not
    /// known before a peer uses them are refused. Names are 1 to 64 of A-Z, a-z, 0-9, `-` and `_`;
    /// with Go nodes they may have any Unicode letters and digits.
    pub fn streams<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.streams.extend(names.into_iter().map(Into::into));
        self
    }

    /// Replaces the default configuration.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Runs on the given runtime, in place of the one that the caller is on.
    pub fn runtime(mut self, runtime: Arc<dyn Runtime>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Stores the address book in a file, and begins with what is in it: peers, their addresses
    /// and metadata, and bans. It is the file that Go nodes write, and may move between the two.
    /// Without one, the node forgets with its end.
    ///
    /// The file is locked until the node has shut down. If it is no address book it is renamed;
    /// [`Node::address_book_findings`] then says so.
    pub fn address_book(mut self, path: impl Into<PathBuf>) -> Self {
        self.book = Some(path.into());
        self
    }

    /// Has everything counted and measured that there is.
    pub fn metrics(mut self, metrics: Arc<dyn Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Starts the node over raw QUIC.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorCode::InvalidConfig), naming the field,
    /// [`InvalidStreamName`](ErrorCode::InvalidStreamName),
    /// [`InvalidPublicKey`](ErrorCode::InvalidPublicKey) if the identity is not an Ed25519 key,
    /// [`InvalidAddress`](ErrorCode::InvalidAddress), [`ListenFailed`](ErrorCode::ListenFailed),
    /// [`AddressBookFailed`](ErrorCode::AddressBookFailed), among others if another process has
    /// the book.
    #[cfg(feature = "quic")]
    #[expect(clippy::unused_async, reason = "other transports need time to start")]
    pub async fn build(self) -> Result<Node, Error> {
        let parts = self.into_parts()?;
        let Parts { runtime, identity, listen, config, .. } = &parts;
        let endpoint = crate::quic::bind(&**runtime, identity, listen, config)?;
        let addrs = endpoint.addrs();
        parts.start(addrs, |shared| crate::quic::QuicTransport::start(endpoint, shared))
    }

    /// Starts the node over something else than raw QUIC, such as the `Libp2p` of the crate
    /// `glueberry-libp2p`.
    ///
    /// # Errors
    ///
    /// Those that a node over raw QUIC has, and the fabric's own.
    pub async fn build_over(self, fabric: impl Fabric) -> Result<Node, Error> {
        fabric.start(self.into_parts()?).await
    }

    /// Checks everything that does not depend on a transport.
    #[doc(hidden)]
    pub fn into_parts(self) -> Result<Parts, Error> {
        let config = self.checked_config()?;
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => default_runtime()
                .ok_or_else(|| Error::because(ErrorCode::InvalidConfig, Misuse::NoRuntime))?,
        };
        Ok(Parts {
            identity: self.identity,
            config,
            listen: self.listen,
            runtime,
            book: self.book,
            metrics: self.metrics,
        })
    }

    fn checked_config(&self) -> Result<Config, Error> {
        let mut config = self.config.clone();
        for name in &self.streams {
            let name = stream_name(name)?;
            if !config.core.profiles.iter().any(|profile| profile.allows(&name)) {
                // It is none that these profiles allow, so there is an error.
                glueberry_proto::StreamName::new(name.as_str())
                    .map_err(|error| Error::because(ErrorCode::InvalidStreamName, error))?;
            }
            if !config.core.streams.contains(&name) {
                config.core.streams.push(name);
            }
        }
        config.check()?;
        Ok(config)
    }
}

/// Starts a node over any transport.
pub(crate) fn start<T: Transport + Unpin>(
    parts: Parts,
    addrs: Vec<Multiaddr>,
    transport: impl FnOnce(&Arc<Shared>) -> T,
) -> Result<Node, Error> {
    let identity = Identity::try_from(&parts.identity)
        .map_err(|error| Error::because(ErrorCode::InvalidPublicKey, error))?;
    let key = identity.public_key();
    let core = parts.config.core();
    let limits = core.book_limits();
    let opened = parts
        .book
        .map(|path| FileStore::open(path, limits))
        .transpose()
        .map_err(|error| Error::because(ErrorCode::AddressBookFailed, error))?;
    let inbox = Inbox::new(parts.config.message_buffer);
    let node = libp2p_identity::PeerId::from(key);
    // It is on whatever level the subscriber lets through.
    let span = error_span!("node", %node);
    let shared = shared::<T>(parts.config, parts.runtime, parts.metrics, addrs, &inbox, span);
    let _entered = shared.span.clone().entered();
    let now = shared.now();
    let mut machine = glueberry_proto::Node::new(now, identity, core, seed()?)?;
    machine.set_wall_time(now, wall_time(SystemTime::now()));
    let (mut thread, mut troubles) = (None, Vec::new());
    if let Some((store, loaded)) = opened {
        let (book, found) = findings(loaded);
        machine.load_book(now, book);
        thread = Some(StoreThread::start(store, limits, shared.clone())?);
        troubles = found;
    }
    for trouble in &troubles {
        warn!(%trouble, "address book trouble");
    }
    let task = NodeTask::new(machine, shared.clone(), transport(&shared), thread);
    shared.spawn(task);
    info!(%node, "node started");
    Ok(Node::new(shared, key, troubles, inbox))
}

fn shared<T: Transport>(
    config: Config,
    runtime: Arc<dyn Runtime>,
    metrics: Arc<dyn Metrics>,
    addrs: Vec<Multiaddr>,
    inbox: &Arc<Inbox>,
    span: Span,
) -> Arc<Shared> {
    let views = Arc::new(PeerViews::default());
    let events = EventHub::new(config.event_buffer, metrics.clone(), views.clone());
    let stats = Statistics::new(config.core.max_peers);
    Arc::new(Shared {
        mailbox: Mailbox::new(),
        views,
        readers: Readers::new(inbox.clone()),
        remains: AtomicUsize::new(0),
        memory: Account::new(config.core.memory_limits()),
        telemetry: Arc::new(Telemetry::new(events, metrics, stats, runtime.clone())),
        addrs: addrs.into(),
        clock: Clock::starting_at(runtime.now()),
        limits: SendLimits::from(&config.core()),
        delivery: config.delivery,
        stats_retention: config.stats_retention,
        message_buffer: config.message_buffer,
        max_substreams: config.core.max_substreams,
        max_incoming: config.max_incoming,
        negotiation_timeout: config.core.negotiation_timeout,
        check_address: T::check_address,
        span,
        config,
        runtime,
    })
}

fn seed() -> Result<Seed, Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| Error::because(ErrorCode::Internal, error))?;
    Ok(Seed::from_bytes(*bytes))
}
