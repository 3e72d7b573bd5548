//! The timers of a session, each with a name.

use super::Session;
use crate::error::CloseReason;
use crate::fault::Fault;
use crate::id::SubstreamId;
use crate::time::Instant;
use crate::wire::StreamName;

/// What a session waits for. The name is for traces and debugging; nothing follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timer {
    /// A substream must be agreed by then, or is given up.
    Negotiation(SubstreamId),
    /// Another substream is tried for a stream then.
    Retry(StreamName),
    /// What was written on a stream is no longer kept to go out again.
    Settle(StreamName),
    /// The session ends, unless there is a handshake substream again.
    HandshakeLost,
    /// Draining is given up.
    Drain,
}

impl Session {
    /// Returns the timer that [`poll_timeout`](Self::poll_timeout) is about, with its time.
    pub fn next_timer(&self) -> Option<(Instant, Timer)> {
        if self.state.is_closed() {
            return None;
        }
        let negotiation = self.substreams.deadlines();
        let streams = self.streams.deadlines();
        let lost = self.handshake.lost_at().map(|at| (at, Timer::HandshakeLost));
        let drain = self.state.drain_deadline().map(|at| (at, Timer::Drain));
        let timers = negotiation.chain(streams).chain(lost).chain(drain);
        let next = timers.min_by_key(|(at, _)| *at);
        if self.params.config.breaks(Fault::C8) {
            return next.map(|(_, timer)| (self.now, timer));
        }
        next
    }

    /// Does what is due at the latest time seen.
    pub(super) fn fire_timers(&mut self) {
        for substream in self.substreams.overdue(self.now) {
            self.give_up(substream);
        }
        let (_, streams, mut lent) = self.parts();
        streams.retry_due(&mut lent);
        streams.settle_due(lent.now);
        if self.handshake.lost_at().is_some_and(|at| at <= self.now) {
            self.finish_close(CloseReason::HandshakeLost);
        }
        if self.state.drain_deadline().is_some_and(|at| at <= self.now) {
            self.finish_draining();
        }
    }
}
