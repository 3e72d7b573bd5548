//! Sans-IO core of Glueberry: named, encrypted message streams to peers known by key.

mod buffer;
mod config;
pub mod crypto;
mod error;
mod fault;
mod id;
mod message;
mod node;
mod seed;
mod session;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
mod time;
pub mod wire;

pub use buffer::{READ_CHUNK, SubstreamBuffer, WRITE_CHUNK};
pub use config::{Config, ConfigError, Problem};
pub use crypto::{Identity, PublicKey};
pub use error::{
    AddPeerError, CloseReason, ConnectError, ConnectionLost, DialError, FinalizeError,
    PeerMisbehaved, PrepareError, RecordError, RefuseReason, SendError,
};
pub use id::{ConnectionId, DialId, SubstreamId};
pub use message::{ToNode, ToSession};
pub use node::{
    Address, Admission, ConnectionEvent, ConnectionState, NewConnection, Node, NodeAction, Origin,
    StateReason,
};
pub use seed::Seed;
pub use session::{
    Action, Closed, Direction, Event, Ingest, Naming, OpenError, ResetCode, Session, SubstreamEnd,
};
pub use time::Instant;
pub use wire::{Profile, ProtocolId, StreamName};
