//! How a peer changes its state. Nothing else does.

use super::Peer;
use super::sessions::SessionRecord;
use super::state::{Current, Retry, State};
use crate::node::context::Context;
use crate::node::dials::Dial;
use crate::node::event::{ConnectionEvent, StateReason};
use crate::session::Direction;
use crate::session_info::SessionInfo;
use crate::time::Instant;

impl Peer {
    pub(super) fn move_to_connecting(
        &mut self,
        dial: Dial,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal =
            matches!(self.state, State::Disconnected { .. } | State::Reconnecting { .. });
        // A peer that is dialled here is wanted again, so it may dial, too.
        self.refused_until = None;
        self.move_to(is_legal, State::Connecting { dial: Some(dial) }, None, cx)
    }

    /// The dial must have been cancelled.
    pub(super) fn move_to_connected(
        &mut self,
        session: &SessionRecord,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal = match self.state {
            State::Disconnected { .. } | State::Connecting { .. } | State::Reconnecting { .. } => {
                self.state.dial().is_none()
            }
            State::Connected { .. } | State::Established { .. } | State::Cooldown { .. } => false,
        };
        let state = State::Connected {
            current: Current::new(session),
            deadline: Some(cx.env.now + cx.env.config.handshake_timeout),
            is_kept: false,
            successor: None,
        };
        self.move_to(is_legal, state, None, cx)
    }

    pub(super) fn move_to_established(
        &mut self,
        current: Current,
        info: SessionInfo,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal = matches!(self.state, State::Connected { .. });
        self.move_to(is_legal, State::Established { current, info }, None, cx)
    }

    /// The current session must be over.
    pub(super) fn move_to_cooldown(
        &mut self,
        reason: StateReason,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal = matches!(self.state, State::Connected { .. });
        let state = State::Cooldown {
            until: cx.env.after(cx.env.config.cooldown),
            last_direction: self.state.direction().unwrap_or(Direction::Outbound),
            is_retry_cancelled: false,
        };
        self.move_to(is_legal, state, Some(reason), cx)
    }

    pub(super) fn move_to_reconnecting(
        &mut self,
        at: Instant,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal = matches!(self.state, State::Disconnected { .. } | State::Cooldown { .. });
        self.attempts = self.attempts.saturating_add(1);
        self.move_to(is_legal, State::Reconnecting { retry: Retry::At(at) }, None, cx)
    }

    /// The dial must have been cancelled, and the current session must be over or among the
    /// [others](Peer::others).
    pub(super) fn move_to_disconnected(
        &mut self,
        reason: StateReason,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        let is_legal =
            !matches!(self.state, State::Disconnected { .. }) && self.state.dial().is_none();
        let last_direction = self.state.direction();
        self.move_to(is_legal, State::Disconnected { last_direction }, Some(reason), cx)
    }

    fn move_to(
        &mut self,
        is_legal: bool,
        state: State,
        reason: Option<StateReason>,
        cx: &mut Context<'_>,
    ) -> ConnectionEvent {
        if !is_legal {
            cx.out.internal_error("a peer changed to a state that does not follow its last");
        }
        self.state = state;
        self.since = cx.env.now;
        ConnectionEvent {
            peer: self.key,
            state: self.state.kind(),
            direction: self.state.direction(),
            session: self.state.session_info(),
            reason,
            at: self.since,
        }
    }
}
