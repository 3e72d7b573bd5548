//! What happens on a substream goes to the part of the session that the substream serves.

use bytes::BytesMut;

use super::action::{Action, Ingest, Naming, OpenError, ResetCode, SubstreamEnd};
use super::negotiation::Progress;
use super::substreams::{Opener, Purpose, Stage};
use super::{Session, receive};
use crate::error::PeerMisbehaved;
use crate::id::SubstreamId;
use crate::time::Instant;
use crate::wire::ProtocolId;

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

    /// Takes note that the peer has proposed protocols without end on a substream, which the adapter has
    /// broken off. An adapter that negotiates names sets a limit to how many it refuses.
    ///
    /// The session ends if that happens more than 16 times.
    pub fn handle_endless_negotiation(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.endless_negotiations = self.endless_negotiations.saturating_add(1);
        let count = self.endless_negotiations;
        if count > MAX_ENDLESS_NEGOTIATIONS {
            self.misbehaved(PeerMisbehaved::EndlessNegotiations { count });
        }
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
            // What is left of it counts no more, but that the peer has read ours.
            if let (Stage::Bound(Purpose::Stream(name)), true) = (&stage, is_finished) {
                self.instance_read(substream, name);
            }
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

/// Negotiations without end that a peer may begin in a session.
const MAX_ENDLESS_NEGOTIATIONS: u32 = 16;
