//! Everything in one value, for drivers that have one thread: a node, its sessions, and what passes
//! between them.
//!
//! # The one rule
//!
//! **After every input and command, take outputs until the timeout comes.** When its time is over,
//! or anything happens, begin again.
//!
//! ```text
//! loop {
//!     loop {                                  // outputs
//!         match endpoint.poll_output(now()) {
//!             Output::Timeout(at) => break at,
//!             ...
//!         }
//!     }
//!     wait for the transport, at most until `at`; hand in what happened    // inputs
//! }
//! ```
//!
//! # Rule C0: who is at the other end
//!
//! **The transport authenticates.** `handle_connected`, `handle_accepted` and [`Pipe::peer`] take the
//! peer's key as proven. A plain TCP connection, a serial line or a WebSocket proves nothing: to hand it in
//! with a key that the peer merely claims lets an attacker be any peer. Be sure of the wire, or run one of
//! these, on both sides:
//!
//! - TLS with the certificates of libp2p, which carry the identity: `examples/embedded.rs`;
//! - TLS 1.3 with raw public keys (RFC 7250), which rustls has: the identity is the key of TLS itself. The
//!   `SubjectPublicKeyInfo` is `302a300506032b6570032100` and [`PublicKey::as_bytes`], the private key in
//!   PKCS #8 `302e020100300506032b657004220420` and the identity's seed;
//! - Noise, with [`Identity::sign`] over its static key.
//!
//! # The order of an end
//!
//! 1. [`shutdown`](Endpoint::shutdown), or [`disconnect`](Endpoint::disconnect) for one peer: nothing
//!    new is accepted, and what was accepted is sent.
//! 2. Go on with the one rule. Messages that the peer has sent still come; then its halves of the
//!    substreams end, or [`Config::drain_timeout`] is over.
//! 3. [`Event::Closed`](crate::Event::Closed) says what is in doubt: nothing, if all went in order.
//!    The other side's session ends, too: in v1 as
//!    [`ConnectionLost::ClosedByPeer`](crate::ConnectionLost) with code 0, in v2 as
//!    [`EndedByPeer`](crate::CloseReason).
//! 4. [`Output::Close`] comes last, when the peer's mux has confirmed that it has read everything, or
//!    [`mux::Config::close_timeout`](crate::mux::Config::close_timeout) is over. Close the connection
//!    then and not before: a pipe that is cut leaves the *peer* in doubt about what it has written.
//!    Its code is the number of a [`CloseCode`](crate::CloseCode).
//! 5. [`is_idle`](Endpoint::is_idle): the program may end. Ask it behind the outputs and before the wait:
//!    there may be nothing left to wait for.
//!
//! A peer that falls silent without an end is found out by the mux: it is pinged after
//! [`ping_after`](crate::mux::Config::ping_after) without a byte, and given up after
//! [`ping_timeout`](crate::mux::Config::ping_timeout). TCP alone would notice only what it cannot send.
//!
//! # What it is to hold
//!
//! Kinds of calls in one turn of the loop with one message each way, counted in the driver that each
//! project shows (`examples/embedded.rs`; quinn-proto 0.11's `tests/util.rs`; str0m 0.25's
//! `examples/http-post.rs`), and how many rules a driver has to keep:
//!
//! | | calls | rules |
//! |---|---|---|
//! | [`Driver`] | 2: `poll_output`, `handle_ready`, with the four methods of a [`Pipe`] beneath | 1, and C0 |
//! | [`Endpoint`] | 3: `poll_output`, `handle_bytes`, `handle_written` | 1, and C0 |
//! | [`Node`] and [`Session`](crate::Session) by hand | 16 | C0 and C7 to C9, and those of [the loop](crate#the-loop) |
//! | quinn-proto | 8: `handle`, `handle_event` of both, `handle_timeout`, `poll_transmit`, `poll_endpoint_events`, `poll_timeout`, `poll` | as its items say |
//! | str0m | 2: `poll_output`, `handle_input` | 1 |
//!
//! The glue of `examples/embedded.rs` has 79 lines, without blank ones and comments, for connections
//! both ways over TCP with TLS, their loss, and the timer.
//! The glue of `examples/page/nodes.rs` has 49 lines, for two nodes in a page; the folder `browser` of the
//! repository is that page.
//!
//! `MISUSE.md` in this crate lists what a driver can do wrong, what happens then, and what is reported.
//!
//! # Which form to take
//!
//! | your transport | take |
//! |---|---|
//! | one pipe of bytes that can be read and written without waiting: TCP with TLS, a serial line, a queue | [`Driver`]: it moves the bytes of its [`Pipe`]s |
//! | one pipe of bytes that comes otherwise: callbacks of a WebSocket, a thread that waits | [`Endpoint`]: bytes in, bytes out; a [mux](crate::mux) is inside |
//! | has substreams of its own: QUIC, WebTransport, libp2p | [`Endpoint<Substreams>`](Substreams) |
//! | and a task or thread for each connection, so that cryptography runs in parallel | [`Node`] and [`Session`](crate::Session), moved where they belong, with [`SubstreamBuffer`](crate::SubstreamBuffer) |
//!
//! All are the same machines under the same rules (C1 to C12). An endpoint runs on one core. It keeps
//! the account of [`node_memory`](Config::node_memory) and [`peer_memory`](Config::peer_memory), and
//! gives up messages after [`message_timeout`](Config::message_timeout), which by hand is the driver's
//! part. If something stalls, [`owed`](Endpoint::owed) names what the driver has not answered.
//!
//! # What comes up
//!
//! | question | answer |
//! |---|---|
//! | What is `now`? | Any clock that only moves forward, such as `Instant::ZERO + epoch.elapsed()`. Nothing notices one that stands still: no timer fires then. To wake up early is harmless. |
//! | From when on may I send? | From [`Output::State`] with Established on, or from [`Event::Established`](crate::Event::Established). They come in the same turn, in either order. |
//! | The queue is full. Where is my message? | [`send`](Endpoint::send) keeps nothing of it: give it a clone, which copies no bytes, and send again after [`Event::Writable`](crate::Event::Writable). |
//! | I can't take more messages now. | [`pause`](Endpoint::pause) the stream. Its sender is slowed down, and the rest goes on. To stop taking outputs would stop everything. |
//! | Where is the handshake by hand? | At [`send_handshake`](Endpoint::send_handshake), with an example. |
//! | Who dials again after a loss? | Each side whose address book has an address of the peer, also if the peer has ended in order or refuses: by [`Config::reconnect`], until [`disconnect`](Endpoint::disconnect) or [`cancel_reconnection`](Endpoint::cancel_reconnection). Two dials that cross end in one session. |
//! | Is there one connection to a peer? | No: a [`Dial`](Output::Dial) may come before the [`Close`](Output::Close) of the last one. Keep connections by their id, not by peer. |
//! | What has become of my messages at a loss? | [`Output::Unsent`] returns those that were not written, [`Closed`](crate::Closed) counts the others. What was written on a substream that broke is in doubt, even if it has arrived. Nothing is sent again in the next session: an application that can't do without a message numbers and confirms them. |
//! | How does another thread send? | It wakes the wait and hands the loop a command. |
//!
//! # Example
//!
//! Two endpoints, over a pipe that is a queue. The endpoints hold the document's handshake by
//! themselves.
//!
//! ```
//! use glueberry_proto::endpoint::{Endpoint, Output, Write};
//! use glueberry_proto::greeting::GreetingConfig;
//! use glueberry_proto::*;
//!
//! let chat = StreamName::new("chat")?;
//! let new = |secret: u8| {
//!     let mut config = Config::default();
//!     config.streams = vec![chat.clone()];
//!     // In production both come from the operating system, and a seed is never used twice.
//!     let (identity, seed) = (Identity::from_seed(&[secret; 32]), Seed::from_bytes([secret; 32]));
//!     Endpoint::new(Instant::ZERO, identity, config, seed)?.greeting(GreetingConfig::default())
//! };
//! let (mut a, mut b) = (new(1)?, new(2)?);
//! let (now, a_key, b_key) = (Instant::ZERO, a.node().public_key(), b.node().public_key());
//! a.add_peer(now, b_key, &[Address::new("queue")])?;
//! a.connect(now, b_key)?;
//!
//! let mut accepted = None;
//! let mut received = Vec::new();
//! while received.is_empty() {
//!     // A's outputs: its transport is B's queue.
//!     loop {
//!         match a.poll_output(now) {
//!             Output::Dial { connection, .. } => {
//!                 a.handle_connected(now, connection, b_key);
//!                 accepted = Some((connection, b.handle_accepted(now, a_key)));
//!             }
//!             Output::Transport(Write { connection, bytes }) => {
//!                 b.handle_bytes(now, accepted.unwrap().1, &bytes);
//!                 a.handle_written(now, connection);
//!             }
//!             Output::State(event) if event.state == ConnectionState::Established => {
//!                 a.send(now, b_key, &chat, "hello".into())?;
//!             }
//!             Output::Timeout(_) => break,
//!             _ => {}
//!         }
//!     }
//!     // B's.
//!     loop {
//!         match b.poll_output(now) {
//!             Output::Transport(Write { connection, bytes }) => {
//!                 a.handle_bytes(now, accepted.unwrap().0, &bytes);
//!                 b.handle_written(now, connection);
//!             }
//!             Output::Message { message, .. } => received.push(message),
//!             Output::Timeout(_) => break,
//!             _ => {}
//!         }
//!     }
//! }
//! assert_eq!(received, ["hello"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod carry;
mod commands;
mod connection;
mod driver;
mod greeter;
mod inputs;
mod memory;
mod output;
mod owed;
mod pipes;
mod poll;
mod substreams;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;

use self::connection::{Connection, Link};
pub use self::driver::{Driver, Pipe};
use self::greeter::Greeter;
use self::memory::Account;
pub use self::output::Output;
pub use self::pipes::{Pipes, Write};
pub use self::substreams::{SubstreamOutput, Substreams};
use crate::config::{Config, ConfigError};
use crate::crypto::{Identity, PublicKey};
use crate::greeting::{Greeting, GreetingConfig};
use crate::id::{ConnectionId, Counter, DialId, SessionId};
use crate::node::Node;
use crate::seed::Seed;
use crate::session::{Direction, Naming};
use crate::time::Instant;
use crate::wire::StreamName;

/// A node with its sessions and connections, in one value. See the [module](self).
///
/// Inputs (`handle_*`) never fail, commands (plain verbs) return an error or are accepted, and
/// [`poll_output`](Self::poll_output) says what is wanted. An input about a connection that is closed
/// does nothing.
#[derive(Debug)]
pub struct Endpoint<T: Transport = Pipes> {
    node: Node,
    transport: T,
    /// The latest time that an input has brought.
    now: Instant,
    connections: BTreeMap<ConnectionId, Connection<T::Link>>,
    ids: Counter,
    dials: BTreeMap<DialId, ConnectionId>,
    sessions: BTreeMap<SessionId, ConnectionId>,
    /// When each connection is due. One entry each, as in [`Connection::due`].
    timers: BTreeSet<(Instant, ConnectionId)>,
    /// Connections that may have something to be carried out. Each is here at most once.
    touched: VecDeque<ConnectionId>,
    /// Connections that may have events. Each is here at most once.
    eventful: VecDeque<ConnectionId>,
    /// Streams that have messages, in the order of their turns. Each is here at most once.
    readable: VecDeque<(ConnectionId, StreamName)>,
    /// Streams whose messages the application does not want now.
    paused: BTreeSet<(PublicKey, StreamName)>,
    account: Account,
    outputs: VecDeque<Output<T::Output>>,
    greeter: Option<Greeter>,
}

/// What carries the substreams of an [`Endpoint`]: [`Pipes`] or [`Substreams`].
pub trait Transport: sealed::Transport {}

impl<T: sealed::Transport> Transport for T {}

mod sealed {
    #[expect(unnameable_types, reason = "nobody else implements it")]
    pub trait Transport: core::fmt::Debug {
        /// What is asked of the driver.
        type Output: core::fmt::Debug;
        /// What there is of one connection.
        type Link: super::Link<Output = Self::Output>;

        fn naming(&self) -> super::Naming;
        fn link(&self, now: super::Instant, side: super::Direction) -> Option<Self::Link>;
    }
}

impl Endpoint {
    /// Makes an endpoint over pipes. `seed` must be fresh from the operating system, unless the run
    /// is to be replayed: see [`Seed`].
    ///
    /// # Errors
    ///
    /// Names the field of `config` that cannot work, or the seed if it is of zeros.
    pub fn new(
        now: Instant,
        identity: impl Into<Arc<Identity>>,
        config: Config,
        seed: Seed,
    ) -> Result<Self, ConfigError> {
        Ok(Self::over(now, Pipes::default(), Node::new(now, identity, config, seed)?))
    }
}

impl Endpoint<Substreams> {
    /// Makes an endpoint over a transport with substreams of its own.
    ///
    /// # Errors
    ///
    /// Names the field of `config` that cannot work, or the seed if it is of zeros.
    pub fn over_substreams(
        now: Instant,
        identity: impl Into<Arc<Identity>>,
        config: Config,
        seed: Seed,
        naming: Naming,
    ) -> Result<Self, ConfigError> {
        Ok(Self::over(now, Substreams::new(naming), Node::new(now, identity, config, seed)?))
    }
}

impl<T: Transport> Endpoint<T> {
    fn over(now: Instant, transport: T, node: Node) -> Self {
        Self {
            account: Account::new(node.config()),
            node,
            transport,
            now,
            connections: BTreeMap::new(),
            ids: Counter::default(),
            dials: BTreeMap::new(),
            sessions: BTreeMap::new(),
            timers: BTreeSet::new(),
            touched: VecDeque::new(),
            eventful: VecDeque::new(),
            readable: VecDeque::new(),
            paused: BTreeSet::new(),
            outputs: VecDeque::new(),
            greeter: None,
        }
    }

    /// Has the endpoint hold the document's handshake by itself, with every peer, for the streams of
    /// its [`Config::streams`].
    ///
    /// # Errors
    ///
    /// Names the field of `config` that cannot work.
    pub fn greeting(mut self, config: GreetingConfig) -> Result<Self, ConfigError> {
        let own = self.node.public_key();
        // A trial, so that none fails later.
        Greeting::new(self.now, own, own, config)?;
        self.greeter = Some(Greeter::new(config, self.node.config().streams.clone()));
        Ok(self)
    }

    /// Returns the node, to ask it things: states, the address book, the configuration.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Returns whether nothing is left to wait for after [`shutdown`](Self::shutdown). False before it.
    pub fn is_idle(&self) -> bool {
        self.node.is_idle() && self.connections.is_empty() && self.outputs.is_empty()
    }

    /// Returns how many bytes of [`node_memory`](Config::node_memory) are in use: messages that were
    /// not taken, and long ones that are being received. What fits in the windows of the transport
    /// comes on top, see [`connection_window`](crate::mux::Config::connection_window).
    pub const fn memory_used(&self) -> usize {
        self.account.used()
    }

    // ---- parts --------------------------------------------------------------------------------

    fn add_connection(&mut self, dial: Option<DialId>) -> ConnectionId {
        let id = ConnectionId::new(self.ids.next());
        self.connections.insert(id, Connection::new(dial, self.now));
        id
    }

    fn close(&mut self, connection: ConnectionId, code: u64) {
        self.outputs.push_back(Output::Close { connection, code });
    }

    /// Forgets a connection that has no session any more.
    fn forget(&mut self, id: ConnectionId) {
        if let Some(it) = self.connections.remove(&id) {
            if let Some(at) = it.due {
                self.timers.remove(&(at, id));
            }
            if let Some((peer, bytes)) = it.charged {
                self.account.change(peer, bytes, 0);
                self.touch_starved();
            }
            self.touched.retain(|other| *other != id);
            self.eventful.retain(|other| *other != id);
            self.readable.retain(|(other, _)| *other != id);
        }
    }
}
