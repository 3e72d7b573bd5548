//! The outputs of an endpoint, one at a time.

use super::connection::Connection;
use super::{Endpoint, Output, Transport};
use crate::crypto::PublicKey;
use crate::id::ConnectionId;
use crate::prelude::*;
use crate::session::{Event, Session};
use crate::time::{Instant, earliest};
use crate::wire::StreamName;

impl<T: Transport> Endpoint<T> {
    /// Does what is due by `now`, and returns the next thing that is wanted or reported. Call it
    /// until it returns [`Output::Timeout`], whose time is strictly later than `now`.
    ///
    /// What must be done now comes before what happened, and messages come last, one stream in turn.
    pub fn poll_output(&mut self, now: Instant) -> Output<T::Output> {
        self.pass(now);
        loop {
            self.settle();
            if let Some(output) = self.outputs.pop_front() {
                return output;
            }
            if let Some(event) = self.node.poll_event() {
                self.touch_greeted(event.peer, event.state);
                return Output::State(event);
            }
            if let Some(output) = self.poll_event() {
                return output;
            }
            if let Some(output) = self.poll_message() {
                return output;
            }
            // The room that events leave lets the node go on.
            self.carry();
            if self.touched.is_empty() && self.outputs.is_empty() && !self.greet_due() {
                return Output::Timeout(self.next_timeout());
            }
        }
    }

    /// Has no message of a stream reported until it is [resumed](Self::resume). The peer is slowed
    /// down when the stream's queue is full. An end of the session resumes it.
    pub fn pause(&mut self, peer: PublicKey, stream: &StreamName) {
        self.paused.insert((peer, stream.clone()));
    }

    /// Has the messages of a stream reported again.
    pub fn resume(&mut self, peer: PublicKey, stream: &StreamName) {
        if !self.paused.remove(&(peer, stream.clone())) {
            return;
        }
        for (id, it) in &mut self.connections {
            let is_peers = it.session.as_ref().is_some_and(|session| session.peer() == peer);
            if is_peers && it.parked.remove(stream) {
                self.readable.push_back((*id, stream.clone()));
            }
        }
    }

    /// Returns the next event of a session, or its next handshake message.
    fn poll_event(&mut self) -> Option<Output<T::Output>> {
        while let Some(id) = self.eventful.front().copied() {
            if let Some(output) = self.poll_event_of(id) {
                return Some(output);
            }
            // Its last event may have ended it, or brought it here again.
            if self.eventful.front() == Some(&id) {
                self.eventful.pop_front();
                if let Some(it) = self.connections.get_mut(&id) {
                    it.is_eventful = false;
                }
            }
        }
        None
    }

    fn poll_event_of(&mut self, id: ConnectionId) -> Option<Output<T::Output>> {
        loop {
            let it = self.connections.get_mut(&id)?;
            let session = it.session.as_deref_mut()?;
            let peer = session.peer();
            if it.has_handshake {
                if let Some(message) = session.poll_handshake_message() {
                    // What was said in a session that has a successor is no part of that.
                    let is_void = self.node.session_of(peer).is_some_and(|it| it != session.id());
                    self.touch(id);
                    if is_void {
                        continue;
                    }
                    match &mut self.greeter {
                        Some(greeter) => greeter.handle_message(self.now, peer, &message),
                        None => return Some(Output::Handshake { peer, message }),
                    }
                    self.greet(peer);
                    continue;
                }
                it.has_handshake = false;
            }
            let event = session.poll_event()?;
            match event {
                Event::HandshakeReadable => it.has_handshake = true,
                Event::Readable { stream } => self.readable.push_back((id, stream)),
                Event::StreamRefused { ref stream, .. } => {
                    let messages = session.take_unsent(stream);
                    let stream = stream.clone();
                    self.outputs.push_back(Output::Unsent { peer, stream, messages });
                    self.outputs.push_back(Output::Event { peer, event });
                    return self.outputs.pop_front();
                }
                Event::Closed(mut closed) => {
                    let is_heard = self.greeter.is_none() && self.node.session_of(peer).is_none();
                    self.outputs.extend(leftovers(session, is_heard));
                    if closed.owed.is_some() {
                        // The session waited for the endpoint, and that perhaps for the driver.
                        closed.owed = it.blamed.take().map(Box::new);
                    }
                    let event = Event::Closed(closed);
                    self.outputs.push_back(Output::Event { peer, event });
                    self.session_over(id);
                    return self.outputs.pop_front();
                }
                event => {
                    it.was_established |= matches!(event, Event::Established(_));
                    return Some(Output::Event { peer, event });
                }
            }
        }
    }

    /// The end of a session was reported, and all that it held.
    fn session_over(&mut self, id: ConnectionId) {
        if let Some(it) = self.connections.get_mut(&id)
            && let Some(session) = it.session.take()
        {
            self.sessions.remove(&session.id());
            if it.was_established {
                let peer = session.peer();
                self.paused.retain(|(paused, _)| *paused != peer);
            }
        }
        self.readable.retain(|(other, _)| *other != id);
        // Its connection may have nothing left to do.
        self.touch(id);
    }

    fn poll_message(&mut self) -> Option<Output<T::Output>> {
        while let Some((id, stream)) = self.readable.pop_front() {
            let Some(it) = self.connections.get_mut(&id) else {
                continue;
            };
            let Connection { session: Some(session), parked, .. } = it else {
                continue;
            };
            let peer = session.peer();
            let is_paused = !self.paused.is_empty()
                && !session.is_closed()
                && self.paused.contains(&(peer, stream.clone()));
            if is_paused {
                parked.insert(stream);
                continue;
            }
            if let Some(message) = session.poll_message(&stream) {
                if !it.is_touched {
                    // It may read on now.
                    self.touch(id);
                }
                self.readable.push_back((id, stream.clone()));
                return Some(Output::Message { peer, stream, message });
            }
        }
        None
    }

    fn next_timeout(&self) -> Option<Instant> {
        let connections = self.timers.first().map(|(at, _)| *at);
        let greeter = self.greeter.as_ref().and_then(super::Greeter::poll_timeout);
        earliest(earliest(self.node.poll_timeout(), connections), greeter)
    }
}

/// Takes all that a session holds that has ended; handshake messages only if they are still heard.
fn leftovers<O>(session: &mut Session, is_heard: bool) -> Vec<Output<O>> {
    let (peer, mut outputs) = (session.peer(), Vec::new());
    let streams: Vec<StreamName> = session.streams().cloned().collect();
    while is_heard && let Some(message) = session.poll_handshake_message() {
        outputs.push(Output::Handshake { peer, message });
    }
    for stream in streams {
        while let Some(message) = session.poll_message(&stream) {
            outputs.push(Output::Message { peer, stream: stream.clone(), message });
        }
        let messages = session.take_unsent(&stream);
        if !messages.is_empty() {
            outputs.push(Output::Unsent { peer, stream, messages });
        }
    }
    outputs
}
