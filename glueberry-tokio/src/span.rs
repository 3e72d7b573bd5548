//! Spans within spans.

use tracing::Span;
use tracing::dispatcher::with_default;

/// Begins a span within another, with the subscriber that has that one: its id means nothing to
/// others. What is not recorded has no parent to give.
pub(crate) fn within(parent: &Span, begin: impl Fn() -> Span) -> Span {
    let begun = parent
        .with_subscriber(|(_, subscriber)| with_default(subscriber, || parent.in_scope(&begin)));
    begun.unwrap_or_else(begin)
}
