//! The two-phase handshake: what is said is the application's, where and when is decided here.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::action::{Action, Ingest, OpenError, ResetCode};
use super::event::Event;
use super::records::V1Records;
use super::substreams::{Purpose, Stage, Substream};
use super::{Session, receive};
use crate::bug::Bug;
use crate::crypto::{PublicKey, SharedKey};
use crate::error::{CloseReason, FinalizeError, PeerMisbehaved, PrepareError, SendError};
use crate::fault::Fault;
use crate::id::SubstreamId;
use crate::message::{Carry, FromSession, ToNode};
use crate::send_queue::SendLimits;
use crate::time::Instant;
use crate::wire::{FrameHeader, Parsed, Profile, StreamName};

/// The handshake substreams of a session and the messages on them.
///
/// Either side may open one. A side that has the peer's sends on it, otherwise on its own; if
/// both opened at once, each sends on its own and reads both. When the one we send on breaks, what
/// the peer has not answered on it is said again on the other.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// A handshake substream is agreed, and the node was told.
    pub(super) agreed: bool,
    own: Option<SubstreamId>,
    peers: Option<SubstreamId>,
    /// Where this side's messages go.
    target: Option<SubstreamId>,
    queue: VecDeque<Bytes>,
    /// Written to `target`, and nothing was heard on it since.
    unanswered: VecDeque<Bytes>,
    /// How many of the messages that were handed on to another session were written to `target`.
    handed_on: usize,
    /// Bytes in `queue` and `unanswered`.
    held: usize,
    inbox: VecDeque<Bytes>,
    inbox_bytes: usize,
    has_heard: bool,
    readable_told: bool,
    /// When the session ends, because no handshake substream is left to talk on.
    pub(super) lost_at: Option<Instant>,
}

impl Handshake {
    /// Returns whether messages are on their way to the peer.
    pub(super) fn has_pending(&self) -> bool {
        self.target.is_some() && !(self.queue.is_empty() && self.unanswered.is_empty())
    }
}

impl Session {
    // ---- substreams ---------------------------------------------------------------------------

    pub(super) fn handshake_opened(&mut self, id: SubstreamId, profile: Profile) {
        if self.state.handshake_is_over() {
            return self.substreams.reset(id, ResetCode::Refused, &mut self.out);
        }
        if !self.fix_profile(profile) {
            return;
        }
        self.handshake.own = Some(id);
        self.choose_target();
        self.agreed();
    }

    pub(super) fn handshake_not_opened(&mut self, error: OpenError) {
        if self.handshake.agreed {
            return;
        }
        self.finish_close(match error {
            OpenError::Refused => CloseReason::NoCommonProtocol,
            OpenError::Failed => CloseReason::HandshakeLost,
        });
    }

    /// Takes a handshake substream of the peer, or says that it is not wanted.
    pub(super) fn handshake_accepted(&mut self, id: SubstreamId, profile: Profile) -> bool {
        let is_live = |id| self.substreams.get(id).is_some_and(|substream| !substream.read_ended);
        let wanted = self.config.profiles.contains(&profile)
            && !self.state.handshake_is_over()
            && !self.handshake.peers.is_some_and(is_live);
        if !wanted || !self.fix_profile(profile) {
            return false;
        }
        if let Some(substream) = self.substreams.get_mut(id) {
            substream.stage = Stage::Bound(Purpose::Handshake);
            substream.deadline = None;
        }
        self.handshake.peers = Some(id);
        self.choose_target();
        self.agreed();
        true
    }

    /// Returns whether the peer has no other handshake substream to open in this session. A node opens
    /// one, and resets none; what a Go node does is another matter.
    pub(super) fn has_had_handshake(&self, profile: Profile) -> bool {
        let is_broken = |id| self.substreams.get(id).is_none_or(|own| !own.is_writable());
        let is_v1 = profile == Profile::V1 && self.profile == Some(Profile::V1);
        is_v1 && (self.handshake.peers.is_some() || self.handshake.own.is_some_and(is_broken))
    }

    /// This side's half of a substream is of no use any more: if it was where handshake messages
    /// go, they go elsewhere.
    pub(super) fn handshake_write_broken(&mut self, id: SubstreamId) {
        if self.handshake.target != Some(id) {
            return;
        }
        let handshake = &mut self.handshake;
        handshake.target = None;
        handshake.handed_on = 0;
        while let Some(message) = handshake.unanswered.pop_back() {
            handshake.queue.push_front(message);
        }
        self.choose_target();
        if self.state.handshake_is_over() {
            self.finish_handshake();
        } else if self.handshake.target.is_none() {
            self.handshake.lost_at = Some(self.now + self.config.negotiation_timeout);
        }
    }

    /// All that was said on a substream has arrived, and its end.
    pub(super) fn handshake_delivered(&mut self, id: SubstreamId) {
        if self.handshake.target == Some(id) {
            let delivered: usize = self.handshake.unanswered.drain(..).map(|m| m.len()).sum();
            self.handshake.held -= delivered;
            self.handshake.target = None;
            self.finish_handshake();
        }
    }

    /// The handshake is over: ends this side's half of the substream that still carries messages,
    /// and of the other one only when there are none, because it may have to take them over.
    fn finish_handshake(&mut self) {
        let handshake = &self.handshake;
        let target = handshake.target.filter(|_| handshake.has_pending());
        let both = [handshake.own, handshake.peers];
        for id in both.into_iter().flatten().filter(|id| target.is_none_or(|target| target == *id))
        {
            self.substreams.finish(id, &mut self.out);
        }
    }

    /// Fixes the profile, which must be the same on every handshake substream.
    fn fix_profile(&mut self, profile: Profile) -> bool {
        let fixed = *self.profile.get_or_insert(profile);
        if fixed != profile {
            self.misbehaved(PeerMisbehaved::TwoHandshakeProtocols);
        }
        fixed == profile
    }

    fn choose_target(&mut self) {
        let is_writable =
            |id: &SubstreamId| self.substreams.get(*id).is_some_and(Substream::is_writable);
        let handshake = &mut self.handshake;
        if handshake.target.is_none() {
            handshake.target =
                [handshake.peers, handshake.own].into_iter().flatten().find(is_writable);
        }
        if let Some(target) = handshake.target {
            handshake.lost_at = None;
            if !handshake.queue.is_empty() {
                self.substreams.want_write(target, &mut self.out);
            }
        }
    }

    // ---- words from the node ------------------------------------------------------------------

    pub(super) fn grant(&mut self, carry: Carry) {
        if !self.state.is_waiting() {
            return;
        }
        self.state.move_to_connected();
        let handshake = &mut self.handshake;
        // Its own come back if nothing has come of handing them on: some were said here already.
        let said = std::mem::take(&mut handshake.handed_on);
        handshake.held += carry.messages.iter().map(Bytes::len).sum::<usize>();
        let mut messages = carry.messages.into_iter();
        handshake.unanswered.extend(messages.by_ref().take(said));
        handshake.queue.extend(messages);
        if let Some(names) = carry.prepared
            && self.prepare(self.peer, &names).is_err()
        {
            return self.finish_close(CloseReason::Internal("prepared streams did not carry over"));
        }
        self.choose_target();
        for id in [self.handshake.own, self.handshake.peers].into_iter().flatten() {
            self.substreams.resume(id, &mut self.out);
        }
    }

    pub(super) fn yield_to_another(&mut self) {
        if !self.state.in_handshake() {
            return;
        }
        if self.handshake.has_heard {
            // The peer has spoken here, so it is not one that dialled at the same time: it has
            // lost this session and begins another, of which nothing said here is part.
            return self.finish_close(CloseReason::Superseded);
        }
        let handshake = &mut self.handshake;
        handshake.handed_on = handshake.unanswered.len();
        let mut messages: Vec<Bytes> = handshake.unanswered.drain(..).collect();
        messages.extend(handshake.queue.drain(..));
        handshake.held = 0;
        let names = self.streams.names().cloned().collect();
        let prepared = self.state.is_prepared().then_some(names);
        self.state.move_to_waiting();
        let yielded = FromSession::Yielded(Carry { messages, prepared });
        self.out.act(Action::Forward(ToNode(yielded)));
    }

    // ---- commands -----------------------------------------------------------------------------

    pub(super) fn say(&mut self, message: Bytes) -> Result<(), SendError> {
        if self.state.is_closed() || self.state.is_draining() {
            return Err(SendError::Closed);
        }
        if self.state.is_established() {
            return Err(SendError::HandshakeOver);
        }
        if self.state.is_waiting() {
            return Err(SendError::NotEstablished);
        }
        let (size, limit) = (message.len(), self.config.max_handshake_size);
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        let handshake = &mut self.handshake;
        let messages = handshake.queue.len() + handshake.unanswered.len();
        if messages > 0 && (handshake.held + size > limit || messages >= MAX_HELD_MESSAGES) {
            return Err(SendError::Backpressure);
        }
        handshake.held += size;
        handshake.queue.push_back(message);
        self.choose_target();
        Ok(())
    }

    pub(super) fn prepare(
        &mut self,
        key: PublicKey,
        names: &[StreamName],
    ) -> Result<(), PrepareError> {
        self.check_prepare(key, names)?;
        if self.records.is_none() {
            let mut shared = self.identity.agree_v1(&key).map_err(PrepareError::Agreement)?;
            if self.config.has(Bug::ZeroKey) {
                shared = SharedKey::from_bytes(&[0; 32]).unwrap_or(shared);
            }
            self.records = Some(Box::new(V1Records::new(&*self.aead, &shared, &self.config)));
        }
        for name in names {
            self.streams.add(name.clone(), SendLimits::from(&*self.config));
        }
        if self.state.is_connected() {
            self.state.move_to_prepared();
            self.out.act(Action::Forward(ToNode(FromSession::Prepared)));
        }
        self.bind_parked();
        Ok(())
    }

    fn check_prepare(&self, key: PublicKey, names: &[StreamName]) -> Result<(), PrepareError> {
        if self.state.is_closed() || self.state.is_draining() {
            return Err(PrepareError::Closed);
        }
        if self.state.is_established() {
            return Err(PrepareError::AlreadyFinalized);
        }
        if self.state.is_waiting() {
            return Err(PrepareError::NotConnected);
        }
        if names.is_empty() {
            return Err(PrepareError::NoStreams);
        }
        let mut all: Vec<&StreamName> = self.streams.names().chain(names).collect();
        all.sort_unstable();
        all.dedup();
        let (requested, limit) = (all.len(), self.config.max_streams);
        if requested > limit {
            return Err(PrepareError::TooManyStreams { requested, limit });
        }
        let is_allowed =
            |name: &&StreamName| self.profile.is_none_or(|profile| profile.allows(name));
        if let Some(name) = names.iter().find(|name| !is_allowed(name)) {
            return Err(PrepareError::NameNotAllowed { name: name.clone() });
        }
        if key != self.peer && !self.config.has(Bug::AnyKey) {
            return Err(PrepareError::WrongKey { given: key, peer: self.peer });
        }
        Ok(())
    }

    pub(super) fn finalize(&mut self) -> Result<(), FinalizeError> {
        if self.state.is_closed() || self.state.is_draining() {
            return Err(FinalizeError::Closed);
        }
        if self.state.is_established() {
            return Err(FinalizeError::AlreadyFinalized);
        }
        if self.state.is_waiting() {
            return Err(FinalizeError::NotConnected);
        }
        if !self.state.is_prepared() {
            return Err(FinalizeError::NotPrepared);
        }
        self.state.move_to_established();
        self.handshake.lost_at = None;
        self.out.tell(Event::Established);
        self.out.act(Action::Forward(ToNode(FromSession::Established)));
        for id in [self.handshake.own, self.handshake.peers].into_iter().flatten() {
            self.discard_from_now_on(id);
        }
        self.finish_handshake();
        self.reset_parked();
        self.resume_streams();
        Ok(())
    }

    // ---- bytes --------------------------------------------------------------------------------

    pub(super) fn write_handshake(&mut self, id: SubstreamId, out: &mut BytesMut, budget: usize) {
        let is_sayable = !self.state.is_waiting() && !self.state.is_closed();
        let (Some(profile), true) = (self.profile, is_sayable) else {
            return;
        };
        if self.handshake.target != Some(id) {
            return;
        }
        let full = out.len().saturating_add(budget);
        while out.len() < full
            && let Some(message) = self.handshake.queue.pop_front()
        {
            profile.framing().emit_header(message.len(), out);
            out.extend_from_slice(&message);
            self.handshake.unanswered.push_back(message);
        }
    }

    pub(super) fn ingest_handshake(&mut self, id: SubstreamId, buf: &mut BytesMut) -> Ingest {
        let (Some(profile), false) = (self.profile, self.state.is_waiting()) else {
            return Ingest::Paused;
        };
        let limit = match self.config.has(Bug::UnboundedHandshake) {
            true => usize::MAX,
            false => self.config.max_handshake_size,
        };
        loop {
            if !self.handshake_has_room() {
                return Ingest::Paused;
            }
            let header = match profile.framing().parse_header(buf, limit) {
                Ok(Parsed::Frame(header)) => header,
                Ok(_) => {
                    if self.config.breaks(Fault::C5) {
                        buf.clear();
                    }
                    return Ingest::More { missing: 1 };
                }
                Err(error) => {
                    self.misbehaved(receive::frame_error(None, error));
                    return Ingest::Discard;
                }
            };
            let missing = header.total_len().saturating_sub(buf.len());
            if missing > 0 {
                return Ingest::More { missing };
            }
            let message = take_body(buf, &header);
            self.hear(id, message);
        }
    }

    pub(super) fn take_handshake_message(&mut self) -> Option<Bytes> {
        let handshake = &mut self.handshake;
        let Some(message) = handshake.inbox.pop_front() else {
            handshake.readable_told = false;
            return None;
        };
        handshake.inbox_bytes -= message.len();
        if handshake.inbox.is_empty() {
            handshake.readable_told = false;
        }
        for id in [self.handshake.own, self.handshake.peers].into_iter().flatten() {
            self.substreams.resume(id, &mut self.out);
        }
        Some(message)
    }

    /// Returns how many handshake messages are not written yet.
    pub(super) fn handshake_queue_len(&self) -> usize {
        self.handshake.queue.len()
    }

    fn handshake_has_room(&self) -> bool {
        let handshake = &self.handshake;
        handshake.inbox.is_empty()
            || (handshake.inbox_bytes < self.config.max_handshake_size
                && handshake.inbox.len() < MAX_HELD_MESSAGES)
    }

    /// A message of the peer: where it came shows that what we said there has arrived.
    fn hear(&mut self, id: SubstreamId, message: Bytes) {
        let handshake = &mut self.handshake;
        if handshake.target == Some(id) {
            let answered: usize = handshake.unanswered.drain(..).map(|m| m.len()).sum();
            handshake.held -= answered;
        }
        handshake.has_heard = true;
        handshake.inbox_bytes += message.len();
        handshake.inbox.push_back(message);
        if !handshake.readable_told {
            handshake.readable_told = true;
            self.out.tell(Event::HandshakeReadable);
        }
    }
}

/// Copies a frame's body out, because handshake messages are small and their buffer may not be.
fn take_body(buf: &mut BytesMut, header: &FrameHeader) -> Bytes {
    let body = header.header_len..header.header_len + header.body_len;
    let message = Bytes::copy_from_slice(&buf[body]);
    buf.advance(header.total_len());
    message
}

/// Handshake messages that a session holds in each direction, besides the limit in bytes.
pub(crate) const MAX_HELD_MESSAGES: usize = 256;
