//! Sending on named streams: queues with watermarks, sealed when the transport can take bytes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::Session;
use super::event::Event;
use super::records::Records;
use super::streams::Stream;
use super::substreams::{Opener, Purpose, Substream};
use crate::bug::Bug;
use crate::config::Config;
use crate::error::SendError;
use crate::fault::{Fault, process_counter};
use crate::id::SubstreamId;
use crate::seed::Generator;
use crate::send_queue::{MESSAGE_OVERHEAD, MessageSource, SendLimits, SendQueue};
use crate::time::{Instant, earliest};
use crate::wire::{Framing, Profile, StreamName};

/// One direction of a stream: from this side to the peer.
///
/// At most one substream at a time carries it.
#[derive(Debug)]
pub(super) struct Sender {
    /// What was given to `send`. It counts `repeats` too.
    queue: SendQueue,
    /// The lent queue may have more, which goes out behind `queue`.
    has_lent: bool,
    target: Target,
    nonces: Option<Generator>,
    /// Messages written to `target`.
    written: u64,
    /// All that was written to `target`, to go out again as it is if a Go node resets that in
    /// favour of its own substream; until it answers on `target`, or `settle_at`.
    retained: VecDeque<Written>,
    retained_bytes: usize,
    settle_at: Option<Instant>,
    /// What goes out again, ahead of `queue`, on `target` or not at all.
    repeats: VecDeque<Written>,
    /// Times in a row that no substream could be opened.
    failures: u32,
    retry_at: Option<Instant>,
    unsent: Vec<Bytes>,
}

/// A message that was written, as it was written.
#[derive(Debug)]
struct Written {
    /// With its header and sealed: whoever gets it twice knows it again by its nonce.
    frame: Bytes,
    /// Of the message.
    len: usize,
}

/// The substream that carries a stream from this side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Target {
    #[default]
    None,
    Opening(SubstreamId),
    Bound(SubstreamId),
}

impl Sender {
    pub(super) const fn new(limits: SendLimits) -> Self {
        Self {
            queue: SendQueue::new(limits),
            has_lent: false,
            target: Target::None,
            nonces: None,
            written: 0,
            retained: VecDeque::new(),
            retained_bytes: 0,
            settle_at: None,
            repeats: VecDeque::new(),
            failures: 0,
            retry_at: None,
            unsent: Vec::new(),
        }
    }

    pub(super) fn queued(&self) -> (usize, usize) {
        (self.queue.len(), self.queue.bytes())
    }

    /// Returns whether there is nothing to write.
    fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.has_lent
    }

    pub(super) fn take_unsent(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.unsent)
    }

    fn delivered(&mut self, id: SubstreamId) {
        if self.target == Target::Bound(id) {
            self.target = Target::None;
            self.written = 0;
            self.forget_retained();
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        earliest(self.settle_at, self.retry_at)
    }

    pub(super) fn is_bound_to(&self, id: SubstreamId) -> bool {
        self.target == Target::Bound(id)
    }

    /// Returns the substream that carries this direction.
    pub(super) fn bound(&self) -> Option<SubstreamId> {
        match self.target {
            Target::Bound(id) => Some(id),
            Target::None | Target::Opening(_) => None,
        }
    }

    /// Returns whether nothing is left to do for an orderly end.
    pub(super) fn is_drained(&self) -> bool {
        self.is_empty() && !matches!(self.target, Target::Bound(_))
    }

    /// The session is over: returns how many messages were never written, and how many were
    /// written and are in doubt.
    pub(super) fn end(&mut self) -> (usize, u64) {
        let in_doubt = self.break_off();
        self.retry_at = None;
        // What was not taken from the lent queue is its owner's to count.
        self.has_lent = false;
        self.unsent.extend(self.queue.drain());
        (self.unsent.len(), in_doubt)
    }

    /// The peer answers on `target`, or enough time has passed: it does not reset it any more.
    pub(super) fn forget_retained(&mut self) {
        self.retained = VecDeque::new();
        self.retained_bytes = 0;
        self.settle_at = None;
    }

    /// Keeps a message that was written, in case the peer resets the substream unread.
    fn retain(&mut self, frame: &[u8], len: usize, config: &Config, settle_at: Instant) {
        let bytes = self.retained_bytes.saturating_add(len);
        let fits = bytes <= config.high_watermark_bytes.max(config.max_message_size)
            && self.retained.len() < config.high_watermark;
        if fits && self.retained.len().try_into() == Ok(self.written.saturating_sub(1)) {
            self.retained_bytes = bytes;
            self.retained.push_back(Written { frame: Bytes::copy_from_slice(frame), len });
            self.settle_at.get_or_insert(settle_at);
        } else {
            // A gap in what would be repeated is worse than none of it.
            self.forget_retained();
        }
    }

    /// `target` broke: returns how many messages are in doubt, which are all that were written to
    /// it, and all that should have gone out again on it.
    fn break_off(&mut self) -> u64 {
        let mut repeats: u64 = 0;
        while self.next_repeat().is_some() {
            repeats = repeats.saturating_add(1);
        }
        self.repeats = VecDeque::new();
        self.forget_retained();
        self.target = Target::None;
        let written = std::mem::take(&mut self.written);
        written.saturating_add(repeats)
    }

    /// Removes and returns the next of what goes out again.
    fn next_repeat(&mut self) -> Option<Written> {
        let repeat = self.repeats.pop_front()?;
        self.queue.release(1, repeat.len);
        Some(repeat)
    }

    /// `target` broke, and the peer may have read nothing of it: has what was retained go out
    /// again; returns how many messages were written and are not among it.
    fn repeat_retained(&mut self) -> u64 {
        let repeats = std::mem::take(&mut self.retained);
        let bytes = self.retained_bytes;
        let in_doubt = self.break_off();
        let repeated = repeats.len().try_into().unwrap_or(u64::MAX);
        self.queue.hold(repeats.len(), bytes);
        self.repeats = repeats;
        in_doubt.saturating_sub(repeated)
    }
}

/// What turns messages into the frames of one substream.
struct Sealer<'a> {
    framing: Framing,
    records: &'a mut Box<dyn Records>,
    nonces: Generator,
    config: &'a Config,
    /// Until when what is written is retained, if it is.
    settle_at: Option<Instant>,
}

impl Sealer<'_> {
    fn seal(&mut self, message: &[u8], out: &mut BytesMut) {
        let len = self.records.record_len(message.len());
        out.reserve(self.framing.header_len(len) + len);
        self.framing.emit_header(len, out);
        self.records.seal(&mut self.nonces, message, out);
    }
}

/// Writing, until `out` is `full` bytes long.
impl Sender {
    fn write_repeats(&mut self, out: &mut BytesMut, full: usize) {
        while out.len() < full
            && let Some(repeat) = self.next_repeat()
        {
            out.extend_from_slice(&repeat.frame);
            self.written = self.written.saturating_add(1);
        }
    }

    fn write_queue(&mut self, sealer: &mut Sealer<'_>, out: &mut BytesMut, full: usize) {
        let needed = self.queue.bytes() + self.queue.len() * MESSAGE_OVERHEAD;
        out.reserve(needed.min(full.saturating_sub(out.len())));
        while out.len() < full
            && let Some(message) = self.queue.pop()
        {
            self.write_message(&message, sealer, out);
        }
    }

    /// Takes what the lent queue has, in batches, so that its owner's lock is taken once for many
    /// messages. All that is taken is written, though that is a few bytes more than asked for.
    fn write_lent(
        &mut self,
        sealer: &mut Sealer<'_>,
        out: &mut BytesMut,
        full: usize,
        name: &StreamName,
        source: &mut dyn MessageSource,
    ) {
        let mut batch = VecDeque::new();
        while self.has_lent && out.len() < full {
            source.take(name, full - out.len(), &mut batch);
            self.has_lent = !batch.is_empty();
            let needed = batch.iter().map(|message| message.len() + MESSAGE_OVERHEAD).sum();
            out.reserve(needed);
            for message in batch.drain(..) {
                debug_assert!(message.len() <= sealer.config.max_message_size);
                self.write_message(&message, sealer, out);
            }
        }
    }

    fn write_message(&mut self, message: &Bytes, sealer: &mut Sealer<'_>, out: &mut BytesMut) {
        let start = out.len();
        sealer.seal(message, out);
        self.written = self.written.saturating_add(1);
        if sealer.config.breaks(Fault::C9) && message.len() % 2 == 1 {
            sealer.seal(&message[1..], out);
            self.written = self.written.saturating_add(1);
        } else if let Some(settle_at) = sealer.settle_at {
            self.retain(&out[start..], message.len(), sealer.config, settle_at);
        }
    }
}

impl Session {
    pub(super) fn enqueue(&mut self, name: &StreamName, message: Bytes) -> Result<(), SendError> {
        if self.state.is_closed() || self.state.is_draining() {
            return Err(SendError::Closed);
        }
        if !self.state.is_established() {
            return Err(SendError::NotEstablished);
        }
        let stream = self.streams.get_mut(name).ok_or(SendError::UnknownStream)?;
        if self.config.breaks(Fault::C3) && message.len() > self.config.max_message_size {
            _ = stream.sender.queue.push(message.slice(..self.config.max_message_size));
        }
        stream.sender.queue.push(message)?;
        if self.config.breaks(Fault::C4) && stream.sender.queue.len() > 2 {
            stream.sender.queue.pop();
        }
        self.want_stream_write(name);
        Ok(())
    }

    /// The lent queue has something for a stream.
    pub(super) fn queued_elsewhere(&mut self, name: &StreamName) {
        // Before Established nothing is carried; once the session drains, nothing new is accepted.
        if self.state.is_established()
            && let Some(stream) = self.streams.get_mut(name)
        {
            stream.sender.has_lent = true;
            self.want_stream_write(name);
        }
    }

    /// A stream has something to send: has the adapter write, or finds a substream first.
    fn want_stream_write(&mut self, name: &StreamName) {
        let Some(stream) = self.streams.get(name) else {
            return;
        };
        match stream.sender.target {
            Target::Bound(id) => self.substreams.want_write(id, &mut self.out),
            Target::Opening(_) => {}
            Target::None => self.find_target(name),
        }
    }

    /// Finds a substream for a stream that has something to send: the peer's if there is one, in
    /// v1, otherwise one of our own.
    pub(super) fn find_target(&mut self, name: &StreamName) {
        let can_send = self.state.is_established() || self.state.is_draining();
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let sender = &mut stream.sender;
        let is_idle = sender.target == Target::None && sender.retry_at.is_none();
        if !can_send || !is_idle || sender.is_empty() {
            return;
        }
        let substreams = &self.substreams;
        let is_writable =
            |id: &&SubstreamId| substreams.get(**id).is_some_and(Substream::is_writable);
        if let Some(id) = stream.peers.iter().find(is_writable).copied() {
            return self.bind_sender(name, id);
        }
        if self.substreams.opened_by(Opener::Local) >= self.config.max_substreams {
            return self.schedule_retry(name);
        }
        let id =
            self.open(Purpose::Stream(name.clone()), vec![Profile::V1.stream_id(name.clone())]);
        if let Some(stream) = self.streams.get_mut(name) {
            stream.sender.target = Target::Opening(id);
        }
    }

    pub(super) fn stream_opened(&mut self, id: SubstreamId, name: &StreamName) {
        let opening = Target::Opening(id);
        match self.streams.get_mut(name) {
            Some(stream) if stream.sender.target == opening => self.bind_sender(name, id),
            _ => self.substreams.finish(id, &mut self.out),
        }
    }

    pub(super) fn stream_not_opened(&mut self, id: SubstreamId, name: &StreamName) {
        let limit = self.config.max_stream_attempts;
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let sender = &mut stream.sender;
        if sender.target != Target::Opening(id) {
            return;
        }
        sender.target = Target::None;
        sender.failures = sender.failures.saturating_add(1);
        if stream.peers.is_empty() && sender.failures >= limit {
            self.refused(name);
        } else {
            self.schedule_retry(name);
        }
    }

    /// A substream of the peer under this name may carry our direction too.
    pub(super) fn offer_target(&mut self, name: &StreamName) {
        if let Some(stream) = self.streams.get_mut(name) {
            stream.sender.retry_at = None;
        }
        self.find_target(name);
    }

    /// What went out on a substream has arrived, and its end: what has come since goes out on
    /// another.
    pub(super) fn stream_delivered(&mut self, id: SubstreamId, name: &StreamName) {
        if let Some(stream) = self.streams.get_mut(name) {
            stream.sender.delivered(id);
        }
        self.find_target(name);
    }

    /// This side's half of the substream that a stream goes out on broke.
    pub(super) fn stream_write_broken(&mut self, id: SubstreamId, name: &StreamName) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        if !stream.sender.is_bound_to(id) {
            return;
        }
        let substreams = &self.substreams;
        let is_live = |other: &SubstreamId| {
            *other != id && substreams.get(*other).is_some_and(Substream::is_writable)
        };
        let was_chosen_by_peer = stream.peers.iter().any(is_live);
        let in_doubt = match was_chosen_by_peer {
            true => stream.sender.repeat_retained(),
            false => stream.sender.break_off(),
        };
        let in_doubt = if self.config.has(Bug::NoDoubt) { 0 } else { in_doubt };
        if in_doubt > 0 {
            self.ending.in_doubt = self.ending.in_doubt.saturating_add(in_doubt);
            self.out.tell(Event::StreamInterrupted { stream: name.clone(), in_doubt });
        }
        if was_chosen_by_peer {
            self.offer_target(name);
        } else {
            self.schedule_retry(name);
        }
    }

    pub(super) fn retry_streams(&mut self) {
        let is_due = |stream: &Stream| stream.sender.retry_at.is_some_and(|at| at <= self.now);
        let due: Vec<StreamName> = self
            .streams
            .iter()
            .filter(|(_, stream)| is_due(stream))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            self.offer_target(&name);
        }
    }

    pub(super) fn settle_streams(&mut self) {
        let now = self.now;
        let is_due = |stream: &Stream| stream.sender.settle_at.is_some_and(|at| at <= now);
        let due: Vec<StreamName> = self
            .streams
            .iter()
            .filter(|(_, stream)| is_due(stream))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            if let Some(stream) = self.streams.get_mut(&name) {
                stream.sender.forget_retained();
            }
        }
    }

    pub(super) fn write_stream(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        out: &mut BytesMut,
        budget: usize,
        source: &mut dyn MessageSource,
    ) {
        let (Some(profile), Some(records)) = (self.profile, self.records.as_mut()) else {
            return;
        };
        let retains = profile == Profile::V1Go && !self.state.is_draining();
        let is_own =
            self.substreams.get(id).is_some_and(|substream| substream.opener == Opener::Local);
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let sender = &mut stream.sender;
        if !sender.is_bound_to(id) {
            return;
        }
        let full = out.len().saturating_add(budget);
        let Some(nonces) = sender.nonces.take() else {
            return;
        };
        let settle_at = (retains && is_own).then(|| self.now + self.config.settle_time);
        let config = &self.config;
        let mut sealer = Sealer { framing: profile.framing(), records, nonces, config, settle_at };
        sender.write_repeats(out, full);
        sender.write_queue(&mut sealer, out, full);
        sender.write_lent(&mut sealer, out, full, name, source);
        sender.nonces = Some(sealer.nonces);
        if sender.queue.reopened() && !self.config.has(Bug::NeverWritable) {
            self.out.tell(Event::Writable { stream: name.clone() });
        }
    }

    /// Lets a stream go out on a substream; its nonces come from a generator of that substream.
    fn bind_sender(&mut self, name: &StreamName, id: SubstreamId) {
        let seed = match self.config.breaks(Fault::C11) {
            true => self.seed.child(b"fault", process_counter()),
            false if self.config.has(Bug::NonceAgain) => self.seed.child(b"substream", 0),
            false => self.seed.child(b"substream", id.as_u64()),
        };
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        stream.sender.failures = 0;
        stream.sender.target = Target::Bound(id);
        stream.sender.nonces = Some(seed.generator());
        self.substreams.want_write(id, &mut self.out);
        if self.state.is_draining() {
            self.substreams.finish(id, &mut self.out);
        }
    }

    fn schedule_retry(&mut self, name: &StreamName) {
        let (now, config) = (self.now, &self.config);
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let sender = &mut stream.sender;
        if sender.is_empty() {
            return;
        }
        let doublings = sender.failures.saturating_sub(1).min(16);
        let delay = config.retry_delay.saturating_mul(1 << doublings);
        sender.retry_at = Some(now + delay.min(config.negotiation_timeout));
    }

    /// The peer does not want the stream: its messages are given back.
    fn refused(&mut self, name: &StreamName) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let sender = &mut stream.sender;
        sender.failures = 0;
        // The lent queue is its owner's to give up, at this event.
        sender.has_lent = false;
        let reopened = sender.queue.is_full();
        sender.unsent = sender.queue.drain().collect();
        let unsent = sender.unsent.len();
        self.out.tell(Event::StreamRefused { stream: name.clone(), unsent });
        if reopened {
            self.out.tell(Event::Writable { stream: name.clone() });
        }
        self.drained();
    }

    /// Ends this side's half of every substream that carries a stream.
    pub(super) fn finish_streams(&mut self) {
        let names: Vec<StreamName> = self.streams.names().cloned().collect();
        for name in names {
            let bound = self.streams.get(&name).and_then(|stream| stream.sender.bound());
            match bound {
                Some(id) => self.substreams.finish(id, &mut self.out),
                None => self.find_target(&name),
            }
        }
    }
}
