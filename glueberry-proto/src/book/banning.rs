//! Which peers of the book are banned, and until when. Bans have places of their own.

use super::{Ban, Book, Entry};
use crate::crypto::PublicKey;
use crate::prelude::*;
use crate::wall::WallTime;

impl Book {
    /// True if a peer is banned at the given time.
    pub fn is_blacklisted(&self, peer: PublicKey, now: WallTime) -> bool {
        self.entries.get(&peer).is_some_and(|entry| entry.is_blacklisted(now))
    }

    /// Returns the earliest end of a ban, which is when to call [`end_bans`](Self::end_bans). It may
    /// lie in the past.
    pub fn next_ban_end(&self) -> Option<WallTime> {
        self.ban_ends.first().map(|&(end, _)| end)
    }

    /// Bans a peer, known or not. Replaces an earlier ban.
    ///
    /// Entries that hold nothing but a ban have a limit of their own,
    /// [`max_bans`](crate::book::Limits::max_bans). If there are as many, the ban is lifted of the peer that was
    /// banned, or [has tried](Self::banned_seen), the longest time ago; it is returned.
    pub fn blacklist(
        &mut self,
        peer: PublicKey,
        until: Option<WallTime>,
        now: WallTime,
    ) -> Option<PublicKey> {
        self.entry_or_new(peer, now);
        self.set_ban(peer, Some(until.map_or(Ban::Forever, Ban::Until)), now);
        self.banned_seen(peer, now);
        self.mark_critical();
        self.make_room_for_bans(peer, now)
    }

    /// Takes note that a banned peer has tried to connect, so that its ban is kept for longer than
    /// that of others. This is not stored.
    pub fn banned_seen(&mut self, peer: PublicKey, now: WallTime) {
        if self.bare_bans.contains(peer) {
            self.bare_bans.insert(peer, now);
        }
    }

    /// Lifts a peer's ban, and removes the entry if it holds nothing else. Returns true if the peer
    /// was banned.
    pub fn unblacklist(&mut self, peer: PublicKey, now: WallTime) -> bool {
        let is_banned = self.entries.get(&peer).is_some_and(|entry| entry.ban.is_some());
        if is_banned {
            self.lift_ban(peer, now);
            self.mark_critical();
        }
        is_banned
    }

    /// Lifts the bans that have ended, as [`unblacklist`](Self::unblacklist) does, and returns the
    /// peers.
    ///
    /// A ban that has ended has no effect even if this is never called, but it stays in the book.
    pub fn end_bans(&mut self, now: WallTime) -> Vec<PublicKey> {
        let mut peers = Vec::new();
        while let Some(&(end, peer)) = self.ban_ends.first()
            && end <= now
        {
            self.lift_ban(peer, now);
            peers.push(peer);
        }
        if !peers.is_empty() {
            // Not critical: the file still holds the end, so a restart comes to the same result.
            self.mark_lazy();
        }
        peers
    }

    /// Lifts a ban if there are too many that are all that is known of a peer, but not the given
    /// one. Returns whose it was.
    pub(super) fn make_room_for_bans(
        &mut self,
        keep: PublicKey,
        now: WallTime,
    ) -> Option<PublicKey> {
        if self.bare_bans.len() > self.limits.max_bans {
            self.end_bans(now);
        }
        if self.bare_bans.len() <= self.limits.max_bans {
            return None;
        }
        let oldest = self.bare_bans.oldest_but(keep)?;
        self.lift_ban(oldest, now);
        Some(oldest)
    }

    /// An entry has changed: it holds nothing but a ban, or it does.
    pub(super) fn note_bare(&mut self, peer: PublicKey, now: WallTime) {
        let is_bare = self.entries.get(&peer).is_some_and(|entry| !entry.is_of_peer());
        if !is_bare {
            self.bare_bans.remove(peer);
        } else if !self.bare_bans.contains(peer) {
            self.bare_bans.insert(peer, now);
        }
    }

    pub(super) fn lift_ban(&mut self, peer: PublicKey, now: WallTime) {
        // A peer that has connected between its ban's end and now is none that the application knows.
        let was_bare = self.bare_bans.contains(peer);
        self.set_ban(peer, None, now);
        if was_bare || self.entry(peer).is_some_and(Entry::is_bare) {
            self.entries.remove(&peer);
        }
    }

    /// Changes a known peer's ban. No other place does, so `ban_ends` agrees with the entries.
    pub(super) fn set_ban(&mut self, peer: PublicKey, ban: Option<Ban>, now: WallTime) {
        let Some(entry) = self.entries.get_mut(&peer) else {
            debug_assert!(false, "every caller has looked the peer up");
            return;
        };
        if let Some(end) = entry.ban.and_then(Ban::end) {
            self.ban_ends.remove(&(end, peer));
        }
        if let Some(end) = ban.and_then(Ban::end) {
            self.ban_ends.insert((end, peer));
        }
        entry.ban = ban;
        entry.mark_changed(now);
        self.note_bare(peer, now);
    }
}
