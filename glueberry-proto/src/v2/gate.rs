//! The state machine of the handshake substream (WIRE.md §6, §11.1): what each side may send when,
//! the key exchange, its confirmation, and the control channel that stays.

use std::fmt;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Role;
use super::agreement::{Binding, Ephemeral, Transcript};
use super::control::{Abandon, Bucket, Close};
use super::frame::{self, FrameType, Header, MAX_APP};
use super::kex::Kex;
use super::record::{Cipher, Kind, Opener, Sealer};
use super::schedule::Master;
use super::suite::Suite;
use super::violation::Violation;
use crate::crypto::{Aead, Identity, PublicKey, SharedKey, hmac};
use crate::time::Instant;

/// What a gate is made with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) role: Role,
    pub(crate) identity: Arc<Identity>,
    /// The peer's identity, which the transport has authenticated.
    pub(crate) peer: PublicKey,
    pub(crate) aead: Arc<dyn Aead>,
    /// Suites to offer.
    pub(crate) suites: Vec<Suite>,
    pub(crate) ephemeral: Ephemeral,
    /// The best channel binding that there is.
    pub(crate) binding: Binding,
    /// What both sides' configurations must have alike.
    pub(crate) application: Vec<u8>,
    pub(crate) now: Instant,
}

/// One side's end of the handshake substream.
pub(crate) struct Gate {
    role: Role,
    identity: Arc<Identity>,
    peer: PublicKey,
    aead: Arc<dyn Aead>,
    suites: Vec<Suite>,
    binding: Binding,
    application: Vec<u8>,
    own_kex: Vec<u8>,
    exchange: Exchange,
    writing: Writing,
    reading: Reading,
    /// Of what each side wrote in the clear before its confirmation.
    written: Sha256,
    read: Sha256,
    /// Opened, and not looked at.
    plain: BytesMut,
    abandoned: Vec<Abandon>,
    /// How this side ends.
    last: Option<Close>,
    /// Of control frames.
    from_peer: Bucket,
    to_peer: Bucket,
    /// When a control frame may be written that has to wait.
    waits_until: Option<Instant>,
    /// Bytes of handshake messages that came when the handshake was over here.
    dropped: usize,
}

/// How far the key exchange is.
enum Exchange {
    Waiting(Ephemeral),
    Agreed(Box<Agreed>),
}

/// What follows from a key exchange that is done.
struct Agreed {
    terms: Terms,
    cipher: Cipher,
    /// Until Established.
    master: Option<Master>,
    /// Until the confirmation was written.
    own_confirm: Option<SharedKey>,
    /// Until the confirmation was verified.
    peers_confirm: Option<SharedKey>,
    th: [u8; 32],
    exporter: SharedKey,
    sealer: Sealer,
    opener: Opener,
}

/// What both sides have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) suite: Suite,
    pub(crate) binding: Binding,
    pub(crate) session: [u8; 16],
}

/// What this side writes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Kex,
    Clear,
    Sealed,
    Finished,
    Over,
}

/// What the peer may write next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    First,
    Clear,
    Sealed,
    Finished,
    Over,
}

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes are missing.
    More { missing: usize },
    /// A frame was read, of which nobody needs to know.
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
    /// The peer ends the session with this code, or somebody says so.
    Aborted(u16),
    /// Nothing more is read.
    Over,
}

/// What this side's application has done, and what it has to send.
pub(crate) trait Application {
    /// Removes and returns the next handshake message that may be sent.
    fn next_message(&mut self) -> Option<Bytes>;

    /// True if no message follows those there are.
    fn is_finished(&self) -> bool;
}

impl Gate {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { role, identity, peer, aead, suites, ephemeral, binding, application, now } =
            setup;
        let own_kex = Kex {
            bindings: binding.mask(),
            suites: suites.iter().map(|suite| suite.code()).collect(),
            ephemeral: *ephemeral.public(),
            kem_key: None,
        };
        Self {
            role,
            identity,
            peer,
            aead,
            suites,
            binding,
            application,
            own_kex: own_kex.emit(),
            exchange: Exchange::Waiting(ephemeral),
            writing: Writing::Kex,
            reading: Reading::First,
            written: Sha256::new(),
            read: Sha256::new(),
            plain: BytesMut::new(),
            abandoned: Vec::new(),
            last: None,
            from_peer: Bucket::of_peer(now),
            to_peer: Bucket::of_this_side(now),
            waits_until: None,
            dropped: 0,
        }
    }

    /// Has the key exchange say something else than what this side offers.
    #[cfg(test)]
    pub(crate) fn set_kex(&mut self, frame: Vec<u8>) {
        self.own_kex = frame;
    }

    // ---- what is known ------------------------------------------------------------------------

    pub(crate) const fn role(&self) -> Role {
        self.role
    }

    /// Returns what both sides have agreed on, once they have.
    pub(crate) const fn terms(&self) -> Option<&Terms> {
        match &self.exchange {
            Exchange::Waiting(_) => None,
            Exchange::Agreed(agreed) => Some(&agreed.terms),
        }
    }

    pub(crate) const fn cipher(&self) -> Option<&Cipher> {
        match &self.exchange {
            Exchange::Waiting(_) => None,
            Exchange::Agreed(agreed) => Some(&agreed.cipher),
        }
    }

    /// Returns the secret for the application.
    pub(crate) const fn exporter(&self) -> Option<&SharedKey> {
        match &self.exchange {
            Exchange::Waiting(_) => None,
            Exchange::Agreed(agreed) => Some(&agreed.exporter),
        }
    }

    /// True if the peer's confirmation was verified.
    pub(crate) const fn is_confirmed(&self) -> bool {
        match &self.exchange {
            Exchange::Waiting(_) => false,
            Exchange::Agreed(agreed) => agreed.peers_confirm.is_none(),
        }
    }

    /// True if the peer has ended the session by the last frame that it sends.
    pub(crate) fn is_read_over(&self) -> bool {
        self.reading == Reading::Over
    }

    /// True if the last frame of this side was written.
    pub(crate) fn is_written_over(&self) -> bool {
        self.writing == Writing::Over
    }

    /// Takes the session's secret, to derive those of the streams from it and wipe it.
    pub(crate) fn take_master(&mut self) -> Option<Master> {
        match &mut self.exchange {
            Exchange::Waiting(_) => None,
            Exchange::Agreed(agreed) => agreed.master.take(),
        }
    }

    // ---- what this side writes ----------------------------------------------------------------

    /// An instance of this side broke: tells the peer, if the limits leave room for it.
    pub(crate) fn abandon(&mut self, abandon: Abandon) {
        // It saves the peer a wait, no more.
        if self.abandoned.len() < MAX_ABANDONED {
            self.abandoned.push(abandon);
        }
    }

    /// Ends this side's direction: sealed and with its counts, or in the clear with the code only if
    /// this side's confirmation was not written.
    pub(crate) fn end(&mut self, close: Close) {
        self.last.get_or_insert(close);
    }

    /// Returns when a control frame may be written that has to wait.
    pub(crate) const fn waits_until(&self) -> Option<Instant> {
        self.waits_until
    }

    /// Control frames that had to wait are written next.
    pub(crate) const fn stop_waiting(&mut self) {
        self.waits_until = None;
    }

    /// Writes until `out` is `full` bytes long. One frame may exceed it.
    pub(crate) fn write(
        &mut self,
        out: &mut BytesMut,
        full: usize,
        now: Instant,
        application: &mut dyn Application,
    ) {
        // Once there are keys the last frame is a sealed one, behind this side's confirmation.
        if self.last.is_some() && matches!(self.exchange, Exchange::Waiting(_)) {
            return self.write_abort(out);
        }
        if self.writing == Writing::Kex {
            let start = out.len();
            frame::emit(FrameType::Kex, &self.own_kex[1..], out);
            self.written.update(&out[start..]);
            self.writing = Writing::Clear;
        }
        if self.writing == Writing::Clear {
            self.write_confirm(out);
        }
        match self.writing {
            Writing::Clear => {
                while out.len() < full
                    && let Some(message) = application.next_message()
                {
                    let start = out.len();
                    frame::emit(FrameType::App, &message, out);
                    self.written.update(&out[start..]);
                }
            }
            Writing::Sealed | Writing::Finished => self.write_sealed(out, full, now, application),
            Writing::Kex | Writing::Over => {}
        }
    }

    fn write_abort(&mut self, out: &mut BytesMut) {
        if let Some(close) = self.last.take() {
            frame::emit(FrameType::Abort, &close.code.to_be_bytes(), out);
            self.writing = Writing::Over;
        }
    }

    /// Proves to the peer that this side has the keys, once it has.
    fn write_confirm(&mut self, out: &mut BytesMut) {
        if let Exchange::Agreed(agreed) = &mut self.exchange
            && let Some(key) = agreed.own_confirm.take()
        {
            let written: [u8; 32] = std::mem::take(&mut self.written).finalize().into();
            let mac = hmac(key.as_bytes(), &[&agreed.th, &written]);
            frame::emit(FrameType::Confirm, mac.as_bytes(), out);
            self.writing = Writing::Sealed;
        }
    }

    fn write_sealed(
        &mut self,
        out: &mut BytesMut,
        full: usize,
        now: Instant,
        application: &mut dyn Application,
    ) {
        let Exchange::Agreed(agreed) = &mut self.exchange else {
            return;
        };
        let mut writer = agreed.sealer.write(out, now);
        let mut header = BytesMut::new();
        let mut put = |kind, body: &[u8]| {
            header.clear();
            frame::emit_header(kind, body.len(), &mut header);
            writer.reserve(header.len() + body.len());
            writer.put(&header);
            writer.put(body);
            writer.len()
        };
        let mut is_full = false;
        if self.last.is_none() {
            while !is_full && let Some(message) = application.next_message() {
                is_full = put(FrameType::App, &message) >= full;
            }
            if !is_full && self.writing == Writing::Sealed && application.is_finished() {
                put(FrameType::Finished, &[]);
                self.writing = Writing::Finished;
            }
            while !self.abandoned.is_empty() && self.to_peer.take(now) {
                put(FrameType::Abandon, &self.abandoned.remove(0).emit());
            }
            self.waits_until = (!self.abandoned.is_empty()).then(|| self.to_peer.ready_at());
        } else if let Some(close) = self.last.take() {
            put(FrameType::Close, &close.emit());
            self.writing = Writing::Over;
        }
        writer.finish();
    }

    // ---- what the peer writes -----------------------------------------------------------------

    /// Reads the next frame from the front of `buf`. With `is_finished`, this side's application has
    /// no more use for messages.
    pub(crate) fn read(
        &mut self,
        buf: &mut BytesMut,
        is_finished: bool,
        now: Instant,
    ) -> Result<Step, Violation> {
        match self.reading {
            Reading::First | Reading::Clear => self.read_clear(buf, is_finished),
            Reading::Sealed | Reading::Finished => self.read_sealed(buf, is_finished, now),
            Reading::Over => {
                buf.clear();
                Ok(Step::Over)
            }
        }
    }

    fn read_clear(&mut self, buf: &mut BytesMut, is_finished: bool) -> Result<Step, Violation> {
        let Some(header) = Header::parse(buf)? else {
            return Ok(Step::More { missing: 1 });
        };
        let is_allowed = match header.kind {
            FrameType::Kex => self.reading == Reading::First,
            FrameType::Confirm | FrameType::App => self.reading == Reading::Clear,
            FrameType::Abort => true,
            _ => false,
        };
        if !is_allowed {
            return Err(Violation::UnexpectedFrame);
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
            FrameType::Kex => self.agree(&frame[header.prefix..])?,
            FrameType::Confirm => {
                self.verify(body)?;
                return Ok(Step::Confirmed);
            }
            FrameType::Abort => {
                self.reading = Reading::Over;
                let code = body.first_chunk().copied().unwrap_or_default();
                return Ok(Step::Aborted(known_code(u16::from_be_bytes(code))));
            }
            _ => return self.message(Bytes::copy_from_slice(body), is_finished),
        }
        Ok(Step::Agreed)
    }

    /// Does the key exchange, with the peer's frame from its type on.
    fn agree(&mut self, peers: &[u8]) -> Result<(), Violation> {
        let kex = Kex::parse(&peers[1..], self.role.other())?;
        let Exchange::Waiting(ephemeral) = &self.exchange else {
            return Err(Violation::UnexpectedFrame);
        };
        ephemeral.check_peers(&kex.ephemeral, &self.identity)?;
        let suite = Suite::choose(&self.suites, &kex.suites).ok_or(Violation::NoCommonSuite)?;
        let binding = self.binding.choose(self.own_bindings(), kex.bindings)?;
        let transcript = Transcript {
            suite,
            kex: self.role.ordered(&self.own_kex, peers),
            kem_ciphertext: &[],
            identities: self.role.ordered(self.identity.public_key(), self.peer),
            binding,
            application: &self.application,
        };
        let th = transcript.hash();
        let master = ephemeral.agree(self.role, &kex.ephemeral, &self.identity, &self.peer, th)?;
        let cipher = Cipher { aead: self.aead.clone(), suite };
        let (own, peers) = (self.role, self.role.other());
        // The ephemeral is wiped by this.
        self.exchange = Exchange::Agreed(Box::new(Agreed {
            terms: Terms { suite, binding, session: master.session_id() },
            own_confirm: Some(master.confirm_key(own)),
            peers_confirm: Some(master.confirm_key(peers)),
            exporter: master.exporter(),
            sealer: Sealer::new(cipher.clone(), &master.control(own)),
            opener: Opener::new(cipher.clone(), &master.control(peers)),
            th,
            cipher,
            master: Some(master),
        }));
        self.reading = Reading::Clear;
        Ok(())
    }

    /// Returns the mask that this side has offered, which is in its frame.
    fn own_bindings(&self) -> u8 {
        self.own_kex.get(2).copied().unwrap_or(0)
    }

    fn verify(&mut self, mac: &[u8]) -> Result<(), Violation> {
        let Exchange::Agreed(agreed) = &mut self.exchange else {
            return Err(Violation::UnexpectedFrame);
        };
        let key = agreed.peers_confirm.as_ref().ok_or(Violation::UnexpectedFrame)?;
        let read: [u8; 32] = std::mem::take(&mut self.read).finalize().into();
        let expected = hmac(key.as_bytes(), &[&agreed.th, &read]);
        if !bool::from(expected.as_bytes().as_slice().ct_eq(mac)) {
            return Err(Violation::BadConfirm);
        }
        agreed.peers_confirm = None;
        self.reading = Reading::Sealed;
        Ok(())
    }

    fn read_sealed(
        &mut self,
        buf: &mut BytesMut,
        is_finished: bool,
        now: Instant,
    ) -> Result<Step, Violation> {
        loop {
            if let Some(header) = Header::parse(&self.plain)? {
                self.check_sealed(header.kind)?;
                if header.total() <= self.plain.len() {
                    let frame = self.plain.split_to(header.total());
                    if self.plain.is_empty() {
                        // Most of the time nothing is on its way.
                        self.plain = BytesMut::new();
                    }
                    return self.frame(&header, &frame[header.prefix + 1..], is_finished, now);
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
        is_finished: bool,
        now: Instant,
    ) -> Result<Step, Violation> {
        match header.kind {
            FrameType::App => self.message(Bytes::copy_from_slice(body), is_finished),
            FrameType::Finished => {
                self.reading = Reading::Finished;
                Ok(Step::Read)
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
    fn message(&mut self, message: Bytes, is_finished: bool) -> Result<Step, Violation> {
        if !is_finished {
            return Ok(Step::Message(message));
        }
        self.dropped = self.dropped.saturating_add(message.len());
        if self.dropped > MAX_APP {
            return Err(Violation::Limit);
        }
        Ok(Step::Read)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("role", &self.role)
            .field("terms", &self.terms())
            .field("writing", &self.writing)
            .field("reading", &self.reading)
            .finish_non_exhaustive()
    }
}

/// Returns the code of an end, or that of misbehaviour for one that this version does not know.
const fn known_code(code: u16) -> u16 {
    match code {
        0..=7 | 16..=31 => code,
        _ => 5,
    }
}

/// Abandoned instances that wait to be told to the peer.
const MAX_ABANDONED: usize = 64;
