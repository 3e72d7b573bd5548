//! A session on the async side: the core's machine between its handle, its readers and the node.

mod delivery;
mod handshake;
mod streams;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Context;

use bytes::Bytes;
use glueberry_proto::{Action, Instant, Session, StreamName, SubstreamBuffer};
use tracing::{Span, debug, debug_span};

use self::streams::{Inbound, Outbound, Stream};
use crate::command::{HandshakeRequest, NodeCommand, SessionCommand};
use crate::memory::{Charge, PeerMemory};
use crate::message::HANDSHAKE;
use crate::path::Path;
use crate::session_handle::SessionHandle;
use crate::shared::Shared;
use crate::span::within;
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

    pub(crate) const fn handle(&self) -> &Arc<SessionHandle> {
        &self.handle
    }

    /// Tells the core that a stream has messages to send.
    pub(crate) fn queued(&mut self, now: Instant, stream: &str) {
        if let Some(stream) = self.streams.iter().find(|it| it.name.as_str() == stream) {
            self.session.handle_queued(now, &stream.name);
        }
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
        if !self.to_node.is_empty() {
            for command in std::mem::take(&mut self.to_node) {
                self.send(command);
            }
        }
        None
    }

    pub(crate) fn reached_by(&self, path: Option<Weak<dyn Path>>) {
        if let Some(path) = path {
            self.handle.reached_by(path);
        }
    }

    // ---- memory -------------------------------------------------------------------------------

    /// Returns whether a little more of the peer may be read. If not, the task is woken when there
    /// is room.
    pub(crate) fn may_read(&mut self, cx: &Context<'_>) -> bool {
        let memory = self.held.memory();
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

    /// Returns what the peer makes the node hold.
    pub const fn memory(&self) -> &Arc<PeerMemory> {
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
        for stream in &mut self.streams {
            telemetry.metrics.stream_opened(stream.name.as_str());
            let (node, name) = (self.shared.node, &stream.name);
            let begin = || debug_span!("stream", %node, %peer, stream = %name);
            stream.span = self.handle.connection().map_or_else(begin, |it| within(it, begin));
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

    /// Sends a command to the node's task. One that is gone drops it, and with it the answers.
    fn send(&self, command: NodeCommand) {
        drop(self.shared.mailbox.put(command));
    }

    /// Adds to the statistics what was counted since the last time. Once for all that a poll of the
    /// task has moved is enough.
    pub(crate) fn count(&mut self, now: Instant) {
        let (peer, stats) = (self.handle.peer, &self.shared.telemetry.stats);
        let handshake = Some((HANDSHAKE, &mut self.handshake.tally));
        let streams = self.streams.iter_mut().map(|it| (it.name.as_str(), &mut it.inbound.tally));
        for (stream, tally) in streams.chain(handshake) {
            if !tally.is_empty() {
                stats.count(
                    peer,
                    stream,
                    std::mem::take(tally),
                    (self.shared.runtime.wall_time(), now),
                );
            }
        }
    }

    fn telemetry(&self) -> &Telemetry {
        &self.shared.telemetry
    }
}

/// The task is gone, in the order of things or with its runtime.
impl Drop for SessionDriver {
    fn drop(&mut self) {
        self.count(self.shared.now());
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
