//! What each connection's peer may send ahead of the reader.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ptr::addr_eq;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use glueberry_tokio::adapter::{Negotiations, PeerMemory, QuicLoan, QuicWindow};
use libp2p::PeerId;

use crate::settings::{Lender, Loan};

/// What the peer of one connection may send ahead of the reader: little, until it has proven something.
pub(super) trait Window: Debug + Send + Sync {
    /// The peer has a session, in which `waiting` of its substreams may wait for the end of the handshake.
    /// A connection that can't wait itself has room for them, on the peer's account.
    fn admitted(self: Arc<Self>, memory: &Arc<PeerMemory>, waiting: usize)
    -> Option<Box<dyn Loan>>;

    /// The peer has a session that is Established, and has more from now on, on its account.
    fn established(&self, memory: &Arc<PeerMemory>);

    /// Has room for one substream more for as long as the result exists, on the account of a peer whose
    /// connection is carried in it.
    fn lend(self: Arc<Self>, memory: &Arc<PeerMemory>) -> Box<dyn Loan>;

    /// Returns whether nothing of the connection is read until there is room.
    fn is_held_back(&self) -> bool;
}

/// The windows of all connections, by who is at the other end.
///
/// A session is behind the swarm, which does not tell it the connection that it runs over. So what a
/// session has proven counts for all connections that its peer has at that moment, which usually is
/// the one. If they run over a relay, it counts for those with the relay too, of which the session's is
/// a substream. All that is lent is charged to the session's peer.
#[derive(Debug, Default)]
pub(super) struct Windows {
    open: Mutex<BTreeMap<PeerId, Vec<Open>>>,
}

#[derive(Debug)]
struct Open {
    window: Weak<dyn Window>,
    negotiations: Arc<Negotiations>,
}

/// The window of one connection, known to [`Windows`] for as long as this exists.
#[derive(Debug)]
pub(super) struct Registered {
    windows: Arc<Windows>,
    peer: PeerId,
    window: Arc<dyn Window>,
}

impl Windows {
    /// Adds a connection that has just been made.
    pub(super) fn add(
        self: &Arc<Self>,
        peer: PeerId,
        window: Arc<dyn Window>,
        negotiations: Arc<Negotiations>,
    ) -> Registered {
        let open = Open { window: Arc::downgrade(&window), negotiations };
        self.lock().entry(peer).or_default().push(open);
        Registered { windows: self.clone(), peer, window }
    }

    fn of(&self, peer: PeerId) -> Vec<Arc<dyn Window>> {
        let open = self.lock();
        open.get(&peer).into_iter().flatten().filter_map(|open| open.window.upgrade()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Vec<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lender for Windows {
    fn admitted(
        &self,
        peer: PeerId,
        memory: &Arc<PeerMemory>,
        waiting: usize,
    ) -> Vec<Box<dyn Loan>> {
        let of_peer = self.of(peer).into_iter();
        of_peer.filter_map(|window| window.admitted(memory, waiting)).collect()
    }

    fn established(
        &self,
        peer: PeerId,
        relay: Option<PeerId>,
        memory: &Arc<PeerMemory>,
    ) -> Vec<Box<dyn Loan>> {
        for window in self.of(peer) {
            window.established(memory);
        }
        for negotiations in self.negotiations(peer) {
            negotiations.established();
        }
        let with_relay = relay.map(|relay| self.of(relay)).unwrap_or_default();
        with_relay.into_iter().map(|window| window.lend(memory)).collect()
    }

    fn is_held_back(&self, peer: PeerId) -> bool {
        self.of(peer).iter().any(|window| window.is_held_back())
    }

    fn negotiations(&self, peer: PeerId) -> Vec<Arc<Negotiations>> {
        let open = self.lock();
        open.get(&peer).into_iter().flatten().map(|open| open.negotiations.clone()).collect()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut open = self.windows.lock();
        if let Some(of_peer) = open.get_mut(&self.peer) {
            of_peer.retain(|open| !addr_eq(open.window.as_ptr(), Arc::as_ptr(&self.window)));
            if of_peer.is_empty() {
                open.remove(&self.peer);
            }
        }
    }
}

impl Window for QuicWindow {
    /// What has no room is not sent.
    fn admitted(self: Arc<Self>, _: &Arc<PeerMemory>, _: usize) -> Option<Box<dyn Loan>> {
        None
    }

    fn established(&self, memory: &Arc<PeerMemory>) {
        self.established(memory);
    }

    fn lend(self: Arc<Self>, memory: &Arc<PeerMemory>) -> Box<dyn Loan> {
        Box::new(Self::lend(&self, memory))
    }

    /// QUIC itself is read on.
    fn is_held_back(&self) -> bool {
        false
    }
}

impl Loan for QuicLoan {}
