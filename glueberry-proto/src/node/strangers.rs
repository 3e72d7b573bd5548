//! Who gives way when places are short.
//!
//! A *stranger* is a peer that has dialled this node, is not in the address book, and is not
//! protected. An attacker can make as many of them as it likes, so strangers share a part of the
//! places, and within it those give way first that have shown least:
//!
//! | standing | whose session it is | among equals goes first |
//! |---|---|---|
//! | pending | a stranger's that is not agreed, or waits beside the current one | the oldest |
//! | waiting | the same, of a stranger that is Established | the oldest |
//! | connected | a stranger's current one, not Established | the oldest |
//! | established | a stranger's current one | the youngest |
//! | known | a peer's that is in the address book | the youngest |
//! | dialled | a peer's that this node has dialled | the youngest |
//! | protected | a protected peer's: it never gives way | |
//!
//! An honest handshake takes moments, so of those that are not Established the oldest are the least
//! likely to get there. A newcomer is let in at the expense of one of them rather than refused.

use alloc::collections::BTreeSet;

use super::Node;
use super::admission::Gate;
use super::event::ConnectionState;
use super::peer::Peer;
use crate::config::Config;
use crate::crypto::PublicKey;
use crate::error::{CloseReason, RefuseReason};
use crate::id::SessionId;
use crate::prelude::*;
use crate::session::Direction;
use crate::time::Instant;

/// What speaks for a session; the least gives way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Pending,
    Waiting,
    Connected,
    Established,
    Known,
    Dialled,
    Protected,
}

/// A session and what speaks for it.
#[derive(Clone, Copy, Debug)]
struct Place {
    session: SessionId,
    peer: PublicKey,
    standing: Standing,
    /// It was asked to end.
    is_ending: bool,
    is_current: bool,
    /// Since when the peer is in its state.
    since: Instant,
}

impl Place {
    const fn is_strangers(&self) -> bool {
        matches!(
            self.standing,
            Standing::Pending | Standing::Waiting | Standing::Connected | Standing::Established
        )
    }

    /// True if it is neither current nor ending.
    const fn is_pending(&self) -> bool {
        matches!(self.standing, Standing::Pending | Standing::Waiting)
    }

    /// True if its peer is Connected, and should have been Established long ago.
    fn is_stale(&self, now: Instant, config: &Config) -> bool {
        self.standing == Standing::Connected
            && now.duration_since(self.since) >= config.negotiation_timeout
    }

    /// Sorts places so that those that give way first come first.
    fn order(&self) -> (Standing, u64, u64) {
        let (since, session) = (self.since.as_micros(), self.session.as_u64());
        match self.standing {
            Standing::Pending | Standing::Waiting => (self.standing, 0, session),
            Standing::Connected => (self.standing, since, session),
            _ => (self.standing, u64::MAX - since, u64::MAX - session),
        }
    }
}

impl Gate<'_> {
    /// True if nothing speaks for a peer with a connection of this direction.
    pub(super) fn is_stranger(&self, key: PublicKey, direction: Direction) -> bool {
        direction == Direction::Inbound
            && !self.peers.get(key).is_some_and(|peer| peer.is_protected)
            && !self.store.knows(key)
    }

    /// True if peers other than strangers have all the places that there are.
    pub(super) fn is_full_of_known(&self) -> bool {
        let most = self.env.config.max_sessions;
        self.sessions.len() >= most
            && self.places().iter().filter(|place| !place.is_strangers()).count() >= most
    }

    /// True if the node may hold a state for a peer, perhaps in place of a stranger's.
    pub(super) fn has_room_for_peer(&self, key: PublicKey) -> bool {
        self.peers.get(key).is_some()
            || self.peers.len() < self.env.config.max_peers
            || self.dispensable_peer().is_some()
    }

    /// Returns a stranger of which only the memory is left of why it is refused: that which would
    /// be forgotten first.
    fn dispensable_peer(&self) -> Option<PublicKey> {
        let mut due = self.peers.iter_due();
        due.find(|key| {
            self.peers.get(*key).is_some_and(Peer::is_only_refused) && !self.store.knows(*key)
        })
    }

    fn places(&self) -> Vec<Place> {
        let places = self.sessions.owners().filter_map(|(session, key)| self.place(session, key));
        places.collect()
    }

    fn place(&self, session: SessionId, key: PublicKey) -> Option<Place> {
        let peer = self.peers.get(key)?;
        let (direction, is_ending) = peer.session(session)?;
        let is_current = peer.current().is_some_and(|current| current.id == session);
        let is_established = peer.state() == ConnectionState::Established;
        let standing = match (is_current, is_established) {
            _ if peer.is_protected => Standing::Protected,
            _ if direction == Direction::Outbound => Standing::Dialled,
            _ if self.store.knows(key) => Standing::Known,
            (true, true) => Standing::Established,
            (true, false) => Standing::Connected,
            (false, true) => Standing::Waiting,
            (false, false) => Standing::Pending,
        };
        Some(Place { session, peer: key, standing, is_ending, is_current, since: peer.since() })
    }
}

impl Node {
    /// Makes room for a session of a peer that may have one, at the expense of strangers.
    ///
    /// Strangers have what is left of the places, but never the reserved ones. A place that is
    /// given up is free for a peer that is known at once, though the session may take a moment to
    /// end; strangers wait for that, so that there are never more than twice
    /// [`max_sessions`](Config::max_sessions).
    pub(super) fn make_room(
        &mut self,
        key: PublicKey,
        direction: Direction,
    ) -> Result<(), RefuseReason> {
        const FULL: RefuseReason = RefuseReason::LimitReached("max_sessions");
        if !self.make_room_for_peer(key) {
            return Err(RefuseReason::LimitReached("max_peers"));
        }
        let config = self.env.config.clone();
        // Looking at each session is not for free, and there is room in plenty.
        if self.sessions.len() < config.max_pending_sessions.min(config.max_sessions / 2) {
            return Ok(());
        }
        let is_stranger = self.gate().is_stranger(key, direction);
        let (mut strangers, known): (Vec<_>, Vec<_>) =
            self.gate().places().into_iter().partition(Place::is_strangers);
        let rivals = if is_stranger { strangers.len() } else { known.len() };
        if rivals >= config.max_sessions {
            return Err(FULL);
        }
        strangers.retain(|place| !place.is_ending);
        let taken = match is_stranger {
            true => known.len(),
            // Several of one peer become one in a moment, for which no stranger has to go.
            false => {
                let peers = known.iter().map(|place| place.peer).chain([key]);
                peers.collect::<BTreeSet<_>>().len()
            }
        };
        let taken = taken.max(config.reserved_places());
        let mut excess = strangers.len() + usize::from(is_stranger);
        excess = excess.saturating_sub(config.max_sessions.saturating_sub(taken));
        if is_stranger {
            let pending = strangers.iter().filter(|place| place.is_pending()).count() + 1;
            excess = excess.max(pending.saturating_sub(config.max_pending_sessions));
            // It has shown nothing itself.
            let now = self.env.now;
            strangers.retain(|place| place.is_pending() || place.is_stale(now, &config));
            if strangers.len() < excess {
                return Err(FULL);
            }
        }
        strangers.sort_by_key(Place::order);
        for place in strangers.into_iter().take(excess) {
            self.dismiss(place);
        }
        Ok(())
    }

    /// Makes room for the state of a peer. Returns false if there is none to be made.
    pub(super) fn make_room_for_peer(&mut self, key: PublicKey) -> bool {
        if self.peers.get(key).is_some() || self.peers.len() < self.env.config.max_peers {
            return true;
        }
        let Some(dispensable) = self.gate().dispensable_peer() else {
            return false;
        };
        self.with_known_peer(dispensable, Peer::forget_refusal);
        self.peers.settle();
        true
    }

    /// Disconnects peers if more than the high watermark have a current session: those that are
    /// too many, and with them, down to the low watermark, those that have been Connected for long
    /// without becoming Established.
    pub(super) fn prune(&mut self) {
        for place in self.places_to_prune() {
            self.dismiss(place);
        }
    }

    fn places_to_prune(&self) -> Vec<Place> {
        let config = &self.env.config;
        // Looking at each session is not for free.
        if self.sessions.len() <= config.sessions_high {
            return Vec::new();
        }
        let mut current = self.gate().places();
        current.retain(|place| place.is_current);
        let [above_high, above_low] = [config.sessions_high, config.sessions_low]
            .map(|mark| current.len().saturating_sub(mark));
        if above_high == 0 {
            return Vec::new();
        }
        current.retain(|place| place.standing != Standing::Protected);
        current.sort_by_key(Place::order);
        let is_to_go = |(at, place): &(usize, Place)| {
            *at < above_high || (*at < above_low && place.is_stale(self.env.now, config))
        };
        current.into_iter().enumerate().filter(is_to_go).map(|(_, place)| place).collect()
    }

    /// Ends a session to make room. The peer is not refused if it comes back.
    fn dismiss(&mut self, place: Place) {
        let Place { session, peer, standing, is_current, .. } = place;
        // What was queued for a peer that has shown nothing is not worth the wait.
        let drain = standing >= Standing::Established;
        self.with_known_peer(peer, |peer, cx| match is_current {
            true => peer.end_everything(&CloseReason::Pruned, drain, cx),
            false => peer.end_waiting(session, CloseReason::Pruned, cx),
        });
    }
}
