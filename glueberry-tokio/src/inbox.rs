//! Where received messages wait for the application.

mod lanes;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use libp2p_identity::PeerId;

use self::lanes::{IDLE_RUNS, Lanes, Run, Turn};
use crate::config::Delivery;
use crate::mailbox::{lock, remember};
use crate::memory::{PeerMemory, cost};
use crate::message::{Message, Source};
use crate::waiters::wake_all;

/// A bounded queue of messages from all sessions to one reader.
///
/// A session that finds it full keeps its messages, and in the end its peer waits: nothing is
/// dropped. Its room, and the reader's attention, are [shared](Lanes) between the peers, so that
/// none waits because another sends much.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lanes: Lanes,
    reader: Option<Waker>,
    is_closed: bool,
    is_abandoned: bool,
    /// Others read from now on what was to come here.
    is_released: bool,
}

/// The end of an [`Inbox`] into which one session writes.
#[derive(Debug)]
pub(crate) struct InboxWriter {
    inbox: Arc<Inbox>,
    peer: PeerId,
    turn: Turn,
}

/// What a writer finds.
enum Room {
    /// Room for this many messages, which is reserved.
    For(usize),
    /// None; the writer is woken when there is, if it waits for that.
    Full,
    /// The reader is gone.
    Abandoned,
    /// There is another reader.
    Released,
}

impl InboxWriter {
    pub(crate) fn new(inbox: Arc<Inbox>, peer: PeerId) -> Self {
        Self { inbox, peer, turn: Turn::default() }
    }

    /// Writes to another inbox from now on.
    pub(crate) fn write_to(&mut self, inbox: Arc<Inbox>) {
        if !Arc::ptr_eq(&self.inbox, &inbox) {
            *self = Self::new(inbox, self.peer);
        }
    }

    /// Moves messages, which `take` appends to what it is given, for as long as there is room and
    /// `take` appends as many as it may. If the inbox is full, the caller is woken when it no longer
    /// is; or, if messages are to be dropped, the rest is taken and forgotten. Returns how many
    /// messages that were.
    ///
    /// No lock is held while `take` runs.
    pub(crate) fn fill(
        &mut self,
        cx: &Context<'_>,
        delivery: Delivery,
        source: Source,
        memory: &Arc<PeerMemory>,
        mut take: impl FnMut(usize, &mut VecDeque<Bytes>),
    ) -> u64 {
        loop {
            let room = match self.reserve(cx, delivery) {
                Room::For(room) => room,
                Room::Full if delivery == Delivery::Lossless => return 0,
                Room::Released => return 0,
                Room::Full => return forget_all(take),
                Room::Abandoned => {
                    forget_all(take);
                    return 0;
                }
            };
            let mut data = VecDeque::new();
            take(room, &mut data);
            let bytes = data.iter().map(|message| cost(message.len())).sum();
            if data.len() < room {
                self.push(room, Run::new(source, data, bytes, memory));
                return 0;
            }
            self.push(room, Run::new(source.clone(), data, bytes, memory));
        }
    }

    fn reserve(&mut self, cx: &Context<'_>, delivery: Delivery) -> Room {
        let mut state = lock(&self.inbox.state);
        if state.is_released {
            return Room::Released;
        }
        if state.is_abandoned {
            return Room::Abandoned;
        }
        match state.lanes.reserve(self.peer, BATCH) {
            0 => {
                // What is dropped does not come again: to wait would keep a share for nothing.
                if delivery == Delivery::Lossless {
                    state.lanes.wait(self.peer, &mut self.turn, cx);
                }
                Room::Full
            }
            room => Room::For(room),
        }
    }

    /// Fills room that was reserved, and gives back the rest.
    fn push(&mut self, reserved: usize, run: Run) {
        let mut state = lock(&self.inbox.state);
        let has_message = !run.data.is_empty() && !state.is_abandoned;
        // What is not read is freed without the lock: that may wake others, too.
        let (run, forgotten) = if has_message { (Some(run), None) } else { (None, Some(run)) };
        // Another writer of the peer may have found everything reserved.
        let writers = state.lanes.push(self.peer, &mut self.turn, reserved, run);
        let is_last = state.is_over();
        let reader = state.reader.take_if(|_| has_message || is_last);
        drop(state);
        drop(forgotten);
        if let Some(reader) = reader {
            reader.wake();
        }
        wake_all(writers);
    }
}

impl Drop for InboxWriter {
    fn drop(&mut self) {
        if !self.turn.is_idle() {
            let mut state = lock(&self.inbox.state);
            let waker = state.lanes.stop_waiting(self.peer, &mut self.turn);
            let is_last = state.is_over();
            let reader = state.reader.take_if(|_| is_last);
            drop(state);
            drop(waker);
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }
}

impl State {
    /// True if no message will come any more.
    fn is_over(&self) -> bool {
        self.is_closed && self.lanes.is_unused()
    }
}

impl Inbox {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let lanes = Lanes::new(capacity);
        let (is_closed, is_abandoned, is_released) = (false, false, false);
        let state = State { lanes, reader: None, is_closed, is_abandoned, is_released };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Ends the stream of messages behind what waits, here and in sessions that have found no room.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Has the sessions of a peer, or of all, look again who reads what they have.
    pub(crate) fn wake_writers(&self, of: Option<PeerId>) {
        let writers = lock(&self.state).lanes.take_writers(of);
        wake_all(writers);
    }

    /// Has sessions look again who reads what they have, and take nothing for the reader of this.
    pub(crate) fn release(&self) {
        lock(&self.state).is_released = true;
    }

    /// The reader is gone: messages are taken and forgotten, so that no session waits for room.
    fn abandon(&self) {
        let mut state = lock(&self.state);
        state.is_abandoned = true;
        let (forgotten, writers) = state.lanes.clear();
        drop(state);
        drop(forgotten);
        wake_all(writers);
    }

    /// Moves the messages that are next to `batch`, `limit` at most: none only at the end.
    fn poll_batch(&self, cx: &Context<'_>, limit: usize, batch: &mut VecDeque<Run>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.lanes.is_empty() {
            if state.is_over() {
                return Poll::Ready(());
            }
            remember(&mut state.reader, cx);
            return Poll::Pending;
        }
        let writers = state.lanes.take(limit, batch);
        drop(state);
        wake_all(writers);
        Poll::Ready(())
    }
}

/// The reading end of an [`Inbox`]: takes a few messages at once, and hands them out one by one.
#[derive(Debug)]
pub(crate) struct InboxReader {
    inbox: Arc<Inbox>,
    /// None is empty.
    batch: VecDeque<Run>,
}

impl InboxReader {
    pub(crate) const fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, batch: VecDeque::new() }
    }

    pub(crate) fn poll_message(&mut self, cx: &Context<'_>) -> Poll<Option<Message>> {
        self.poll_batch(cx, READ_BATCH).map(|()| {
            let run = self.batch.front_mut()?;
            let data = run.pop()?;
            let message = Message::new(&run.source, data);
            self.drop_if_empty();
            Some(message)
        })
    }

    /// Leaves out where the message comes from.
    pub(crate) fn poll_data(&mut self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        self.poll_batch(cx, READ_BATCH).map(|()| self.pop())
    }

    /// Waits for messages and passes those that are there to `take`, `limit` at most. Returns how
    /// many that were, which is none only at the end or if `limit` is zero.
    pub(crate) async fn recv_many(
        &mut self,
        limit: usize,
        mut take: impl FnMut(&Source, Bytes),
    ) -> usize {
        if limit == 0 {
            return 0;
        }
        std::future::poll_fn(|cx| self.poll_batch(cx, limit)).await;
        let mut left = limit;
        while let Some(run) = self.batch.front_mut()
            && left > 0
        {
            left -= run.take(left, &mut take);
            self.drop_if_empty();
        }
        limit - left
    }

    /// Ready once something is at hand, or nothing ever will be. What is not is taken from the inbox,
    /// `limit` messages at most.
    fn poll_batch(&mut self, cx: &Context<'_>, limit: usize) -> Poll<()> {
        if !self.batch.is_empty() {
            return Poll::Ready(());
        }
        if self.batch.capacity() > IDLE_RUNS {
            self.batch = VecDeque::new();
        }
        self.inbox.poll_batch(cx, limit, &mut self.batch)
    }

    fn pop(&mut self) -> Option<Bytes> {
        let data = self.batch.front_mut()?.pop();
        self.drop_if_empty();
        data
    }

    /// Drops the first run if nothing of it is left.
    fn drop_if_empty(&mut self) {
        if self.batch.front().is_some_and(|run| run.data.is_empty()) {
            self.batch.pop_front();
        }
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
/// The event that reports a peer as Connected is in the queue of every subscription before the
/// first message of that session comes here. A program that reads both at once may still see the
/// message first: it asks the events first (`biased` in tokio's `select!`), or
/// [`Node::connection_state`](crate::Node::connection_state), which is always ahead of both.
///
/// Peers take turns: none waits behind more than a few messages of each other peer, however much
/// those send. A [`Stream`] that ends when the node has shut down. While it is not read, peers are
/// slowed down by flow control; nothing is dropped. Dropping it means that the messages are of no interest:
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

    /// Waits for messages, and appends those that are there to `buffer`, `limit` at most. Returns how
    /// many that were: at least one, unless the node has shut down or `limit` is zero. Many small
    /// messages cost less so than one by one.
    ///
    /// Cancel-safe, as [`recv`](Self::recv) is.
    pub async fn recv_many(&mut self, buffer: &mut Vec<Message>, limit: usize) -> usize {
        let take = |source: &Source, data| buffer.push(Message::new(source, data));
        self.0.recv_many(limit, take).await
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.poll_message(cx)
    }
}

/// Takes all messages that there are, and forgets them. Returns how many that were.
pub(crate) fn forget_all(mut take: impl FnMut(usize, &mut VecDeque<Bytes>)) -> u64 {
    let (mut messages, mut count) = (VecDeque::new(), 0);
    loop {
        take(BATCH, &mut messages);
        let is_last = messages.len() < BATCH;
        count += messages.drain(..).map(|_| 1_u64).sum::<u64>();
        if is_last {
            return count;
        }
    }
}

/// Messages that a writer moves at a time, for which it reserves room.
const BATCH: usize = 128;
/// Messages that a reader takes at a time, if it asks for one. One that comes next waits behind them.
const READ_BATCH: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use glueberry_proto::Config;

    use super::*;
    use crate::memory::Account;

    /// Has a peer send messages; returns how many were dropped.
    fn send(writer: &mut InboxWriter, count: usize) -> u64 {
        let (peer, received_at) = (writer.peer, SystemTime::UNIX_EPOCH);
        let source = Source { peer, stream: None, received_at };
        let memory = Account::new(Config::default().memory_limits()).of(peer, false);
        let mut messages = std::iter::repeat_n(Bytes::from_static(b"x"), count);
        let take = |limit, out: &mut VecDeque<_>| out.extend(messages.by_ref().take(limit));
        let cx = Context::from_waker(Waker::noop());
        writer.fill(&cx, Delivery::DropNewest, source, &memory, take)
    }

    #[test]
    fn what_comes_for_a_reader_that_has_left_is_kept_for_the_next() {
        let inbox = Inbox::new(4);
        let (peer, received_at) = (PeerId::random(), SystemTime::UNIX_EPOCH);
        let mut writer = InboxWriter::new(inbox.clone(), peer);
        let memory = Account::new(Config::default().memory_limits()).of(peer, false);
        let mut left = 3;
        let mut fill = |writer: &mut InboxWriter| {
            let cx = Context::from_waker(Waker::noop());
            let source = Source { peer, stream: None, received_at };
            let take = |limit: usize, out: &mut VecDeque<_>| {
                let taken = limit.min(left);
                left -= taken;
                out.extend(std::iter::repeat_n(Bytes::from_static(b"x"), taken));
            };
            writer.fill(&cx, Delivery::Lossless, source, &memory, take);
            left
        };
        inbox.release();
        drop(InboxReader::new(inbox));
        assert_eq!(fill(&mut writer), 3, "it was taken and forgotten");
        // Without another reader, it is of no interest.
        let abandoned = Inbox::new(4);
        drop(InboxReader::new(abandoned.clone()));
        writer.write_to(abandoned);
        assert_eq!(fill(&mut writer), 0);
    }

    #[test]
    fn what_was_dropped_holds_no_room() {
        let inbox = Inbox::new(4);
        let mut reader = InboxReader::new(inbox.clone());
        let [mut one, mut other] =
            [0; 2].map(|_| InboxWriter::new(inbox.clone(), PeerId::random()));
        assert_eq!(send(&mut one, 10), 6);
        let cx = Context::from_waker(Waker::noop());
        for _ in 0..4 {
            assert!(reader.poll_data(&cx).is_ready());
        }
        assert_eq!(send(&mut other, 4), 0, "the other has the room of two");
        for _ in 0..4 {
            assert!(reader.poll_data(&cx).is_ready());
        }
        inbox.close();
        assert!(reader.poll_data(&cx) == Poll::Ready(None), "what was dropped is waited for");
    }
}
