//! Messages of a session on their way: to the readers of its streams, and from their queues.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use glueberry_proto::{MessageSource, StreamName};
use libp2p_identity::PeerId;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, trace};

use crate::inbox::{Inbox, InboxWriter};
use crate::session_handle::SessionHandle;
use crate::stats::Tally;
use crate::telemetry::Telemetry;

/// Messages of the peer on their way to a reader, and what was counted in both directions.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) writer: InboxWriter,
    /// The core has messages for it.
    pub(super) is_readable: bool,
    pub(super) tally: Tally,
}

/// A named stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: StreamName,
    pub(super) inbound: Inbound,
    /// What the stream is in a trace, from Established to the session's end.
    pub(super) span: Span,
}

impl Inbound {
    pub(super) fn new(inbox: Arc<Inbox>, peer: PeerId) -> Self {
        let writer = InboxWriter::new(inbox, peer);
        Self { writer, is_readable: false, tally: Tally::default() }
    }
}

/// The queues of a session's streams, lent to its machine while that writes.
pub(super) struct Outbound<'a> {
    pub(super) handle: &'a SessionHandle,
    pub(super) streams: &'a mut [Stream],
    pub(super) telemetry: &'a Telemetry,
}

impl MessageSource for Outbound<'_> {
    fn take(&mut self, stream: &StreamName, budget: usize, out: &mut VecDeque<Bytes>) -> bool {
        let before = out.len();
        let has_more = self.handle.take_messages(stream, budget, out);
        let found = self.streams.iter_mut().find(|it| it.name == *stream);
        let Some(stream) = found.filter(|_| out.len() > before) else {
            return has_more;
        };
        let mut sizes = out.range(before..).map(Bytes::len);
        stream.inbound.tally.sent_many(sizes.len(), sizes.clone().sum());
        if LevelFilter::current() >= Level::TRACE {
            for bytes in sizes.clone() {
                trace!(parent: &stream.span, bytes, "message sent");
            }
        }
        self.telemetry.metrics.messages_sent(stream.name.as_str(), &mut sizes);
        has_more
    }
}
