//! What the application commands and the node decides.

use bytes::Bytes;

use super::Session;
use super::event::Event;
use super::streams::Streams;
use crate::crypto::PublicKey;
use crate::error::{CloseReason, ConnectionLost, HandshakeError, SendError};
use crate::message::{Carry, FromSession};
use crate::prelude::*;
use crate::time::Instant;
use crate::v2::gate::Gate;
use crate::wire::StreamName;

impl Session {
    // ---- the application ----------------------------------------------------------------------

    /// Sends a handshake message.
    ///
    /// # Errors
    ///
    /// [`SendError::NotEstablished`] before the session is Connected,
    /// [`SendError::HandshakeOver`] after [`finalize_handshake`](Self::finalize_handshake),
    /// [`SendError::TooLarge`] above [`max_handshake_size`](crate::Config::max_handshake_size), and
    /// [`SendError::Backpressure`] while more than that many bytes are unanswered.
    pub fn send_handshake(&mut self, now: Instant, message: Bytes) -> Result<(), SendError> {
        self.handle_timeout(now);
        self.state.check_send_handshake()?;
        let (handshake, _, mut lent) = self.parts();
        handshake.send(message, &mut lent)
    }

    /// Derives the keys, after checking that `key` is the peer's, and gets ready to receive on the
    /// named streams. More streams may be named by another call. `key` is what the peer has said in the
    /// handshake; where no keys are exchanged there, [`peer`](Self::peer).
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`]; the session is then as it was.
    pub fn prepare_streams(
        &mut self,
        now: Instant,
        key: PublicKey,
        names: &[StreamName],
    ) -> Result<(), HandshakeError> {
        self.handle_timeout(now);
        self.prepare(key, names)
    }

    /// Records this side's consent: the session is Established at once in v1, and in v2 as soon as the
    /// peer has proven that it has the same keys. [`Event::Established`] reports it.
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`]; the session is then as it was.
    pub fn finalize_handshake(&mut self, now: Instant) -> Result<(), HandshakeError> {
        self.handle_timeout(now);
        self.finalize()
    }

    fn finalize(&mut self) -> Result<(), HandshakeError> {
        self.state.check_finalize()?;
        let is_confirmed = self.handshake.gate().is_none_or(Gate::is_confirmed);
        if is_confirmed {
            self.establish();
        } else {
            self.state.move_to_finalized();
            let (handshake, _, mut lent) = self.parts();
            handshake.end(&mut lent);
        }
        Ok(())
    }

    /// Both sides may send: this one has consented, and in v2 the peer has proven that it has the same
    /// keys.
    pub(super) fn establish(&mut self) {
        self.begin_instances();
        self.state.move_to_established();
        if let Some(info) = self.info() {
            self.out.emit(Event::Established(info));
            self.out.forward(FromSession::Established(info));
        } else {
            debug_assert!(false, "an Established session has a profile");
        }
        let (handshake, _, mut lent) = self.parts();
        handshake.end(&mut lent);
        Streams::reset_parked(&mut lent);
        // What the peer has sent ahead of our consent is read now.
        lent.substreams.resume_streams(lent.out);
    }

    /// Ends the session because the application does not want this peer; the node leaves the peer
    /// alone for a while. Does nothing once the handshake is over.
    pub fn reject_handshake(&mut self, now: Instant, reason: &str) {
        self.handle_timeout(now);
        if self.state.in_handshake() || self.state.is_finalized() {
            self.finish_close(CloseReason::Rejected(reason.to_owned()));
        }
    }

    /// Queues a message on a named stream. Only a reference to `message` is kept; it is sealed
    /// when the transport can take it. To have it again if this fails, give a clone, which copies no
    /// bytes.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; nothing of the message is then kept.
    pub fn send(
        &mut self,
        now: Instant,
        stream: &StreamName,
        message: Bytes,
    ) -> Result<(), SendError> {
        self.handle_timeout(now);
        self.state.check_send()?;
        let (_, streams, mut lent) = self.parts();
        streams.send(stream, message, &mut lent)
    }

    /// Ends the session: what was queued is still sent, for at most
    /// [`drain_timeout`](crate::Config::drain_timeout), and nothing new is accepted.
    pub fn close(&mut self, now: Instant) {
        self.handle_timeout(now);
        if !self.state.is_closed() {
            self.begin_close(CloseReason::Disconnected, true);
        }
    }

    /// Removes and returns the messages of a stream that were never handed to the transport. Use
    /// it after [`Event::StreamRefused`] or [`Event::Closed`]; before, there are none.
    ///
    /// They wait for it. Once they are as many as would fill the stream's queue,
    /// [`send`](Self::send) refuses with [`SendError::Backpressure`] until they are taken, after which
    /// [`Event::Writable`] follows.
    pub fn take_unsent(&mut self, stream: &StreamName) -> Vec<Bytes> {
        let (_, streams, mut lent) = self.parts();
        streams.take_unsent(stream, &mut lent)
    }

    pub(super) fn prepare(
        &mut self,
        key: PublicKey,
        names: &[StreamName],
    ) -> Result<(), HandshakeError> {
        self.state.check_prepare()?;
        check_names(self, names)?;
        let peer = self.params.peer;
        if key != peer {
            return Err(HandshakeError::WrongKey { given: key, peer });
        }
        let profile = self.profile().ok_or(HandshakeError::NotConnected)?;
        if self.state.is_connected() {
            let keys = profile.keys(&self.params, &key).map_err(HandshakeError::Agreement)?;
            self.state.move_to_prepared(keys);
            // In v2 nothing is sealed with them before the peer's confirmation, which is reported.
            if self.handshake.gate().is_none() {
                self.out.forward(FromSession::Prepared);
            }
        }
        for name in names {
            self.streams.add(name.clone(), profile, &self.params.config);
        }
        let (_, streams, mut lent) = self.parts();
        streams.bind_parked(&mut lent);
        Ok(())
    }

    // ---- the node -----------------------------------------------------------------------------

    /// The node has chosen this session among those of the peer. It goes on with the messages that
    /// another one was given to send.
    pub(super) fn grant(&mut self, carry: Carry) {
        // It was granted before, and has handed nothing on since.
        if !self.state.is_waiting() {
            return;
        }
        self.state.move_to_connected();
        self.handshake.queue.take_over(carry.messages);
        if let Some(names) = carry.prepared
            && self.prepare(self.params.peer, &names).is_err()
        {
            return self.finish_close(CloseReason::Internal("prepared streams did not carry over"));
        }
        let (handshake, _, mut lent) = self.parts();
        handshake.start(&mut lent);
        self.commit();
        if self.handshake.gate().is_some_and(Gate::is_confirmed) {
            self.out.forward(FromSession::Confirmed);
        }
        if carry.is_finalized && self.finalize().is_err() {
            self.finish_close(CloseReason::Internal(
                "the application's consent did not carry over",
            ));
        }
    }

    /// The peer is held to v2 from now on.
    pub(super) fn hold_to_v2(&mut self) {
        self.params.offer.pin();
        if let Some(profile) = self.profile().filter(|it| self.params.offer.is_withheld(*it)) {
            self.finish_close(CloseReason::Downgrade { offered: Some(profile) });
        }
    }

    /// The node keeps another session of the peer: hands on what it was given to send.
    pub(super) fn yield_to_another(&mut self) {
        let is_finalized = self.state.is_finalized();
        let is_confirmed = self.handshake.gate().is_some_and(Gate::is_confirmed);
        // It has yielded before, or the peer has chosen it before the node knew.
        if is_confirmed || !(self.state.in_handshake() || is_finalized) {
            return;
        }
        if self.handshake.has_received() {
            // The peer has sent a message here, so it is not one that dialled at the same time: it
            // has lost this session and begins another, of which no message here is part.
            return self.finish_close(CloseReason::Superseded);
        }
        let messages = self.handshake.queue.hand_on();
        let names = self.streams.names().cloned().collect();
        let prepared = (self.state.is_prepared() || is_finalized).then_some(names);
        self.state.move_to_waiting();
        self.out.forward(FromSession::Yielded(Carry { messages, prepared, is_finalized }));
    }

    /// Something arrived from the peer, which is what a probe is to find out.
    pub(super) fn peer_answered(&mut self) {
        if !self.state.is_closed() && self.probe.answered() {
            self.out.forward(FromSession::Alive);
        }
    }

    /// The peer has accepted a probe, which a peer with a session refuses.
    pub(super) fn probe_accepted(&mut self) {
        if self.profile().is_some() {
            self.connection_lost(ConnectionLost::ClosedByPeer { code: 0 });
        } else {
            // It may not know of the session yet.
            self.peer_answered();
        }
    }
}

/// Returns why streams may not be prepared with these names.
fn check_names(session: &Session, names: &[StreamName]) -> Result<(), HandshakeError> {
    if names.is_empty() {
        return Err(HandshakeError::NoStreams);
    }
    let mut all: Vec<&StreamName> = session.streams.names().chain(names).collect();
    all.sort_unstable();
    all.dedup();
    let (requested, limit) = (all.len(), session.params.config.max_streams);
    if requested > limit {
        return Err(HandshakeError::TooManyStreams { requested, limit });
    }
    let is_allowed =
        |name: &&StreamName| session.profile().is_none_or(|profile| profile.allows(name));
    if let Some(name) = names.iter().find(|name| !is_allowed(name)) {
        return Err(HandshakeError::NameNotAllowed { name: name.clone() });
    }
    Ok(())
}
