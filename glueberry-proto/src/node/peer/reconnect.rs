//! Connecting again without being asked: after a loss, and after a cooldown.

use super::Peer;
use super::state::{Retry, State};
use crate::config::ReconnectPolicy;
use crate::error::CloseReason;
use crate::node::context::Context;
use crate::node::dials::Urgency;
use crate::node::event::StateReason;

impl Peer {
    /// True if the peer is to be dialled again without being asked.
    pub(super) fn may_retry(&self, cx: &Context<'_>) -> bool {
        let is_cancelled = matches!(self.state, State::Cooldown { is_retry_cancelled: true, .. });
        !cx.env.is_stopping
            && !is_cancelled
            && self.policy(cx).allows(self.attempts)
            && cx.store.has_address(self.key)
            && !cx.store.is_blacklisted(self.key, cx.env.now)
    }

    /// Waits for the next attempt, if there is to be one. The event that reports the loss, or the
    /// cooldown, comes first.
    pub(super) fn retry_later(&mut self, cx: &mut Context<'_>) {
        let is_idle = matches!(self.state, State::Disconnected { .. } | State::Cooldown { .. });
        if !is_idle || !self.may_retry(cx) {
            return;
        }
        let wait = self.policy(cx).backoff(self.attempts, cx.random);
        let event = self.move_to_reconnecting(cx.env.after(wait), cx);
        cx.out.publish(event);
    }

    /// The wait before an attempt is over: the peer is dialled as soon as the limits allow. Its
    /// state changes only then.
    pub(super) fn retry(&mut self, cx: &mut Context<'_>) {
        if cx.store.has_address(self.key) {
            // The event comes with the dial: the peer is not being connected to before.
            self.state = State::Reconnecting { retry: Retry::Queued };
            cx.dials.enqueue(self.key, Urgency::Background);
        } else {
            // The book was replaced meanwhile by one that has none.
            let event = self.move_to_disconnected(StateReason::NoAddress, cx);
            cx.out.publish(event);
        }
    }

    pub(super) fn cooldown_over(&mut self, cx: &mut Context<'_>) {
        if self.may_retry(cx) {
            self.retry_later(cx);
        } else {
            let event = self.move_to_disconnected(StateReason::CooldownOver, cx);
            cx.out.publish(event);
        }
    }

    /// The last address was forgotten: an attempt that waits cannot be made.
    pub(in crate::node) fn addresses_removed(&mut self, cx: &mut Context<'_>) {
        if matches!(self.state, State::Reconnecting { .. }) {
            self.cancel_dial(cx);
            let event = self.move_to_disconnected(StateReason::NoAddress, cx);
            cx.out.publish(event);
        }
    }

    /// Ends the attempts to reconnect. Returns whether there were any.
    pub(in crate::node) fn cancel_retries(&mut self, cx: &mut Context<'_>) -> bool {
        let may_retry = self.may_retry(cx);
        match &mut self.state {
            State::Cooldown { is_retry_cancelled, .. } => {
                *is_retry_cancelled = true;
                return may_retry;
            }
            State::Reconnecting { .. } => {}
            // A dial of `connect` is no attempt to reconnect.
            State::Connecting { .. } if self.attempts > 0 => {}
            _ => return false,
        }
        self.cancel_dial(cx);
        self.end_sessions(&CloseReason::Disconnected, false, cx);
        self.attempts = 0;
        let event = self.move_to_disconnected(StateReason::ReconnectionCancelled, cx);
        cx.out.publish(event);
        true
    }

    fn policy(&self, cx: &Context<'_>) -> ReconnectPolicy {
        self.policy.unwrap_or(cx.env.config.reconnect)
    }
}
