//! The commands of the application, and its view of the address book.

use alloc::collections::BTreeMap;

use super::Node;
use super::dials::Urgency;
use super::event::ConnectionState;
use super::peer::Peer;
use crate::address::Address;
use crate::book::{Book, Entry, Revision};
use crate::config::ReconnectPolicy;
use crate::crypto::PublicKey;
use crate::error::{CloseReason, ConnectError, PeerError};
use crate::prelude::*;
use crate::time::Instant;
use crate::wall::WallTime;

impl Node {
    // ---- connections --------------------------------------------------------------------------

    /// Dials a peer by the addresses that were [added](Self::add_peer): at once if it is waiting to
    /// be reconnected, and with a new count of attempts. If it is being dialled already, that dial
    /// is the one.
    ///
    /// It goes ahead of the dials in the background, of [`autoconnect`](Self::autoconnect) and
    /// of reconnections: one of these is postponed if
    /// [`max_dials`](crate::Config::max_dials) are under way. Behind as many dials that were asked
    /// for here it waits its turn.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]; the node is then as it was.
    pub fn connect(&mut self, now: Instant, peer: PublicKey) -> Result<(), ConnectError> {
        self.step(now, |node| {
            node.gate().check_connect(peer)?;
            node.begin_connect(peer, Urgency::Wanted);
            Ok(())
        })
    }

    /// Dials every peer in the book that is Disconnected, not banned and has an address, at most
    /// [`max_dials`](crate::Config::max_dials) at one time.
    pub fn autoconnect(&mut self, now: Instant) {
        self.step(now, |node| {
            let wall = node.store.wall_at(node.env.now);
            let allowed = node.store.book.iter_allowed(wall);
            let peers: Vec<PublicKey> = allowed.map(|(peer, _)| peer).collect();
            for peer in peers {
                node.connect_if_idle(peer);
            }
        });
    }

    /// Ends whatever there is with a peer, and what the node does to get back to it. The peer's own
    /// attempts are refused for a while, or they would undo it. Returns whether there was anything
    /// to end.
    pub fn disconnect(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.step(now, |node| {
            let is_anything = node.state(peer) != ConnectionState::Disconnected;
            if is_anything {
                node.cut_off(peer, &CloseReason::Disconnected);
            }
            is_anything
        })
    }

    /// Ends the attempts to reconnect to a peer, or keeps them from beginning after its cooldown.
    /// Returns whether there were any. A session of a peer that is Connected is not touched; one that
    /// has not come so far is part of the attempt, and ends.
    pub fn cancel_reconnection(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.step(now, |node| node.with_peer(peer, Peer::cancel_retries).unwrap_or(false))
    }

    /// Sets when this peer is dialled again, in place of the configured policy; `None` goes back to
    /// that. Counts from the next loss on.
    ///
    /// # Errors
    ///
    /// [`PeerError::Policy`] if the policy does not pass its [check](ReconnectPolicy::check), and
    /// [`PeerError::LimitReached`] if the node holds a state for as many other peers as it may.
    pub fn set_reconnect_policy(
        &mut self,
        now: Instant,
        peer: PublicKey,
        policy: Option<ReconnectPolicy>,
    ) -> Result<(), PeerError> {
        self.step(now, |node| {
            if let Some(policy) = &policy {
                policy.check()?;
            }
            node.update_peer(peer, policy.is_some(), |peer| peer.policy = policy)
        })
    }

    /// Protects a peer from being pruned, or no longer does.
    ///
    /// # Errors
    ///
    /// [`PeerError::LimitReached`] if the node holds a state for as many other peers as it may.
    pub fn protect(
        &mut self,
        now: Instant,
        peer: PublicKey,
        is_protected: bool,
    ) -> Result<(), PeerError> {
        self.step(now, |node| {
            node.update_peer(peer, is_protected, |peer| peer.is_protected = is_protected)
        })
    }

    /// Ends everything and admits nothing more; [`is_idle`](Self::is_idle) returns whether that is
    /// done.
    pub fn shutdown(&mut self, now: Instant) {
        self.step(now, |node| {
            node.env.is_stopping = true;
            let peers: Vec<PublicKey> = node.peers.keys().collect();
            for peer in peers {
                node.end_everything(peer, &CloseReason::Disconnected, true);
            }
            node.store.flush();
        });
    }

    // ---- the address book ---------------------------------------------------------------------

    /// Sets the calendar time, which goes on evenly until it is set again.
    ///
    /// It decides nothing but what is stored: when peers were seen, and when bans end. A peer whose
    /// ban holds again, because the calendar was set back, is cut off, and of one that is
    /// [held to v2](crate::Config::pin_time) again sessions of earlier profiles end.
    pub fn set_wall_time(&mut self, now: Instant, wall: WallTime) {
        self.step(now, |node| {
            let is_free = |peer: &PublicKey| !node.store.is_held_to_v2(*peer, &node.env);
            let free: Vec<PublicKey> = node.peers.keys().filter(is_free).collect();
            node.store.set_wall_time(node.env.now, wall);
            node.end_banned();
            node.hold_pinned_to_v2(free);
        });
    }

    /// Returns the address book.
    pub const fn book(&self) -> &Book {
        &self.store.book
    }

    /// Replaces the address book, as read from where it was stored. Peers that it bans are cut off.
    /// If the old one is being stored just then, the new one is stored again behind it.
    pub fn load_book(&mut self, now: Instant, book: Book) {
        self.step(now, |node| {
            node.store.replace(book, &node.env);
            node.end_banned();
            node.hold_pinned_to_v2(node.peers.keys().collect());
        });
    }

    /// Learns addresses of a peer, or replaces those that are known.
    ///
    /// # Errors
    ///
    /// See [`PeerError`]; the node is then as it was.
    pub fn add_peer(
        &mut self,
        now: Instant,
        peer: PublicKey,
        addresses: &[Address],
    ) -> Result<(), PeerError> {
        self.add_peer_with_metadata(now, peer, addresses, None)
    }

    /// Learns addresses of a peer, or replaces those that are known, and its metadata if there are
    /// any given.
    ///
    /// # Errors
    ///
    /// See [`PeerError`]; the node is then as it was.
    pub fn add_peer_with_metadata(
        &mut self,
        now: Instant,
        peer: PublicKey,
        addresses: &[Address],
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<(), PeerError> {
        self.step(now, |node| {
            if peer == node.env.own_key {
                return Err(PeerError::OwnKey);
            }
            node.change_book(|book, wall| book.add(peer, addresses.to_vec(), metadata, wall))?;
            if node.env.config.autoconnect {
                node.connect_if_idle(peer);
            }
            Ok(())
        })
    }

    /// Forgets where a peer can be reached and what was noted of it; a ban stays. A session goes
    /// on, but will not be reconnected. Returns what was known.
    pub fn remove_peer(&mut self, now: Instant, peer: PublicKey) -> Option<Entry> {
        self.step(now, |node| {
            let removed = node.change_book(|book, wall| book.remove(peer, wall));
            node.with_peer(peer, Peer::addresses_removed);
            removed
        })
    }

    /// Sets metadata of a peer, and deletes those whose new value is empty.
    ///
    /// # Errors
    ///
    /// See [`PeerError`]; the node is then as it was.
    pub fn update_metadata(
        &mut self,
        now: Instant,
        peer: PublicKey,
        changes: BTreeMap<String, String>,
    ) -> Result<(), PeerError> {
        self.step(now, |node| {
            node.change_book(|book, wall| book.update_metadata(peer, changes, wall))?;
            Ok(())
        })
    }

    /// Bans a peer, known or not, for ever or until a time, and cuts it off at once, whatever its
    /// state. What was queued for it is not sent.
    ///
    /// Of peers of which the book knows nothing but a ban it holds at most
    /// [`max_bans`](crate::Config::max_bans). If there are as many, the ban is lifted of the one that
    /// was banned, or has tried to connect, the longest time ago; it is returned.
    ///
    /// # Errors
    ///
    /// [`PeerError::OwnKey`]; the node is then as it was.
    pub fn blacklist(
        &mut self,
        now: Instant,
        peer: PublicKey,
        until: Option<WallTime>,
    ) -> Result<Option<PublicKey>, PeerError> {
        self.step(now, |node| {
            if peer == node.env.own_key {
                return Err(PeerError::OwnKey);
            }
            let lifted = node.change_book(|book, wall| book.blacklist(peer, until, wall));
            // It does not hold if it ends in the past.
            if node.is_blacklisted(peer) {
                node.end_everything(peer, &CloseReason::Blacklisted, false);
            }
            Ok(lifted)
        })
    }

    /// Lifts a ban. Returns whether there was one.
    pub fn unblacklist(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.step(now, |node| node.change_book(|book, wall| book.unblacklist(peer, wall)))
    }

    /// Returns whether a peer is banned now.
    pub fn is_blacklisted(&self, peer: PublicKey) -> bool {
        self.store.is_blacklisted(peer, self.env.now)
    }

    /// No longer holds a peer to v2, which it has spoken: sessions that begin from now on may have
    /// an earlier profile. Returns whether it was held. It is again as soon as it speaks v2.
    pub fn clear_pin(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.step(now, |node| node.change_book(|book, wall| book.clear_v2(peer, wall)))
    }

    /// Returns until when a peer is held to v2, which it has spoken; `None` if it is not now, or if the
    /// [configuration](crate::Config::pin_time) holds no peer to it.
    pub fn pinned_until(&self, peer: PublicKey) -> Option<WallTime> {
        let entry = self.store.book.entry(peer)?;
        entry.v2_until().filter(|_| self.store.is_held_to_v2(peer, &self.env))
    }

    /// Has the book stored now, if there is anything to store: [`NodeAction::SaveBook`](crate::NodeAction::SaveBook)
    /// follows.
    pub fn flush_book(&mut self, now: Instant) {
        self.step(now, |node| node.store.flush());
    }

    /// Takes note that the book was stored as it was at this revision.
    pub fn handle_book_saved(&mut self, now: Instant, revision: Revision) {
        self.step(now, |node| node.store.saved(revision, &node.env));
    }

    /// Takes note that the book could not be stored; it is tried again at the next flush.
    pub fn handle_book_not_saved(&mut self, now: Instant) {
        self.step(now, |node| node.store.not_saved(&node.env));
    }

    // ---- parts --------------------------------------------------------------------------------

    /// Ends everything with a peer, sends what was queued, and refuses it for a while.
    pub(super) fn cut_off(&mut self, peer: PublicKey, reason: &CloseReason) {
        self.with_peer(peer, |peer, cx| peer.cut_off(reason, cx));
    }

    fn end_everything(&mut self, peer: PublicKey, reason: &CloseReason, drain: bool) {
        self.with_peer(peer, |peer, cx| peer.end_everything(reason, drain, cx));
    }

    /// Ends everything with those that are banned by what the book and the calendar say now.
    fn end_banned(&mut self) {
        let is_to_end = |peer: &PublicKey| {
            self.is_blacklisted(*peer)
                && self.peers.get(*peer).is_some_and(Peer::has_anything_to_end)
        };
        let banned: Vec<PublicKey> = self.peers.keys().filter(is_to_end).collect();
        for peer in banned {
            self.end_everything(peer, &CloseReason::Blacklisted, false);
        }
    }

    /// Ends sessions of earlier profiles with those of the peers that are held to v2 by what the book
    /// and the calendar say now.
    fn hold_pinned_to_v2(&mut self, mut peers: Vec<PublicKey>) {
        peers.retain(|peer| self.store.is_held_to_v2(*peer, &self.env));
        for peer in peers {
            self.with_peer(peer, |peer, cx| peer.hold_to_v2(cx));
        }
    }

    fn begin_connect(&mut self, peer: PublicKey, urgency: Urgency) {
        self.make_room_for_peer(peer);
        self.peers.get_or_insert(peer);
        self.with_peer(peer, |peer, cx| peer.connect(urgency, cx));
    }

    /// Begins to connect to a peer that is Disconnected, if it may be connected to.
    fn connect_if_idle(&mut self, peer: PublicKey) {
        let is_idle = self.state(peer) == ConnectionState::Disconnected;
        if is_idle && self.gate().check_connect(peer).is_ok() {
            self.begin_connect(peer, Urgency::Background);
        }
    }

    /// Changes what is remembered of a peer. Only what is worth it makes a peer known that is not.
    fn update_peer(
        &mut self,
        key: PublicKey,
        is_worth_it: bool,
        change: impl FnOnce(&mut Peer),
    ) -> Result<(), PeerError> {
        if self.peers.get(key).is_none() && !is_worth_it {
            return Ok(());
        }
        if !self.make_room_for_peer(key) {
            return Err(PeerError::LimitReached("max_peers"));
        }
        change(self.peers.get_or_insert(key));
        Ok(())
    }

    /// Changes the book, and has it stored if that has changed it.
    fn change_book<R>(&mut self, change: impl FnOnce(&mut Book, WallTime) -> R) -> R {
        let wall = self.store.wall_at(self.env.now);
        let before = self.store.book.revision();
        let result = change(&mut self.store.book, wall);
        if self.store.book.revision() != before {
            self.store.schedule(&self.env);
        }
        result
    }
}
