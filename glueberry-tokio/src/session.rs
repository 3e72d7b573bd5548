//! A session on the async side: the core's machine between its handle, its readers and the node.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Context;
use std::time::SystemTime;

use bytes::Bytes;
use glueberry_proto::{
    Action, Closed, Event as SessionEvent, HandshakeError, Instant, MessageSource, SendError,
    Session, StreamName, SubstreamBuffer,
};
use libp2p_identity::PeerId;
use tracing::{Span, debug, debug_span, trace, warn};

use crate::command::{HandshakeCommand, HandshakeRequest, NodeCommand, Returned, SessionCommand};
use crate::config::Delivery;
use crate::error::{Error, ErrorCode};
use crate::event::Event;
use crate::inbox::{Inbox, InboxWriter};
use crate::memory::{Charge, PeerMemory};
use crate::message::{HANDSHAKE, Source};
use crate::path::Path;
use crate::session_handle::SessionHandle;
use crate::shared::Shared;
use crate::stats::Tally;
use crate::telemetry::Telemetry;
use crate::waiters::WaiterId;

/// Drives one [`Session`] between the node, its handles and an adapter that moves its bytes.
#[derive(Debug)]
pub struct SessionDriver {
    session: Session,
    handle: Arc<SessionHandle>,
    shared: Arc<Shared>,
    handshake: Inbound,
    streams: Vec<Stream>,
    readers_version: u64,
    stage: Stage,
    /// Who has finalized the handshake, and waits until the peer has confirmed its keys (v2).
    finalizing: Option<HandshakeRequest>,
    /// What the node's task gets behind the session's own messages.
    to_node: Vec<NodeCommand>,
    /// What is held of the peer, besides what is in inboxes.
    held: Charge,
    /// While there is no room for more.
    waiting: Option<WaiterId>,
    /// It has ended, and is counted among those of which something is left.
    is_counted: bool,
}

/// What was reported of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    /// Its streams were counted as open.
    Established,
    /// Its end was reported.
    Ended,
}

/// Messages of the peer on their way to a reader, and what was counted in both directions.
#[derive(Debug)]
struct Inbound {
    writer: InboxWriter,
    /// The core has messages for it.
    is_readable: bool,
    tally: Tally,
}

/// A named stream.
#[derive(Debug)]
struct Stream {
    name: StreamName,
    inbound: Inbound,
    /// What the stream is in a trace, from Established to the session's end.
    span: Span,
}

impl SessionDriver {
    pub(crate) fn new(session: Session, handle: Arc<SessionHandle>, shared: Arc<Shared>) -> Self {
        let held = Charge::new(handle.memory.clone(), 0);
        Self {
            session,
            handshake: Inbound::new(shared.readers.handshake().clone(), handle.peer),
            handle,
            held,
            waiting: None,
            is_counted: false,
            shared,
            streams: Vec::new(),
            readers_version: 0,
            stage: Stage::Handshake,
            finalizing: None,
            to_node: Vec::new(),
        }
    }

    /// Returns the core's machine.
    pub const fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Passes commands to the core, and which streams have messages to send.
    pub fn take_commands(&mut self, now: Instant, cx: &Context<'_>) {
        let session = &mut self.session;
        // Messages first: they were accepted before a command that ends the session.
        let commands = self.handle.take_commands(cx, |stream| session.handle_queued(now, stream));
        for command in commands {
            self.command(now, command);
        }
    }

    /// Returns the bytes to write next on a substream, or `None` if there are none: see
    /// [`SubstreamBuffer::chunk`]. Messages are taken from their queues and sealed only now.
    pub fn chunk<'a>(&mut self, buffer: &'a mut SubstreamBuffer) -> Option<&'a mut Bytes> {
        let Self { session, handle, streams, shared, .. } = self;
        buffer.chunk_from(session, &mut Outbound { handle, streams, telemetry: &shared.telemetry })
    }

    /// Returns the next action for the adapter. Messages to the node are sent on the way.
    pub fn poll_action(&mut self) -> Option<Action> {
        let id = self.session.id();
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Forward(message) => self.send(NodeCommand::FromSession(id, message)),
                action => return Some(action),
            }
        }
        for command in std::mem::take(&mut self.to_node) {
            self.send(command);
        }
        None
    }

    pub(crate) fn reached_by(&self, path: Option<Weak<dyn Path>>) {
        if let Some(path) = path {
            self.handle.reached_by(path);
        }
    }

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
            let count = std::iter::from_fn(|| session.poll_message(&name)).map(|_| 1).sum();
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

    // ---- memory -------------------------------------------------------------------------------

    /// Returns whether a little more of the peer may be read. If not, the task is woken when there
    /// is room.
    pub(crate) fn may_read(&mut self, cx: &Context<'_>) -> bool {
        let memory = self.held.memory().clone();
        memory.has_room() || {
            memory.wait(&mut self.waiting, cx);
            memory.has_room()
        }
    }

    /// Charges bytes that are about to be read, if there is room. If not, the task is woken when
    /// there is.
    pub(crate) fn reserve(&mut self, cx: &Context<'_>, bytes: usize) -> bool {
        self.held.try_add(bytes) || {
            let memory = self.held.memory().clone();
            memory.wait(&mut self.waiting, cx);
            self.held.try_add(bytes)
        }
    }

    pub(crate) const fn memory(&self) -> &Arc<PeerMemory> {
        self.held.memory()
    }

    /// Takes note of what the substreams hold or have reserved.
    pub(crate) fn hold(&mut self, substreams: usize) {
        self.held.set(substreams.saturating_add(self.session.received_bytes()));
    }

    /// Returns whether the session has ended and nothing is left to deliver.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Ended
            && !self.handshake.is_readable
            && !self.streams.iter().any(|stream| stream.inbound.is_readable)
    }

    fn command(&mut self, now: Instant, command: SessionCommand) {
        match command {
            SessionCommand::FromNode(message) => {
                self.session.handle_node_message(now, message);
                // It may have taken over what another session was prepared for.
                let names: Vec<StreamName> = self.session.streams().cloned().collect();
                if names.len() > self.streams.len() {
                    self.prepared(&names);
                }
                if self.session.handshake_is_over() && !self.session.is_established() {
                    // It drains: only what was accepted until now is still sent.
                    self.handle.refuse_messages();
                }
            }
            SessionCommand::Handshake(request) => self.handshake(now, request),
        }
    }

    /// Does a handshake command, and answers it by way of the node's task, so that the caller finds
    /// the effect published. One that only another session of the peer may do is returned.
    fn handshake(&mut self, now: Instant, request: HandshakeRequest) {
        let result = self.attempt(now, &request.command);
        let is_finalized = matches!(request.command, HandshakeCommand::Finalize(_));
        if result.is_ok() && is_finalized && self.stage == Stage::Handshake {
            self.finalizing = Some(request);
            return;
        }
        self.to_node.push(match result {
            Err(NotDone::NotCurrent { is_over, error }) => self.returned(request, is_over, error),
            Ok(()) => NodeCommand::HandshakeDone(request.command, Ok(())),
            Err(NotDone::Refused(error)) => NodeCommand::HandshakeDone(request.command, Err(error)),
        });
    }

    fn attempt(&mut self, now: Instant, command: &HandshakeCommand) -> Result<(), NotDone> {
        match command {
            HandshakeCommand::Send(message, _) => {
                self.session.send_handshake(now, message.clone())?;
                self.handshake.tally.sent(message.len());
                self.telemetry().metrics.message_sent(HANDSHAKE, message.len());
            }
            HandshakeCommand::Prepare(key, names, _) => {
                let result = self.session.prepare_streams(now, *key, names);
                if matches!(result, Err(HandshakeError::Agreement(_))) {
                    self.telemetry().metrics.encryption_error();
                }
                result?;
                self.prepared(names);
            }
            HandshakeCommand::Finalize(_) => {
                self.session.finalize_handshake(now)?;
                if self.session.is_established() {
                    self.established();
                }
            }
            HandshakeCommand::Reject(reason) => self.session.reject_handshake(now, reason),
        }
        Ok(())
    }

    fn returned(&self, mut request: HandshakeRequest, is_over: bool, error: Error) -> NodeCommand {
        request.returned = Some(Box::new(Returned { from: self.session.id(), is_over, error }));
        NodeCommand::Handshake(request)
    }

    /// Returns the commands that came too late.
    fn return_all(&mut self, commands: VecDeque<SessionCommand>) {
        for command in commands {
            if let SessionCommand::Handshake(request) = command {
                let error = Error::new(ErrorCode::NotConnected);
                self.to_node.push(self.returned(request, true, error));
            }
        }
    }

    fn established(&mut self) {
        if self.stage != Stage::Handshake {
            return;
        }
        self.stage = Stage::Established;
        self.handle.established();
        if let Some(request) = self.finalizing.take() {
            self.to_node.push(NodeCommand::HandshakeDone(request.command, Ok(())));
        }
        let (peer, telemetry) = (self.handle.peer, &self.shared.telemetry);
        let connection = self.handle.connection().and_then(Span::id);
        for stream in &mut self.streams {
            telemetry.metrics.stream_opened(stream.name.as_str());
            let name = &stream.name;
            stream.span = debug_span!(parent: connection.clone(), "stream", %peer, stream = %name);
            debug!(parent: &stream.span, "stream opened");
        }
    }

    fn prepared(&mut self, names: &[StreamName]) {
        if self.streams.is_empty() {
            self.telemetry().metrics.key_derivation(false);
        }
        self.handle.prepared(names);
        for name in names {
            if !self.streams.iter().any(|stream| stream.name == *name) {
                let inbox = self.shared.readers.inbox(self.handle.peer, name);
                let (name, inbound) = (name.clone(), Inbound::new(inbox, self.handle.peer));
                self.streams.push(Stream { name, inbound, span: Span::none() });
            }
        }
    }

    fn event(&mut self, event: SessionEvent) {
        let peer = self.handle.peer;
        let event = match event {
            SessionEvent::HandshakeReadable => {
                self.handshake.is_readable = true;
                return;
            }
            SessionEvent::Readable { stream } => {
                for it in &mut self.streams {
                    it.inbound.is_readable |= it.name == stream;
                }
                return;
            }
            SessionEvent::Established(_) => return self.established(),
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
        debug!(%peer, reason = %closed.reason, closed.unsent, closed.in_doubt, "session closed");
        self.to_node.push(NodeCommand::SessionClosed(self.session.id(), closed));
        self.return_all(commands);
        if let Some(request) = self.finalizing.take() {
            let error = Error::new(ErrorCode::NotConnected);
            self.to_node.push(self.returned(request, true, error));
        }
    }

    /// Sends a command to the node's task. One that is gone drops it, and with it the answers.
    fn send(&self, command: NodeCommand) {
        drop(self.shared.mailbox.put(command));
    }

    fn deliver_handshake(&mut self, cx: &Context<'_>) {
        if !self.handshake.is_readable {
            return;
        }
        let source =
            Source { peer: self.handle.peer, stream: None, received_at: SystemTime::now() };
        let (session, telemetry) = (&mut self.session, &self.shared.telemetry);
        let Inbound { writer, is_readable, tally } = &mut self.handshake;
        let memory = &self.handle.memory;
        // Handshake messages are never dropped: they are few, and needed.
        writer.fill(cx, Delivery::Lossless, source, memory, || {
            match session.poll_handshake_message() {
                Some(data) => {
                    tally.received(data.len());
                    telemetry.metrics.message_received(HANDSHAKE, data.len());
                    Some(data)
                }
                None => {
                    *is_readable = false;
                    None
                }
            }
        });
    }

    fn deliver_messages(&mut self, cx: &Context<'_>) {
        if !self.streams.iter().any(|stream| stream.inbound.is_readable) {
            return;
        }
        self.refresh_readers();
        let (peer, session) = (self.handle.peer, &mut self.session);
        let received_at = SystemTime::now();
        let (telemetry, memory) = (&self.shared.telemetry, &self.handle.memory);
        for stream in self.streams.iter_mut().filter(|stream| stream.inbound.is_readable) {
            let Stream { name, inbound: Inbound { writer, is_readable, tally }, span } = stream;
            let next = || match session.poll_message(name) {
                Some(data) => {
                    tally.received(data.len());
                    trace!(parent: &*span, bytes = data.len(), "message received");
                    telemetry.metrics.message_received(name.as_str(), data.len());
                    Some(data)
                }
                None => {
                    *is_readable = false;
                    None
                }
            };
            let source = Source { peer, stream: Some(name.clone()), received_at };
            let count = writer.fill(cx, self.shared.delivery, source, memory, next);
            if count > 0 {
                (0..count).for_each(|_| telemetry.metrics.message_dropped(name.as_str()));
                warn!(%peer, stream = %name, count, "messages dropped");
                let stream = Some(name.clone());
                telemetry.events.publish(&Event::MessagesDropped { peer, stream, count });
            }
        }
    }

    /// Adds to the statistics what was counted since the last time. Once for all that a poll of the
    /// task has moved is enough.
    pub(crate) fn count(&mut self) {
        let (peer, stats) = (self.handle.peer, &self.shared.telemetry.stats);
        let handshake = Some((HANDSHAKE, &mut self.handshake.tally));
        let streams = self.streams.iter_mut().map(|it| (it.name.as_str(), &mut it.inbound.tally));
        for (stream, tally) in streams.chain(handshake) {
            if !tally.is_empty() {
                stats.count(peer, stream, std::mem::take(tally), SystemTime::now());
            }
        }
    }

    fn telemetry(&self) -> &Telemetry {
        &self.shared.telemetry
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
}

/// Why a session has not done a handshake command.
enum NotDone {
    Refused(Error),
    /// The session is over, or waits for another that competes with it.
    NotCurrent {
        is_over: bool,
        error: Error,
    },
}

impl From<SendError> for NotDone {
    fn from(error: SendError) -> Self {
        let is_over = error == SendError::Closed;
        let is_waiting = error == SendError::NotEstablished;
        Self::new(is_waiting, is_over, Error::from(error).on_stream(HANDSHAKE))
    }
}

impl From<HandshakeError> for NotDone {
    fn from(error: HandshakeError) -> Self {
        let is_over = error == HandshakeError::Closed;
        Self::new(error == HandshakeError::NotConnected, is_over, error.into())
    }
}

impl NotDone {
    const fn new(is_waiting: bool, is_over: bool, error: Error) -> Self {
        match is_waiting || is_over {
            true => Self::NotCurrent { is_over, error },
            false => Self::Refused(error),
        }
    }
}

impl Inbound {
    fn new(inbox: Arc<Inbox>, peer: PeerId) -> Self {
        let writer = InboxWriter::new(inbox, peer);
        Self { writer, is_readable: false, tally: Tally::default() }
    }
}

/// The queues of a session's streams, lent to its machine while that writes.
struct Outbound<'a> {
    handle: &'a SessionHandle,
    streams: &'a mut [Stream],
    telemetry: &'a Telemetry,
}

impl MessageSource for Outbound<'_> {
    fn take(&mut self, stream: &StreamName, budget: usize, out: &mut VecDeque<Bytes>) -> bool {
        let before = out.len();
        let has_more = self.handle.take_messages(stream, budget, out);
        let Some(stream) = self.streams.iter_mut().find(|it| it.name == *stream) else {
            return has_more;
        };
        for message in out.iter().skip(before) {
            let bytes = message.len();
            stream.inbound.tally.sent(bytes);
            trace!(parent: &stream.span, bytes, "message sent");
            self.telemetry.metrics.message_sent(stream.name.as_str(), bytes);
        }
        has_more
    }
}

/// The task is gone, in the order of things or with its runtime.
impl Drop for SessionDriver {
    fn drop(&mut self) {
        self.count();
        if self.is_counted {
            self.shared.remains.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(id) = self.waiting.take() {
            self.held.memory().leave(id);
        }
        // What the session has to say to the node, and answers behind it.
        while self.poll_action().is_some() {}
        let (commands, _) = self.handle.close();
        if self.stage != Stage::Ended {
            self.send(NodeCommand::SessionGone(self.session.id()));
        }
        self.return_all(commands);
        for command in std::mem::take(&mut self.to_node) {
            self.send(command);
        }
    }
}
