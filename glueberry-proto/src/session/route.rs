//! What happens on a substream goes to the part of the session that the substream serves.

use bytes::BytesMut;

use super::action::{Action, Direction, Ingest, Naming, OpenError, ResetCode, SubstreamEnd};
use super::negotiation::{Progress, Proposed};
use super::substreams::{Opener, Purpose, Stage, Substreams};
use super::{Session, receive};
use crate::bug::Bug;
use crate::error::PeerMisbehaved;
use crate::id::SubstreamId;
use crate::wire::{Profile, ProtocolId, StreamName};

impl Session {
    // ---- substreams of our own ----------------------------------------------------------------

    /// Opens the handshake substream, proposing every profile that this node speaks.
    pub(super) fn open_handshake(&mut self) {
        let profiles = self.profiles().to_vec();
        let proposals = profiles.into_iter().map(Profile::handshake_id).collect();
        let (_, _, mut lent) = self.parts();
        lent.open(Purpose::Handshake, proposals);
    }

    pub(super) fn opened(&mut self, id: SubstreamId, protocol: Option<ProtocolId>) {
        match self.substreams.opened(id, protocol, self.params.naming, &mut self.out) {
            Progress::Agreed { purpose, protocol } => self.bind_opened(id, purpose, &protocol),
            Progress::Failed => self.open_failed(id, OpenError::Failed),
            Progress::Pending | Progress::Next { .. } | Progress::Refused => {}
        }
    }

    /// A substream of ours could not be opened, or not be agreed.
    pub(super) fn open_failed(&mut self, id: SubstreamId, error: OpenError) {
        let purpose = self.substreams.give_up(id, &mut self.out);
        let (handshake, streams, mut lent) = self.parts();
        match purpose {
            Some(Purpose::Stream(name)) => {
                if let Some(stream) = streams.get_mut(&name) {
                    stream.not_opened(id, &name, &mut lent);
                }
                // Its messages may have been the last.
                self.finish_if_drained();
            }
            Some(Purpose::Handshake) => {
                if let Some(reason) = handshake.not_opened(error) {
                    self.finish_close(reason);
                }
            }
            // That the peer refuses is the answer that a probe is for.
            Some(Purpose::Probe) if error == OpenError::Refused => self.peer_answered(),
            // The adapter reports it twice, or after it was given up.
            Some(Purpose::Probe) | None => {}
        }
    }

    /// A substream did not get beyond its stage in time.
    pub(super) fn give_up(&mut self, id: SubstreamId) {
        match self.substreams.get(id).map(|substream| &substream.stage) {
            Some(Stage::Opening { .. } | Stage::Proposing { .. }) => {
                self.open_failed(id, OpenError::Failed);
            }
            Some(_) => self.substreams.reset(id, ResetCode::Refused, &mut self.out),
            // One that was overdue at the same time has ended the session.
            None => {}
        }
    }

    fn bind_opened(&mut self, id: SubstreamId, purpose: Purpose, protocol: &ProtocolId) {
        self.substreams.move_to(id, Stage::Bound(purpose.clone()));
        let (handshake, streams, mut lent) = self.parts();
        match (purpose, protocol) {
            (Purpose::Handshake, ProtocolId::Handshake(profile)) => {
                if let Err(how) = handshake.opened(id, *profile, &mut lent) {
                    self.misbehaved(how);
                }
            }
            (Purpose::Stream(name), _) => {
                if let Some(stream) = streams.get_mut(&name) {
                    stream.opened(id, &mut lent);
                }
            }
            (Purpose::Handshake, _) => {
                debug_assert!(false, "{protocol} is proposed for no handshake");
                self.substreams.reset(id, ResetCode::Refused, &mut self.out);
            }
            (Purpose::Probe, _) => {
                self.substreams.reset(id, ResetCode::Refused, &mut self.out);
                self.probe_accepted();
            }
        }
    }

    // ---- substreams of the peer ---------------------------------------------------------------

    pub(super) fn accepted(&mut self, protocol: Option<ProtocolId>) -> SubstreamId {
        if self.state.is_closed() {
            return self.substreams.allocate();
        }
        if self.substreams.opened_by(Opener::Peer) >= self.params.config.max_substreams {
            let id = self.substreams.allocate();
            let code = ResetCode::LimitReached;
            self.out.push_action(Action::Reset { substream: id, code });
            return id;
        }
        let (_, _, lent) = self.parts();
        let deadline = Some(lent.negotiation_deadline());
        let id = lent.substreams.insert(Opener::Peer, Stage::Answering, deadline);
        if self.params.naming == Naming::Negotiated {
            let is_wanted = protocol.is_some_and(|protocol| self.bind_accepted(id, &protocol));
            if !is_wanted {
                self.substreams.reset(id, ResetCode::Refused, &mut self.out);
            }
        }
        id
    }

    /// Puts a substream of the peer to its purpose. Returns whether it has one.
    fn bind_accepted(&mut self, id: SubstreamId, protocol: &ProtocolId) -> bool {
        match protocol {
            ProtocolId::Handshake(profile) => {
                let (handshake, _, mut lent) = self.parts();
                handshake.accepted(id, *profile, &mut lent).unwrap_or_else(|how| {
                    self.misbehaved(how);
                    false
                })
            }
            ProtocolId::Stream { name, .. } => {
                let is_spoken = Profile::stream_ids(self.profiles(), name).contains(protocol);
                let is_wanted = is_spoken && self.is_wanted(name);
                if is_wanted {
                    self.open_missing_handshake();
                    let (_, streams, mut lent) = self.parts();
                    streams.accepted(id, name, &mut lent);
                }
                is_wanted
            }
            _ => false,
        }
    }

    /// Returns the profiles that the session may still speak.
    pub(super) fn profiles(&self) -> &[Profile] {
        match self.handshake.profile_ref() {
            Some(profile) => std::slice::from_ref(profile),
            None => &self.params.config.profiles,
        }
    }

    /// True if a substream of the peer may carry this stream, now or once it is prepared.
    pub(super) fn is_wanted(&self, name: &StreamName) -> bool {
        let is_allowed = self.profile().is_none_or(|profile| profile.allows(name));
        let is_configured = self.params.config.streams.contains(name);
        let may_wait = !self.state.handshake_is_over() && is_configured;
        is_allowed && (may_wait || self.streams.contains(name))
    }

    /// A Go node whose application sends at once opens a named substream and no handshake: then we
    /// open it, though the peer has dialled.
    fn open_missing_handshake(&mut self) {
        let is_being_opened = |stage: &Stage| {
            matches!(
                stage,
                Stage::Opening { purpose: Purpose::Handshake, .. }
                    | Stage::Proposing { purpose: Purpose::Handshake, .. }
            )
        };
        let is_missing = self.params.direction == Direction::Inbound
            && self.state.is_waiting()
            && self.profile().is_none()
            && !self.substreams.iter().any(|(_, substream)| is_being_opened(&substream.stage));
        if is_missing {
            self.open_handshake();
        }
    }

    // ---- bytes --------------------------------------------------------------------------------

    /// Takes bytes by the stage of their substream, which may change on the way: behind a preamble
    /// follows what the substream is for.
    pub(super) fn ingest(&mut self, id: SubstreamId, buf: &mut BytesMut) -> Ingest {
        loop {
            let Some(substream) = self.substreams.get(id) else {
                // Reset by us, and the peer didn't know yet when it wrote.
                buf.clear();
                return Ingest::Discard;
            };
            if substream.paused {
                return Ingest::Paused;
            }
            let step = match substream.stage.clone() {
                Stage::Opening { .. } | Stage::Parked(_) => Ok(Some(Ingest::Paused)),
                Stage::Proposing { purpose, proposals } => {
                    self.ingest_answer(id, purpose, proposals, buf)
                }
                Stage::Answering => self.ingest_proposal(id, buf),
                Stage::Bound(Purpose::Handshake) => {
                    let (handshake, _, mut lent) = self.parts();
                    handshake.ingest(id, buf, &mut lent).map(Some)
                }
                Stage::Bound(Purpose::Stream(name)) => self.ingest_stream(id, &name, buf).map(Some),
                Stage::Bound(Purpose::Probe) => Ok(Some(Ingest::Discard)),
                Stage::Discarding { .. } => {
                    let limit = self.params.config.max_handshake_size;
                    Ok(Some(self.substreams.discard(id, buf, limit, &mut self.out)))
                }
            };
            match step {
                Ok(None) => {}
                Ok(Some(ingest)) => {
                    self.substreams.note_ingest(id, ingest);
                    return ingest;
                }
                Err(how) => {
                    self.misbehaved(how);
                    return Ingest::Discard;
                }
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
        match Substreams::read_answer(id, purpose, proposals, buf) {
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
        let protocol = match Substreams::read_proposal(buf) {
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
        if self.state.carrying().is_none() && !self.params.config.has(Bug::EarlyDelivery) {
            return Ok(Ingest::Paused);
        }
        match self.lend_keys() {
            Some((streams, mut lent)) => streams.ingest(id, name, &mut lent, buf),
            None => Ok(Ingest::Paused),
        }
    }

    // ---- ends ---------------------------------------------------------------------------------

    pub(super) fn substream_ended(&mut self, id: SubstreamId, end: SubstreamEnd, unread: &[u8]) {
        // Reset by us, and the peer's end has crossed that.
        let Some(substream) = self.substreams.get(id) else {
            return;
        };
        let stage = substream.stage.clone();
        if matches!(stage, Stage::Opening { .. } | Stage::Proposing { .. }) {
            return self.open_failed(id, OpenError::Failed);
        }
        let is_finished = end == SubstreamEnd::Finished;
        if is_finished
            && !self.params.config.has(Bug::TruncationUnseen)
            && let Err(how) = receive::check_end(self.profile(), &stage, unread)
        {
            return self.misbehaved(how);
        }
        if end != SubstreamEnd::Stopped {
            self.read_ended(id, &stage, is_finished);
        }
        if matches!(end, SubstreamEnd::Stopped | SubstreamEnd::Aborted) {
            self.write_broken(id, &stage);
        }
        self.substreams.forget_if_over(id);
        self.finish_if_drained();
    }

    pub(super) fn acknowledged(&mut self, id: SubstreamId) {
        let Some(stage) = self.substreams.acknowledged(id) else {
            return;
        };
        let (handshake, streams, mut lent) = self.parts();
        match stage {
            Stage::Bound(Purpose::Stream(name)) => streams.delivered(id, &name, &mut lent),
            _ => handshake.delivered(id, &mut lent),
        }
        self.substreams.forget_if_over(id);
        self.finish_if_drained();
    }

    fn read_ended(&mut self, id: SubstreamId, stage: &Stage, is_finished: bool) {
        self.substreams.read_ended(id);
        let (_, streams, mut lent) = self.parts();
        match stage {
            Stage::Bound(Purpose::Stream(name)) => {
                if let Some(stream) = streams.get_mut(name) {
                    stream.read_ended(id, is_finished, &mut lent);
                }
            }
            // Nothing can come of it any more, and it must not hold up those that come after it.
            Stage::Parked(_) => lent.substreams.reset(id, ResetCode::Refused, lent.out),
            _ => {}
        }
    }

    fn write_broken(&mut self, id: SubstreamId, stage: &Stage) {
        self.substreams.write_ended(id);
        let (handshake, streams, mut lent) = self.parts();
        match stage {
            Stage::Bound(Purpose::Stream(name)) => streams.write_broken(id, name, &mut lent),
            _ => handshake.write_broken(id, &mut lent),
        }
    }
}
