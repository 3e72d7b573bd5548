//! Dials: how many are under way, which peers wait for one, and whom each is for.

use alloc::collections::{BTreeMap, VecDeque};

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

/// What wants a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// The application waits for it, so it goes first.
    Wanted,
    /// In the background: an attempt to reconnect, or one of many peers of the book. It gives way
    /// to those that are wanted.
    Background,
}

/// The dials of all peers.
#[derive(Debug, Default)]
pub(super) struct Dials {
    /// The peers whose dial is [`Queued`](Dial::Queued), in order: first those that are wanted.
    wanted: VecDeque<PublicKey>,
    background: VecDeque<PublicKey>,
    /// The peers whose dial is [`UnderWay`](Dial::UnderWay).
    under_way: BTreeMap<DialId, (PublicKey, Urgency)>,
    ids: Counter,
}

impl Dials {
    pub(super) fn enqueue(&mut self, peer: PublicKey, urgency: Urgency) {
        match urgency {
            Urgency::Wanted => self.wanted.push_back(peer),
            Urgency::Background => self.background.push_back(peer),
        }
    }

    /// The application wants a dial that is queued or under way.
    pub(super) fn hurry(&mut self, peer: PublicKey) {
        if let Some(at) = self.background.iter().position(|queued| *queued == peer) {
            self.background.remove(at);
            self.wanted.push_back(peer);
        }
        for (_, urgency) in self.under_way.values_mut().filter(|(of, _)| *of == peer) {
            *urgency = Urgency::Wanted;
        }
    }

    /// Takes the first queued peer that may be dialled now.
    pub(super) fn dequeue(
        &mut self,
        may_dial: impl Fn(PublicKey) -> bool,
    ) -> Option<(PublicKey, Urgency)> {
        let queues =
            [(&mut self.wanted, Urgency::Wanted), (&mut self.background, Urgency::Background)];
        queues.into_iter().find_map(|(queue, urgency)| {
            let at = queue.iter().position(|peer| may_dial(*peer))?;
            queue.remove(at).map(|peer| (peer, urgency))
        })
    }

    /// Returns how many of the queued peers that are wanted may be dialled now.
    pub(super) fn count_wanted(&self, may_dial: impl Fn(PublicKey) -> bool) -> usize {
        self.wanted.iter().filter(|peer| may_dial(**peer)).count()
    }

    /// Returns the peer whose dial in the background has been under way for the longest time.
    pub(super) fn oldest_in_background(&self) -> Option<PublicKey> {
        let mut all = self.under_way.values();
        all.find(|(_, urgency)| *urgency == Urgency::Background).map(|(peer, _)| *peer)
    }

    /// Begins a dial of a peer that was dequeued.
    pub(super) fn begin(&mut self, peer: PublicKey, urgency: Urgency) -> DialId {
        let id = DialId::new(self.ids.next());
        self.under_way.insert(id, (peer, urgency));
        id
    }

    /// Returns whom a dial is for; `None` if it is over.
    pub(super) fn peer(&self, id: DialId) -> Option<PublicKey> {
        self.under_way.get(&id).map(|(peer, _)| *peer)
    }

    /// Ends a dial that has succeeded or failed.
    pub(super) fn finish(&mut self, id: DialId) -> Option<PublicKey> {
        self.under_way.remove(&id).map(|(peer, _)| peer)
    }

    /// Gives a dial up. Returns its id if the adapter must be asked to cancel it.
    pub(super) fn cancel(&mut self, peer: PublicKey, dial: Dial) -> Option<DialId> {
        match dial {
            Dial::Queued => {
                self.wanted.retain(|queued| *queued != peer);
                self.background.retain(|queued| *queued != peer);
                None
            }
            Dial::UnderWay { id, .. } => self.under_way.remove(&id).map(|_| id),
        }
    }

    pub(super) fn count_under_way(&self) -> usize {
        self.under_way.len()
    }
}
