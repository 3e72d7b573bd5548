//! Where received messages wait for the application.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use bytes::Bytes;

use crate::config::Delivery;
use crate::mailbox::{lock, remember};
use crate::memory::{Charge, PeerMemory, cost};
use crate::message::{Message, Source};
use crate::waiters::{WaiterId, Waiters, wake_all};

/// A bounded queue of messages from all sessions to one reader.
///
/// A session that finds it full keeps its messages, and in the end its peer waits: nothing is
/// dropped.
#[derive(Debug)]
pub(crate) struct Inbox {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Room that writers have reserved and not filled yet.
    reserved: usize,
    reader: Option<Waker>,
    /// Sessions that wait for room.
    writers: Waiters,
    is_closed: bool,
    is_abandoned: bool,
}

/// The end of an [`Inbox`] into which one session writes.
#[derive(Debug)]
pub(crate) struct InboxWriter {
    inbox: Arc<Inbox>,
    waiting: Option<WaiterId>,
}

/// What a writer finds.
enum Room {
    /// Room for this many messages, which is reserved.
    For(usize),
    /// None; the writer is woken when there is.
    Full,
    /// The reader is gone.
    Abandoned,
}

impl InboxWriter {
    pub(crate) const fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, waiting: None }
    }

    /// Writes to another inbox from now on.
    pub(crate) fn write_to(&mut self, inbox: Arc<Inbox>) {
        if !Arc::ptr_eq(&self.inbox, &inbox) {
            *self = Self::new(inbox);
        }
    }

    /// Moves messages from `next` for as long as there is room and there are messages. If the inbox
    /// is full, the caller is woken when it no longer is; or, if messages are to be dropped, the
    /// rest is taken and forgotten. Returns how many messages that were.
    ///
    /// No lock is held while `next` runs.
    pub(crate) fn fill(
        &mut self,
        cx: &Context<'_>,
        delivery: Delivery,
        source: Source,
        memory: &Arc<PeerMemory>,
        mut next: impl FnMut() -> Option<Bytes>,
    ) -> u64 {
        loop {
            let room = match self.reserve(cx) {
                Room::For(room) => room,
                Room::Full if delivery == Delivery::Lossless => return 0,
                Room::Full => return std::iter::from_fn(next).map(|_| 1).sum(),
                Room::Abandoned => {
                    std::iter::from_fn(next).for_each(drop);
                    return 0;
                }
            };
            let (mut data, mut bytes) = (VecDeque::new(), 0);
            while data.len() < room
                && let Some(message) = next()
            {
                bytes += cost(message.len());
                data.push_back(message);
            }
            let is_last = data.len() < room;
            if !data.is_empty() || is_last {
                self.push(room, Run::new(source.clone(), data, bytes, memory));
            }
            if is_last {
                return 0;
            }
        }
    }

    fn reserve(&mut self, cx: &Context<'_>) -> Room {
        let mut state = lock(&self.inbox.state);
        if state.is_abandoned {
            return Room::Abandoned;
        }
        let room = self.inbox.room(&state).min(BATCH);
        if room == 0 {
            state.writers.register(&mut self.waiting, cx);
            return Room::Full;
        }
        state.reserved += room;
        Room::For(room)
    }

    /// Fills room that was reserved, and gives back the rest.
    fn push(&self, reserved: usize, run: Run) {
        let mut state = lock(&self.inbox.state);
        state.reserved -= reserved;
        let mut reader = None;
        if !run.data.is_empty() && !state.is_abandoned {
            state.queue.push(run);
            reader = state.reader.take();
        }
        // Another writer may have found everything reserved.
        let writers = match self.inbox.room(&state) {
            0 => Vec::new(),
            _ => state.writers.take(),
        };
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        wake_all(writers);
    }
}

impl Drop for InboxWriter {
    fn drop(&mut self) {
        if let Some(id) = self.waiting {
            let waker = lock(&self.inbox.state).writers.remove(id);
            drop(waker);
        }
    }
}

impl Inbox {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, state: Mutex::default() })
    }

    fn room(&self, state: &State) -> usize {
        self.capacity.saturating_sub(state.queue.len + state.reserved)
    }

    /// Ends the stream of messages behind what waits.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The reader is gone: messages are taken and forgotten, so that no session waits for room.
    fn abandon(&self) {
        let mut state = lock(&self.state);
        state.is_abandoned = true;
        let forgotten = std::mem::take(&mut state.queue);
        let writers = state.writers.take();
        drop(state);
        drop(forgotten);
        wake_all(writers);
    }

    /// Takes all that waits, which is nothing only at the end.
    fn poll_batch(&self, cx: &Context<'_>) -> Poll<Queue> {
        let mut state = lock(&self.state);
        if state.queue.len == 0 {
            if state.is_closed {
                return Poll::Ready(Queue::default());
            }
            remember(&mut state.reader, cx);
            return Poll::Pending;
        }
        let batch = std::mem::take(&mut state.queue);
        let writers = state.writers.take();
        drop(state);
        wake_all(writers);
        Poll::Ready(batch)
    }
}

/// Messages in the order of their arrival: where they come from is the same for many in a row, and
/// takes more room than most of them.
#[derive(Debug, Default)]
struct Queue {
    /// None is empty.
    runs: VecDeque<Run>,
    len: usize,
}

#[derive(Debug)]
struct Run {
    source: Source,
    data: VecDeque<Bytes>,
    /// What the messages occupy, and what was charged for them: less often changed.
    bytes: usize,
    charge: Option<Charge>,
}

impl Run {
    fn new(source: Source, data: VecDeque<Bytes>, bytes: usize, memory: &Arc<PeerMemory>) -> Self {
        let charge = (!data.is_empty()).then(|| Charge::new(memory.clone(), bytes));
        Self { source, data, bytes, charge }
    }

    fn pop(&mut self) -> Option<Bytes> {
        let data = self.data.pop_front()?;
        self.bytes -= cost(data.len());
        if let Some(charge) = &mut self.charge {
            charge.lower_to(self.bytes);
        }
        Some(data)
    }
}

impl Queue {
    const fn new() -> Self {
        Self { runs: VecDeque::new(), len: 0 }
    }

    fn push(&mut self, run: Run) {
        self.len += run.data.len();
        self.runs.push_back(run);
    }

    fn pop(&mut self) -> Option<Message> {
        let source = self.runs.front()?.source.clone();
        Some(Message::new(source, self.pop_data()?))
    }

    fn pop_data(&mut self) -> Option<Bytes> {
        let run = self.runs.front_mut()?;
        let data = run.pop()?;
        self.len -= 1;
        if run.data.is_empty() {
            self.runs.pop_front();
        }
        Some(data)
    }
}

/// The reading end of an [`Inbox`]: takes all that waits at once, and hands it out one by one.
///
/// So up to twice the inbox's capacity is held: as much waits as is being handed out.
#[derive(Debug)]
pub(crate) struct InboxReader {
    inbox: Arc<Inbox>,
    batch: Queue,
}

impl InboxReader {
    pub(crate) const fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, batch: Queue::new() }
    }

    pub(crate) fn poll_message(&mut self, cx: &Context<'_>) -> Poll<Option<Message>> {
        self.poll_batch(cx).map(|()| self.batch.pop())
    }

    /// Leaves out where the message comes from.
    pub(crate) fn poll_data(&mut self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        self.poll_batch(cx).map(|()| self.batch.pop_data())
    }

    /// Ready once something is at hand, or nothing ever will be.
    fn poll_batch(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.batch.len > 0 {
            return Poll::Ready(());
        }
        self.inbox.poll_batch(cx).map(|batch| self.batch = batch)
    }
}

impl Drop for InboxReader {
    fn drop(&mut self) {
        self.inbox.abandon();
    }
}

/// The messages of all peers on all streams that no [`StreamHandle`](crate::StreamHandle) has
/// taken over, handshake messages among them, in the order of their arrival per stream.
///
/// A [`Stream`] that ends when the node has shut down. While it is not read, peers are slowed down
/// by flow control; nothing is dropped. Dropping it means that the messages are of no interest:
/// they are received and forgotten.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_util::StreamExt;
///
/// let (alice, bob) = pair().await?;
/// let mut messages = bob.messages().expect("the first call gets them");
/// assert!(bob.messages().is_none());
/// for number in 0..3_u8 {
///     alice.send(bob.peer_id(), "chat", vec![number]).await?;
/// }
/// assert_eq!(messages.next().await.expect("it runs").data, [0][..]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Messages(InboxReader);

impl Messages {
    pub(crate) const fn new(inbox: Arc<Inbox>) -> Self {
        Self(InboxReader::new(inbox))
    }

    /// Waits for the next message; `None` when the node has shut down.
    ///
    /// Cancel-safe: a message is lost neither if the future is dropped nor otherwise.
    pub async fn recv(&mut self) -> Option<Message> {
        std::future::poll_fn(|cx| self.0.poll_message(cx)).await
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.poll_message(cx)
    }
}

/// Messages that a writer moves at a time, for which it reserves room.
const BATCH: usize = 128;
