//! Async Glueberry node over raw QUIC: named, encrypted message streams to peers known by key.
//!
//! A [`Node`] has an Ed25519 identity, listens and dials, holds the application's two-phase
//! handshake with each peer, and carries messages on named streams, each sealed with
//! ChaCha20-Poly1305 inside QUIC's own TLS. It speaks libp2p's TLS identity, ALPN and
//! multistream-select, so any libp2p node with QUIC can dial it and be dialled.
//!
//! ```
#![doc = include_str!("../examples/minimal.rs")]
//! ```
//!
//! # What is and isn't protected
//!
//! The connection authenticates both sides by their keys and encrypts with forward secrecy: that
//! is QUIC's TLS 1.3. Inside, what is sent on a named stream is sealed once more. That helps against
//! a part of this process that sees the transport's plaintext; it is no reason to run over a
//! transport that does not authenticate.
//!
//! Two nodes of this library speak the profile v2 for that: it has forward secrecy, refuses replays,
//! and confirms its keys before Established. It has had **no outside review**. Go nodes, and nodes
//! that switch v2 off ([`Builder::profiles`]), speak a v1 profile, which has **no forward secrecy**
//! (its key is derived from the two identities and nothing else) and **no protection against replay
//! across sessions**; handshake messages are not in it at all. A peer in the address book that has spoken it is held to it: see
//! [`Event::DowngradeRefused`].
//!
//! # Delivery
//!
//! Messages of one stream arrive in order, whole, and at most once. Sending waits above a high
//! watermark. A reader that lags slows its sender down: nothing is dropped. A message that was
//! accepted is handed to the transport, or reported as unsent or in doubt when its session ends
//! ([`Event::SessionClosed`]).
//!
//! # Runtimes
//!
//! | feature | runtime |
//! |---|---|
//! | `tokio` (default) | [`runtime::TokioRuntime`] |
//! | `smol` | `runtime::AnyRuntime::smol` |
//! | `async-std` | `runtime::AnyRuntime::async_std`; discontinued upstream (RUSTSEC-2025-0052), prefer smol |
//! | `async-io` | `runtime::AnyRuntime::new`: any executor that can spawn |
//!
//! Each runs QUIC by itself; no tokio runtime drives a node on the others.
//!
//! # Further features
//!
//! | feature | adds |
//! |---|---|
//! | `quic` (default) | raw QUIC: [`Builder::build`] |
//! | `dnsaddr` | addresses such as `/dnsaddr/example.org`, which stand for a list in DNS |
//! | `prometheus` | `prometheus::PrometheusMetrics`: metrics for Prometheus, and a Grafana dashboard |
//! | `http` | `http::router`: `/health`, `/ready`, `/metrics` and `/debug` |
//! | `opentelemetry` | `TraceContext::of` and `continue_in`: one trace over several nodes |
//! | `config` | `ConfigLoader`: a [`Config`] from files and environment variables |
//! | `test-util` | `test_util`: nodes without sockets, scripted peers, captured metrics and logs |
//!
//! # Transports
//!
//! [`Builder::build`] takes raw QUIC; the crate `glueberry-libp2p` has libp2p, and [`adapter`] is how
//! to bring a transport of your own.
//!
//! # Logs
//!
#![doc = include_str!("../LOGGING.md")]
//!
//! # Inside
//!
//! A node is one task that owns the core's node, and one task per connection that owns the core's
//! session. Handles share two things with them: the view of each peer, which the node's task
//! publishes and all others read, and the queues of the session that is current.
//!
//! ```text
//! handle ── commands ──────────────► node's task ── actions ──► transport
//!   ▲  │                              │   ▲   │
//!   │  │     views, events            │   │   │ commands, in order
//!   ├──┼──────────────────────────────┘   │   ▼
//!   │  └──── messages ───► send queues ──►session's task ◄──► connection
//!   └─────── messages ◄─── inbox ◄────────┘
//! ```
//!
//! A message waits in one queue on its way out and in two on its way in, besides the transport's:
//!
//! ```text
//! send ─► send queue ──┬─► write buffer ─► transport ═══ transport ─► read buffer ─┐
//!         of the stream│   (64 KiB,                                   (one message,│
//!                   sealed  sealed)                                    sealed)  opened
//!                                                                                  │
//!                             recv ◄── inbox of the reader ◄── receive queue ◄─────┘
//!                                      (all sessions)          of the stream
//! ```
//!
//! - A sender puts a reference into the stream's send queue, under its session's lock. There is one
//!   rule for watermarks, that of [`SendQueue`](proto::SendQueue).
//! - When the transport can take bytes, as many messages as fit into a write buffer are taken, and
//!   sealed into it without the lock: the one copy on the way out. The session's task does so, or the
//!   sender of a message before which nothing waits, in its own turn.
//! - What arrives is opened where it lies, and is handed on by reference.
//! - The reader takes the inbox's whole queue and hands out what was in it.
//!
//! What peers make the node hold is counted in bytes, in one account: parts of messages, what waits in
//! sessions and inboxes, what ended sessions have left, QUIC's windows, and what yamux holds. All peers may have
//! [`node_memory`](proto::Config::node_memory) (256 MiB), strangers half of that, and one peer
//! [`peer_memory`](proto::Config::peer_memory) (32 MiB).
//!
//! - Where a limit is reached, substreams are not read, and flow control slows the sender. 128 KiB of
//!   each peer are always read.
//! - A message of more than 64 KiB is charged as a whole before more of it is read. So messages do not
//!   wait for each other's rest. Each must be complete within
//!   [`message_timeout`](proto::Config::message_timeout) and a second per 64 KiB.
//! - A QUIC connection begins with a window of 64 KiB for all substreams together, and gets
//!   [`stream_window`](Config::stream_window) for each, charged, from Established on, while less than
//!   half of each limit is used. Without that, substreams of the connection share what there is.
//! - What an ended session has left waits for its reader, charged as before. Above
//!   [`max_sessions`](proto::Config::max_sessions) such sessions the next one's messages are dropped,
//!   with an [`Event::MessagesDropped`].
//!
//! In all that is [`node_memory_bound`](proto::Config::node_memory_bound), 481 MiB by default. What
//! the application itself queues to be sent is not in it, nor are the windows of a swarm of its
//! own.
//!
//! Handshake commands go by way of the node's task, which knows the session that is current, and
//! so do their answers: once a future is ready, the peer's view shows its effect.
//!
//! The task or sender that drives a session takes it out of its place, and no other task waits for it.
//! No lock is held while metrics, `tracing` or wakers run. Two locks are held at a time only where a
//! change of state is published: the table of views, then the list of subscribers, then the queue of
//! one subscriber, in this order.
//!
//! `DOCUMENT.md` says where each name of the architecture document lives here.

pub mod adapter;
mod address;
mod book_storage;
mod builder;
mod clock;
mod command;
mod config;
mod connection;
mod debug;
mod entropy;
mod error;
mod event;
mod events;
mod greet;
mod handler;
mod health;
#[cfg(feature = "http")]
pub mod http;
pub mod identity;
mod inbox;
#[cfg(feature = "config")]
mod load;
mod mailbox;
mod memory;
mod message;
mod metrics;
mod negotiations;
mod network;
mod node;
mod node_task;
mod path;
mod peers;
#[cfg(feature = "prometheus")]
pub mod prometheus;
#[cfg(feature = "quic")]
mod quic;
mod readers;
mod request;
pub mod runtime;
mod session;
mod session_handle;
mod shared;
mod span;
mod start;
mod stats;
pub mod store;
mod store_thread;
mod stream;
mod telemetry;
#[cfg(feature = "test-util")]
pub mod test_util;
mod trace_context;
mod transport;
mod views;
mod waiters;

pub use address::{AddressError, AddressProblem};
pub use builder::Builder;
pub use config::{Config, Delivery};
pub use debug::{DebugBook, DebugPeer, DebugQueue, DebugSession, DebugState};
pub use error::{Error, ErrorCode};
pub use event::{BookTrouble, Event, StateChanged};
pub use events::{EventFilter, Events};
/// The core, for its types and for those who embed it.
pub use glueberry_proto as proto;
pub use glueberry_proto::{
    CloseReason, Closed, ConnectionState, Direction, Padding, Profile, ProtocolVersion, PublicKey,
    ReconnectPolicy, SessionInfo, StateReason, StreamName, Suite,
};
pub use greet::{Candidate, Handshake};
pub use handler::run_handler;
pub use health::{CheckName, Health, HealthCheck};
pub use inbox::Messages;
#[cfg(feature = "config")]
pub use load::{ConfigLoadError, ConfigLoader};
pub use message::{HANDSHAKE, Message};
pub use metrics::{AttemptOutcome, HandshakeOutcome, Metrics, NoMetrics};
pub use multiaddr::{self, Multiaddr};
pub use node::{ConnectedPeer, Node};
pub use peers::PeerEntry;
pub use request::{IncomingRequests, Request, RequestError, RequestLimits, Requester};
pub use stats::{PeerStats, StreamStats};
pub use stream::StreamHandle;
pub use trace_context::{ExtractError, TraceContext, TraceParentError};
