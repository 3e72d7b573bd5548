//! What handles of a node, its task, its sessions and its transport share.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant as StdInstant};

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use glueberry_proto::{Instant, PublicKey, SendLimits, WallTime};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use tracing::{Instrument, Span};

use crate::address::AddressProblem;
use crate::clock::Clock;
use crate::command::NodeCommand;
use crate::config::{Config, Delivery};
use crate::error::{Error, ErrorCode, Misuse};
use crate::greet::greetings::Greetings;
use crate::mailbox::Mailbox;
use crate::memory::Account;
use crate::readers::Readers;
use crate::runtime::Runtime;
use crate::session_handle::SessionHandle;
use crate::store::wall_time;
use crate::telemetry::Telemetry;
use crate::views::PeerViews;

/// What handles, the node's task and sessions share.
#[derive(Debug)]
pub struct Shared {
    /// Whose node this is, as every span says.
    pub(crate) node: PeerId,
    pub(crate) mailbox: Mailbox<NodeCommand>,
    pub(crate) views: Arc<PeerViews>,
    pub(crate) readers: Readers,
    /// If the node holds the handshakes itself.
    pub(crate) greetings: Option<Arc<Greetings>>,
    /// What peers make the node hold.
    pub(crate) memory: Arc<Account>,
    /// How many sessions have ended and left something unread.
    pub(crate) remains: AtomicUsize,
    /// Where the node listens.
    pub(crate) addrs: std::sync::Mutex<Vec<Multiaddr>>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) config: Config,
    pub(crate) delivery: Delivery,
    pub(crate) stats_retention: Duration,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) clock: Clock,
    pub(crate) limits: SendLimits,
    pub(crate) message_buffer: usize,
    pub(crate) max_substreams: usize,
    pub(crate) max_incoming: usize,
    pub(crate) negotiation_timeout: Duration,
    /// What every event and span of the node is in.
    pub(crate) span: Span,
    /// The transport's [check](crate::adapter::Transport::check_address).
    pub(crate) check_address: fn(&Multiaddr) -> Result<(), AddressProblem>,
}

impl Shared {
    /// Returns the time on the core's clock.
    pub fn now(&self) -> Instant {
        self.clock.at(self.runtime.now())
    }

    /// Returns the time on the wall clock, as the core knows it.
    pub(crate) fn wall(&self) -> WallTime {
        wall_time(self.runtime.wall_time())
    }

    /// Runs a task of the node in the background; what it logs is the node's.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(Box::pin(task.instrument(self.span.clone())));
    }

    /// Waits until `deadline` in a task of the runtime; an error if that is going down. Then a timer of
    /// its own would panic in a caller that is elsewhere.
    pub(crate) fn alarm(&self, deadline: StdInstant) -> oneshot::Receiver<()> {
        let (mut alarm, due) = oneshot::channel();
        let runtime = self.runtime.clone();
        self.runtime.spawn(Box::pin(async move {
            let sleep = runtime.sleep_until(deadline);
            if let Either::Left(_) = select(sleep, alarm.cancellation()).await {
                // The caller may have stopped waiting.
                alarm.send(()).ok();
            }
        }));
        due
    }

    /// Returns the span that every event and span of the node is in.
    #[doc(hidden)]
    pub const fn span(&self) -> &Span {
        &self.span
    }

    /// Returns the key that a peer's id contains. That of a peer that is known is not checked again.
    pub(crate) fn key_of(&self, peer: PeerId) -> Result<PublicKey, Error> {
        let checked = || {
            PublicKey::try_from(&peer)
                .map_err(|error| Error::because(ErrorCode::InvalidPublicKey, error).of_peer(peer))
        };
        self.views.key(&peer).map_or_else(checked, Ok)
    }

    /// Returns the session of a peer that is current.
    pub(crate) fn session(&self, peer: PeerId) -> Result<Arc<SessionHandle>, Error> {
        self.views.session(&peer).ok_or_else(|| {
            let error = match self.mailbox.is_closed() {
                true => Error::new(ErrorCode::NodeStopped),
                false => Error::because(ErrorCode::NotConnected, Misuse::NoSession),
            };
            error.of_peer(peer)
        })
    }

    /// The node has stopped: everything that waits for it ends.
    pub(crate) fn stop(&self) {
        drop(self.mailbox.close());
        self.views.clear();
        self.telemetry.events.close();
        self.readers.close();
    }
}
