//! How a session ends: at once, or after what was queued has been sent.

use super::Session;
use super::action::Action;
use super::event::{Closed, Event};
use crate::bug::Bug;
use crate::error::{CloseReason, ConnectionLost, PeerMisbehaved};
use crate::fault::Fault;
use crate::message::FromSession;

impl Session {
    /// Ends the session; with `drain`, after what was queued has been sent.
    pub(super) fn begin_close(&mut self, reason: CloseReason, drain: bool) {
        // The first reason counts, and its time runs.
        if self.state.is_draining() && drain {
            return;
        }
        // Only named streams are drained: what is left of a handshake helps no application.
        if !(drain && self.state.is_established()) {
            return self.finish_close(reason);
        }
        let deadline = self.now + self.params.config.drain_timeout;
        self.state.move_to_draining(reason, deadline);
        let (_, streams, mut lent) = self.parts();
        streams.finish(&mut lent);
        self.finish_if_drained();
    }

    pub(super) fn connection_lost(&mut self, why: ConnectionLost) {
        if self.params.config.has(Bug::DeafToLoss) {
            return;
        }
        if self.state.is_draining() {
            // It was to end anyway: the loss is not the reason.
            self.finish_draining();
        } else if !self.state.is_closed() {
            self.finish_close(CloseReason::ConnectionLost(why));
        }
    }

    /// Ends the session because the peer breaks the protocol.
    pub(super) fn misbehaved(&mut self, how: PeerMisbehaved) {
        assert!(!self.params.config.breaks(Fault::C1), "{how}");
        self.finish_close(CloseReason::Misbehaved(how));
    }

    /// Ends a draining session that has nothing left to send.
    pub(super) fn finish_if_drained(&mut self) {
        let is_drained =
            self.state.is_draining() && !self.handshake.has_pending() && self.streams.are_drained();
        if is_drained {
            self.finish_draining();
        }
    }

    /// Ends a draining session now.
    pub(super) fn finish_draining(&mut self) {
        let reason = self.state.drain_reason().cloned();
        debug_assert!(reason.is_some(), "only a session that drains finishes draining");
        self.finish_close(reason.unwrap_or(CloseReason::Disconnected));
    }

    /// Ends the session now. Does nothing if it is over: the first reason is the one that counts.
    pub(super) fn finish_close(&mut self, reason: CloseReason) {
        if self.state.is_closed() {
            return;
        }
        self.state.move_to_closed();
        let (mut unsent, mut in_doubt) = self.streams.end();
        unsent += self.handshake.queue.waiting();
        if self.params.config.has(Bug::ForgetsUnsent) {
            unsent = 0;
            self.streams.forget_unsent();
        }
        if self.params.config.has(Bug::NoDoubt) {
            in_doubt = 0;
        }
        self.substreams.clear();
        let code = close_code(&reason);
        let closed = Closed { reason: reason.clone(), unsent, in_doubt };
        if self.params.config.breaks(Fault::C2) {
            self.out.emit(Event::Closed(closed.clone()));
        }
        let is_lost = matches!(reason, CloseReason::ConnectionLost(_));
        if !(self.params.config.has(Bug::EndUnsaid) && is_lost) {
            self.out.emit(Event::Closed(closed));
        }
        self.out.forward(FromSession::Closed(reason));
        self.out.push_action(Action::CloseConnection { code });
    }
}

/// Returns the number that the peer may see. It shows what the peer did, not what we know.
const fn close_code(reason: &CloseReason) -> u64 {
    match reason {
        CloseReason::Disconnected | CloseReason::ConnectionLost(_) | CloseReason::Pruned => 0,
        CloseReason::Rejected(_) | CloseReason::Blacklisted => 1,
        CloseReason::HandshakeTimeout | CloseReason::HandshakeLost => 2,
        CloseReason::Superseded => 3,
        CloseReason::NoCommonProtocol => 4,
        CloseReason::Misbehaved(_) => 5,
        CloseReason::Internal(_) => 6,
    }
}
