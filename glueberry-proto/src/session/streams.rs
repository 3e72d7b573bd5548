//! The named streams of a session.

use bytes::{Bytes, BytesMut};

use super::action::{Ingest, ResetCode};
use super::batch::WriteTo;
use super::event::Event;
use super::lent::{Lent, LentKeys};
use super::small_map::SmallMap;
use super::stream::Stream;
use super::substreams::Stage;
use super::timers::Due;
use super::v2::incoming::Incoming;
use super::v2::outgoing::Outgoing;
use crate::config::Config;
use crate::error::{PeerMisbehaved, SendError};
use crate::id::SubstreamId;
use crate::prelude::*;
use crate::time::Instant;
use crate::v2::Violation;
use crate::v2::control::{Abandon, Close, CloseEntry, Received};
use crate::wire::{Profile, StreamName};

/// The streams that were prepared, by name.
#[derive(Debug, Default)]
pub(super) struct Streams {
    table: SmallMap<StreamName, Box<Stream>>,
    /// Messages in doubt on substreams that broke.
    in_doubt: u64,
    /// What the peer has said at the end of what was sent and received: v2.
    peers_close: Option<Close>,
}

impl Streams {
    pub(super) fn add(&mut self, name: StreamName, profile: Profile, config: &Config) {
        if !self.contains(&name) {
            self.table.insert(name, Box::new(Stream::new(profile, config)));
        }
    }

    pub(super) fn contains(&self, name: &StreamName) -> bool {
        self.table.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &StreamName> {
        self.table.keys()
    }

    /// Returns a stream, or none for a name that was not prepared.
    pub(super) fn get(&self, name: &StreamName) -> Option<&Stream> {
        self.table.get(name).map(|stream| &**stream)
    }

    pub(super) fn get_mut(&mut self, name: &StreamName) -> Option<&mut Stream> {
        self.table.get_mut(name).map(|stream| &mut **stream)
    }

    /// Returns what waits for the application, in bytes.
    pub(super) fn received_bytes(&self) -> usize {
        self.table.values().map(|stream| stream.receiver.inbox.bytes()).sum()
    }

    // ---- sending ------------------------------------------------------------------------------

    pub(super) fn send(
        &mut self,
        name: &StreamName,
        message: Bytes,
        lent: &mut Lent<'_>,
    ) -> Result<(), SendError> {
        let stream = self.get_mut(name).ok_or(SendError::UnknownStream)?;
        stream.sender.push(message)?;
        stream.want_write(name, lent);
        Ok(())
    }

    /// The lent queue has something for a stream.
    pub(super) fn note_lent(&mut self, name: &StreamName, lent: &mut Lent<'_>) {
        if let Some(stream) = self.get_mut(name) {
            stream.sender.note_lent();
            stream.want_write(name, lent);
        }
    }

    pub(super) fn queued(&self, name: &StreamName) -> (usize, usize) {
        self.table.get(name).map_or((0, 0), |stream| stream.sender.queued())
    }

    pub(super) fn take_unsent(&mut self, name: &StreamName, lent: &mut Lent<'_>) -> Vec<Bytes> {
        let Some(stream) = self.get_mut(name) else {
            return Vec::new();
        };
        let (unsent, has_refused) = stream.sender.take_unsent();
        if has_refused && lent.state.is_established() {
            lent.out.emit(Event::Writable { stream: name.clone() });
        }
        unsent
    }

    /// What went out on a substream has arrived, and its end: what has come since goes out on
    /// another.
    pub(super) fn delivered(&mut self, id: SubstreamId, name: &StreamName, lent: &mut Lent<'_>) {
        if let Some(stream) = self.get_mut(name) {
            stream.sender.delivered(id);
            stream.find_target(name, lent);
        }
    }

    /// A substream of our own could not be opened.
    pub(super) fn not_opened(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        is_final: bool,
        lent: &mut Lent<'_>,
    ) {
        if let Some(stream) = self.table.get_mut(name) {
            let in_doubt = stream.not_opened(id, name, is_final, lent);
            self.in_doubt = self.in_doubt.saturating_add(in_doubt);
        }
    }

    /// This side's half of a substream broke.
    ///
    /// In v2 returns which instance is over by that.
    pub(super) fn write_broken(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        lent: &mut Lent<'_>,
    ) -> Option<Abandon> {
        let broken = self.get_mut(name)?.write_broken(id, name, lent);
        self.in_doubt = self.in_doubt.saturating_add(broken.in_doubt);
        Some(Abandon { instance: broken.instance?, name: name.clone() })
    }

    pub(super) fn write(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        lent: &mut LentKeys<'_>,
        to: &mut WriteTo<'_>,
    ) {
        if let Some(stream) = self.get_mut(name) {
            stream.write(id, name, lent, to);
        }
    }

    // ---- receiving ----------------------------------------------------------------------------

    /// The peer has opened a substream of a stream that is prepared, or may still be.
    pub(super) fn accepted(&mut self, id: SubstreamId, name: &StreamName, lent: &mut Lent<'_>) {
        match self.get_mut(name) {
            Some(stream) => stream.accepted(id, name, lent),
            None => lent.substreams.move_to(id, Stage::Parked(name.clone())),
        }
    }

    /// Streams were prepared: binds the substreams that waited for it.
    pub(super) fn bind_parked(&mut self, lent: &mut Lent<'_>) {
        for (id, name) in lent.substreams.parked() {
            if let Some(stream) = self.get_mut(&name) {
                stream.accepted(id, &name, lent);
            }
        }
    }

    /// No more streams can be prepared: resets the substreams that waited for it.
    pub(super) fn reset_parked(lent: &mut Lent<'_>) {
        for (id, name) in lent.substreams.parked() {
            lent.substreams.reset(id, ResetCode::Refused, lent.out);
            lent.out.emit(Event::StreamNotPrepared { stream: name });
        }
    }

    pub(super) fn ingest(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        lent: &mut LentKeys<'_>,
        buf: &mut BytesMut,
    ) -> Result<Ingest, PeerMisbehaved> {
        let Some(stream) = self.get_mut(name) else {
            debug_assert!(false, "only prepared streams have substreams");
            return Ok(Ingest::Discard);
        };
        stream.ingest(id, name, lent, buf)
    }

    // ---- timers and the end -------------------------------------------------------------------

    pub(super) fn each_deadline<'a>(&'a self, mut deadline: impl FnMut(Instant, Due<'a>)) {
        for (name, stream) in self.table.iter() {
            if let Some(at) = stream.sender.settle_at() {
                deadline(at, Due::Settle(name));
            }
            if let Some(at) = stream.sender.retry_at() {
                deadline(at, Due::Retry(name));
            }
            if let Some(at) = stream.incoming.as_ref().and_then(|it| it.waits_until()) {
                deadline(at, Due::Instance(name));
            }
        }
    }

    /// Tries other substreams for the streams whose time for it has come.
    pub(super) fn retry_due(&mut self, lent: &mut Lent<'_>) {
        for (name, stream) in self.table.iter_mut() {
            if stream.sender.retry_at().is_some_and(|at| at <= lent.now) {
                stream.offer_target(name, lent);
            }
        }
    }

    /// Forgets what was kept to go out again, where the time for it is over.
    pub(super) fn settle_due(&mut self, lent: &mut Lent<'_>) {
        for (name, stream) in self.table.iter_mut() {
            if stream.sender.settle_at().is_some_and(|at| at <= lent.now) {
                let in_doubt = stream.settle(name, lent);
                self.in_doubt = self.in_doubt.saturating_add(in_doubt);
            }
        }
    }

    /// Gives up the instances that a later one has waited for, where the time for it has come.
    pub(super) fn instances_due(&mut self, lent: &mut Lent<'_>) {
        for (name, stream) in self.table.iter_mut() {
            if let Some(incoming) = &mut stream.incoming {
                incoming.handle_timeout(name, lent);
            }
        }
    }

    /// Ends this side's half of every substream that carries a stream.
    pub(super) fn finish(&mut self, lent: &mut Lent<'_>) {
        for (name, stream) in self.table.iter_mut() {
            stream.finish(name, lent);
        }
    }

    pub(super) fn are_drained(&self) -> bool {
        self.table.values().all(|stream| stream.sender.is_drained())
    }

    /// The session is over: counts the messages that the peer may not have.
    pub(super) fn end(&mut self) -> Left {
        let mut left = Left { in_doubt: self.in_doubt, ..Left::default() };
        for stream in self.table.values_mut() {
            let (queued, written) = stream.sender.end();
            left.unsent += queued;
            left.in_doubt = left.in_doubt.saturating_add(written);
        }
        if let Some(close) = self.peers_close.take() {
            left.in_doubt = 0;
            left.not_received = self.not_received(&close);
        }
        for stream in self.table.values_mut() {
            // Wipes their keys.
            stream.sender.outgoing = None;
            stream.incoming = None;
        }
        left
    }
}

/// Messages of an ended session that the peer may not have.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Never written.
    pub(super) unsent: usize,
    /// Written, and the peer may have them or not.
    pub(super) in_doubt: u64,
    /// Written, and the peer does not have them.
    pub(super) not_received: u64,
}

/// What only v2 has.
impl Streams {
    /// Gives each stream its keys.
    pub(super) fn begin_instances(&mut self, begin: impl Fn(&StreamName) -> Instances) {
        for (name, stream) in self.table.iter_mut() {
            let (outgoing, incoming) = begin(name);
            stream.sender.outgoing = Some(Box::new(outgoing));
            stream.incoming = Some(Box::new(incoming));
        }
    }

    pub(super) fn ingest_instance(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        lent: &mut Lent<'_>,
        buf: &mut BytesMut,
    ) -> Result<Ingest, PeerMisbehaved> {
        match self.get_mut(name) {
            Some(stream) => stream.ingest_instance(id, name, lent, buf),
            None => Ok(Ingest::Discard),
        }
    }

    /// The peer does not want one of its instances to be waited for.
    pub(super) fn abandoned(
        &mut self,
        abandon: &Abandon,
        lent: &mut Lent<'_>,
    ) -> Result<(), Violation> {
        let stream = self.get_mut(&abandon.name);
        match stream.and_then(|stream| stream.incoming.as_mut()) {
            Some(incoming) => incoming.abandoned(abandon.instance, &abandon.name, lent),
            None => Ok(()),
        }
    }

    /// Returns what this side has sent and received.
    pub(super) fn close_entries(&self) -> Vec<CloseEntry> {
        let entries = self.table.iter().map(|(name, stream)| CloseEntry {
            name: name.clone(),
            sent: stream.sender.outgoing.as_ref().map_or(0, |it| it.sent()),
            received: stream.incoming.as_ref().map_or_else(Received::default, |it| it.received()),
        });
        entries.collect()
    }

    /// The peer says what it has sent and received.
    pub(super) fn peer_closed(&mut self, close: Close) {
        self.peers_close = Some(close);
    }

    /// True if all has arrived that the peer says it has sent.
    pub(super) fn have_all(&self) -> bool {
        let has_all = |entry: &CloseEntry| {
            let stream = self.table.get(&entry.name);
            let incoming = stream.and_then(|stream| stream.incoming.as_ref());
            incoming.is_none_or(|incoming| incoming.received().next >= entry.sent)
        };
        self.peers_close.as_ref().is_none_or(|close| close.entries.iter().all(has_all))
    }

    /// Returns how many of the messages that were written the peer does not have.
    fn not_received(&self, close: &Close) -> u64 {
        let mut count = 0_u64;
        for (name, stream) in self.table.iter() {
            let entry = close.entries.iter().find(|entry| entry.name == *name);
            let received = entry.map_or_else(Received::default, |entry| entry.received);
            let outgoing = stream.sender.outgoing.as_ref();
            count = count.saturating_add(outgoing.map_or(0, |outgoing| outgoing.missing(received)));
        }
        count
    }
}

/// Both directions of a stream.
pub(super) type Instances = (Outgoing, Incoming);
