//! What happened to peers, told to every subscriber without ever waiting for one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use futures_core::Stream;
use glueberry_proto::{Closed, ConnectionState, Direction, RecordError, StateReason, StreamName};
use libp2p_identity::PeerId;

use crate::mailbox::{lock, remember};

/// Something that happened to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer's state changed.
    State(StateChanged),
    /// A record was not delivered; the stream goes on, within a limit.
    RecordRejected {
        /// The peer that sent it.
        peer: PeerId,
        /// The stream.
        stream: StreamName,
        /// Why it was rejected.
        error: RecordError,
    },
    /// The substream that carried messages to the peer broke; the next message opens another.
    StreamInterrupted {
        /// The peer.
        peer: PeerId,
        /// The stream.
        stream: StreamName,
        /// Messages handed to the transport on it, of which any number from the front may have
        /// arrived.
        in_doubt: u64,
    },
    /// The peer refuses the stream; its queue was given up.
    StreamRefused {
        /// The peer.
        peer: PeerId,
        /// The stream.
        stream: StreamName,
        /// Messages that were never handed to the transport.
        unsent: usize,
    },
    /// A substream that the peer had opened early was reset, because its stream was not prepared.
    StreamNotPrepared {
        /// The peer.
        peer: PeerId,
        /// The stream.
        stream: StreamName,
    },
    /// A session with the peer is over, and this is what became of its messages.
    SessionClosed {
        /// The peer.
        peer: PeerId,
        /// Why, and what was not delivered for certain.
        closed: Closed,
    },
    /// This subscriber was too slow: events are missing here. Ask
    /// [`connection_state`](crate::Node::connection_state) for where peers stand.
    Lagged {
        /// How many.
        missed: u64,
    },
}

impl Event {
    /// Returns the peer that the event is about.
    pub const fn peer(&self) -> Option<PeerId> {
        match self {
            Self::State(changed) => Some(changed.peer),
            Self::RecordRejected { peer, .. }
            | Self::StreamInterrupted { peer, .. }
            | Self::StreamRefused { peer, .. }
            | Self::StreamNotPrepared { peer, .. }
            | Self::SessionClosed { peer, .. } => Some(*peer),
            Self::Lagged { .. } => None,
        }
    }

    /// Returns the peer and its new state, if the event is a change of state.
    pub const fn state(&self) -> Option<(PeerId, ConnectionState)> {
        match self {
            Self::State(changed) => Some((changed.peer, changed.state)),
            _ => None,
        }
    }
}

/// A change of a peer's state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateChanged {
    /// The peer.
    pub peer: PeerId,
    /// The state that it is in now.
    pub state: ConnectionState,
    /// Who dialled.
    pub direction: Option<Direction>,
    /// Why, as judged here; `None` where the state speaks for itself.
    pub reason: Option<StateReason>,
    /// When, by this machine's calendar clock.
    pub at: SystemTime,
}

/// All subscribers of a node.
#[derive(Debug)]
pub(crate) struct EventHub {
    capacity: usize,
    subscribers: Mutex<Subscribers>,
}

#[derive(Debug, Default)]
struct Subscribers {
    all: Vec<Weak<Subscriber>>,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Subscriber {
    state: Mutex<SubscriberState>,
}

#[derive(Debug, Default)]
struct SubscriberState {
    queue: VecDeque<Event>,
    missed: u64,
    reader: Option<Waker>,
    is_closed: bool,
}

impl EventHub {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, subscribers: Mutex::default() }
    }

    pub(crate) fn subscribe(&self) -> Events {
        let subscriber = Arc::new(Subscriber::default());
        let mut subscribers = lock(&self.subscribers);
        lock(&subscriber.state).is_closed = subscribers.is_closed;
        subscribers.all.push(Arc::downgrade(&subscriber));
        Events { subscriber }
    }

    pub(crate) fn publish(&self, event: &Event) {
        lock(&self.subscribers).all.retain(|subscriber| match subscriber.upgrade() {
            Some(subscriber) => {
                subscriber.push(event, self.capacity);
                true
            }
            None => false,
        });
    }

    /// Ends every subscription behind what waits in it.
    pub(crate) fn close(&self) {
        let mut subscribers = lock(&self.subscribers);
        subscribers.is_closed = true;
        for subscriber in subscribers.all.drain(..).filter_map(|weak| weak.upgrade()) {
            let mut state = lock(&subscriber.state);
            state.is_closed = true;
            if let Some(reader) = state.reader.take() {
                reader.wake();
            }
        }
    }
}

impl Subscriber {
    fn push(&self, event: &Event, capacity: usize) {
        let mut state = lock(&self.state);
        if state.missed > 0 || state.queue.len() >= capacity {
            state.missed = state.missed.saturating_add(1);
        } else {
            state.queue.push_back(event.clone());
        }
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

/// A subscription to a node's events, from the moment on at which it was made.
///
/// A [`Stream`] that ends when the node has shut down. A subscriber that lags gets
/// [`Event::Lagged`] in place of what it missed, and slows nobody down. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Events {
    subscriber: Arc<Subscriber>,
}

impl Events {
    /// Waits for the next event; `None` when the node has shut down.
    ///
    /// Cancel-safe.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<Event>> {
        let mut state = lock(&self.subscriber.state);
        if let Some(event) = state.queue.pop_front() {
            return Poll::Ready(Some(event));
        }
        if state.missed > 0 {
            let missed = std::mem::take(&mut state.missed);
            return Poll::Ready(Some(Event::Lagged { missed }));
        }
        if state.is_closed {
            return Poll::Ready(None);
        }
        remember(&mut state.reader, cx);
        Poll::Pending
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}
