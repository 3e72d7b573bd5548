//! What happens on a substream goes to the part of the session that the substream serves.

use bytes::BytesMut;

use super::action::{Action, Direction, Ingest, Naming, OpenError, ResetCode, SubstreamEnd};
use super::negotiation::{self, Progress, Proposed};
use super::substreams::{Opener, Purpose, Stage};
use super::{Session, receive};
use crate::error::{CloseReason, PeerMisbehaved};
use crate::id::SubstreamId;
use crate::message::FromSession;
use crate::prelude::*;
use crate::time::Instant;
use crate::wire::{Profile, ProtocolId, StreamName};

impl Session {
    // ---- inputs -------------------------------------------------------------------------------

    /// Takes note that a substream of [`Action::OpenSubstream`] is open, on the given one of the
    /// proposed protocols if the transport negotiates names.
    pub fn handle_opened(
        &mut self,
        now: Instant,
        substream: SubstreamId,
        protocol: Option<ProtocolId>,
    ) {
        self.handle_timeout(now);
        match self.substreams.opened(substream, protocol, self.params.naming, &mut self.out) {
            Progress::Agreed { purpose, protocol } => {
                self.bind_opened(substream, purpose, &protocol)
            }
            Progress::Failed => self.open_failed(substream, OpenError::Failed),
            Progress::Pending | Progress::Next { .. } | Progress::Refused => {}
        }
    }

    /// Takes note that a substream of [`Action::OpenSubstream`] could not be opened.
    pub fn handle_open_failed(&mut self, now: Instant, substream: SubstreamId, error: OpenError) {
        self.handle_timeout(now);
        self.open_failed(substream, error);
    }

    /// Takes note that the peer has opened a substream, agreed on the given one of
    /// [`protocols`](Self::protocols) if the transport negotiates names. Returns its id.
    ///
    /// A substream that is not wanted is answered with [`Action::Reset`].
    #[must_use = "the substream is known by this id from now on"]
    pub fn handle_accepted(&mut self, now: Instant, protocol: Option<ProtocolId>) -> SubstreamId {
        self.handle_timeout(now);
        self.peer_answered();
        if self.state.is_closed() {
            return self.substreams.allocate();
        }
        if self.state.is_closing() {
            let id = self.substreams.allocate();
            self.out.push_action(Action::Reset { substream: id, code: ResetCode::Closed });
            return id;
        }
        let is_peers = |id| self.substreams.get(id).is_some_and(|it| it.opener == Opener::Peer);
        // The control channel of v2 is none of them.
        let channel = usize::from(self.handshake.channel().is_some_and(is_peers));
        let opened = self.substreams.opened_by(Opener::Peer) - channel;
        if opened >= self.params.config.max_substreams {
            // It is not kept, so that a flood of them costs an action each and nothing more.
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

    /// Takes bytes that arrived on a substream from the front of `buf`, opening records where
    /// they lie. What is not taken stays in `buf` and must be handed in again with what follows.
    pub fn handle_data(
        &mut self,
        now: Instant,
        substream: SubstreamId,
        buf: &mut BytesMut,
    ) -> Ingest {
        self.handle_timeout(now);
        self.substreams.note_read(substream);
        if !self.probe.is_on(substream, &self.substreams) {
            self.peer_answered();
        }
        // The stage may change on the way: behind a preamble follows what the substream is for.
        loop {
            let Some(found) = self.substreams.get(substream) else {
                // Reset by us, and the peer didn't know yet when it wrote.
                buf.clear();
                return Ingest::Discard;
            };
            if found.paused {
                return Ingest::Paused;
            }
            let stage = found.stage.clone();
            match self.ingest(substream, stage, buf) {
                Ok(None) => {}
                Ok(Some(ingest)) => {
                    if ingest == Ingest::Paused
                        && let Some(found) = self.substreams.get_mut(substream)
                    {
                        found.pause();
                    }
                    return ingest;
                }
                Err(how) => {
                    self.misbehaved(how);
                    return Ingest::Discard;
                }
            }
        }
    }

    /// Takes note that a half of a substream has ended; `unread` is what
    /// [`handle_data`](Self::handle_data) has left in the buffer.
    ///
    /// While the substream is paused, [`SubstreamEnd::Finished`] must wait until it is resumed and
    /// the buffer was handed in.
    pub fn handle_substream_end(
        &mut self,
        now: Instant,
        substream: SubstreamId,
        end: SubstreamEnd,
        unread: &[u8],
    ) {
        self.handle_timeout(now);
        // Reset by us, and the peer's end has crossed that.
        let Some(found) = self.substreams.get(substream) else {
            return;
        };
        let stage = found.stage.clone();
        if matches!(stage, Stage::Opening { .. } | Stage::Proposing { .. }) {
            return self.open_failed(substream, OpenError::Failed);
        }
        let is_finished = end == SubstreamEnd::Finished;
        if self.state.is_closing() && self.handshake.channel() != Some(substream) {
            // What is left of it counts no more.
            return;
        }
        if self.own_read_ended(substream, &stage, is_finished) {
            self.finish_if_drained();
            return;
        }
        if is_finished && let Err(how) = receive::check_end(self.profile(), &stage, unread) {
            return self.misbehaved(how);
        }
        // The peer's half first: whether messages go out again depends on which of its substreams
        // are left.
        if end != SubstreamEnd::Stopped {
            self.read_ended(substream, &stage, is_finished);
        }
        if matches!(end, SubstreamEnd::Stopped | SubstreamEnd::Aborted) {
            self.write_broken(substream, &stage);
        }
        self.substreams.forget_if_over(substream);
        self.finish_if_drained();
    }

    /// Takes note that the peer's transport has all that was written on a substream, and its end,
    /// after [`Action::Finish`]. An adapter that can't know reports it once all was flushed.
    pub fn handle_acknowledged(&mut self, now: Instant, substream: SubstreamId) {
        self.handle_timeout(now);
        let (handshake, streams, mut lent) = self.parts();
        // Reset by us, or it broke, and the acknowledgement has crossed that.
        let Some(found) = lent.substreams.get_mut(substream) else {
            return;
        };
        if !found.acknowledge() {
            return;
        }
        match found.stage.clone() {
            Stage::Bound(Purpose::Stream(name)) => streams.delivered(substream, &name, &mut lent),
            _ if handshake.channel() == Some(substream) => self.goodbye_arrived(),
            _ => handshake.delivered(substream, &mut lent),
        }
        self.substreams.forget_if_over(substream);
        self.finish_if_drained();
    }

    // ---- substreams of our own ----------------------------------------------------------------

    /// Opens the handshake substream, proposing every profile that is configured.
    pub(super) fn open_handshake(&mut self) {
        let profiles = self.handshake.profiles(&self.params.offer).to_vec();
        let proposals = profiles.into_iter().map(Profile::handshake_id).collect();
        let (_, _, mut lent) = self.parts();
        lent.open(Purpose::Handshake, proposals);
    }

    /// A substream of ours could not be opened, or not be agreed.
    pub(super) fn open_failed(&mut self, id: SubstreamId, error: OpenError) {
        let is_early = self.substreams.get(id).is_some_and(|it| it.is_early);
        let purpose = self.substreams.give_up(id, &mut self.out);
        let (handshake, streams, mut lent) = self.parts();
        match purpose {
            Some(Purpose::Stream(name)) => {
                // A peer whose handshake is not over may yet prepare the stream, as it may after a
                // refusal that comes from before.
                let is_refused = error == OpenError::Refused && !is_early;
                let is_final = is_refused && handshake.is_over_there();
                streams.not_opened(id, &name, is_final, &mut lent);
                // Its messages may have been the last.
                self.finish_if_drained();
            }
            Some(Purpose::Handshake) => {
                if let Some(reason) = handshake.not_opened(error, &lent.params.offer) {
                    self.finish_close(reason);
                }
            }
            // That the peer refuses is the answer that a probe is for.
            Some(Purpose::Probe) if error == OpenError::Refused => {
                self.peer_answered();
                self.out.forward(FromSession::ProbeAnswered);
            }
            // The adapter reports it twice, or after it was given up.
            Some(Purpose::Probe) | None => {}
        }
    }

    fn bind_opened(&mut self, id: SubstreamId, purpose: Purpose, protocol: &ProtocolId) {
        if self.ends_downgrade(protocol) {
            return; // it was proposed before the peer was held to v2
        }
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

    /// Puts a substream of the peer to its purpose. Returns whether it has one.
    fn bind_accepted(&mut self, id: SubstreamId, protocol: &ProtocolId) -> bool {
        if self.ends_downgrade(protocol) {
            return false;
        }
        match protocol {
            ProtocolId::Handshake(profile) => {
                let (handshake, _, mut lent) = self.parts();
                handshake.accepted(id, *profile, &mut lent).unwrap_or_else(|how| {
                    self.misbehaved(how);
                    false
                })
            }
            ProtocolId::Stream { name, .. } => {
                let profiles = self.handshake.profiles(&self.params.offer);
                let is_spoken = Profile::stream_ids(profiles, name).contains(protocol);
                let is_instance = self.profile().is_some_and(Profile::has_instances);
                let is_wanted = is_spoken
                    && self.is_wanted(name)
                    && self.may_park(name)
                    && (!is_instance || self.may_wait(name));
                if is_wanted {
                    self.open_missing_handshake();
                    let (_, streams, mut lent) = self.parts();
                    streams.accepted(id, name, &mut lent);
                }
                is_wanted
            }
            // A probe, or a protocol of a later version: a refusal answers both.
            _ => false,
        }
    }

    /// Ends the session if it would get a profile that the peer is above. Returns whether it did.
    fn ends_downgrade(&mut self, protocol: &ProtocolId) -> bool {
        let ProtocolId::Handshake(profile) = *protocol else {
            return false;
        };
        let is_downgrade = self.profile().is_none() && self.params.offer.is_withheld(profile);
        if is_downgrade {
            self.finish_close(CloseReason::Downgrade { offered: Some(profile) });
        }
        is_downgrade
    }

    /// True if a substream of the peer may carry this stream, now or once it is prepared.
    pub(super) fn is_wanted(&self, name: &StreamName) -> bool {
        let is_allowed = self.profile().is_none_or(|profile| profile.allows(name));
        let is_configured = self.params.config.streams.contains(name);
        let may_wait = !self.state.handshake_is_over() && is_configured;
        // Once everything is sent, what the peer begins would not be read to its end.
        is_allowed && (may_wait || self.streams.contains(name)) && !self.state.says_goodbye()
    }

    /// True if another substream may wait for its stream to be prepared.
    pub(super) fn has_room_to_park(&self) -> bool {
        self.substreams.count_parked() < self.params.config.max_parked
    }

    /// True if a substream of a stream need not wait to be prepared, or may.
    fn may_park(&self, name: &StreamName) -> bool {
        let most = match self.params.naming {
            Naming::Preamble => self.params.config.max_parked,
            // The transport has agreed on it already, perhaps on several at a time.
            Naming::Negotiated => self.params.config.max_parked.saturating_mul(2),
        };
        self.streams.contains(name) || self.substreams.count_parked() < most
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

    /// Hands bytes to what a substream is for. Returns nothing if what follows is for another stage.
    fn ingest(
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

    // ---- ends ---------------------------------------------------------------------------------

    fn read_ended(&mut self, id: SubstreamId, stage: &Stage, is_finished: bool) {
        let (handshake, streams, mut lent) = self.parts();
        if let Some(substream) = lent.substreams.get_mut(id) {
            substream.end_read();
        }
        if is_finished && !handshake.is_over_there() {
            handshake.read_ended(id);
            if handshake.is_over_there() {
                lent.substreams.handshake_ended_there();
            }
        }
        match stage {
            Stage::Bound(Purpose::Stream(name)) => {
                if let Some(stream) = streams.get_mut(name) {
                    stream.read_ended(id, name, is_finished, &mut lent);
                }
                self.answer_if_complete();
            }
            Stage::Bound(Purpose::Handshake) if handshake.channel() == Some(id) => {
                self.channel_read_ended(id);
            }
            Stage::Bound(Purpose::Handshake) if is_finished => {
                handshake.read_finished(id, &mut lent)
            }
            // Nothing can come of it any more, and it must not hold up those that come after it.
            Stage::Parked(_) => lent.substreams.reset(id, ResetCode::Refused, lent.out),
            _ => {}
        }
    }

    fn write_broken(&mut self, id: SubstreamId, stage: &Stage) {
        let (handshake, _, mut lent) = self.parts();
        if let Some(substream) = lent.substreams.get_mut(id) {
            substream.end_write();
        }
        match stage {
            Stage::Bound(Purpose::Stream(name)) => self.instance_broken(id, name),
            _ if handshake.channel() == Some(id) => self.channel_lost(id),
            _ => handshake.write_broken(id, &mut lent),
        }
    }
}
