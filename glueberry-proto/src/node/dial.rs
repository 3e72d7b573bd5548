//! Dials: bounded in number and time, begun by the application or by the node itself.

use super::Node;
use super::event::{ConnectionState, NodeAction, StateReason};
use super::peer::{Dialling, Peer};
use crate::bug::Bug;
use crate::crypto::PublicKey;
use crate::error::{ConnectError, DialError, RefuseReason};
use crate::id::DialId;
use crate::time::Instant;

impl Node {
    pub(super) fn check_connect(&self, peer: PublicKey) -> Result<(), ConnectError> {
        if self.is_stopping {
            return Err(ConnectError::ShuttingDown);
        }
        if peer == self.public_key() {
            return Err(ConnectError::OwnKey);
        }
        if self.is_blacklisted(peer) {
            return Err(ConnectError::Blacklisted);
        }
        let known = self.peers.get(peer);
        match known.map_or(ConnectionState::Disconnected, Peer::state) {
            ConnectionState::Disconnected | ConnectionState::Reconnecting => {}
            ConnectionState::Cooldown => {
                let until = known.and_then(|peer| peer.cooldown_until).unwrap_or(self.now);
                return Err(ConnectError::InCooldown { remaining: until.duration_since(self.now) });
            }
            ConnectionState::Connecting
            | ConnectionState::Connected
            | ConnectionState::Established => return Err(ConnectError::AlreadyConnected),
        }
        if !self.has_address(peer) {
            return Err(ConnectError::NoAddress);
        }
        if self.sessions.len() >= self.config.max_sessions {
            return Err(ConnectError::LimitReached("max_sessions"));
        }
        if known.is_none() && self.peers.len() >= self.config.max_peers {
            return Err(ConnectError::LimitReached("max_peers"));
        }
        if !self.has_event_room() {
            return Err(ConnectError::LimitReached("event_queue"));
        }
        Ok(())
    }

    /// Begins to connect to a peer that [may be](Self::check_connect) connected to.
    pub(super) fn begin_connect(&mut self, key: PublicKey) {
        let now = self.now;
        let peer = self.peers.get_or_insert(key);
        peer.attempts = 0;
        let was_queued = peer.dialling == Dialling::Queued;
        let event = peer.move_to_connecting(now);
        peer.dialling = Dialling::Queued;
        self.events.push_back(event);
        if !was_queued {
            self.dial_queue.push_back(key);
        }
    }

    /// Has a peer dialled as soon as the limits allow; until then its state stays.
    pub(super) fn queue_dial(&mut self, key: PublicKey) {
        if let Some(peer) = self.peers.get_mut(key)
            && peer.dialling == Dialling::No
        {
            peer.dialling = Dialling::Queued;
            self.dial_queue.push_back(key);
        }
    }

    /// Starts queued dials for as long as the limits allow.
    pub(super) fn start_dials(&mut self) {
        let is_unbounded = self.config.has(Bug::DialsUnbounded);
        while (self.dials.len() < self.config.max_dials || is_unbounded) && self.has_event_room() {
            let next = self.dial_queue.iter().position(|key| !self.is_parting(*key));
            let Some(key) = next.and_then(|next| self.dial_queue.remove(next)) else {
                return;
            };
            let is_queued =
                self.peers.get(key).is_some_and(|peer| peer.dialling == Dialling::Queued);
            if is_queued {
                self.start_dial(key);
            }
        }
    }

    /// Returns whether a session with the peer is still sending what was queued when it was told to
    /// end. Until it has, the peer takes it for alive, and would refuse another.
    fn is_parting(&self, key: PublicKey) -> bool {
        self.peers
            .get(key)
            .is_some_and(|peer| peer.sessions.iter().any(|session| session.is_ending))
    }

    fn start_dial(&mut self, key: PublicKey) {
        let (now, mut deadline) = (self.now, self.now + self.config.dial_timeout);
        if self.config.has(Bug::EndlessDial) {
            deadline = now + self.config.dial_timeout * 1000;
        }
        let addresses = self.addresses(key);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if peer.state() == ConnectionState::Reconnecting {
            let event = peer.move_to_connecting(now);
            self.events.push_back(event);
        }
        let dial = DialId::new(self.dial_ids.next());
        peer.dialling = Dialling::Dialled(dial, deadline);
        self.dials.insert(dial, key);
        self.actions.push_back(NodeAction::Dial { dial, peer: key, addresses });
    }

    pub(super) fn dial_failed(&mut self, dial: DialId, error: DialError) {
        let Some(peer) = self.dials.remove(&dial) else {
            return;
        };
        if let Some(known) = self.peers.get_mut(peer) {
            known.dialling = Dialling::No;
            self.connecting_failed(peer, error);
        }
        self.start_dials();
    }

    /// A peer that is being connected to could not be, unless another attempt is still under way.
    pub(super) fn connecting_failed(&mut self, key: PublicKey, error: DialError) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let is_over = peer.state() == ConnectionState::Connecting
            && peer.dialling == Dialling::No
            && peer.live_sessions().next().is_none();
        if !is_over {
            return;
        }
        let attempts = peer.attempts;
        let reason = match self.may_retry(key) {
            false if attempts > 0 => StateReason::AttemptsExhausted { attempts, last: error },
            _ => StateReason::DialFailed(error),
        };
        if let Some(peer) = self.peers.get_mut(key) {
            let mut event = peer.move_to_disconnected(reason, now);
            if self.config.has(Bug::WrongState) {
                event.state = ConnectionState::Established;
            }
            self.events.push_back(event);
        }
        self.retry_later(key);
    }

    /// Gives up the dial of a peer, without an event.
    pub(super) fn cancel_dial(&mut self, key: PublicKey) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        match std::mem::replace(&mut peer.dialling, Dialling::No) {
            Dialling::No => {}
            Dialling::Queued => self.dial_queue.retain(|queued| *queued != key),
            Dialling::Dialled(dial, _) => {
                self.dials.remove(&dial);
                self.actions.push_back(NodeAction::CancelDial(dial));
            }
        }
    }

    pub(super) fn expire_dial(&mut self, key: PublicKey, now: Instant) {
        if let Some(peer) = self.peers.get(key)
            && let Dialling::Dialled(dial, deadline) = peer.dialling
            && deadline <= now
        {
            self.actions.push_back(NodeAction::CancelDial(dial));
            self.dial_failed(dial, DialError::TimedOut);
        }
    }

    /// Takes the result of a dial, if it was still awaited.
    pub(super) fn take_dial(&mut self, dial: DialId, peer: PublicKey) -> Result<(), RefuseReason> {
        let Some(dialled) = self.dials.get(&dial).copied() else {
            return Err(RefuseReason::DialCancelled);
        };
        if dialled != peer {
            self.dial_failed(dial, DialError::WrongPeer { actual: peer.to_string() });
            return Err(RefuseReason::WrongPeer);
        }
        self.dials.remove(&dial);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.dialling = Dialling::No;
        }
        self.start_dials();
        Ok(())
    }
}
