//! Async Glueberry node over raw QUIC: named, encrypted message streams to peers known by key.

mod builder;
mod clock;
mod config;
mod driver;
mod error;
mod events;
mod inbox;
mod mailbox;
mod message;
mod node;
mod port;
#[cfg(feature = "quic")]
mod quic;
mod routes;
pub mod runtime;
mod session;
mod stream;
mod transport;

pub use builder::Builder;
pub use config::Config;
pub use error::{Error, ErrorCode};
pub use events::{Event, Events, StateChanged};
/// The core, for its types and for those who embed it.
pub use glueberry_proto as proto;
pub use glueberry_proto::{
    CloseReason, Closed, ConnectionState, Direction, Profile, PublicKey, StateReason, StreamName,
};
pub use inbox::Messages;
pub use message::{HANDSHAKE, Message};
pub use node::Node;
pub use stream::StreamHandle;
