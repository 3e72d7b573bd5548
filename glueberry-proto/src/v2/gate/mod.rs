//! The state machine of the handshake substream (WIRE.md §6, §11.1): what each side may send when,
//! the key exchange, its confirmation, and the control channel that stays.

mod exchange;
mod read;
mod write;

use alloc::sync::Arc;
use core::fmt;

use bytes::BytesMut;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub(crate) use self::read::{Messages, Step};
pub(crate) use self::write::Application;
use super::Role;
use super::agreement::{Binding, Ephemeral};
use super::control::{Abandon, Bucket, Close};
use super::kem::Share;
use super::kex::Kex;
use super::padding::Padding;
use super::record::{Cipher, Opener, Sealer};
use super::schedule::Master;
use super::suite::Suite;
use crate::crypto::{Aead, Identity, PublicKey, SharedKey, hmac};
use crate::prelude::*;
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
    /// Of what is sealed in the session.
    pub(crate) padding: Padding,
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
    padding: Padding,
    application: Vec<u8>,
    /// Until both sides' were exchanged.
    own_kex: Vec<u8>,
    exchange: Exchange,
    /// This side has chosen the session, so its confirmation may be written.
    is_committed: bool,
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
    /// Handshake messages that were written in the clear, and their bytes.
    clear: (usize, usize),
}

/// How far the key exchange is.
enum Exchange {
    Waiting {
        ephemeral: Ephemeral,
        /// R's, with a hybrid suite: the peer's part, whose ciphertext is missing.
        offer: Option<Box<Offer>>,
    },
    Agreed(Box<Agreed>),
}

/// The peer's key exchange, and what has been chosen by it.
struct Offer {
    suite: Suite,
    binding: Binding,
    peers_ephemeral: [u8; 32],
    /// From the type byte on.
    peers_kex: Vec<u8>,
}

/// What follows from a key exchange that is done.
struct Agreed {
    terms: Terms,
    cipher: Cipher,
    /// I's, with a hybrid suite, until it was written.
    ciphertext: Option<Vec<u8>>,
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

impl Gate {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { role, identity, peer, aead, suites, ephemeral, now, .. } = setup;
        let (binding, padding, application) = (setup.binding, setup.padding, setup.application);
        let own_kex = Kex {
            bindings: binding.mask(),
            suites: suites.iter().map(|suite| suite.code()).collect(),
            ephemeral: *ephemeral.public(),
            kem_key: ephemeral.share().and_then(Share::encapsulation_key),
        };
        Self {
            role,
            identity,
            peer,
            aead,
            suites,
            binding,
            padding,
            application,
            own_kex: own_kex.emit(),
            exchange: Exchange::Waiting { ephemeral, offer: None },
            is_committed: false,
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
            clear: (0, 0),
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
            Exchange::Waiting { .. } => None,
            Exchange::Agreed(agreed) => Some(&agreed.terms),
        }
    }

    pub(crate) const fn cipher(&self) -> Option<&Cipher> {
        match &self.exchange {
            Exchange::Waiting { .. } => None,
            Exchange::Agreed(agreed) => Some(&agreed.cipher),
        }
    }

    /// Returns the secret for the application.
    pub(crate) const fn exporter(&self) -> Option<&SharedKey> {
        match &self.exchange {
            Exchange::Waiting { .. } => None,
            Exchange::Agreed(agreed) => Some(&agreed.exporter),
        }
    }

    /// True if the peer's confirmation was verified.
    pub(crate) const fn is_confirmed(&self) -> bool {
        match &self.exchange {
            Exchange::Waiting { .. } => false,
            Exchange::Agreed(agreed) => agreed.peers_confirm.is_none(),
        }
    }

    /// This side has chosen the session among those of the peer: confirms it, if the keys are known.
    /// Returns true the first time.
    pub(crate) const fn commit(&mut self) -> bool {
        let is_first = !self.is_committed && self.terms().is_some();
        self.is_committed |= is_first;
        is_first
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
            Exchange::Waiting { .. } => None,
            Exchange::Agreed(agreed) => agreed.master.take(),
        }
    }
}

/// Returns what proves to the peer that this side has derived the same (WIRE.md §6.6).
pub(crate) fn confirmation(key: &SharedKey, th: &[u8; 32], written: &[u8; 32]) -> SharedKey {
    hmac(key.as_bytes(), &[th, written])
}

/// True if the peer has proven it. How much of a wrong proof is right does not show in the time.
pub(crate) fn is_confirmation(key: &SharedKey, th: &[u8; 32], read: &[u8; 32], mac: &[u8]) -> bool {
    confirmation(key, th, read).as_bytes().as_slice().ct_eq(mac).into()
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
