//! The last messages that were written on an instance, for as long as they may have to be sent again.

use alloc::collections::VecDeque;
use core::fmt;

use bytes::Bytes;

use crate::time::Instant;

/// Messages in the order in which they were written.
///
/// When each was written is kept once for all that were written together: with many small messages a
/// time for each would take as much room as half of them.
#[derive(Default)]
pub(super) struct Kept {
    messages: VecDeque<Bytes>,
    /// Of `messages`.
    bytes: usize,
    /// How many of the messages, one behind the other, were written at which time. None is zero.
    times: VecDeque<(usize, Instant)>,
}

impl Kept {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds messages that are written now, of so many bytes, and leaves `messages` empty.
    pub(super) fn append(&mut self, messages: &mut VecDeque<Bytes>, bytes: usize, now: Instant) {
        debug_assert_eq!(bytes, bytes_of(&*messages), "they are counted as they are");
        self.note(messages.len(), now);
        self.bytes += bytes;
        self.messages.append(messages);
    }

    pub(super) fn push(&mut self, message: Bytes, now: Instant) {
        self.note(1, now);
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    fn note(&mut self, count: usize, now: Instant) {
        match self.times.back_mut() {
            Some((written, at)) if *at == now => *written += count,
            _ if count > 0 => self.times.push_back((count, now)),
            _ => {}
        }
    }

    /// Forgets the oldest until at most `messages` messages and `bytes` bytes are left.
    pub(super) fn limit(&mut self, messages: usize, bytes: usize) {
        let mut excess = self.messages.len().saturating_sub(messages);
        let mut left = self.bytes - bytes_of(self.messages.iter().take(excess));
        while left > bytes
            && let Some(message) = self.messages.get(excess)
        {
            left -= message.len();
            excess += 1;
        }
        self.forget(excess, left);
    }

    /// Forgets what was written long ago.
    pub(super) fn forget_old(&mut self, is_old: impl Fn(Instant) -> bool) {
        let old = self.times.iter().take_while(|(_, at)| is_old(*at));
        let count = old.map(|(count, _)| count).sum();
        let left = self.bytes - bytes_of(self.messages.iter().take(count));
        self.forget(count, left);
    }

    /// Forgets the first messages, behind which so many bytes are left.
    fn forget(&mut self, mut count: usize, left: usize) {
        self.messages.drain(..count);
        self.bytes = left;
        while let Some((written, _)) = self.times.front_mut()
            && count > 0
        {
            let forgotten = count.min(*written);
            *written -= forgotten;
            count -= forgotten;
            if *written == 0 {
                self.times.pop_front();
            }
        }
    }

    /// Returns the messages.
    pub(super) fn into_messages(self) -> VecDeque<Bytes> {
        self.messages
    }
}

/// Returns how many bytes messages have together.
pub(super) fn bytes_of<'a>(messages: impl IntoIterator<Item = &'a Bytes>) -> usize {
    messages.into_iter().map(Bytes::len).sum()
}

/// Without what messages hold.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("messages", &self.messages.len())
            .field("bytes", &self.bytes)
            .field("times", &self.times)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    proptest! {
        /// Beside a list of messages with a time for each.
        #[test]
        fn each_message_has_its_time(steps in prop::collection::vec(
            (0..6_usize, 0..40_usize, 0..3_u64, 0..20_usize, 0..300_usize), 0..40,
        )) {
            let (mut kept, mut model, mut now) = (Kept::default(), VecDeque::new(), 0);
            for (count, len, later, most, bytes) in steps {
                now += later;
                let message = Bytes::from(vec![1; len]);
                let mut batch: VecDeque<Bytes> = (0..count).map(|_| message.clone()).collect();
                model.extend(batch.iter().map(|it| (it.len(), now)));
                match count {
                    1 => kept.push(message, at(now)),
                    _ => {
                        let bytes = bytes_of(&batch);
                        kept.append(&mut batch, bytes, at(now));
                    }
                }
                let sum = |model: &VecDeque<(usize, u64)>| model.iter().map(|it| it.0).sum::<usize>();
                while model.len() > most || sum(&model) > bytes {
                    model.pop_front();
                }
                kept.limit(most, bytes);
                while model.front().is_some_and(|(_, at)| at + 4 <= now) {
                    model.pop_front();
                }
                kept.forget_old(|then| then + Duration::from_millis(4) <= at(now));
                prop_assert_eq!((kept.len(), kept.bytes()), (model.len(), sum(&model)));
                prop_assert_eq!(kept.is_empty(), model.is_empty());
                prop_assert!(kept.times.len() <= kept.len());
            }
            let lens: Vec<usize> = kept.into_messages().iter().map(Bytes::len).collect();
            prop_assert_eq!(lens, model.iter().map(|it| it.0).collect::<Vec<_>>());
        }
    }
}
