//! The entry of one peer.

use alloc::collections::BTreeMap;

use crate::address::Address;
use crate::crypto::PublicKey;
use crate::prelude::*;
use crate::wall::WallTime;

/// The entry of one peer in a [`Book`](super::Book).
///
/// ```
/// use glueberry_proto::book::{Ban, Book, Limits};
/// use glueberry_proto::{Identity, WallTime};
///
/// let peer = Identity::from_seed(&[1; 32]).public_key();
/// let [now, later] = [1_000, 2_000].map(|at| WallTime::from_unix(at, 0).unwrap());
/// let mut book = Book::new(Limits::default());
/// book.blacklist(peer, Some(later), now);
/// let entry = book.entry(peer).unwrap();
/// assert_eq!(entry.ban(), Some(Ban::Until(later)));
/// assert!(entry.is_blacklisted(now) && !entry.is_blacklisted(later));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) addresses: Vec<Address>,
    /// The one by which the peer was last reached. Not stored.
    pub(super) reached_by: Option<Address>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) public_key: Option<PublicKey>,
    pub(super) last_seen: Option<WallTime>,
    pub(super) ban: Option<Ban>,
    pub(super) v2_until: Option<WallTime>,
    pub(super) created_at: WallTime,
    pub(super) updated_at: WallTime,
    pub(super) kept: Kept,
}

impl Entry {
    pub(super) const fn new(now: WallTime) -> Self {
        Self {
            addresses: Vec::new(),
            reached_by: None,
            metadata: BTreeMap::new(),
            public_key: None,
            last_seen: None,
            ban: None,
            v2_until: None,
            created_at: now,
            updated_at: now,
            kept: Kept { text: None, addresses: String::new(), fields: String::new() },
        }
    }

    /// Returns the addresses, in the order in which they were added.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Returns the addresses in the order in which to try them: first the one by which the peer was
    /// last reached, if it is among them.
    pub fn dial_order(&self) -> Vec<Address> {
        let mut addresses = self.addresses.clone();
        let good = self.reached_by.as_ref();
        if let Some(at) = addresses.iter().position(|address| Some(address) == good) {
            addresses[..=at].rotate_right(1);
        }
        addresses
    }

    /// Returns the application's metadata of the peer.
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Returns the peer's key if a handshake has confirmed it.
    pub const fn public_key(&self) -> Option<PublicKey> {
        self.public_key
    }

    /// Returns when the peer was last connected; `None` if it never was.
    pub const fn last_seen(&self) -> Option<WallTime> {
        self.last_seen
    }

    /// Returns the ban. It may have ended: see [`is_blacklisted`](Self::is_blacklisted).
    pub const fn ban(&self) -> Option<Ban> {
        self.ban
    }

    /// True if the peer is banned at the given time.
    pub fn is_blacklisted(&self, now: WallTime) -> bool {
        self.ban.is_some_and(|ban| ban.holds_at(now))
    }

    /// Returns until when the peer is held to v2, which it has spoken; `None` if it never has, or if
    /// that was [cleared](super::Book::clear_v2). It may be over.
    pub const fn v2_until(&self) -> Option<WallTime> {
        self.v2_until
    }

    /// True if the peer is held to v2 at the given time.
    pub fn is_held_to_v2(&self, now: WallTime) -> bool {
        self.v2_until.is_some_and(|until| now < until)
    }

    /// Returns when the peer was first added or banned.
    pub const fn created_at(&self) -> WallTime {
        self.created_at
    }

    /// Returns when the entry last changed.
    pub const fn updated_at(&self) -> WallTime {
        self.updated_at
    }

    /// True if the entry holds more than a ban, or there was none: the application has added the
    /// peer.
    pub(crate) fn is_of_peer(&self) -> bool {
        self.ban.is_none()
            || !self.addresses.is_empty()
            || !self.metadata.is_empty()
            || !self.kept.is_empty()
    }

    /// True if the entry holds nothing but a ban.
    pub(super) fn is_bare(&self) -> bool {
        self.addresses.is_empty()
            && self.metadata.is_empty()
            && self.public_key.is_none()
            && self.last_seen.is_none()
            && self.v2_until.is_none()
            && self.kept.is_empty()
    }

    /// Marks the entry as different from the file, so that it is written anew.
    pub(super) fn mark_changed(&mut self, now: WallTime) {
        self.updated_at = now;
        self.kept.text = None;
    }
}

/// The duration of a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a ban ends or doesn't")]
pub enum Ban {
    /// Until it is lifted.
    Forever,
    /// Until the given time, or until it is lifted.
    Until(WallTime),
}

impl Ban {
    /// True if the ban is in force; at its end it is not any more.
    pub fn holds_at(self, now: WallTime) -> bool {
        self.end().is_none_or(|end| now < end)
    }

    /// Returns when the ban ends by itself.
    pub const fn end(self) -> Option<WallTime> {
        match self {
            Self::Forever => None,
            Self::Until(end) => Some(end),
        }
    }
}

/// The parts of an entry that are kept but not used, as JSON, for the next time that it is written.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The whole entry as it was read, until it changes.
    pub(super) text: Option<Box<str>>,
    /// Elements of the list of addresses that this transport can't dial, each with the separator
    /// before it.
    pub(super) addresses: String,
    /// Unknown fields, each with the separator before it.
    pub(super) fields: String,
}

impl Kept {
    const fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.fields.is_empty()
    }
}

/// Compares the kept parts. How an entry was written makes no difference.
impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.addresses == other.addresses && self.fields == other.fields
    }
}

impl Eq for Kept {}
