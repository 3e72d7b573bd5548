//! The account of what peers make this node hold.
//!
//! One account counts the received bytes that are in this process: parts of messages and messages
//! in the sessions, those in the inboxes, those that ended sessions have left, and the windows that
//! a transport has lent to connections. Three limits apply to them:
//!
//! | limit | of |
//! |---|---|
//! | [`node_memory`](glueberry_proto::Config::node_memory) | all peers |
//! | half of it | all strangers (see [`Config::sessions_high`](glueberry_proto::Config::sessions_high)) |
//! | [`peer_memory`](glueberry_proto::Config::peer_memory) | one peer, over all its sessions |
//!
//! Where a limit is reached, substreams are not read, so that the transport's flow control slows the
//! sender. A peer that holds no more than [`FREE`] is always read: small messages get through
//! however full the account is.
//!
//! A message that is longer than [`SMALL`] is charged with its whole length before more of it is
//! read, and not read if that does not fit. So messages that are being received never wait for
//! each other: each that has begun can be completed. It has to be in time, see
//! [`Config::message_timeout`](glueberry_proto::Config::message_timeout).
//!
//! The account is two or three atomic counters. They are changed once per poll of a connection's
//! task, and once for many messages that the application takes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Waker};

use glueberry_proto::MemoryLimits;
use libp2p_identity::PeerId;

use crate::mailbox::lock;
use crate::waiters::{WaiterId, Waiters, wake_all};

/// The account of a node.
#[derive(Debug)]
pub(crate) struct Account {
    node: Pool,
    strangers: Pool,
    per_peer: usize,
    /// A task waits for room.
    is_awaited: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The peers that have a session, or that something is left of.
    peers: BTreeMap<PeerId, Weak<PeerMemory>>,
    waiters: Waiters,
}

/// A limit and what is used of it.
#[derive(Debug)]
struct Pool {
    limit: usize,
    used: AtomicUsize,
}

/// What one peer makes the node hold, over all its sessions: see
/// [`Connection::established`](crate::adapter::Connection::established).
pub struct PeerMemory {
    account: Arc<Account>,
    peer: PeerId,
    /// As it was when the first of the sessions began.
    is_stranger: bool,
    used: AtomicUsize,
}

/// Charges bytes if they fit. What does not fit is never counted, not for a moment: another charge would
/// fail because of it, and its task would wait for what nobody gives back.
fn charge_within(used: &AtomicUsize, bytes: usize, limit: usize) -> bool {
    let charged = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
    used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, charged).is_ok()
}

impl Account {
    pub(crate) fn new(limits: MemoryLimits) -> Arc<Self> {
        Arc::new(Self {
            strangers: Pool::new(limits.strangers),
            node: Pool::new(limits.node),
            per_peer: limits.peer,
            is_awaited: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    /// Returns the account of a peer. It is the same for all its sessions, those among them that
    /// have ended and of which something is left.
    pub(crate) fn of(self: &Arc<Self>, peer: PeerId, is_stranger: bool) -> Arc<PeerMemory> {
        let mut state = lock(&self.state);
        if let Some(memory) = state.peers.get(&peer).and_then(Weak::upgrade) {
            return memory;
        }
        let (account, used) = (self.clone(), AtomicUsize::new(0));
        let memory = Arc::new(PeerMemory { account, peer, is_stranger, used });
        state.peers.insert(peer, Arc::downgrade(&memory));
        memory
    }

    /// Charges bytes of one peer to the node, and to the strangers if it is one, if that fits.
    fn try_add(&self, bytes: usize, part: usize, is_stranger: bool) -> bool {
        if is_stranger && !self.strangers.try_add(bytes, part) {
            return false;
        }
        let fits = self.node.try_add(bytes, part);
        if !fits && is_stranger {
            self.strangers.sub(bytes);
        }
        fits
    }

    /// Returns how many bytes are charged.
    pub(crate) fn used(&self) -> usize {
        self.node.used.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        // A task that registers looks again afterwards, so none is missed.
        if self.is_awaited.load(Ordering::SeqCst) {
            let mut state = lock(&self.state);
            self.is_awaited.store(false, Ordering::SeqCst);
            let waiters: Vec<Waker> = state.waiters.take();
            drop(state);
            wake_all(waiters);
        }
    }
}

impl Pool {
    const fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Charges bytes if no more than the given part of the limit is used then.
    fn try_add(&self, bytes: usize, part: usize) -> bool {
        charge_within(&self.used, bytes, self.limit / part)
    }

    fn sub(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
    }

    fn has_room(&self) -> bool {
        self.used.load(Ordering::SeqCst) < self.limit
    }
}

impl PeerMemory {
    /// Charges bytes that are held already.
    pub(crate) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::SeqCst);
        self.account.node.add(bytes);
        if self.is_stranger {
            self.account.strangers.add(bytes);
        }
    }

    /// Charges a message that is about to be read, if it fits.
    pub(crate) fn try_add(&self, bytes: usize) -> bool {
        self.try_add_to(bytes, 1)
    }

    /// Charges a window that a transport is to lend to the peer, if less than half of each limit is
    /// used: messages need the other half. The transport gives it [back](Self::sub) when the window
    /// is closed.
    pub fn try_lend(&self, bytes: usize) -> bool {
        self.try_add_to(bytes, 2)
    }

    fn try_add_to(&self, bytes: usize, part: usize) -> bool {
        if !charge_within(&self.used, bytes, self.account.per_peer / part) {
            return false;
        }
        let fits = self.account.try_add(bytes, part, self.is_stranger);
        if !fits {
            self.used.fetch_sub(bytes, Ordering::SeqCst);
        }
        fits
    }

    /// Gives back what was charged.
    pub fn sub(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.is_stranger {
            self.account.strangers.sub(bytes);
        }
        self.account.node.sub(bytes);
        self.account.wake();
    }

    /// Returns whether a little more may be read.
    pub(crate) fn has_room(&self) -> bool {
        let used = self.used.load(Ordering::SeqCst);
        let has_pool = || {
            self.account.node.has_room() && (!self.is_stranger || self.account.strangers.has_room())
        };
        used < FREE || (used < self.account.per_peer && has_pool())
    }

    /// Has the task woken when there may be more room.
    pub(crate) fn wait(&self, id: &mut Option<WaiterId>, cx: &Context<'_>) {
        let mut state = lock(&self.account.state);
        state.waiters.register(id, cx);
        self.account.is_awaited.store(true, Ordering::SeqCst);
    }

    pub(crate) fn leave(&self, id: WaiterId) {
        let waker = lock(&self.account.state).waiters.remove(id);
        drop(waker);
    }
}

/// A task of a transport that waits until there may be more room on a peer's account.
///
/// It is woken too often rather than too rarely: it tries again, and waits again.
#[derive(Debug)]
pub struct RoomWaiter {
    memory: Arc<PeerMemory>,
    id: Option<WaiterId>,
}

impl RoomWaiter {
    /// Has the task woken when there may be more room. What it has tried before, it must try again
    /// after this, or it could miss that.
    pub fn register(memory: &Arc<PeerMemory>, cx: &Context<'_>) -> Self {
        let mut this = Self { memory: memory.clone(), id: None };
        memory.wait(&mut this.id, cx);
        this
    }
}

impl Drop for RoomWaiter {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.memory.leave(id);
        }
    }
}

impl Drop for PeerMemory {
    fn drop(&mut self) {
        let mut state = lock(&self.account.state);
        // Another may have been made for the peer meanwhile.
        if state.peers.get(&self.peer).is_some_and(|memory| memory.strong_count() == 0) {
            state.peers.remove(&self.peer);
        }
    }
}

impl fmt::Debug for PeerMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerMemory").field("used", &self.used).finish_non_exhaustive()
    }
}

/// Bytes that are charged to a peer for as long as this exists.
#[derive(Debug)]
pub(crate) struct Charge {
    memory: Arc<PeerMemory>,
    bytes: usize,
}

impl Charge {
    /// Charges bytes that are held already.
    pub(crate) fn new(memory: Arc<PeerMemory>, bytes: usize) -> Self {
        memory.add(bytes);
        Self { memory, bytes }
    }

    pub(crate) const fn memory(&self) -> &Arc<PeerMemory> {
        &self.memory
    }

    /// Charges more if it fits.
    pub(crate) fn try_add(&mut self, bytes: usize) -> bool {
        let fits = self.memory.try_add(bytes);
        self.bytes += if fits { bytes } else { 0 };
        fits
    }

    /// Divides the charge: returns one of `bytes`, or of all if that is less.
    pub(crate) fn split_off(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { memory: self.memory.clone(), bytes }
    }

    /// Takes note that less is held now, unless that makes little difference.
    pub(crate) fn lower_to(&mut self, bytes: usize) {
        if self.bytes - bytes >= STEP {
            self.set(bytes);
        }
    }

    /// Takes note of how much is held now.
    pub(crate) fn set(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            Some(more) => self.memory.add(more),
            None => self.memory.sub(self.bytes - bytes),
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.sub(self.bytes);
    }
}

/// Returns what a received message occupies, with its place in a queue. One of half a buffer that
/// messages share may keep the whole of it.
pub(crate) const fn cost(message: usize) -> usize {
    PER_MESSAGE + if message >= SMALL / 2 && message < SMALL { SMALL } else { message }
}

/// Bytes that a peer may always hold.
pub(crate) const FREE: usize = 128 * 1024;
/// A message is charged before it is read if it is longer.
pub(crate) const SMALL: usize = glueberry_proto::READ_CHUNK + 64;
/// Bytes that are given back at a time.
const STEP: usize = 16 * 1024;
/// What a message takes besides its bytes.
const PER_MESSAGE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn account() -> Arc<Account> {
        let mut config = glueberry_proto::Config::default();
        (config.node_memory, config.peer_memory) = (16 * MIB, 4 * MIB);
        config.max_message_size = MIB;
        Account::new(config.memory_limits())
    }

    #[test]
    fn no_peer_has_it_all_and_strangers_leave_half() {
        let account = account();
        let strangers: Vec<_> = (0..4).map(|_| account.of(PeerId::random(), true)).collect();
        assert!(strangers[0].try_add(4 * MIB));
        assert!(!strangers[0].has_room() && !strangers[0].try_add(1));
        assert!(strangers[1].try_add(4 * MIB));
        assert!(!strangers[2].try_add(MIB));
        assert!(strangers[2].has_room(), "a little is always read");
        strangers[2].add(FREE);
        assert!(!strangers[2].has_room());
        let friend = account.of(PeerId::random(), false);
        assert!(friend.try_add(4 * MIB));
        assert_eq!(account.used(), 12 * MIB + FREE);
        strangers[0].sub(4 * MIB);
        assert!(strangers[2].has_room());
        friend.sub(4 * MIB);
        assert_eq!(account.used(), 4 * MIB + FREE);
    }

    #[test]
    fn a_peer_that_comes_back_has_the_same_account() {
        let account = account();
        let peer = PeerId::random();
        let left = Charge::new(account.of(peer, true), 3 * MIB);
        assert!(!account.of(peer, false).try_add(2 * MIB));
        drop(left);
        assert_eq!(account.used(), 0);
        assert!(lock(&account.state).peers.is_empty());
        assert!(!account.of(peer, false).is_stranger);
    }

    #[test]
    fn what_is_held_may_change() {
        let account = account();
        let mut charge = Charge::new(account.of(PeerId::random(), true), 0);
        charge.set(5);
        assert!(charge.try_add(MIB));
        charge.set(7);
        assert_eq!(account.used(), 7);
        assert!(!charge.try_add(8 * MIB));
        drop(charge);
        assert_eq!(account.used(), 0);
    }

    #[test]
    fn limits_leave_room_for_the_longest_message() {
        let mut config = glueberry_proto::Config::default();
        (config.node_memory, config.peer_memory) = (1, 1);
        let account = Account::new(config.memory_limits());
        let peer = account.of(PeerId::random(), true);
        while peer.try_lend(MIB) {}
        assert!(peer.try_add(config.max_message_size + 64));
    }
}
