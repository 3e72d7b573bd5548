//! Hands bytes that arrived on a substream to what it is for.

use bytes::BytesMut;

use super::Session;
use super::action::{Ingest, OpenError, ResetCode};
use super::negotiation::{self, Progress, Proposed};
use super::substreams::{Purpose, Stage};
use crate::error::PeerMisbehaved;
use crate::id::SubstreamId;
use crate::prelude::*;
use crate::v2::PartialMessage;
use crate::wire::{Profile, ProtocolId, StreamName};

impl Session {
    /// Returns the message that is being received on a substream, if the session has taken a part of it
    /// out of the substream's read buffer. It does so in v2, where a long message comes in several
    /// records. A driver with an account of memory charges it with its length before it reads more.
    /// [`SubstreamBuffer`](crate::SubstreamBuffer) counts it with what it holds and wants.
    pub fn partial_message(&self, substream: SubstreamId) -> Option<PartialMessage> {
        // Elsewhere a message waits in the read buffer, and is not looked for.
        self.profile().filter(|profile| profile.has_instances())?;
        match &self.substreams.get(substream)?.stage {
            Stage::Bound(Purpose::Stream(name)) => {
                self.streams.get(name)?.incoming.as_ref()?.partial(substream)
            }
            _ => None,
        }
    }

    /// Hands bytes to what a substream is for. Returns nothing if what follows is for another stage.
    pub(super) fn ingest(
        &mut self,
        substream: SubstreamId,
        stage: Stage,
        buf: &mut BytesMut,
    ) -> Result<Option<Ingest>, PeerMisbehaved> {
        match stage {
            // Nothing can have arrived on the one, and the other waits for `prepare_streams`.
            Stage::Opening { .. } | Stage::Parked(_) => Ok(Some(Ingest::Paused)),
            Stage::Proposing { purpose, proposals } => {
                self.ingest_answer(substream, purpose, proposals, buf)
            }
            Stage::Answering => self.ingest_proposal(substream, buf),
            Stage::Bound(Purpose::Handshake)
                if self.profile().is_some_and(Profile::has_channel) =>
            {
                self.ingest_channel(substream, buf).map(Some)
            }
            // The last is said, and what still comes counts no more.
            Stage::Bound(_) if self.state.is_closing() => {
                buf.clear();
                Ok(Some(Ingest::Discard))
            }
            Stage::Bound(Purpose::Handshake) => {
                let (handshake, _, mut lent) = self.parts();
                handshake.ingest(substream, buf, &mut lent).map(Some)
            }
            Stage::Bound(Purpose::Stream(name)) => {
                self.ingest_stream(substream, &name, buf).map(Some)
            }
            Stage::Bound(Purpose::Probe) => Ok(Some(Ingest::Discard)),
            Stage::Discarding { .. } => {
                let limit = self.params.config.max_handshake_size;
                Ok(Some(self.substreams.discard(substream, buf, limit, &mut self.out)))
            }
        }
    }

    fn ingest_answer(
        &mut self,
        id: SubstreamId,
        purpose: Purpose,
        proposals: Vec<ProtocolId>,
        buf: &mut BytesMut,
    ) -> Result<Option<Ingest>, PeerMisbehaved> {
        match negotiation::read_answer(id, purpose, proposals, buf) {
            Progress::Pending => return Ok(Some(Ingest::More { missing: 1 })),
            Progress::Agreed { purpose, protocol } => {
                self.bind_opened(id, purpose, &protocol);
                return Ok(None);
            }
            Progress::Next { purpose, proposals } => {
                self.substreams.reset(id, ResetCode::Refused, &mut self.out);
                let (_, _, mut lent) = self.parts();
                lent.open(purpose, proposals);
            }
            Progress::Refused => self.open_failed(id, OpenError::Refused),
            Progress::Failed => return Err(PeerMisbehaved::BadPreamble),
        }
        Ok(Some(Ingest::Discard))
    }

    fn ingest_proposal(
        &mut self,
        id: SubstreamId,
        buf: &mut BytesMut,
    ) -> Result<Option<Ingest>, PeerMisbehaved> {
        let protocol = match negotiation::read_proposal(buf) {
            Proposed::Incomplete => return Ok(Some(Ingest::More { missing: 1 })),
            Proposed::Malformed => return Err(PeerMisbehaved::BadPreamble),
            Proposed::Known(protocol) => Some(protocol),
            Proposed::Unknown => None,
        };
        let accepted = protocol.filter(|protocol| self.bind_accepted(id, protocol));
        let (_, _, lent) = self.parts();
        match accepted {
            Some(protocol) => lent.substreams.accept(id, &protocol, lent.out),
            None => lent.substreams.refuse(id, lent.negotiation_deadline(), lent.out),
        }
        Ok(None)
    }

    fn ingest_stream(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        buf: &mut BytesMut,
    ) -> Result<Ingest, PeerMisbehaved> {
        // Bytes of the peer may be ahead of our own consent: they wait, unread.
        let Some(profile) = self.state.receiving() else {
            return Ok(Ingest::Paused);
        };
        if profile.has_instances() {
            return self.ingest_instance(id, name, buf);
        }
        let before = buf.len();
        let ingest = match self.lend_keys() {
            Some((streams, mut lent)) => streams.ingest(id, name, &mut lent, buf),
            None => Ok(Ingest::Paused),
        };
        if buf.len() < before && self.state.says_goodbye() {
            self.await_goodbye();
        }
        ingest
    }
}
