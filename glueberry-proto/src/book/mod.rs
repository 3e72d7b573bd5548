//! The address book: the known peers, their addresses, and which of them are banned.
//!
//! A [`Book`] is a plain value. It reads no clock and no file: each change takes the time as an
//! argument, and an adapter stores the bytes of [`Book::emit`] and hands them to [`Book::parse`]
//! after a restart. Both need the feature `serde`.
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
//! The file has the form that Go nodes write and read, and may move between the two:
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
//!       "ban_until": "2027-01-01T00:00:00Z",       only for a ban that ends
//!       "v2_until": "2027-02-20T19:18:08Z"         only for a peer that has spoken v2
//!     }
//!   }
//! }
//! ```
//!
//! - `ban_until` is this library's addition. A Go node drops it, so a temporary ban becomes a
//!   permanent one.
//! - `v2_until`, too: until then no session of an earlier profile begins with the peer. A Go node drops
//!   it; earlier versions of this library keep it as it is.
//! - An unchanged entry is written exactly as it was read. A changed one is written as Go would write
//!   it, with times in UTC. Unknown fields of the file and of entries are kept.
//! - Damage affects as little as possible. An entry that cannot be parsed is [`Rejected`] and kept in
//!   the file as it is, until the application changes the entry of that peer. If it has
//!   `"blacklisted": true`, the peer is banned without an end. An address that cannot be parsed is
//!   skipped alone, and kept until the addresses are replaced. Of two entries for one peer the later
//!   one is used, as Go does.
//! - Version numbers are kept but not checked, as Go reads any.

use alloc::collections::{BTreeMap, BTreeSet};

use self::bans::BareBans;
pub use self::entry::{Ban, Entry};
#[cfg(feature = "serde")]
pub use self::json::{BookError, Reason, Rejected, is_multiaddr};
pub use self::limits::{ChangeError, Limits};
use crate::address::{Address, MAX_ADDRESS};
use crate::crypto::PublicKey;
use crate::prelude::*;
use crate::wall::WallTime;

mod banning;
mod bans;
mod entry;
#[cfg(feature = "serde")]
mod json;
mod limits;

/// The peers that a node knows, in order of their keys, and which changes are not stored yet.
///
/// Two books are equal if they have the same content. How an unchanged entry was written in the file
/// makes no difference.
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
    /// Boxed, because a map keeps room for half as many again.
    entries: BTreeMap<PublicKey, Box<Entry>>,
    /// The ends of all temporary bans, in order of time. [`Book::set_ban`] keeps it equal to the bans
    /// in `entries`.
    ban_ends: BTreeSet<(WallTime, PublicKey)>,
    /// The entries that hold nothing but a ban. [`Book::note_bare`] keeps it equal to `entries`.
    bare_bans: BareBans,
    unused: Unused,
    /// Grows with each change.
    revision: Revision,
    /// The latest change that must be stored at once.
    critical: Revision,
    /// The latest revision that was stored.
    saved: Revision,
}

impl Book {
    /// Creates an empty book.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            ban_ends: BTreeSet::new(),
            bare_bans: BareBans::new(),
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

    /// Returns the number of peers, banned ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are no peers, not even banned ones.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns a peer's entry.
    pub fn entry(&self, peer: PublicKey) -> Option<&Entry> {
        self.entries.get(&peer).map(Box::as_ref)
    }

    /// Returns all peers, in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (PublicKey, &Entry)> {
        self.entries.iter().map(|(&peer, entry)| (peer, &**entry))
    }

    /// Returns the peers that are not banned at the given time, in order of their keys.
    pub fn iter_allowed(&self, now: WallTime) -> impl Iterator<Item = (PublicKey, &Entry)> {
        self.iter().filter(move |(_, entry)| !entry.is_blacklisted(now))
    }

    // ---- changes ------------------------------------------------------------------------------

    /// Adds a peer, or replaces its addresses, and its metadata if any are given. The rest of its
    /// entry stays, above all a ban. If that leaves nothing but the ban, and there are too many of
    /// these, one is lifted as by [`blacklist`](Self::blacklist).
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
        // The application's list replaces the addresses of the file that could not be parsed, too.
        entry.kept.addresses.clear();
        if let Some(metadata) = metadata {
            entry.metadata = metadata;
        }
        entry.mark_changed(now);
        self.note_bare(peer, now);
        self.make_room_for_bans(peer, now);
        self.mark_critical();
        Ok(())
    }

    /// Removes a peer and returns its entry. A ban stays.
    ///
    /// Of a banned peer an entry remains that holds only the ban; if there are too many of these, one
    /// is lifted as by [`blacklist`](Self::blacklist). Returns `None` if there was nothing
    /// else before, or if the peer is unknown.
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
            Box::new(core::mem::replace(&mut **entry, bare))
        };
        self.note_bare(peer, now);
        self.make_room_for_bans(peer, now);
        self.mark_critical();
        Some(*removed)
    }

    /// Sets metadata of a peer. An empty value deletes its key; keys that are not named stay. If that
    /// leaves nothing but a ban, and there are too many of these, one is lifted as by
    /// [`blacklist`](Self::blacklist).
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
        let has_room = self.has_room_for(peer);
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
        if !has_room && !metadata.is_empty() {
            return Err(ChangeError::TooManyEntries { limit: self.limits.max_entries });
        }
        entry.metadata = metadata;
        entry.mark_changed(now);
        self.note_bare(peer, now);
        self.make_room_for_bans(peer, now);
        self.mark_critical();
        Ok(())
    }

    /// Records that a peer is connected at this time. Returns false if it is not in the book.
    pub fn touch(&mut self, peer: PublicKey, now: WallTime) -> bool {
        let Some(entry) = self.entries.get_mut(&peer) else { return false };
        // In the file this one time means that the peer was never seen.
        entry.last_seen = Some(now).filter(|&now| now != WallTime::NEVER);
        entry.mark_changed(now);
        self.mark_lazy();
        true
    }

    /// Records by which address a peer was reached. It is not stored.
    pub(crate) fn reached(&mut self, peer: PublicKey, address: &Address) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.reached_by = Some(address.clone());
        }
    }

    /// Records that a handshake has confirmed a peer's key. Returns false if the peer is not in the
    /// book.
    pub fn set_public_key(&mut self, peer: PublicKey, now: WallTime) -> bool {
        let Some(entry) = self.entries.get_mut(&peer) else { return false };
        if entry.public_key.is_none() {
            entry.public_key = Some(peer);
            entry.mark_changed(now);
            self.mark_critical();
        }
        true
    }

    /// Records that a peer has spoken v2, and is held to it until then. Returns false if it is not in the
    /// book, or with nothing but a ban.
    pub fn set_v2_until(&mut self, peer: PublicKey, until: WallTime, now: WallTime) -> bool {
        let Some(entry) = self.entries.get_mut(&peer).filter(|entry| entry.is_of_peer()) else {
            return false;
        };
        let is_new = !entry.is_held_to_v2(now);
        entry.v2_until = Some(until);
        entry.mark_changed(now);
        if is_new {
            self.mark_critical();
        } else {
            // If this is lost, the peer is still held to v2, for a little less long.
            self.mark_lazy();
        }
        true
    }

    /// No longer holds a peer to v2. Returns true if it was held at that time.
    pub fn clear_v2(&mut self, peer: PublicKey, now: WallTime) -> bool {
        let Some(entry) = self.entries.get_mut(&peer) else { return false };
        let was_held = entry.is_held_to_v2(now);
        if entry.v2_until.take().is_some() {
            entry.mark_changed(now);
            self.mark_critical();
        }
        was_held
    }

    // ---- storing ------------------------------------------------------------------------------

    /// Returns how important the changes are that are not stored yet.
    pub fn unsaved(&self) -> Unsaved {
        if self.critical > self.saved {
            Unsaved::Critical
        } else if self.revision > self.saved {
            Unsaved::Lazy
        } else {
            Unsaved::Nothing
        }
    }

    /// Returns the revision that [`emit`](Self::emit) would write now, for
    /// [`handle_saved`](Self::handle_saved).
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Handles that the book was stored as it was at a revision. Later changes are still unsaved.
    pub fn handle_saved(&mut self, revision: Revision) {
        // Stores may complete out of order, and a revision of another book means nothing here.
        self.saved = self.saved.max(revision).min(self.revision);
    }

    /// Marks the book as unsaved because another book was stored in place of this one.
    pub(crate) fn mark_unsaved(&mut self) {
        self.mark_critical();
    }

    // ---- parts --------------------------------------------------------------------------------

    fn has_room_for(&self, peer: PublicKey) -> bool {
        let is_known = self.entries.contains_key(&peer) && !self.bare_bans.contains(peer);
        is_known || self.entries.len() - self.bare_bans.len() < self.limits.max_entries
    }

    fn entry_or_new(&mut self, peer: PublicKey, now: WallTime) -> &mut Entry {
        self.unused.entries.remove(&peer);
        self.entries.entry(peer).or_insert_with(|| Box::new(Entry::new(now)))
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

/// The changes that would be lost if the process ended now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "an adapter decides for each when to store the book")]
pub enum Unsaved {
    /// Nothing.
    Nothing,
    /// Last-seen times and ended bans only: store them at the next flush.
    Lazy,
    /// Changes by the application: store them at once.
    Critical,
}

/// The number of a state of one [`Book`]. It grows with each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(u64);

/// The parts of the file that are kept but not used, as JSON, for the next time that it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unused {
    /// Entries that cannot be parsed, of peers without a valid entry.
    entries: BTreeMap<PublicKey, Box<str>>,
    /// Entries whose name gives no peer, each as name and value, by the text of the name.
    strangers: BTreeMap<String, (Box<str>, Box<str>)>,
    /// The version, unless it is 1.
    version: Option<Box<str>>,
    /// Unknown fields of the file, each with the separator before it.
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
