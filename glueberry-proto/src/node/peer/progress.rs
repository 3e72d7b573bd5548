//! What the sessions of a peer report.

use super::Peer;
use super::state::{Current, State};
use crate::error::{CloseReason, DialError};
use crate::id::SessionId;
use crate::message::{Carry, FromNode, FromSession};
use crate::node::context::Context;
use crate::node::event::StateReason;
use crate::prelude::*;
use crate::session::Direction;
use crate::session_info::SessionInfo;

impl Peer {
    pub(in crate::node) fn session_message(
        &mut self,
        id: SessionId,
        message: FromSession,
        cx: &mut Context<'_>,
    ) {
        let is_current = self.current().is_some_and(|current| current.id == id);
        match message {
            FromSession::Agreed(profile) => self.session_agreed(id, profile, cx),
            FromSession::Closed(reason, _) => self.session_closed(id, reason, cx),
            FromSession::HandshakeLost(is_lost) if !is_current => {
                if let Some(record) = self.others.get_mut(id) {
                    record.is_handshake_lost = is_lost;
                }
            }
            FromSession::ProbeAnswered if !is_current => self.other_answered(id, cx),
            FromSession::Confirmed if !is_current => self.other_confirmed(id, cx),
            // The node has ended the session or replaced it while the message was on its way.
            _ if !is_current => {}
            FromSession::Prepared => self.current_prepared(cx),
            FromSession::Confirmed => self.current_confirmed(cx),
            FromSession::Established(info) => self.current_established(info, cx),
            FromSession::HandshakeLost(is_lost) => self.current_handshake_lost(is_lost, cx),
            FromSession::Alive => self.current_alive(cx),
            FromSession::ProbeAnswered => self.settle(cx),
            FromSession::Yielded(carry) => self.current_yielded(carry, cx),
        }
    }

    /// The application has prepared streams: no replacement of the session begins from now on.
    fn current_prepared(&mut self, cx: &mut Context<'_>) {
        match &mut self.state {
            State::Connected { is_kept, .. } => {
                *is_kept = true;
                self.settle(cx);
            }
            _ => cx.out.internal_error("streams were prepared on an Established session"),
        }
    }

    /// The peer has chosen the current session, and may be Established on it: no other replaces it, also
    /// if that has begun.
    fn current_confirmed(&mut self, cx: &mut Context<'_>) {
        let State::Connected { current, is_kept, successor, .. } = &mut self.state else {
            return cx.out.internal_error("a session was confirmed that is Established");
        };
        *is_kept = true;
        let (current, successor) = (*current, successor.take());
        let waiting = self.others.agreed().find(|other| Some(other.id) == successor).copied();
        if let Some(waiting) = waiting {
            self.compete(&waiting, current, cx);
        }
    }

    fn current_established(&mut self, info: SessionInfo, cx: &mut Context<'_>) {
        let State::Connected { current, successor, .. } = self.state else {
            return cx.out.internal_error("a session was established twice");
        };
        let event = self.move_to_established(current, info, cx);
        cx.out.publish(event);
        cx.store.key_confirmed(self.key, cx.env);
        // The session was finalized before the request to yield reached it, and stays. Its
        // successor may have ended by itself.
        if let Some(successor) = successor
            && self.others.get_mut(successor).is_some()
        {
            self.end_other(successor, CloseReason::Superseded, cx);
        }
    }

    /// The handshake substream of the current session is gone, or is there again. A Go node that
    /// has one on another session gives up the one here, and goes on with the handshake there.
    fn current_handshake_lost(&mut self, is_lost: bool, cx: &mut Context<'_>) {
        if let Some(current) = self.state.current_mut() {
            current.is_handshake_lost = is_lost;
        }
        let other = self.others.agreed().find(|other| !other.is_handshake_lost).copied();
        if let (true, Some(other), Some(current)) = (is_lost, other, self.current()) {
            self.compete(&other, *current, cx);
        }
    }

    /// The current session hands over what was said to the one that replaces it.
    fn current_yielded(&mut self, carry: Carry, cx: &mut Context<'_>) {
        let State::Connected { current, deadline, is_kept, successor } = &mut self.state else {
            return cx.out.internal_error("a session has yielded that is Established");
        };
        let yielded = *current;
        let Some(successor) = successor.take() else {
            cx.out.internal_error("a session has yielded that was not asked to");
            return cx.out.forward(yielded.id, FromNode::Grant(carry));
        };
        let live = self.others.get_mut(successor).filter(|record| !record.is_ending());
        let Some(record) = live.map(|record| *record) else {
            // The successor died first: the session that has yielded goes on with what it had.
            return cx.out.forward(yielded.id, FromNode::Grant(carry));
        };
        *current = Current::new(&record);
        *is_kept = false;
        let is_late = deadline.is_none();
        self.others.remove(record.id);
        let Current { id, direction, .. } = yielded;
        self.others.insert(yielded.yielded());
        cx.out.forward(record.id, FromNode::Grant(carry));
        if is_late {
            // Only the one that has yielded was told that the time for the handshake is over.
            cx.out.close(record.id, CloseReason::HandshakeTimeout);
        }
        // Each connection is closed by the side that dialled it: the other may not know yet that
        // its session is replaced.
        if direction == Direction::Outbound {
            self.end_other(id, CloseReason::Superseded, cx);
        }
        self.settle_soon(cx);
    }

    /// The peer has answered the probe of its session, so it has not lost it: the connections that
    /// it has opened since are not needed.
    fn current_alive(&mut self, cx: &mut Context<'_>) {
        let successor = match self.state {
            State::Connected { successor, .. } => successor,
            _ => None,
        };
        // An answer that comes when the probe has timed out decides nothing.
        if self.state.current_mut().and_then(|current| current.probe.take()).is_none() {
            return;
        }
        if self.current().is_some_and(Current::keeps_one_handshake) {
            // Which are not needed is known when it has answered the probe itself.
            return;
        }
        let inbound = self.others.agreed().filter(|other| other.direction == Direction::Inbound);
        let waiting: Vec<SessionId> =
            inbound.map(|other| other.id).filter(|other| Some(*other) != successor).collect();
        for waiting in waiting {
            self.end_other(waiting, CloseReason::Superseded, cx);
        }
    }

    fn session_closed(&mut self, id: SessionId, reason: CloseReason, cx: &mut Context<'_>) {
        let is_known = self.others.remove(id).is_some();
        match self.current().copied() {
            Some(current) if current.id == id => self.current_closed(reason, cx),
            _ if !is_known => {
                cx.out.internal_error("a session that has ended is not its peer's");
            }
            Some(_) => {}
            None => {
                self.promote(cx);
                self.connecting_failed(DialError::Session(reason), cx);
            }
        }
    }

    /// The current session is over. Another that is agreed takes its place, after an event that
    /// reports the loss.
    fn current_closed(&mut self, reason: CloseReason, cx: &mut Context<'_>) {
        let config = &cx.env.config;
        let is_established = matches!(self.state, State::Established { .. });
        let has_lasted = is_established && self.since + config.stable_after <= cx.env.now;
        if has_lasted {
            self.attempts = 0;
        }
        let has_failed = !is_established
            && matches!(reason, CloseReason::HandshakeTimeout | CloseReason::Rejected(_));
        let reason = StateReason::SessionEnded(reason);
        if has_failed {
            // The peer would fail again on any other session.
            let event = self.move_to_cooldown(reason, cx);
            cx.out.publish(event);
            return self.end_sessions(&CloseReason::Superseded, true, cx);
        }
        let event = self.move_to_disconnected(reason, cx);
        cx.out.publish(event);
        self.promote(cx);
        self.retry_later(cx);
    }
}
