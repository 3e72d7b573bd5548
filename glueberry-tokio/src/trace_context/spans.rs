//! The context of a span, and a span of a context, by `tracing-opentelemetry`.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::TraceContext;

impl TraceContext {
    /// Returns the context of a span, or `None` if no layer of `tracing-opentelemetry` records it.
    /// Only with the feature `opentelemetry`.
    pub fn of(span: &Span) -> Option<Self> {
        let context = span.context();
        let span = context.span();
        let own = span.span_context();
        let ids = (own.trace_id().to_bytes(), own.span_id().to_bytes());
        let made = Self::new(ids.0, ids.1, own.trace_flags().to_u8())?;
        Some(made.with_state(&own.trace_state().header()))
    }

    /// Makes a span the child of the span that this context is of. Call it before the span is
    /// entered. Returns whether it was done: not if the span is entered already, or if no layer of
    /// `tracing-opentelemetry` records it. Only with the feature `opentelemetry`.
    pub fn continue_in(&self, span: &Span) -> bool {
        let parent = SpanContext::new(
            TraceId::from_bytes(self.trace_id),
            SpanId::from_bytes(self.parent_id),
            TraceFlags::new(self.flags),
            true,
            self.state.parse::<TraceState>().unwrap_or_default(),
        );
        span.set_parent(Context::new().with_remote_span_context(parent)).is_ok()
    }
}
