//! Events about peers, published to every subscriber without ever waiting for one.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use glueberry_proto::ConnectionState;
use libp2p_identity::PeerId;

use crate::event::{Event, StateChanged};
use crate::mailbox::{lock, remember};
use crate::metrics::Metrics;
use crate::views::{Entered, PeerViews, Previous};

/// Which events a subscription is about; see [`Node::subscribe`](crate::Node::subscribe).
///
/// Each empty list lets everything through. With both, an event must pass both.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::{ConnectionState, EventFilter};
///
/// let (alice, bob) = pair().await?;
/// let (peers, states) = (vec![bob.peer_id()], vec![ConnectionState::Disconnected]);
/// let mut losses = alice.subscribe(EventFilter { peers, states });
/// bob.shutdown().await;
/// let lost = losses.recv().await.expect("it runs");
/// assert_eq!(lost.state(), Some((bob.peer_id(), ConnectionState::Disconnected)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a parameter that callers build")]
pub struct EventFilter {
    /// Events about one of these peers.
    pub peers: Vec<PeerId>,
    /// Changes to one of these states; then no other kind of event passes.
    pub states: Vec<ConnectionState>,
}

impl EventFilter {
    fn passes(&self, event: &Event) -> bool {
        let of_peer =
            self.peers.is_empty() || event.peer().is_some_and(|peer| self.peers.contains(&peer));
        let of_state = self.states.is_empty()
            || event.state().is_some_and(|(_, state)| self.states.contains(&state));
        of_peer && of_state
    }
}

/// All subscribers of a node.
///
/// Locks are taken in this order: the views of peers, the list of subscribers, the queue of one.
#[derive(Clone)]
pub(crate) struct EventHub {
    capacity: usize,
    metrics: Arc<dyn Metrics>,
    views: Arc<PeerViews>,
    subscribers: Arc<Mutex<Subscribers>>,
}

/// Without the views: their sessions have the hub.
impl fmt::Debug for EventHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHub").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Subscribers {
    all: Vec<Weak<Subscriber>>,
    is_closed: bool,
}

#[derive(Debug)]
struct Subscriber {
    filter: EventFilter,
    state: Mutex<SubscriberState>,
}

#[derive(Debug, Default)]
struct SubscriberState {
    queue: VecDeque<Event>,
    missed: u64,
    reader: Option<Waker>,
    is_closed: bool,
}

/// An event is in the queues: what is left to do without any lock.
#[derive(Debug, Default)]
#[must_use = "its readers wait to be woken"]
struct Queued {
    readers: Vec<Waker>,
    /// Subscribers whose queues were full.
    dropped: usize,
}

impl EventHub {
    pub(crate) fn new(capacity: usize, metrics: Arc<dyn Metrics>, views: Arc<PeerViews>) -> Self {
        Self { capacity, metrics, views, subscribers: Arc::default() }
    }

    pub(crate) fn subscribe(&self, filter: EventFilter) -> Events {
        let mut subscribers = lock(&self.subscribers);
        let state = SubscriberState { is_closed: subscribers.is_closed, ..Default::default() };
        let subscriber = Arc::new(Subscriber { filter, state: Mutex::new(state) });
        if !subscribers.is_closed {
            subscribers.all.push(Arc::downgrade(&subscriber));
        }
        drop(subscribers);
        Events { subscriber, hub: self.clone() }
    }

    /// Forgets a subscription, which may be the last thing that happens for a long time.
    fn unsubscribe(&self, subscriber: &Arc<Subscriber>) {
        let mut subscribers = lock(&self.subscribers);
        let is_it = |it: &Weak<Subscriber>| Weak::as_ptr(it) == Arc::as_ptr(subscriber);
        if let Some(at) = subscribers.all.iter().position(is_it) {
            subscribers.all.swap_remove(at);
        }
    }

    /// Returns the state that a peer is about to leave.
    pub(crate) fn previous(&self, peer: &PeerId) -> Previous {
        self.views.previous(peer)
    }

    /// Publishes a change of state together with the peer's view.
    pub(crate) fn publish_change(&self, entered: Entered) {
        let event = Event::State(entered.changed.clone());
        self.metrics.event_emitted(entered.changed.state);
        let (before, queued) = self.views.change(entered, || self.queue(&event));
        // Its span ends without a lock.
        drop(before);
        self.finish(queued);
    }

    /// Publishes any other event.
    pub(crate) fn publish(&self, event: &Event) {
        debug_assert!(event.state().is_none(), "a change of state goes with the peer's view");
        let queued = self.queue(event);
        self.finish(queued);
    }

    fn queue(&self, event: &Event) -> Queued {
        let mut queued = Queued::default();
        lock(&self.subscribers).all.retain(|subscriber| match subscriber.upgrade() {
            Some(subscriber) => {
                subscriber.push(event, self.capacity, &mut queued);
                true
            }
            None => false,
        });
        queued
    }

    fn finish(&self, queued: Queued) {
        queued.readers.into_iter().for_each(Waker::wake);
        (0..queued.dropped).for_each(|_| self.metrics.event_dropped());
    }

    /// Ends every subscription behind the events in its queue.
    pub(crate) fn close(&self) {
        let mut subscribers = lock(&self.subscribers);
        subscribers.is_closed = true;
        let all = std::mem::take(&mut subscribers.all);
        drop(subscribers);
        for subscriber in all.into_iter().filter_map(|weak| weak.upgrade()) {
            let mut state = lock(&subscriber.state);
            state.is_closed = true;
            let reader = state.reader.take();
            drop(state);
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }

    /// Takes the count of missed events, and the states that the later events go on from.
    fn catch_up(&self, subscriber: &Subscriber) -> (u64, Vec<StateChanged>) {
        self.views.snapshot(|changes| {
            let missed = std::mem::take(&mut lock(&subscriber.state).missed);
            let passes = |changed: &&StateChanged| {
                subscriber.filter.passes(&Event::State(StateChanged::clone(changed)))
            };
            (missed, changes.filter(passes).cloned().collect())
        })
    }
}

impl Subscriber {
    /// Queues an event, or counts it as missed if it does not fit.
    fn push(&self, event: &Event, capacity: usize, queued: &mut Queued) {
        if !self.filter.passes(event) {
            return;
        }
        let mut state = lock(&self.state);
        // Behind events that were missed, nothing is queued before the snapshot.
        if state.missed == 0 && state.queue.len() < capacity {
            state.queue.push_back(event.clone());
        } else {
            state.missed = state.missed.saturating_add(1);
            queued.dropped += 1;
        }
        queued.readers.extend(state.reader.take());
    }
}

/// A subscription to a node's events, from the moment on at which it was made.
///
/// A [`Stream`] that ends when the node has shut down. A subscriber that lags gets
/// [`Event::Lagged`] and [`Event::Snapshot`] in place of what it missed, and slows no other subscriber down.
/// Dropping it unsubscribes.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_util::StreamExt;
/// use glueberry_tokio::ConnectionState;
///
/// let node = node().await?;
/// let mut established = node.events_for_states([ConnectionState::Established]);
/// node.shutdown().await;
/// assert!(established.next().await.is_none(), "it ends with the node");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Events {
    subscriber: Arc<Subscriber>,
    hub: EventHub,
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
            drop(state);
            let (missed, snapshot) = self.hub.catch_up(&self.subscriber);
            lock(&self.subscriber.state).queue.push_front(Event::Snapshot(snapshot));
            return Poll::Ready(Some(Event::Lagged { missed }));
        }
        if state.is_closed {
            return Poll::Ready(None);
        }
        remember(&mut state.reader, cx);
        Poll::Pending
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.hub.unsubscribe(&self.subscriber);
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

#[cfg(test)]
mod tests;
