//! A queue, for people who look for a cause.

use serde::Serialize;

/// The queue of a stream in a [`DebugPeer`](crate::DebugPeer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DebugQueue {
    /// The stream.
    pub stream: String,
    /// Messages that the transport has not taken yet.
    pub pending: usize,
    /// Bytes of them.
    pub pending_bytes: usize,
    /// Whether senders wait.
    pub is_blocked: bool,
}
