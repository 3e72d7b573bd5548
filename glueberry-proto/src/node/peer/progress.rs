//! What the sessions of a peer report.

use super::Peer;
use super::sessions::{SessionRecord, Stage};
use super::state::{Current, State};
use crate::bug::Bug;
use crate::error::{CloseReason, DialError};
use crate::id::SessionId;
use crate::message::{Carry, FromNode, FromSession};
use crate::node::context::Context;
use crate::node::event::StateReason;
use crate::session::Direction;

impl Peer {
    pub(in crate::node) fn session_message(
        &mut self,
        id: SessionId,
        message: FromSession,
        cx: &mut Context<'_>,
    ) {
        match message {
            FromSession::Agreed => self.session_agreed(id, cx),
            FromSession::Prepared => self.session_prepared(id),
            FromSession::Established => self.session_established(id, cx),
            FromSession::Alive => self.session_alive(id, cx),
            FromSession::Yielded(carry) => self.session_yielded(id, carry, cx),
            FromSession::Closed(reason) => self.session_closed(id, reason, cx),
        }
    }

    /// The application has prepared streams on a session.
    fn session_prepared(&mut self, id: SessionId) {
        // The node may have ended the session meanwhile.
        if let State::Connected { current, is_prepared, .. } = &mut self.state
            && current.id == id
        {
            *is_prepared = true;
        }
    }

    fn session_established(&mut self, id: SessionId, cx: &mut Context<'_>) {
        // The node may have ended the session meanwhile.
        let State::Connected { current, deadline, successor, .. } = self.state else {
            return;
        };
        if current.id != id {
            return;
        }
        let mut established = current;
        if cx.env.config.has(Bug::TimerRunsOn) {
            established.probe = deadline;
        }
        let event = self.move_to_established(established, cx.env.now);
        if !cx.env.config.has(Bug::SilentChange) {
            cx.out.publish(event);
        }
        cx.store.key_confirmed(self.key, cx.env);
        // The session was finalized before the request to yield reached it, and stays.
        if let Some(successor) = successor {
            self.end_successor(successor, cx);
        }
    }

    /// The current session hands over what was said to the one that replaces it.
    fn session_yielded(&mut self, id: SessionId, carry: Carry, cx: &mut Context<'_>) {
        // The node may have ended the session meanwhile.
        let State::Connected { current, is_prepared, successor, .. } = &mut self.state else {
            return;
        };
        if current.id != id {
            return;
        }
        let live = successor
            .take()
            .and_then(|successor| self.others.get_mut(successor))
            .filter(|record| !record.is_ending())
            .map(|record| *record);
        let Some(record) = live else {
            // The successor died first: the session that has yielded goes on with what it had.
            return cx.out.forward(id, FromNode::Grant(carry));
        };
        let probe = current.probe;
        let yielded = std::mem::replace(current, Current { probe, ..Current::new(&record) });
        *is_prepared = false;
        self.others.remove(record.id);
        let direction = yielded.direction;
        self.others.insert(SessionRecord { id, direction, stage: Stage::Yielded });
        cx.out.forward(record.id, FromNode::Grant(carry));
        // Each connection is closed by the side that dialled it: the other may not know yet that
        // its session is replaced.
        if direction == Direction::Outbound {
            self.end_other(id, CloseReason::Superseded, cx);
        }
    }

    /// The peer has answered the probe of its session, so it has not lost it: the connections that
    /// it has opened since are not needed.
    fn session_alive(&mut self, id: SessionId, cx: &mut Context<'_>) {
        let successor = self.successor();
        let Some(current) = self.state.current_mut().filter(|current| current.id == id) else {
            return;
        };
        // An answer that comes late, or without a probe of the node, decides nothing.
        if current.probe.take().is_none() {
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
            Some(current) if cx.env.config.has(Bug::WrongSessionEnds) => {
                let (id, direction) = (current.id, current.direction);
                self.others.insert(SessionRecord { id, direction, stage: Stage::Yielded });
                self.current_closed(reason, cx);
            }
            _ if !is_known && !cx.env.config.has(Bug::LeaksSession) => {
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
        if has_lasted && !config.has(Bug::AttemptsGoOn) {
            self.attempts = 0;
        }
        let has_failed = !is_established
            && matches!(reason, CloseReason::HandshakeTimeout | CloseReason::Rejected(_));
        let reason = StateReason::SessionEnded(reason);
        if has_failed {
            // The peer would fail again on any other session.
            let until = cx.env.after(config.cooldown);
            cx.out.publish(self.move_to_cooldown(until, reason, cx.env.now));
            return self.end_sessions(&CloseReason::Superseded, true, cx);
        }
        cx.out.publish(self.move_to_disconnected(reason, cx.env.now));
        self.promote(cx);
        self.retry_later(cx);
    }

    fn successor(&self) -> Option<SessionId> {
        match self.state {
            State::Connected { successor, .. } => successor,
            _ => None,
        }
    }

    fn end_successor(&mut self, id: SessionId, cx: &mut Context<'_>) {
        // It may have ended by itself, which is reported to nobody but the table of sessions.
        if self.others.get_mut(id).is_some() {
            self.end_other(id, CloseReason::Superseded, cx);
        }
    }
}
