//! What a book holds of one peer.

use std::collections::BTreeMap;

use crate::crypto::PublicKey;
use crate::node::Address;
use crate::wall::WallTime;

/// What a [`Book`](super::Book) holds of one peer.
///
/// ```
/// use glueberry_proto::book::{Ban, Book, Limits};
/// use glueberry_proto::{Identity, WallTime};
///
/// let peer = Identity::from_seed(&[1; 32]).public_key();
/// let [now, later] = [1_000, 2_000].map(|at| WallTime::from_unix(at, 0).unwrap());
/// let mut book = Book::new(Limits::default());
/// book.blacklist(peer, Some(later), now)?;
/// let entry = book.entry(peer).unwrap();
/// assert_eq!(entry.ban(), Some(Ban::Until(later)));
/// assert!(entry.is_blacklisted(now) && !entry.is_blacklisted(later));
/// # Ok::<(), glueberry_proto::book::ChangeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) addresses: Vec<Address>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) public_key: Option<PublicKey>,
    pub(super) last_seen: Option<WallTime>,
    pub(super) ban: Option<Ban>,
    pub(super) created_at: WallTime,
    pub(super) updated_at: WallTime,
    pub(super) kept: Kept,
}

impl Entry {
    pub(super) const fn new(now: WallTime) -> Self {
        Self {
            addresses: Vec::new(),
            metadata: BTreeMap::new(),
            public_key: None,
            last_seen: None,
            ban: None,
            created_at: now,
            updated_at: now,
            kept: Kept { text: None, addresses: String::new(), fields: String::new() },
        }
    }

    /// Returns the addresses, in the order in which they were added.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Returns what the application has noted of the peer.
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

    /// Returns the ban, which may be over by now: see [`is_blacklisted`](Self::is_blacklisted).
    pub const fn ban(&self) -> Option<Ban> {
        self.ban
    }

    /// Returns whether the peer is banned at the given time.
    pub fn is_blacklisted(&self, now: WallTime) -> bool {
        self.ban.is_some_and(|ban| ban.holds_at(now))
    }

    /// Returns when the peer was first added or banned.
    pub const fn created_at(&self) -> WallTime {
        self.created_at
    }

    /// Returns when anything of the entry last changed.
    pub const fn updated_at(&self) -> WallTime {
        self.updated_at
    }

    /// Returns whether nothing would be lost with the entry but its ban.
    pub(super) fn is_bare(&self) -> bool {
        self.addresses.is_empty()
            && self.metadata.is_empty()
            && self.public_key.is_none()
            && self.last_seen.is_none()
            && self.kept.is_empty()
    }

    /// Notes that the entry is no longer what the file says.
    pub(super) fn mark_changed(&mut self, now: WallTime) {
        self.updated_at = now;
        self.kept.text = None;
    }
}

/// How long a peer is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a ban ends or doesn't")]
pub enum Ban {
    /// Until it is lifted.
    Forever,
    /// Until the given time, or until it is lifted.
    Until(WallTime),
}

impl Ban {
    /// Returns whether the ban still holds; at its end it doesn't.
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

/// What the file says of a peer beyond what this program understands, as JSON; kept for the next
/// time that the file is written.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The whole entry as it was read, until something of it changes.
    pub(super) text: Option<Box<str>>,
    /// Elements of the list of addresses that are of no use here, each with what separates it from
    /// the one before.
    pub(super) addresses: String,
    /// Further fields, each with what separates it from the one before.
    pub(super) fields: String,
}

impl Kept {
    const fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.fields.is_empty()
    }
}

/// Says whether the same is kept. How an entry was written is not part of what it says.
impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.addresses == other.addresses && self.fields == other.fields
    }
}

impl Eq for Kept {}
