//! Connecting again by itself: after a loss, after a cooldown, and at the start.

use super::Node;
use super::event::{ConnectionState, StateReason};
use super::peer::Dialling;
use super::policy::ReconnectPolicy;
use crate::crypto::PublicKey;
use crate::error::CloseReason;

impl Node {
    /// Returns whether a peer is to be dialled again by itself.
    pub(super) fn may_retry(&self, key: PublicKey) -> bool {
        let Some(peer) = self.peers.get(key) else {
            return false;
        };
        !self.is_stopping
            && !peer.is_retry_cancelled
            && self.policy(key).allows(peer.attempts)
            && self.has_address(key)
            && !self.is_blacklisted(key)
    }

    /// Waits for the next attempt, if there is to be one, after an event that told the loss.
    pub(super) fn retry_later(&mut self, key: PublicKey) {
        if !self.may_retry(key) {
            return;
        }
        let (now, policy) = (self.now, self.policy(key));
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        if !matches!(peer.state(), ConnectionState::Disconnected | ConnectionState::Cooldown) {
            return;
        }
        let wait = policy.backoff(peer.attempts, &mut self.random);
        let retry_at = self.after(wait);
        if let Some(peer) = self.peers.get_mut(key) {
            let event = peer.move_to_reconnecting(retry_at, now);
            self.events.push_back(event);
        }
    }

    /// The wait before an attempt is over.
    pub(super) fn retry(&mut self, key: PublicKey) {
        let now = self.now;
        let has_address = self.has_address(key);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.retry_at = None;
        if has_address {
            self.queue_dial(key);
        } else {
            let event = peer.move_to_disconnected(StateReason::NoAddress, now);
            self.events.push_back(event);
        }
    }

    /// The peer's cooldown is over.
    pub(super) fn cooldown_over(&mut self, key: PublicKey) {
        let now = self.now;
        if self.may_retry(key) {
            return self.retry_later(key);
        }
        if let Some(peer) = self.peers.get_mut(key) {
            peer.is_retry_cancelled = false;
            let event = peer.move_to_disconnected(StateReason::CooldownOver, now);
            self.events.push_back(event);
        }
    }

    /// Ends what the node does by itself to get back to a peer. Returns whether there was anything.
    pub(super) fn cancel_retries(&mut self, key: PublicKey) -> bool {
        let now = self.now;
        let may_retry = self.may_retry(key);
        let Some(peer) = self.peers.get_mut(key) else {
            return false;
        };
        match peer.state() {
            ConnectionState::Cooldown => {
                peer.is_retry_cancelled = true;
                return may_retry;
            }
            ConnectionState::Reconnecting => {}
            ConnectionState::Connecting if peer.attempts > 0 => {}
            _ => return false,
        }
        self.cancel_dial(key);
        self.end_sessions(key, &CloseReason::Disconnected, false);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.attempts = 0;
            let event = peer.move_to_disconnected(StateReason::ReconnectionCancelled, now);
            self.events.push_back(event);
        }
        true
    }

    /// Begins to connect to every peer that may be, as far as there is room for their events.
    pub(super) fn connect_all(&mut self) {
        let peers: Vec<PublicKey> =
            self.book.iter_allowed(self.wall_now()).map(|(peer, _)| peer).collect();
        for peer in peers {
            if self.check_connect(peer).is_ok() && self.state(peer) == ConnectionState::Disconnected
            {
                self.begin_connect(peer);
            }
        }
    }

    pub(super) fn policy(&self, key: PublicKey) -> ReconnectPolicy {
        self.peers.get(key).and_then(|peer| peer.policy).unwrap_or(self.config.reconnect)
    }

    /// Returns whether a dial is queued or under way.
    pub(super) fn is_dialling(&self, key: PublicKey) -> bool {
        self.peers.get(key).is_some_and(|peer| peer.dialling != Dialling::No)
    }
}
