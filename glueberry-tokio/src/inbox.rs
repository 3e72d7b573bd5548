//! Where received messages wait for the application.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use bytes::Bytes;

use crate::config::Delivery;
use crate::mailbox::{lock, remember};
use crate::message::{Message, Source};

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
    reader: Option<Waker>,
    /// Sessions that wait for room.
    writers: Vec<Waker>,
    is_closed: bool,
    is_abandoned: bool,
}

impl Inbox {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, state: Mutex::default() })
    }

    /// Fills the inbox from `next` for as long as it has room and there is a message. If it is
    /// full, the caller is woken when it no longer is; or, if messages are to be dropped, the rest
    /// is taken and forgotten. Returns how many messages that were.
    pub(crate) fn fill(
        &self,
        cx: &Context<'_>,
        delivery: Delivery,
        source: Source,
        mut next: impl FnMut() -> Option<Bytes>,
    ) -> u64 {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let (before, mut dropped) = (state.queue.len, 0);
        state.queue.runs.push_back(Run { source, data: VecDeque::new() });
        loop {
            let is_full = state.queue.len >= self.capacity && !state.is_abandoned;
            if is_full && delivery == Delivery::Lossless {
                if !state.writers.iter().any(|writer| writer.will_wake(cx.waker())) {
                    state.writers.push(cx.waker().clone());
                }
                break;
            }
            match next() {
                Some(_) if state.is_abandoned => {}
                Some(_) if is_full => dropped += 1,
                Some(data) => state.queue.push(data),
                None => break,
            }
        }
        let is_filled = state.queue.len > before;
        if !is_filled {
            state.queue.runs.pop_back();
        }
        let reader = if is_filled { state.reader.take() } else { None };
        drop(guard);
        if let Some(reader) = reader {
            reader.wake();
        }
        dropped
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

    /// The reader is gone: what comes is taken and forgotten, so that nobody waits for it.
    fn abandon(&self) {
        let mut state = lock(&self.state);
        state.is_abandoned = true;
        state.queue = Queue::default();
        wake_all(&mut state.writers);
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
        let mut writers = std::mem::take(&mut state.writers);
        drop(state);
        wake_all(&mut writers);
        Poll::Ready(batch)
    }
}

/// Messages in the order of their arrival: where they come from is the same for many in a row, and
/// takes more room than most of them.
#[derive(Debug, Default)]
struct Queue {
    /// None is empty, but for the last while it is filled.
    runs: VecDeque<Run>,
    len: usize,
}

#[derive(Debug)]
struct Run {
    source: Source,
    data: VecDeque<Bytes>,
}

impl Queue {
    const fn new() -> Self {
        Self { runs: VecDeque::new(), len: 0 }
    }

    /// Appends to the last run.
    fn push(&mut self, data: Bytes) {
        if let Some(run) = self.runs.back_mut() {
            run.data.push_back(data);
            self.len += 1;
        }
    }

    fn pop(&mut self) -> Option<Message> {
        let source = self.runs.front()?.source.clone();
        Some(Message::new(source, self.pop_data()?))
    }

    fn pop_data(&mut self) -> Option<Bytes> {
        let run = self.runs.front_mut()?;
        let data = run.data.pop_front()?;
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

fn wake_all(wakers: &mut Vec<Waker>) {
    for waker in wakers.drain(..) {
        waker.wake();
    }
}
