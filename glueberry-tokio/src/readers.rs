//! Who reads which stream of which peer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use glueberry_proto::StreamName;
use libp2p_identity::PeerId;

use crate::inbox::Inbox;

/// The inboxes of all readers. Handles write it, sessions read it.
#[derive(Debug)]
pub(crate) struct Readers {
    table: RwLock<Table>,
    /// Grows whenever the table changes, so that sessions need not look each time.
    version: AtomicU64,
    /// Gets what no reader has taken over.
    main: Arc<Inbox>,
    /// Gets handshake messages.
    handshake: Arc<Inbox>,
}

#[derive(Debug, Default)]
struct Table {
    inboxes: BTreeMap<(PeerId, StreamName), Arc<Inbox>>,
    /// Streams of all peers, but for those above.
    of_all: BTreeMap<StreamName, Arc<Inbox>>,
    is_closed: bool,
}

impl Readers {
    pub(crate) fn new(main: Arc<Inbox>, handshake: Arc<Inbox>) -> Self {
        Self { table: RwLock::default(), version: AtomicU64::new(0), main, handshake }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns the inbox of a stream.
    pub(crate) fn inbox(&self, peer: PeerId, stream: &StreamName) -> Arc<Inbox> {
        let table = self.read();
        let own = table.inboxes.get(&(peer, stream.clone())).or_else(|| table.of_all.get(stream));
        own.unwrap_or(&self.main).clone()
    }

    /// Returns the inbox of handshake messages.
    pub(crate) const fn handshake(&self) -> &Arc<Inbox> {
        &self.handshake
    }

    /// Has a stream read from `inbox`; returns false if it has a reader already.
    pub(crate) fn claim(&self, peer: PeerId, stream: StreamName, inbox: Arc<Inbox>) -> bool {
        let before = self.inbox(peer, &stream);
        let is_claimed = self.claim_in(|table| table.inboxes.entry((peer, stream)), inbox);
        // What waits for room there has another reader now.
        before.wake_writers(Some(peer));
        is_claimed
    }

    /// Has a stream of all peers read from `inbox`; returns false if it has a reader already.
    pub(crate) fn claim_all(&self, stream: StreamName, inbox: Arc<Inbox>) -> bool {
        let is_claimed = self.claim_in(|table| table.of_all.entry(stream), inbox);
        self.main.wake_writers(None);
        is_claimed
    }

    fn claim_in<K: Ord>(
        &self,
        entry: impl FnOnce(&mut Table) -> Entry<'_, K, Arc<Inbox>>,
        inbox: Arc<Inbox>,
    ) -> bool {
        let mut table = self.write();
        let Entry::Vacant(vacant) = entry(&mut table) else {
            return false;
        };
        vacant.insert(inbox.clone());
        let is_closed = table.is_closed;
        drop(table);
        self.version.fetch_add(1, Ordering::Release);
        if is_closed {
            inbox.close();
        }
        true
    }

    pub(crate) fn release_all(&self, stream: &StreamName) {
        let released = self.write().of_all.remove(stream);
        self.released(released);
    }

    pub(crate) fn release(&self, peer: PeerId, stream: &StreamName) {
        let released = self.write().inboxes.remove(&(peer, stream.clone()));
        self.released(released);
    }

    fn released(&self, inbox: Option<Arc<Inbox>>) {
        // Before the inbox: a session that finds that released looks whether there is a new version.
        self.version.fetch_add(1, Ordering::Release);
        if let Some(inbox) = inbox {
            inbox.release();
        }
    }

    /// Ends every reader's messages behind those that wait: the node has stopped.
    pub(crate) fn close(&self) {
        let mut table = self.write();
        table.is_closed = true;
        let all = table.inboxes.values().chain(table.of_all.values());
        let inboxes: Vec<Arc<Inbox>> = all.cloned().collect();
        drop(table);
        self.main.close();
        self.handshake.close();
        for inbox in inboxes {
            inbox.close();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}
