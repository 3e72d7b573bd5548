//! What each connection's peer may send ahead of the reader.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ptr::addr_eq;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use glueberry_tokio::adapter::{AtATime, Negotiations, PeerMemory, QuicLoan, QuicWindow};
use libp2p::PeerId;

use crate::settings::{Bounds, Loan};

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
/// A session over a relay is a substream of a connection with the relay, which has more room while the
/// session is Established. Which one it is the swarm does not tell, so it counts for all that there are with
/// that relay, which usually is the one. All that is lent is charged to the session's peer.
#[derive(Debug, Default)]
pub(super) struct Windows {
    open: Mutex<BTreeMap<PeerId, Vec<Weak<dyn Window>>>>,
}

/// What bounds the peer of one connection; its window is known to [`Windows`] for as long as this exists.
#[derive(Debug)]
pub(super) struct Registered {
    windows: Arc<Windows>,
    peer: PeerId,
    window: Arc<dyn Window>,
    negotiations: Arc<Negotiations>,
}

impl Windows {
    /// Adds a connection that has just been made.
    pub(super) fn add(
        self: &Arc<Self>,
        peer: PeerId,
        window: Arc<dyn Window>,
        negotiations: Arc<Negotiations>,
    ) -> Arc<Registered> {
        self.lock().entry(peer).or_default().push(Arc::downgrade(&window));
        Arc::new(Registered { windows: self.clone(), peer, window, negotiations })
    }

    /// Has room for one substream more on all connections of a peer, for as long as the result exists.
    pub(super) fn lend(&self, peer: PeerId, memory: &Arc<PeerMemory>) -> Vec<Box<dyn Loan>> {
        self.of(peer).into_iter().map(|window| window.lend(memory)).collect()
    }

    fn of(&self, peer: PeerId) -> Vec<Arc<dyn Window>> {
        let open = self.lock();
        open.get(&peer).into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Vec<Weak<dyn Window>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bounds for Registered {
    fn admitted(&self, memory: &Arc<PeerMemory>, waiting: usize) -> Option<Box<dyn Loan>> {
        self.window.clone().admitted(memory, waiting)
    }

    fn established(&self, relay: Option<PeerId>, memory: &Arc<PeerMemory>) -> Vec<Box<dyn Loan>> {
        self.window.established(memory);
        self.negotiations.established();
        relay.map(|relay| self.windows.lend(relay, memory)).unwrap_or_default()
    }

    fn is_held_back(&self, relay: Option<PeerId>) -> bool {
        let with_relay = relay.map(|relay| self.windows.of(relay)).unwrap_or_default();
        self.window.is_held_back() || with_relay.iter().any(|window| window.is_held_back())
    }

    fn negotiations(&self) -> &Negotiations {
        &self.negotiations
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut open = self.windows.lock();
        if let Some(of_peer) = open.get_mut(&self.peer) {
            of_peer.retain(|window| !addr_eq(window.as_ptr(), Arc::as_ptr(&self.window)));
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

/// Returns how many negotiations may be under way, of a peer that may have this number of substreams.
pub(super) const fn at_a_time(substreams: usize) -> AtATime {
    AtATime { before_established: BEFORE_ESTABLISHED, established: substreams }
}

/// libp2p's own protocols and the handshake need fewer, and none of them takes longer than a round trip.
const BEFORE_ESTABLISHED: usize = 16;

#[cfg(test)]
mod tests {
    use glueberry_tokio::runtime::{Runtime, TokioRuntime};

    use super::*;

    /// Whether anything of it is read.
    #[derive(Debug)]
    struct Reading(bool);

    impl Window for Reading {
        fn admitted(self: Arc<Self>, _: &Arc<PeerMemory>, _: usize) -> Option<Box<dyn Loan>> {
            None
        }

        fn established(&self, _: &Arc<PeerMemory>) {}

        fn lend(self: Arc<Self>, _: &Arc<PeerMemory>) -> Box<dyn Loan> {
            Box::new(Nothing)
        }

        fn is_held_back(&self) -> bool {
            !self.0
        }
    }

    #[derive(Debug)]
    struct Nothing;

    impl Loan for Nothing {}

    /// What is held back of a relay holds back all that comes over it, and what is of a peer's other
    /// connection holds back nothing.
    #[tokio::test]
    async fn a_peer_is_held_back_by_its_connection_and_by_its_relay() {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::current().unwrap());
        let negotiations = || Negotiations::new(&runtime, at_a_time(64));
        let windows = Arc::<Windows>::default();
        let (peer, relay) = (PeerId::random(), PeerId::random());
        let read = windows.add(peer, Arc::new(Reading(true)), negotiations());
        let held_back = windows.add(peer, Arc::new(Reading(false)), negotiations());
        assert!(!read.is_held_back(None) && held_back.is_held_back(None));
        assert!(!read.is_held_back(Some(relay)));
        let with_relay = windows.add(relay, Arc::new(Reading(false)), negotiations());
        assert!(read.is_held_back(Some(relay)));
        drop(with_relay);
        assert!(!read.is_held_back(Some(relay)));
    }
}
