//! What passes between the node, the sessions and their connections.

use super::connection::{Cx, Link};
use super::owed::oldest_owed;
use super::{Endpoint, Output, Transport};
use crate::id::ConnectionId;
use crate::node::NodeAction;
use crate::session::Action;
use crate::time::{Instant, earliest};

impl<T: Transport> Endpoint<T> {
    /// Does what is due by `now`.
    pub(super) fn pass(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let now = self.now;
        if self.node.poll_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
            self.carry_node();
        }
        while let Some((_, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.pop_first();
            let it = self.connections.get_mut(&id);
            if it.is_some_and(|it| it.unknown_until.is_some_and(|at| at <= now)) {
                self.give_up(id);
                continue;
            }
            if let Some(it) = self.connections.get_mut(&id) {
                it.due = None;
                if let Some(session) = &mut it.session {
                    session.handle_timeout(now);
                }
                if let Some(link) = &mut it.link {
                    link.handle_timeout(now);
                }
            }
            self.touch(id);
        }
    }

    /// Takes note that a connection may have something to be carried out.
    pub(super) fn touch(&mut self, id: ConnectionId) {
        if let Some(it) = self.connections.get_mut(&id) {
            if !core::mem::replace(&mut it.is_touched, true) {
                self.touched.push_back(id);
            }
            if !core::mem::replace(&mut it.is_eventful, true) {
                self.eventful.push_back(id);
            }
        }
    }

    /// Carries out all actions, without moving bytes: those of several commands go out together.
    pub(super) fn carry(&mut self) {
        self.carry_node();
        for index in 0..self.touched.len() {
            if let Some(id) = self.touched.get(index).copied() {
                self.carry_session(id);
            }
        }
        // They may have said something to the node. Whom it answers is carried out at once.
        self.carry_node();
    }

    /// Carries out all actions and moves bytes, until nothing moves.
    pub(super) fn settle(&mut self) {
        while !self.touched.is_empty() {
            self.carry();
            let Some(id) = self.touched.pop_front() else {
                return;
            };
            if let Some(it) = self.connections.get_mut(&id) {
                it.is_touched = false;
                if let Some(link) = &mut it.link {
                    let session = it.session.as_deref();
                    let mut cx = Cx::new(id, self.now, session, &self.account, &mut self.outputs);
                    if link.pump(it.session.as_deref_mut(), &mut cx) {
                        self.touch(id);
                        continue;
                    }
                }
            }
            self.charge(id);
            self.close_if_over(id);
            self.arm(id);
        }
    }

    fn carry_node(&mut self) {
        while let Some(action) = self.node.poll_action() {
            match action {
                NodeAction::Dial { dial, peer, addresses } => {
                    let connection = self.add_connection(Some(dial));
                    self.dials.insert(dial, connection);
                    self.outputs.push_back(Output::Dial { connection, peer, addresses });
                }
                NodeAction::CancelDial(dial) => {
                    if let Some(id) = self.dials.remove(&dial) {
                        self.forget(id);
                        self.close(id, 0);
                    }
                }
                NodeAction::Forward { session, message } => {
                    if let Some(id) = self.sessions.get(&session).copied()
                        && let Some(it) = self.connections.get_mut(&id)
                        && let Some(session) = &mut it.session
                    {
                        session.handle_node_message(self.now, message);
                        self.touch(id);
                        self.carry_session(id);
                    }
                }
                NodeAction::SaveBook => self.outputs.push_back(Output::SaveBook),
            }
        }
    }

    fn carry_session(&mut self, id: ConnectionId) {
        let Some(it) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(session) = &mut it.session else {
            return;
        };
        while let Some(action) = session.poll_action() {
            match (action, &mut it.link) {
                (Action::Forward(message), _) => {
                    self.node.handle_session_message(self.now, session.id(), message);
                }
                (Action::CloseConnection { code }, Some(link)) => {
                    // Before the end itself asks for something, which is not why it has come.
                    it.blamed = oldest_owed(id, link);
                    link.close(self.now, code);
                }
                (action, Some(link)) => {
                    let mut cx =
                        Cx::new(id, self.now, Some(session), &self.account, &mut self.outputs);
                    link.act(session, action, &mut cx);
                }
                // The connection is gone, and the session has heard of it.
                (_, None) => {}
            }
        }
        // What was reserved counts from now on.
        self.charge(id);
    }

    /// Lets go of what is over.
    fn close_if_over(&mut self, id: ConnectionId) {
        let Some(it) = self.connections.get_mut(&id) else {
            return;
        };
        if let Some(code) = it.link.as_ref().and_then(Link::closes) {
            it.link = None;
            self.close(id, code);
        }
        let is_over = |it: &super::Connection<T::Link>| {
            it.link.is_none()
                && it.session.is_none()
                && it.dial.is_none()
                && it.unknown_until.is_none()
        };
        if self.connections.get(&id).is_some_and(is_over) {
            self.forget(id);
        }
    }

    /// Updates what the peer of a connection is charged for it.
    pub(super) fn charge(&mut self, id: ConnectionId) {
        let Some(it) = self.connections.get_mut(&id) else {
            return;
        };
        let held = it.link.as_ref().map_or(0, Link::held);
        let received = it.session.as_ref().map_or(0, |session| session.received_bytes());
        let peer = it.session.as_ref().map(|session| session.peer());
        let Some(peer) = peer.or_else(|| it.charged.map(|(peer, _)| peer)) else {
            return;
        };
        let before = it.charged.map_or(0, |(_, bytes)| bytes);
        it.charged = Some((peer, held + received));
        if it.link.as_ref().is_some_and(Link::is_starved) {
            self.account.note_starved(id);
        }
        if self.account.change(peer, before, held + received) {
            self.touch_starved();
        }
    }

    /// There is more room in the account.
    pub(super) fn touch_starved(&mut self) {
        for starved in self.account.take_starved() {
            self.touch(starved);
        }
    }

    /// Updates when a connection is due.
    fn arm(&mut self, id: ConnectionId) {
        let Some(it) = self.connections.get_mut(&id) else {
            return;
        };
        let session = it.session.as_ref().and_then(|session| session.poll_timeout());
        let link = it.link.as_ref().and_then(Link::poll_timeout);
        let due = earliest(earliest(session, link), it.unknown_until);
        if due != it.due {
            let before = core::mem::replace(&mut it.due, due);
            if let Some(at) = before {
                self.timers.remove(&(at, id));
            }
            if let Some(at) = due {
                self.timers.insert((at, id));
            }
        }
    }
}
