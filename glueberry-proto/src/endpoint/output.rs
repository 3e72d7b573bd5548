//! What an endpoint wants, and what it reports.

use bytes::Bytes;

use crate::address::Address;
use crate::crypto::PublicKey;
use crate::id::ConnectionId;
use crate::node::ConnectionEvent;
use crate::prelude::*;
use crate::session::Event;
use crate::time::Instant;
use crate::wire::StreamName;

/// The next thing that an [`Endpoint`](super::Endpoint) wants done, or reports. `T` is what is asked
/// of the transport: [`Write`](super::Write), or a [`SubstreamOutput`](super::SubstreamOutput).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an output that is dropped is lost"]
#[expect(clippy::exhaustive_enums, reason = "a driver must know that it has handled all there is")]
pub enum Output<T> {
    /// Get a connection to the peer, **authenticate it** (rule C0), and answer with
    /// [`handle_connected`](super::Endpoint::handle_connected) or
    /// [`handle_dial_failed`](super::Endpoint::handle_dial_failed). It may come before the
    /// [`Close`](Self::Close) of the peer's last connection: each has an id of its own.
    Dial {
        /// The connection's name from now on.
        connection: ConnectionId,
        /// The peer to reach.
        peer: PublicKey,
        /// Where to try.
        addresses: Vec<Address>,
    },
    /// Move bytes.
    Transport(T),
    /// Close the connection, or give up dialling it; its id is not used again. No answer is needed.
    /// Bytes that were not written are of no use any more.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// The number of a [`CloseCode`](crate::CloseCode), for the peer where the transport carries
        /// one. Over a pipe the mux has told it already; but a connection that never had a session is
        /// just closed, and the peer sees a reset.
        code: u64,
    },
    /// Store [`Node::book`](crate::Node::book), and answer with
    /// [`handle_book_saved`](super::Endpoint::handle_book_saved) or
    /// [`handle_book_not_saved`](super::Endpoint::handle_book_not_saved); or leave it.
    SaveBook,
    /// A peer's state has changed.
    State(ConnectionEvent),
    /// A handshake message of a peer: see [`send_handshake`](super::Endpoint::send_handshake). Not
    /// reported if the endpoint [greets](super::Endpoint::greeting) by itself.
    Handshake {
        /// The peer.
        peer: PublicKey,
        /// The message.
        message: Bytes,
    },
    /// A message of a peer.
    Message {
        /// The peer.
        peer: PublicKey,
        /// The stream.
        stream: StreamName,
        /// The message.
        message: Bytes,
    },
    /// Messages that were never handed to the transport. Behind them follows the event that says
    /// why.
    Unsent {
        /// The peer.
        peer: PublicKey,
        /// The stream.
        stream: StreamName,
        /// The messages, in order.
        messages: Vec<Bytes>,
    },
    /// Something happened in the session with a peer. All kinds but those that say that there is
    /// something to read.
    Event {
        /// The peer.
        peer: PublicKey,
        /// What happened.
        event: Event,
    },
    /// Nothing more for now: wait for the transport, or until then (`None`: for ever), and call
    /// [`poll_output`](super::Endpoint::poll_output) again.
    Timeout(Option<Instant>),
}

impl<T> Output<T> {
    /// Takes out what is asked of the transport.
    pub(super) fn transport<U>(self) -> Result<Output<U>, T> {
        Ok(match self {
            Self::Transport(what) => return Err(what),
            Self::Dial { connection, peer, addresses } => {
                Output::Dial { connection, peer, addresses }
            }
            Self::Close { connection, code } => Output::Close { connection, code },
            Self::SaveBook => Output::SaveBook,
            Self::State(event) => Output::State(event),
            Self::Handshake { peer, message } => Output::Handshake { peer, message },
            Self::Message { peer, stream, message } => Output::Message { peer, stream, message },
            Self::Unsent { peer, stream, messages } => Output::Unsent { peer, stream, messages },
            Self::Event { peer, event } => Output::Event { peer, event },
            Self::Timeout(at) => Output::Timeout(at),
        })
    }
}
