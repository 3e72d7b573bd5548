//! The named streams of a session: one sender and one receiver each.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::receive::Receiver;
use super::send::Sender;
use crate::id::SubstreamId;
use crate::send_queue::SendLimits;
use crate::time::{Instant, earliest};
use crate::wire::StreamName;

/// The streams that were prepared, by name.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Boxed, because a map of few entries keeps room for many.
    table: BTreeMap<StreamName, Box<Stream>>,
}

/// Both directions of one named stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    /// Live substreams of this name that the peer has opened, in its order.
    pub(super) peers: VecDeque<SubstreamId>,
}

impl Streams {
    pub(super) fn add(&mut self, name: StreamName, limits: SendLimits) {
        self.table.entry(name).or_insert_with(|| {
            Box::new(Stream {
                sender: Sender::new(limits),
                receiver: Receiver::default(),
                peers: VecDeque::new(),
            })
        });
    }

    pub(super) fn contains(&self, name: &StreamName) -> bool {
        self.table.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &StreamName> {
        self.table.keys()
    }

    pub(super) fn get(&self, name: &StreamName) -> Option<&Stream> {
        self.table.get(name).map(|stream| &**stream)
    }

    pub(super) fn get_mut(&mut self, name: &StreamName) -> Option<&mut Stream> {
        self.table.get_mut(name).map(|stream| &mut **stream)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&StreamName, &Stream)> {
        self.table.iter().map(|(name, stream)| (name, &**stream))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.table.values_mut().map(|stream| &mut **stream)
    }

    pub(super) fn queued(&self, name: &StreamName) -> (usize, usize) {
        self.get(name).map_or((0, 0), |stream| stream.sender.queued())
    }

    pub(super) fn take_unsent(&mut self, name: &StreamName) -> Vec<Bytes> {
        self.get_mut(name).map(|stream| stream.sender.take_unsent()).unwrap_or_default()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.table.values().map(|stream| stream.sender.next_deadline()).fold(None, earliest)
    }
}
