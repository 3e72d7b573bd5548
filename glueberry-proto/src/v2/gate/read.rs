//! What the peer writes on the handshake substream, and what comes of it.

use bytes::{Buf, Bytes, BytesMut};
use sha2::Digest;

use super::{Exchange, Gate, Reading, is_confirmation};
use crate::time::Instant;
use crate::v2::control::{Abandon, Close};
use crate::v2::frame::{FrameType, Header, MAX_APP};
use crate::v2::record::{Kind, Opener};
use crate::v2::violation::Violation;

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bytes are missing, at least that many.
    More { missing: usize },
    /// A frame was read that needs no action.
    Read,
    /// The keys are known; there is something to write.
    Agreed,
    /// The peer has proven that it has the same keys.
    Confirmed,
    /// A message of the application.
    Message(Bytes),
    /// An instance of a stream is not waited for.
    Abandoned(Abandon),
    /// The peer ends the session, which is certain.
    Closed(Close),
    /// The peer's application has finalized: it prepares no more streams.
    Finished,
    /// The peer ends the session with this code, or an attacker says so.
    Aborted(u16),
    /// The next frame is a message of the application, for which there is no room.
    Full,
    /// Nothing more is read.
    Over,
}

/// What becomes of the next message of the peer's application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Messages {
    Taken,
    /// There is no room for it, but for frames that are ahead of it.
    Wait,
    /// The handshake is over here.
    Dropped,
}

impl Gate {
    /// Reads the next frame from the front of `buf`.
    pub(crate) fn read(
        &mut self,
        buf: &mut BytesMut,
        messages: Messages,
        now: Instant,
    ) -> Result<Step, Violation> {
        match self.reading {
            Reading::First | Reading::Clear => self.read_clear(buf, messages),
            Reading::Sealed | Reading::Finished => self.read_sealed(buf, messages, now),
            Reading::Over => {
                buf.clear();
                Ok(Step::Over)
            }
        }
    }

    fn read_clear(&mut self, buf: &mut BytesMut, messages: Messages) -> Result<Step, Violation> {
        let Some(header) = Header::parse(buf)? else {
            return Ok(Step::More { missing: 1 });
        };
        let is_allowed = match header.kind {
            FrameType::Kex => self.reading == Reading::First,
            FrameType::KemCiphertext => self.needs_ciphertext(),
            FrameType::Confirm => self.reading == Reading::Clear && !self.needs_ciphertext(),
            FrameType::App => self.reading == Reading::Clear,
            FrameType::Abort => true,
            _ => false,
        };
        if !is_allowed {
            return Err(Violation::UnexpectedFrame);
        }
        if header.kind == FrameType::App && messages == Messages::Wait {
            return Ok(Step::Full);
        }
        let missing = header.total().saturating_sub(buf.len());
        if missing > 0 {
            return Ok(Step::More { missing });
        }
        let frame = buf.split_to(header.total());
        let body = &frame[header.prefix + 1..];
        if header.kind != FrameType::Confirm {
            self.read.update(&frame);
        }
        match header.kind {
            FrameType::Kex => self.exchange(&frame[header.prefix..]),
            FrameType::KemCiphertext => self.decapsulate(&frame[header.prefix..]),
            FrameType::Confirm => {
                self.verify(body)?;
                Ok(Step::Confirmed)
            }
            FrameType::Abort => {
                self.reading = Reading::Over;
                let code = body.first_chunk().copied().unwrap_or_default();
                Ok(Step::Aborted(known_code(u16::from_be_bytes(code))))
            }
            _ => self.message(Bytes::copy_from_slice(body), messages),
        }
    }

    fn verify(&mut self, mac: &[u8]) -> Result<(), Violation> {
        let Exchange::Agreed(agreed) = &mut self.exchange else {
            return Err(Violation::UnexpectedFrame);
        };
        let key = agreed.peers_confirm.as_ref().ok_or(Violation::UnexpectedFrame)?;
        let read: [u8; 32] = core::mem::take(&mut self.read).finalize().into();
        if !is_confirmation(key, &agreed.th, &read, mac) {
            return Err(Violation::BadConfirm);
        }
        agreed.peers_confirm = None;
        self.reading = Reading::Sealed;
        Ok(())
    }

    fn read_sealed(
        &mut self,
        buf: &mut BytesMut,
        messages: Messages,
        now: Instant,
    ) -> Result<Step, Violation> {
        loop {
            if let Some(header) = Header::parse(&self.plain)? {
                self.check_sealed(header.kind)?;
                if header.kind == FrameType::App && messages == Messages::Wait {
                    return Ok(Step::Full);
                }
                if header.total() <= self.plain.len() {
                    let frame = self.plain.split_to(header.total());
                    if self.plain.is_empty() {
                        // Most of the time nothing is on its way.
                        self.plain = BytesMut::new();
                    }
                    return self.frame(&header, &frame[header.prefix + 1..], messages, now);
                }
            }
            let Exchange::Agreed(agreed) = &mut self.exchange else {
                return Err(Violation::UnexpectedFrame);
            };
            let Some(len) = Opener::record_len(buf)? else {
                return Ok(Step::More { missing: 1 });
            };
            let missing = len.saturating_sub(buf.len());
            if missing > 0 {
                return Ok(Step::More { missing });
            }
            let opened = agreed.opener.open(&mut buf[..len])?;
            if agreed.opener.take_short_epochs() > 0 && !self.from_peer.take(now) {
                return Err(Violation::Rate);
            }
            if opened.kind != Kind::Data {
                return Err(Violation::BadRecord);
            }
            self.plain.extend_from_slice(&buf[opened.slice]);
            buf.advance(len);
        }
    }

    fn check_sealed(&self, kind: FrameType) -> Result<(), Violation> {
        let is_allowed = match kind {
            FrameType::App | FrameType::Finished => self.reading == Reading::Sealed,
            FrameType::Close | FrameType::Abandon | FrameType::Reserved(_) => true,
            FrameType::Kex | FrameType::KemCiphertext | FrameType::Confirm | FrameType::Abort => {
                false
            }
        };
        if is_allowed { Ok(()) } else { Err(Violation::UnexpectedFrame) }
    }

    /// A sealed frame has arrived.
    fn frame(
        &mut self,
        header: &Header,
        body: &[u8],
        messages: Messages,
        now: Instant,
    ) -> Result<Step, Violation> {
        match header.kind {
            FrameType::App => self.message(Bytes::copy_from_slice(body), messages),
            FrameType::Finished => {
                self.reading = Reading::Finished;
                Ok(Step::Finished)
            }
            FrameType::Close => {
                let mut close = Close::parse(body)?;
                close.code = known_code(close.code);
                self.reading = Reading::Over;
                Ok(Step::Closed(close))
            }
            FrameType::Abandon | FrameType::Reserved(_) if !self.from_peer.take(now) => {
                Err(Violation::Rate)
            }
            FrameType::Abandon => Ok(Step::Abandoned(Abandon::parse(body)?)),
            _ => Ok(Step::Read),
        }
    }

    /// A message of the application has arrived. Once the handshake is over here it is dropped.
    fn message(&mut self, message: Bytes, messages: Messages) -> Result<Step, Violation> {
        if messages != Messages::Dropped {
            return Ok(Step::Message(message));
        }
        self.dropped = self.dropped.saturating_add(message.len());
        if self.dropped > MAX_APP {
            return Err(Violation::Limit);
        }
        Ok(Step::Read)
    }
}

/// Returns the code of an end, or that of misbehaviour for one that this version does not know.
const fn known_code(code: u16) -> u16 {
    match code {
        0..=7 | 16..=31 => code,
        _ => 5,
    }
}
