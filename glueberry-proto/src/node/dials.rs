//! Dials: how many are under way, which peers wait for one, and whom each is for.

use std::collections::{BTreeMap, VecDeque};

use crate::crypto::PublicKey;
use crate::id::{Counter, DialId};
use crate::time::Instant;

/// A dial of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dial {
    /// It waits in the queue, because too many others are under way.
    Queued,
    /// The adapter was asked for it, and it is given up at the deadline.
    UnderWay { id: DialId, deadline: Instant },
}

/// The dials of all peers.
#[derive(Debug, Default)]
pub(super) struct Dials {
    /// The peers whose dial is [`Queued`](Dial::Queued), in order.
    queue: VecDeque<PublicKey>,
    /// The peers whose dial is [`UnderWay`](Dial::UnderWay).
    under_way: BTreeMap<DialId, PublicKey>,
    ids: Counter,
}

impl Dials {
    pub(super) fn enqueue(&mut self, peer: PublicKey) {
        self.queue.push_back(peer);
    }

    /// Takes the first queued peer that may be dialled now.
    pub(super) fn dequeue(&mut self, may_dial: impl Fn(PublicKey) -> bool) -> Option<PublicKey> {
        let at = self.queue.iter().position(|peer| may_dial(*peer))?;
        self.queue.remove(at)
    }

    /// Begins a dial of a peer that was dequeued.
    pub(super) fn begin(&mut self, peer: PublicKey) -> DialId {
        let id = DialId::new(self.ids.next());
        self.under_way.insert(id, peer);
        id
    }

    /// Returns whom a dial is for; `None` if it is over.
    pub(super) fn peer(&self, id: DialId) -> Option<PublicKey> {
        self.under_way.get(&id).copied()
    }

    /// Ends a dial that has succeeded or failed.
    pub(super) fn finish(&mut self, id: DialId) -> Option<PublicKey> {
        self.under_way.remove(&id)
    }

    /// Gives a dial up. Returns its id if the adapter must be asked to cancel it.
    pub(super) fn cancel(&mut self, peer: PublicKey, dial: Dial) -> Option<DialId> {
        match dial {
            Dial::Queued => {
                self.queue.retain(|queued| *queued != peer);
                None
            }
            Dial::UnderWay { id, .. } => self.under_way.remove(&id).map(|_| id),
        }
    }

    pub(super) fn count_under_way(&self) -> usize {
        self.under_way.len()
    }
}
