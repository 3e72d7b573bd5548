//! How a session ends: at once, or after what was queued has been sent.

use super::Session;
use super::action::Action;
use super::event::{Closed, Event};
use crate::bug::Bug;
use crate::error::{CloseReason, ConnectionLost};
use crate::fault::Fault;
use crate::message::{FromSession, ToNode};
use crate::time::Instant;

/// What is known of a session's end before it comes.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// When draining is given up.
    pub(super) deadline: Option<Instant>,
    /// What was asked for when draining began.
    reason: Option<CloseReason>,
    /// Messages in doubt on substreams that broke earlier.
    pub(super) in_doubt: u64,
}

impl Session {
    /// Ends the session; with `drain`, after what was queued has been sent.
    pub(super) fn begin_close(&mut self, reason: CloseReason, drain: bool) {
        if self.state.is_draining() && drain {
            return;
        }
        if !(drain && self.state.is_established()) {
            return self.finish_close(reason);
        }
        self.state.move_to_draining();
        self.ending.reason = Some(reason);
        self.ending.deadline = Some(self.now + self.config.drain_timeout);
        self.finish_streams();
        self.drained();
    }

    pub(super) fn connection_lost(&mut self, why: ConnectionLost) {
        if self.config.has(Bug::DeafToLoss) {
            return;
        }
        if self.state.is_draining() {
            self.finish_draining();
        } else if !self.state.is_closed() {
            self.finish_close(CloseReason::ConnectionLost(why));
        }
    }

    /// Ends a draining session that has nothing left to send.
    pub(super) fn drained(&mut self) {
        let is_drained = self.state.is_draining()
            && !self.handshake.has_pending()
            && self.streams.iter().all(|(_, stream)| stream.sender.is_drained());
        if is_drained {
            self.finish_draining();
        }
    }

    /// Ends a draining session now.
    pub(super) fn finish_draining(&mut self) {
        let reason = self.ending.reason.take().unwrap_or(CloseReason::Disconnected);
        self.finish_close(reason);
    }

    /// Ends the session now.
    pub(super) fn finish_close(&mut self, reason: CloseReason) {
        if self.state.is_closed() {
            return;
        }
        self.state.move_to_closed();
        let (mut unsent, mut in_doubt) = (self.handshake_queue_len(), self.ending.in_doubt);
        for stream in self.streams.iter_mut() {
            let (queued, written) = stream.sender.end();
            unsent += queued;
            in_doubt = in_doubt.saturating_add(written);
        }
        if self.config.has(Bug::ForgetsUnsent) {
            unsent = 0;
            self.streams.iter_mut().for_each(|stream| drop(stream.sender.take_unsent()));
        }
        if self.config.has(Bug::NoDoubt) {
            in_doubt = 0;
        }
        self.substreams.clear();
        self.records = None;
        let code = close_code(&reason);
        let closed = Closed { reason: reason.clone(), unsent, in_doubt };
        if self.config.breaks(Fault::C2) {
            self.out.tell(Event::Closed(closed.clone()));
        }
        if !(self.config.has(Bug::EndUnsaid) && matches!(reason, CloseReason::ConnectionLost(_))) {
            self.out.tell(Event::Closed(closed));
        }
        self.out.act(Action::Forward(ToNode(FromSession::Closed(reason))));
        self.out.act(Action::CloseConnection { code });
    }
}

/// Returns the number that the peer may see; it is told what it did, not what we know.
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
