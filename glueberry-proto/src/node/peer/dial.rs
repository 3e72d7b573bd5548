//! Dialling a peer, up to the session or the failure.

use super::Peer;
use super::state::{Retry, State};
use crate::error::DialError;
use crate::id::DialId;
use crate::node::context::Context;
use crate::node::dials::{Dial, Urgency};
use crate::node::event::{NodeAction, StateReason};

impl Peer {
    /// Begins to connect to a peer that may be connected to, with a new count of attempts. Joins
    /// the attempt that is under way, if there is one.
    pub(in crate::node) fn connect(&mut self, urgency: Urgency, cx: &mut Context<'_>) {
        self.attempts = 0;
        let has_dial = self.state.dial().is_some();
        if !matches!(self.state, State::Connecting { .. }) {
            let event = self.move_to_connecting(Dial::Queued, cx);
            cx.out.publish(event);
            if !has_dial {
                cx.dials.enqueue(self.key, urgency);
            }
        }
        if has_dial && urgency == Urgency::Wanted {
            cx.dials.hurry(self.key);
        }
    }

    /// Has the adapter dial the peer, whose turn it is.
    pub(in crate::node) fn start_dial(&mut self, urgency: Urgency, cx: &mut Context<'_>) {
        if self.state.dial() != Some(Dial::Queued) {
            return cx.out.internal_error("a peer in the dial queue has no queued dial");
        }
        if !cx.store.has_address(self.key) {
            // The last was forgotten while it waited for its turn.
            self.cancel_dial(cx);
            let event = self.move_to_disconnected(StateReason::NoAddress, cx);
            return cx.out.publish(event);
        }
        let id = cx.dials.begin(self.key, urgency);
        let under_way = Dial::UnderWay { id, deadline: cx.env.now + cx.env.config.dial_timeout };
        match &mut self.state {
            State::Connecting { dial } => *dial = Some(under_way),
            _ => {
                let event = self.move_to_connecting(under_way, cx);
                cx.out.publish(event);
            }
        }
        let addresses = cx.store.addresses(self.key);
        cx.out.act(NodeAction::Dial { dial: id, peer: self.key, addresses });
    }

    /// The dial gives way to one that the application waits for, and is begun again later.
    pub(in crate::node) fn postpone_dial(&mut self, cx: &mut Context<'_>) {
        self.cancel_dial(cx);
        match &mut self.state {
            State::Connecting { dial } => *dial = Some(Dial::Queued),
            _ => {
                return cx.out.internal_error("a dial is under way for a peer that is not dialled");
            }
        }
        cx.dials.enqueue(self.key, Urgency::Background);
    }

    /// The dial has succeeded: its session comes next, or the reason why there is none.
    pub(in crate::node) fn dial_succeeded(&mut self, cx: &mut Context<'_>) {
        match &mut self.state {
            State::Connecting { dial: dial @ Some(Dial::UnderWay { .. }) } => *dial = None,
            _ => cx.out.internal_error("a dial is under way for a peer that is not dialled"),
        }
    }

    pub(in crate::node) fn dial_failed(&mut self, error: DialError, cx: &mut Context<'_>) {
        self.dial_succeeded(cx);
        self.connecting_failed(error, cx);
    }

    pub(super) fn dial_timed_out(&mut self, cx: &mut Context<'_>) {
        if let Some(id) = self.give_up_dial(cx) {
            cx.out.act(NodeAction::CancelDial(id));
            self.connecting_failed(DialError::TimedOut, cx);
        }
    }

    /// Gives up the dial, without an event. The caller moves the peer to another state.
    pub(in crate::node) fn cancel_dial(&mut self, cx: &mut Context<'_>) {
        if let Some(id) = self.give_up_dial(cx) {
            cx.out.act(NodeAction::CancelDial(id));
        }
    }

    fn give_up_dial(&mut self, cx: &mut Context<'_>) -> Option<DialId> {
        let dial = self.state.dial()?;
        match &mut self.state {
            State::Connecting { dial } => *dial = None,
            // The caller ends the attempt, so this is never waited for.
            State::Reconnecting { retry } => *retry = Retry::At(cx.env.now),
            _ => {}
        }
        cx.dials.cancel(self.key, dial)
    }

    /// Takes note that an attempt to connect has failed. The peer is Disconnected, unless another
    /// attempt is under way: a dial, or a session that may yet become current.
    pub(in crate::node) fn connecting_failed(&mut self, error: DialError, cx: &mut Context<'_>) {
        let is_over = matches!(self.state, State::Connecting { dial: None })
            && self.others.live().next().is_none();
        if !is_over {
            return;
        }
        if matches!(error, DialError::LimitReached(_)) {
            // The peer was not even asked.
            self.attempts = self.attempts.saturating_sub(1);
        }
        let attempts = self.attempts;
        let reason = match self.may_retry(cx) {
            false if attempts > 0 => StateReason::AttemptsExhausted { attempts, last: error },
            _ => StateReason::DialFailed(error),
        };
        let event = self.move_to_disconnected(reason, cx);
        cx.out.publish(event);
        self.retry_later(cx);
    }
}
