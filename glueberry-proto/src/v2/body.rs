//! A message that is gathered from several records (WIRE.md §8.4).

use core::fmt;

use bytes::{Buf, Bytes, BytesMut};

use super::record::{Kind, Opener, append, text_len};
use super::violation::Violation;

/// A message of which not all has arrived.
pub(crate) struct Body {
    /// A byte of no meaning, and behind it what has arrived. A record is opened to where its type byte
    /// falls on the last byte there is, which is put back.
    gathered: BytesMut,
    len: usize,
    missing: usize,
    /// It was received before, and is dropped.
    is_repeated: bool,
}

/// Without what messages hold.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("len", &self.len)
            .field("missing", &self.missing)
            .field("is_repeated", &self.is_repeated)
            .finish_non_exhaustive()
    }
}

impl Body {
    pub(crate) fn new(len: usize, is_repeated: bool) -> Self {
        Self { gathered: BytesMut::new(), len, missing: len, is_repeated }
    }

    pub(crate) const fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    pub(crate) const fn is_whole(&self) -> bool {
        self.missing == 0
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Returns how many bytes of it are held.
    pub(crate) fn held(&self) -> usize {
        self.gathered.len().saturating_sub(1)
    }

    /// Takes what is the message's from the front of `bytes`; returns how many bytes that are.
    /// `longest` is the length of a message that the peer has sent before.
    pub(crate) fn fill(&mut self, bytes: &[u8], longest: usize) -> usize {
        let taken = bytes.len().min(self.missing);
        if !self.is_repeated {
            self.make_room(taken, longest);
            append(&mut self.gathered, &bytes[..taken]);
        }
        self.missing -= taken;
        taken
    }

    /// True if all that a record carries is the message's, so that it can be opened into it.
    pub(crate) const fn takes(&self, record: usize) -> bool {
        !self.is_repeated && text_len(record) <= self.missing + 1
    }

    /// Opens a record that [`takes`](Self::takes) allows, without another copy of it. Returns its
    /// kind, which is not checked.
    pub(crate) fn open(
        &mut self,
        opener: &mut Opener,
        record: &[u8],
        longest: usize,
    ) -> Result<Kind, Violation> {
        let text = text_len(record.len());
        self.make_room(text - 1, longest);
        let start = self.gathered.len() - 1;
        let last = self.gathered[start];
        self.gathered.resize(start + text, 0);
        let opened = opener.open_into(record, &mut self.gathered[start..])?;
        self.gathered[start] = last;
        let carried = opened.slice.len();
        if carried + 1 < text {
            // Padding stood around it.
            let slice = start + opened.slice.start..start + opened.slice.end;
            self.gathered.copy_within(slice, start + 1);
            self.gathered.truncate(start + 1 + carried);
        }
        self.missing -= carried;
        Ok(opened.kind)
    }

    /// Makes room for that many bytes, and at first for the one ahead. Memory grows only with bytes
    /// received: to twice what there is, or at once to the size of a message that the peer has sent
    /// before.
    fn make_room(&mut self, needed: usize, longest: usize) {
        let held = self.gathered.len().max(1) - 1;
        if self.gathered.capacity() <= held + needed {
            let room = (2 * held).max(held + needed).max(longest).min(self.len);
            let mut grown = BytesMut::with_capacity(1 + room);
            append(&mut grown, &self.gathered);
            self.gathered = grown;
        }
        if self.gathered.is_empty() {
            self.gathered.extend_from_slice(&[0]);
        }
    }

    /// Returns the message, with what it occupies.
    pub(crate) fn finish(mut self) -> (Bytes, usize) {
        let cost = self.gathered.capacity();
        self.gathered.advance(self.gathered.len().min(1));
        (self.gathered.freeze(), cost)
    }
}
