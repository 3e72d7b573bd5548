//! What Go's profile needs because of how Go nodes treat two substreams of one name.
//!
//! When both sides open a substream of one name at once, a Go node keeps one of the two and gives up
//! the other, with what is in it unread: ours by a reset, before its own has shown; or its own by
//! its end, though something was written there. So what was written is kept for a while, and goes
//! out again on another substream. A peer of our own kind may have read some of it: it knows a
//! record again by its nonce, because a repeated message is not sealed anew.

use alloc::collections::VecDeque;
use core::fmt;

use bytes::Bytes;

use crate::config::Config;
use crate::crypto::NONCE_LEN;
use crate::id::SubstreamId;
use crate::send_queue::SendQueue;
use crate::time::Instant;

/// What was written on one stream and may have to go out again.
#[derive(Debug, Default)]
pub(super) struct Retention {
    /// All that was written to the current substream, or nothing.
    retained: VecDeque<Written>,
    /// Of the messages in `retained`.
    retained_bytes: usize,
    /// When `retained` is forgotten: a Go node has decided by then.
    settle_at: Option<Instant>,
    /// What goes out again on the next substream, ahead of everything else. The stream's queue
    /// counts it.
    repeats: VecDeque<Written>,
    /// Until when `repeats` waits for a substream of the peer. Only that would show that the peer
    /// has read nothing: a substream may be reset for other reasons too.
    repeats_until: Option<Instant>,
}

/// A message that was written, as it was written.
struct Written {
    /// With its header and sealed.
    frame: Bytes,
    /// Of the message.
    len: usize,
}

/// Without what messages hold.
impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Retention {
    /// Keeps a message that was the `written`th on its substream.
    pub(super) fn keep(
        &mut self,
        frame: &[u8],
        len: usize,
        written: u64,
        config: &Config,
        settle_at: Instant,
    ) {
        let bytes = self.retained_bytes.saturating_add(len);
        let fits = bytes <= config.high_watermark_bytes.max(config.max_message_size)
            && self.retained.len() < config.high_watermark;
        let is_next = self.retained.len().try_into() == Ok(written.saturating_sub(1));
        if fits && is_next {
            self.retained_bytes = bytes;
            self.retained.push_back(Written { frame: Bytes::copy_from_slice(frame), len });
            self.settle_at.get_or_insert(settle_at);
        } else {
            // A gap in what would be repeated is worse than none of it.
            self.forget();
        }
    }

    /// Forgets what was written: the peer has answered on the substream, or has had the time to
    /// reset it.
    pub(super) fn forget(&mut self) {
        self.retained = VecDeque::new();
        self.retained_bytes = 0;
        self.settle_at = None;
    }

    /// Returns when what was written is forgotten, or what was to be repeated is given up.
    pub(super) fn settle_at(&self) -> Option<Instant> {
        self.settle_at.or(self.repeats_until)
    }

    /// True if there is something to go out again, and all that was written on the current
    /// substream is.
    pub(super) fn holds_all(&self, written: u64) -> bool {
        let is_any = !self.retained.is_empty() || !self.repeats.is_empty();
        is_any && self.retained.len().try_into() == Ok(written)
    }

    /// The substream broke: has what was written on it go out again, ahead of what was to follow.
    /// With `until`, it waits so long for a substream of the peer.
    pub(super) fn repeat(&mut self, until: Option<Instant>, queue: &mut SendQueue) {
        let (written, bytes) = (core::mem::take(&mut self.retained), self.retained_bytes);
        self.forget();
        self.repeats_until = until;
        queue.hold(written.len(), bytes);
        let rest = core::mem::replace(&mut self.repeats, written);
        self.repeats.extend(rest);
    }

    /// True if what is to go out again waits for a substream of the peer.
    pub(super) const fn waits_for_peer(&self) -> bool {
        self.repeats_until.is_some()
    }

    /// A substream was found.
    pub(super) const fn stop_waiting(&mut self) {
        self.repeats_until = None;
    }

    /// Forgets what was to go out again; returns how many messages that was.
    pub(super) fn give_up(&mut self, queue: &mut SendQueue) -> u64 {
        self.stop_waiting();
        let given_up = core::mem::take(&mut self.repeats);
        queue.release(given_up.len(), given_up.iter().map(|written| written.len).sum());
        count(&given_up)
    }

    /// Removes and returns the next frame that goes out again, with the length of its message.
    pub(super) fn next_repeat(&mut self, queue: &mut SendQueue) -> Option<(Bytes, usize)> {
        let Written { frame, len } = self.repeats.pop_front()?;
        queue.release(1, len);
        Some((frame, len))
    }
}

fn count(messages: &VecDeque<Written>) -> u64 {
    messages.len().try_into().unwrap_or(u64::MAX)
}

/// Knows the records of one stream again that a peer has sent before.
///
/// A v1-go peer of our kind whose substream breaks early sends all of it again on another one,
/// sealed as before and from the first record on, because a Go node would have read nothing of it.
/// What was read then is not read again.
#[derive(Debug, Default)]
pub(super) struct RepeatFilter {
    last: Option<Sequence>,
}

/// Where a substream that carries the direction is in its sequence of records.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    substream: SubstreamId,
    /// The nonce of the first record: no other sequence begins so.
    first: [u8; NONCE_LEN],
    /// Records that arrived on `substream`.
    position: u64,
    /// The most that arrived on any substream with this sequence.
    read: u64,
}

impl RepeatFilter {
    /// Takes note of the next record on a substream. True if it arrived before on another.
    pub(super) fn is_repeated(&mut self, substream: SubstreamId, record: &[u8]) -> bool {
        // A record without a nonce can't be opened either, and is rejected there.
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
}
