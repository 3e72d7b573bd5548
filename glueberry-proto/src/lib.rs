//! Sans-IO core of Glueberry: named, encrypted message streams to peers known by key.
//!
//! The core has no I/O, no clock, no threads, no ambient randomness and no async. Bytes, time,
//! entropy and commands go in; bytes, actions, events and messages come out. An adapter connects it
//! to a transport: raw QUIC (`glueberry-tokio`), a libp2p swarm (`glueberry-libp2p`), a simulator
//! (`glueberry-sim`), or an event loop of your own.
//!
//! ```text
//!             application
//!    commands │        ▲ ConnectionEvent       commands │      ▲ Event, messages
//!             ▼        │                                ▼      │
//!         ┌──────────────────┐  ToSession / ToNode  ┌──────────────────┐ one per connection,
//!         │       Node       │◄────────────────────►│     Session      │ owned by its task
//!         │ policy, no bytes │   (opaque values)    │ handshake, keys, │
//!         └──────┬───────────┘                      │ streams, framing │
//!      NodeAction│ ▲ connections, dial results      └───┬──────────▲───┘
//!                ▼ │                              Action │          │ handle_*, bytes
//!              adapter                                   ▼          │
//!                                         SubstreamBuffer per substream ── transport
//! ```
//!
//! **The transport authenticates** (rule C0). The caller that hands in a connection vouches for the peer's key:
//! the core cannot check it, and with a key that a peer merely claims both sides become Established with
//! an attacker in between. Plain TCP, a serial line and a WebSocket prove nothing. Run TLS with
//! certificates that carry the identity, as libp2p's do, or Noise, or sign with [`Identity::sign`] what
//! ties the key to the transport's own handshake.
//!
//! | to do this | look at |
//! |---|---|
//! | drive the core from one thread | [`endpoint`]: one value, one rule |
//! | drive it with a task for each connection | [`Node`], [`Session`], [`SubstreamBuffer`], and the loop below |
//! | run it over one pipe of bytes (TCP with TLS, a WebSocket, a serial line) | [`endpoint`], or [`mux`] alone |
//! | keep messages outside of a session until the transport takes them | [`SendQueue`], [`MessageSource`] |
//! | store peers and bans | [`book`], [`WallTime`] |
//! | exchange the document's Hello, PubKey and Complete in the handshake | [`greeting`], [`ProtocolVersion`] |
//! | write a program that runs in the simulator and on real connections | [`handler`] |
//! | find why nothing happens | [`Session::owed`], [`Node::owed`], [`endpoint::Endpoint::owed`]; `MISUSE.md` says what each mistake leads to |
//! | write an adapter, or test against another implementation | [`wire`], [`crypto`] |
//! | call the document's cryptographic operations | [`compat`] |
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | node | one running Glueberry identity (an Ed25519 key); its machine is [`Node`] |
//! | peer | another node |
//! | connection | one transport connection to a peer (a QUIC or libp2p connection) |
//! | substream | one ordered, reliable byte stream of the transport inside a connection |
//! | session | one attempt over one connection: handshake substream, keys, streams, until its end; its machine is [`Session`] |
//! | stream | a *named* message stream of the application, carried by substreams of a session |
//! | message | what the application sends: bytes with boundaries |
//! | frame, record | a message's bytes as delimited on a substream; the sealed bytes |
//! | profile | a version of the protocol between two sessions, agreed with the handshake substream: v1, as the document has it, or v1-go, as Go nodes have it; see [`Profile`] |
//! | command, action | a call of the application; a request to the adapter that must be carried out now |
//! | adapter | the code between the core and a transport; it also carries messages between node and sessions |
//! | view | what an adapter lets its handles read of one peer without asking the node; the core has none |
//!
//! # The rules
//!
//! C0 is the adapter's part: the core cannot check it. Each other rule has a property test whose name
//! begins with its number (`tests/core/rules`, `tests/memory`), and a patch that breaks the rule and
//! makes that test fail (`hunts/`).
//!
//! | # | rule |
//! |---|---|
//! | C0 | The transport authenticates: the caller that hands in a connection vouches for the peer's key. |
//! | C1 | Inputs never fail and never panic, whatever the remote sends. |
//! | C2 | A session ends with exactly one [`Event::Closed`]; after it inputs do nothing and no timer is armed; messages already received can still be taken. |
//! | C3 | A command that returns an error has itself changed nothing (due timers may have fired first, C7). |
//! | C4 | When outputs are drained does not change what is delivered per stream, its order, or the events. (Where records are cut, and when a queue says full, may differ.) |
//! | C5 | How bytes are cut into inputs does not change what each stream delivers or the events. |
//! | C6 | Actions (must be done now) and messages (may lag) are separate queues. A slow reader of one stream pauses that stream only. Nothing is dropped silently. |
//! | C7 | Every input and command carries `now` and first does what `handle_timeout(now)` would; an earlier `now` counts as the latest seen. `poll_*` carry none. |
//! | C8 | `poll_timeout` is pure and lies strictly ahead of the latest `now`; early or spurious `handle_timeout` is harmless. |
//! | C9 | Bytes handed out for a substream are committed: write them in order, or reset it. |
//! | C10 | Memory is bounded by the configuration ([`Config::session_memory_bound`], [`Config::node_memory_bound`]), whatever the remote does. |
//! | C11 | Same configuration, seed, inputs and polls give the same outputs, byte for byte, on every platform. |
//! | C12 | Every id is allocated by a machine, none by an adapter. |
//!
//! # Strangers
//!
//! Keys cost nothing to make. So a peer that has dialled, is not in the address book and is not
//! [protected](Node::protect) is a *stranger*, and takes nothing from others:
//!
//! - strangers have no more sessions than [`Config::reserved_sessions`] and the known peers leave, and
//!   give them up at once when a known, dialled or protected peer needs the place;
//! - [`Config::max_pending_sessions`] of theirs may be without an agreed handshake substream, for
//!   [`Config::negotiation_timeout`]; a further one ends the oldest of them;
//! - above [`Config::sessions_high`] those are pruned first that are not Established, the oldest first,
//!   and no more than the excess is pruned. A peer that was pruned is not refused;
//! - a stranger's cooldown or refusal is forgotten when [`Config::max_peers`] are held, and bans of
//!   which nothing else is known have a limit of their own, [`Config::max_bans`];
//! - their events leave a quarter of [`Config::event_queue`] free.
//!
//! One peer may open [`Config::max_sessions_per_minute`]. The core sees no addresses: how often
//! strangers of one network may come is the adapter's to decide ([`Rates`], [`Node::is_stranger`]), and
//! so is the account of bytes over all sessions ([`Config::memory_limits`]).
//!
//! The document's watermarks prune down to the low one, any peer. Here
//! [`Config::sessions_low`] is only for strangers that should have been Established long ago: else a
//! few hundred throw-away keys would have every other peer disconnected.
//!
//! # Features and speed
//!
//! | feature | default | gives |
//! |---|---|---|
//! | `std` | yes | what the two below and `aws-lc-rs` need. Without it the core needs `core` and `alloc`; `firmware/run` runs two nodes so on a Cortex-M4 in QEMU, with 512 KiB of heap for both |
//! | `multiformats` | yes | conversions from and to libp2p's `PeerId` and `Multiaddr` |
//! | `serde` | yes | the address book's file |
//! | `os-seed` | no | [`Seed`]`::from_os` |
//! | `aws-lc-rs` | no | ChaCha20-Poly1305, AES-256-GCM and X25519 in C and assembly; needs a C compiler |
//! | `ml-kem` | no | ML-KEM-768 in v2's key exchange, beside X25519. The adapters turn it on |
//! | `aes-gcm` | no | AES-256-GCM in Rust, for v2 on processors with instructions for it |
//!
//! The default is in Rust, for every platform, and needs no flags. Nanoseconds for one message from
//! `send` over two sessions to `poll_message`, on one core of a shared x86-64 server with AVX2 (median of
//! three runs of 21 rounds). *Bare frames* are as many bytes, each message sealed, copied and opened by the
//! same AEAD without a session; v2 puts many small messages into a record, as *bare records* do:
//!
//! | message | default | bare frames | bare records | `aws-lc-rs` | bare frames | bare records |
//! |---|---|---|---|---|---|---|
//! | v1, 64 B | 647 | 484 | 105 | 527 | 374 | 64 |
//! | v1, 1 KiB | 2521 | 2266 | 1488 | 1474 | 1183 | 837 |
//! | v2, 64 B | 229 | 489 | 105 | 190 | 385 | 72 |
//! | v2, 1 KiB | 1881 | 2263 | 1483 | 1058 | 1170 | 837 |
//!
//! What stands between the default and `aws-lc-rs` at 1 KiB, 1.7 times, is ChaCha20: the crate `chacha20`
//! makes four blocks at a time, `aws-lc-rs` eight, interleaved with the authenticator. Texts of at most
//! 4 KiB are authenticated by code of this crate, because `poly1305` prepares each key in a function that
//! is not compiled for AVX2 where it finds that at run time only. To repeat it:
//! `cargo bench -p glueberry-proto --bench messages`, the same with `--features aws-lc-rs`, and
//! `--bench crypto` for sealing and opening alone.
//!
//! [`PublicKey::from_bytes`] checks a point of the curve, which takes as long as a key agreement, in
//! WebAssembly above 0.1 ms. A [`PublicKey`] is `Copy` and is its own name for a peer: make it once,
//! where the key enters the program, and never per message.
//!
//! # The loop
//!
//! Every adapter runs the same loop:
//!
//! 1. hand in what happened (`handle_*`, commands);
//! 2. carry out all actions;
//! 3. move bytes both ways on every substream that is ready;
//! 4. take events, and messages while the application has room for them;
//! 5. arm the timer for `poll_timeout`.
//!
//! Here two nodes connect over a transport that consists of two queues of bytes. It has no names for
//! substreams, so the sessions write a name preamble on each ([`Naming::Preamble`]).
//!
//! ```
//! use std::collections::BTreeMap;
//! use glueberry_proto::*;
//!
//! /// One side: a node, its session, and the buffers of its substreams.
//! struct Side {
//!     node: Node,
//!     session: Option<Session>,
//!     buffers: BTreeMap<SubstreamId, (usize, SubstreamBuffer)>,
//! }
//!
//! impl Side {
//!     fn new(secret: u8) -> Self {
//!         let mut config = Config::default();
//!         config.streams = vec![StreamName::new("chat").unwrap()];
//!         // In production both come from the operating system, and a seed is never used twice.
//!         let identity = Identity::from_seed(&[secret; 32]);
//!         let seed = Seed::from_bytes([secret; 32]);
//!         let node = Node::new(Instant::ZERO, identity, config, seed).unwrap();
//!         Self { node, session: None, buffers: BTreeMap::new() }
//!     }
//!
//!     /// Carries out all actions. `opened` counts the transport's substreams.
//!     fn act(&mut self, now: Instant, opened: &mut usize) {
//!         while let Some(session) = &mut self.session {
//!             if let Some(NodeAction::Forward { message, .. }) = self.node.poll_action() {
//!                 session.handle_node_message(now, message);
//!                 continue;
//!             }
//!             let Some(action) = session.poll_action() else { break };
//!             match action {
//!                 Action::OpenSubstream { substream, .. } => {
//!                     self.buffers.insert(substream, (*opened, SubstreamBuffer::new(substream)));
//!                     *opened += 1;
//!                     session.handle_opened(now, substream, None);
//!                 }
//!                 Action::ResumeRead(id) => self.buffers.get_mut(&id).unwrap().1.resume(session, now),
//!                 Action::Forward(message) => {
//!                     self.node.handle_session_message(now, session.id(), message);
//!                 }
//!                 // This loop writes whenever it can, and its transport never closes.
//!                 _ => {}
//!             }
//!         }
//!     }
//!
//!     /// Moves the bytes of every substream to the other side.
//!     fn pump(&mut self, now: Instant, other: &mut Side) {
//!         let (Some(session), Some(peer)) = (&mut self.session, &mut other.session) else { return };
//!         for (wire, buffer) in self.buffers.values_mut() {
//!             while let Some(chunk) = buffer.chunk(session) {
//!                 let bytes = chunk.split_off(0);
//!                 if !other.buffers.values().any(|(theirs, _)| theirs == wire) {
//!                     let id = peer.handle_accepted(now, None);
//!                     other.buffers.insert(id, (*wire, SubstreamBuffer::new(id)));
//!                 }
//!                 let mut theirs = other.buffers.values_mut().filter(|(theirs, _)| theirs == wire);
//!                 let (_, theirs) = theirs.next().unwrap();
//!                 theirs.append(peer, now, &bytes);
//!                 theirs.received(peer, now);
//!             }
//!         }
//!     }
//! }
//!
//! let (mut a, mut b) = (Side::new(1), Side::new(2));
//! let (now, mut opened) = (Instant::ZERO, 0);
//! let (a_key, b_key) = (a.node.public_key(), b.node.public_key());
//!
//! // A dials B. The transport connects and authenticates both sides (rule C0).
//! a.node.add_peer(now, b_key, &[Address::new("memory")]).unwrap();
//! a.node.connect(now, b_key).unwrap();
//! let Some(NodeAction::Dial { dial, .. }) = a.node.poll_action() else { panic!() };
//! for (side, peer, origin) in
//!     [(&mut a, b_key, Origin::Dialled(dial)), (&mut b, a_key, Origin::Accepted)]
//! {
//!     let connection = NewConnection { peer, origin, naming: Naming::Preamble };
//!     let Admission::Accept(session) = side.node.handle_connection(now, connection) else { panic!() };
//!     side.session = Some(*session);
//! }
//! let mut run = |a: &mut Side, b: &mut Side| {
//!     for _ in 0..8 {
//!         a.act(now, &mut opened);
//!         a.pump(now, b);
//!         b.act(now, &mut opened);
//!         b.pump(now, a);
//!     }
//! };
//! run(&mut a, &mut b);
//! assert_eq!(a.node.state(b_key), ConnectionState::Connected);
//!
//! // The handshake: its messages belong to the application. Then both phases on both sides.
//! let chat = StreamName::new("chat").unwrap();
//! for (side, key) in [(&mut a, b_key), (&mut b, a_key)] {
//!     let session = side.session.as_mut().unwrap();
//!     session.send_handshake(now, "hello".into()).unwrap();
//!     session.prepare_streams(now, key, &[chat.clone()]).unwrap();
//!     session.finalize_handshake(now).unwrap();
//! }
//! run(&mut a, &mut b);
//! assert_eq!(b.node.state(a_key), ConnectionState::Established);
//!
//! // Messages.
//! a.session.as_mut().unwrap().send(now, &chat, "a message".into()).unwrap();
//! run(&mut a, &mut b);
//! assert_eq!(b.session.as_mut().unwrap().poll_message(&chat).unwrap(), "a message");
//! ```

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod address;
pub mod book;
mod buffer;
mod close_code;
pub mod compat;
mod config;
pub mod crypto;
mod drop_guard;
pub mod endpoint;
mod error;
pub mod greeting;
pub mod handler;
mod id;
mod memory;
mod message;
pub mod mux;
mod node;
mod owed;
mod prelude;
mod seed;
mod send_queue;
mod session;
mod session_info;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
mod text;
mod time;
mod v2;
mod version;
mod wall;
pub mod wire;

pub use address::Address;
pub use buffer::{READ_CHUNK, SubstreamBuffer, WRITE_CHUNK};
pub use close_code::CloseCode;
#[cfg(feature = "serde")]
pub use config::duration;
pub use config::{Config, ConfigError, Problem, ReconnectPolicy};
pub use crypto::{Identity, PublicKey};
pub use error::{
    CloseReason, ConnectError, ConnectionLost, DialError, HandshakeError, PeerError,
    PeerMisbehaved, RecordError, RefuseReason, SendError,
};
pub use id::{ConnectionId, DialId, SessionId, SubstreamId};
pub use memory::MemoryLimits;
pub use message::{ToNode, ToSession};
pub use node::{
    Admission, ConnectionEvent, ConnectionState, NewConnection, Node, NodeAction, NodeTimer,
    Origin, PeerStatus, PeerTimer, Rates, StateReason,
};
pub use owed::{Owed, Waiting};
pub use seed::Seed;
pub use send_queue::{MessageSource, SendLimits, SendQueue};
pub use session::{
    Action, Closed, Direction, Event, Ingest, Naming, OpenError, ResetCode, Session, SubstreamEnd,
    Timer,
};
pub use session_info::SessionInfo;
pub use text::printable;
pub use time::Instant;
pub use v2::{Padding, PartialMessage, Suite, Violation};
pub use version::{ProtocolVersion, VersionError};
pub use wall::{WallTime, WallTimeError};
pub use wire::{Profile, ProtocolId, StreamName};

// Machines move into the tasks that own their connections.
const _: () = {
    const fn assert_send<T: Send>() {}
    assert_send::<Node>();
    assert_send::<Session>();
    assert_send::<endpoint::Endpoint>();
    assert_send::<endpoint::Driver<()>>();
    assert_send::<endpoint::Endpoint<endpoint::Substreams>>();
};
