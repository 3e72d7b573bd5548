//! Running a node over a transport of your own: `glueberry-libp2p` does, and `tests/own_transport`
//! of this crate does over plain TCP.
//!
//! What a transport has to be: authenticated (the caller that hands in a connection vouches for the peer's
//! Ed25519 key), reliable, and able to carry several ordered streams of bytes in one connection,
//! each with flow control of its own.
//!
//! 1. [`Substream`] and [`Connection`] are what bytes go over. One loop, [`ConnectionLoop`], drives
//!    a session over them: it reads, writes, ends and resets, tells lost connections from ended
//!    ones, keeps time and reports backpressure.
//! 2. [`Transport`] dials and closes for the node. Connections, dialled or accepted, are handed to
//!    [`Shared::offer_connection`], failed dials to [`Shared::dial_failed`].
//! 3. [`Fabric`] brings both up in [`Builder::build_over`](crate::Builder::build_over), where it
//!    gets the node's identity and configuration as [`Parts`].
//!
//! A connection that belongs to something else, as in a libp2p swarm, implements [`PendingConnection`] and
//! polls a [`ConnectionLoop`] itself.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use glueberry_proto::{Address, DialError, DialId, Instant, NewConnection, PublicKey};
use libp2p_identity::{Keypair, PeerId};
use multiaddr::Multiaddr;

use crate::command::NodeCommand;
use crate::config::Config;
pub use crate::connection::{
    Connection, ConnectionEvent, ConnectionLoop, ReadBuffer, ReadError, Substream, WriteError,
};
use crate::error::Error;
use crate::event::Event;
use crate::greet::Handshake;
#[doc(hidden)]
pub use crate::mailbox::Mailbox;
use crate::mailbox::lock;
pub use crate::memory::{PeerMemory, RoomWaiter};
use crate::metrics::Metrics;
#[doc(hidden)]
pub use crate::negotiations::{AtATime, Negotiation, Negotiations};
#[doc(hidden)]
pub use crate::network::Network;
use crate::node::Node;
pub use crate::path::Path;
#[cfg(feature = "quic")]
#[doc(hidden)]
pub use crate::quic::{
    Admission as QuicAdmission, Counted as CountedSubstream, Loan as QuicLoan, QuicParts,
    Window as QuicWindow,
};
use crate::runtime::Runtime;
pub use crate::session::SessionDriver;
pub use crate::shared::Shared;
use crate::start::start;
pub use crate::transport::{PendingConnection, Transport};
#[cfg(feature = "quic")]
#[doc(hidden)]
pub use quinn;

/// Something that a node runs over: see [`Builder::build_over`](crate::Builder::build_over).
pub trait Fabric {
    /// Brings up the transport, and the node over it.
    fn start(self, parts: Parts) -> impl Future<Output = Result<Node, Error>> + Send;
}

/// The settings of a builder, checked.
#[expect(clippy::exhaustive_structs, reason = "a seam between crates of one version")]
pub struct Parts {
    /// Who the node is.
    pub identity: Keypair,
    /// Its configuration.
    pub config: Config,
    /// Where it is to listen.
    pub listen: Vec<Multiaddr>,
    /// What it runs on.
    pub runtime: Arc<dyn Runtime>,
    /// The file of its address book.
    pub book: Option<PathBuf>,
    /// What counts and measures it.
    pub metrics: Arc<dyn Metrics>,
    /// How it holds handshakes, unless the application does.
    pub handshake: Option<Handshake>,
}

impl Parts {
    /// Starts the node, which is reached at `addrs`, over the transport that `transport` makes.
    ///
    /// # Errors
    ///
    /// [`InvalidPublicKey`](crate::ErrorCode::InvalidPublicKey) if the identity is not an Ed25519
    /// key.
    pub fn start<T: Transport + Unpin>(
        self,
        addrs: Vec<Multiaddr>,
        transport: impl FnOnce(&Arc<Shared>) -> T,
    ) -> Result<Node, Error> {
        start(self, addrs, transport)
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Shared {
    /// Offers a connection to the node that is driven by something else; see
    /// [`offer_connection`](Self::offer_connection). A node that has stopped drops it.
    pub fn offer(&self, connection: NewConnection, pending: Box<dyn PendingConnection>) {
        drop(self.mailbox.put(NodeCommand::Connection(connection, pending)));
    }

    /// Reports by which of its addresses the peer of a dial was reached, before the connection is
    /// offered. The next dial of the peer tries that one first.
    pub fn dial_answered(&self, dial: DialId, address: Address) {
        drop(self.mailbox.put(NodeCommand::DialAnswered(dial, address)));
    }

    /// Reports a dial that failed.
    pub fn dial_failed(&self, dial: DialId, error: DialError) {
        drop(self.mailbox.put(NodeCommand::DialFailed(dial, error)));
    }

    /// Returns the account of a peer: a stranger's, if nothing of it is held yet.
    pub fn memory_of(&self, peer: PeerId) -> Arc<PeerMemory> {
        self.memory.of(peer, true)
    }

    /// Returns whether the peer is banned.
    pub fn is_banned(&self, peer: PublicKey) -> bool {
        self.views.is_banned(peer, self.wall())
    }

    /// Returns whether the peer would be refused if it dialled now. The node's own answer, which
    /// comes later, is the one that counts.
    pub fn is_refused(&self, peer: PublicKey) -> bool {
        self.views.is_refused(peer, self.now(), self.wall())
    }

    /// Returns the first moment at which the core's instant has come, or `None` if it never does.
    pub fn until(&self, at: Instant) -> Option<StdInstant> {
        self.clock.until(at)
    }

    /// Returns what the node runs on.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    /// Returns how many substreams each side may have open in a session.
    pub fn max_substreams(&self) -> usize {
        self.max_substreams
    }

    /// Returns how long a substream may take to be negotiated.
    pub fn negotiation_timeout(&self) -> Duration {
        self.negotiation_timeout
    }

    /// Returns how many incoming connections may be authenticated at one time.
    pub fn max_incoming(&self) -> usize {
        self.max_incoming
    }

    /// Reports that the node does not listen on an address, though it should.
    pub fn listener_lost(&self, address: Multiaddr, reason: String) {
        self.telemetry.events.publish(&Event::ListenerLost { address, reason });
    }

    /// Reports that the node listens again on an address that was lost.
    pub fn listener_restored(&self, address: Multiaddr) {
        self.telemetry.events.publish(&Event::ListenerRestored { address });
    }

    /// Reports that a peer was found at an address, which ends with the peer's id.
    pub fn peer_discovered(&self, peer: PeerId, address: Multiaddr) {
        self.telemetry.events.publish(&Event::PeerDiscovered { peer, address });
    }

    /// Changes where the node listens.
    pub fn update_addrs(&self, update: impl FnOnce(&mut Vec<Multiaddr>)) {
        update(&mut lock(&self.addrs));
    }
}
