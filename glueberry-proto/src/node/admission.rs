//! Which connections get a session, and what the limits allow.

use super::env::Env;
use super::event::ConnectionState;
use super::outputs::Outputs;
use super::peer::Peer;
use super::peers::Peers;
use super::sessions::Sessions;
use super::store::Store;
use super::timer::PeerTimer;
use crate::crypto::PublicKey;
use crate::error::{ConnectError, RefuseReason};
use crate::prelude::*;
use crate::session::{Direction, Session};

/// What becomes of a connection.
#[derive(Debug)]
#[must_use = "a session that is dropped must be reported as gone"]
#[expect(clippy::exhaustive_enums, reason = "a driver must know that it has handled all there is")]
pub enum Admission {
    /// It carries this session, which belongs into the task that owns the connection.
    Accept(Box<Session>),
    /// The node does not need it: close it unless something else uses it.
    Refuse(RefuseReason),
}

/// What the limits are checked against.
#[derive(Debug)]
pub(super) struct Gate<'a> {
    pub(super) env: &'a Env,
    pub(super) store: &'a Store,
    pub(super) peers: &'a Peers,
    pub(super) sessions: &'a Sessions,
    pub(super) out: &'a Outputs,
}

impl Gate<'_> {
    /// Checks that a peer may be dialled now.
    pub(super) fn check_connect(&self, key: PublicKey) -> Result<(), ConnectError> {
        if self.env.is_stopping {
            return Err(ConnectError::ShuttingDown);
        }
        if key == self.env.own_key {
            return Err(ConnectError::OwnKey);
        }
        if self.store.is_blacklisted(key, self.env.now) {
            return Err(ConnectError::Blacklisted);
        }
        let peer = self.peers.get(key);
        match peer.map_or(ConnectionState::Disconnected, Peer::state) {
            ConnectionState::Disconnected | ConnectionState::Reconnecting => {}
            ConnectionState::Cooldown => {
                let until = peer.and_then(|peer| peer.deadline(PeerTimer::Cooldown));
                let remaining = until.unwrap_or(self.env.now).duration_since(self.env.now);
                return Err(ConnectError::InCooldown { remaining });
            }
            // What is under way is joined, which takes no more room.
            ConnectionState::Connecting => return Ok(()),
            ConnectionState::Connected | ConnectionState::Established => {
                return Err(ConnectError::AlreadyConnected);
            }
        }
        if !self.store.has_address(key) {
            return Err(ConnectError::NoAddress);
        }
        if self.is_full_of_known() {
            return Err(ConnectError::LimitReached("max_sessions"));
        }
        if !self.has_room_for_peer(key) {
            return Err(ConnectError::LimitReached("max_peers"));
        }
        if !self.out.has_event_room() {
            return Err(ConnectError::LimitReached("event_queue"));
        }
        Ok(())
    }

    /// Checks that a connection may carry a session, if there is a place for it.
    pub(super) fn check_connection(
        &self,
        key: PublicKey,
        direction: Direction,
    ) -> Result<(), RefuseReason> {
        if self.env.is_stopping {
            return Err(RefuseReason::ShuttingDown);
        }
        if key == self.env.own_key {
            return Err(RefuseReason::OwnKey);
        }
        if self.store.is_blacklisted(key, self.env.now) {
            return Err(RefuseReason::Blacklisted);
        }
        let has_event_room = match self.is_stranger(key, direction) {
            true => self.out.has_event_room_for_strangers(),
            false => self.out.has_event_room(),
        };
        if !has_event_room {
            return Err(RefuseReason::LimitReached("event_queue"));
        }
        self.peers.get(key).map_or(Ok(()), |peer| self.check_peer(peer, direction))
    }

    /// Checks that a known peer may have another session.
    fn check_peer(&self, peer: &Peer, direction: Direction) -> Result<(), RefuseReason> {
        // Those that are ending count, too: they still hold memory.
        if peer.session_count() >= self.env.config.max_sessions_per_peer {
            return Err(RefuseReason::LimitReached("max_sessions_per_peer"));
        }
        match (peer.state(), direction) {
            (ConnectionState::Cooldown, _) => Err(RefuseReason::InCooldown),
            // An inbound one is let in: the peer may have been restarted, and the probe decides.
            (ConnectionState::Established, Direction::Outbound) => {
                Err(RefuseReason::AlreadyConnected)
            }
            (_, Direction::Inbound)
                if peer.refused_until().is_some_and(|until| until > self.env.now) =>
            {
                Err(RefuseReason::Disconnected)
            }
            _ => Ok(()),
        }
    }
}
