//! What this side writes on the handshake substream: the key exchange, the confirmation, and what is
//! sealed behind it.

use bytes::{Bytes, BytesMut};
use sha2::Digest;

use super::{Exchange, Gate, Writing, confirmation};
use crate::time::Instant;
use crate::v2::control::{Abandon, Close};
use crate::v2::frame::{self, FrameType, MAX_APP};

/// What this side's application has done, and what it has to send.
pub(crate) trait Application {
    /// Removes and returns the next handshake message that may be sent.
    fn next_message(&mut self) -> Option<Bytes>;

    /// True if no message follows those there are.
    fn is_finished(&self) -> bool;
}

impl Gate {
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
        // Behind this side's confirmation the last frame is a sealed one.
        if self.last.is_some() && !self.is_committed {
            return self.write_abort(out);
        }
        if self.writing == Writing::Kex {
            let start = out.len();
            frame::emit(FrameType::Kex, &self.own_kex[1..], out);
            self.written.update(&out[start..]);
            self.writing = Writing::Clear;
        }
        if self.writing == Writing::Clear {
            self.write_ciphertext(out);
            self.write_confirm(out);
        }
        match (self.writing, &mut self.exchange) {
            (Writing::Clear, _) => {
                while out.len() < full
                    && self.clear.0 < MAX_CLEAR
                    && self.clear.1 < MAX_APP
                    && let Some(message) = application.next_message()
                {
                    let start = out.len();
                    self.clear = (self.clear.0 + 1, self.clear.1 + message.len());
                    frame::emit(FrameType::App, &message, out);
                    self.written.update(&out[start..]);
                }
            }
            (Writing::Sealed | Writing::Finished, Exchange::Agreed(_)) => {
                self.write_sealed(out, full, now, application);
            }
            (Writing::Kex | Writing::Over, _) | (_, Exchange::Waiting { .. }) => {}
        }
    }

    fn write_abort(&mut self, out: &mut BytesMut) {
        if let Some(close) = self.last.take() {
            frame::emit(FrameType::Abort, &close.code.to_be_bytes(), out);
            self.writing = Writing::Over;
        }
    }

    /// Writes what R needs to have the keys, too.
    fn write_ciphertext(&mut self, out: &mut BytesMut) {
        if let Exchange::Agreed(agreed) = &mut self.exchange
            && let Some(ciphertext) = agreed.ciphertext.take()
        {
            let start = out.len();
            frame::emit(FrameType::KemCiphertext, &ciphertext[1..], out);
            self.written.update(&out[start..]);
        }
    }

    /// Proves to the peer that this side has the keys, once it has, and keeps the session.
    fn write_confirm(&mut self, out: &mut BytesMut) {
        if self.is_committed
            && let Exchange::Agreed(agreed) = &mut self.exchange
            && let Some(key) = agreed.own_confirm.take()
        {
            let written: [u8; 32] = core::mem::take(&mut self.written).finalize().into();
            let mac = confirmation(&key, &agreed.th, &written);
            frame::emit(FrameType::Confirm, mac.as_bytes(), out);
            self.writing = Writing::Sealed;
            core::mem::take(&mut self.own_kex);
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
}

/// Abandoned instances that wait to be reported to the peer.
const MAX_ABANDONED: usize = 64;
/// Messages that are written in the clear. With [`MAX_APP`] for their bytes it is what the peer holds
/// without its application, so that it reads on to the confirmation.
const MAX_CLEAR: usize = 256;
