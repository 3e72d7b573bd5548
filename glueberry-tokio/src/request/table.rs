//! What is under way: requests of this node to peers, and of peers to this node.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_channel::oneshot;
use glueberry_proto::SessionId;
use libp2p_identity::PeerId;

use super::server::Request;
use super::{RequestError, RequestLimits};
use crate::mailbox::{lock, remember};
use crate::waiters::{WaiterId, Waiters};

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
    places: BTreeMap<PeerId, Places>,
    /// Requests of peers that the application has or is to have. Those whose answer is not awaited any
    /// more are among them: the application may still work on them.
    served: BTreeMap<(PeerId, Ticket), Served>,
    next_ticket: Ticket,
    /// How many refusals wait for room in the queues to a peer.
    refused: BTreeMap<PeerId, usize>,
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

/// A request of a peer, for as long as it is in hand. Its id is the peer's, who may use it again.
pub(super) type Ticket = u64;

#[derive(Debug)]
struct Served {
    id: u64,
    session: SessionId,
    /// Dropped when the answer is not awaited any more, which signals that.
    wanted: Option<oneshot::Sender<()>>,
}

/// The places of one peer for requests in flight.
#[derive(Debug, Default)]
struct Places {
    taken: usize,
    waiters: Waiters,
}

impl Table {
    /// After a restart, a late response must not meet a new request: `first_id` is drawn at random.
    pub(super) fn new(limits: RequestLimits, first_id: u64) -> Self {
        let state = State {
            sent: BTreeMap::new(),
            next_id: first_id,
            places: BTreeMap::new(),
            served: BTreeMap::new(),
            next_ticket: 0,
            refused: BTreeMap::new(),
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
            let next = self.next(&mut state, peer);
            drop(state);
            drop(waker);
            next.into_iter().for_each(Waker::wake);
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
        // It may have been woken for a place that it does not take.
        let next = self.next(&mut state, peer);
        drop(state);
        drop(waker);
        next.into_iter().for_each(Waker::wake);
    }

    pub(super) fn give_place_back(&self, peer: PeerId) {
        let mut state = lock(&self.state);
        if let Some(places) = state.places.get_mut(&peer) {
            places.taken -= 1;
        }
        let next = self.next(&mut state, peer);
        drop(state);
        next.into_iter().for_each(Waker::wake);
    }

    /// Takes the waker that has waited longest for a place, if one is free. A task that takes a place, or
    /// leaves, calls the next, so a place does not cost as many turns as there are tasks that wait.
    ///
    /// Forgets a peer of which nothing is under way: a task that was called begins anew.
    fn next(&self, state: &mut State, peer: PeerId) -> Option<Waker> {
        let places = state.places.get_mut(&peer)?;
        let is_free = places.taken < self.limits.max_in_flight;
        let next = if is_free { places.waiters.take_first() } else { None };
        if places.taken == 0 && places.waiters.is_empty() {
            state.places.remove(&peer);
        }
        next
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
    ) -> Result<(Ticket, oneshot::Receiver<()>), Refusal> {
        let mut state = lock(&self.state);
        if !state.is_serving {
            return Err(Refusal::Unanswered);
        }
        let (mut of_peer, mut is_known) = (0, false);
        for (_, it) in state.of(peer) {
            of_peer += 1;
            is_known |= it.id == id && it.wanted.is_some();
        }
        let is_full = !state.waiting.is_empty()
            && state.waiting_bytes.saturating_add(bytes) > self.limits.max_waiting_bytes;
        if of_peer >= self.limits.max_served || is_full || is_known {
            return Err(Refusal::Busy);
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let (wanted, unwanted) = oneshot::channel();
        state.served.insert((peer, ticket), Served { id, session, wanted: Some(wanted) });
        Ok((ticket, unwanted))
    }

    /// Makes room for a refusal to wait in. There is as much of it for a peer as for its requests: who
    /// asks for more and reads no answer is owed no more.
    pub(super) fn may_owe_refusal(&self, peer: PeerId) -> bool {
        let mut state = lock(&self.state);
        let waiting = state.refused.entry(peer).or_default();
        let may_wait = *waiting < self.limits.max_served.max(1);
        *waiting += usize::from(may_wait);
        may_wait
    }

    /// A refusal was sent, or its session has ended.
    pub(super) fn refusal_over(&self, peer: PeerId) {
        let mut state = lock(&self.state);
        if let Entry::Occupied(mut waiting) = state.refused.entry(peer) {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
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
    pub(super) fn is_wanted(&self, peer: PeerId, ticket: Ticket) -> bool {
        lock(&self.state).served.get(&(peer, ticket)).is_some_and(|it| it.wanted.is_some())
    }

    /// A request of a peer is answered, or dropped.
    pub(super) fn finish(&self, peer: PeerId, ticket: Ticket) {
        let served = lock(&self.state).served.remove(&(peer, ticket));
        drop(served);
    }

    /// A peer does not await an answer any more.
    pub(super) fn cancel(&self, peer: PeerId, id: u64) {
        let mut state = lock(&self.state);
        let cancelled = state.unwanted(peer, |it| it.id == id);
        drop(state);
        drop(cancelled);
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
        let unwanted = state.unwanted(peer, |it| is_over(it.session));
        drop(state);
        drop(unwanted);
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
    fn of(&self, peer: PeerId) -> impl Iterator<Item = (&(PeerId, Ticket), &Served)> {
        self.served.range((peer, Ticket::MIN)..=(peer, Ticket::MAX))
    }

    /// Answers of a peer's requests are not awaited any more. What is returned is to be dropped without
    /// the lock.
    fn unwanted(
        &mut self,
        peer: PeerId,
        which: impl Fn(&Served) -> bool,
    ) -> (Vec<oneshot::Sender<()>>, VecDeque<Request>) {
        let all = self.served.range_mut((peer, Ticket::MIN)..=(peer, Ticket::MAX));
        let which = all.filter(|(_, it)| it.wanted.is_some() && which(it));
        let which: Vec<_> = which.map(|(key, it)| (*key, it.wanted.take())).collect();
        let keys: Vec<(PeerId, Ticket)> = which.iter().map(|(key, _)| *key).collect();
        let wanted = which.into_iter().filter_map(|(_, wanted)| wanted).collect();
        (wanted, self.take_waiting(&keys))
    }

    /// Takes requests out of those that the application has not taken, so that they hold no room. They
    /// are to be dropped without the lock.
    fn take_waiting(&mut self, over: &[(PeerId, Ticket)]) -> VecDeque<Request> {
        if over.is_empty() {
            return VecDeque::new();
        }
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (taken, kept): (VecDeque<_>, VecDeque<_>) =
            waiting.partition(|it| over.contains(&(it.peer, it.ticket)));
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[test]
    fn peers_of_which_nothing_is_under_way_are_forgotten() {
        let limits = RequestLimits { max_in_flight: 1, max_served: 1, max_waiting_bytes: 1 };
        let table = Table::new(limits, 0);
        let (peer, cx) = (PeerId::random(), Context::from_waker(Waker::noop()));
        assert!(table.poll_place(&cx, peer, &mut None).is_ready());
        let mut waiting = None;
        assert!(table.poll_place(&cx, peer, &mut waiting).is_pending());
        table.give_place_back(peer);
        // It was woken, and has stopped waiting.
        table.leave(peer, waiting.unwrap());
        assert!(lock(&table.state).places.is_empty());
    }

    #[test]
    fn a_place_that_is_not_taken_is_the_next_ones() {
        let limits = RequestLimits { max_in_flight: 1, max_served: 1, max_waiting_bytes: 1 };
        let (table, peer) = (Table::new(limits, 0), PeerId::random());
        let tasks = [(); 3].map(|()| Arc::new(Count(AtomicUsize::new(0))));
        let mut ids = [None; 3];
        let noop = Context::from_waker(Waker::noop());
        assert!(table.poll_place(&noop, peer, &mut None).is_ready());
        for (task, id) in tasks.iter().zip(&mut ids) {
            let waker = Waker::from(task.clone());
            assert!(table.poll_place(&Context::from_waker(&waker), peer, id).is_pending());
        }
        let woken = || tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed));
        table.give_place_back(peer);
        assert_eq!(woken(), [1, 0, 0]);
        table.leave(peer, ids[0].unwrap());
        assert_eq!(woken(), [1, 1, 0]);
        // Another came first, and is over: the second one has waited in vain, and waits again.
        assert!(table.poll_place(&noop, peer, &mut None).is_ready());
        let waker = Waker::from(tasks[1].clone());
        assert!(table.poll_place(&Context::from_waker(&waker), peer, &mut ids[1]).is_pending());
        table.give_place_back(peer);
        assert_eq!(woken(), [1, 1, 1]);
        assert!(table.poll_place(&noop, peer, &mut ids[2]).is_ready());
        table.give_place_back(peer);
        assert_eq!(woken(), [1, 2, 1]);
        table.leave(peer, ids[1].unwrap());
        assert!(lock(&table.state).places.is_empty());
    }

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
