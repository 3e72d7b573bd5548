//! The address book that a node keeps, and when it is stored.

use super::env::Env;
use crate::address::Address;
use crate::book::{Book, Entry, Limits, Revision, Unsaved};
use crate::crypto::PublicKey;
use crate::prelude::*;
use crate::time::Instant;
use crate::wall::WallTime;

/// The book, the calendar that it is written by, and whether a save is due or under way.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) book: Book,
    /// What the calendar said, and when.
    wall: (Instant, WallTime),
    /// Something must be stored at once.
    is_wanted: bool,
    /// The adapter was asked to, and has not answered.
    is_asked: bool,
    /// What the adapter is storing is a book that has been replaced since.
    is_outdated: bool,
    /// When it is asked next, for changes that can wait.
    flush_at: Option<Instant>,
}

impl Store {
    pub(super) fn new(now: Instant, limits: Limits) -> Self {
        Self {
            book: Book::new(limits),
            wall: (now, WallTime::UNIX_EPOCH),
            is_wanted: false,
            is_asked: false,
            is_outdated: false,
            flush_at: None,
        }
    }

    pub(super) const fn set_wall_time(&mut self, now: Instant, wall: WallTime) {
        self.wall = (now, wall);
    }

    pub(super) fn wall_at(&self, now: Instant) -> WallTime {
        let (at, wall) = self.wall;
        wall + now.duration_since(at)
    }

    pub(super) fn is_blacklisted(&self, peer: PublicKey, now: Instant) -> bool {
        self.book.is_blacklisted(peer, self.wall_at(now))
    }

    /// A banned peer has tried to connect.
    pub(super) fn banned_seen(&mut self, peer: PublicKey, now: Instant) {
        let wall = self.wall_at(now);
        self.book.banned_seen(peer, wall);
    }

    pub(super) fn addresses(&self, peer: PublicKey) -> Vec<Address> {
        self.book.entry(peer).map(|entry| entry.dial_order()).unwrap_or_default()
    }

    pub(super) fn has_address(&self, peer: PublicKey) -> bool {
        self.book.entry(peer).is_some_and(|entry| !entry.addresses().is_empty())
    }

    /// True if the book has an entry of the peer that the application has made for more than a ban.
    pub(super) fn knows(&self, peer: PublicKey) -> bool {
        self.book.entry(peer).is_some_and(Entry::is_of_peer)
    }

    /// Replaces the book. If the old one is being stored, the new one is stored after it.
    pub(super) fn replace(&mut self, book: Book, env: &Env) {
        self.book = book;
        self.is_outdated = self.is_asked;
        self.schedule(env);
    }

    /// Records that the peer is connected.
    pub(super) fn peer_connected(&mut self, peer: PublicKey, env: &Env) {
        self.book.touch(peer, self.wall_at(env.now));
        self.schedule(env);
    }

    /// Records that the application has confirmed the peer's key.
    pub(super) fn key_confirmed(&mut self, peer: PublicKey, env: &Env) {
        self.book.set_public_key(peer, self.wall_at(env.now));
        self.schedule(env);
    }

    /// True if no session of an earlier profile than v2 may begin with the peer.
    pub(super) fn is_held_to_v2(&self, peer: PublicKey, env: &Env) -> bool {
        let is_held = |entry: &Entry| entry.is_held_to_v2(self.wall_at(env.now));
        env.config.pins() && self.book.entry(peer).is_some_and(is_held)
    }

    /// Records that the peer has spoken v2. Returns whether it is held to it from now on, as peers in
    /// the book are.
    pub(super) fn hold_to_v2(&mut self, peer: PublicKey, env: &Env) -> bool {
        let now = self.wall_at(env.now);
        let is_held =
            env.config.pins() && self.book.set_v2_until(peer, now + env.config.pin_time, now);
        self.schedule(env);
        is_held
    }

    /// Has the book stored, at once or later, if it has changed.
    pub(super) fn schedule(&mut self, env: &Env) {
        match self.book.unsaved() {
            Unsaved::Critical => self.save_now(),
            Unsaved::Lazy => self.save_later(env),
            // A flush may have been wanted while the save that has just ended was under way.
            Unsaved::Nothing => {
                self.flush_at = None;
                self.is_wanted = false;
            }
        }
    }

    /// Has the book stored now, if there is anything to store.
    pub(super) fn flush(&mut self) {
        if self.book.unsaved() != Unsaved::Nothing {
            self.save_now();
        }
    }

    /// Has the book stored if the time for changes that could wait has come.
    pub(super) fn flush_if_due(&mut self, now: Instant) {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.book.end_bans(self.wall_at(now));
            self.save_now();
        }
    }

    pub(super) const fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    pub(super) fn saved(&mut self, revision: Revision, env: &Env) {
        self.is_asked = false;
        match core::mem::take(&mut self.is_outdated) {
            true => self.book.mark_unsaved(),
            false => self.book.handle_saved(revision),
        }
        self.schedule(env);
    }

    /// Tries again at the next flush: a store that fails is likely to fail again at once.
    pub(super) fn not_saved(&mut self, env: &Env) {
        self.is_asked = false;
        self.is_outdated = false;
        self.save_later(env);
    }

    /// Returns whether the adapter is to store the book now. At most one save is under way.
    pub(super) const fn poll_save(&mut self) -> bool {
        if !self.is_wanted || self.is_asked {
            return false;
        }
        self.is_wanted = false;
        self.is_asked = true;
        true
    }

    fn save_later(&mut self, env: &Env) {
        if self.flush_at.is_none() && !self.is_wanted && !self.is_asked {
            self.flush_at = Some(env.now + env.config.book_flush_interval);
        }
    }

    const fn save_now(&mut self) {
        self.flush_at = None;
        self.is_wanted = true;
    }
}
