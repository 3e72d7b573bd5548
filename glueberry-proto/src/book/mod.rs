//! The address book: which peers there are, where they may be reached, which of them are banned.
//!
//! A [`Book`] is a plain value. It reads no clock and no file: whoever changes it says what time
//! it is, and an adapter stores [`Book::emit`]'s bytes and hands them to [`Book::parse`] after a
//! restart. Both need the feature `serde`.
//!
//! ```
//! use glueberry_proto::book::{Book, Limits, Unsaved};
//! use glueberry_proto::{Address, Identity, WallTime};
//!
//! let peer = Identity::from_seed(&[1; 32]).public_key();
//! let now = "2026-11-22T19:18:08Z".parse::<WallTime>()?;
//!
//! let mut book = Book::new(Limits::default());
//! book.add(peer, vec![Address::new("/ip4/192.0.2.1/udp/9000/quic-v1")], None, now)?;
//! assert_eq!(book.unsaved(), Unsaved::Critical);
//! # #[cfg(feature = "serde")]
//! # {
//! let (stored, revision) = (book.emit(), book.revision());
//! // When the adapter has stored it:
//! book.handle_saved(revision);
//! assert_eq!(book.unsaved(), Unsaved::Nothing);
//!
//! let (book, rejected) = Book::parse(&stored, Limits::default(), |_| true)?;
//! assert!(rejected.is_empty());
//! assert_eq!(book.entry(peer).unwrap().created_at(), now);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The file
//!
//! It is the file that Go nodes write and read, and may move between the two:
//!
//! ```text
//! {
//!   "version": 1,
//!   "peers": {
//!     "12D3KooW…": {
//!       "peer_id": "12D3KooW…",
//!       "public_key": "base64",                    left out if it was never confirmed
//!       "metadata": { "name": "value" },           left out if empty
//!       "last_seen": "2026-11-22T19:18:08.5Z",     year 1 if never
//!       "blacklisted": true,
//!       "created_at": "2026-11-22T19:18:08.5Z",
//!       "updated_at": "2026-11-22T19:18:08.5Z",
//!       "multiaddrs": [ "/ip4/192.0.2.1/udp/9000/quic-v1" ],
//!       "ban_until": "2027-01-01T00:00:00Z"        only for a ban that ends
//!     }
//!   }
//! }
//! ```
//!
//! - `ban_until` is this library's addition. A Go node drops it: in its hands a ban that would end
//!   becomes one that doesn't.
//! - An entry that nobody changes is written exactly as it was read; one that changes is written
//!   as Go would write it, with times in UTC. Fields that this version doesn't know, of the file
//!   and of entries, are kept.
//! - Damage costs as little as it can. An entry that cannot be understood is [`Rejected`] and kept
//!   in the file as it is, until the application changes what is known of that very peer; if it says
//!   that the peer is banned, the ban holds, without an end. An address that cannot be understood
//!   costs that address alone, and is kept until the addresses are replaced. Of two entries for one
//!   peer the later counts, as it does for Go.
//! - Version numbers are not looked at but kept, as Go reads any.

use std::collections::{BTreeMap, BTreeSet};

pub use self::entry::{Ban, Entry};
#[cfg(feature = "serde")]
pub use self::json::{BookError, Reason, Rejected, is_multiaddr};
pub use self::limits::{ChangeError, Limits};
use crate::crypto::PublicKey;
use crate::node::{Address, MAX_ADDRESS};
use crate::wall::WallTime;

mod entry;
#[cfg(feature = "serde")]
mod json;
mod limits;

/// The peers that a node knows, in order of their keys, and what has changed since they were last
/// stored.
///
/// Two books are equal if they would be stored alike, except for how entries that nobody changed
/// are written.
///
/// ```
/// use glueberry_proto::book::{Book, Limits};
/// use glueberry_proto::{Identity, WallTime};
///
/// let (peer, now) = (Identity::from_seed(&[1; 32]).public_key(), WallTime::UNIX_EPOCH);
/// let mut book = Book::new(Limits::default());
/// book.add(peer, vec![], Some([("name".to_owned(), "alice".to_owned())].into()), now)?;
/// assert_eq!(book.entry(peer).unwrap().metadata()["name"], "alice");
/// book.remove(peer, now).unwrap();
/// assert!(book.is_empty());
/// # Ok::<(), glueberry_proto::book::ChangeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Book {
    limits: Limits,
    entries: BTreeMap<PublicKey, Entry>,
    /// Ends of bans, of those peers whose ban ends.
    ban_ends: BTreeSet<(WallTime, PublicKey)>,
    unused: Unused,
    revision: Revision,
    critical: Revision,
    saved: Revision,
}

impl Book {
    /// Makes an empty book.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            ban_ends: BTreeSet::new(),
            unused: Unused::NOTHING,
            revision: Revision(0),
            critical: Revision(0),
            saved: Revision(0),
        }
    }

    /// Returns the limits.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns how many peers there are, with those that are banned.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are no peers at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns what is known of a peer.
    pub fn entry(&self, peer: PublicKey) -> Option<&Entry> {
        self.entries.get(&peer)
    }

    /// Returns all peers, in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (PublicKey, &Entry)> {
        self.entries.iter().map(|(&peer, entry)| (peer, entry))
    }

    /// Returns the peers that are not banned at the given time, in order of their keys.
    pub fn iter_allowed(&self, now: WallTime) -> impl Iterator<Item = (PublicKey, &Entry)> {
        self.iter().filter(move |(_, entry)| !entry.is_blacklisted(now))
    }

    /// Returns whether a peer is banned at the given time.
    pub fn is_blacklisted(&self, peer: PublicKey, now: WallTime) -> bool {
        self.entries.get(&peer).is_some_and(|entry| entry.is_blacklisted(now))
    }

    /// Returns when the next ban ends, which may be past: the time for
    /// [`end_bans`](Self::end_bans).
    pub fn next_ban_end(&self) -> Option<WallTime> {
        self.ban_ends.first().map(|&(end, _)| end)
    }

    // ---- changes ------------------------------------------------------------------------------

    /// Adds a peer, or replaces its addresses, and its metadata if there are any given. What else
    /// is known of it stays, above all a ban.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`]; the book is then as it was.
    pub fn add(
        &mut self,
        peer: PublicKey,
        addresses: Vec<Address>,
        metadata: Option<BTreeMap<String, String>>,
        now: WallTime,
    ) -> Result<(), ChangeError> {
        let (got, limit) = (addresses.len(), self.limits.max_addresses);
        if got > limit {
            return Err(ChangeError::TooManyAddresses { got, limit });
        }
        if let Some(address) = addresses.iter().find(|address| !fits(address)) {
            return Err(ChangeError::AddressTooLong { len: address.as_str().len() });
        }
        let (got, limit) = (metadata.as_ref().map_or(0, metadata_len), self.limits.max_metadata);
        if got > limit {
            return Err(ChangeError::MetadataTooLarge { got, limit });
        }
        if !self.has_room_for(peer) {
            return Err(ChangeError::TooManyEntries { limit: self.limits.max_entries });
        }
        let entry = self.entry_or_new(peer, now);
        entry.addresses = addresses;
        entry.kept.addresses.clear();
        if let Some(metadata) = metadata {
            entry.metadata = metadata;
        }
        entry.mark_changed(now);
        self.mark_critical();
        Ok(())
    }

    /// Removes a peer and returns what was known of it; a ban stays.
    ///
    /// The ban is then all that is left of the entry; `None` is returned if that was so before, or
    /// if the peer is unknown.
    pub fn remove(&mut self, peer: PublicKey, now: WallTime) -> Option<Entry> {
        if self.unused.entries.remove(&peer).is_some() {
            self.mark_critical();
        }
        let entry = self.entries.get_mut(&peer)?;
        let removed = if entry.ban.is_none() {
            self.entries.remove(&peer)?
        } else if entry.is_bare() {
            return None;
        } else {
            let mut bare = Entry::new(entry.created_at);
            bare.ban = entry.ban;
            bare.mark_changed(now);
            std::mem::replace(entry, bare)
        };
        self.mark_critical();
        Some(removed)
    }

    /// Sets metadata of a peer, and deletes those whose new value is empty; others stay.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`]; the book is then as it was.
    pub fn update_metadata(
        &mut self,
        peer: PublicKey,
        changes: BTreeMap<String, String>,
        now: WallTime,
    ) -> Result<(), ChangeError> {
        let entry = self.entries.get_mut(&peer).ok_or(ChangeError::UnknownPeer)?;
        let mut metadata = entry.metadata.clone();
        for (key, value) in changes {
            if value.is_empty() {
                metadata.remove(&key);
            } else {
                metadata.insert(key, value);
            }
        }
        let (got, limit) = (metadata_len(&metadata), self.limits.max_metadata);
        if got > limit {
            return Err(ChangeError::MetadataTooLarge { got, limit });
        }
        entry.metadata = metadata;
        entry.mark_changed(now);
        self.mark_critical();
        Ok(())
    }

    /// Bans a peer, known or not, instead of any ban that it has.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`]; the book is then as it was.
    pub fn blacklist(
        &mut self,
        peer: PublicKey,
        until: Option<WallTime>,
        now: WallTime,
    ) -> Result<(), ChangeError> {
        if !self.has_room_for(peer) {
            return Err(ChangeError::TooManyEntries { limit: self.limits.max_entries });
        }
        self.entry_or_new(peer, now);
        self.set_ban(peer, Some(until.map_or(Ban::Forever, Ban::Until)), now);
        self.mark_critical();
        Ok(())
    }

    /// Lifts a peer's ban, and forgets the peer if nothing else is known of it. Returns whether
    /// there was one.
    pub fn unblacklist(&mut self, peer: PublicKey, now: WallTime) -> bool {
        let is_banned = self.entries.get(&peer).is_some_and(|entry| entry.ban.is_some());
        if is_banned {
            self.lift_ban(peer, now);
            self.mark_critical();
        }
        is_banned
    }

    /// Lifts the bans that are over, as [`unblacklist`](Self::unblacklist) does, and returns whose
    /// they were.
    ///
    /// They hold no longer even if this is never called; but then they stay in the book.
    pub fn end_bans(&mut self, now: WallTime) -> Vec<PublicKey> {
        let mut peers = Vec::new();
        while let Some(&(end, peer)) = self.ban_ends.first()
            && end <= now
        {
            self.lift_ban(peer, now);
            peers.push(peer);
        }
        if !peers.is_empty() {
            self.mark_lazy();
        }
        peers
    }

    /// Notes that a peer was connected just now. Returns whether it is in the book.
    pub fn touch(&mut self, peer: PublicKey, now: WallTime) -> bool {
        let Some(entry) = self.entries.get_mut(&peer) else { return false };
        // The file has no other way to say that.
        entry.last_seen = Some(now).filter(|&now| now != WallTime::NEVER);
        entry.mark_changed(now);
        self.mark_lazy();
        true
    }

    /// Notes that a handshake has confirmed a peer's key. Returns whether it is in the book.
    pub fn set_public_key(&mut self, peer: PublicKey, now: WallTime) -> bool {
        let Some(entry) = self.entries.get_mut(&peer) else { return false };
        if entry.public_key.is_none() {
            entry.public_key = Some(peer);
            entry.mark_changed(now);
            self.mark_critical();
        }
        true
    }

    // ---- storing ------------------------------------------------------------------------------

    /// Tells what would be lost if the process ended now.
    pub fn unsaved(&self) -> Unsaved {
        if self.critical > self.saved {
            Unsaved::Critical
        } else if self.revision > self.saved {
            Unsaved::Lazy
        } else {
            Unsaved::Nothing
        }
    }

    /// Returns the number of the state that the book is in, for
    /// [`handle_saved`](Self::handle_saved).
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Notes that the book has been stored as it was at a revision of its own. Changes that were
    /// made since then are still unsaved.
    pub fn handle_saved(&mut self, revision: Revision) {
        self.saved = self.saved.max(revision).min(self.revision);
    }

    /// Notes that another book was stored in place of this one.
    pub(crate) fn mark_unsaved(&mut self) {
        self.mark_critical();
    }

    // ---- parts --------------------------------------------------------------------------------

    fn has_room_for(&self, peer: PublicKey) -> bool {
        self.entries.contains_key(&peer) || self.entries.len() < self.limits.max_entries
    }

    fn entry_or_new(&mut self, peer: PublicKey, now: WallTime) -> &mut Entry {
        self.unused.entries.remove(&peer);
        self.entries.entry(peer).or_insert_with(|| Entry::new(now))
    }

    fn lift_ban(&mut self, peer: PublicKey, now: WallTime) {
        self.set_ban(peer, None, now);
        if self.entries.get(&peer).is_some_and(Entry::is_bare) {
            self.entries.remove(&peer);
        }
    }

    /// Changes a known peer's ban; the one place that does.
    fn set_ban(&mut self, peer: PublicKey, ban: Option<Ban>, now: WallTime) {
        let Some(entry) = self.entries.get_mut(&peer) else { return };
        if let Some(end) = entry.ban.and_then(Ban::end) {
            self.ban_ends.remove(&(end, peer));
        }
        if let Some(end) = ban.and_then(Ban::end) {
            self.ban_ends.insert((end, peer));
        }
        entry.ban = ban;
        entry.mark_changed(now);
    }

    fn mark_critical(&mut self) {
        self.mark_lazy();
        self.critical = self.revision;
    }

    const fn mark_lazy(&mut self) {
        self.revision = Revision(self.revision.0.saturating_add(1));
    }
}

impl PartialEq for Book {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries && self.unused == other.unused
    }
}

impl Eq for Book {}

/// What would be lost if the process ended now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "whoever stores the book decides for each")]
pub enum Unsaved {
    /// Nothing.
    Nothing,
    /// When peers were last seen, or that bans are over: to be stored at the next flush.
    Lazy,
    /// What the application has said of peers: to be stored at once.
    Critical,
}

/// Numbers the states that one [`Book`] goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(u64);

/// What the file holds beyond the peers that are used, as JSON; kept for the next time that it is
/// written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unused {
    /// Entries that cannot be understood, of peers that are in no other entry.
    entries: BTreeMap<PublicKey, Box<str>>,
    /// Entries whose peer cannot be understood, each as name and value, by the text of the name.
    strangers: BTreeMap<String, (Box<str>, Box<str>)>,
    /// The version, unless it is 1.
    version: Option<Box<str>>,
    /// Further fields of the file, each with what separates it from the one before.
    fields: String,
}

impl Unused {
    const NOTHING: Self = Self {
        entries: BTreeMap::new(),
        strangers: BTreeMap::new(),
        version: None,
        fields: String::new(),
    };
}

fn fits(address: &Address) -> bool {
    address.as_str().len() <= MAX_ADDRESS
}

/// Adds up the bytes of all keys and values.
fn metadata_len(metadata: &BTreeMap<String, String>) -> usize {
    metadata.iter().flat_map(|(key, value)| [key.len(), value.len()]).fold(0, usize::saturating_add)
}
