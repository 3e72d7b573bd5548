//! What the node's task publishes: views of peers, then events.

use glueberry_proto::{CloseReason, ConnectionEvent, ConnectionState, PublicKey, StateReason};
use libp2p_identity::PeerId;
use tracing::{Span, info, info_span, warn};

use super::NodeTask;
use crate::error::{Error, ErrorCode};
use crate::event::{Event, StateChanged};
use crate::mailbox::answer;
use crate::span::within;
use crate::transport::Transport;
use crate::views::Entered;

impl<T: Transport> NodeTask<T> {
    /// Brings the views in line with the core, and publishes its events. Returns whether there were
    /// events.
    pub(super) fn publish(&mut self) -> bool {
        let mut events = Vec::new();
        while let Some(event) = self.node.poll_event() {
            self.turn.touched.insert(event.peer);
            events.push(event);
        }
        self.publish_bans();
        // Before the events: a subscriber that learns of Established finds the session.
        for peer in std::mem::take(&mut self.turn.touched) {
            let session = self.node.session_of(peer).and_then(|id| self.sessions.get(&id));
            let session = session.map(|(_, session)| session.clone());
            let refused_until = self.shared.views.refresh(&self.node, peer, session);
            self.refused.extend(refused_until.map(|until| (until, peer)));
        }
        let has_events = !events.is_empty();
        for event in events {
            self.publish_change(event);
        }
        for (peer, closed) in self.turn.ended.drain(..) {
            if let CloseReason::Downgrade { offered } = closed.reason {
                warn!(%peer, ?offered, "downgrade refused");
                self.shared.telemetry.events.publish(&Event::DowngradeRefused { peer, offered });
            }
            self.shared.telemetry.events.publish(&Event::SessionClosed { peer, closed });
        }
        has_events
    }

    fn publish_bans(&mut self) {
        let revision = Some(self.node.book().revision());
        // Bans are part of the book; looking through it each time would be slow.
        if self.bans_seen == revision {
            return;
        }
        self.bans_seen = revision;
        for peer in self.shared.views.refresh_bans(&self.node, self.shared.wall()) {
            self.transport.banned(peer.into());
        }
    }

    fn publish_change(&mut self, event: ConnectionEvent) {
        let ConnectionEvent { peer: key, state, direction, session, reason, at: since, .. } = event;
        let peer = PeerId::from(key);
        // From the first attempt to the last session's end, all is one trace.
        let known = self.shared.views.connection_span(&peer);
        let connection = match state {
            ConnectionState::Connecting
            | ConnectionState::Connected
            | ConnectionState::Established => {
                known.clone().unwrap_or_else(|| self.connection_span(key))
            }
            _ => Span::none(),
        };
        known.unwrap_or_else(|| connection.clone()).in_scope(|| match &reason {
            Some(reason) => info!(%peer, %state, %reason, "state changed"),
            None => info!(%peer, %state, "state changed"),
        });
        self.answer_connecting(key, state, reason.as_ref());
        let node = self.shared.node;
        let span = match state {
            ConnectionState::Connecting => {
                within(&connection, || info_span!("connect", %node, %peer))
            }
            ConnectionState::Connected => {
                within(&connection, || info_span!("handshake", %node, %peer, ?direction))
            }
            _ => Span::none(),
        };
        if let Some(session) = self.node.session_of(key).and_then(|id| self.sessions.get(&id)) {
            session.1.belongs_to(&connection);
        }
        let at = self.shared.runtime.wall_time();
        let changed = StateChanged { peer, state, direction, session, reason, at };
        let entered = Entered { changed, since, connection, _span: span };
        self.shared.telemetry.state_changed(entered);
    }

    /// Begins the span of an attempt and its sessions: a trace of its own, which lasts longer than the
    /// calls that it follows from.
    fn connection_span(&self, key: PublicKey) -> Span {
        let (node, peer) = (self.shared.node, PeerId::from(key));
        let connection = info_span!(parent: None, "connection", %node, %peer);
        for caller in self.connecting.get(&key).into_iter().flatten() {
            connection.follows_from(caller.cause.clone());
        }
        connection
    }

    /// Answers the callers of `connect` once the outcome is known.
    fn answer_connecting(
        &mut self,
        key: PublicKey,
        state: ConnectionState,
        reason: Option<&StateReason>,
    ) {
        if state == ConnectionState::Connecting {
            return;
        }
        for caller in self.connecting.remove(&key).unwrap_or_default() {
            let result = match state {
                ConnectionState::Connected | ConnectionState::Established => Ok(()),
                _ => Err(reason
                    .cloned()
                    .map_or_else(|| Error::new(ErrorCode::NotConnected), Error::from)
                    .of_peer(key.into())),
            };
            self.turn.replies.push(Box::new(move || answer(caller.answer, result)));
        }
    }
}
