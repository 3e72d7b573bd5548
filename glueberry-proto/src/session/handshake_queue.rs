//! Handshake messages on their way to the peer.

use alloc::collections::VecDeque;
use core::fmt;

use bytes::{Bytes, BytesMut};

use crate::error::SendError;
use crate::prelude::*;
use crate::wire::Framing;

/// The handshake messages that the peer has not answered: what is not written yet, and what was
/// written to the substream that carries them now.
#[derive(Default)]
pub(super) struct HandshakeQueue {
    waiting: VecDeque<Bytes>,
    /// Written, and nothing was received there since.
    unanswered: VecDeque<Bytes>,
    /// Bytes in both.
    bytes: usize,
    /// How many of the messages that were handed on to another session were written here.
    handed_on: usize,
}

/// Without what messages hold.
impl fmt::Debug for HandshakeQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeQueue")
            .field("waiting", &self.waiting.len())
            .field("unanswered", &self.unanswered.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl HandshakeQueue {
    /// Accepts a message. One always fits an empty queue.
    pub(super) fn push(&mut self, message: Bytes, limit: usize) -> Result<(), SendError> {
        let size = message.len();
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        let messages = self.waiting.len() + self.unanswered.len();
        if messages > 0 && (self.bytes + size > limit || messages >= MAX_HELD_MESSAGES) {
            return Err(SendError::Backpressure);
        }
        self.bytes += size;
        self.waiting.push_back(message);
        Ok(())
    }

    /// Returns how many messages are not written yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// True if the peer has answered all there was.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.unanswered.is_empty()
    }

    /// Writes until `out` is `full` bytes long.
    pub(super) fn write(&mut self, framing: Framing, out: &mut BytesMut, full: usize) {
        while out.len() < full
            && let Some(message) = self.pop_waiting()
        {
            framing.emit_header(message.len(), out);
            out.extend_from_slice(&message);
            self.unanswered.push_back(message);
        }
    }

    /// Returns the next message to write, which is then unanswered.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let message = self.pop_waiting()?;
        self.unanswered.push_back(message.clone());
        Some(message)
    }

    /// Leaves no room behind the last one: a session is idle for far longer than its handshake takes.
    fn pop_waiting(&mut self) -> Option<Bytes> {
        let message = self.waiting.pop_front();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        message
    }

    /// The peer has what was written.
    pub(super) fn answered(&mut self) {
        let answered = core::mem::take(&mut self.unanswered);
        self.bytes -= answered.iter().map(Bytes::len).sum::<usize>();
    }

    /// The substream broke: what the peer has not answered on it is written again elsewhere.
    pub(super) fn write_again(&mut self) {
        self.handed_on = 0;
        while let Some(message) = self.unanswered.pop_back() {
            self.waiting.push_front(message);
        }
    }

    /// Removes and returns all messages, for another session to send.
    pub(super) fn hand_on(&mut self) -> Vec<Bytes> {
        self.handed_on = self.unanswered.len();
        self.bytes = 0;
        self.unanswered.drain(..).chain(self.waiting.drain(..)).collect()
    }

    /// Takes over the messages that another session was given to send. Its own come back if
    /// nothing has come of handing them on: the first of them were written here already.
    pub(super) fn take_over(&mut self, messages: Vec<Bytes>) {
        let written = core::mem::take(&mut self.handed_on);
        self.bytes += messages.iter().map(Bytes::len).sum::<usize>();
        let mut messages = messages.into_iter();
        self.unanswered.extend(messages.by_ref().take(written));
        self.waiting.extend(messages);
    }
}

/// Handshake messages that a session holds in each direction, besides the limit in bytes.
pub(crate) const MAX_HELD_MESSAGES: usize = 256;
