//! When a session is to be called, and what is due then.

use super::Session;
use super::action::{OpenError, ResetCode};
use super::substreams::Opener;
use super::timers::{Due, Timer};
use crate::error::CloseReason;
use crate::time::Instant;

impl Session {
    /// Returns when to call [`handle_timeout`](Self::handle_timeout): strictly later than the
    /// latest `now`, or never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_due().map(|(at, _)| at)
    }

    /// Returns the timer that [`poll_timeout`](Self::poll_timeout) is about, with its time.
    pub fn next_timer(&self) -> Option<(Instant, Timer)> {
        self.next_due().map(|(at, due)| (at, due.into()))
    }

    fn next_due(&self) -> Option<(Instant, Due<'_>)> {
        if self.state.is_closed() {
            return None;
        }
        if let Some(at) = self.state.drain_deadline()
            && self.state.is_closing()
        {
            return Some((at, Due::Drain));
        }
        // One after the other, the first of several that are due at once: every input comes by here,
        // and an iterator over all costs several times as much.
        let mut next = self.substreams.next_deadline();
        self.streams.each_deadline(|at, due| sooner(&mut next, Some(at), due));
        sooner(&mut next, self.handshake.lost_at(), Due::HandshakeLost);
        sooner(&mut next, self.state.drain_deadline(), Due::Drain);
        sooner(&mut next, self.handshake.control_at(), Due::Control);
        next
    }

    /// Does what is due. Early and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now <= self.now {
            // Whatever waits, waits for a later time (rule C8).
            return;
        }
        self.now = now;
        // Every input comes by here, and most find nothing due.
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        if self.state.is_closing() {
            return self.close_now();
        }
        self.note_blamed();
        for id in self.substreams.overdue(now) {
            // A substream of the peer did not name its protocol, or one that was refused did not
            // end; the others are ours, and were not agreed.
            let is_peers = self.substreams.get(id).is_some_and(|it| it.opener == Opener::Peer);
            match is_peers {
                true => self.substreams.reset(id, ResetCode::Refused, &mut self.out),
                false => self.open_failed(id, OpenError::Failed),
            }
        }
        let (_, streams, mut lent) = self.parts();
        streams.retry_due(&mut lent);
        streams.settle_due(&mut lent);
        streams.instances_due(&mut lent);
        self.control_due();
        if self.handshake.lost_at().is_some_and(|at| at <= now) {
            self.finish_close(CloseReason::HandshakeLost);
        }
        if self.state.drain_deadline().is_some_and(|at| at <= now) && !self.state.is_ending() {
            self.finish_draining();
        }
    }
}

fn sooner<'a>(next: &mut Option<(Instant, Due<'a>)>, at: Option<Instant>, due: Due<'a>) {
    if let Some(at) = at
        && next.is_none_or(|(soonest, _)| at < soonest)
    {
        *next = Some((at, due));
    }
}
