//! What a node counts, for whatever collects it.

use std::fmt;
use std::time::Duration;

use glueberry_proto::{ConnectionState, Direction};

/// Receives every count and measurement of a node; see
/// [`Builder::metrics`](crate::Builder::metrics).
///
/// Each method does nothing unless it is overridden. They are called from the node's tasks and
/// from handles, between two messages: they must be quick, must not block and must not call back
/// into the node. Units are in the names or the types; stream names are those that the
/// application has prepared, and `handshake`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use glueberry_tokio::{AttemptOutcome, Metrics, Node, identity::Keypair};
///
/// /// Counts attempts to connect that came to nothing, and nothing else.
/// #[derive(Debug, Default)]
/// struct Failures(AtomicU64);
///
/// impl Metrics for Failures {
///     fn connection_attempt(&self, outcome: AttemptOutcome) {
///         if outcome == AttemptOutcome::Failure {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let failures = Arc::new(Failures::default());
/// let mut config = glueberry_tokio::Config::default();
/// config.core.dial_timeout = std::time::Duration::from_millis(200);
/// let identity = Keypair::generate_ed25519();
/// let node = Node::builder(identity).config(config).metrics(failures.clone()).build().await?;
/// let absent = Keypair::generate_ed25519().public().to_peer_id();
/// node.add_peer(absent, ["/ip4/127.0.0.1/udp/9/quic-v1".parse()?]).await?;
/// node.connect(absent).await.unwrap_err();
/// assert_eq!(failures.0.load(Ordering::Relaxed), 1);
/// # Ok(())
/// # }
/// ```
pub trait Metrics: fmt::Debug + Send + Sync + 'static {
    /// A peer came to be Connected.
    fn connection_opened(&self, direction: Direction) {
        let _ = direction;
    }

    /// A peer that was Connected or Established no longer is.
    fn connection_closed(&self, direction: Direction) {
        let _ = direction;
    }

    /// An attempt to connect has come to its end.
    fn connection_attempt(&self, outcome: AttemptOutcome) {
        let _ = outcome;
    }

    /// The time from Connected to Established.
    fn handshake_duration(&self, duration: Duration) {
        let _ = duration;
    }

    /// A handshake has come to its end.
    fn handshake_result(&self, outcome: HandshakeOutcome) {
        let _ = outcome;
    }

    /// A message of `bytes` bytes was queued for sending.
    fn message_sent(&self, stream: &str, bytes: usize) {
        let _ = (stream, bytes);
    }

    /// A message of `bytes` bytes was received and handed to its reader.
    fn message_received(&self, stream: &str, bytes: usize) {
        let _ = (stream, bytes);
    }

    /// Messages of these sizes, in bytes, were queued for sending. Calls
    /// [`message_sent`](Self::message_sent) for each: what only counts is quicker with a method of its own.
    fn messages_sent(&self, stream: &str, sizes: &mut dyn Iterator<Item = usize>) {
        sizes.for_each(|bytes| self.message_sent(stream, bytes));
    }

    /// Messages of these sizes, in bytes, were received and handed to their reader. Calls
    /// [`message_received`](Self::message_received) for each.
    fn messages_received(&self, stream: &str, sizes: &mut dyn Iterator<Item = usize>) {
        sizes.for_each(|bytes| self.message_received(stream, bytes));
    }

    /// A stream of a session became ready for messages.
    fn stream_opened(&self, stream: &str) {
        let _ = stream;
    }

    /// A stream ended with its session.
    fn stream_closed(&self, stream: &str) {
        let _ = stream;
    }

    /// No key could be agreed on, so nothing can be encrypted for the peer.
    fn encryption_error(&self) {}

    /// A record did not open.
    fn decryption_error(&self) {}

    /// The keys of a session were derived.
    fn key_derivation(&self, cached: bool) {
        let _ = cached;
    }

    /// A change of state was published to subscribers.
    fn event_emitted(&self, state: ConnectionState) {
        let _ = state;
    }

    /// A subscriber was too slow for an event.
    fn event_dropped(&self) {}

    /// A received message was dropped, because its reader was too slow and the node is configured
    /// to [drop](crate::Delivery::DropNewest).
    fn message_dropped(&self, stream: &str) {
        let _ = stream;
    }

    /// A stream's queue came above its high watermark.
    fn backpressure_engaged(&self, stream: &str) {
        let _ = stream;
    }

    /// A sender has waited for room in a queue.
    fn backpressure_wait(&self, stream: &str, waited: Duration) {
        let _ = (stream, waited);
    }

    /// So many messages to one peer wait for the transport now.
    fn pending_messages(&self, stream: &str, messages: usize) {
        let _ = (stream, messages);
    }
}

/// How an attempt to connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "it succeeds or it doesn't")]
pub enum AttemptOutcome {
    /// The peer is Connected.
    Success,
    /// It could not be reached.
    Failure,
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandshakeOutcome {
    /// The session is Established.
    Success,
    /// It was rejected, or the session was lost.
    Failure,
    /// It took too long.
    Timeout,
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoMetrics;

impl Metrics for NoMetrics {
    fn messages_sent(&self, _: &str, _: &mut dyn Iterator<Item = usize>) {}

    fn messages_received(&self, _: &str, _: &mut dyn Iterator<Item = usize>) {}
}
