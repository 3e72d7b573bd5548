//! How a session ends: at once, or after what was queued has been sent.

use core::time::Duration;

use super::Session;
use super::action::Action;
use super::event::{Closed, Event};
use super::substreams::{Purpose, Stage, Substream};
use crate::close_code::CloseCode;
use crate::error::{CloseReason, ConnectionLost, PeerMisbehaved};
use crate::id::SubstreamId;
use crate::message::FromSession;
use crate::prelude::*;
use crate::session::streams::Left;
use crate::v2::reader::TOO_LARGE;
use crate::wire::Profile;

impl Session {
    /// Ends the session; with `drain`, after what was queued has been sent.
    pub(super) fn begin_close(&mut self, reason: CloseReason, drain: bool) {
        // The first reason counts, and its time runs.
        let is_draining = self.state.is_draining() || self.state.is_answering();
        if (is_draining && drain) || self.state.is_ending() {
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
        if self.state.drain_reason().is_some() {
            // It was to end anyway: the loss is not the reason.
            self.close_now();
        } else if !self.state.is_closed() {
            self.finish_close(CloseReason::ConnectionLost(why));
        }
    }

    /// Ends the session because the peer breaks the protocol.
    pub(super) fn misbehaved(&mut self, how: PeerMisbehaved) {
        self.finish_close(CloseReason::Misbehaved(how));
    }

    /// Ends a draining session that has nothing left to send, and from whose peer nothing more is
    /// to come.
    ///
    /// The peer ends its half of each substream in answer to ours. Until it has, a close of the
    /// connection would leave it in doubt about everything that it has written.
    pub(super) fn finish_if_drained(&mut self) {
        let has_sent =
            self.state.is_draining() && !self.handshake.has_pending() && self.streams.are_drained();
        if !has_sent {
            return;
        }
        let awaited = self.awaited_ends();
        if awaited.is_empty() {
            return self.finish_draining();
        }
        for id in awaited {
            self.substreams.finish(id, &mut self.out);
        }
        self.await_goodbye();
    }

    /// Gives the peer time for its goodbye. What comes from it meanwhile gives it more, up to the
    /// time for draining.
    pub(super) fn await_goodbye(&mut self) {
        self.state.await_goodbye(self.now + GOODBYE);
    }

    /// Returns the substreams of streams whose end of the peer's half is to come.
    fn awaited_ends(&self) -> Vec<SubstreamId> {
        if !self.profile().is_some_and(Profile::answers_ends) {
            return Vec::new();
        }
        let is_awaited =
            |it: &Substream| matches!(it.stage, Stage::Bound(Purpose::Stream(_))) && !it.read_ended;
        self.substreams.iter().filter(|(_, it)| is_awaited(it)).map(|(id, _)| id).collect()
    }

    /// Ends a draining session now.
    pub(super) fn finish_draining(&mut self) {
        let reason = self.state.drain_reason().cloned();
        debug_assert!(reason.is_some(), "only a session that drains finishes draining");
        self.finish_close(reason.unwrap_or(CloseReason::Disconnected));
    }

    /// Ends the session; in v2 when the peer was told. Does nothing if it is over: the first reason is
    /// the one that counts.
    pub(super) fn finish_close(&mut self, reason: CloseReason) {
        if self.state.is_ending() {
            return;
        }
        self.discard_void();
        if !self.say_goodbye(&reason) {
            self.end_now(reason);
        }
    }

    /// A session that ends before it is Connected has no messages for the application: if the peer
    /// goes on with another, it repeats them there.
    fn discard_void(&mut self) {
        if self.state.is_waiting() {
            self.handshake.discard_received();
        }
    }

    /// Ends the session now.
    pub(super) fn end_now(&mut self, reason: CloseReason) {
        if self.state.is_closed() {
            return;
        }
        self.discard_void();
        let owed = is_timeout(&reason).then(|| self.blamed()).flatten().map(Box::new);
        self.state.move_to_closed();
        let Left { mut unsent, in_doubt, not_received } = self.streams.end();
        unsent += self.handshake.queue.waiting();
        self.handshake.wipe();
        self.substreams.clear();
        let code = self.close_code(&reason).as_u64();
        let closed = Closed { reason: reason.clone(), unsent, in_doubt, not_received, owed };
        self.out.emit(Event::Closed(closed));
        self.out.forward(FromSession::Closed(reason, self.params.guard.take()));
        self.out.push_action(Action::CloseConnection { code });
    }
}

impl Session {
    /// Returns what the peer may see. Where v2 has a number of its own, so has the session.
    pub(super) fn close_code(&self, reason: &CloseReason) -> CloseCode {
        match reason {
            CloseReason::Misbehaved(PeerMisbehaved::MessageTooLarge { .. })
                if self.profile() == Some(Profile::V2) =>
            {
                CloseCode::Other(TOO_LARGE)
            }
            reason => close_code(reason),
        }
    }
}

/// True if something has not come in time, which the driver may have kept back.
const fn is_timeout(reason: &CloseReason) -> bool {
    matches!(reason, CloseReason::HandshakeTimeout | CloseReason::HandshakeLost)
}

/// Returns what the peer may see. It shows what the peer did, not what we know.
const fn close_code(reason: &CloseReason) -> CloseCode {
    match reason {
        CloseReason::Disconnected
        | CloseReason::Dropped
        | CloseReason::ConnectionLost(_)
        | CloseReason::EndedByPeer { .. }
        | CloseReason::Pruned => CloseCode::Ended,
        CloseReason::Rejected(_) | CloseReason::Blacklisted => CloseCode::Rejected,
        CloseReason::HandshakeTimeout | CloseReason::HandshakeLost => CloseCode::HandshakeFailed,
        CloseReason::Superseded => CloseCode::Superseded,
        CloseReason::NoCommonProtocol => CloseCode::NoCommonProtocol,
        CloseReason::Downgrade { .. } => CloseCode::Downgrade,
        CloseReason::Misbehaved(PeerMisbehaved::V2 { violation, .. }) => {
            CloseCode::Other(violation.close_code())
        }
        CloseReason::Misbehaved(_) => CloseCode::Misbehaved,
        CloseReason::Internal(_) => CloseCode::Internal,
    }
}

/// Time for the peer to end its halves of the substreams, or to go on sending: a slow round trip.
const GOODBYE: Duration = Duration::from_secs(1);
