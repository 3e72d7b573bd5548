//! The address book that a node keeps: who may be dialled, who is banned, and when it is stored.

use std::collections::BTreeMap;

use super::event::{ConnectionState, NodeAction, StateReason};
use super::{Address, Node};
use crate::book::{BlacklistError, Book, Entry, MetadataError, Revision, Unsaved};
use crate::bug::Bug;
use crate::crypto::PublicKey;
use crate::error::{AddPeerError, CloseReason};
use crate::time::Instant;
use crate::wall::WallTime;

/// When the book is to be stored.
#[derive(Debug)]
pub(super) struct Saving {
    /// Something must be stored at once.
    is_wanted: bool,
    /// The adapter was asked to, and has not answered.
    is_asked: bool,
    /// What the adapter is storing is a book that has been replaced since.
    is_outdated: bool,
    /// When it is asked next, for changes that can wait.
    pub(super) flush_at: Option<Instant>,
    /// What the calendar said, and when.
    wall: (Instant, WallTime),
}

impl Saving {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            is_wanted: false,
            is_asked: false,
            is_outdated: false,
            flush_at: None,
            wall: (now, WallTime::UNIX_EPOCH),
        }
    }
}

impl Node {
    /// Takes note of what the calendar says. Until the next time it is taken to go on evenly.
    ///
    /// It decides nothing but what is stored: when peers were seen, and when bans end. A peer whose
    /// ban holds again, because the calendar was set back, is cut off.
    pub fn set_wall_time(&mut self, now: Instant, wall: WallTime) {
        self.handle_timeout(now);
        self.saving.wall = (self.now, wall);
        self.cut_off_all_banned();
        self.settle();
    }

    /// Returns the address book.
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// Replaces the address book, as read from where it was stored. Peers that it bans are cut off.
    /// If the old one is being stored just then, the new one is stored again behind it.
    pub fn load_book(&mut self, now: Instant, book: Book) {
        self.handle_timeout(now);
        self.book = book;
        self.saving.is_outdated = self.saving.is_asked;
        self.cut_off_all_banned();
        self.note_book();
        self.settle();
    }

    /// Learns addresses of a peer, or replaces those that are known.
    ///
    /// # Errors
    ///
    /// See [`AddPeerError`]; the node is then as it was.
    pub fn add_peer(
        &mut self,
        now: Instant,
        peer: PublicKey,
        addresses: &[Address],
    ) -> Result<(), AddPeerError> {
        self.add_peer_with_metadata(now, peer, addresses, None)
    }

    /// Learns addresses of a peer, or replaces those that are known, and its metadata if there are
    /// any given.
    ///
    /// # Errors
    ///
    /// See [`AddPeerError`]; the node is then as it was.
    pub fn add_peer_with_metadata(
        &mut self,
        now: Instant,
        peer: PublicKey,
        addresses: &[Address],
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<(), AddPeerError> {
        self.handle_timeout(now);
        if peer == self.public_key() {
            return Err(AddPeerError::OwnKey);
        }
        let wall = self.wall_now();
        self.book.add(peer, addresses.to_vec(), metadata, wall)?;
        self.note_book();
        if self.config.autoconnect
            && self.state(peer) == ConnectionState::Disconnected
            && self.check_connect(peer).is_ok()
        {
            self.begin_connect(peer);
            self.start_dials();
        }
        self.settle();
        Ok(())
    }

    /// Forgets where a peer can be reached and what was noted of it; a ban stays. A session goes
    /// on, but will not be reconnected. Returns what was known.
    pub fn remove_peer(&mut self, now: Instant, peer: PublicKey) -> Option<Entry> {
        self.handle_timeout(now);
        let removed = self.book.remove(peer, self.wall_now());
        self.note_book();
        if self.state(peer) == ConnectionState::Reconnecting {
            let now = self.now;
            self.cancel_dial(peer);
            if let Some(known) = self.peers.get_mut(peer) {
                let event = known.move_to_disconnected(StateReason::NoAddress, now);
                self.events.push_back(event);
            }
        }
        self.settle();
        removed
    }

    /// Sets metadata of a peer, and deletes those whose new value is empty.
    ///
    /// # Errors
    ///
    /// See [`MetadataError`]; the node is then as it was.
    pub fn update_metadata(
        &mut self,
        now: Instant,
        peer: PublicKey,
        changes: BTreeMap<String, String>,
    ) -> Result<(), MetadataError> {
        self.handle_timeout(now);
        self.book.update_metadata(peer, changes, self.wall_now())?;
        self.note_book();
        Ok(())
    }

    /// Bans a peer, known or not, for ever or until a time, and cuts it off at once, whatever its
    /// state. What was queued for it is not sent.
    ///
    /// # Errors
    ///
    /// See [`BlacklistError`]; the node is then as it was.
    pub fn blacklist(
        &mut self,
        now: Instant,
        peer: PublicKey,
        until: Option<WallTime>,
    ) -> Result<(), BlacklistError> {
        self.handle_timeout(now);
        self.book.blacklist(peer, until, self.wall_now())?;
        self.note_book();
        if self.is_blacklisted(peer) {
            self.cut_off_banned(peer);
        }
        self.settle();
        Ok(())
    }

    /// Lifts a ban. Returns whether there was one.
    pub fn unblacklist(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.handle_timeout(now);
        let was_banned = self.book.unblacklist(peer, self.wall_now());
        self.note_book();
        was_banned
    }

    /// Returns whether a peer is banned now.
    pub fn is_blacklisted(&self, peer: PublicKey) -> bool {
        self.book.is_blacklisted(peer, self.wall_now())
    }

    /// Has the book stored now, if there is anything to store: [`NodeAction::SaveBook`] follows.
    pub fn flush_book(&mut self, now: Instant) {
        self.handle_timeout(now);
        if self.book.unsaved() != Unsaved::Nothing {
            self.ask_to_save();
        }
    }

    /// Takes note that the book was stored as it was at this revision.
    pub fn handle_book_saved(&mut self, now: Instant, revision: Revision) {
        self.handle_timeout(now);
        self.saving.is_asked = false;
        match std::mem::take(&mut self.saving.is_outdated) {
            true => self.book.mark_unsaved(),
            false => self.book.handle_saved(revision),
        }
        self.note_book();
    }

    /// Takes note that the book could not be stored; it is tried again at the next flush.
    pub fn handle_book_not_saved(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.saving.is_asked = false;
        self.saving.is_outdated = false;
        self.flush_later();
    }

    // ---- parts --------------------------------------------------------------------------------

    pub(super) fn wall_now(&self) -> WallTime {
        let (at, wall) = self.saving.wall;
        wall + self.now.duration_since(at)
    }

    pub(super) fn addresses(&self, peer: PublicKey) -> Vec<Address> {
        self.book.entry(peer).map(|entry| entry.addresses().to_vec()).unwrap_or_default()
    }

    pub(super) fn has_address(&self, peer: PublicKey) -> bool {
        self.book.entry(peer).is_some_and(|entry| !entry.addresses().is_empty())
    }

    /// The peer is connected.
    pub(super) fn seen(&mut self, peer: PublicKey) {
        self.book.touch(peer, self.wall_now());
        self.note_book();
    }

    /// The application has confirmed the peer's key.
    pub(super) fn confirmed(&mut self, peer: PublicKey) {
        self.book.set_public_key(peer, self.wall_now());
        self.note_book();
    }

    /// Has the book stored, at once or later, if it has changed.
    pub(super) fn note_book(&mut self) {
        match self.book.unsaved() {
            Unsaved::Critical => self.ask_to_save(),
            Unsaved::Lazy => self.flush_later(),
            // A flush may have been wanted while the save that has just ended was under way.
            Unsaved::Nothing => {
                self.saving.flush_at = None;
                self.saving.is_wanted = false;
            }
        }
    }

    /// The time has come to store what could wait.
    pub(super) fn flush_if_due(&mut self) {
        if self.saving.flush_at.is_some_and(|at| at <= self.now) {
            self.book.end_bans(self.wall_now());
            self.ask_to_save();
        }
    }

    /// Returns the request to store the book, behind everything that is more urgent.
    pub(super) fn poll_save(&mut self) -> Option<NodeAction> {
        if !self.saving.is_wanted || self.saving.is_asked {
            return None;
        }
        self.saving.is_wanted = false;
        self.saving.is_asked = true;
        Some(NodeAction::SaveBook)
    }

    fn flush_later(&mut self) {
        if self.saving.flush_at.is_none() && !self.saving.is_wanted && !self.saving.is_asked {
            self.saving.flush_at = Some(self.now + self.config.book_flush_interval);
        }
    }

    fn ask_to_save(&mut self) {
        self.saving.flush_at = None;
        self.saving.is_wanted = true;
    }

    /// Cuts off whoever is banned by what the book and the calendar say now.
    fn cut_off_all_banned(&mut self) {
        let wall = self.wall_now();
        let has_anything = |peer: PublicKey| {
            self.state(peer) != ConnectionState::Disconnected
                || self.is_dialling(peer)
                || self.peers.get(peer).is_some_and(|peer| peer.live_sessions().next().is_some())
        };
        let banned: Vec<PublicKey> = self
            .peers
            .keys()
            .filter(|peer| self.book.is_blacklisted(*peer, wall) && has_anything(*peer))
            .collect();
        for peer in banned {
            self.cut_off_banned(peer);
        }
    }

    fn cut_off_banned(&mut self, peer: PublicKey) {
        if self.config.has(Bug::BanSparesSession) {
            return;
        }
        self.end_all(peer, &CloseReason::Blacklisted, false);
    }
}
