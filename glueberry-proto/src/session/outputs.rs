//! The queues from which a session's actions and events are polled.

use super::action::Action;
use super::event::Event;
use super::short_queue::ShortQueue;
use crate::message::{FromSession, ToNode};

/// Actions must be done now; events may lag. Hence two queues (rule C6).
///
/// Both are short by construction: an action or event about one thing is not queued again before
/// the first was taken and that thing has changed.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    actions: ShortQueue<Action>,
    events: ShortQueue<Event>,
}

impl Outputs {
    pub(super) fn push_action(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Has the adapter carry a message to the node.
    pub(super) fn forward(&mut self, message: FromSession) {
        self.push_action(Action::Forward(ToNode(message)));
    }

    pub(super) fn emit(&mut self, event: Event) {
        if !self.merge(&event) {
            self.events.push(event);
        }
    }

    /// Adds to an event that still waits, where a peer could cause any number of the kind, or
    /// leaves it at one that is the same.
    fn merge(&mut self, event: &Event) -> bool {
        self.events.iter_mut().any(|waiting| match (waiting, event) {
            (
                Event::StreamInterrupted { stream, in_doubt },
                Event::StreamInterrupted { stream: same, in_doubt: more },
            ) if stream == same => {
                *in_doubt = in_doubt.saturating_add(*more);
                true
            }
            (
                Event::StreamRefused { stream, unsent },
                Event::StreamRefused { stream: same, unsent: more },
            ) if stream == same => {
                *unsent = unsent.saturating_add(*more);
                true
            }
            (
                Event::MessagesLost { stream, messages },
                Event::MessagesLost { stream: same, messages: more },
            ) if stream == same => {
                *messages = messages.saturating_add(*more);
                true
            }
            (Event::HandshakeReadable, Event::HandshakeReadable) => true,
            (Event::Readable { stream }, Event::Readable { stream: same })
            | (Event::Writable { stream }, Event::Writable { stream: same })
            | (Event::StreamTruncated { stream }, Event::StreamTruncated { stream: same })
            | (Event::StreamNotPrepared { stream }, Event::StreamNotPrepared { stream: same }) => {
                stream == same
            }
            _ => false,
        })
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    /// Returns how many actions were not taken.
    pub(super) fn waiting(&self) -> usize {
        self.actions.len()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }
}
