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
//!         if let Notice::State { peer, state: ConnectionState::Established, .. } = notice {
//!             // A full queue would be told by `Notice::Writable` when it may have room.
//!             context.send(peer, &self.stream, "hello".into()).ok();
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
use crate::error::SendError;
use crate::node::{Address, ConnectionState, StateReason};
use crate::session::{Closed, Direction};
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
    State {
        /// The peer.
        peer: PublicKey,
        /// The state that it is in now.
        state: ConnectionState,
        /// Who dialled, if there is or was a connection or a dial.
        direction: Option<Direction>,
        /// Why, as judged here; `None` where the state speaks for itself.
        reason: Option<StateReason>,
    },
    /// Something that was asked for could not be done, and has changed nothing.
    Failed {
        /// The peer that it was about.
        peer: PublicKey,
        /// Why, for people.
        why: String,
    },
    /// A stream that said [`Backpressure`](SendError::Backpressure) may have room again.
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

/// What a handler can do.
///
/// Whether a peer could be learnt, dialled or disconnected is told later, by a [`Notice`]: on some
/// runners the node is a task of its own.
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
    fn add_peer(&mut self, peer: PublicKey, addresses: &[Address]);

    /// Connects to a peer that is not connected or being connected already.
    fn connect(&mut self, peer: PublicKey);

    /// Ends whatever there is with a peer.
    fn disconnect(&mut self, peer: PublicKey);

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
