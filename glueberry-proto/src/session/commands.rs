//! What the application and the node decide: the steps of the handshake, and probes.

use super::Session;
use super::event::Event;
use super::state::Keys;
use super::streams::Streams;
use super::substreams::Purpose;
use crate::bug::Bug;
use crate::crypto::PublicKey;
use crate::error::{CloseReason, ConnectionLost, FinalizeError, PrepareError};
use crate::message::{Carry, FromSession};
use crate::wire::{ProtocolId, StreamName};

impl Session {
    // ---- the node -----------------------------------------------------------------------------

    /// The node lets this session speak for the peer, and goes on with what another one of the
    /// peer was given to send.
    pub(super) fn grant(&mut self, carry: Carry) {
        // It was granted before, and has handed nothing on since.
        if !self.state.is_waiting() {
            return;
        }
        self.state.move_to_connected();
        self.handshake.take_over(carry.messages);
        if let Some(names) = carry.prepared
            && self.prepare(self.params.peer, &names).is_err()
        {
            return self.finish_close(CloseReason::Internal("prepared streams did not carry over"));
        }
        let (handshake, _, mut lent) = self.parts();
        handshake.start(&mut lent);
    }

    /// The node keeps another session of the peer: hands on what it was given to send.
    pub(super) fn yield_to_another(&mut self) {
        // It has yielded before, or its handshake was over before the node knew.
        if !self.state.in_handshake() {
            return;
        }
        if self.handshake.has_received() {
            // The peer has spoken here, so it is not one that dialled at the same time: it has
            // lost this session and begins another, of which nothing said here is part.
            return self.finish_close(CloseReason::Superseded);
        }
        let messages = self.handshake.hand_on();
        let names = self.streams.names().cloned().collect();
        let prepared = self.state.is_prepared().then_some(names);
        self.state.move_to_waiting();
        self.out.forward(FromSession::Yielded(Carry { messages, prepared }));
    }

    pub(super) fn start_probe(&mut self) {
        if self.probe.start() {
            let (_, _, mut lent) = self.parts();
            lent.open(Purpose::Probe, vec![ProtocolId::Probe]);
        }
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

    // ---- the application ----------------------------------------------------------------------

    pub(super) fn prepare(
        &mut self,
        key: PublicKey,
        names: &[StreamName],
    ) -> Result<(), PrepareError> {
        self.check_prepare(key, names)?;
        let profile = self.profile().ok_or(PrepareError::NotConnected)?;
        if self.state.is_connected() {
            let records = profile.records(&self.params, &key).map_err(PrepareError::Agreement)?;
            self.state.move_to_prepared(Keys { profile, records, rejected: 0 });
            self.out.forward(FromSession::Prepared);
        }
        for name in names {
            self.streams.add(name.clone(), profile, &self.params.config);
        }
        let (_, streams, mut lent) = self.parts();
        streams.bind_parked(&mut lent);
        Ok(())
    }

    fn check_prepare(&self, key: PublicKey, names: &[StreamName]) -> Result<(), PrepareError> {
        self.state.check_prepare()?;
        if names.is_empty() {
            return Err(PrepareError::NoStreams);
        }
        let mut all: Vec<&StreamName> = self.streams.names().chain(names).collect();
        all.sort_unstable();
        all.dedup();
        let (requested, limit) = (all.len(), self.params.config.max_streams);
        if requested > limit {
            return Err(PrepareError::TooManyStreams { requested, limit });
        }
        let is_allowed =
            |name: &&StreamName| self.profile().is_none_or(|profile| profile.allows(name));
        if let Some(name) = names.iter().find(|name| !is_allowed(name)) {
            return Err(PrepareError::NameNotAllowed { name: name.clone() });
        }
        let peer = self.params.peer;
        if key != peer && !self.params.config.has(Bug::AnyKey) {
            return Err(PrepareError::WrongKey { given: key, peer });
        }
        Ok(())
    }

    pub(super) fn finalize(&mut self) -> Result<(), FinalizeError> {
        self.state.check_finalize()?;
        self.state.move_to_established();
        self.out.emit(Event::Established);
        self.out.forward(FromSession::Established);
        let (handshake, _, mut lent) = self.parts();
        handshake.end(&mut lent);
        Streams::reset_parked(&mut lent);
        // What the peer has sent ahead of our consent is read now.
        lent.substreams.resume_streams(lent.out);
        Ok(())
    }
}
