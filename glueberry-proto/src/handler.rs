//! Programs over the core that run unchanged wherever it runs: in the simulator under faults, on
//! `glueberry-tokio` over real connections.
//!
//! A [`Handler`] is told what happens and answers through a [`Context`]. It reads no clock, draws
//! no randomness and waits for nothing by itself, so a run of it can be repeated from a seed. The
//! runner holds the handshake for it: a peer that is told to be
//! [`Established`](ConnectionState::Established) takes messages.
//!
//! ```
//! use glueberry_proto::handler::{Context, Handler, Notice};
//! use glueberry_proto::{ConnectionState, PublicKey, StreamName};
//! use bytes::Bytes;
//!
//! /// Greets whoever is there, and counts the greetings.
//! struct Greeter {
//!     stream: StreamName,
//!     greetings: u32,
//! }
//!
//! impl Handler for Greeter {
//!     fn on_event(&mut self, context: &mut dyn Context, notice: Notice) {
//!         if let Notice::State(event) = notice
//!             && event.state == ConnectionState::Established
//!         {
//!             // A full queue would be told by `Notice::Writable` when it has room.
//!             context.send(event.peer, &self.stream, "hello".into()).ok();
//!         }
//!     }
//!
//!     fn on_message(
//!         &mut self,
//!         _: &mut dyn Context,
//!         _: PublicKey,
//!         _: &StreamName,
//!         message: Bytes,
//!     ) {
//!         self.greetings += u32::from(message == "hello");
//!     }
//!
//!     fn on_timer(&mut self, _: &mut dyn Context, _: u64) {}
//! }
//! ```

use std::any::Any;
use std::time::Duration;

use bytes::Bytes;

use crate::crypto::PublicKey;
use crate::error::{AddPeerError, ConnectError, SendError};
use crate::node::{Address, ConnectionEvent, ConnectionState};
use crate::session::Closed;
use crate::time::Instant;
use crate::wire::StreamName;

/// A program on one node.
///
/// Its methods are called one at a time and must not block. A node that is killed and started
/// again gets a new one.
pub trait Handler: Any + Send {
    /// The node has started.
    fn on_start(&mut self, context: &mut dyn Context) {
        let _ = context;
    }

    /// Something has happened to a peer.
    fn on_event(&mut self, context: &mut dyn Context, notice: Notice);

    /// A peer has sent a message.
    fn on_message(
        &mut self,
        context: &mut dyn Context,
        from: PublicKey,
        stream: &StreamName,
        message: Bytes,
    );

    /// A timer that was [set](Context::set_timer) is due.
    fn on_timer(&mut self, context: &mut dyn Context, timer: u64);
}

/// What a handler is told of its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A peer's state has changed.
    State(ConnectionEvent),
    /// A stream that said [`Backpressure`](SendError::Backpressure) accepts again.
    Writable {
        /// The peer.
        peer: PublicKey,
        /// The stream.
        stream: StreamName,
    },
    /// Messages on a stream may be lost: it goes on behind them.
    Interrupted {
        /// The peer.
        peer: PublicKey,
        /// The stream.
        stream: StreamName,
        /// Messages of which the peer may have any number from the front.
        in_doubt: u64,
    },
    /// The session with a peer is over.
    Closed {
        /// The peer.
        peer: PublicKey,
        /// Why, and what is not delivered for certain.
        closed: Closed,
    },
}

/// What a handler can do. All of it takes effect at once, or fails and changes nothing.
pub trait Context {
    /// Returns the time, which only moves between calls.
    fn now(&self) -> Instant;

    /// Returns this node's own key.
    fn own_key(&self) -> PublicKey;

    /// Draws 64 random bits; from the run's seed, where a run has one.
    fn random(&mut self) -> u64;

    /// Returns the state of a peer.
    fn state(&self, peer: PublicKey) -> ConnectionState;

    /// Learns addresses of a peer, or replaces those that are known.
    ///
    /// # Errors
    ///
    /// See [`AddPeerError`].
    fn add_peer(&mut self, peer: PublicKey, addresses: &[Address]) -> Result<(), AddPeerError>;

    /// Connects to a peer; what comes of it is told by [`Notice::State`].
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    fn connect(&mut self, peer: PublicKey) -> Result<(), ConnectError>;

    /// Ends whatever there is with a peer. Returns whether there was anything to end.
    fn disconnect(&mut self, peer: PublicKey) -> bool;

    /// Sends a message to a peer that is Established.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; nothing of the message is then kept.
    fn send(
        &mut self,
        peer: PublicKey,
        stream: &StreamName,
        message: Bytes,
    ) -> Result<(), SendError>;

    /// Has [`on_timer`](Handler::on_timer) called after a while, with this number. Timers are
    /// independent of each other, even under the same number.
    fn set_timer(&mut self, timer: u64, after: Duration);
}
