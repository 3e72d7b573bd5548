//! Where handles, the node's task and the task of one session meet.

mod waiting;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use glueberry_proto::{SendError, SendLimits, SendQueue, SessionId, SessionInfo, StreamName};
use libp2p_identity::PeerId;
use tracing::Span;

use crate::command::SessionCommand;
use crate::debug::queue::DebugQueue;
use crate::mailbox::{lock, remember};
use crate::memory::PeerMemory;
use crate::path::Path;
use crate::telemetry::Telemetry;
use crate::waiters::{Waiters, wake_all};

pub(crate) use self::waiting::Waiting;

/// The shared side of one session: commands and messages on their way to its task.
///
/// A message waits here, and nowhere else, until the transport can take it: then the session takes
/// as many as fit into what it writes, and seals them without the lock.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    pub(crate) peer: PeerId,
    pub(crate) id: SessionId,
    /// What the peer makes the node hold.
    pub(crate) memory: Arc<PeerMemory>,
    limits: SendLimits,
    telemetry: Arc<Telemetry>,
    /// What the session is part of in a trace. Set when it becomes current.
    connection: OnceLock<Span>,
    /// What the session gives. Set when both sides have said what they offer.
    info: OnceLock<SessionInfo>,
    /// How the peer is reached; the connection owns it.
    path: OnceLock<Weak<dyn Path>>,
    /// Who passes on a message in its sender's turn, if the session's task lets others do its work.
    turns: OnceLock<Arc<dyn SendInTurn>>,
    state: Mutex<State>,
}

/// What passes on the messages of a session in their sender's turn.
pub(crate) trait SendInTurn: fmt::Debug + Send + Sync {
    /// Passes on what was queued on a stream, as far as the transport takes it now. Returns false if
    /// the session's task is to look after it.
    fn send(&self, stream: &str) -> bool;
}

#[derive(Debug)]
struct State {
    task: Option<Waker>,
    /// The task was woken and has not looked yet.
    is_woken: bool,
    /// A sender has passed on a message in its own turn since the task last looked. Those that come
    /// behind it wait for the task, which passes on many at once.
    had_turn: bool,
    /// None once the session is over.
    commands: Option<VecDeque<SessionCommand>>,
    /// Why messages are refused, unless they are accepted.
    refusal: Option<SendError>,
    streams: Vec<StreamQueue>,
}

/// The messages of one stream, and who waits for it.
#[derive(Debug)]
struct StreamQueue {
    name: StreamName,
    queue: SendQueue,
    /// Messages were given up, and no flush has reported it.
    has_given_up: bool,
    /// When [`Event::Backpressure`](crate::Event::Backpressure) was last published.
    announced_at: Option<Instant>,
    waiters: Waiters,
}

impl SessionHandle {
    pub(crate) fn new(
        peer: PeerId,
        id: SessionId,
        memory: Arc<PeerMemory>,
        limits: SendLimits,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let state = State {
            task: None,
            is_woken: false,
            had_turn: false,
            commands: Some(VecDeque::new()),
            refusal: Some(SendError::NotEstablished),
            streams: Vec::new(),
        };
        Self {
            peer,
            id,
            memory,
            limits,
            telemetry,
            connection: OnceLock::new(),
            info: OnceLock::new(),
            path: OnceLock::new(),
            turns: OnceLock::new(),
            state: Mutex::new(state),
        }
    }

    // ---- for handles --------------------------------------------------------------------------

    /// Queues a message and leaves an empty one behind, or says why not.
    pub(crate) fn send(&self, stream: &str, message: &mut Bytes) -> Result<(), SendError> {
        self.queue(stream, |queue| push(queue, message), |_| {})
    }

    /// Queues a message for which [`poll_writable`](Self::poll_writable) has found room, also if that
    /// was taken since.
    pub(crate) fn send_promised(&self, stream: &str, message: &Bytes) -> Result<(), SendError> {
        self.queue(stream, |queue| queue.push_promised(message.clone()), |_| {})
    }

    /// Queues messages up to the first that is refused; those that are queued are removed.
    pub(crate) fn send_many(
        &self,
        stream: &str,
        messages: &mut VecDeque<Bytes>,
    ) -> Result<(), SendError> {
        self.queue(stream, |queue| queue.push_many(messages), |_| {})
    }

    /// Queues a message, and leaves an empty one behind, once the stream's queue accepts one.
    pub(crate) fn poll_send(
        self: &Arc<Self>,
        cx: &Context<'_>,
        stream: &str,
        message: &mut Bytes,
        waiting: &mut Waiting,
    ) -> Poll<Result<(), SendError>> {
        self.poll_queue(cx, stream, |queue| push(queue, message), waiting)
    }

    /// Queues messages, and removes them, once the stream's queue accepts them. Ready when all are
    /// queued.
    pub(crate) fn poll_send_many(
        self: &Arc<Self>,
        cx: &Context<'_>,
        stream: &str,
        messages: &mut VecDeque<Bytes>,
        waiting: &mut Waiting,
    ) -> Poll<Result<(), SendError>> {
        self.poll_queue(cx, stream, |queue| queue.push_many(messages), waiting)
    }

    /// Waits until the stream's queue accepts a message. Fails if it never will.
    pub(crate) fn poll_writable(
        self: &Arc<Self>,
        cx: &Context<'_>,
        stream: &str,
        waiting: &mut Waiting,
    ) -> Poll<Result<(), SendError>> {
        waiting.leave_others(self);
        let mut state = lock(&self.state);
        match state.accepting(stream) {
            Ok(found) if found.queue.is_full() => {}
            Ok(_) => return Poll::Ready(Ok(())),
            Err(error) => return Poll::Ready(Err(error)),
        }
        waiting.register(self, &mut state, stream, cx);
        Poll::Pending
    }

    /// Waits until the transport has taken all that was accepted on the stream. Fails, once, if some of
    /// it was given up.
    pub(crate) fn poll_flushed(
        self: &Arc<Self>,
        cx: &Context<'_>,
        stream: &str,
        waiting: &mut Waiting,
    ) -> Poll<Result<(), SendError>> {
        waiting.leave_others(self);
        let mut state = lock(&self.state);
        let Some(found) = state.stream(stream) else {
            return Poll::Ready(Ok(()));
        };
        if std::mem::take(&mut found.has_given_up) {
            return Poll::Ready(Err(SendError::Closed));
        }
        // What a session that is over had not taken is given up.
        if found.queue.is_empty() || state.commands.is_none() {
            return Poll::Ready(Ok(()));
        }
        waiting.register(self, &mut state, stream, cx);
        Poll::Pending
    }

    /// Returns how the peer is reached, while there is a connection that knows it.
    pub(crate) fn path(&self) -> Option<Arc<dyn Path>> {
        self.path.get()?.upgrade()
    }

    pub(crate) fn now(&self) -> Instant {
        self.telemetry.now()
    }

    /// A sender has waited for room since then.
    pub(crate) fn waited(&self, stream: &str, since: Instant) {
        let waited = self.telemetry.now().saturating_duration_since(since);
        self.telemetry.metrics.backpressure_wait(stream, waited);
    }

    /// Returns what the session gives, once that is known.
    pub(crate) fn info(&self) -> Option<SessionInfo> {
        self.info.get().copied()
    }

    /// Returns what waits on each stream.
    pub(crate) fn queues(&self) -> Vec<DebugQueue> {
        let state = lock(&self.state);
        let queue = |it: &StreamQueue| DebugQueue {
            stream: it.name.to_string(),
            pending: it.queue.len(),
            pending_bytes: it.queue.bytes(),
            is_blocked: it.queue.is_full(),
        };
        state.streams.iter().map(queue).collect()
    }

    // ---- for the node's task ------------------------------------------------------------------

    /// The session is part of this in a trace.
    pub(crate) fn belongs_to(&self, connection: &Span) {
        // Later changes of state are of the same connection.
        self.connection.get_or_init(|| connection.clone());
    }

    /// Queues a command; gives it back if the session is over.
    pub(crate) fn command(&self, command: SessionCommand) -> Result<(), SessionCommand> {
        let mut state = lock(&self.state);
        match &mut state.commands {
            Some(commands) => commands.push_back(command),
            None => return Err(command),
        }
        wake_task(state);
        Ok(())
    }

    // ---- for the session's task ---------------------------------------------------------------

    pub(crate) fn has_info(&self) -> bool {
        self.info.get().is_some()
    }

    pub(crate) fn set_info(&self, info: SessionInfo) {
        self.info.get_or_init(|| info);
    }

    /// Returns what the session is part of in a trace, once it has become current.
    pub(crate) fn connection(&self) -> Option<&Span> {
        self.connection.get()
    }

    /// The connection is reached by this.
    pub(crate) fn reached_by(&self, path: Weak<dyn Path>) {
        self.path.get_or_init(|| path);
    }

    /// Lets senders pass on messages in their own turn.
    pub(crate) fn sent_in_turn_by(&self, turns: Arc<dyn SendInTurn>) {
        self.turns.get_or_init(|| turns);
    }

    /// Takes all commands, and calls `queued` for each stream with messages. Wakes the caller for
    /// whatever comes next.
    pub(crate) fn take_commands(
        &self,
        cx: &Context<'_>,
        mut queued: impl FnMut(&StreamName),
    ) -> VecDeque<SessionCommand> {
        let mut state = lock(&self.state);
        (state.is_woken, state.had_turn) = (false, false);
        remember(&mut state.task, cx);
        let waiting = state.streams.iter().filter(|stream| !stream.queue.is_empty());
        waiting.for_each(|stream| queued(&stream.name));
        state.commands.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes messages of a stream for the transport. Returns whether more are left.
    pub(crate) fn take_messages(
        &self,
        stream: &StreamName,
        budget: usize,
        out: &mut VecDeque<Bytes>,
    ) -> bool {
        let mut state = lock(&self.state);
        let Some(found) = state.stream(stream.as_str()) else {
            debug_assert!(false, "a stream that was never prepared is written");
            return false;
        };
        let before = out.len();
        found.queue.take(budget, out);
        let is_flushed = found.queue.is_empty();
        // A task may wait for either.
        let woken = match found.queue.reopened() || is_flushed {
            true => found.waiters.take(),
            false => Vec::new(),
        };
        let pending = found.queue.len();
        drop(state);
        wake_all(woken);
        if out.len() > before {
            self.telemetry.metrics.pending_messages(stream.as_str(), pending);
        }
        !is_flushed
    }

    /// Makes room for the messages of streams that were prepared.
    pub(crate) fn prepared(&self, names: &[StreamName]) {
        let mut state = lock(&self.state);
        for name in names {
            if state.stream(name.as_str()).is_none() {
                state.streams.push(StreamQueue::new(name.clone(), self.limits));
            }
        }
    }

    /// Accepts messages from now on.
    pub(crate) fn established(&self) {
        lock(&self.state).refusal = None;
    }

    /// Refuses messages from now on. Those that wait may still be taken.
    pub(crate) fn refuse_messages(&self) {
        let mut state = lock(&self.state);
        state.refusal = Some(SendError::Closed);
        let woken = state.take_waiters();
        drop(state);
        wake_all(woken);
    }

    /// Gives up what waits on a stream; returns how many messages that were.
    pub(crate) fn give_up(&self, stream: &StreamName) -> usize {
        let mut state = lock(&self.state);
        let Some(found) = state.stream(stream.as_str()) else {
            return 0;
        };
        let given_up = found.give_up();
        let woken = found.waiters.take();
        drop(state);
        wake_all(woken);
        given_up.count()
    }

    /// Refuses everything from now on; returns the commands that the session has not got, and how
    /// many messages the transport has not got.
    pub(crate) fn close(&self) -> (VecDeque<SessionCommand>, usize) {
        let mut state = lock(&self.state);
        state.refusal = Some(SendError::Closed);
        let commands = state.commands.take().unwrap_or_default();
        let given_up: Vec<_> = state.streams.iter_mut().map(StreamQueue::give_up).collect();
        let woken = state.take_waiters();
        drop(state);
        wake_all(woken);
        (commands, given_up.into_iter().map(Iterator::count).sum())
    }

    // ---- parts --------------------------------------------------------------------------------

    fn poll_queue(
        self: &Arc<Self>,
        cx: &Context<'_>,
        stream: &str,
        push: impl FnOnce(&mut SendQueue) -> Result<(), SendError>,
        waiting: &mut Waiting,
    ) -> Poll<Result<(), SendError>> {
        waiting.leave_others(self);
        let register = |state: &mut State| waiting.register(self, state, stream, cx);
        match self.queue(stream, push, register) {
            Err(SendError::Backpressure) => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    /// Has `push` put messages into a stream's queue. Calls `refused` if there was no room for one,
    /// before the lock is released: who registers there does not miss the wake-up.
    fn queue(
        &self,
        stream: &str,
        push: impl FnOnce(&mut SendQueue) -> Result<(), SendError>,
        refused: impl FnOnce(&mut State),
    ) -> Result<(), SendError> {
        let mut state = lock(&self.state);
        let found = state.accepting(stream)?;
        let was_full = found.queue.is_full();
        let before = (found.queue.len(), found.queue.bytes());
        let result = push(&mut found.queue);
        let has_queued = found.queue.len() > before.0;
        let bytes = found.queue.bytes() - before.1;
        let has_filled = found.queue.is_full() && !was_full;
        if result == Err(SendError::Backpressure) {
            refused(&mut state);
        }
        // Behind others it would gain nothing, and records would be cut short.
        let is_short = before.0 == 0 && bytes <= LONGEST_IN_TURN;
        if has_queued {
            self.pass_on(state, stream, is_short);
        } else {
            drop(state);
        }
        if has_filled {
            self.backpressure(stream);
        }
        result
    }

    /// Has passed on what was queued: now if that `is_short` and nothing else is about to be, else by the
    /// task.
    fn pass_on(&self, mut state: MutexGuard<'_, State>, stream: &str, is_short: bool) {
        let turns = self.turns.get().filter(|_| is_short);
        let (Some(turns), false, false) = (turns, state.is_woken, state.had_turn) else {
            return wake_task(state);
        };
        state.had_turn = true;
        drop(state);
        if !turns.send(stream) {
            wake_task(lock(&self.state));
        }
    }

    /// Counts that a stream has become full, and publishes it now and then.
    fn backpressure(&self, stream: &str) {
        self.telemetry.metrics.backpressure_engaged(stream);
        let now = self.telemetry.now();
        let mut state = lock(&self.state);
        let announced = state.stream(stream).and_then(|found| found.announce_backpressure(now));
        drop(state);
        if let Some(name) = announced {
            self.telemetry.backpressure(self.peer, name);
        }
    }
}

impl State {
    fn stream(&mut self, name: &str) -> Option<&mut StreamQueue> {
        self.streams.iter_mut().find(|stream| stream.name.as_str() == name)
    }

    /// Returns a stream that accepts messages, at least when its queue has room.
    fn accepting(&mut self, name: &str) -> Result<&mut StreamQueue, SendError> {
        match self.refusal {
            Some(error) => Err(error),
            None => self.stream(name).ok_or(SendError::UnknownStream),
        }
    }

    fn take_waiters(&mut self) -> Vec<Waker> {
        self.streams.iter_mut().flat_map(|stream| stream.waiters.take()).collect()
    }
}

impl StreamQueue {
    fn new(name: StreamName, limits: SendLimits) -> Self {
        let queue = SendQueue::new(limits);
        let waiters = Waiters::default();
        Self { name, queue, has_given_up: false, announced_at: None, waiters }
    }

    /// Removes all messages.
    fn give_up(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        self.has_given_up |= !self.queue.is_empty();
        self.queue.drain()
    }

    /// Returns the stream's name if its backpressure is to be published now.
    fn announce_backpressure(&mut self, now: Instant) -> Option<StreamName> {
        let is_due = Telemetry::announces_backpressure(self.announced_at, now);
        is_due.then(|| {
            self.announced_at = Some(now);
            self.name.clone()
        })
    }
}

/// Queues a message, which is taken only if it is accepted: a copy for the case that it is not would cost
/// more than the queue.
fn push(queue: &mut SendQueue, message: &mut Bytes) -> Result<(), SendError> {
    queue.accepts(message.len())?;
    queue.push(std::mem::take(message))
}

/// Wakes the session's task, once for all that comes until it looks.
fn wake_task(mut state: MutexGuard<'_, State>) {
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

/// Bytes of messages that are sealed in their sender's turn, at most. More is worth the way to another
/// core.
const LONGEST_IN_TURN: usize = 16 * 1024;
