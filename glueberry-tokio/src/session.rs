//! A session on the async side: the core's machine with its port, its readers and the node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;
use std::time::SystemTime;

use bytes::Bytes;
use glueberry_proto::{
    Action, Closed, Event as SessionEvent, HandshakeError, Instant, SendError, Session, StreamName,
};
use tracing::{Span, debug, debug_span, trace, warn};

use crate::config::Delivery;
use crate::driver::Letter;
use crate::events::Event;
use crate::inbox::Inbox;
use crate::mailbox::answer;
use crate::message::{HANDSHAKE, Source};
use crate::node::Shared;
use crate::port::{Command, Port};
use crate::stats::Tally;
use crate::telemetry::Telemetry;

/// Drives one [`Session`] between its handles and an adapter that moves its bytes.
#[derive(Debug)]
pub struct SessionDriver {
    session: Session,
    port: Arc<Port>,
    shared: Arc<Shared>,
    readers: Vec<Reader>,
    readers_version: u64,
    handshake_is_readable: bool,
    handshake_tally: Tally,
    /// Whether the streams were counted as open.
    is_established: bool,
    /// Messages that the core would not take at once.
    stalled: VecDeque<(StreamName, VecDeque<Bytes>)>,
    is_over: bool,
    /// How the session ended, to be told behind its last word to the node.
    closed: Option<Closed>,
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
    pub(crate) fn new(session: Session, port: Arc<Port>, shared: Arc<Shared>) -> Self {
        Self {
            session,
            port,
            shared,
            readers: Vec::new(),
            readers_version: 0,
            handshake_is_readable: false,
            handshake_tally: Tally::default(),
            is_established: false,
            stalled: VecDeque::new(),
            is_over: false,
            closed: None,
        }
    }

    /// Returns the core's machine.
    pub const fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Gives the core what handles have left for it.
    pub fn take_commands(&mut self, now: Instant, cx: &Context<'_>) {
        let stalled = &mut self.stalled;
        let commands = self.port.take(cx, |stream, messages| {
            stalled.push_back((stream.clone(), messages));
        });
        // Messages first: they were accepted before a command that ends the session.
        self.send_stalled(now);
        for command in commands {
            self.command(now, command);
        }
    }

    /// Returns the next thing for the adapter to do; words to the node are carried on the way.
    pub fn poll_action(&mut self) -> Option<Action> {
        let connection = self.session.id();
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Forward(message) => self.write(Letter::FromSession(connection, message)),
                action => return Some(action),
            }
        }
        if let Some(closed) = self.closed.take() {
            self.write(Letter::SessionClosed(self.port.peer, closed));
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
        if !self.is_over {
            let (session, stalled) = (&self.session, &self.stalled);
            self.port.update(|stream| {
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
        self.is_over
            && !self.handshake_is_readable
            && !self.readers.iter().any(|reader| reader.is_readable)
    }

    fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Say(message, answer_to) => {
                let bytes = message.len();
                let result = self.session.send_handshake(now, message);
                if result.is_ok() {
                    self.handshake_tally.sent(bytes);
                    self.telemetry().metrics.message_sent(HANDSHAKE, bytes);
                }
                answer(answer_to, result);
            }
            Command::Prepare(key, names, answer_to) => {
                let result = self.session.prepare_streams(now, key, &names);
                match &result {
                    Ok(()) => self.prepared(&names),
                    Err(HandshakeError::Agreement(_)) => {
                        self.telemetry().metrics.encryption_error()
                    }
                    Err(_) => {}
                }
                answer(answer_to, result);
            }
            Command::Finalize(answer_to) => {
                let result = self.session.finalize_handshake(now);
                if self.session.is_established() {
                    self.established();
                }
                answer(answer_to, result);
            }
            Command::Reject(reason) => self.session.reject_handshake(now, &reason),
            Command::FromNode(message) => {
                self.session.handle_node_message(now, message);
                // It may have taken over what another session was prepared for.
                let names: Vec<StreamName> = self.session.streams().cloned().collect();
                if names.len() > self.readers.len() {
                    self.prepared(&names);
                }
            }
        }
    }

    fn established(&mut self) {
        self.port.established();
        if !std::mem::replace(&mut self.is_established, true) {
            let (peer, telemetry) = (self.port.peer, &self.shared.telemetry);
            for reader in &mut self.readers {
                telemetry.metrics.stream_opened(reader.stream.as_str());
                reader.span = debug_span!("stream", %peer, stream = %reader.stream);
                debug!(parent: &reader.span, "stream opened");
            }
        }
    }

    fn prepared(&mut self, names: &[StreamName]) {
        if self.readers.is_empty() {
            self.telemetry().metrics.key_derivation(false);
        }
        self.port.prepared(names);
        for stream in names {
            if !self.readers.iter().any(|reader| reader.stream == *stream) {
                let inbox = self.shared.routes.reader(self.port.peer, Some(stream));
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
        let peer = self.port.peer;
        let told = match event {
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
        self.telemetry().events.publish(&told);
    }

    fn closed(&mut self, mut closed: Closed) {
        self.is_over = true;
        if self.is_established {
            for reader in &mut self.readers {
                self.shared.telemetry.metrics.stream_closed(reader.stream.as_str());
                debug!(parent: &reader.span, "stream closed");
                reader.span = Span::none();
            }
        }
        let (commands, left) = self.port.close();
        for command in commands {
            refuse(command);
        }
        let stalled: usize = self.stalled.iter().map(|(_, messages)| messages.len()).sum();
        closed.unsent += left + stalled;
        self.stalled = VecDeque::new();
        let peer = self.port.peer;
        debug!(%peer, reason = %closed.reason, closed.unsent, closed.in_doubt, "session closed");
        self.closed = Some(closed);
    }

    /// Puts a word to the node; one that is gone needs to hear nothing.
    fn write(&self, letter: Letter) {
        drop(self.shared.mailbox.put(letter));
    }

    fn deliver_handshake(&mut self, cx: &Context<'_>) {
        if !self.handshake_is_readable {
            return;
        }
        let source = Source { peer: self.port.peer, stream: None, received_at: SystemTime::now() };
        let inbox = self.shared.routes.reader(source.peer, None);
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
        let (peer, session) = (self.port.peer, &mut self.session);
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
        let (peer, stats) = (self.port.peer, &self.shared.telemetry.stats);
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
        let version = self.shared.routes.version();
        if version != self.readers_version {
            self.readers_version = version;
            for reader in &mut self.readers {
                reader.inbox = self.shared.routes.reader(self.port.peer, Some(&reader.stream));
            }
        }
    }
}

/// The session is gone with its task, one way or another: nobody may wait for it.
impl Drop for SessionDriver {
    fn drop(&mut self) {
        self.count();
        let (commands, _) = self.port.close();
        for command in commands {
            refuse(command);
        }
        if !self.is_over {
            self.write(Letter::SessionGone(self.session.id()));
        }
    }
}

/// Answers a command that came too late.
fn refuse(command: Command) {
    match command {
        Command::Say(_, answer_to) => answer(answer_to, Err(SendError::Closed)),
        Command::Prepare(_, _, answer_to) => answer(answer_to, Err(HandshakeError::Closed)),
        Command::Finalize(answer_to) => answer(answer_to, Err(HandshakeError::Closed)),
        Command::Reject(_) | Command::FromNode(_) => {}
    }
}
