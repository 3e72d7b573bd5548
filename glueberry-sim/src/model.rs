//! What is true, as opposed to what the nodes believe: each message that was accepted, and what
//! became of it.

use bytes::Bytes;

use crate::rng::mix;
use crate::wake::Side;

/// All messages of a run; a message carries its number.
#[derive(Debug, Default)]
pub(crate) struct Model {
    messages: Vec<Sent>,
    pub(crate) delivered: u64,
}

/// A message that a session has accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) link: usize,
    pub(crate) side: Side,
    pub(crate) stream: usize,
    /// Its place among those of its lane.
    pub(crate) place: u64,
    pub(crate) len: usize,
    pub(crate) fate: Fate,
}

/// What is known to have become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Accepted,
    Delivered,
    Unsent,
}

/// One direction of one stream of a session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lane {
    /// Accepted by the sender, which is this end.
    pub(crate) accepted: u64,
    /// Delivered to this end.
    pub(crate) received: u64,
    /// The place behind the last that was delivered to this end.
    pub(crate) next: u64,
    /// Given back to this end.
    pub(crate) unsent: u64,
    /// Reported to this end as in doubt, when substreams broke.
    pub(crate) in_doubt: u64,
    /// Of what this end has written, on substreams that the peer has acknowledged.
    pub(crate) acknowledged: u64,
    /// Written by this end, and when it last was.
    pub(crate) written: (u64, u64),
    /// `send` has refused a message, and no event has told since that it accepts again.
    pub(crate) is_full: bool,
    /// Substreams that were proposed since one was agreed, or the stream was given up.
    pub(crate) attempts: u32,
    /// When a substream was refused last, while messages waited for it.
    pub(crate) refused_at: Option<u64>,
    /// A substream of this end was agreed.
    pub(crate) was_agreed: bool,
}

impl Lane {
    /// This end has written so many messages.
    pub(crate) const fn writes(&mut self, messages: u64, now: u64) {
        self.written = (self.written.0 + messages, now);
    }
}

impl Model {
    /// Returns the text of the next message, of at least eight bytes.
    pub(crate) fn text(&self, len: usize) -> Bytes {
        let number = u64::try_from(self.messages.len()).unwrap_or(u64::MAX);
        let mut text = Vec::with_capacity(len.max(8) + 8);
        text.extend_from_slice(&number.to_le_bytes());
        let filler = mix(number).to_le_bytes();
        while text.len() < len {
            text.extend_from_slice(&filler);
        }
        text.truncate(len.max(8));
        Bytes::from(text)
    }

    /// Takes note that the message with the text of [`text`](Self::text) was accepted.
    pub(crate) fn accepted(
        &mut self,
        link: usize,
        side: Side,
        stream: usize,
        place: u64,
        len: usize,
    ) {
        let len = len.max(8);
        self.messages.push(Sent { link, side, stream, place, len, fate: Fate::Accepted });
    }

    /// Returns how many messages were accepted.
    pub(crate) const fn len(&self) -> usize {
        self.messages.len()
    }

    /// Returns a message by its number.
    pub(crate) fn get(&self, number: usize) -> Option<&Sent> {
        self.messages.get(number)
    }

    /// Returns the message that a text claims to be.
    pub(crate) fn find(&self, text: &[u8]) -> Option<(usize, Sent)> {
        let number = text.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))?;
        let number = usize::try_from(number).ok()?;
        self.messages.get(number).map(|sent| (number, *sent))
    }

    /// Returns whether a text is that of the message, to the last byte.
    pub(crate) fn is_whole(number: usize, sent: &Sent, text: &[u8]) -> bool {
        let filler = mix(u64::try_from(number).unwrap_or(u64::MAX)).to_le_bytes();
        text.len() == sent.len && text[8..].chunks(8).all(|chunk| chunk == &filler[..chunk.len()])
    }

    pub(crate) fn set(&mut self, number: usize, fate: Fate) {
        if let Some(sent) = self.messages.get_mut(number) {
            sent.fate = fate;
        }
    }
}
