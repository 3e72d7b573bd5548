//! The named streams of a session.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::action::{Ingest, ResetCode};
use super::event::Event;
use super::lent::{Lent, LentKeys};
use super::send::WriteTo;
use super::stream::Stream;
use super::substreams::Stage;
use super::timers::Due;
use crate::config::Config;
use crate::error::{PeerMisbehaved, SendError};
use crate::id::SubstreamId;
use crate::time::Instant;
use crate::wire::{Profile, StreamName};

/// The streams that were prepared, by name.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Boxed, because a map of few entries keeps room for many.
    table: BTreeMap<StreamName, Box<Stream>>,
    /// Messages in doubt on substreams that broke.
    in_doubt: u64,
}

impl Streams {
    pub(super) fn add(&mut self, name: StreamName, profile: Profile, config: &Config) {
        self.table.entry(name).or_insert_with(|| Box::new(Stream::new(profile, config)));
    }

    pub(super) fn contains(&self, name: &StreamName) -> bool {
        self.table.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &StreamName> {
        self.table.keys()
    }

    /// Returns a stream, or none for a name that was not prepared.
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

    pub(super) fn take_unsent(&mut self, name: &StreamName) -> Vec<Bytes> {
        self.get_mut(name).map(|stream| stream.sender.take_unsent()).unwrap_or_default()
    }

    /// What went out on a substream has arrived, and its end: what has come since goes out on
    /// another.
    pub(super) fn delivered(&mut self, id: SubstreamId, name: &StreamName, lent: &mut Lent<'_>) {
        if let Some(stream) = self.get_mut(name) {
            stream.sender.delivered(id);
            stream.find_target(name, lent);
        }
    }

    /// This side's half of a substream broke.
    pub(super) fn write_broken(&mut self, id: SubstreamId, name: &StreamName, lent: &mut Lent<'_>) {
        let stream = self.get_mut(name);
        let in_doubt = stream.map_or(0, |stream| stream.write_broken(id, name, lent));
        self.in_doubt = self.in_doubt.saturating_add(in_doubt);
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

    pub(super) fn deadlines(&self) -> impl Iterator<Item = (Instant, Due<'_>)> {
        self.table.iter().flat_map(|(name, stream)| {
            let settle = stream.sender.settle_at().map(|at| (at, Due::Settle(name)));
            let retry = stream.sender.retry_at().map(|at| (at, Due::Retry(name)));
            settle.into_iter().chain(retry)
        })
    }

    /// Tries other substreams for the streams whose time for it has come.
    pub(super) fn retry_due(&mut self, lent: &mut Lent<'_>) {
        for (name, stream) in &mut self.table {
            if stream.sender.retry_at().is_some_and(|at| at <= lent.now) {
                stream.offer_target(name, lent);
            }
        }
    }

    /// Forgets what was kept to go out again, where the time for it is over.
    pub(super) fn settle_due(&mut self, lent: &mut Lent<'_>) {
        for (name, stream) in &mut self.table {
            if stream.sender.settle_at().is_some_and(|at| at <= lent.now) {
                let in_doubt = stream.settle(name, lent);
                self.in_doubt = self.in_doubt.saturating_add(in_doubt);
            }
        }
    }

    /// Ends this side's half of every substream that carries a stream.
    pub(super) fn finish(&mut self, lent: &mut Lent<'_>) {
        for (name, stream) in &mut self.table {
            stream.finish(name, lent);
        }
    }

    pub(super) fn are_drained(&self) -> bool {
        self.table.values().all(|stream| stream.sender.is_drained())
    }

    /// The session is over: returns how many messages were never written, and how many were
    /// written and are in doubt.
    pub(super) fn end(&mut self) -> (usize, u64) {
        let (mut unsent, mut in_doubt) = (0, self.in_doubt);
        for stream in self.table.values_mut() {
            let (queued, written) = stream.sender.end();
            unsent += queued;
            in_doubt = in_doubt.saturating_add(written);
        }
        (unsent, in_doubt)
    }
}
