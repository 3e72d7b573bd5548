//! Programs over the core that run unchanged wherever it runs: in the simulator under faults, on
//! `glueberry-tokio` over real connections.
//!
//! A [`Handler`] receives notices and messages and acts through a [`Context`]. It reads no clock,
//! draws no randomness and waits for nothing by itself, so its run can be repeated from a seed. The
//! runner completes the handshake for it: a peer whose state is
//! [`Established`](ConnectionState::Established) accepts messages.
//!
//! ```
//! use glueberry_proto::handler::{Context, Handler, Notice};
//! use glueberry_proto::{ConnectionState, PublicKey, StreamName};
//! use bytes::Bytes;
//!
//! /// Greets every peer, and counts the greetings.
//! struct Greeter {
//!     stream: StreamName,
//!     greetings: u32,
//! }
//!
//! impl Handler for Greeter {
//!     fn on_event(&mut self, context: &mut dyn Context, notice: Notice) {
//!         if let Notice::State { peer, state: ConnectionState::Established, .. } = notice {
//!             // If the queue were full, `Notice::Writable` would follow when it has room.
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

use core::any::Any;
use core::time::Duration;

use bytes::Bytes;

use crate::address::Address;
use crate::crypto::PublicKey;
use crate::error::SendError;
use crate::node::{ConnectionState, StateReason};
use crate::prelude::*;
use crate::session::{Closed, Direction};
use crate::time::Instant;
use crate::wire::StreamName;

/// A program on one node.
///
/// Its methods are called one at a time and must not block. A node that is killed and started
/// again gets a new one.
pub trait Handler: Any + Send {
    /// Handles the start of the node.
    fn on_start(&mut self, context: &mut dyn Context) {
        let _ = context;
    }

    /// Handles a notice about a peer.
    fn on_event(&mut self, context: &mut dyn Context, notice: Notice);

    /// Handles a message from a peer.
    fn on_message(
        &mut self,
        context: &mut dyn Context,
        from: PublicKey,
        stream: &StreamName,
        message: Bytes,
    );

    /// Handles a timer that was [set](Context::set_timer) and is due.
    fn on_timer(&mut self, context: &mut dyn Context, timer: u64);
}

/// A change that concerns a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A peer's state has changed.
    State {
        /// The peer.
        peer: PublicKey,
        /// The new state.
        state: ConnectionState,
        /// The side that dialled, if there is or was a connection or a dial.
        direction: Option<Direction>,
        /// Why, as judged locally; `None` if the state needs no reason.
        reason: Option<StateReason>,
    },
    /// A command of the handler has failed and changed nothing.
    Failed {
        /// The peer that the command named.
        peer: PublicKey,
        /// Why, as text for people.
        why: String,
    },
    /// A stream that returned [`Backpressure`](SendError::Backpressure) may have room again.
    Writable {
        /// The peer.
        peer: PublicKey,
        /// The stream.
        stream: StreamName,
    },
    /// Messages on a stream may be lost. The stream continues after them.
    Interrupted {
        /// The peer.
        peer: PublicKey,
        /// The stream.
        stream: StreamName,
        /// Messages in doubt: the peer has received any number of them, from the front.
        in_doubt: u64,
    },
    /// The session with a peer has ended.
    Closed {
        /// The peer.
        peer: PublicKey,
        /// Why, and the messages that were not certainly delivered.
        closed: Closed,
    },
}

/// The commands of a handler.
///
/// The result of adding, dialling or disconnecting a peer comes later, as a [`Notice`]: on some
/// runners the node is a separate task.
pub trait Context {
    /// Returns the time. It does not change during a call of the handler.
    fn now(&self) -> Instant;

    /// Returns this node's own key.
    fn own_key(&self) -> PublicKey;

    /// Returns 64 random bits, drawn from the run's seed if it has one.
    fn random(&mut self) -> u64;

    /// Returns the state of a peer.
    fn state(&self, peer: PublicKey) -> ConnectionState;

    /// Adds a peer, or replaces its addresses.
    fn add_peer(&mut self, peer: PublicKey, addresses: &[Address]);

    /// Connects to a peer that is neither connected nor connecting.
    fn connect(&mut self, peer: PublicKey);

    /// Ends the session with a peer, or its dial.
    fn disconnect(&mut self, peer: PublicKey);

    /// Sends a message to a peer that is Established.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; the message is then not queued.
    fn send(
        &mut self,
        peer: PublicKey,
        stream: &StreamName,
        message: Bytes,
    ) -> Result<(), SendError>;

    /// Calls [`on_timer`](Handler::on_timer) with this number after a duration. Timers are
    /// independent of each other, even with the same number.
    fn set_timer(&mut self, timer: u64, after: Duration);
}
