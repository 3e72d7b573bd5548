//! Which session speaks for a peer, and who reads its streams.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use glueberry_proto::{ConnectionState, Direction, StreamName};
use libp2p_identity::PeerId;

use crate::inbox::Inbox;
use crate::port::Port;

/// What handles look up: written by the node's task, read by everybody.
#[derive(Debug)]
pub(crate) struct Routes {
    peers: RwLock<HashMap<PeerId, Standing>>,
    readers: RwLock<HashMap<(PeerId, StreamName), Arc<Inbox>>>,
    /// Grows whenever `readers` changes, so that sessions need not ask each time.
    version: AtomicU64,
    /// Reads what nobody else does.
    main: Arc<Inbox>,
    is_closed: AtomicBool,
}

/// Where a peer stands.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) state: ConnectionState,
    pub(crate) direction: Option<Direction>,
    /// The session that speaks for the peer.
    pub(crate) port: Option<Arc<Port>>,
}

impl Routes {
    pub(crate) fn new(main: Arc<Inbox>) -> Self {
        Self {
            peers: RwLock::default(),
            readers: RwLock::default(),
            version: AtomicU64::new(0),
            main,
            is_closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn standing(&self, peer: &PeerId) -> Option<Standing> {
        read(&self.peers).get(peer).cloned()
    }

    pub(crate) fn port(&self, peer: &PeerId) -> Option<Arc<Port>> {
        read(&self.peers).get(peer)?.port.clone()
    }

    pub(crate) fn set(&self, peer: PeerId, standing: Option<Standing>) {
        let mut peers = write(&self.peers);
        match standing {
            Some(standing) => peers.insert(peer, standing),
            None => peers.remove(&peer),
        };
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns who reads a stream; handshake messages go to the main reader.
    pub(crate) fn reader(&self, peer: PeerId, stream: Option<&StreamName>) -> Arc<Inbox> {
        let own =
            stream.and_then(|stream| read(&self.readers).get(&(peer, stream.clone())).cloned());
        own.unwrap_or_else(|| self.main.clone())
    }

    /// Has a stream read by `inbox`; refused if somebody else does already.
    pub(crate) fn claim(&self, peer: PeerId, stream: StreamName, inbox: Arc<Inbox>) -> bool {
        let mut readers = write(&self.readers);
        if self.is_closed() {
            inbox.close();
        }
        let entry = readers.entry((peer, stream));
        let is_free = matches!(entry, std::collections::hash_map::Entry::Vacant(_));
        entry.or_insert(inbox);
        self.version.fetch_add(1, Ordering::Release);
        is_free
    }

    pub(crate) fn release(&self, peer: PeerId, stream: &StreamName) {
        write(&self.readers).remove(&(peer, stream.clone()));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The node has stopped: ends every reader's stream behind what waits.
    pub(crate) fn close(&self) {
        self.main.close();
        let readers = write(&self.readers);
        self.is_closed.store(true, Ordering::Release);
        for inbox in readers.values() {
            inbox.close();
        }
        drop(readers);
        write(&self.peers).clear();
    }

    /// Returns whether the node has stopped.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
