//! What is under way: requests of this node to peers, and of peers to this node.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_channel::oneshot;
use glueberry_proto::SessionId;
use libp2p_identity::PeerId;

use super::server::Request;
use super::{RequestError, RequestLimits};
use crate::mailbox::{lock, remember};
use crate::waiters::{WaiterId, Waiters, wake_all};

/// Where the result of a request goes.
pub(super) type Answer = oneshot::Sender<Result<Bytes, RequestError>>;

/// The one owner of what is under way.
#[derive(Debug)]
pub(super) struct Table {
    limits: RequestLimits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests that this node has sent, by their ids.
    sent: BTreeMap<u64, Sent>,
    next_id: u64,
    places: HashMap<PeerId, Places>,
    /// Requests of peers that are not answered yet. Dropping an entry signals its request that its answer
    /// is not awaited any more.
    served: BTreeMap<(PeerId, u64), Served>,
    waiting: VecDeque<Request>,
    waiting_bytes: usize,
    reader: Option<Waker>,
    dispatcher: Option<Waker>,
    /// The application receives requests.
    is_serving: bool,
    /// No handle is left.
    is_closed: bool,
    /// The node has stopped.
    is_over: bool,
    ignored: u64,
}

#[derive(Debug)]
struct Sent {
    peer: PeerId,
    session: SessionId,
    answer: Answer,
}

#[derive(Debug)]
struct Served {
    session: SessionId,
    _wanted: oneshot::Sender<()>,
}

/// The places of one peer for requests in flight.
#[derive(Debug, Default)]
struct Places {
    taken: usize,
    waiters: Waiters,
}

impl Table {
    pub(super) fn new(limits: RequestLimits) -> Self {
        let state = State {
            sent: BTreeMap::new(),
            // After a restart, a late response must not meet a new request.
            next_id: getrandom::u64().unwrap_or_default(),
            places: HashMap::new(),
            served: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            reader: None,
            dispatcher: None,
            is_serving: true,
            is_closed: false,
            is_over: false,
            ignored: 0,
        };
        Self { limits, state: Mutex::new(state) }
    }

    // ---- requests of this node ----------------------------------------------------------------

    /// Takes one of the peer's places once there is one.
    pub(super) fn poll_place(
        &self,
        cx: &Context<'_>,
        peer: PeerId,
        waiting: &mut Option<WaiterId>,
    ) -> Poll<()> {
        let mut state = lock(&self.state);
        let places = state.places.entry(peer).or_default();
        if places.taken < self.limits.max_in_flight {
            places.taken += 1;
            let waker = waiting.take().and_then(|id| places.waiters.remove(id));
            drop(state);
            drop(waker);
            return Poll::Ready(());
        }
        places.waiters.register(waiting, cx);
        Poll::Pending
    }

    /// Stops waiting for a place.
    pub(super) fn leave(&self, peer: PeerId, waiting: WaiterId) {
        let mut state = lock(&self.state);
        let places = state.places.get_mut(&peer);
        let waker = places.and_then(|places| places.waiters.remove(waiting));
        drop(state);
        drop(waker);
    }

    pub(super) fn give_place_back(&self, peer: PeerId) {
        let mut state = lock(&self.state);
        let Some(places) = state.places.get_mut(&peer) else { return };
        places.taken -= 1;
        let woken = places.waiters.take();
        if places.taken == 0 {
            // Those that are woken begin anew, if they still want a place.
            state.places.remove(&peer);
        }
        drop(state);
        wake_all(woken);
    }

    /// Takes note of a request before it is sent; returns its id.
    pub(super) fn sending(&self, peer: PeerId, session: SessionId, answer: Answer) -> u64 {
        let mut state = lock(&self.state);
        let id = state.next_id;
        state.next_id = id.wrapping_add(1);
        state.sent.insert(id, Sent { peer, session, answer });
        id
    }

    /// Forgets a request; returns whether its result had not come.
    pub(super) fn forget(&self, id: u64) -> bool {
        let sent = lock(&self.state).sent.remove(&id);
        sent.is_some()
    }

    /// Passes on the result of a request.
    pub(super) fn answered(&self, peer: PeerId, id: u64, result: Result<Bytes, RequestError>) {
        let mut state = lock(&self.state);
        // The id of another peer's request is none that this peer may answer, nor end.
        let is_its = state.sent.get(&id).is_some_and(|sent| sent.peer == peer);
        let sent = if is_its { state.sent.remove(&id) } else { None };
        if sent.is_none() {
            state.ignored = state.ignored.saturating_add(1);
        }
        drop(state);
        if let Some(sent) = sent {
            // The caller may have stopped waiting.
            sent.answer.send(result).ok();
        }
    }

    // ---- requests of peers --------------------------------------------------------------------

    /// Makes room for a request of a peer, or says how to answer it.
    pub(super) fn admit(
        &self,
        (peer, id): (PeerId, u64),
        session: SessionId,
        bytes: usize,
    ) -> Result<oneshot::Receiver<()>, Refusal> {
        let mut state = lock(&self.state);
        if !state.is_serving {
            return Err(Refusal::Unanswered);
        }
        let of_peer = state.served.range((peer, u64::MIN)..=(peer, u64::MAX)).count();
        let is_full = !state.waiting.is_empty()
            && state.waiting_bytes.saturating_add(bytes) > self.limits.max_waiting_bytes;
        if of_peer >= self.limits.max_served || is_full || state.served.contains_key(&(peer, id)) {
            return Err(Refusal::Busy);
        }
        let (wanted, unwanted) = oneshot::channel();
        state.served.insert((peer, id), Served { session, _wanted: wanted });
        Ok(unwanted)
    }

    pub(super) fn queue(&self, request: Request) {
        let mut state = lock(&self.state);
        if !state.is_serving {
            drop(state);
            // It is answered as it is dropped.
            return drop(request);
        }
        state.waiting_bytes += request.data.len();
        state.waiting.push_back(request);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Returns the next request, or `None` when the node has stopped.
    pub(super) fn poll_waiting(&self, cx: &Context<'_>) -> Poll<Option<Request>> {
        let mut state = lock(&self.state);
        if let Some(request) = state.waiting.pop_front() {
            state.waiting_bytes -= request.data.len();
            return Poll::Ready(Some(request));
        }
        if state.is_over {
            return Poll::Ready(None);
        }
        remember(&mut state.reader, cx);
        Poll::Pending
    }

    /// Returns whether the peer still waits for the answer.
    pub(super) fn is_served(&self, peer: PeerId, id: u64) -> bool {
        lock(&self.state).served.contains_key(&(peer, id))
    }

    /// A request of a peer is answered, or its answer is not wanted any more. Returns whether its
    /// peer still waits.
    pub(super) fn finish(&self, peer: PeerId, id: u64) -> bool {
        let served = lock(&self.state).served.remove(&(peer, id));
        served.is_some()
    }

    /// A peer does not await an answer any more.
    pub(super) fn cancel(&self, peer: PeerId, id: u64) {
        let mut state = lock(&self.state);
        let served = state.served.remove(&(peer, id));
        let unread = served.as_ref().map(|_| state.take_waiting(&[(peer, id)]));
        drop(state);
        drop((served, unread));
    }

    /// The application receives no more requests.
    pub(super) fn stop_serving(&self) {
        let mut state = lock(&self.state);
        state.is_serving = false;
        state.waiting_bytes = 0;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // Each is answered as it is dropped.
        drop(waiting);
    }

    // ---- sessions and the end -----------------------------------------------------------------

    /// Returns the peers of which anything is under way.
    pub(super) fn peers(&self) -> Vec<PeerId> {
        let state = lock(&self.state);
        let mut peers: Vec<PeerId> = state.sent.values().map(|sent| sent.peer).collect();
        peers.extend(state.served.keys().map(|(peer, _)| *peer));
        peers.sort();
        peers.dedup();
        peers
    }

    /// Ends whatever is under way with a peer in other sessions than the current one.
    pub(super) fn session_is(&self, peer: PeerId, current: Option<SessionId>) {
        let mut state = lock(&self.state);
        let is_over = |session: SessionId| Some(session) != current;
        let ended = state.sent.iter().filter(|(_, it)| it.peer == peer && is_over(it.session));
        let ended: Vec<u64> = ended.map(|(id, _)| *id).collect();
        let ended: Vec<Sent> = ended.iter().filter_map(|id| state.sent.remove(id)).collect();
        let served = state.served.range((peer, u64::MIN)..=(peer, u64::MAX));
        let served = served.filter(|(_, it)| is_over(it.session));
        let over: Vec<(PeerId, u64)> = served.map(|(id, _)| *id).collect();
        let served: Vec<_> = over.iter().filter_map(|id| state.served.remove(id)).collect();
        let unread = state.take_waiting(&over);
        drop(state);
        drop((served, unread));
        for sent in ended {
            sent.answer.send(Err(RequestError::SessionEnded)).ok();
        }
    }

    /// Counts a frame that was not understood.
    pub(super) fn ignore(&self) {
        let mut state = lock(&self.state);
        state.ignored = state.ignored.saturating_add(1);
    }

    pub(super) fn ignored(&self) -> u64 {
        lock(&self.state).ignored
    }

    /// Returns whether no handle is left, or wakes the caller when that is so.
    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.is_closed {
            return Poll::Ready(());
        }
        remember(&mut state.dispatcher, cx);
        Poll::Pending
    }

    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        let dispatcher = state.dispatcher.take();
        drop(state);
        if let Some(dispatcher) = dispatcher {
            dispatcher.wake();
        }
    }

    /// The dispatcher has ended: nothing is answered any more.
    pub(super) fn over(&self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        let sent = std::mem::take(&mut state.sent);
        let served = std::mem::take(&mut state.served);
        let waiting = std::mem::take(&mut state.waiting);
        state.waiting_bytes = 0;
        let reader = state.reader.take();
        drop(state);
        // Their receivers find the channels closed.
        drop((sent, served, waiting));
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl State {
    /// Takes requests out of those that the application has not taken, so that they hold no room. They
    /// are to be dropped without the lock.
    fn take_waiting(&mut self, over: &[(PeerId, u64)]) -> VecDeque<Request> {
        if over.is_empty() {
            return VecDeque::new();
        }
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (taken, kept): (VecDeque<_>, VecDeque<_>) =
            waiting.partition(|it| over.contains(&(it.peer, it.id)));
        self.waiting = kept;
        self.waiting_bytes -= taken.iter().map(|it: &Request| it.data.len()).sum::<usize>();
        taken
    }
}

/// How to answer a request for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Busy,
    Unanswered,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_of_which_nothing_is_under_way_are_forgotten() {
        let table =
            Table::new(RequestLimits { max_in_flight: 1, max_served: 1, max_waiting_bytes: 1 });
        let (peer, cx) = (PeerId::random(), Context::from_waker(Waker::noop()));
        assert!(table.poll_place(&cx, peer, &mut None).is_ready());
        let mut waiting = None;
        assert!(table.poll_place(&cx, peer, &mut waiting).is_pending());
        table.give_place_back(peer);
        // It was woken, and has stopped waiting.
        table.leave(peer, waiting.unwrap());
        assert!(lock(&table.state).places.is_empty());
    }
}
