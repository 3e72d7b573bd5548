//! How substreams come to serve a purpose: opened or accepted, named by the transport or by a
//! preamble.

use bytes::{Buf, BytesMut};

use super::action::{Action, Direction, Ingest, Naming, OpenError, ResetCode};
use super::substreams::{Opener, Purpose, Stage, WriteHalf};
use super::{Session, receive};
use crate::bug::Bug;
use crate::error::{CloseReason, PeerMisbehaved};
use crate::fault::Fault;
use crate::id::SubstreamId;
use crate::message::{FromSession, ToNode};
use crate::wire::{Answer, Profile, Proposal, ProtocolId, StreamVersion};
use crate::wire::{emit_acceptance, emit_proposal, emit_refusal, parse_answer, parse_proposal};

impl Session {
    /// Opens the handshake substream, proposing every profile that this node speaks.
    pub(super) fn open_handshake(&mut self) {
        let profiles = match self.profile {
            Some(profile) => vec![profile],
            None => self.config.profiles.clone(),
        };
        let proposals = profiles.into_iter().map(Profile::handshake_id).collect();
        self.open(Purpose::Handshake, proposals);
    }

    /// Has the adapter open a substream, and counts it from now on.
    pub(super) fn open(&mut self, purpose: Purpose, proposals: Vec<ProtocolId>) -> SubstreamId {
        let deadline = self.now + self.config.negotiation_timeout;
        if self.config.breaks(Fault::C12) {
            self.substreams.repeat_id();
        }
        let stage = Stage::Opening { purpose, proposals: proposals.clone() };
        let substream = self.substreams.insert(Opener::Local, stage, Some(deadline));
        self.out.act(Action::OpenSubstream { substream, protocols: proposals });
        substream
    }

    pub(super) fn opened(&mut self, id: SubstreamId, protocol: Option<ProtocolId>) {
        let Some(substream) = self.substreams.get_mut(id) else {
            return;
        };
        let Stage::Opening { purpose, proposals } = substream.stage.clone() else {
            return;
        };
        match (self.naming, protocol) {
            (Naming::Negotiated, Some(protocol)) if proposals.contains(&protocol) => {
                self.bind_opened(id, purpose, &protocol);
            }
            (Naming::Negotiated, _) => self.open_failed(id, OpenError::Failed),
            (Naming::Preamble, _) => {
                if let Some(first) = proposals.first() {
                    emit_proposal(first, &mut substream.preamble);
                }
                substream.stage = Stage::Proposing { purpose, proposals };
                self.substreams.want_write(id, &mut self.out);
            }
        }
    }

    pub(super) fn open_failed(&mut self, id: SubstreamId, error: OpenError) {
        let Some(substream) = self.substreams.get(id) else {
            return;
        };
        let (Stage::Opening { purpose, .. } | Stage::Proposing { purpose, .. }) =
            substream.stage.clone()
        else {
            return;
        };
        self.substreams.reset(id, ResetCode::Refused, &mut self.out);
        match purpose {
            Purpose::Stream(name) => self.stream_not_opened(id, &name),
            Purpose::Handshake => self.handshake_not_opened(error),
            Purpose::Probe if error == OpenError::Refused => self.heard(),
            Purpose::Probe => {}
        }
    }

    pub(super) fn accepted(&mut self, protocol: Option<ProtocolId>) -> SubstreamId {
        if self.state.is_closed() {
            return self.substreams.allocate();
        }
        if self.substreams.opened_by(Opener::Peer) >= self.config.max_substreams {
            let id = self.substreams.allocate();
            self.out.act(Action::Reset { substream: id, code: ResetCode::LimitReached });
            return id;
        }
        let deadline = self.now + self.config.negotiation_timeout;
        let id = self.substreams.insert(Opener::Peer, Stage::Answering, Some(deadline));
        match (self.naming, protocol) {
            (Naming::Preamble, _) => {}
            (Naming::Negotiated, Some(protocol)) => {
                if !self.bind_accepted(id, &protocol) {
                    self.substreams.reset(id, ResetCode::Refused, &mut self.out);
                }
            }
            (Naming::Negotiated, None) => {
                self.substreams.reset(id, ResetCode::Refused, &mut self.out);
            }
        }
        id
    }

    /// A substream did not get beyond its stage in time.
    pub(super) fn give_up(&mut self, id: SubstreamId) {
        match self.substreams.get(id).map(|substream| substream.stage.clone()) {
            Some(Stage::Opening { .. } | Stage::Proposing { .. }) => {
                self.open_failed(id, OpenError::Failed);
            }
            Some(_) => self.substreams.reset(id, ResetCode::Refused, &mut self.out),
            None => {}
        }
    }

    /// Reads the peer's answer to a proposal of ours.
    pub(super) fn ingest_answer(&mut self, id: SubstreamId, buf: &mut BytesMut) -> Option<Ingest> {
        let Stage::Proposing { purpose, mut proposals } = self.substreams.get(id)?.stage.clone()
        else {
            return None;
        };
        let first = proposals.first()?.clone();
        match parse_answer(buf, &first) {
            Ok(None) => Some(Ingest::More { missing: 1 }),
            Ok(Some((Answer::Accepted, len))) => {
                buf.advance(len);
                self.bind_opened(id, purpose, &first);
                None
            }
            Ok(Some((Answer::Refused, _))) => {
                proposals.remove(0);
                if proposals.is_empty() {
                    self.open_failed(id, OpenError::Refused);
                } else {
                    self.substreams.reset(id, ResetCode::Refused, &mut self.out);
                    self.open(purpose, proposals);
                }
                Some(Ingest::Discard)
            }
            Err(_) => {
                self.misbehaved(PeerMisbehaved::BadPreamble);
                Some(Ingest::Discard)
            }
        }
    }

    /// Reads the name under which the peer has opened a substream.
    pub(super) fn ingest_proposal(
        &mut self,
        id: SubstreamId,
        buf: &mut BytesMut,
    ) -> Option<Ingest> {
        match parse_proposal(buf) {
            Ok(None) => Some(Ingest::More { missing: 1 }),
            Ok(Some((Proposal::Known(protocol), len))) => {
                buf.advance(len);
                let accepted = self.bind_accepted(id, &protocol);
                self.answer(id, accepted.then_some(&protocol));
                None
            }
            Ok(Some((Proposal::Unknown(_), _))) => {
                self.answer(id, None);
                None
            }
            Err(_) => {
                self.misbehaved(PeerMisbehaved::BadPreamble);
                Some(Ingest::Discard)
            }
        }
    }

    pub(super) fn write_preamble(&mut self, id: SubstreamId, out: &mut BytesMut) {
        if let Some(substream) = self.substreams.get_mut(id)
            && !substream.preamble.is_empty()
        {
            out.extend_from_slice(&substream.preamble);
            substream.preamble = BytesMut::new();
        }
    }

    fn bind_opened(&mut self, id: SubstreamId, purpose: Purpose, protocol: &ProtocolId) {
        if let Some(substream) = self.substreams.get_mut(id) {
            substream.stage = Stage::Bound(purpose.clone());
            substream.deadline = None;
        }
        match (purpose, protocol) {
            (Purpose::Handshake, ProtocolId::Handshake(profile)) => {
                self.handshake_opened(id, *profile);
            }
            (Purpose::Handshake, _) => {
                self.substreams.reset(id, ResetCode::Refused, &mut self.out);
            }
            (Purpose::Stream(name), _) => self.stream_opened(id, &name),
            (Purpose::Probe, _) => {
                self.substreams.reset(id, ResetCode::Refused, &mut self.out);
                self.probe_accepted();
            }
        }
    }

    /// Puts a substream of the peer to its purpose, or says that it has none.
    fn bind_accepted(&mut self, id: SubstreamId, protocol: &ProtocolId) -> bool {
        match protocol {
            ProtocolId::Handshake(profile) => self.handshake_accepted(id, *profile),
            ProtocolId::Stream { version: StreamVersion::V1, name } => {
                let wanted = self.is_wanted(name);
                if wanted {
                    self.open_missing_handshake();
                    self.stream_accepted(id, name);
                }
                wanted
            }
            _ => false,
        }
    }

    /// A Go node whose application sends at once opens a named substream and no handshake.
    fn open_missing_handshake(&mut self) {
        let is_being_opened = |stage: &Stage| {
            let (Stage::Opening { purpose, .. } | Stage::Proposing { purpose, .. }) = stage else {
                return false;
            };
            *purpose == Purpose::Handshake
        };
        let is_missing = self.direction == Direction::Inbound
            && self.state.is_waiting()
            && self.profile.is_none()
            && !self.substreams.iter().any(|(_, substream)| is_being_opened(&substream.stage));
        if is_missing {
            self.open_handshake();
        }
    }

    /// Answers a preamble: with the protocol, or with a refusal and the end of this side's half.
    fn answer(&mut self, id: SubstreamId, accepted: Option<&ProtocolId>) {
        let deadline = self.now + self.config.negotiation_timeout;
        let Some(substream) = self.substreams.get_mut(id) else {
            return;
        };
        match accepted {
            Some(protocol) => emit_acceptance(protocol, &mut substream.preamble),
            None => {
                emit_refusal(&mut substream.preamble);
                substream.stage = Stage::Discarding { seen: 0 };
                substream.deadline = Some(deadline);
            }
        }
        self.substreams.want_write(id, &mut self.out);
        if accepted.is_none() {
            self.substreams.finish(id, &mut self.out);
        }
    }

    /// Counts and drops what arrives on a substream that is of no use any more.
    pub(super) fn discard(&mut self, id: SubstreamId, buf: &mut BytesMut) -> Ingest {
        let arrived = buf.len();
        buf.clear();
        let Some(substream) = self.substreams.get_mut(id) else {
            return Ingest::Discard;
        };
        let Stage::Discarding { seen } = &mut substream.stage else {
            return Ingest::Discard;
        };
        *seen = seen.saturating_add(arrived);
        if *seen <= self.config.max_handshake_size {
            return Ingest::More { missing: 1 };
        }
        self.substreams.reset(id, ResetCode::Refused, &mut self.out);
        Ingest::Discard
    }

    /// Stops listening on a substream whose other half still has something to say.
    pub(super) fn discard_from_now_on(&mut self, id: SubstreamId) {
        self.substreams.resume(id, &mut self.out);
        if let Some(substream) = self.substreams.get_mut(id) {
            substream.stage = Stage::Discarding { seen: 0 };
        }
    }

    /// Tells the node, once, that a handshake substream is agreed.
    pub(super) fn agreed(&mut self) {
        if !self.handshake.agreed {
            self.handshake.agreed = true;
            self.out.act(Action::Forward(ToNode(FromSession::Agreed)));
        }
    }

    pub(super) fn misbehaved(&mut self, how: PeerMisbehaved) {
        assert!(!self.config.breaks(Fault::C1), "{how}");
        if !self.state.is_closed() {
            self.finish_close(CloseReason::Misbehaved(how));
        }
    }

    pub(super) fn ingest(&mut self, id: SubstreamId, buf: &mut BytesMut) -> Ingest {
        loop {
            let Some(substream) = self.substreams.get(id) else {
                buf.clear();
                return Ingest::Discard;
            };
            if substream.paused {
                return Ingest::Paused;
            }
            let step = match substream.stage.clone() {
                Stage::Opening { .. } => Some(Ingest::Paused),
                Stage::Proposing { .. } => self.ingest_answer(id, buf),
                Stage::Answering => self.ingest_proposal(id, buf),
                Stage::Parked(_) => Some(Ingest::Paused),
                Stage::Bound(Purpose::Handshake) => Some(self.ingest_handshake(id, buf)),
                Stage::Bound(Purpose::Stream(name)) => Some(self.ingest_stream(id, &name, buf)),
                Stage::Bound(Purpose::Probe) => Some(Ingest::Discard),
                Stage::Discarding { .. } => Some(self.discard(id, buf)),
            };
            if let Some(ingest) = step {
                return self.note(id, ingest);
            }
        }
    }

    /// Remembers that the adapter was told not to read.
    fn note(&mut self, id: SubstreamId, ingest: Ingest) -> Ingest {
        if ingest == Ingest::Paused
            && let Some(substream) = self.substreams.get_mut(id)
        {
            substream.paused = true;
        }
        ingest
    }

    pub(super) fn substream_ended(
        &mut self,
        id: SubstreamId,
        end: super::SubstreamEnd,
        unread: &[u8],
    ) {
        use super::SubstreamEnd::{Aborted, Finished, Reset, Stopped};
        let Some(substream) = self.substreams.get(id) else {
            return;
        };
        let stage = substream.stage.clone();
        if matches!(stage, Stage::Opening { .. } | Stage::Proposing { .. }) {
            return self.open_failed(id, OpenError::Failed);
        }
        if end == Finished
            && !self.config.has(Bug::TruncationUnseen)
            && let Err(how) = receive::check_end(self.profile, &stage, unread)
        {
            return self.misbehaved(how);
        }
        if matches!(end, Finished | Reset | Aborted) {
            self.read_ended(id, &stage, end == Finished);
        }
        if matches!(end, Stopped | Aborted) {
            self.write_broken(id, &stage);
        }
        self.substreams.forget_if_over(id);
        self.drained();
    }

    pub(super) fn acknowledged(&mut self, id: SubstreamId) {
        let Some(substream) = self.substreams.get_mut(id) else {
            return;
        };
        if !matches!(substream.write, WriteHalf::Finishing | WriteHalf::Finished) {
            return;
        }
        substream.write = WriteHalf::Ended;
        match substream.stage.clone() {
            Stage::Bound(Purpose::Stream(name)) => self.stream_delivered(id, &name),
            _ => self.handshake_delivered(id),
        }
        self.substreams.forget_if_over(id);
        self.drained();
    }

    fn read_ended(&mut self, id: SubstreamId, stage: &Stage, is_finished: bool) {
        if let Some(substream) = self.substreams.get_mut(id) {
            substream.read_ended = true;
        }
        match stage {
            Stage::Bound(Purpose::Stream(name)) => self.stream_read_ended(id, name, is_finished),
            // Nothing can come of it any more, and it must not hold up those that come after it.
            Stage::Parked(_) => self.substreams.reset(id, ResetCode::Refused, &mut self.out),
            _ => {}
        }
    }

    fn write_broken(&mut self, id: SubstreamId, stage: &Stage) {
        if let Some(substream) = self.substreams.get_mut(id) {
            substream.write = WriteHalf::Ended;
        }
        match stage {
            Stage::Bound(Purpose::Stream(name)) => self.stream_write_broken(id, name),
            _ => self.handshake_write_broken(id),
        }
    }
}
