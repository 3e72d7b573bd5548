//! What the driver reports of connections, whatever their transport.

use super::{Endpoint, Transport};
use crate::close_code::CloseCode;
use crate::crypto::PublicKey;
use crate::error::{ConnectionLost, DialError};
use crate::id::ConnectionId;
use crate::node::{Admission, NewConnection, Origin};
use crate::prelude::*;
use crate::session::Direction;
use crate::time::Instant;

impl<T: Transport> Endpoint<T> {
    /// Has the sessions that are made from now on depend on fresh entropy as well, see
    /// [`Node::add_entropy`](crate::Node::add_entropy): before
    /// [`handle_connected`](Self::handle_connected) and [`handle_accepted`](Self::handle_accepted),
    /// where there is an operating system to ask.
    pub fn add_entropy(&mut self, now: Instant, entropy: &[u8; 32]) {
        self.pass(now);
        self.node.add_entropy(self.now, entropy);
        self.carry();
    }

    /// Takes note that a connection of [`Output::Dial`](super::Output) or
    /// [`handle_incoming`](Self::handle_incoming) is there, with a peer that the transport **has
    /// authenticated** (rule C0). If it is not the peer that was to be dialled, the connection is
    /// closed and the dial has failed.
    pub fn handle_connected(&mut self, now: Instant, connection: ConnectionId, peer: PublicKey) {
        self.pass(now);
        let it = self.connections.get_mut(&connection);
        if let Some(it) = it.filter(|it| it.unknown_until.is_some()) {
            it.unknown_until = None;
            return self.admit(connection, peer, Origin::Accepted);
        }
        let dial = self.connections.get_mut(&connection).and_then(|it| it.dial.take());
        let Some(dial) = dial else {
            // It was given up meanwhile, and may have been closed before it was there.
            return self.close(connection, 0);
        };
        self.dials.remove(&dial);
        self.admit(connection, peer, Origin::Dialled(dial));
    }

    /// Takes note that a dial has failed.
    pub fn handle_dial_failed(&mut self, now: Instant, connection: ConnectionId, error: DialError) {
        self.pass(now);
        let dial = self.connections.get_mut(&connection).and_then(|it| it.dial.take());
        if let Some(dial) = dial {
            self.dials.remove(&dial);
            self.forget(connection);
            self.node.handle_dial_failed(self.now, dial, error);
            self.carry();
        }
    }

    /// Takes note that a peer has connected, whom the transport **has authenticated** (rule C0).
    /// Returns the connection's name. If the peer is not wanted, [`Output::Close`](super::Output)
    /// follows.
    #[must_use = "the connection is known by this id from now on"]
    pub fn handle_accepted(&mut self, now: Instant, peer: PublicKey) -> ConnectionId {
        self.pass(now);
        let id = self.add_connection(None);
        self.admit(id, peer, Origin::Accepted);
        id
    }

    /// Takes note that a connection came in whose peer is not known yet. Returns its name. Report by
    /// [`handle_connected`](Self::handle_connected) whom the transport **has authenticated** (rule
    /// C0); after [`negotiation_timeout`](crate::Config::negotiation_timeout) without that,
    /// [`Output::Close`](super::Output) follows. Above
    /// [`max_pending_sessions`](crate::Config::max_pending_sessions) of them the oldest is closed.
    #[must_use = "the connection is known by this id from now on"]
    pub fn handle_incoming(&mut self, now: Instant) -> ConnectionId {
        self.pass(now);
        let (timeout, limit) = {
            let config = self.node.config();
            (config.negotiation_timeout, config.max_pending_sessions)
        };
        let unknown = self.connections.iter().filter(|(_, it)| it.unknown_until.is_some());
        if unknown.clone().count() >= limit
            && let Some(oldest) = unknown.map(|(id, _)| *id).next()
        {
            self.give_up(oldest);
        }
        let id = self.add_connection(None);
        if let Some(it) = self.connections.get_mut(&id) {
            it.unknown_until = Some(self.now + timeout);
            self.touch(id);
        }
        id
    }

    /// Takes note that a connection is gone; [`ConnectionLost::Reset`] if there is nothing better to
    /// say. An orderly end comes by [`Output::Close`](super::Output) instead.
    pub fn handle_lost(&mut self, now: Instant, connection: ConnectionId, why: ConnectionLost) {
        self.pass(now);
        let Some(it) = self.connections.get_mut(&connection) else {
            return;
        };
        (it.link, it.unknown_until) = (None, None);
        if let Some(dial) = it.dial.take() {
            self.dials.remove(&dial);
            self.node.handle_dial_failed(self.now, dial, DialError::Transport(why.to_string()));
        }
        if let Some(session) = &mut it.session {
            session.handle_connection_lost(self.now, why);
        }
        self.touch(connection);
        self.carry();
    }

    // ---- parts --------------------------------------------------------------------------------

    fn admit(&mut self, id: ConnectionId, peer: PublicKey, origin: Origin) {
        let side = match origin {
            Origin::Dialled(_) => Direction::Outbound,
            Origin::Accepted => Direction::Inbound,
        };
        let link = self.transport.link(self.now, side);
        let connection = NewConnection { peer, origin, naming: self.transport.naming() };
        let admission = self.node.handle_connection(self.now, connection);
        if let (Admission::Accept(session), Some(it)) = (admission, self.connections.get_mut(&id)) {
            self.sessions.insert(session.id(), id);
            (it.session, it.link) = (Some(session), link);
            self.touch(id);
        } else {
            self.forget(id);
            self.close(id, CloseCode::Refused.as_u64());
        }
        self.carry();
    }

    /// Closes a connection whose peer did not become known.
    pub(super) fn give_up(&mut self, id: ConnectionId) {
        self.forget(id);
        self.close(id, CloseCode::HandshakeFailed.as_u64());
    }

    /// Closes every connection whose peer is not known.
    pub(super) fn give_up_unknown(&mut self) {
        let unknown = self.connections.iter().filter(|(_, it)| it.unknown_until.is_some());
        for id in unknown.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.give_up(id);
        }
    }
}
