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
//! is QUIC's TLS 1.3. The records of the v1 profiles inside add a second layer that has **no
//! forward secrecy** (its key is derived from the two identities and nothing else) and **no
//! protection against replay across sessions**; handshake messages are not in it at all. It helps
//! against a part of this process that sees the transport's plaintext; it is no reason to run over
//! a transport that does not authenticate.
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
//! # Transports
//!
//! [`Builder::build`] takes raw QUIC; the crate `glueberry-libp2p` has libp2p, and [`adapter`] is how
//! to bring a transport of your own.
//!
//! # Logs
//!
#![doc = include_str!("../LOGGING.md")]
//!
//! Where each name of the architecture document lives here is told in `DOCUMENT.md`.

pub mod adapter;
mod builder;
mod clock;
mod config;
mod connection;
mod debug;
mod desk;
mod driver;
mod error;
mod events;
mod handler;
mod health;
mod inbox;
mod keeper;
mod mailbox;
mod message;
mod metrics;
mod node;
mod peers;
mod port;
#[cfg(feature = "quic")]
mod quic;
mod refusals;
mod routes;
pub mod runtime;
mod session;
mod stats;
pub mod store;
mod stream;
mod telemetry;
#[cfg(feature = "test-util")]
pub mod test_util;
mod transport;

pub use builder::Builder;
pub use config::{Config, Delivery};
pub use debug::{DebugBook, DebugPeer, DebugQueue, DebugState};
pub use error::{Error, ErrorCode};
pub use events::{BookTrouble, Event, EventFilter, Events, StateChanged};
/// The core, for its types and for those who embed it.
pub use glueberry_proto as proto;
pub use glueberry_proto::{
    CloseReason, Closed, ConnectionState, Direction, Profile, ProtocolVersion, PublicKey,
    ReconnectPolicy, StateReason, StreamName,
};
pub use handler::run_handler;
pub use health::{CheckName, Health, HealthCheck};
pub use inbox::Messages;
/// Identities, re-exported so that versions match.
pub use libp2p_identity as identity;
pub use message::{HANDSHAKE, Message};
pub use metrics::{AttemptOutcome, HandshakeOutcome, Metrics, NoMetrics};
pub use multiaddr::Multiaddr;
pub use node::Node;
pub use peers::PeerEntry;
pub use stats::{PeerStats, StreamStats};
pub use stream::StreamHandle;
