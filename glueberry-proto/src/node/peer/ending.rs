//! Ending what there is with a peer: on request, and when time is up.

use super::Peer;
use super::state::State;
use crate::error::{CloseReason, ConnectionLost};
use crate::id::SessionId;
use crate::message::FromNode;
use crate::node::context::Context;
use crate::node::event::StateReason;
use crate::wire::Profile;

impl Peer {
    /// Ends everything with the peer, sends what was queued, and refuses its own connections for a
    /// while: they would undo it.
    pub(in crate::node) fn cut_off(&mut self, reason: &CloseReason, cx: &mut Context<'_>) {
        self.refused_until = Some(cx.env.after(cx.env.config.refuse_after_disconnect));
        self.end_everything(reason, true, cx);
    }

    /// Cancels the dial and ends the sessions, and reports that by one event.
    pub(in crate::node) fn end_everything(
        &mut self,
        reason: &CloseReason,
        drain: bool,
        cx: &mut Context<'_>,
    ) {
        self.cancel_dial(cx);
        if let Some(current) = self.current() {
            // It is no longer current, but not over before it has said so.
            let record = current.yielded();
            self.others.insert(record);
        }
        self.end_sessions(reason, drain, cx);
        self.attempts = 0;
        let reason = match reason {
            CloseReason::Blacklisted => StateReason::Blacklisted,
            CloseReason::Pruned => StateReason::Pruned,
            _ if cx.env.is_stopping => StateReason::ShuttingDown,
            _ => StateReason::Disconnected,
        };
        if !matches!(self.state, State::Disconnected { .. }) {
            let event = self.move_to_disconnected(reason, cx);
            cx.out.publish(event);
        }
    }

    /// Holds the peer to v2 if the current session, which is Established, speaks it: others that were
    /// begun before with an earlier profile end.
    pub(in crate::node) fn pin(&self, cx: &mut Context<'_>) {
        let speaks_v2 = self.session_info().is_some_and(|info| info.profile == Profile::V2);
        if speaks_v2 && cx.store.hold_to_v2(self.key, cx.env) {
            self.hold_others_to_v2(cx);
        }
    }

    /// Has all sessions end that have an earlier profile than v2, or get one.
    pub(in crate::node) fn hold_to_v2(&self, cx: &mut Context<'_>) {
        if let Some(current) = self.current() {
            cx.out.forward(current.id, FromNode::Pin);
        }
        self.hold_others_to_v2(cx);
    }

    /// Has the sessions end that have an earlier profile than v2, or get one, besides the current one.
    fn hold_others_to_v2(&self, cx: &mut Context<'_>) {
        for other in self.others.live() {
            cx.out.forward(other.id, FromNode::Pin);
        }
    }

    /// Has a session end that is not current, unless it was asked to before.
    pub(in crate::node) fn end_waiting(
        &mut self,
        id: SessionId,
        reason: CloseReason,
        cx: &mut Context<'_>,
    ) {
        if self.others.get_mut(id).is_some_and(|record| !record.is_ending()) {
            self.end_other(id, reason, cx);
        }
    }

    /// No longer refuses the peer, of which nothing else is remembered.
    pub(in crate::node) fn forget_refusal(&mut self, cx: &mut Context<'_>) {
        self.refused_until = None;
        if matches!(self.state, State::Cooldown { .. }) {
            let event = self.move_to_disconnected(StateReason::CooldownOver, cx);
            cx.out.publish(event);
        }
    }

    /// Has the sessions end that are not current.
    pub(super) fn end_sessions(&mut self, reason: &CloseReason, drain: bool, cx: &mut Context<'_>) {
        for id in self.others.end_all(drain) {
            cx.out.forward(id, FromNode::Close { reason: reason.clone(), drain });
        }
    }

    pub(super) fn end_overdue_sessions(&mut self, cx: &mut Context<'_>) {
        for session in self.others.overdue(cx.env.now) {
            // One that was agreed has waited for nothing: the current one has lived on.
            let reason = match session.is_agreed() {
                true => CloseReason::Superseded,
                false => CloseReason::HandshakeTimeout,
            };
            self.end_other(session.id, reason, cx);
        }
    }

    /// Has the current session end. It stays current until it reports that it has ended: it may
    /// have been established just now.
    pub(super) fn handshake_timed_out(&mut self, cx: &mut Context<'_>) {
        if let State::Connected { current, deadline, .. } = &mut self.state {
            *deadline = None;
            cx.out.close(current.id, CloseReason::HandshakeTimeout);
        }
    }

    /// Has the current session end, whose peer has not answered the probe.
    pub(super) fn probe_timed_out(&mut self, cx: &mut Context<'_>) {
        if let Some(current) = self.state.current_mut() {
            current.probe = None;
            cx.out.close(current.id, CloseReason::ConnectionLost(ConnectionLost::TimedOut));
        }
    }
}
