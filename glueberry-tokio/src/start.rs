//! How a node starts: what it shares, its book, and its task.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use glueberry_proto::{Identity, Seed, SendLimits};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use tracing::{Span, error_span, info, warn};

use crate::adapter::Parts;
use crate::clock::Clock;
use crate::config::Config;
use crate::entropy::entropy;
use crate::error::{Error, ErrorCode};
use crate::events::EventHub;
use crate::greet::Greeter;
use crate::greet::greetings::Greetings;
use crate::inbox::Inbox;
use crate::mailbox::Mailbox;
use crate::memory::Account;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::node_task::NodeTask;
use crate::readers::Readers;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::stats::Statistics;
use crate::store::{FileStore, Loaded};
use crate::store_thread::{StoreThread, findings};
use crate::telemetry::Telemetry;
use crate::transport::Transport;
use crate::views::PeerViews;

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
    let opened = parts.book.map(|path| open_book(path, limits)).transpose()?;
    let buffer = parts.config.message_buffer;
    let inbox = Inbox::new(buffer);
    let node = PeerId::from(key);
    // It is on whatever level the subscriber lets through.
    let span = error_span!("node", %node);
    let handshake = parts.handshake.map(|it| (it, Arc::new(Greetings::new(buffer))));
    let greetings = handshake.as_ref().map(|(_, greetings)| greetings.clone());
    let shared = shared::<T>(Origin {
        config: parts.config,
        runtime: parts.runtime,
        metrics: parts.metrics,
        addrs,
        inbox: inbox.clone(),
        greetings,
        node,
        span,
    });
    let _entered = shared.span.clone().entered();
    let now = shared.now();
    let mut machine = glueberry_proto::Node::new(now, identity, core, seed(&*shared.runtime)?)?;
    machine.set_wall_time(now, shared.wall());
    let (mut thread, mut troubles) = (None, Vec::new());
    if let Some((store, loaded)) = opened {
        let (book, found) = findings(loaded);
        machine.load_book(now, book);
        thread = Some(StoreThread::start(store, limits, shared.clone())?);
        troubles = found;
    }
    troubles.iter().for_each(|trouble| warn!(%trouble, "address book trouble"));
    if let Some((handshake, greetings)) = handshake {
        shared.spawn(Greeter::new(shared.clone(), greetings, handshake, key).run());
    }
    shared.spawn(NodeTask::new(machine, shared.clone(), transport(&shared), thread));
    info!(%node, "node started");
    Ok(Node::new(shared, key, troubles, inbox))
}

fn open_book(
    path: PathBuf,
    limits: glueberry_proto::book::Limits,
) -> Result<(FileStore, Loaded), Error> {
    FileStore::open(path, limits)
        .map_err(|error| Error::because(ErrorCode::AddressBookFailed, error))
}

/// What [`Shared`] is made of.
struct Origin {
    config: Config,
    runtime: Arc<dyn Runtime>,
    metrics: Arc<dyn Metrics>,
    addrs: Vec<Multiaddr>,
    inbox: Arc<Inbox>,
    greetings: Option<Arc<Greetings>>,
    node: PeerId,
    span: Span,
}

fn shared<T: Transport>(origin: Origin) -> Arc<Shared> {
    let Origin { config, runtime, metrics, addrs, inbox, greetings, node, span } = origin;
    let handshake = greetings.as_ref().map_or_else(|| inbox.clone(), |it| it.inbox.clone());
    let views = Arc::new(PeerViews::default());
    let events = EventHub::new(config.event_buffer, metrics.clone(), views.clone());
    let stats = Statistics::new(config.core.max_peers);
    Arc::new(Shared {
        node,
        mailbox: Mailbox::new(),
        views,
        readers: Readers::new(inbox, handshake),
        greetings,
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

fn seed(runtime: &dyn Runtime) -> Result<Seed, Error> {
    let bytes = entropy(runtime).map_err(|error| Error::because(ErrorCode::Internal, error))?;
    Ok(Seed::from_bytes(*bytes))
}
