//! Dials: bounded in number and time.

use super::event::{ConnectionState, NodeAction, StateReason};
use super::peer::Dialling;
use super::{Node, Peer};
use crate::crypto::PublicKey;
use crate::error::{ConnectError, DialError};
use crate::id::DialId;
use crate::time::Instant;

/// A dial that the adapter works on.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) peer: PublicKey,
    pub(super) deadline: Instant,
}

impl Node {
    pub(super) fn check_connect(&self, peer: PublicKey) -> Result<(), ConnectError> {
        if self.is_stopping {
            return Err(ConnectError::ShuttingDown);
        }
        if peer == self.public_key() {
            return Err(ConnectError::OwnKey);
        }
        let known = self.peers.get(&peer);
        match known.map_or(ConnectionState::Disconnected, Peer::state) {
            ConnectionState::Disconnected | ConnectionState::Reconnecting => {}
            ConnectionState::Cooldown => {
                let until = known.and_then(Peer::cooldown_until).unwrap_or(self.now);
                return Err(ConnectError::InCooldown { remaining: until.duration_since(self.now) });
            }
            ConnectionState::Connecting
            | ConnectionState::Connected
            | ConnectionState::Established => return Err(ConnectError::AlreadyConnected),
        }
        if known.is_none_or(|peer| peer.addresses.is_empty()) {
            return Err(ConnectError::NoAddress);
        }
        if self.sessions.len() >= self.config.max_sessions {
            return Err(ConnectError::LimitReached("max_sessions"));
        }
        if !self.has_event_room() {
            return Err(ConnectError::LimitReached("event_queue"));
        }
        Ok(())
    }

    /// Starts queued dials for as long as the limits allow.
    pub(super) fn start_dials(&mut self) {
        while self.dials.len() < self.config.max_dials && self.has_event_room() {
            let Some(key) = self.dial_queue.pop_front() else {
                return;
            };
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            if peer.dialling != Dialling::Queued {
                continue;
            }
            let dial = DialId::new(self.dial_ids.next());
            peer.dialling = Dialling::Dialled(dial);
            let addresses = peer.addresses.clone();
            let deadline = self.now + self.config.dial_timeout;
            self.dials.insert(dial, Dial { peer: key, deadline });
            self.actions.push_back(NodeAction::Dial { dial, peer: key, addresses });
        }
    }

    pub(super) fn dial_failed(&mut self, dial: DialId, error: DialError) {
        let Some(Dial { peer, .. }) = self.dials.remove(&dial) else {
            return;
        };
        if let Some(known) = self.peers.get_mut(&peer) {
            known.dialling = Dialling::No;
            self.connecting_failed(peer, error);
        }
        self.start_dials();
    }

    /// A peer that is being connected to could not be, unless another attempt is still under way.
    pub(super) fn connecting_failed(&mut self, peer: PublicKey, error: DialError) {
        let now = self.now;
        let has_session =
            self.sessions.values().any(|session| session.peer == peer && !session.is_ending);
        if let Some(known) = self.peers.get_mut(&peer)
            && known.state() == ConnectionState::Connecting
            && known.dialling == Dialling::No
            && !has_session
        {
            let event = known.move_to_disconnected(StateReason::DialFailed(error), now);
            self.events.push_back(event);
        }
    }

    /// Gives up the dial of a peer, without an event.
    pub(super) fn cancel_dial(&mut self, peer: PublicKey) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        match std::mem::replace(&mut known.dialling, Dialling::No) {
            Dialling::No => {}
            Dialling::Queued => self.dial_queue.retain(|queued| *queued != peer),
            Dialling::Dialled(dial) => {
                self.dials.remove(&dial);
                self.actions.push_back(NodeAction::CancelDial(dial));
            }
        }
    }

    pub(super) fn expire_dials(&mut self) {
        let is_due = |dial: &Dial| dial.deadline <= self.now;
        let due: Vec<DialId> =
            self.dials.iter().filter(|(_, dial)| is_due(dial)).map(|(id, _)| *id).collect();
        for dial in due {
            self.actions.push_back(NodeAction::CancelDial(dial));
            self.dial_failed(dial, DialError::TimedOut);
        }
    }
}
