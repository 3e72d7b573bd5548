//! Logs that a test can look at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use crate::mailbox::lock;

/// Captures what is logged, spans and events, on the thread that it was made on, until it is
/// dropped. A test that runs on a current-thread runtime sees all of a node's.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::test_util::{LogCapture, MemoryNetwork};
/// use glueberry_tokio::{Node, identity::Keypair};
///
/// let logs = LogCapture::start();
/// let node = Node::builder(Keypair::generate_ed25519()).build_over(&MemoryNetwork::new()).await?;
/// assert!(logs.contains(tracing::Level::INFO, "node started"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LogCapture {
    events: Arc<Mutex<Vec<LogEvent>>>,
    _guard: DefaultGuard,
    /// While there is but one subscriber, `tracing` lets the thread that first reaches a log line
    /// decide for all, even one that captures nothing. So there are two.
    _second: Dispatch,
}

/// Something that was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEvent {
    /// How important it is.
    pub level: Level,
    /// The module that it comes from.
    pub target: String,
    /// The text of an event, or the name of a span.
    pub message: String,
    /// The fields, as text.
    pub fields: BTreeMap<String, String>,
    /// Whether a span began; otherwise it is an event.
    pub is_span: bool,
    /// The spans that it is in, the outermost first: the name of each, and its fields.
    pub within: Vec<(String, BTreeMap<String, String>)>,
}

impl LogCapture {
    /// Captures from now on.
    pub fn start() -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let recorder = Recorder { events: events.clone(), ..Recorder::default() };
        let second = Recorder::default();
        let _second = Dispatch::new(second);
        Self { events, _guard: tracing::subscriber::set_default(recorder), _second }
    }

    /// Returns what was logged by this library so far.
    pub fn events(&self) -> Vec<LogEvent> {
        let is_ours = |event: &&LogEvent| event.target.starts_with("glueberry");
        lock(&self.events).iter().filter(is_ours).cloned().collect()
    }

    /// Returns whether something with this text was logged at this level.
    pub fn contains(&self, level: Level, text: &str) -> bool {
        self.events().iter().any(|event| event.level == level && event.message.contains(text))
    }
}

/// The name of a span, and its fields.
type SpanFields = (String, BTreeMap<String, String>);

#[derive(Default)]
struct Recorder {
    events: Arc<Mutex<Vec<LogEvent>>>,
    last_span: AtomicU64,
    /// Each span with those that it is in, itself last.
    spans: Mutex<BTreeMap<u64, Vec<SpanFields>>>,
    /// The spans that were entered, the last on top.
    entered: Mutex<Vec<u64>>,
}

impl Recorder {
    /// Returns the spans that something is in which names its parent, or has the one that was
    /// entered.
    fn within(
        &self,
        parent: Option<&Id>,
        is_contextual: bool,
    ) -> Vec<(String, BTreeMap<String, String>)> {
        let entered = lock(&self.entered).last().copied().filter(|_| is_contextual);
        let parent = parent.map(Id::into_u64).or(entered);
        parent.and_then(|id| lock(&self.spans).get(&id).cloned()).unwrap_or_default()
    }

    fn record(
        &self,
        metadata: &Metadata<'_>,
        fields: Fields,
        within: Vec<(String, BTreeMap<String, String>)>,
        is_span: bool,
    ) {
        let message = fields.message.unwrap_or_else(|| metadata.name().to_owned());
        lock(&self.events).push(LogEvent {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            message,
            fields: fields.others,
            is_span,
            within,
        });
    }
}

impl Subscriber for Recorder {
    // Asked each time: other threads, which capture nothing, decide nothing for this one.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let id = self.last_span.fetch_add(1, Ordering::Relaxed) + 1;
        let within = self.within(span.parent(), span.is_contextual());
        let mut with_itself = within.clone();
        with_itself.push((span.metadata().name().to_owned(), fields.others.clone()));
        lock(&self.spans).insert(id, with_itself);
        self.record(span.metadata(), fields, within, true);
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let within = self.within(event.parent(), event.is_contextual());
        self.record(event.metadata(), fields, within, false);
    }

    fn enter(&self, span: &Id) {
        lock(&self.entered).push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut entered = lock(&self.entered);
        if let Some(at) = entered.iter().rposition(|id| *id == span.into_u64()) {
            entered.remove(at);
        }
    }
}

#[derive(Default)]
struct Fields {
    message: Option<String>,
    others: BTreeMap<String, String>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "message" => self.message = Some(value),
            name => drop(self.others.insert(name.to_owned(), value)),
        }
    }
}
