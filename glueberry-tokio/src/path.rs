//! What is known of the way to a peer.

use std::time::Duration;

use multiaddr::Multiaddr;

/// The way that a connection's bytes take; see [`Connection::path`](crate::adapter::Connection::path).
pub trait Path: Send + Sync {
    /// Returns the peer's address on this connection.
    fn address(&self) -> Option<Multiaddr>;

    /// Returns the transport's current estimate of the time to the peer and back.
    fn round_trip(&self) -> Option<Duration>;
}
