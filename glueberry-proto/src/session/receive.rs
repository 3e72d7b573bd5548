//! The receive half of a named stream: frames gathered, records opened where they lie, a queue that
//! pauses its substream when it is full.

use core::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::action::Ingest;
use super::event::Event;
use super::inbox::Inbox;
use super::lent::LentKeys;
use super::records::V1Records;
use super::substreams::{Purpose, Stage};
use super::v1_go::RepeatFilter;
use crate::config::Config;
use crate::error::{PeerMisbehaved, RecordError};
use crate::id::SubstreamId;
use crate::prelude::*;
use crate::wire::{FrameError, FrameHeader, Parsed, Profile, StreamName};

/// One direction of a stream: from the peer to this side.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) inbox: Inbox,
    /// The substream that carries the direction now; others wait for its end.
    current: Option<SubstreamId>,
    repeat_filter: Option<Box<RepeatFilter>>,
}

impl Receiver {
    pub(super) fn new(profile: Profile) -> Self {
        Self { inbox: Inbox::default(), current: None, repeat_filter: profile.repeat_filter() }
    }

    // ---- the substream that carries the direction ---------------------------------------------

    pub(super) const fn current(&self) -> Option<SubstreamId> {
        self.current
    }

    /// Returns whether a substream carries the direction; if none does, one that `is_next` does
    /// from now on.
    pub(super) fn claim(&mut self, id: SubstreamId, is_next: bool) -> bool {
        if self.current.is_none() && is_next {
            self.current = Some(id);
        }
        self.current == Some(id)
    }

    /// The peer's half of a substream has ended.
    pub(super) fn release(&mut self, id: SubstreamId) {
        if self.current == Some(id) {
            self.current = None;
        }
    }

    // ---- messages -----------------------------------------------------------------------------

    /// True if there is so much room that it is worth reading on.
    pub(super) fn has_room(&self, config: &Config) -> bool {
        2 * self.inbox.len() <= config.receive_queue
            && 2 * self.inbox.bytes() <= config.receive_queue_bytes
    }

    // ---- bytes --------------------------------------------------------------------------------

    /// Takes whole frames from the front of `buf` for as long as the queue has room.
    pub(super) fn gather(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        lent: &mut LentKeys<'_>,
        buf: &mut BytesMut,
    ) -> Result<Ingest, PeerMisbehaved> {
        let config = &*lent.params.config;
        let framing = lent.keys.profile.framing();
        let limit = V1Records::record_len(config.max_message_size);
        let mut cursor = Cursor { buf, at: 0 };
        loop {
            // Before the header: a full queue doesn't look at what is next.
            if !admits(&self.inbox, 0, config) {
                return Ok(Ingest::Paused);
            }
            let parsed = framing
                .parse_header(cursor.rest(), limit)
                .map_err(|error| frame_error(Some(name), error))?;
            let Parsed::Frame(header) = parsed else {
                return Ok(Ingest::More { missing: 1 });
            };
            // Before the body: what is announced is gathered only if there is room for it.
            if !admits(&self.inbox, header.body_len, config) {
                return Ok(Ingest::Paused);
            }
            let missing = header.total_len().saturating_sub(cursor.rest().len());
            if missing > 0 {
                return Ok(Ingest::More { missing });
            }
            if self.is_repeated(id, cursor.body(&header)) {
                cursor.skip(&header);
                continue;
            }
            let Some(keys) = &mut lent.keys.v1 else {
                debug_assert!(false, "v1's frames are read with v1's keys");
                return Ok(Ingest::Discard);
            };
            match cursor.take(&header, |record| keys.records.open(record)) {
                Ok((message, cost)) => self.inbox.push(message, cost),
                Err(error) => {
                    keys.rejected = keys.rejected.saturating_add(1);
                    let count = keys.rejected;
                    reject(name, error, count, lent)?;
                }
            }
        }
    }

    fn is_repeated(&mut self, id: SubstreamId, record: &[u8]) -> bool {
        self.repeat_filter.as_mut().is_some_and(|filter| filter.is_repeated(id, record))
    }
}

/// True if a message of `len` bytes may be gathered; one always fits an empty queue.
pub(super) fn admits(inbox: &Inbox, len: usize, config: &Config) -> bool {
    inbox.is_empty()
        || (inbox.len() < config.receive_queue
            && inbox.bytes().saturating_add(len) <= config.receive_queue_bytes)
}

/// A record did not open. It is not delivered, and the stream goes on, because the transport has
/// shown that it is the peer's; but a peer that sends many is not worth the work.
fn reject(
    name: &StreamName,
    error: RecordError,
    count: u32,
    lent: &mut LentKeys<'_>,
) -> Result<(), PeerMisbehaved> {
    lent.out.emit(Event::RecordRejected { stream: name.clone(), error });
    if count > lent.params.config.max_rejected_records {
        return Err(PeerMisbehaved::TooManyRejectedRecords { count });
    }
    Ok(())
}

/// Checks that a substream may end where it did.
pub(super) fn check_end(
    profile: Option<Profile>,
    stage: &Stage,
    unread: &[u8],
) -> Result<(), PeerMisbehaved> {
    let stream = match stage {
        Stage::Bound(Purpose::Handshake) => None,
        Stage::Bound(Purpose::Stream(name)) => Some(name),
        _ => return Ok(()),
    };
    // In v2 an end inside of a record is a truncation, which is reported.
    let profile = profile.filter(|profile| !profile.has_instances());
    match profile.map(|profile| profile.framing().check_end(unread)) {
        Some(Err(error)) => Err(frame_error(stream, error)),
        Some(Ok(())) | None => Ok(()),
    }
}

pub(super) fn frame_error(stream: Option<&StreamName>, error: FrameError) -> PeerMisbehaved {
    let stream = stream.cloned();
    match error {
        FrameError::TooLarge { announced, limit } => {
            PeerMisbehaved::MessageTooLarge { stream, announced, limit }
        }
        error => PeerMisbehaved::BadFrame { stream, error },
    }
}

/// Walks over a buffer and cuts off at the end what was taken, rather than once per message.
struct Cursor<'a> {
    buf: &'a mut BytesMut,
    at: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &[u8] {
        &self.buf[self.at..]
    }

    /// Returns the record of the frame at the cursor.
    fn body(&self, header: &FrameHeader) -> &[u8] {
        let start = self.at + header.header_len;
        &self.buf[start..start + header.body_len]
    }

    /// Steps behind the frame at the cursor.
    fn skip(&mut self, header: &FrameHeader) {
        self.at += header.total_len();
    }

    /// Opens the record of the frame at the cursor and steps behind it; returns the message and
    /// what it occupies.
    ///
    /// A message that fills at least half of its buffer is handed out as a view of it; a smaller
    /// one is copied, so that it doesn't keep the buffer alive. Neither does a later one keep alive
    /// what a record that didn't open has filled.
    fn take(
        &mut self,
        header: &FrameHeader,
        open: impl FnOnce(&mut [u8]) -> Result<Range<usize>, RecordError>,
    ) -> Result<(Bytes, usize), RecordError> {
        let start = self.at + header.header_len;
        let total = header.total_len();
        let message = match open(&mut self.buf[start..start + header.body_len]) {
            Ok(message) => message,
            Err(error) => {
                *self.buf = BytesMut::from(&self.buf[self.at + total..]);
                self.at = 0;
                return Err(error);
            }
        };
        let within = start + message.start..start + message.end;
        let len = within.len();
        if 2 * len < self.buf.capacity() {
            self.at += total;
            return Ok((Bytes::copy_from_slice(&self.buf[within]), len));
        }
        self.buf.advance(self.at);
        let offset = self.at;
        self.at = 0;
        let cost = self.buf.capacity();
        let mut frame = self.buf.split_to(total);
        frame.truncate(within.end - offset);
        frame.advance(within.start - offset);
        Ok((frame.freeze(), cost))
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        self.buf.advance(self.at);
    }
}
