//! Receiving on named streams: frames gathered, records opened where they lie, queues that pause
//! their substream when they are full.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::Session;
use super::action::{Ingest, ResetCode};
use super::event::Event;
use super::streams::Stream;
use super::substreams::{Opener, Purpose, Stage, Substream};
use crate::bug::Bug;
use crate::config::Config;
use crate::crypto::NONCE_LEN;
use crate::error::{PeerMisbehaved, RecordError};
use crate::fault::Fault;
use crate::id::SubstreamId;
use crate::wire::{FrameError, FrameHeader, Parsed, Profile, StreamName};

/// One direction of a stream: from the peer to this side.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// Messages with what each occupies, which for a view into a larger buffer is more than its
    /// length.
    inbox: VecDeque<(Bytes, usize)>,
    inbox_bytes: usize,
    readable_told: bool,
    /// The substream that carries the direction now; others wait for its end.
    current: Option<SubstreamId>,
    last: Option<Sequence>,
}

/// Where a substream that carries the direction is in its sequence of records.
///
/// A v1-go peer of this kind whose substream breaks early sends all of it again on another one,
/// sealed as before and from the first record on, because a Go node would have read nothing of it.
/// What was read then is not read again.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    substream: SubstreamId,
    /// The nonce of the first record: no other sequence begins so.
    first: [u8; NONCE_LEN],
    /// Records that went by on `substream`.
    position: u64,
    /// The most that went by on any substream with this sequence.
    read: u64,
}

impl Receiver {
    /// Takes note of the next record on a substream; returns whether it went by before on another.
    fn is_repeated(&mut self, substream: SubstreamId, record: &[u8]) -> bool {
        let Some(first) = record.first_chunk().copied() else {
            return false;
        };
        let sequence = match self.last {
            Some(last) if last.substream == substream => last,
            Some(last) if last.first == first => Sequence { substream, position: 0, ..last },
            _ => Sequence { substream, first, position: 0, read: 0 },
        };
        let position = sequence.position.saturating_add(1);
        let read = sequence.read.max(position);
        self.last = Some(Sequence { position, read, ..sequence });
        position <= sequence.read
    }

    /// Returns whether a message of `len` bytes may be gathered; one always fits an empty queue.
    fn admits(&self, len: usize, config: &Config) -> bool {
        self.inbox.is_empty()
            || (self.inbox.len() < config.receive_queue
                && self.inbox_bytes.saturating_add(len) <= config.receive_queue_bytes)
            || config.breaks(Fault::C10)
    }

    fn push(&mut self, message: Bytes, cost: usize) {
        self.inbox_bytes = self.inbox_bytes.saturating_add(cost);
        self.inbox.push_back((message, cost));
    }

    fn pop(&mut self) -> Option<Bytes> {
        let popped = self.inbox.pop_front();
        if self.inbox.is_empty() {
            self.readable_told = false;
            if self.inbox.capacity() > IDLE_CAPACITY {
                self.inbox = VecDeque::new();
            }
        }
        let (message, cost) = popped?;
        self.inbox_bytes = self.inbox_bytes.saturating_sub(cost);
        Some(message)
    }
}

impl Session {
    // ---- substreams ---------------------------------------------------------------------------

    pub(super) fn stream_accepted(&mut self, id: SubstreamId, name: &StreamName) {
        let Some(substream) = self.substreams.get_mut(id) else {
            return;
        };
        substream.deadline = None;
        match self.streams.get_mut(name) {
            None => substream.stage = Stage::Parked(name.clone()),
            Some(stream) if self.config.has(Bug::BothReset) && stream.sender.bound().is_some() => {
                let own = stream.sender.bound();
                for id in own.into_iter().chain([id]) {
                    self.substreams.reset(id, ResetCode::Refused, &mut self.out);
                }
            }
            Some(stream) => {
                substream.stage = Stage::Bound(Purpose::Stream(name.clone()));
                stream.peers.push_back(id);
                self.offer_target(name);
            }
        }
    }

    /// Streams were prepared: binds the substreams that waited for it.
    pub(super) fn bind_parked(&mut self) {
        for (id, name) in self.parked() {
            if self.streams.contains(&name) {
                self.stream_accepted(id, &name);
            }
        }
    }

    /// No more streams can be prepared: resets the substreams that waited for it.
    pub(super) fn reset_parked(&mut self) {
        for (id, name) in self.parked() {
            self.substreams.reset(id, ResetCode::Refused, &mut self.out);
            self.out.tell(Event::StreamNotPrepared { stream: name });
        }
    }

    fn parked(&self) -> Vec<(SubstreamId, StreamName)> {
        let parked = self.substreams.iter().filter_map(|(id, substream)| match &substream.stage {
            Stage::Parked(name) => Some((id, name.clone())),
            _ => None,
        });
        parked.collect()
    }

    /// Returns whether a substream of the peer may carry this stream, now or once it is prepared.
    pub(super) fn is_wanted(&self, name: &StreamName) -> bool {
        let is_allowed = self.profile.is_none_or(|profile| profile.allows(name));
        let may_wait = !self.state.handshake_is_over() && self.config.streams.contains(name);
        is_allowed && (may_wait || self.streams.contains(name))
    }

    /// Established: what has waited is read.
    pub(super) fn resume_streams(&mut self) {
        let bound: Vec<SubstreamId> = self
            .substreams
            .iter()
            .filter(|(_, substream)| matches!(substream.stage, Stage::Bound(Purpose::Stream(_))))
            .map(|(id, _)| id)
            .collect();
        for id in bound {
            self.substreams.resume(id, &mut self.out);
        }
    }

    /// The peer's half of a substream has ended, and this side's is no longer of use: but one that
    /// was reset may be the one that a Go node gives up, and what was written goes out again.
    pub(super) fn stream_read_ended(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        is_finished: bool,
    ) {
        let mut is_bound = false;
        if let Some(stream) = self.streams.get_mut(name) {
            stream.peers.retain(|peer| *peer != id);
            if stream.receiver.current == Some(id) {
                stream.receiver.current = None;
            }
            is_bound = stream.sender.is_bound_to(id);
        }
        if is_finished || !is_bound {
            self.substreams.finish(id, &mut self.out);
        }
        self.resume_stream(name);
    }

    fn resume_stream(&mut self, name: &StreamName) {
        let Some(stream) = self.streams.get(name) else {
            return;
        };
        let current = stream.receiver.current;
        let first = stream.peers.front().copied();
        let own = stream.sender.bound();
        let next = match current {
            Some(id) => vec![id],
            None => first.into_iter().chain(own).collect(),
        };
        for id in next {
            self.substreams.resume(id, &mut self.out);
        }
    }

    /// Returns whether a substream is the one that carries the peer's direction, and claims that
    /// for it if none does. Of those that the peer opened, the earlier must have ended.
    fn claim(stream: &mut Stream, id: SubstreamId, substream: &Substream) -> bool {
        if stream.receiver.current.is_none() {
            let is_next = match substream.opener {
                Opener::Local => true,
                Opener::Peer => stream.peers.front() == Some(&id),
            };
            if is_next {
                stream.receiver.current = Some(id);
            }
        }
        stream.receiver.current == Some(id)
    }

    // ---- bytes --------------------------------------------------------------------------------

    pub(super) fn ingest_stream(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        buf: &mut BytesMut,
    ) -> Ingest {
        let delivers = self.state.is_established()
            || self.state.is_draining()
            || self.config.has(Bug::EarlyDelivery);
        let (true, Some(profile)) = (delivers, self.profile) else {
            return Ingest::Paused;
        };
        let (Some(substream), Some(stream)) = (self.substreams.get(id), self.streams.get_mut(name))
        else {
            return Ingest::Discard;
        };
        if buf.is_empty() {
            return Ingest::More { missing: 1 };
        }
        if !Self::claim(stream, id, substream) {
            return Ingest::Paused;
        }
        if stream.sender.is_bound_to(id) {
            stream.sender.forget_retained();
        }
        let gathered = self.gather(id, name, profile, buf);
        self.tell_readable(name);
        match gathered {
            Ok(ingest) => ingest,
            Err(how) => {
                self.misbehaved(how);
                Ingest::Discard
            }
        }
    }

    /// Takes whole frames from the front of `buf` for as long as the queue has room.
    fn gather(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        profile: Profile,
        buf: &mut BytesMut,
    ) -> Result<Ingest, PeerMisbehaved> {
        let (Some(stream), Some(records)) = (self.streams.get_mut(name), self.records.as_mut())
        else {
            return Ok(Ingest::Discard);
        };
        let limit = records.record_len(self.config.max_message_size);
        let receiver = &mut stream.receiver;
        let mut cursor = Cursor { buf, at: 0 };
        loop {
            if !receiver.admits(0, &self.config) && !self.config.breaks(Fault::C6) {
                return Ok(Ingest::Paused);
            }
            let parsed = profile
                .framing()
                .parse_header(cursor.rest(), limit)
                .map_err(|error| frame_error(Some(name), error))?;
            let Parsed::Frame(header) = parsed else {
                return Ok(Ingest::More { missing: 1 });
            };
            if !receiver.admits(header.body_len, &self.config) && !self.config.breaks(Fault::C6) {
                return Ok(Ingest::Paused);
            }
            let missing = header.total_len().saturating_sub(cursor.rest().len());
            if missing > 0 {
                return Ok(Ingest::More { missing });
            }
            if profile == Profile::V1Go
                && receiver.is_repeated(id, cursor.body(&header))
                && !self.config.has(Bug::RepeatTaken)
            {
                cursor.skip(&header);
                continue;
            }
            match cursor.take(&header, |record| records.open(record)) {
                Ok(_) if self.config.breaks(Fault::C6) && !receiver.admits(0, &self.config) => {}
                Ok((message, cost)) => receiver.push(message, cost),
                Err(error) => {
                    self.rejected_records = self.rejected_records.saturating_add(1);
                    self.out.tell(Event::RecordRejected { stream: name.clone(), error });
                    if self.rejected_records > self.config.max_rejected_records {
                        let count = self.rejected_records;
                        return Err(PeerMisbehaved::TooManyRejectedRecords { count });
                    }
                }
            }
        }
    }

    fn tell_readable(&mut self, name: &StreamName) {
        if let Some(stream) = self.streams.get_mut(name) {
            let receiver = &mut stream.receiver;
            if !receiver.inbox.is_empty() && !receiver.readable_told {
                receiver.readable_told = true;
                self.out.tell(Event::Readable { stream: name.clone() });
            }
        }
    }

    pub(super) fn take_message(&mut self, name: &StreamName) -> Option<Bytes> {
        let stream = self.streams.get_mut(name)?;
        let message = stream.receiver.pop();
        let receiver = &stream.receiver;
        let has_room = 2 * receiver.inbox.len() <= self.config.receive_queue
            && 2 * receiver.inbox_bytes <= self.config.receive_queue_bytes;
        let resumes = has_room && !self.config.has(Bug::NeverResumes);
        if message.is_some() && resumes && !self.state.is_closed() {
            self.resume_stream(name);
        }
        message
    }
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

/// What a queue keeps when it runs empty.
const IDLE_CAPACITY: usize = 64;
