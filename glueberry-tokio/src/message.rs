//! A message as the application receives it.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use glueberry_proto::StreamName;
use libp2p_identity::PeerId;

/// The name under which handshake messages are sent and received.
pub const HANDSHAKE: &str = "handshake";

/// A message of a peer.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::HANDSHAKE;
///
/// let (alice, bob) = pair().await?;
/// let mut messages = bob.messages().expect("the first call gets them");
/// alice.send(bob.peer_id(), "chat", "hello").await?;
/// let message = messages.recv().await.expect("it runs");
/// assert_eq!((message.stream(), message.is_handshake()), ("chat", false));
/// assert_ne!(message.stream(), HANDSHAKE);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Who sent it.
    pub peer: PeerId,
    /// What was sent.
    pub data: Bytes,
    /// When it was received here, by this machine's calendar clock.
    pub received_at: SystemTime,
    stream: Option<StreamName>,
}

/// Where messages come from, and when they came.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) peer: PeerId,
    pub(crate) stream: Option<StreamName>,
    pub(crate) received_at: SystemTime,
}

impl Message {
    pub(crate) fn new(source: &Source, data: Bytes) -> Self {
        let Source { peer, stream, received_at } = source;
        Self { peer: *peer, data, received_at: *received_at, stream: stream.clone() }
    }

    /// Returns the stream's name; [`HANDSHAKE`] for a handshake message.
    pub fn stream(&self) -> &str {
        self.stream.as_ref().map_or(HANDSHAKE, StreamName::as_str)
    }

    /// Returns the named stream, or `None` for a handshake message.
    pub const fn stream_name(&self) -> Option<&StreamName> {
        self.stream.as_ref()
    }

    /// Returns whether it was said in the handshake: unencrypted but for the transport.
    pub const fn is_handshake(&self) -> bool {
        self.stream.is_none()
    }
}

/// Shows the length of the data and not the data.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("peer", &self.peer)
            .field("stream", &self.stream())
            .field("len", &self.data.len())
            .finish_non_exhaustive()
    }
}
