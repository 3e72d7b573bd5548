//! Metrics that a test can look at.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use glueberry_proto::{ConnectionState, Direction};

use crate::mailbox::lock;
use crate::metrics::{AttemptOutcome, HandshakeOutcome, Metrics};

/// Remembers what was counted and measured; give it to
/// [`Builder::metrics`](crate::Builder::metrics).
///
/// ```
/// use glueberry_tokio::Metrics;
/// use glueberry_tokio::test_util::RecordingMetrics;
///
/// let metrics = RecordingMetrics::new();
/// metrics.message_sent("chat", 5);
/// metrics.message_sent("chat", 7);
/// let sent = metrics.get("message_sent", "chat");
/// assert_eq!((sent.count, sent.sum), (2, 12.0));
/// ```
#[derive(Debug, Default)]
pub struct RecordingMetrics {
    recorded: Mutex<BTreeMap<(&'static str, String), RecordedMetric>>,
}

/// What was recorded under one name and label.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RecordedMetric {
    /// How often it was called.
    pub count: u64,
    /// The sum of the values: bytes, seconds.
    pub sum: f64,
    /// The last value.
    pub last: f64,
}

impl RecordingMetrics {
    /// Makes metrics in which nothing is recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what was recorded under the name of a method of [`Metrics`], and a label: a stream,
    /// a state, a direction, an outcome; empty where there is none.
    pub fn get(&self, name: &str, label: &str) -> RecordedMetric {
        let recorded = lock(&self.recorded);
        let mut found = recorded.iter().filter(|((of, with), _)| *of == name && with == label);
        found.next().map(|(_, metric)| *metric).unwrap_or_default()
    }

    /// Returns how often the method of this name was called, whatever its label.
    pub fn calls(&self, name: &str) -> u64 {
        let recorded = lock(&self.recorded);
        recorded.iter().filter(|((of, _), _)| *of == name).map(|(_, metric)| metric.count).sum()
    }

    fn record(&self, name: &'static str, label: impl ToString, value: f64) {
        let mut recorded = lock(&self.recorded);
        let metric = recorded.entry((name, label.to_string())).or_default();
        metric.count += 1;
        metric.sum += value;
        metric.last = value;
    }
}

#[expect(clippy::as_conversions, reason = "a count as a floating-point value, for a test to read")]
const fn float(count: usize) -> f64 {
    count as f64
}

impl Metrics for RecordingMetrics {
    fn connection_opened(&self, direction: Direction) {
        self.record("connection_opened", format!("{direction:?}"), 1.0);
    }

    fn connection_closed(&self, direction: Direction) {
        self.record("connection_closed", format!("{direction:?}"), 1.0);
    }

    fn connection_attempt(&self, outcome: AttemptOutcome) {
        self.record("connection_attempt", format!("{outcome:?}"), 1.0);
    }

    fn handshake_duration(&self, duration: Duration) {
        self.record("handshake_duration", "", duration.as_secs_f64());
    }

    fn handshake_result(&self, outcome: HandshakeOutcome) {
        self.record("handshake_result", format!("{outcome:?}"), 1.0);
    }

    fn message_sent(&self, stream: &str, bytes: usize) {
        self.record("message_sent", stream, float(bytes));
    }

    fn message_received(&self, stream: &str, bytes: usize) {
        self.record("message_received", stream, float(bytes));
    }

    fn stream_opened(&self, stream: &str) {
        self.record("stream_opened", stream, 1.0);
    }

    fn stream_closed(&self, stream: &str) {
        self.record("stream_closed", stream, 1.0);
    }

    fn encryption_error(&self) {
        self.record("encryption_error", "", 1.0);
    }

    fn decryption_error(&self) {
        self.record("decryption_error", "", 1.0);
    }

    fn key_derivation(&self, cached: bool) {
        self.record("key_derivation", cached, 1.0);
    }

    fn event_emitted(&self, state: ConnectionState) {
        self.record("event_emitted", state, 1.0);
    }

    fn event_dropped(&self) {
        self.record("event_dropped", "", 1.0);
    }

    fn message_dropped(&self, stream: &str) {
        self.record("message_dropped", stream, 1.0);
    }

    fn backpressure_engaged(&self, stream: &str) {
        self.record("backpressure_engaged", stream, 1.0);
    }

    fn backpressure_wait(&self, stream: &str, waited: Duration) {
        self.record("backpressure_wait", stream, waited.as_secs_f64());
    }

    fn pending_messages(&self, stream: &str, messages: usize) {
        self.record("pending_messages", stream, float(messages));
    }
}
