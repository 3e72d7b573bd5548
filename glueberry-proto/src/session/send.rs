//! The send half of a named stream: a queue with watermarks, sealed when the transport can take
//! bytes.

use alloc::collections::VecDeque;
use core::fmt;

use bytes::Bytes;

use super::batch::{Batch, WriteTo};
use super::lent::LentKeys;
use super::sealer::Sealer;
use super::v1_go::Retention;
use super::v2::outgoing::{Broken, Outgoing};
use crate::config::Config;
use crate::error::SendError;
use crate::id::SubstreamId;
use crate::prelude::*;
use crate::seed::Generator;
use crate::send_queue::{SendLimits, SendQueue};
use crate::time::Instant;
use crate::v2::instance::InstanceWriter;
use crate::wire::{Profile, StreamName};

/// One direction of a stream: from this side to the peer.
///
/// At most one substream at a time carries it.
pub(super) struct Sender {
    /// What was given to `send`. It counts too what `retention` has go out again.
    queue: SendQueue,
    /// The lent queue may have more, which goes out behind `queue`.
    has_lent: bool,
    /// Room for what is taken from the lent queue; empty between writes.
    batch: VecDeque<Bytes>,
    target: Target,
    retention: Option<Box<Retention>>,
    /// What v2 knows of the direction, from Established on.
    pub(super) outgoing: Option<Box<Outgoing>>,
    /// Times in a row that no substream could be opened, or that one of v2 did not last.
    failures: u32,
    /// When another substream is tried.
    retry_at: Option<Instant>,
    /// Given back to the application.
    unsent: Vec<Bytes>,
}

/// Without what messages hold.
impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("queue", &self.queue)
            .field("has_lent", &self.has_lent)
            .field("target", &self.target)
            .field("retention", &self.retention)
            .field("outgoing", &self.outgoing)
            .field("failures", &self.failures)
            .field("retry_at", &self.retry_at)
            .field("unsent", &self.unsent.len())
            .finish_non_exhaustive()
    }
}

/// The substream that carries a stream from this side.
#[derive(Debug)]
enum Target {
    None,
    Opening(SubstreamId),
    Bound { id: SubstreamId, carrier: Carrier },
}

/// What a substream is written with. Boxed, because most streams are idle most of the time.
#[derive(Debug)]
pub(super) enum Carrier {
    V1 {
        nonces: Generator,
        /// Messages written to it.
        written: u64,
        /// No more is written to it: it ends, and what is queued goes out on another.
        is_cut: bool,
    },
    /// Nothing is written before there is a message.
    V2(Option<Box<InstanceWriter>>),
}

impl Sender {
    pub(super) fn new(profile: Profile, limits: SendLimits) -> Self {
        Self {
            queue: SendQueue::new(limits),
            has_lent: false,
            batch: VecDeque::new(),
            target: Target::None,
            retention: profile.retention(),
            outgoing: None,
            failures: 0,
            retry_at: None,
            unsent: Vec::new(),
        }
    }

    // ---- messages -----------------------------------------------------------------------------

    pub(super) fn push(&mut self, message: Bytes) -> Result<(), SendError> {
        if self.holds_too_much() {
            self.queue.accepts(message.len())?;
            return Err(SendError::Backpressure);
        }
        self.queue.push(message)
    }

    /// True if what was given back, and was not taken yet, would fill the queue: what an application
    /// leaves here is neither forgotten nor without a limit.
    fn holds_too_much(&self) -> bool {
        let bytes = self.unsent.iter().map(Bytes::len).sum();
        !self.unsent.is_empty() && self.queue.limits().are_reached(self.unsent.len(), bytes)
    }

    /// Takes note that the lent queue has something.
    pub(super) const fn note_lent(&mut self) {
        self.has_lent = true;
    }

    /// Returns how many messages, and bytes of them, wait here.
    pub(super) fn queued(&self) -> (usize, usize) {
        (self.queue.len(), self.queue.bytes())
    }

    /// Lets a full queue that has drained accept again; returns whether it did so.
    pub(super) fn reopened(&mut self) -> bool {
        self.queue.reopened()
    }

    /// True if there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.has_lent
    }

    /// Returns what was given back, and whether messages were refused until it was taken.
    pub(super) fn take_unsent(&mut self) -> (Vec<Bytes>, bool) {
        let has_refused = self.holds_too_much();
        (core::mem::take(&mut self.unsent), has_refused)
    }

    // ---- the substream that carries them ------------------------------------------------------

    /// Returns the substream that carries this direction.
    pub(super) const fn bound(&self) -> Option<SubstreamId> {
        match self.target {
            Target::Bound { id, .. } => Some(id),
            Target::None | Target::Opening(_) => None,
        }
    }

    pub(super) fn is_bound_to(&self, id: SubstreamId) -> bool {
        self.bound() == Some(id)
    }

    pub(super) fn is_opening(&self, id: SubstreamId) -> bool {
        matches!(self.target, Target::Opening(opening) if opening == id)
    }

    /// True if a substream is to be found now.
    pub(super) fn needs_target(&self) -> bool {
        matches!(self.target, Target::None) && self.retry_at.is_none() && !self.is_empty()
    }

    /// True if a substream of the peer is expected, and only that will do.
    pub(super) fn waits_for_peer(&self) -> bool {
        self.retention.as_ref().is_some_and(|retention| retention.waits_for_peer())
    }

    /// True if all that was written on the substream is kept, and can go out again.
    pub(super) fn may_repeat(&self, id: SubstreamId) -> bool {
        match (&self.target, &self.retention) {
            (
                Target::Bound { id: bound, carrier: Carrier::V1 { written, .. } },
                Some(retention),
            ) => *bound == id && retention.holds_all(*written),
            _ => false,
        }
    }

    /// True if nothing is left to do for an orderly end.
    pub(super) fn is_drained(&self) -> bool {
        self.is_empty() && self.bound().is_none()
    }

    pub(super) fn open(&mut self, id: SubstreamId) {
        self.target = Target::Opening(id);
    }

    /// Goes out on a substream from now on.
    pub(super) fn bind(&mut self, id: SubstreamId, carrier: Carrier) {
        if matches!(carrier, Carrier::V1 { .. }) {
            self.failures = 0;
        }
        if let Some(retention) = &mut self.retention {
            retention.stop_waiting();
        }
        self.target = Target::Bound { id, carrier };
    }

    /// The peer will read nothing beyond what was written on a substream: the rest waits for another.
    pub(super) fn cut(&mut self, substream: SubstreamId) {
        // What is to be repeated to a Go node goes out on the substream that it has asked for.
        if self.retention.is_none()
            && let Target::Bound { id, carrier: Carrier::V1 { is_cut, .. } } = &mut self.target
            && *id == substream
        {
            *is_cut = true;
        }
    }

    /// Takes note that a substream could not be opened; returns how often in a row that was.
    pub(super) fn not_opened(&mut self) -> u32 {
        self.target = Target::None;
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// The peer's transport has all that was written, and the end of the substream.
    pub(super) fn delivered(&mut self, id: SubstreamId) {
        if !self.is_bound_to(id) {
            return;
        }
        let target = core::mem::replace(&mut self.target, Target::None);
        if let Some(outgoing) = &mut self.outgoing {
            self.failures = 0;
            let writer = match &target {
                Target::Bound { carrier: Carrier::V2(writer), .. } => writer.as_deref(),
                _ => None,
            };
            outgoing.settled(writer);
        }
        if let Some(retention) = &mut self.retention {
            retention.forget();
        }
    }

    /// The peer has read all of an instance that it has.
    pub(super) const fn read(&mut self) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.read();
        }
    }

    /// An instance broke. Returns what is not sent again of it, and its number if that is used up.
    pub(super) fn break_instance(&mut self) -> Broken {
        self.failures = self.failures.saturating_add(1);
        let writer = match core::mem::replace(&mut self.target, Target::None) {
            Target::Bound { carrier: Carrier::V2(writer), .. } => writer,
            _ => None,
        };
        match (writer, &mut self.outgoing) {
            (Some(writer), Some(outgoing)) => outgoing.broken(&writer, &mut self.queue),
            _ => Broken::default(),
        }
    }

    /// The substream broke, and the peer has read nothing of it: what was written on it goes out
    /// again on another: with `until`, on one of the peer that shows by then.
    /// [`Self::may_repeat`] must hold.
    pub(super) fn repeat(&mut self, until: Option<Instant>) {
        self.target = Target::None;
        if let Some(retention) = &mut self.retention {
            retention.repeat(until, &mut self.queue);
        }
    }

    /// The substream broke: returns how many of the messages that were written are in doubt.
    pub(super) fn break_off(&mut self) -> u64 {
        let written = match core::mem::replace(&mut self.target, Target::None) {
            Target::Bound { carrier: Carrier::V1 { written, .. }, .. } => written,
            Target::Bound { carrier: Carrier::V2(writer), .. } => {
                self.outgoing.as_ref().map_or(0, |outgoing| outgoing.in_doubt(writer.as_deref()))
            }
            Target::None | Target::Opening(_) => {
                self.outgoing.as_ref().map_or(0, |outgoing| outgoing.in_doubt(None))
            }
        };
        written.saturating_add(self.give_up_repeats())
    }

    /// Forgets what was written and what was to go out again; returns how many messages that were
    /// to go out again are in doubt.
    fn give_up_repeats(&mut self) -> u64 {
        self.retention.as_mut().map_or(0, |retention| {
            retention.forget();
            retention.give_up(&mut self.queue)
        })
    }

    /// The time in which a Go node decides, or a substream of v2 breaks, is over: forgets what was kept
    /// for that. Returns how
    /// many messages are in doubt, because they waited for a substream of the peer.
    pub(super) fn settle(&mut self, now: Instant) -> u64 {
        if let Some(outgoing) = &mut self.outgoing {
            // The substream has lasted since it was written.
            self.failures = 0;
            outgoing.forget_old(now);
            return 0;
        }
        match self.waits_for_peer() {
            true => self.give_up_repeats(),
            false => {
                self.forget_retained();
                0
            }
        }
    }

    /// The peer does not want the stream: its messages are given back. Returns how many, whether the
    /// queue was full and accepts again, and how many messages are in doubt, because they were to be
    /// sent again.
    pub(super) fn give_back(&mut self) -> (usize, bool, u64) {
        self.failures = 0;
        // The lent queue is its owner's to empty, when it learns of the refusal.
        self.has_lent = false;
        let was_full = self.queue.is_full();
        let outgoing = self.outgoing.as_mut();
        let in_doubt = outgoing.map_or(0, |outgoing| outgoing.give_up(&mut self.queue));
        let in_doubt = in_doubt.saturating_add(self.give_up_repeats());
        let before = self.unsent.len();
        self.unsent.extend(self.queue.drain());
        (self.unsent.len() - before, was_full && !self.holds_too_much(), in_doubt)
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

    // ---- timers -------------------------------------------------------------------------------

    pub(super) const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Tries another substream later: after each failure twice as long, within limits.
    pub(super) fn schedule_retry(&mut self, now: Instant, config: &Config) {
        // Without a message there is no hurry: the next one tries at once.
        if self.is_empty() {
            return;
        }
        let doublings = self.failures.saturating_sub(1).min(16);
        let delay = config.retry_delay.saturating_mul(1 << doublings);
        self.retry_at = Some(now + delay.min(config.negotiation_timeout));
    }

    pub(super) const fn stop_waiting(&mut self) {
        self.retry_at = None;
    }

    pub(super) fn settle_at(&self) -> Option<Instant> {
        let retention = self.retention.as_ref().and_then(|retention| retention.settle_at());
        retention.or_else(|| self.outgoing.as_ref().and_then(|outgoing| outgoing.settle_at()))
    }

    /// The peer answers on the substream: it does not reset it any more.
    pub(super) fn forget_retained(&mut self) {
        if let Some(retention) = &mut self.retention {
            retention.forget();
        }
    }

    // ---- bytes --------------------------------------------------------------------------------

    /// Writes until `to` is full: what goes out again first, then its own queue, then the lent one.
    /// Returns whether the queue accepts again.
    pub(super) fn write(
        &mut self,
        name: &StreamName,
        lent: &mut LentKeys<'_>,
        to: &mut WriteTo<'_>,
    ) -> bool {
        let Target::Bound { carrier, .. } = &mut self.target else {
            debug_assert!(false, "only a bound substream is written");
            return false;
        };
        let (nonces, written) = match carrier {
            Carrier::V1 { is_cut: true, .. } => return false,
            Carrier::V1 { nonces, written, .. } => (nonces, written),
            Carrier::V2(_) => {
                self.write_instance(name, lent, to);
                return self.queue.reopened();
            }
        };
        let Some(keys) = &mut lent.keys.v1 else {
            debug_assert!(false, "v1's substreams are bound with v1's keys");
            return false;
        };
        let framing = lent.keys.profile.framing();
        // What is written for the last time is not waited for.
        let keeps = !lent.is_draining;
        let config = &*lent.params.config;
        let settle_at = lent.now + config.settle_time;
        let mut retention = self.retention.as_deref_mut();
        if let Some(retention) = &mut retention {
            while to.out.len() < to.full
                && let Some((frame, len)) = retention.next_repeat(&mut self.queue)
            {
                to.out.extend_from_slice(&frame);
                *written = written.saturating_add(1);
                if keeps {
                    retention.keep(&frame, len, *written, config, settle_at);
                }
            }
        }
        let retention = retention.filter(|_| keeps);
        let batch = &mut self.batch;
        let mut sealer =
            Sealer { keys, framing, nonces, written, retention, config, settle_at, batch };
        sealer.write_queue(&mut self.queue, to);
        self.has_lent = self.has_lent && sealer.write_lent(name, to);
        self.shrink_batch();
        self.queue.reopened()
    }

    /// Writes an instance until `to` is full, and its end behind the last message if the session
    /// drains.
    fn write_instance(&mut self, name: &StreamName, lent: &LentKeys<'_>, to: &mut WriteTo<'_>) {
        let Target::Bound { carrier: Carrier::V2(writer), .. } = &mut self.target else {
            return;
        };
        let Some(outgoing) = &mut self.outgoing else {
            debug_assert!(false, "nothing is bound before Established");
            return;
        };
        let has_any = self.has_lent || !self.queue.is_empty();
        if writer.is_none() && has_any {
            *writer = outgoing.begin().map(Box::new);
        }
        // Without a message there is nothing to begin, nor to end.
        let Some(writer) = writer.as_deref_mut().filter(|writer| !writer.is_closed()) else {
            return;
        };
        if has_any {
            let mut batch = Batch { queue: &mut self.queue, messages: &mut self.batch, name };
            let has_more = outgoing.write(writer, &mut batch, self.has_lent, lent, to);
            self.has_lent = self.has_lent && has_more;
            self.shrink_batch();
        }
        if lent.is_draining && self.queue.is_empty() && !self.has_lent {
            let Target::Bound { carrier: Carrier::V2(Some(writer)), .. } = &mut self.target else {
                return;
            };
            writer.close(to.out, lent.now);
        }
    }

    fn shrink_batch(&mut self) {
        if self.batch.capacity() > IDLE_CAPACITY {
            self.batch = VecDeque::new();
        }
    }
}

/// Messages that the room for a batch keeps between writes.
const IDLE_CAPACITY: usize = 64;
