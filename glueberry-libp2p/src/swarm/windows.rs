//! What each connection's peer may send ahead of the reader.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use glueberry_proto::PublicKey;
use glueberry_tokio::adapter::quinn::Connection;
use glueberry_tokio::adapter::{CountedSubstream, PeerMemory, QuicWindow};
use libp2p::PeerId;

use crate::settings::Lender;

/// The windows of all connections, by who is at the other end.
///
/// A session is behind the swarm, which does not tell it the connection that it runs over. So what a
/// session has proven counts for all connections that its peer has at that moment, which usually is
/// the one. All that they are lent is charged to that peer.
#[derive(Debug)]
pub(in crate::swarm) struct Windows {
    /// Of each substream.
    stream_window: u32,
    open: Mutex<BTreeMap<PublicKey, Vec<Weak<QuicWindow>>>>,
}

/// The window of one connection, known to [`Windows`] for as long as this exists.
#[derive(Debug)]
pub(super) struct Registered {
    window: Arc<QuicWindow>,
    /// None for a peer that can have no session.
    at: Option<(Arc<Windows>, PublicKey)>,
}

impl Windows {
    pub(in crate::swarm) fn new(stream_window: u32) -> Arc<Self> {
        Arc::new(Self { stream_window, open: Mutex::default() })
    }

    /// Adds a connection that has just been made.
    pub(super) fn add(self: &Arc<Self>, peer: PeerId, connection: Connection) -> Registered {
        let window = QuicWindow::new(connection, self.stream_window);
        let peer = PublicKey::try_from(&peer).ok();
        if let Some(peer) = peer {
            self.lock().entry(peer).or_default().push(Arc::downgrade(&window));
        }
        Registered { window, at: peer.map(|peer| (self.clone(), peer)) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PublicKey, Vec<Weak<QuicWindow>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lender for Windows {
    fn established(&self, peer: PublicKey, memory: &Arc<PeerMemory>) {
        let of_peer: Vec<Arc<QuicWindow>> = match self.lock().get(&peer) {
            Some(open) => open.iter().filter_map(Weak::upgrade).collect(),
            // Its session runs over another transport.
            None => return,
        };
        for window in of_peer {
            window.established(memory);
        }
    }
}

impl Registered {
    /// Counts a substream for as long as the result exists.
    pub(super) fn count(&self) -> CountedSubstream {
        self.window.count()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Some((windows, peer)) = &self.at else {
            return;
        };
        let mut open = windows.lock();
        if let Some(of_peer) = open.get_mut(peer) {
            of_peer.retain(|window| !std::ptr::eq(window.as_ptr(), Arc::as_ptr(&self.window)));
            if of_peer.is_empty() {
                open.remove(peer);
            }
        }
    }
}
