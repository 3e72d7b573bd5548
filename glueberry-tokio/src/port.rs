//! Where the handles of a node and the task of one session meet.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Instant;

use bytes::Bytes;
use futures_channel::oneshot;
use glueberry_proto::{HandshakeError, PublicKey, SendError, SessionId, StreamName, ToSession};
use libp2p_identity::PeerId;

use crate::debug::DebugQueue;
use crate::mailbox::{lock, remember};
use crate::telemetry::Telemetry;

/// The shared side of one session: what handles leave for its task.
///
/// Messages are queued here by reference and taken by the task all at once; no lock is held while
/// anything is sealed. The watermarks count what waits here and in the core.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) peer: PeerId,
    pub(crate) connection: SessionId,
    limits: Limits,
    telemetry: Arc<Telemetry>,
    /// What `phase` says, for those who ask often, or while the state is locked.
    is_closed: AtomicBool,
    state: Mutex<State>,
}

/// When a stream is full, and when it accepts again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) message: usize,
    pub(crate) high: usize,
    pub(crate) low: usize,
    pub(crate) high_bytes: usize,
    pub(crate) low_bytes: usize,
}

/// A command to the session, with the way to answer it.
#[derive(Debug)]
pub(crate) enum Command {
    Say(Bytes, oneshot::Sender<Result<(), SendError>>),
    Prepare(PublicKey, Vec<StreamName>, oneshot::Sender<Result<(), HandshakeError>>),
    Finalize(oneshot::Sender<Result<(), HandshakeError>>),
    Reject(String),
    FromNode(ToSession),
}

#[derive(Debug, Default)]
struct State {
    task: Option<Waker>,
    commands: VecDeque<Command>,
    phase: Phase,
    outboxes: Vec<Outbox>,
    /// The task was woken and has not looked yet.
    is_woken: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Handshake,
    Established,
    Closed,
}

/// One stream's messages on their way to the core.
#[derive(Debug)]
struct Outbox {
    name: StreamName,
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// What the core holds: messages and bytes.
    in_core: (usize, usize),
    is_full: bool,
    /// When it was last told that it is full.
    told_at: Option<Instant>,
    waiting: Vec<Waker>,
}

impl Port {
    pub(crate) fn new(
        peer: PeerId,
        connection: SessionId,
        limits: Limits,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let (is_closed, state) = (AtomicBool::new(false), Mutex::default());
        Self { peer, connection, limits, telemetry, is_closed, state }
    }

    // ---- for handles --------------------------------------------------------------------------

    /// Leaves a command for the session; gives it back if the session is over.
    pub(crate) fn command(&self, command: Command) -> Result<(), Command> {
        let mut state = lock(&self.state);
        if state.phase == Phase::Closed {
            return Err(command);
        }
        state.commands.push_back(command);
        wake(state);
        Ok(())
    }

    /// Queues a message, or says why not. With `cx`, the caller is woken once a full stream
    /// accepts again.
    pub(crate) fn send(
        &self,
        stream: &str,
        message: &Bytes,
        cx: Option<&Context<'_>>,
    ) -> Result<(), SendError> {
        let (size, limit) = (message.len(), self.limits.message);
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        match state.phase {
            Phase::Closed => return Err(SendError::Closed),
            Phase::Handshake => return Err(SendError::NotEstablished),
            Phase::Established => {}
        }
        let outbox = state
            .outboxes
            .iter_mut()
            .find(|outbox| outbox.name.as_str() == stream)
            .ok_or(SendError::UnknownStream)?;
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        if !outbox.admits(size, &self.limits) {
            if !std::mem::replace(&mut outbox.is_full, true) {
                self.telemetry.engaged(self.peer, &outbox.name, &mut outbox.told_at);
            }
            if let Some(cx) = cx {
                outbox.wait(cx);
            }
            return Err(SendError::Backpressure);
        }
        outbox.push(message.clone(), &self.limits);
        if outbox.is_full {
            self.telemetry.engaged(self.peer, &outbox.name, &mut outbox.told_at);
        }
        wake(guard);
        Ok(())
    }

    pub(crate) fn now(&self) -> Instant {
        self.telemetry.now()
    }

    /// A sender has waited for room since then.
    pub(crate) fn waited(&self, stream: &str, since: Instant) {
        let waited = self.telemetry.now().saturating_duration_since(since);
        self.telemetry.metrics.backpressure_wait(stream, waited);
    }

    /// Returns whether the session is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Returns whether all that was accepted on the stream was taken by the transport.
    pub(crate) fn is_flushed(&self, stream: &str, cx: &Context<'_>) -> bool {
        let mut guard = lock(&self.state);
        let is_closed = guard.phase == Phase::Closed;
        let outbox = guard.outboxes.iter_mut().find(|outbox| outbox.name.as_str() == stream);
        match outbox {
            Some(outbox) if !is_closed && outbox.len() > 0 => {
                outbox.wait(cx);
                false
            }
            _ => true,
        }
    }

    /// Returns what waits on each stream.
    pub(crate) fn queues(&self) -> Vec<DebugQueue> {
        let state = lock(&self.state);
        let queue = |outbox: &Outbox| DebugQueue {
            stream: outbox.name.to_string(),
            pending: outbox.len(),
            pending_bytes: outbox.bytes + outbox.in_core.1,
            is_blocked: outbox.is_full,
        };
        state.outboxes.iter().map(queue).collect()
    }

    // ---- for the node -------------------------------------------------------------------------

    /// Leaves a word of the node. Neither a handle nor the session's task gets at the port before
    /// `what` is done too. A session that is over has told so, or will.
    pub(crate) fn tell(&self, message: ToSession, what: impl FnOnce()) {
        let mut state = lock(&self.state);
        let is_over = state.phase == Phase::Closed;
        if !is_over {
            state.commands.push_back(Command::FromNode(message));
        }
        what();
        if !is_over {
            wake(state);
        }
    }

    // ---- for the session's task ---------------------------------------------------------------

    /// Takes all commands, and all messages by stream; wakes the caller for the next.
    pub(crate) fn take(
        &self,
        cx: &Context<'_>,
        mut each: impl FnMut(&StreamName, VecDeque<Bytes>),
    ) -> VecDeque<Command> {
        let mut state = lock(&self.state);
        state.is_woken = false;
        remember(&mut state.task, cx);
        for outbox in &mut state.outboxes {
            if !outbox.queue.is_empty() {
                let queue = std::mem::take(&mut outbox.queue);
                outbox.in_core.0 += queue.len();
                outbox.in_core.1 += std::mem::take(&mut outbox.bytes);
                each(&outbox.name, queue);
            }
        }
        std::mem::take(&mut state.commands)
    }

    /// Takes note of what the core still holds of each stream.
    pub(crate) fn update(&self, queued: impl Fn(&StreamName) -> (usize, usize)) {
        let mut state = lock(&self.state);
        for outbox in &mut state.outboxes {
            let before = outbox.in_core.0;
            outbox.in_core = queued(&outbox.name);
            outbox.reopen(&self.limits);
            if outbox.in_core.0 != before {
                self.telemetry.metrics.pending_messages(outbox.name.as_str(), outbox.len());
            }
        }
    }

    pub(crate) fn prepared(&self, names: &[StreamName]) {
        let mut state = lock(&self.state);
        for name in names {
            if !state.outboxes.iter().any(|outbox| outbox.name == *name) {
                state.outboxes.push(Outbox::new(name.clone()));
            }
        }
    }

    pub(crate) fn established(&self) {
        lock(&self.state).phase = Phase::Established;
    }

    /// Refuses everything from now on; returns the commands that nobody will answer, and the
    /// messages that the core has not got.
    pub(crate) fn close(&self) -> (VecDeque<Command>, usize) {
        let mut state = lock(&self.state);
        state.phase = Phase::Closed;
        self.is_closed.store(true, Ordering::Release);
        let mut left = 0;
        for outbox in &mut state.outboxes {
            left += outbox.queue.len();
            outbox.queue = VecDeque::new();
            outbox.bytes = 0;
            outbox.wake_waiting();
        }
        (std::mem::take(&mut state.commands), left)
    }
}

impl Outbox {
    const fn new(name: StreamName) -> Self {
        Self {
            name,
            queue: VecDeque::new(),
            bytes: 0,
            in_core: (0, 0),
            is_full: false,
            told_at: None,
            waiting: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.queue.len() + self.in_core.0
    }

    fn admits(&self, size: usize, limits: &Limits) -> bool {
        let (count, bytes) = (self.len(), self.bytes + self.in_core.1);
        !self.is_full
            && count < limits.high
            && (count == 0 || bytes.saturating_add(size) <= limits.high_bytes)
    }

    fn push(&mut self, message: Bytes, limits: &Limits) {
        self.bytes += message.len();
        self.queue.push_back(message);
        // As the core does, which must never refuse what was accepted here.
        self.is_full = self.len() >= limits.high;
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
    }

    fn reopen(&mut self, limits: &Limits) {
        let (count, bytes) = (self.len(), self.bytes + self.in_core.1);
        if self.is_full && count <= limits.low && bytes <= limits.low_bytes {
            self.is_full = false;
            self.wake_waiting();
        } else if count == 0 {
            self.wake_waiting();
        }
    }

    fn wake_waiting(&mut self) {
        for waker in self.waiting.drain(..) {
            waker.wake();
        }
    }
}

fn wake(mut state: std::sync::MutexGuard<'_, State>) {
    if state.is_woken {
        return;
    }
    state.is_woken = true;
    let task = state.task.take();
    drop(state);
    if let Some(task) = task {
        task.wake();
    }
}
