//! A session on the async side: the core's machine between its handle, its readers and the node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;
use std::time::SystemTime;

use bytes::Bytes;
use glueberry_proto::{
    Action, Closed, Event as SessionEvent, FinalizeError, Instant, PrepareError, SendError,
    Session, StreamName,
};
use tracing::{Span, debug, debug_span, trace, warn};

use crate::config::Delivery;
use crate::error::{Error, ErrorCode};
use crate::events::Event;
use crate::inbox::Inbox;
use crate::message::{HANDSHAKE, Source};
use crate::node::{Shared, on_stream};
use crate::node_task::{Answer, HandshakeRequest, NodeCommand, Returned};
use crate::session_handle::{HandshakeCommand, SessionCommand, SessionHandle};
use crate::stats::Tally;
use crate::telemetry::Telemetry;

/// Drives one [`Session`] between the node, its handles and an adapter that moves its bytes.
#[derive(Debug)]
pub struct SessionDriver {
    session: Session,
    handle: Arc<SessionHandle>,
    shared: Arc<Shared>,
    readers: Vec<Reader>,
    readers_version: u64,
    handshake_is_readable: bool,
    handshake_tally: Tally,
    stage: Stage,
    /// Messages that the core would not take at once.
    stalled: VecDeque<(StreamName, VecDeque<Bytes>)>,
    /// What the node's task gets behind the session's own messages.
    to_node: Vec<NodeCommand>,
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

/// One stream and who reads it.
#[derive(Debug)]
struct Reader {
    /// What the stream is in a trace, from Established to the session's end.
    span: Span,
    stream: StreamName,
    inbox: Arc<Inbox>,
    is_readable: bool,
    tally: Tally,
}

impl SessionDriver {
    pub(crate) fn new(session: Session, handle: Arc<SessionHandle>, shared: Arc<Shared>) -> Self {
        Self {
            session,
            handle,
            shared,
            readers: Vec::new(),
            readers_version: 0,
            handshake_is_readable: false,
            handshake_tally: Tally::default(),
            stage: Stage::Handshake,
            stalled: VecDeque::new(),
            to_node: Vec::new(),
        }
    }

    /// Returns the core's machine.
    pub const fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Passes what was queued for the session to the core.
    pub fn take_commands(&mut self, now: Instant, cx: &Context<'_>) {
        let stalled = &mut self.stalled;
        let commands = self.handle.take(cx, |stream, messages| {
            stalled.push_back((stream.clone(), messages));
        });
        // Messages first: they were accepted before a command that ends the session.
        self.send_stalled(now);
        for command in commands {
            self.command(now, command);
        }
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

    /// Hands out events, and messages for as long as their readers have room.
    pub fn deliver(&mut self, now: Instant, cx: &Context<'_>) {
        self.send_stalled(now);
        while let Some(event) = self.session.poll_event() {
            self.event(event);
        }
        self.deliver_handshake(cx);
        self.deliver_messages(cx);
    }

    /// Tells handles what the transport has taken.
    pub fn report(&mut self) {
        self.count();
        if self.stage != Stage::Ended {
            let (session, stalled) = (&self.session, &self.stalled);
            self.handle.update(|stream| {
                let (messages, bytes) = session.queued(stream);
                let waiting = stalled.iter().filter(|(name, _)| name == stream);
                waiting
                    .flat_map(|(_, messages)| messages)
                    .fold((messages, bytes), |sum, message| (sum.0 + 1, sum.1 + message.len()))
            });
        }
    }

    /// Returns whether the session has ended and nothing is left to hand out.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Ended
            && !self.handshake_is_readable
            && !self.readers.iter().any(|reader| reader.is_readable)
    }

    fn command(&mut self, now: Instant, command: SessionCommand) {
        match command {
            SessionCommand::FromNode(message) => {
                self.session.handle_node_message(now, message);
                // It may have taken over what another session was prepared for.
                let names: Vec<StreamName> = self.session.streams().cloned().collect();
                if names.len() > self.readers.len() {
                    self.prepared(&names);
                }
            }
            SessionCommand::Handshake(command) => self.handshake(now, command),
        }
    }

    fn handshake(&mut self, now: Instant, command: HandshakeCommand) {
        let peer = self.handle.peer;
        match command {
            HandshakeCommand::Send(message, answer_to) => {
                match self.session.send_handshake(now, message.clone()) {
                    Ok(()) => {
                        self.handshake_tally.sent(message.len());
                        self.telemetry().metrics.message_sent(HANDSHAKE, message.len());
                        self.done(answer_to, Ok(()));
                    }
                    Err(error @ (SendError::NotEstablished | SendError::Closed)) => {
                        let is_over = error == SendError::Closed;
                        let command = HandshakeCommand::Send(message, answer_to);
                        self.give_back(command, is_over, on_stream(error, peer, HANDSHAKE));
                    }
                    Err(error) => self.done(answer_to, Err(on_stream(error, peer, HANDSHAKE))),
                }
            }
            HandshakeCommand::Prepare(key, names, answer_to) => {
                match self.session.prepare_streams(now, key, &names) {
                    Ok(()) => {
                        self.prepared(&names);
                        self.done(answer_to, Ok(()));
                    }
                    Err(error @ (PrepareError::NotConnected | PrepareError::Closed)) => {
                        let is_over = error == PrepareError::Closed;
                        let command = HandshakeCommand::Prepare(key, names, answer_to);
                        self.give_back(command, is_over, Error::from(error).of_peer(peer));
                    }
                    Err(error) => {
                        if matches!(error, PrepareError::Agreement(_)) {
                            self.telemetry().metrics.encryption_error();
                        }
                        self.done(answer_to, Err(Error::from(error).of_peer(peer)));
                    }
                }
            }
            HandshakeCommand::Finalize(answer_to) => match self.session.finalize_handshake(now) {
                Ok(()) => {
                    if self.session.is_established() {
                        self.established();
                    }
                    self.done(answer_to, Ok(()));
                }
                Err(error @ (FinalizeError::NotConnected | FinalizeError::Closed)) => {
                    let is_over = error == FinalizeError::Closed;
                    let command = HandshakeCommand::Finalize(answer_to);
                    self.give_back(command, is_over, Error::from(error).of_peer(peer));
                }
                Err(error) => self.done(answer_to, Err(Error::from(error).of_peer(peer))),
            },
            HandshakeCommand::Reject(reason) => self.session.reject_handshake(now, &reason),
        }
    }

    /// Answers a handshake command by way of the node's task, so that the caller finds its effect
    /// published.
    fn done(&mut self, answer_to: Answer<()>, result: Result<(), Error>) {
        self.to_node.push(NodeCommand::HandshakeDone(answer_to, result));
    }

    /// Returns a handshake command that this session can't do, but another of the peer perhaps can.
    fn give_back(&mut self, command: HandshakeCommand, is_over: bool, error: Error) {
        let from = self.session.id();
        let returned = Some(Returned { from, is_over, error });
        let peer = self.session.peer();
        self.to_node.push(NodeCommand::Handshake(HandshakeRequest { peer, command, returned }));
    }

    /// Returns the commands that came too late.
    fn give_back_all(&mut self, commands: VecDeque<SessionCommand>) {
        for command in commands {
            if let SessionCommand::Handshake(command) = command {
                let error = Error::new(ErrorCode::NotConnected).of_peer(self.handle.peer);
                self.give_back(command, true, error);
            }
        }
    }

    fn established(&mut self) {
        if self.stage != Stage::Handshake {
            return;
        }
        self.stage = Stage::Established;
        self.handle.established();
        let (peer, telemetry) = (self.handle.peer, &self.shared.telemetry);
        for reader in &mut self.readers {
            telemetry.metrics.stream_opened(reader.stream.as_str());
            reader.span = debug_span!("stream", %peer, stream = %reader.stream);
            debug!(parent: &reader.span, "stream opened");
        }
    }

    fn prepared(&mut self, names: &[StreamName]) {
        if self.readers.is_empty() {
            self.telemetry().metrics.key_derivation(false);
        }
        self.handle.prepared(names);
        for stream in names {
            if !self.readers.iter().any(|reader| reader.stream == *stream) {
                let inbox = self.shared.readers.inbox(self.handle.peer, stream);
                let (stream, tally) = (stream.clone(), Tally::default());
                let span = Span::none();
                self.readers.push(Reader { span, stream, inbox, is_readable: false, tally });
            }
        }
    }

    fn send_stalled(&mut self, now: Instant) {
        while let Some((stream, mut messages)) = self.stalled.pop_front() {
            let mut reader = self.readers.iter_mut().find(|reader| reader.stream == stream);
            let metrics = &self.shared.telemetry.metrics;
            while let Some(message) = messages.front() {
                let bytes = message.len();
                if self.session.send(now, &stream, message.clone()).is_err() {
                    // There is no room; or the session is over, and its end tells how many were
                    // not sent.
                    return self.stalled.push_front((stream, messages));
                }
                if let Some(reader) = &mut reader {
                    reader.tally.sent(bytes);
                    trace!(parent: &reader.span, bytes, "message sent");
                }
                metrics.message_sent(stream.as_str(), bytes);
                messages.pop_front();
            }
        }
    }

    fn event(&mut self, event: SessionEvent) {
        let peer = self.handle.peer;
        let event = match event {
            SessionEvent::HandshakeReadable => {
                self.handshake_is_readable = true;
                return;
            }
            SessionEvent::Readable { stream } => {
                for reader in &mut self.readers {
                    reader.is_readable |= reader.stream == stream;
                }
                return;
            }
            SessionEvent::Established => return self.established(),
            SessionEvent::RecordRejected { stream, error } => {
                warn!(%peer, %stream, %error, "record rejected");
                self.telemetry().metrics.decryption_error();
                Event::RecordRejected { peer, stream, error }
            }
            SessionEvent::StreamInterrupted { stream, in_doubt } => {
                debug!(%peer, %stream, in_doubt, "stream interrupted");
                Event::StreamInterrupted { peer, stream, in_doubt }
            }
            SessionEvent::StreamRefused { stream, unsent } => {
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
            for reader in &mut self.readers {
                self.shared.telemetry.metrics.stream_closed(reader.stream.as_str());
                debug!(parent: &reader.span, "stream closed");
                reader.span = Span::none();
            }
        }
        let (commands, left) = self.handle.close();
        let stalled: usize = self.stalled.iter().map(|(_, messages)| messages.len()).sum();
        closed.unsent += left + stalled;
        self.stalled = VecDeque::new();
        let peer = self.handle.peer;
        debug!(%peer, reason = %closed.reason, closed.unsent, closed.in_doubt, "session closed");
        self.to_node.push(NodeCommand::SessionClosed(self.session.id(), closed));
        self.give_back_all(commands);
    }

    /// Sends a command to the node's task. One that is gone drops it, and with it the answers.
    fn send(&self, command: NodeCommand) {
        drop(self.shared.mailbox.put(command));
    }

    fn deliver_handshake(&mut self, cx: &Context<'_>) {
        if !self.handshake_is_readable {
            return;
        }
        let source =
            Source { peer: self.handle.peer, stream: None, received_at: SystemTime::now() };
        let inbox = self.shared.readers.main().clone();
        let (session, is_readable) = (&mut self.session, &mut self.handshake_is_readable);
        let (tally, telemetry) = (&mut self.handshake_tally, &self.shared.telemetry);
        // What is said in the handshake is never dropped: it is little, and needed.
        inbox.fill(cx, Delivery::Lossless, source, || match session.poll_handshake_message() {
            Some(data) => {
                tally.received(data.len());
                telemetry.metrics.message_received(HANDSHAKE, data.len());
                Some(data)
            }
            None => {
                *is_readable = false;
                None
            }
        });
    }

    fn deliver_messages(&mut self, cx: &Context<'_>) {
        if !self.readers.iter().any(|reader| reader.is_readable) {
            return;
        }
        self.refresh_readers();
        let (peer, session) = (self.handle.peer, &mut self.session);
        let received_at = SystemTime::now();
        let telemetry = &self.shared.telemetry;
        for reader in self.readers.iter_mut().filter(|reader| reader.is_readable) {
            let Reader { span, stream, inbox, is_readable, tally } = reader;
            let next = || match session.poll_message(stream) {
                Some(data) => {
                    tally.received(data.len());
                    trace!(parent: &*span, bytes = data.len(), "message received");
                    telemetry.metrics.message_received(stream.as_str(), data.len());
                    Some(data)
                }
                None => {
                    *is_readable = false;
                    None
                }
            };
            let source = Source { peer, stream: Some(stream.clone()), received_at };
            let count = inbox.fill(cx, self.shared.delivery, source, next);
            if count > 0 {
                (0..count).for_each(|_| telemetry.metrics.message_dropped(stream.as_str()));
                warn!(%peer, %stream, count, "messages dropped");
                let stream = Some(stream.clone());
                telemetry.events.publish(&Event::MessagesDropped { peer, stream, count });
            }
        }
    }

    /// Adds to the statistics what was counted since the last time.
    fn count(&mut self) {
        let (peer, stats) = (self.handle.peer, &self.shared.telemetry.stats);
        let handshake = Some((HANDSHAKE, &mut self.handshake_tally));
        let streams =
            self.readers.iter_mut().map(|reader| (reader.stream.as_str(), &mut reader.tally));
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
            for reader in &mut self.readers {
                reader.inbox = self.shared.readers.inbox(self.handle.peer, &reader.stream);
            }
        }
    }
}

/// The task is gone, in the order of things or with its runtime.
impl Drop for SessionDriver {
    fn drop(&mut self) {
        self.count();
        // What the session has to say to the node, and answers behind it.
        while self.poll_action().is_some() {}
        let (commands, _) = self.handle.close();
        if self.stage != Stage::Ended {
            self.send(NodeCommand::SessionGone(self.session.id()));
        }
        self.give_back_all(commands);
        for command in std::mem::take(&mut self.to_node) {
            self.send(command);
        }
    }
}
