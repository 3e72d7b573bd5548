//! Turns messages into the frames of v1.

use alloc::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::batch::WriteTo;
use super::records::V1Records;
use super::state::V1Keys;
use super::v1_go::Retention;
use crate::config::Config;
use crate::seed::Generator;
use crate::send_queue::{MESSAGE_OVERHEAD, SendQueue};
use crate::time::Instant;
use crate::wire::{Framing, StreamName};

/// Turns messages into the frames of one substream.
pub(super) struct Sealer<'a> {
    pub(super) keys: &'a mut V1Keys,
    pub(super) framing: Framing,
    pub(super) nonces: &'a mut Generator,
    pub(super) written: &'a mut u64,
    /// What keeps a copy, if any is kept.
    pub(super) retention: Option<&'a mut Retention>,
    pub(super) config: &'a Config,
    pub(super) settle_at: Instant,
    /// Room for what is taken from the lent queue; empty between writes.
    pub(super) batch: &'a mut VecDeque<Bytes>,
}

impl Sealer<'_> {
    pub(super) fn write_queue(&mut self, queue: &mut SendQueue, to: &mut WriteTo<'_>) {
        let needed = queue.bytes() + queue.len() * MESSAGE_OVERHEAD;
        to.out.reserve(needed.min(to.full.saturating_sub(to.out.len())));
        while to.out.len() < to.full
            && let Some(message) = queue.pop()
        {
            self.write_message(&message, to.out);
        }
    }

    /// Writes from the lent queue. Returns whether it may have more.
    ///
    /// Messages are taken in batches, so that the lock of the queue's owner is taken once for many.
    /// All that is taken is written, though that may be a few bytes more than asked for.
    pub(super) fn write_lent(&mut self, name: &StreamName, to: &mut WriteTo<'_>) -> bool {
        while to.out.len() < to.full {
            let batch = &mut *self.batch;
            let has_more = to.source.take(name, to.full - to.out.len(), batch);
            let needed = batch.iter().map(|message| message.len() + MESSAGE_OVERHEAD).sum();
            to.out.reserve(needed);
            while let Some(message) = self.batch.pop_front() {
                debug_assert!(message.len() <= self.config.max_message_size);
                self.write_message(&message, to.out);
            }
            if !has_more {
                return false;
            }
        }
        true
    }

    fn write_message(&mut self, message: &Bytes, out: &mut BytesMut) {
        let start = out.len();
        self.seal(message, out);
        if let Some(retention) = &mut self.retention {
            let frame = &out[start..];
            retention.keep(frame, message.len(), *self.written, self.config, self.settle_at);
        }
    }

    fn seal(&mut self, message: &[u8], out: &mut BytesMut) {
        let (framing, records) = (self.framing, &mut self.keys.records);
        let len = V1Records::record_len(message.len());
        out.reserve(framing.header_len(len) + len);
        framing.emit_header(len, out);
        records.seal(self.nonces, message, out);
        *self.written = self.written.saturating_add(1);
    }
}
