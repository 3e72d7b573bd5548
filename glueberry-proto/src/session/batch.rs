//! What the writing of a substream is lent: where it goes, and where its messages come from.

use alloc::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::send_queue::{MessageSource, SendQueue};
use crate::wire::StreamName;

/// Where a sender writes to, and what it takes messages from besides its own queue.
pub(super) struct WriteTo<'a> {
    pub(super) out: &'a mut BytesMut,
    /// The length of `out` at which writing stops.
    pub(super) full: usize,
    pub(super) source: &'a mut dyn MessageSource,
}

/// What is written next.
pub(super) struct Batch<'a> {
    pub(super) queue: &'a mut SendQueue,
    /// Room for what is taken from the lent queue; empty between writes.
    pub(super) messages: &'a mut VecDeque<Bytes>,
    pub(super) name: &'a StreamName,
}
