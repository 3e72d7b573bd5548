//! What a session brings to the application: events and messages.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::task::Context;

use bytes::Bytes;
use glueberry_proto::{Closed, Event as SessionEvent, StreamName};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, debug, trace, warn};

use super::streams::{Inbound, Stream};
use super::{SessionDriver, Stage};
use crate::command::NodeCommand;
use crate::config::Delivery;
use crate::error::{Error, ErrorCode};
use crate::event::Event;
use crate::inbox::forget_all;
use crate::message::{HANDSHAKE, Source};

impl SessionDriver {
    /// Publishes events, and delivers messages for as long as their readers have room.
    pub fn deliver(&mut self, cx: &Context<'_>) {
        if !self.handle.has_info()
            && let Some(info) = self.session.info()
        {
            self.handle.set_info(info);
        }
        while let Some(event) = self.session.poll_event() {
            self.event(event);
        }
        self.deliver_handshake(cx);
        self.deliver_messages(cx);
        if self.stage == Stage::Ended && !self.is_counted && !self.is_done() {
            self.keep_remains();
        }
    }

    /// Keeps what an ended session has left until it is read, unless too many others have left
    /// something: then it is dropped, which is reported.
    fn keep_remains(&mut self) {
        self.is_counted = true;
        let others = self.shared.remains.fetch_add(1, Ordering::Relaxed);
        if others < self.shared.config.core.max_sessions {
            return;
        }
        let session = &mut self.session;
        let count = std::iter::from_fn(|| session.poll_handshake_message()).map(|_| 1).sum();
        self.handshake.is_readable = false;
        self.dropped(None, count);
        for at in 0..self.streams.len() {
            let name = self.streams[at].name.clone();
            self.streams[at].inbound.is_readable = false;
            let session = &mut self.session;
            let count = forget_all(|limit, out| {
                session.poll_messages(&name, limit, out);
            });
            self.dropped(Some(name), count);
        }
    }

    fn dropped(&self, stream: Option<StreamName>, count: u64) {
        if count == 0 {
            return;
        }
        let (peer, telemetry) = (self.handle.peer, self.telemetry());
        let name = stream.as_ref().map_or(HANDSHAKE, StreamName::as_str);
        (0..count).for_each(|_| telemetry.metrics.message_dropped(name));
        warn!(%peer, stream = %name, count, "messages of an ended session dropped");
        telemetry.events.publish(&Event::MessagesDropped { peer, stream, count });
    }

    fn deliver_handshake(&mut self, cx: &Context<'_>) {
        if !self.handshake.is_readable {
            return;
        }
        let received_at = self.shared.runtime.wall_time();
        let source = Source { peer: self.handle.peer, stream: None, received_at };
        let (session, telemetry) = (&mut self.session, &self.shared.telemetry);
        let Inbound { writer, is_readable, tally } = &mut self.handshake;
        let memory = &self.handle.memory;
        // Handshake messages are never dropped: they are few, and needed.
        writer.fill(cx, Delivery::Lossless, source, memory, |limit, out| {
            out.extend(std::iter::from_fn(|| session.poll_handshake_message()).take(limit));
            *is_readable = out.len() == limit;
            for data in &*out {
                tally.received(data.len());
                telemetry.metrics.message_received(HANDSHAKE, data.len());
            }
        });
    }

    fn deliver_messages(&mut self, cx: &Context<'_>) {
        while self.streams.iter().any(|stream| stream.inbound.is_readable) {
            self.refresh_readers();
            self.fill_inboxes(cx);
            // A reader that has come meanwhile has woken those that waited by then.
            if self.readers_version == self.shared.readers.version() {
                return;
            }
        }
    }

    fn fill_inboxes(&mut self, cx: &Context<'_>) {
        let (peer, session) = (self.handle.peer, &mut self.session);
        let received_at = self.shared.runtime.wall_time();
        let (telemetry, memory) = (&self.shared.telemetry, &self.handle.memory);
        for stream in self.streams.iter_mut().filter(|stream| stream.inbound.is_readable) {
            let Stream { name, inbound: Inbound { writer, is_readable, tally }, span } = stream;
            let take = |limit, out: &mut VecDeque<Bytes>| {
                *is_readable = session.poll_messages(name, limit, out) == limit;
                if out.is_empty() {
                    return;
                }
                let mut sizes = out.iter().map(Bytes::len);
                tally.received_many(out.len(), sizes.clone().sum());
                if LevelFilter::current() >= Level::TRACE {
                    for bytes in sizes.clone() {
                        trace!(parent: &*span, bytes, "message received");
                    }
                }
                telemetry.metrics.messages_received(name.as_str(), &mut sizes);
            };
            let source = Source { peer, stream: Some(name.clone()), received_at };
            let count = writer.fill(cx, self.shared.delivery, source, memory, take);
            if count > 0 {
                (0..count).for_each(|_| telemetry.metrics.message_dropped(name.as_str()));
                warn!(%peer, stream = %name, count, "messages dropped");
                let stream = Some(name.clone());
                telemetry.events.publish(&Event::MessagesDropped { peer, stream, count });
            }
        }
    }

    fn refresh_readers(&mut self) {
        let version = self.shared.readers.version();
        if version != self.readers_version {
            self.readers_version = version;
            for stream in &mut self.streams {
                let inbox = self.shared.readers.inbox(self.handle.peer, &stream.name);
                stream.inbound.writer.write_to(inbox);
            }
        }
    }

    fn event(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::HandshakeReadable => self.handshake.is_readable = true,
            SessionEvent::Readable { stream } => {
                for it in &mut self.streams {
                    it.inbound.is_readable |= it.name == stream;
                }
            }
            SessionEvent::Established(_) => self.established(),
            event => {
                // What is logged of a session is in its trace.
                let connection = self.handle.connection().cloned();
                connection.unwrap_or_else(Span::none).in_scope(|| self.report(event));
            }
        }
    }

    fn report(&mut self, event: SessionEvent) {
        let peer = self.handle.peer;
        let event = match event {
            SessionEvent::RecordRejected { stream, error } => {
                warn!(%peer, %stream, %error, "record rejected");
                self.telemetry().metrics.decryption_error();
                Event::RecordRejected { peer, stream, error }
            }
            SessionEvent::StreamInterrupted { stream, in_doubt } => {
                debug!(%peer, %stream, in_doubt, "stream interrupted");
                Event::StreamInterrupted { peer, stream, in_doubt }
            }
            SessionEvent::StreamTruncated { stream } => {
                debug!(%peer, %stream, "stream truncated");
                Event::StreamTruncated { peer, stream }
            }
            SessionEvent::MessagesLost { stream, messages } => {
                warn!(%peer, %stream, messages, "messages lost");
                Event::MessagesLost { peer, stream, messages }
            }
            SessionEvent::StreamRefused { stream, unsent } => {
                let unsent = unsent + self.handle.give_up(&stream);
                warn!(%peer, %stream, unsent, "stream refused");
                Event::StreamRefused { peer, stream, unsent }
            }
            SessionEvent::StreamNotPrepared { stream } => {
                debug!(%peer, %stream, "stream not prepared");
                Event::StreamNotPrepared { peer, stream }
            }
            SessionEvent::Closed(closed) => return self.closed(closed),
            other => {
                trace!(%peer, ?other, "session event");
                return;
            }
        };
        self.telemetry().events.publish(&event);
    }

    fn closed(&mut self, mut closed: Closed) {
        if std::mem::replace(&mut self.stage, Stage::Ended) == Stage::Established {
            for stream in &mut self.streams {
                self.shared.telemetry.metrics.stream_closed(stream.name.as_str());
                debug!(parent: &stream.span, "stream closed");
                stream.span = Span::none();
            }
        }
        let (commands, left) = self.handle.close();
        closed.unsent += left;
        let peer = self.handle.peer;
        let (unsent, in_doubt, not_received) =
            (closed.unsent, closed.in_doubt, closed.not_received);
        debug!(%peer, reason = %closed.reason, unsent, in_doubt, not_received, "session closed");
        self.to_node.push(NodeCommand::SessionClosed(self.session.id(), closed));
        self.return_all(commands);
        if let Some(request) = self.finalizing.take() {
            let error = Error::new(ErrorCode::NotConnected);
            self.to_node.push(self.returned(request, true, error));
        }
    }
}
