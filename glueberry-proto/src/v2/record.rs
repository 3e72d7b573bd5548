//! Records: slices of a byte stream, sealed under keys that follow from each other (WIRE.md §8.1,
//! §8.2).

use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use core::time::Duration;

use bytes::{BufMut, BytesMut};
use zeroize::Zeroizing;

use super::control::Bucket;
use super::padding::Padding;
use super::schedule::{derive, expand};
use super::suite::Suite;
use super::violation::Violation;
use crate::crypto::{Aead, AeadKey, NONCE_LEN, SharedKey, TAG_LEN};
use crate::prelude::*;
use crate::time::Instant;

/// What makes keys: the cipher of a session.
#[derive(Clone, Debug)]
pub(crate) struct Cipher {
    pub(crate) aead: Arc<dyn Aead>,
    pub(crate) suite: Suite,
    /// Of what is sealed.
    pub(crate) padding: Padding,
}

/// What is in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Close,
    Open,
}

/// One key and how much it has sealed or opened, with the secret from which the next follows.
struct Epoch {
    key: Box<dyn AeadKey>,
    iv: Zeroizing<[u8; NONCE_LEN]>,
    next: SharedKey,
    counter: u64,
    blocks: u64,
}

impl Epoch {
    fn new(cipher: &Cipher, secret: &SharedKey) -> Self {
        let secret = secret.as_bytes();
        let key = derive(secret, "key", &[]);
        let mut iv = Zeroizing::new([0; NONCE_LEN]);
        expand(secret, "iv", &[], &mut *iv);
        let next = derive(secret, "rekey", &[]);
        Self { key: cipher.suite.key(&*cipher.aead, &key), iv, next, counter: 0, blocks: 0 }
    }

    fn following(&self, cipher: &Cipher) -> Self {
        Self::new(cipher, &self.next)
    }

    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = *self.iv;
        for (byte, counter) in nonce[4..].iter_mut().zip(self.counter.to_be_bytes()) {
            *byte ^= counter;
        }
        nonce
    }

    /// Counts a record whose ciphertext with its tag has `len` bytes.
    fn count(&mut self, len: usize) {
        self.counter += 1;
        self.blocks += blocks(len);
    }
}

/// Opens the records of one direction of one substream.
pub(crate) struct Opener {
    cipher: Cipher,
    epoch: Epoch,
    /// How many epochs have ended early since that was asked for.
    short: u32,
}

/// A record that was opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) kind: Kind,
    /// Where in the record or the plaintext what it carries is, without padding.
    pub(crate) slice: Range<usize>,
}

impl Opener {
    pub(crate) fn new(cipher: Cipher, secret: &SharedKey) -> Self {
        let epoch = Epoch::new(&cipher, secret);
        Self { cipher, epoch, short: 0 }
    }

    /// Returns how many epochs of few records the peer has ended since the last call: each costs as much
    /// as many records (WIRE.md §8.2).
    pub(crate) const fn take_short_epochs(&mut self) -> u32 {
        core::mem::replace(&mut self.short, 0)
    }

    /// Returns the length of the record that `input` begins with, its length prefix included; `None`
    /// if that has not arrived.
    pub(crate) fn record_len(input: &[u8]) -> Result<Option<usize>, Violation> {
        let Some(len) = input.first_chunk() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes(*len));
        match (MIN_LEN..=MAX_LEN).contains(&len) {
            true => Ok(Some(PREFIX + len)),
            false => Err(Violation::BadRecord),
        }
    }

    /// Opens a whole record where it lies.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<Opened, Violation> {
        let (prefix, sealed) =
            record.split_first_chunk_mut::<PREFIX>().ok_or(Violation::BadRecord)?;
        let (text, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(Violation::BadRecord)?;
        self.epoch
            .key
            .open(&self.epoch.nonce(), prefix, text, tag)
            .map_err(|_| Violation::RecordAuthentication)?;
        let opened = self.opened(text)?;
        let slice = opened.slice.start + PREFIX..opened.slice.end + PREFIX;
        Ok(Opened { slice, ..opened })
    }

    /// Opens a whole record into `text`, which is as long as its plaintext is with the type byte:
    /// [`text_len`]. The slice is where in `text` what it carries is.
    pub(crate) fn open_into(
        &mut self,
        record: &[u8],
        text: &mut [u8],
    ) -> Result<Opened, Violation> {
        let (prefix, sealed) = record.split_first_chunk::<PREFIX>().ok_or(Violation::BadRecord)?;
        let (sealed, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(Violation::BadRecord)?;
        self.epoch
            .key
            .open_into(&self.epoch.nonce(), prefix, sealed, tag, text)
            .map_err(|_| Violation::RecordAuthentication)?;
        self.opened(text)
    }

    /// A record was opened, whose plaintext this is.
    fn opened(&mut self, text: &[u8]) -> Result<Opened, Violation> {
        let first = *text.first().ok_or(Violation::BadRecord)?;
        let is_last = first & LAST != 0;
        self.epoch.count(text.len() + TAG_LEN);
        if self.epoch.blocks > MAX_BLOCKS || (self.epoch.counter == MAX_RECORDS && !is_last) {
            return Err(Violation::EpochLimit);
        }
        if is_last {
            self.short += u32::from(self.epoch.counter < SHORT_EPOCH);
            // More than may come in any time, however it is counted.
            if u64::from(self.short) > Bucket::OF_PEER {
                return Err(Violation::Rate);
            }
            self.epoch = self.epoch.following(&self.cipher);
        }
        let slice = 1..text.len();
        match first & !LAST {
            DATA => Ok(Opened { kind: Kind::Data, slice }),
            CLOSE => Ok(Opened { kind: Kind::Close, slice }),
            PADDED => {
                let slice = unpadded(text, slice).ok_or(Violation::BadRecord)?;
                Ok(Opened { kind: Kind::Data, slice })
            }
            OPEN => Ok(Opened { kind: Kind::Open, slice }),
            _ => Err(Violation::BadRecord),
        }
    }
}

/// Returns how long the plaintext of a record is, its type byte included.
pub(crate) const fn text_len(record: usize) -> usize {
    record.saturating_sub(PREFIX + TAG_LEN)
}

/// Returns where in the plaintext of a padded record its data are.
fn unpadded(text: &[u8], slice: Range<usize>) -> Option<Range<usize>> {
    let len = text.get(slice.clone())?.first_chunk()?;
    let start = slice.start + 2;
    let end = start + usize::from(u16::from_be_bytes(*len));
    (end <= slice.end).then_some(start..end)
}

/// Seals the records of one direction of one substream.
pub(crate) struct Sealer {
    cipher: Cipher,
    epoch: Epoch,
    /// When the first record of the epoch was sealed.
    began: Option<Instant>,
}

impl Sealer {
    pub(crate) fn new(cipher: Cipher, secret: &SharedKey) -> Self {
        let epoch = Epoch::new(&cipher, secret);
        Self { cipher, epoch, began: None }
    }

    /// Begins to write records at the end of `out`.
    pub(crate) const fn write<'a>(&'a mut self, out: &'a mut BytesMut, now: Instant) -> Writer<'a> {
        Writer { sealer: self, out, start: None, now }
    }

    /// Seals the record that begins at `start`, whose plaintext is at the end of `out`.
    fn seal(&mut self, out: &mut BytesMut, start: usize, now: Instant) {
        let len = out.len() - start - PREFIX + TAG_LEN;
        let prefix = u16::try_from(len).expect("a record's plaintext is limited").to_be_bytes();
        let nonce = self.epoch.nonce();
        self.epoch.count(len);
        let began = *self.began.get_or_insert(now);
        let is_last = self.epoch.counter == MAX_RECORDS
            || self.epoch.blocks + MOST_BLOCKS > MAX_BLOCKS
            || now.duration_since(began) >= MAX_AGE;
        let (head, text) = out[start..].split_at_mut(PREFIX);
        head.copy_from_slice(&prefix);
        if is_last {
            text[0] |= LAST;
        }
        let tag = self.epoch.key.seal(&nonce, &prefix, text);
        out.extend_from_slice(&tag);
        if is_last {
            self.epoch = self.epoch.following(&self.cipher);
            self.began = None;
        }
    }

    /// Has the next record be one of so many in its epoch.
    #[cfg(test)]
    pub(crate) const fn set_counts(&mut self, counter: u64, blocks: u64) {
        self.epoch.counter = counter;
        self.epoch.blocks = blocks;
    }
}

#[cfg(test)]
impl Opener {
    pub(crate) const fn set_counts(&mut self, counter: u64, blocks: u64) {
        self.epoch.counter = counter;
        self.epoch.blocks = blocks;
    }
}

/// Writes a byte stream as records: what is put goes straight into the plaintext of the record at the
/// end of the buffer, which is sealed when it is full, and at the latest by [`finish`](Self::finish).
pub(crate) struct Writer<'a> {
    sealer: &'a mut Sealer,
    out: &'a mut BytesMut,
    /// Where in `out` the record begins that is not sealed yet.
    start: Option<usize>,
    now: Instant,
}

impl Writer<'_> {
    /// Appends to the byte stream.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room();
            let (fitting, rest) = bytes.split_at(room.min(bytes.len()));
            append(self.out, fitting);
            bytes = rest;
            if fitting.len() == room {
                self.end();
            }
        }
    }

    /// Appends two parts to the byte stream.
    pub(crate) fn put_both(&mut self, head: &[u8], body: &[u8]) {
        // Most messages are small, and end in the record in which they begin.
        if head.len() + body.len() < self.room() {
            self.out.extend_from_slice(head);
            append(self.out, body);
        } else {
            self.put(head);
            self.put(body);
        }
    }

    /// Returns how many bytes of the byte stream the record takes that is written, which is begun if it
    /// was not.
    #[inline]
    fn room(&mut self) -> usize {
        let start = self.begin_data();
        MAX_SLICE - (self.out.len() - start - PREFIX - 1)
    }

    /// Appends a record of its own.
    pub(crate) fn put_record(&mut self, kind: Kind, slice: &[u8]) {
        self.end();
        self.begin(match kind {
            Kind::Data => DATA,
            Kind::Close => CLOSE,
            Kind::Open => OPEN,
        });
        self.out.extend_from_slice(slice);
        self.end();
    }

    /// Appends a record of its own, with any bytes as padding.
    #[cfg(test)]
    pub(crate) fn put_padded(&mut self, data: &[u8], padding: usize) {
        self.end();
        self.begin(PADDED);
        self.out.put_u16(u16::try_from(data.len()).unwrap());
        self.out.put_slice(data);
        self.out.put_bytes(0xaa, padding);
        self.end();
    }

    /// Makes room for so many more bytes of the byte stream.
    pub(crate) fn reserve(&mut self, len: usize) {
        let records = len / MAX_SLICE + 1;
        self.out.reserve(len.saturating_add(records.saturating_mul(OVERHEAD)));
    }

    /// Returns how long the buffer is, what is not sealed included.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Seals what is left.
    pub(crate) fn finish(mut self) {
        self.end();
    }

    /// Begins a record of the byte stream, unless one has begun.
    fn begin_data(&mut self) -> usize {
        if self.start.is_none() && self.sealer.cipher.padding != Padding::None {
            let start = self.begin(PADDED);
            // The length of the data, known in the end.
            self.out.put_u16(0);
            return start;
        }
        self.begin(DATA)
    }

    fn begin(&mut self, kind: u8) -> usize {
        *self.start.get_or_insert_with(|| {
            let start = self.out.len();
            self.out.put_slice(&[0, 0, kind]);
            start
        })
    }

    fn end(&mut self) {
        if let Some(start) = self.start.take() {
            self.pad(start);
            self.sealer.seal(self.out, start, self.now);
        }
    }
}

impl Writer<'_> {
    /// Ends the plaintext of the record that begins at `start`, if it is a padded one.
    fn pad(&mut self, start: usize) {
        let (padding, begins) = (self.sealer.cipher.padding, start + PREFIX + 1);
        let Some((&mut PADDED, slice)) = self.out[start + PREFIX..].split_first_mut() else {
            return;
        };
        let len = slice.len();
        if padding != Padding::None
            && let Some((data, _)) = slice.split_first_chunk_mut()
        {
            *data = u16::try_from(len - data.len()).expect("a slice is limited").to_be_bytes();
            self.out.resize(begins + padding.padded(len, MAX_SLICE), 0);
        }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("suite", &self.cipher.suite).finish_non_exhaustive()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("suite", &self.cipher.suite).finish_non_exhaustive()
    }
}

/// Copies bytes to the end of `out`. In pieces, because some processors copy a large block that lies a
/// few bytes off its destination within a page twenty times slower than a small one.
pub(crate) fn append(out: &mut BytesMut, bytes: &[u8]) {
    if bytes.len() <= COPY_PIECE {
        return out.extend_from_slice(bytes);
    }
    for piece in bytes.chunks(COPY_PIECE) {
        out.extend_from_slice(piece);
    }
}

/// Returns what a record counts towards the limit of its epoch.
fn blocks(len: usize) -> u64 {
    let blocks = len.saturating_sub(TAG_LEN).div_ceil(16) + 1;
    u64::try_from(blocks).unwrap_or(u64::MAX)
}

/// The bytes of the length.
const PREFIX: usize = 2;
/// The type byte and the tag.
const MIN_LEN: usize = 1 + TAG_LEN;
const MAX_LEN: usize = 16_640;
/// What a record adds to its slice.
pub(crate) const OVERHEAD: usize = PREFIX + MIN_LEN;
/// The longest slice that is sent.
pub(crate) const MAX_SLICE: usize = 16_384;

const DATA: u8 = 0;
const CLOSE: u8 = 1;
const PADDED: u8 = 2;
const OPEN: u8 = 3;
/// The record is the last of its epoch.
const LAST: u8 = 0x80;

const MAX_RECORDS: u64 = 1 << 16;
/// Records of an epoch that may end as often as its sender likes.
const SHORT_EPOCH: u64 = 1 << 10;
const MAX_BLOCKS: u64 = 1 << 26;
/// Of the longest record.
const MOST_BLOCKS: u64 = 1040;
const MAX_AGE: Duration = Duration::from_secs(600);
/// Bytes copied at a time.
const COPY_PIECE: usize = 1024;
