//! The queues from which a node's actions and events are polled.

use alloc::collections::VecDeque;

use super::event::{ConnectionEvent, NodeAction};
use crate::error::CloseReason;
use crate::id::SessionId;
use crate::message::{FromNode, ToSession};
use crate::owed::{Owed, Waiting};
use crate::time::Instant;

/// Actions must be done now; events may lag. Hence two queues (rule C6).
#[derive(Debug)]
pub(super) struct Outputs {
    actions: VecDeque<NodeAction>,
    events: VecDeque<ConnectionEvent>,
    /// How many events may wait before nothing new begins.
    event_limit: usize,
    internal_errors: u64,
    /// When there was last no action left to take.
    taken_at: Instant,
}

impl Outputs {
    pub(super) const fn new(event_limit: usize) -> Self {
        Self {
            actions: VecDeque::new(),
            events: VecDeque::new(),
            event_limit,
            internal_errors: 0,
            taken_at: Instant::ZERO,
        }
    }

    pub(super) fn act(&mut self, action: NodeAction) {
        self.actions.push_back(action);
    }

    pub(super) fn forward(&mut self, session: SessionId, message: FromNode) {
        self.act(NodeAction::Forward { session, message: ToSession(message) });
    }

    /// Has a session end at once, without sending what is queued.
    pub(super) fn close(&mut self, session: SessionId, reason: CloseReason) {
        self.forward(session, FromNode::Close { reason, drain: false });
    }

    pub(super) fn publish(&mut self, event: ConnectionEvent) {
        self.events.push_back(event);
    }

    /// Counts a broken invariant of the node itself. No input can cause one; see
    /// [`Node::internal_errors`](crate::Node::internal_errors).
    pub(super) fn internal_error(&mut self, what: &'static str) {
        debug_assert!(false, "{what}");
        self.internal_errors = self.internal_errors.saturating_add(1);
    }

    pub(super) const fn internal_errors(&self) -> u64 {
        self.internal_errors
    }

    /// True if something new may begin. What has begun may always report how it goes on.
    pub(super) fn has_event_room(&self) -> bool {
        self.events.len() < self.event_limit
    }

    /// True if something new may begin with a stranger: what they cause never fills the queue.
    pub(super) fn has_event_room_for_strangers(&self) -> bool {
        self.events.len() < self.event_limit - self.event_limit / 4
    }

    pub(super) fn poll_action(&mut self) -> Option<NodeAction> {
        self.actions.pop_front()
    }

    /// Every action was taken.
    pub(super) const fn note_taken(&mut self, now: Instant) {
        self.taken_at = now;
    }

    /// Returns the actions that were not taken.
    pub(super) fn owed(&self) -> Option<Owed> {
        let count = self.actions.len();
        (count > 0).then(|| Owed::new(Waiting::Actions { count }, self.taken_at))
    }

    pub(super) fn poll_event(&mut self) -> Option<ConnectionEvent> {
        self.events.pop_front()
    }
}
