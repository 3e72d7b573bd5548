//! What v2 knows of one direction of a stream, from this side to the peer: numbers, instances, and
//! what may have to be sent again (WIRE.md §8.5 to §8.7).

use alloc::collections::VecDeque;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;

use super::kept::{Kept, bytes_of};
use crate::config::Config;
use crate::send_queue::{MESSAGE_OVERHEAD, SendQueue};
use crate::session::batch::{Batch, WriteTo};
use crate::session::lent::LentKeys;
use crate::time::Instant;
use crate::v2::control::Received;
use crate::v2::instance::{InstanceWriter, Last, Open};
use crate::v2::reader::MAX_LENGTH;
use crate::v2::record::{Cipher, Writer};
use crate::v2::schedule::StreamRoot;

/// The numbers of the messages that were written, and the keys of the instances to come.
pub(in crate::session) struct Outgoing {
    root: StreamRoot,
    cipher: Cipher,
    session: [u8; 8],
    instance: u64,
    last: Last,
    /// The number of the next message.
    next: u64,
    /// How many numbers were given to messages: more than `next` while some are to be sent again.
    given: u64,
    /// The last of what was written on the current instance.
    kept: Kept,
    /// When the old among `kept` are forgotten.
    settle_at: Option<Instant>,
    settle_time: Duration,
    /// What is sent again, ahead of everything else. The stream's queue counts it.
    repeats: VecDeque<Bytes>,
    /// An instance that was written to its end broke, which happens when the session ends.
    has_broken_at_end: bool,
    /// The first message of an instance that the peer's transport has to its end, and of which the peer
    /// has not said that it has read it.
    unread_from: Option<u64>,
}

/// Without what messages hold.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("instance", &self.instance)
            .field("next", &self.next)
            .field("given", &self.given)
            .field("kept", &self.kept)
            .field("settle_at", &self.settle_at)
            .field("repeats", &self.repeats.len())
            .finish_non_exhaustive()
    }
}

/// What became of an instance that broke.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::session) struct Broken {
    /// Messages that the peer may have or not, and that are not sent again.
    pub(in crate::session) in_doubt: u64,
    /// Its number, if that is used up.
    pub(in crate::session) instance: Option<u32>,
}

impl Outgoing {
    pub(in crate::session) fn new(
        root: StreamRoot,
        cipher: Cipher,
        session: [u8; 8],
        settle_time: Duration,
    ) -> Self {
        Self {
            root,
            cipher,
            session,
            instance: 0,
            last: Last::None,
            next: 0,
            given: 0,
            kept: Kept::default(),
            settle_at: None,
            settle_time,
            repeats: VecDeque::new(),
            has_broken_at_end: false,
            unread_from: None,
        }
    }

    /// Returns how many numbers were given to messages.
    pub(in crate::session) const fn sent(&self) -> u64 {
        self.given
    }

    /// Begins the next instance, unless there were too many.
    pub(in crate::session) fn begin(&mut self) -> Option<InstanceWriter> {
        let instance = u32::try_from(self.instance).ok()?;
        self.instance += 1;
        let open = Open { instance, first: self.next, last: self.last };
        let secret = self.root.next_instance();
        // Unless something else becomes known.
        self.last = Last::Broken;
        Some(InstanceWriter::new(self.cipher.clone(), &secret, self.session, open))
    }

    /// The peer's transport has all of the instance. What it holds may still be lost: a peer that is
    /// ending the session reads no more of it, and only its word shows what it has.
    pub(in crate::session) fn settled(&mut self, writer: Option<&InstanceWriter>) {
        self.last = Last::Closed;
        self.forget();
        self.unread_from = self.unread_from.or_else(|| writer.map(InstanceWriter::first));
    }

    /// The peer has read all of the instance.
    pub(in crate::session) const fn read(&mut self) {
        self.unread_from = None;
    }

    /// The instance broke: the last of what was written on it is sent again, with the same numbers.
    ///
    /// But one that was written to its end is repeated once only. A transport that does not show what
    /// has arrived reports it as broken too if the peer leaves, and the peer's CLOSE is about to say
    /// what it has.
    pub(in crate::session) fn broken(
        &mut self,
        writer: &InstanceWriter,
        queue: &mut SendQueue,
    ) -> Broken {
        self.last = Last::Broken;
        if writer.is_closed() && core::mem::replace(&mut self.has_broken_at_end, true) {
            self.forget();
        }
        let (messages, bytes) = (self.kept.len(), self.kept.bytes());
        let mut repeats = core::mem::take(&mut self.kept).into_messages();
        self.forget();
        repeats.append(&mut self.repeats);
        self.repeats = repeats;
        queue.hold(messages, bytes);
        self.next -= u64::try_from(messages).unwrap_or(u64::MAX);
        Broken {
            in_doubt: self.next.saturating_sub(writer.first()),
            instance: Some(writer.instance()),
        }
    }

    /// What was to be sent again is not: its numbers are used up. Returns how many messages that are.
    pub(in crate::session) fn give_up(&mut self, queue: &mut SendQueue) -> u64 {
        let repeats = core::mem::take(&mut self.repeats);
        queue.release(repeats.len(), repeats.iter().map(Bytes::len).sum());
        let count = u64::try_from(repeats.len()).unwrap_or(u64::MAX);
        self.next += count;
        count
    }

    /// Returns how many messages the peer may have or not, with the instance that is written.
    pub(in crate::session) fn in_doubt(&self, writer: Option<&InstanceWriter>) -> u64 {
        let first = writer.map_or(self.next, InstanceWriter::first);
        self.given.saturating_sub(self.unread_from.map_or(first, |unread| unread.min(first)))
    }

    /// Returns how many messages the peer doesn't have, by what it says.
    pub(in crate::session) const fn missing(&self, received: Received) -> u64 {
        self.given.saturating_sub(received.next).saturating_add(received.lost)
    }

    pub(in crate::session) const fn settle_at(&self) -> Option<Instant> {
        self.settle_at
    }

    /// Forgets what was written long ago.
    pub(in crate::session) fn forget_old(&mut self, now: Instant) {
        if self.settle_at.is_none_or(|at| at > now) {
            return;
        }
        self.kept.forget_old(|at| at + self.settle_time <= now);
        self.settle_at = (!self.kept.is_empty()).then(|| now + self.settle_time);
        if self.kept.is_empty() {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.kept = Kept::default();
        self.settle_at = None;
    }

    // ---- bytes --------------------------------------------------------------------------------

    /// Writes until `to` is full: what is sent again, then the queue, then the lent one. Returns
    /// whether the latter may have more.
    pub(in crate::session) fn write(
        &mut self,
        writer: &mut InstanceWriter,
        batch: &mut Batch<'_>,
        has_lent: bool,
        lent: &LentKeys<'_>,
        to: &mut WriteTo<'_>,
    ) -> bool {
        let (now, config) = (lent.now, &*lent.params.config);
        let room = to.full.saturating_sub(to.out.len());
        let mut records = writer.write(to.out, now);
        let queued = batch.queue.bytes() + batch.queue.len() * MESSAGE_OVERHEAD;
        if queued > 0 {
            records.reserve(queued.min(room));
        }
        while records.len() < to.full
            && let Some(message) = self.repeats.pop_front()
        {
            batch.queue.release(1, message.len());
            self.write_message(message, &mut records, now, config);
        }
        while records.len() < to.full
            && let Some(message) = batch.queue.pop()
        {
            self.write_message(message, &mut records, now, config);
        }
        let mut has_more = has_lent;
        while has_more && records.len() < to.full {
            // Taken in batches, so that the lock of the queue's owner is taken once for many.
            has_more = to.source.take(batch.name, to.full - records.len(), batch.messages);
            let (count, bytes) = (batch.messages.len(), bytes_of(&*batch.messages));
            records.reserve(bytes + count * MAX_LENGTH);
            for message in &*batch.messages {
                records.put_message(message);
            }
            self.written(count);
            self.kept.append(batch.messages, bytes, now);
            self.limit_kept(now, config);
        }
        records.finish();
        has_more
    }

    fn write_message(
        &mut self,
        message: Bytes,
        records: &mut Writer<'_>,
        now: Instant,
        config: &Config,
    ) {
        records.put_message(&message);
        self.written(1);
        self.kept.push(message, now);
        self.limit_kept(now, config);
    }

    /// Gives numbers to messages.
    fn written(&mut self, messages: usize) {
        self.next += u64::try_from(messages).unwrap_or(u64::MAX);
        self.given = self.given.max(self.next);
    }

    /// Keeps the last of what was written for a while, in case the substream breaks.
    fn limit_kept(&mut self, now: Instant, config: &Config) {
        let limit = config.high_watermark_bytes.max(config.max_message_size);
        self.kept.limit(config.high_watermark, limit);
        if !self.kept.is_empty() {
            self.settle_at.get_or_insert(now + self.settle_time);
        }
    }
}
