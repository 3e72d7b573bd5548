//! Metrics for Prometheus. Only with the feature `prometheus`.
//!
//! [`PrometheusMetrics`] is a [`Metrics`] that registers with a [`Registry`], which may be the one
//! that libp2p's own metrics are in. The names are those of the architecture document §13.4 and of
//! the original's exporter:
//!
//! | name | type | labels |
//! |---|---|---|
//! | `glueberry_connections_total`, `glueberry_connections_opened_total`, `glueberry_connections_closed_total` | counter | `direction`: inbound, outbound |
//! | `glueberry_connection_attempts_total` | counter | `result`: success, failure |
//! | `glueberry_handshake_duration_seconds` | histogram | |
//! | `glueberry_handshake_results_total` | counter | `result`: success, failure, timeout |
//! | `glueberry_messages_sent_total`, `glueberry_bytes_sent_total`, `glueberry_messages_received_total`, `glueberry_bytes_received_total` | counter | `stream` |
//! | `glueberry_streams_opened_total`, `glueberry_streams_closed_total` | counter | `stream` |
//! | `glueberry_encryption_errors_total`, `glueberry_decryption_errors_total` | counter | |
//! | `glueberry_key_derivations_total` | counter | `cached`: true, false |
//! | `glueberry_events_emitted_total` | counter | `state` |
//! | `glueberry_events_dropped_total` | counter | |
//! | `glueberry_messages_dropped_total`, `glueberry_backpressure_engaged_total` | counter | `stream` |
//! | `glueberry_backpressure_wait_seconds` | histogram | `stream` |
//! | `glueberry_pending_messages` | gauge: those to the peer that was last sent to | `stream` |
//!
//! `glueberry_connections_total` and `glueberry_connections_opened_total` are the same count, under the
//! document's and the original's name.
//!
//! Labels are bounded: the first 64 streams have their names as a label, all others together have
//! `other`. Series of the other labels are there from the start, with 0: the first increase of one that
//! is born with 1 would not be seen by `increase` and `rate`. `grafana.json` beside this crate's `Cargo.toml` is a dashboard for these names.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use glueberry_proto::{ConnectionState, Direction};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::Registry;

use crate::metrics::{AttemptOutcome, HandshakeOutcome, Metrics};

/// Counts and measures for Prometheus what a node does.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::prometheus::{PrometheusMetrics, Registry, encode};
/// use glueberry_tokio::{Node, identity::Keypair};
/// use std::sync::Arc;
///
/// let mut registry = Registry::default();
/// let metrics = PrometheusMetrics::register(&mut registry);
/// let node = Node::builder(Keypair::generate_ed25519()).metrics(Arc::new(metrics)).build().await?;
/// assert!(encode(&registry).contains("glueberry_handshake_duration_seconds"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PrometheusMetrics {
    families: Families,
    /// The metrics of each stream that has a label of its own, so that none is made per message.
    streams: RwLock<HashMap<String, OfStream>>,
}

#[derive(Debug)]
struct Families {
    connections_opened: Family<DirectionLabel, Counter>,
    connections_closed: Family<DirectionLabel, Counter>,
    connection_attempts: Family<ResultLabel, Counter>,
    handshake_results: Family<ResultLabel, Counter>,
    handshake_duration: Histogram,
    messages_sent: Family<StreamLabel, Counter>,
    bytes_sent: Family<StreamLabel, Counter>,
    messages_received: Family<StreamLabel, Counter>,
    bytes_received: Family<StreamLabel, Counter>,
    streams_opened: Family<StreamLabel, Counter>,
    streams_closed: Family<StreamLabel, Counter>,
    encryption_errors: Counter,
    decryption_errors: Counter,
    key_derivations: Family<CachedLabel, Counter>,
    events_emitted: Family<StateLabel, Counter>,
    events_dropped: Counter,
    messages_dropped: Family<StreamLabel, Counter>,
    backpressure_engaged: Family<StreamLabel, Counter>,
    backpressure_wait: WaitFamily,
    pending_messages: Family<StreamLabel, Gauge>,
}

type WaitFamily = Family<StreamLabel, Histogram, fn() -> Histogram>;

/// What is counted for one value of the label `stream`.
#[derive(Clone, Debug)]
struct OfStream {
    messages_sent: Counter,
    bytes_sent: Counter,
    messages_received: Counter,
    bytes_received: Counter,
    opened: Counter,
    closed: Counter,
    dropped: Counter,
    engaged: Counter,
    waited: Histogram,
    pending: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CachedLabel {
    cached: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabel {
    stream: String,
}

/// Writes out all metrics of a registry, in the text format that Prometheus reads.
pub fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    prometheus_client::encoding::text::encode(&mut text, registry).ok();
    text
}

impl PrometheusMetrics {
    /// Makes the metrics of one node and registers them. Nodes of one process that share a registry
    /// each get a sub-registry with a label that distinguishes them, by
    /// [`Registry::sub_registry_with_label`].
    pub fn register(registry: &mut Registry) -> Self {
        let families = Families::new();
        families.register(registry.sub_registry_with_prefix("glueberry"));
        families.begin();
        Self { families, streams: RwLock::default() }
    }

    /// Calls `count` with what is counted for a stream.
    fn of_stream(&self, stream: &str, count: impl FnOnce(&OfStream)) {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = streams.get(stream) {
            return count(known);
        }
        drop(streams);
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        let label = match streams.len() < MAX_STREAMS || streams.contains_key(stream) {
            true => stream,
            false => OTHER,
        };
        let of_stream = streams.entry(label.to_owned());
        count(of_stream.or_insert_with(|| self.families.of_stream(label)));
    }
}

impl Families {
    fn new() -> Self {
        // The buckets are the original's.
        let handshake = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let waiting: fn() -> Histogram =
            || Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]);
        Self {
            connections_opened: Family::default(),
            connections_closed: Family::default(),
            connection_attempts: Family::default(),
            handshake_results: Family::default(),
            handshake_duration: Histogram::new(handshake),
            messages_sent: Family::default(),
            bytes_sent: Family::default(),
            messages_received: Family::default(),
            bytes_received: Family::default(),
            streams_opened: Family::default(),
            streams_closed: Family::default(),
            encryption_errors: Counter::default(),
            decryption_errors: Counter::default(),
            key_derivations: Family::default(),
            events_emitted: Family::default(),
            events_dropped: Counter::default(),
            messages_dropped: Family::default(),
            backpressure_engaged: Family::default(),
            backpressure_wait: Family::new_with_constructor(waiting),
            pending_messages: Family::default(),
        }
    }

    /// Makes the series of labels whose values are known.
    fn begin(&self) {
        for direction in [Direction::Inbound, Direction::Outbound] {
            drop(self.connections_opened.get_or_create(&label_of(direction)));
            drop(self.connections_closed.get_or_create(&label_of(direction)));
        }
        for outcome in [AttemptOutcome::Success, AttemptOutcome::Failure] {
            drop(self.connection_attempts.get_or_create(&attempt_label(outcome)));
        }
        use HandshakeOutcome::{Failure, Success, Timeout};
        for outcome in [Success, Failure, Timeout] {
            drop(self.handshake_results.get_or_create(&handshake_label(outcome)));
        }
        for is_cached in [true, false] {
            drop(self.key_derivations.get_or_create(&cached_label(is_cached)));
        }
        for state in ConnectionState::ALL {
            drop(self.events_emitted.get_or_create(&state_label(state)));
        }
    }

    fn register(&self, registry: &mut Registry) {
        let Self { connections_opened, connections_closed, connection_attempts, .. } = self;
        let opened = "Peers that came to be Connected";
        registry.register("connections", opened, connections_opened.clone());
        registry.register("connections_opened", opened, connections_opened.clone());
        let closed = "Peers that no longer are Connected or Established";
        registry.register("connections_closed", closed, connections_closed.clone());
        let attempts = "Attempts to connect that have ended";
        registry.register("connection_attempts", attempts, connection_attempts.clone());
        let duration = "Seconds from Connected to Established";
        registry.register("handshake_duration_seconds", duration, self.handshake_duration.clone());
        let results = "Handshakes that have ended";
        registry.register("handshake_results", results, self.handshake_results.clone());
        let derivations = "Key derivations of sessions";
        registry.register("key_derivations", derivations, self.key_derivations.clone());
        let encryption = "Sessions for which no key could be agreed on";
        registry.register("encryption_errors", encryption, self.encryption_errors.clone());
        let decryption = "Received records that did not open";
        registry.register("decryption_errors", decryption, self.decryption_errors.clone());
        let emitted = "Changes of a peer's state that were published";
        registry.register("events_emitted", emitted, self.events_emitted.clone());
        let dropped = "Events that a subscriber was too slow for";
        registry.register("events_dropped", dropped, self.events_dropped.clone());
        self.register_streams(registry);
    }

    fn register_streams(&self, registry: &mut Registry) {
        let counters = [
            ("messages_sent", "Messages sent", &self.messages_sent),
            ("bytes_sent", "Bytes of messages sent, before sealing", &self.bytes_sent),
            ("messages_received", "Messages received", &self.messages_received),
            ("bytes_received", "Bytes of messages received", &self.bytes_received),
            ("streams_opened", "Streams that became ready for messages", &self.streams_opened),
            ("streams_closed", "Streams that ended with their session", &self.streams_closed),
            ("messages_dropped", "Received messages that were dropped", &self.messages_dropped),
            (
                "backpressure_engaged",
                "Times that a send queue reached its high watermark",
                &self.backpressure_engaged,
            ),
        ];
        for (name, help, family) in counters {
            registry.register(name, help, family.clone());
        }
        let waited = "Seconds that senders have waited for room in a queue";
        registry.register("backpressure_wait_seconds", waited, self.backpressure_wait.clone());
        let pending = "Messages that wait for the transport, to the peer last sent to";
        registry.register("pending_messages", pending, self.pending_messages.clone());
    }

    fn of_stream(&self, stream: &str) -> OfStream {
        let label = StreamLabel { stream: stream.to_owned() };
        OfStream {
            messages_sent: self.messages_sent.get_or_create_owned(&label),
            bytes_sent: self.bytes_sent.get_or_create_owned(&label),
            messages_received: self.messages_received.get_or_create_owned(&label),
            bytes_received: self.bytes_received.get_or_create_owned(&label),
            opened: self.streams_opened.get_or_create_owned(&label),
            closed: self.streams_closed.get_or_create_owned(&label),
            dropped: self.messages_dropped.get_or_create_owned(&label),
            engaged: self.backpressure_engaged.get_or_create_owned(&label),
            waited: self.backpressure_wait.get_or_create_owned(&label),
            pending: self.pending_messages.get_or_create_owned(&label),
        }
    }
}

impl Metrics for PrometheusMetrics {
    fn connection_opened(&self, direction: Direction) {
        self.families.connections_opened.get_or_create(&label_of(direction)).inc();
    }

    fn connection_closed(&self, direction: Direction) {
        self.families.connections_closed.get_or_create(&label_of(direction)).inc();
    }

    fn connection_attempt(&self, outcome: AttemptOutcome) {
        self.families.connection_attempts.get_or_create(&attempt_label(outcome)).inc();
    }

    fn handshake_duration(&self, duration: Duration) {
        self.families.handshake_duration.observe(duration.as_secs_f64());
    }

    fn handshake_result(&self, outcome: HandshakeOutcome) {
        self.families.handshake_results.get_or_create(&handshake_label(outcome)).inc();
    }

    fn message_sent(&self, stream: &str, bytes: usize) {
        self.of_stream(stream, |of_stream| {
            of_stream.messages_sent.inc();
            of_stream.bytes_sent.inc_by(wide(bytes));
        });
    }

    fn message_received(&self, stream: &str, bytes: usize) {
        self.of_stream(stream, |of_stream| {
            of_stream.messages_received.inc();
            of_stream.bytes_received.inc_by(wide(bytes));
        });
    }

    fn messages_sent(&self, stream: &str, sizes: &mut dyn Iterator<Item = usize>) {
        let (messages, bytes) = sum(sizes);
        self.of_stream(stream, |of_stream| {
            of_stream.messages_sent.inc_by(messages);
            of_stream.bytes_sent.inc_by(bytes);
        });
    }

    fn messages_received(&self, stream: &str, sizes: &mut dyn Iterator<Item = usize>) {
        let (messages, bytes) = sum(sizes);
        self.of_stream(stream, |of_stream| {
            of_stream.messages_received.inc_by(messages);
            of_stream.bytes_received.inc_by(bytes);
        });
    }

    fn stream_opened(&self, stream: &str) {
        self.of_stream(stream, |of_stream| _ = of_stream.opened.inc());
    }

    fn stream_closed(&self, stream: &str) {
        self.of_stream(stream, |of_stream| _ = of_stream.closed.inc());
    }

    fn encryption_error(&self) {
        self.families.encryption_errors.inc();
    }

    fn decryption_error(&self) {
        self.families.decryption_errors.inc();
    }

    fn key_derivation(&self, cached: bool) {
        self.families.key_derivations.get_or_create(&cached_label(cached)).inc();
    }

    fn event_emitted(&self, state: ConnectionState) {
        self.families.events_emitted.get_or_create(&state_label(state)).inc();
    }

    fn event_dropped(&self) {
        self.families.events_dropped.inc();
    }

    fn message_dropped(&self, stream: &str) {
        self.of_stream(stream, |of_stream| _ = of_stream.dropped.inc());
    }

    fn backpressure_engaged(&self, stream: &str) {
        self.of_stream(stream, |of_stream| _ = of_stream.engaged.inc());
    }

    fn backpressure_wait(&self, stream: &str, waited: Duration) {
        self.of_stream(stream, |of_stream| of_stream.waited.observe(waited.as_secs_f64()));
    }

    fn pending_messages(&self, stream: &str, messages: usize) {
        let messages = i64::try_from(messages).unwrap_or(i64::MAX);
        self.of_stream(stream, |of_stream| _ = of_stream.pending.set(messages));
    }
}

const fn label_of(direction: Direction) -> DirectionLabel {
    let direction = match direction {
        Direction::Outbound => "outbound",
        _ => "inbound",
    };
    DirectionLabel { direction }
}

const fn attempt_label(outcome: AttemptOutcome) -> ResultLabel {
    let result = match outcome {
        AttemptOutcome::Success => "success",
        AttemptOutcome::Failure => "failure",
    };
    ResultLabel { result }
}

const fn handshake_label(outcome: HandshakeOutcome) -> ResultLabel {
    let result = match outcome {
        HandshakeOutcome::Success => "success",
        HandshakeOutcome::Failure => "failure",
        HandshakeOutcome::Timeout => "timeout",
    };
    ResultLabel { result }
}

const fn cached_label(is_cached: bool) -> CachedLabel {
    CachedLabel { cached: if is_cached { "true" } else { "false" } }
}

fn state_label(state: ConnectionState) -> StateLabel {
    StateLabel { state: state.to_string() }
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Returns how many there are, and their sum.
fn sum(sizes: &mut dyn Iterator<Item = usize>) -> (u64, u64) {
    sizes.fold((0, 0_u64), |(count, sum), size| (count + 1, sum.saturating_add(wide(size))))
}

/// Values of the label `stream`; a node that accepts more streams has them counted together.
const MAX_STREAMS: usize = 64;
const OTHER: &str = "other";
