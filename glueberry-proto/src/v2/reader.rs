//! Reads one instance of a stream: records opened where they lie, messages gathered from them
//! (WIRE.md §8.3 to §8.6).

use core::fmt;

use bytes::{Buf, Bytes, BytesMut};

use super::body::Body;
use super::control::Received;
use super::frame::parse_varint;
use super::instance::Open;
use super::record::{Cipher, Kind, Opener};
use super::violation::Violation;
use crate::crypto::SharedKey;
use crate::prelude::*;

/// Where the messages of an instance go.
pub(crate) trait Sink {
    /// True if there is room for a message of `len` bytes.
    fn admits(&self, len: usize) -> bool;

    /// Learns that so many messages may follow at once.
    fn expect(&mut self, messages: usize);

    /// Takes the next message, with what it occupies.
    fn message(&mut self, message: Bytes, cost: usize);

    /// Messages were given up by the sender.
    fn lost(&mut self, messages: u64);
}

/// How far reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// So many bytes are missing from the next record.
    More { missing: usize },
    /// The sink has no room.
    Full,
    /// The instance has ended cleanly.
    Closed,
}

/// A message that is being received, of which the session has taken a part: see
/// [`Session::partial_message`](crate::Session::partial_message).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialMessage {
    /// Its number among those of the substream's stream.
    pub number: u64,
    /// Its length in bytes, as far as that is known. Zero if nothing of it is kept.
    pub len: usize,
    /// How many bytes the session holds.
    pub held: usize,
}

/// One instance, from the first record on.
pub(crate) struct Reader {
    opener: Opener,
    instance: u32,
    phase: Phase,
    /// The number of the message that is gathered or comes next.
    number: u64,
    /// Opened, and not looked at.
    plain: Bytes,
    /// The front of a message's length.
    length: Vec<u8>,
    body: Option<Body>,
    /// The longest message that was gathered from several records lately.
    longest: usize,
}

/// Without what messages hold.
impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("instance", &self.instance)
            .field("phase", &self.phase)
            .field("number", &self.number)
            .field("plain", &self.plain.len())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its first record is awaited.
    Opening,
    Open,
    Closed,
}

impl Reader {
    pub(crate) fn new(cipher: Cipher, secret: &SharedKey, instance: u32) -> Self {
        Self {
            opener: Opener::new(cipher, secret),
            instance,
            phase: Phase::Opening,
            number: 0,
            plain: Bytes::new(),
            length: Vec::new(),
            body: None,
            longest: 0,
        }
    }

    /// Returns how many epochs of few records the peer has ended since the last call.
    pub(crate) const fn take_short_epochs(&mut self) -> u32 {
        self.opener.take_short_epochs()
    }

    /// True if it has ended cleanly.
    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Returns the message of which a part was taken out of the substream's buffer.
    pub(crate) fn partial(&self) -> Option<PartialMessage> {
        let body = self.body.as_ref();
        let opened = self.plain.len() + self.length.len();
        (body.is_some() || opened > 0).then(|| PartialMessage {
            number: self.number,
            // What was received before is not gathered.
            len: body.filter(|body| !body.is_repeated()).map_or(0, Body::len),
            held: opened + body.map_or(0, Body::held),
        })
    }

    /// Takes records from the front of `buf` for as long as the sink has room.
    pub(crate) fn read(
        &mut self,
        buf: &mut BytesMut,
        limit: usize,
        received: &mut Received,
        sink: &mut impl Sink,
    ) -> Result<Progress, ReadError> {
        loop {
            if !self.take_plain(limit, received, sink)? {
                return Ok(Progress::Full);
            }
            if self.is_closed() {
                return match buf.is_empty() {
                    true => Ok(Progress::Closed),
                    false => Err(Violation::BadRecord.into()),
                };
            }
            // Before the record: a full queue doesn't look at what is next.
            if self.body.is_none() && !sink.admits(0) {
                return Ok(Progress::Full);
            }
            let Some(len) = Opener::record_len(buf)? else {
                return Ok(Progress::More { missing: 2 - buf.len() });
            };
            let missing = len.saturating_sub(buf.len());
            if missing > 0 {
                return Ok(Progress::More { missing });
            }
            self.open(buf, len, received, sink)?;
        }
    }

    /// Opens the record that `buf` begins with and removes it.
    fn open(
        &mut self,
        buf: &mut BytesMut,
        len: usize,
        received: &mut Received,
        sink: &mut impl Sink,
    ) -> Result<(), Violation> {
        if let Some(body) = self.body.as_mut().filter(|body| body.takes(len)) {
            if body.open(&mut self.opener, &buf[..len], self.longest)? != Kind::Data {
                return Err(Violation::BadRecord);
            }
            self.finish_body(received, sink);
            buf.advance(len);
            return Ok(());
        }
        let opened = self.opener.open(&mut buf[..len])?;
        let slice = &buf[opened.slice.clone()];
        match (self.phase, opened.kind) {
            (Phase::Opening, Kind::Open) => {
                let open = Open::parse(slice, self.instance)?;
                self.begin(open, received, sink);
            }
            (Phase::Open, Kind::Close) => {
                if slice.len() != 2 || self.body.is_some() || !self.length.is_empty() {
                    return Err(Violation::BadRecord);
                }
                self.phase = Phase::Closed;
            }
            (Phase::Open, Kind::Data) => {
                let longest = self.longest;
                let taken = self.body.as_mut().map_or(0, |body| body.fill(slice, longest));
                let start = opened.slice.start + taken;
                self.finish_body(received, sink);
                // What is handed out are views of the plaintext. It is copied if that keeps less
                // memory alive: once for all the messages in it.
                let rest = start..opened.slice.end;
                if 2 * len < buf.capacity() || rest.is_empty() {
                    self.plain = Bytes::copy_from_slice(&buf[rest]);
                } else {
                    let mut record = buf.split_to(len);
                    record.truncate(rest.end);
                    record.advance(rest.start);
                    self.plain = record.freeze();
                    return Ok(());
                }
            }
            _ => return Err(Violation::BadRecord),
        }
        buf.advance(len);
        Ok(())
    }

    /// The instance begins with this message.
    fn begin(&mut self, open: Open, received: &mut Received, sink: &mut impl Sink) {
        let lost = open.first.saturating_sub(received.next);
        if lost > 0 {
            received.lost = received.lost.saturating_add(lost);
            received.next = open.first;
            sink.lost(lost);
        }
        self.number = open.first;
        self.phase = Phase::Open;
    }

    /// Hands out the messages in what was opened. False if the sink has no room for the next.
    fn take_plain(
        &mut self,
        limit: usize,
        received: &mut Received,
        sink: &mut impl Sink,
    ) -> Result<bool, ReadError> {
        let mut is_first = true;
        while !self.plain.is_empty() || !self.length.is_empty() {
            if !sink.admits(0) {
                return Ok(false);
            }
            let Some((len, taken)) = self.peek_length()? else {
                self.length.extend_from_slice(&self.plain);
                self.plain = Bytes::new();
                return Ok(true);
            };
            let Some(len) = usize::try_from(len).ok().filter(|len| *len <= limit) else {
                return Err(ReadError::TooLarge { announced: len.into(), limit });
            };
            let is_repeated = self.number < received.next;
            if !is_repeated && !sink.admits(len) {
                return Ok(false);
            }
            if core::mem::take(&mut is_first) {
                // The others are most often as long as the first.
                sink.expect(self.plain.len() / (len + taken).max(1));
            }
            self.plain.advance(taken);
            self.length.clear();
            if len <= self.plain.len() {
                let message = self.plain.split_to(len);
                self.number += 1;
                if !is_repeated {
                    received.next = self.number;
                    sink.message(message, len + taken);
                }
            } else {
                let mut body = Body::new(len, is_repeated);
                body.fill(&core::mem::take(&mut self.plain), self.longest);
                self.body = Some(body);
            }
        }
        Ok(true)
    }

    /// Reads the length of the next message, which may have begun in an earlier record. Returns how
    /// many bytes of the plaintext belong to it.
    fn peek_length(&self) -> Result<Option<(u32, usize)>, Violation> {
        let parsed = if self.length.is_empty() {
            parse_varint(&self.plain, MAX_LENGTH, Violation::BadLength)?
        } else {
            let more = self.plain.len().min(MAX_LENGTH - self.length.len());
            let whole = [&self.length, &self.plain[..more]].concat();
            parse_varint(&whole, MAX_LENGTH, Violation::BadLength)?
        };
        let Some((len, taken)) = parsed else {
            return Ok(None);
        };
        let len = u32::try_from(len).map_err(|_| Violation::BadLength)?;
        Ok(Some((len, taken - self.length.len())))
    }

    /// Hands out the message that is gathered, if all of it is there.
    fn finish_body(&mut self, received: &mut Received, sink: &mut impl Sink) {
        if let Some(body) = self.body.take_if(|body| body.is_whole()) {
            self.number += 1;
            if !body.is_repeated() {
                self.longest = body.len().max(self.longest / 2);
                received.next = self.number;
                let (message, cost) = body.finish();
                sink.message(message, cost);
            }
        }
    }
}

/// What the peer has done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// It announced a message above the limit.
    TooLarge {
        /// The announced length in bytes.
        announced: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// It broke a rule.
    Violation(Violation),
}

impl From<Violation> for ReadError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// The number of a message above the limit, as WIRE.md §10.1 gives it.
pub(crate) const TOO_LARGE: u64 = 26;
/// The longest varint of a message's length.
pub(crate) const MAX_LENGTH: usize = 5;
