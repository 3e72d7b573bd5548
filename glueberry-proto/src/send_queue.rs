//! The queue in which messages of one stream wait until the transport can take them.

use alloc::collections::{BTreeMap, VecDeque};
use core::fmt;

use bytes::Bytes;

use crate::config::Config;
use crate::error::SendError;
use crate::wire::StreamName;

/// Messages of one stream in the order in which they were accepted, with watermarks.
///
/// There is one rule for what is accepted, here and nowhere else:
///
/// - a message longer than [`max_message_size`](SendLimits::max_message_size) is refused with
///   [`SendError::TooLarge`];
/// - the message that reaches a high watermark, in messages or in bytes, is accepted, and the queue
///   is full from then on;
/// - a full queue refuses with [`SendError::Backpressure`], until it has drained to both low
///   watermarks and its owner has asked [`reopened`](Self::reopened).
///
/// So one message always fits an empty queue, and a queue exceeds its high watermark in bytes by
/// less than one message. [`push_promised`](Self::push_promised) alone goes beyond.
///
/// It has no lock and no waker: a [`Session`](crate::Session) has one per stream for what is given
/// to [`send`](crate::Session::send). An adapter whose handles live on other threads keeps its own
/// behind a lock and lends it to the session, see [`MessageSource`].
///
/// ```
/// use glueberry_proto::{Config, SendError, SendLimits, SendQueue};
///
/// let mut config = Config::default();
/// (config.high_watermark, config.low_watermark) = (2, 1);
/// let mut queue = SendQueue::new(SendLimits::from(&config));
/// queue.push("one".into())?;
/// queue.push("two".into())?;
/// assert_eq!(queue.push("three".into()), Err(SendError::Backpressure));
/// assert_eq!(queue.pop().unwrap(), "one");
/// assert!(queue.reopened());
/// queue.push("three".into())?;
/// # Ok::<(), SendError>(())
/// ```
pub struct SendQueue {
    limits: SendLimits,
    messages: VecDeque<Bytes>,
    /// Of `messages`.
    bytes: usize,
    /// Messages, and bytes of them, that wait elsewhere ahead of `messages`, and count here.
    held: (usize, usize),
    is_full: bool,
}

/// Without what messages hold.
impl fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendQueue")
            .field("limits", &self.limits)
            .field("messages", &self.messages.len())
            .field("bytes", &self.bytes)
            .field("held", &self.held)
            .field("is_full", &self.is_full)
            .finish_non_exhaustive()
    }
}

/// When a [`SendQueue`] refuses a message, and when it accepts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendLimits {
    /// The longest message, see [`Config::max_message_size`].
    pub max_message_size: usize,
    /// Messages that make a queue full, see [`Config::high_watermark`].
    pub high: usize,
    /// Messages at which a full queue accepts again, see [`Config::low_watermark`].
    pub low: usize,
    /// Bytes that make a queue full, see [`Config::high_watermark_bytes`].
    pub high_bytes: usize,
    /// Bytes at which a full queue accepts again, see [`Config::low_watermark_bytes`].
    pub low_bytes: usize,
}

/// Messages that wait outside of a session, to be taken when the transport can take bytes.
///
/// An adapter lends it to [`poll_write_from`](crate::Session::poll_write_from), or to
/// [`chunk_from`](crate::SubstreamBuffer::chunk_from), after it has reported by
/// [`handle_queued`](crate::Session::handle_queued) that there is something for a stream. What is
/// taken is sealed within the same call: a message is either still in the source, and its owner's
/// to count as unsent when the session ends, or handed to the transport, and the session's to count
/// as in doubt.
///
/// It is implemented for `()`, which has no messages, and for a map of [`SendQueue`]s.
pub trait MessageSource {
    /// Appends the next messages of a stream to `out`, in order, and forgets them: as many as
    /// [`SendQueue::take`] does for `budget`. Returns whether more are left.
    #[must_use = "the session asks again only if more are left"]
    fn take(&mut self, stream: &StreamName, budget: usize, out: &mut VecDeque<Bytes>) -> bool;
}

impl SendQueue {
    /// Makes an empty queue.
    pub const fn new(limits: SendLimits) -> Self {
        Self { limits, messages: VecDeque::new(), bytes: 0, held: (0, 0), is_full: false }
    }

    /// Accepts a message behind the others.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] and [`SendError::Backpressure`]; the queue is then as it was.
    pub fn push(&mut self, message: Bytes) -> Result<(), SendError> {
        self.accepts(message.len())?;
        self.accept(message);
        Ok(())
    }

    /// Returns whether a message of so many bytes would be accepted, or else why not.
    ///
    /// # Errors
    ///
    /// Those of [`push`](Self::push).
    pub fn accepts(&self, size: usize) -> Result<(), SendError> {
        let limit = self.limits.max_message_size;
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        if self.is_full { Err(SendError::Backpressure) } else { Ok(()) }
    }

    /// Accepts a message behind the others although the queue may be full: for one whose sender was
    /// told that there is room, which somebody else has taken since.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`]; the queue is then as it was.
    pub fn push_promised(&mut self, message: Bytes) -> Result<(), SendError> {
        match self.accepts(message.len()) {
            Ok(()) | Err(SendError::Backpressure) => {
                self.accept(message);
                Ok(())
            }
            refused => refused,
        }
    }

    /// Accepts messages from the front of `messages`, in order, up to the first that is refused. What
    /// was not accepted stays there.
    ///
    /// # Errors
    ///
    /// Those of [`push`](Self::push), for the message that is then the first.
    pub fn push_many(&mut self, messages: &mut VecDeque<Bytes>) -> Result<(), SendError> {
        let (mut count, mut bytes, mut result) = (0, 0, Ok(()));
        for message in &*messages {
            result = self.accepts(message.len());
            if result.is_err() {
                break;
            }
            count += 1;
            bytes += message.len();
            let (len, bytes) = (self.len() + count, self.bytes() + bytes);
            self.is_full = self.limits.are_reached(len, bytes);
        }
        self.bytes += bytes;
        move_front(messages, count, &mut self.messages);
        result
    }

    /// Removes and returns the oldest message.
    pub fn pop(&mut self) -> Option<Bytes> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        self.shrink();
        Some(message)
    }

    /// Moves the oldest messages to `out`: up to the first that reaches `budget` bytes, counting
    /// with each message what frame and record add to it. Moves at least one, unless `budget` is
    /// zero or the queue is empty.
    pub fn take(&mut self, budget: usize, out: &mut VecDeque<Bytes>) {
        let (mut count, mut cost, mut bytes) = (0, 0_usize, 0);
        for message in self.messages.iter().take_while(|message| {
            let fits = cost < budget;
            cost = cost.saturating_add(message.len()).saturating_add(MESSAGE_OVERHEAD);
            fits
        }) {
            count += 1;
            bytes += message.len();
        }
        move_front(&mut self.messages, count, out);
        self.bytes -= bytes;
        self.shrink();
    }

    /// Removes and returns all messages. The queue accepts again, and [`reopened`](Self::reopened)
    /// does not report it.
    pub fn drain(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        self.bytes = 0;
        self.is_full = false;
        core::mem::take(&mut self.messages).into_iter()
    }

    /// Returns how many messages wait.
    pub fn len(&self) -> usize {
        self.messages.len().saturating_add(self.held.0)
    }

    /// Returns whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes wait.
    pub const fn bytes(&self) -> usize {
        self.bytes.saturating_add(self.held.1)
    }

    /// Returns whether the queue refuses messages.
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Lets a full queue that has drained to its low watermarks accept again. Returns whether it
    /// did so, which is once for each time that the queue became full.
    pub fn reopened(&mut self) -> bool {
        let is_low = self.len() <= self.limits.low && self.bytes() <= self.limits.low_bytes;
        let reopens = self.is_full && is_low;
        if reopens {
            self.is_full = false;
        }
        reopens
    }

    /// Counts messages that wait elsewhere, ahead of those in the queue. They may make it full.
    pub(crate) fn hold(&mut self, messages: usize, bytes: usize) {
        self.held.0 = self.held.0.saturating_add(messages);
        self.held.1 = self.held.1.saturating_add(bytes);
        self.mark_if_full();
    }

    /// Stops counting messages that have waited elsewhere.
    pub(crate) const fn release(&mut self, messages: usize, bytes: usize) {
        self.held.0 = self.held.0.saturating_sub(messages);
        self.held.1 = self.held.1.saturating_sub(bytes);
    }

    fn accept(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.messages.push_back(message);
        self.mark_if_full();
    }

    pub(crate) const fn limits(&self) -> &SendLimits {
        &self.limits
    }

    fn mark_if_full(&mut self) {
        self.is_full |= self.limits.are_reached(self.len(), self.bytes());
    }

    /// Frees the memory of a queue that ran empty: most streams are idle most of the time.
    fn shrink(&mut self) {
        if self.messages.is_empty() && self.messages.capacity() > IDLE_CAPACITY {
            self.messages = VecDeque::new();
        }
    }
}

impl SendLimits {
    /// True if this number of messages, or of bytes, makes a queue full.
    pub(crate) const fn are_reached(&self, messages: usize, bytes: usize) -> bool {
        messages >= self.high || bytes >= self.high_bytes
    }
}

impl From<&Config> for SendLimits {
    fn from(config: &Config) -> Self {
        Self {
            max_message_size: config.max_message_size,
            high: config.high_watermark,
            low: config.low_watermark,
            high_bytes: config.high_watermark_bytes,
            low_bytes: config.low_watermark_bytes,
        }
    }
}

impl MessageSource for () {
    fn take(&mut self, _: &StreamName, _: usize, _: &mut VecDeque<Bytes>) -> bool {
        false
    }
}

impl MessageSource for BTreeMap<StreamName, SendQueue> {
    fn take(&mut self, stream: &StreamName, budget: usize, out: &mut VecDeque<Bytes>) -> bool {
        let Some(queue) = self.get_mut(stream) else {
            return false;
        };
        queue.take(budget, out);
        !queue.is_empty()
    }
}

/// Moves the first messages behind those of `to`: all at once if no others are left.
fn move_front(from: &mut VecDeque<Bytes>, count: usize, to: &mut VecDeque<Bytes>) {
    if count == from.len() {
        to.append(from);
    } else {
        to.extend(from.drain(..count));
    }
}

/// What a queue keeps when it runs empty.
const IDLE_CAPACITY: usize = 64;
/// Bytes that frame and record add to a message, roughly: exact in v1, one or two more in v1-go.
pub(crate) const MESSAGE_OVERHEAD: usize = 32;
