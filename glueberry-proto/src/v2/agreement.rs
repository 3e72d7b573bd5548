//! Ephemeral keys, the transcript and the four agreements (WIRE.md §6.4, §7.1, §7.2).

use core::fmt;

use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey as X25519Public, StaticSecret};

use super::Role;
use super::kem::Share;
use super::schedule::{Master, derive, prefix};
use super::suite::Suite;
use super::violation::Violation;
use crate::crypto::{Identity, PublicKey, SharedKey, diffie_hellman, hmac, on_wiped_stack};

/// What an ephemeral key is made of, besides the identity. No part alone makes it predictable or has
/// it repeated: not a generator that repeats itself, nor a machine restored from a snapshot.
#[derive(Debug)]
pub(crate) struct Hedge<'a> {
    pub(crate) identity: &'a Identity,
    /// Fresh bytes of the session's generator.
    pub(crate) entropy: &'a [u8; 32],
    /// Milliseconds since 1970-01-01 UTC, or 0.
    pub(crate) wall_ms: u64,
    /// Of the sessions that this node has begun.
    pub(crate) counter: u64,
    /// The channel binding's value, or empty.
    pub(crate) binding: &'a [u8],
}

impl Hedge<'_> {
    /// Derives the ephemeral keys: with a share in a KEM, if a suite that is offered has one.
    pub(crate) fn ephemeral(&self, role: Role, suites: &[Suite]) -> Ephemeral {
        let is_hybrid = suites.iter().any(|suite| suite.is_post_quantum());
        let own = self.identity.x25519_public();
        let mut counter = self.counter;
        loop {
            let prk = self.prk(counter);
            let private = derive(prk.as_bytes(), "x25519", &[]);
            let public = public_of(private.as_bytes());
            if is_canonical(&public) && public != *own {
                let share = if is_hybrid { Share::derive(role, &prk) } else { None };
                return Ephemeral { private, public, share };
            }
            counter = counter.wrapping_add(1);
        }
    }

    pub(crate) fn prk(&self, counter: u64) -> SharedKey {
        let hedge_key = self.identity.hedge_key();
        let (wall, counter) = (self.wall_ms.to_be_bytes(), counter.to_be_bytes());
        let len = prefix(self.binding.len());
        hmac(hedge_key.as_bytes(), &[self.entropy, &wall, &counter, &len, self.binding])
    }
}

/// The two sides of an agreement.
#[derive(Debug)]
pub(crate) struct Parties<'a> {
    pub(crate) role: Role,
    pub(crate) identity: &'a Identity,
    pub(crate) peer: &'a PublicKey,
}

/// This side's ephemeral keys of one session, wiped on drop.
#[derive(Debug)]
pub(crate) struct Ephemeral {
    private: SharedKey,
    public: [u8; 32],
    /// If a suite that is offered has a KEM.
    share: Option<Share>,
}

impl Ephemeral {
    pub(crate) const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub(crate) const fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    #[cfg(test)]
    pub(crate) fn from_private(private: &[u8; 32], share: Option<Share>) -> Self {
        let public = public_of(private);
        Self { private: SharedKey::from_bytes(private).expect("32 bytes"), public, share }
    }

    #[cfg(test)]
    pub(crate) const fn private(&self) -> &SharedKey {
        &self.private
    }

    /// Checks an ephemeral of the peer.
    pub(crate) fn check_peers(
        &self,
        ephemeral: &[u8; 32],
        identity: &Identity,
    ) -> Result<(), Violation> {
        let own = identity.x25519_public();
        match is_canonical(ephemeral) && *ephemeral != self.public && ephemeral != own {
            true => Ok(()),
            false => Err(Violation::BadKey),
        }
    }

    /// Computes the session's secret from that of the KEM, if the suite has one, and from the four
    /// agreements of both ephemerals and both identities.
    pub(crate) fn agree(
        &self,
        parties: &Parties<'_>,
        peers: &[u8; 32],
        encapsulated: Option<&SharedKey>,
        th: [u8; 32],
    ) -> Result<Master, Violation> {
        on_wiped_stack(|| {
            let agree = |private: &[u8; 32], public: &[u8; 32]| {
                diffie_hellman(private, public).ok_or(Violation::BadKey)
            };
            let own = parties.identity.x25519_private();
            let their_identity = parties.peer.to_x25519();
            let both_ephemeral = agree(self.private.as_bytes(), peers)?;
            let own_ephemeral = agree(self.private.as_bytes(), &their_identity)?;
            let their_ephemeral = agree(&own, peers)?;
            let both_static = agree(&own, &their_identity)?;
            let (es, se) = match parties.role {
                Role::Initiator => (own_ephemeral, their_ephemeral),
                Role::Responder => (their_ephemeral, own_ephemeral),
            };
            let kk: &[u8] = encapsulated.map_or(&[], |secret| secret.as_bytes());
            let results: [&[u8]; 5] = [kk, &*both_ephemeral, &*es, &*se, &*both_static];
            Ok(Master::extract(th, &results))
        })
    }
}

fn public_of(private: &[u8; 32]) -> [u8; 32] {
    on_wiped_stack(|| X25519Public::from(&StaticSecret::from(*private)).to_bytes())
}

/// True if it is the encoding of a number below 2^255 − 19: with another, a reflected key would pass
/// as a new one.
pub(super) fn is_canonical(ephemeral: &[u8; 32]) -> bool {
    let [first, rest @ .., last] = ephemeral;
    let is_above = *last == 0x7f && rest.iter().all(|byte| *byte == 0xff) && *first >= 0xed;
    last & 0x80 == 0 && !is_above
}

/// What both sides of a session must have seen alike.
#[derive(Debug)]
pub(crate) struct Transcript<'a> {
    pub(crate) suite: Suite,
    /// From the type byte on.
    pub(crate) kex: [&'a [u8]; 2],
    /// From the type byte on; empty if the suite is not hybrid.
    pub(crate) kem_ciphertext: &'a [u8],
    pub(crate) identities: [PublicKey; 2],
    pub(crate) binding: Binding,
    /// The application context.
    pub(crate) application: &'a [u8],
}

impl Transcript<'_> {
    /// Returns its hash.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.each_part(|part| hash.update(part));
        hash.finalize().into()
    }

    fn each_part(&self, mut part: impl FnMut(&[u8])) {
        let prefixed = |bytes: &[u8], part: &mut dyn FnMut(&[u8])| {
            part(&prefix(bytes.len()));
            part(bytes);
        };
        prefixed(NAME, &mut part);
        part(&self.suite.code().to_be_bytes());
        for frame in [self.kex[0], self.kex[1], self.kem_ciphertext] {
            prefixed(frame, &mut part);
        }
        for identity in &self.identities {
            prefixed(identity.as_bytes(), &mut part);
        }
        part(&[self.binding.kind()]);
        prefixed(self.binding.value(), &mut part);
        prefixed(self.application, &mut part);
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        self.each_part(|part| all.extend_from_slice(part));
        all
    }
}

/// What ties a session to its connection (WIRE.md §6.5).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    None,
    /// The value of the TLS exporter, which both ends of one TLS connection have.
    Exporter([u8; 32]),
}

impl Binding {
    /// Returns the number of the type.
    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Exporter(_) => 1,
        }
    }

    pub(crate) const fn value(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Exporter(value) => value,
        }
    }

    /// Returns the types that a side with this binding offers, as a bit mask.
    pub(crate) const fn mask(&self) -> u8 {
        match self {
            Self::None => 0b01,
            Self::Exporter(_) => 0b11,
        }
    }

    /// Returns the binding of the highest type that both offer.
    pub(crate) const fn choose(self, ours: u8, theirs: u8) -> Result<Self, Violation> {
        match (self, ours & theirs & self.mask()) {
            (_, 0) => Err(Violation::NoCommonBinding),
            (Self::Exporter(value), 0b10..) => Ok(Self::Exporter(value)),
            _ => Ok(Self::None),
        }
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Exporter(_) => "Exporter(..)",
        })
    }
}

const NAME: &[u8] = b"GB2_4DH_25519_SHA256";
