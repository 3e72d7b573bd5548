//! The application of both nodes of a world: takes events and messages, and keeps them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use glueberry_proto::testing::pair::{Application, Host};
use glueberry_proto::{
    Action, Closed, ConnectionEvent, ConnectionState, Event, NodeAction, SessionId, StreamName,
    SubstreamId,
};

use super::{Log, Side, name};

#[derive(Debug, Default)]
pub(crate) struct App {
    pub(crate) sides: [Taken; 2],
    pub(crate) log: Log,
}

/// What the application of one side has taken, and what it does not take.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) events: Vec<ConnectionEvent>,
    pub(crate) session_events: Vec<(SessionId, Event)>,
    pub(crate) handshake: Vec<Bytes>,
    pub(crate) messages: BTreeMap<StreamName, Vec<Bytes>>,
    /// No message is taken.
    pub(crate) is_reading_paused: bool,
    /// Streams of which no message is taken.
    pub(crate) unread: BTreeSet<StreamName>,
}

impl App {
    pub(crate) fn received(&self, side: Side, stream: &str) -> Vec<Bytes> {
        self.sides[side].messages.get(&name(stream)).cloned().unwrap_or_default()
    }

    /// Returns the states that the node of a side has reported for its peer.
    pub(crate) fn states(&self, side: Side) -> Vec<ConnectionState> {
        self.sides[side].events.iter().map(|event| event.state).collect()
    }

    /// Returns how the session of a side that ended last has done so.
    pub(crate) fn closed(&self, side: Side) -> Closed {
        let closed = self.sides[side].session_events.iter().rev().find_map(|(_, event)| {
            if let Event::Closed(closed) = event { Some(closed.clone()) } else { None }
        });
        closed.expect("a session has ended")
    }
}

impl Application for App {
    fn drain(&mut self, side: Side, host: &mut Host) -> bool {
        let (taken, log) = (&mut self.sides[side], &mut self.log);
        let mut moved = false;
        while let Some(event) = host.node.poll_event() {
            log.note(|| format!("{side} {event:?}"));
            taken.events.push(event);
            moved = true;
        }
        for (connection, session) in &mut host.sessions {
            while let Some(event) = session.poll_event() {
                log.note(|| format!("{side} {connection} {event:?}"));
                taken.session_events.push((*connection, event));
                moved = true;
            }
            if taken.is_reading_paused {
                continue;
            }
            while let Some(message) = session.poll_handshake_message() {
                log.note(|| format!("{side} {connection} handshake {message:?}"));
                taken.handshake.push(message);
                moved = true;
            }
            for stream in &host.node.config().streams {
                if taken.unread.contains(stream) {
                    continue;
                }
                while let Some(message) = session.poll_message(stream) {
                    log.message(side, stream, &message);
                    taken.messages.entry(stream.clone()).or_default().push(message);
                    moved = true;
                }
            }
        }
        moved
    }

    fn node_action(&mut self, side: Side, action: &NodeAction) {
        self.log.note(|| format!("{side} {action:?}"));
        if let NodeAction::Dial { dial, .. } = action {
            self.log.dials[side].push(*dial);
        }
    }

    fn session_action(&mut self, side: Side, session: SessionId, action: &Action) {
        self.log.note(|| format!("{side} {session} {action:?}"));
        self.log.action(side, session, action);
    }

    fn connected(&mut self, side: Side, session: SessionId) {
        self.log.connections[side].push(session);
    }

    fn substream(&mut self, side: Side, session: SessionId, substream: SubstreamId) {
        self.log.substreams.entry((side, session)).or_default().push(substream);
    }

    fn written(&mut self, side: Side, pipe: usize, bytes: &[u8]) {
        self.log.bytes(side, pipe, bytes);
    }
}
