//! The handshake substreams and the messages on them: what is said is the application's, where and
//! when is decided here.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::action::{Ingest, OpenError, ResetCode};
use super::event::Event;
use super::lent::Lent;
use super::receive;
use super::substreams::{Purpose, Stage};
use crate::bug::Bug;
use crate::config::Config;
use crate::error::{CloseReason, PeerMisbehaved, SendError};
use crate::fault::Fault;
use crate::id::SubstreamId;
use crate::message::FromSession;
use crate::time::Instant;
use crate::wire::{FrameHeader, Parsed, Profile};

/// The handshake substreams of a session and the messages on them.
///
/// Either side may open one. A side that has the peer's sends on it, otherwise on its own; if
/// both opened at once, each sends on its own and reads both. When the one we send on breaks, what
/// the peer has not answered on it is repeated on the other.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// Fixed by the first handshake substream that is agreed.
    profile: Option<Profile>,
    own: Option<SubstreamId>,
    peers: Option<SubstreamId>,
    /// Where this side's messages go.
    target: Option<SubstreamId>,
    queue: VecDeque<Bytes>,
    /// Written to `target`, and nothing was received on it since.
    unanswered: VecDeque<Bytes>,
    /// How many of the messages that were handed on to another session were written to `target`.
    handed_on: usize,
    /// Bytes in `queue` and `unanswered`.
    held: usize,
    inbox: VecDeque<Bytes>,
    inbox_bytes: usize,
    has_received: bool,
    /// The application was told that there is something, and has not emptied the inbox since.
    readable_reported: bool,
    /// When the session ends, because no handshake substream is left.
    lost_at: Option<Instant>,
}

impl Handshake {
    /// Returns the profile, once a handshake substream is agreed.
    pub(super) const fn profile(&self) -> Option<Profile> {
        self.profile
    }

    pub(super) const fn profile_ref(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// Returns when the session ends, because no handshake substream is left.
    pub(super) const fn lost_at(&self) -> Option<Instant> {
        self.lost_at
    }

    /// True if messages are on their way to the peer.
    pub(super) fn has_pending(&self) -> bool {
        self.target.is_some() && !(self.queue.is_empty() && self.unanswered.is_empty())
    }

    /// True if the peer has sent a message in this session.
    pub(super) const fn has_received(&self) -> bool {
        self.has_received
    }

    /// Returns how many messages are not written yet.
    pub(super) fn unsent(&self) -> usize {
        self.queue.len()
    }

    // ---- substreams ---------------------------------------------------------------------------

    /// The peer has agreed to a handshake substream of ours.
    pub(super) fn opened(
        &mut self,
        id: SubstreamId,
        profile: Profile,
        lent: &mut Lent<'_>,
    ) -> Result<(), PeerMisbehaved> {
        if lent.state.handshake_is_over() {
            // It was agreed too late to be of use.
            lent.substreams.reset(id, ResetCode::Refused, lent.out);
            return Ok(());
        }
        let is_first = self.fix_profile(profile)?;
        self.own = Some(id);
        self.agreed(is_first, lent);
        Ok(())
    }

    /// Our handshake substream could not be opened. Returns why the session ends, unless the peer
    /// has opened one.
    pub(super) const fn not_opened(&self, error: OpenError) -> Option<CloseReason> {
        match (self.profile, error) {
            (Some(_), _) => None,
            (None, OpenError::Refused) => Some(CloseReason::NoCommonProtocol),
            (None, OpenError::Failed) => Some(CloseReason::HandshakeLost),
        }
    }

    /// The peer has opened a handshake substream. Returns whether it is wanted.
    pub(super) fn accepted(
        &mut self,
        id: SubstreamId,
        profile: Profile,
        lent: &mut Lent<'_>,
    ) -> Result<bool, PeerMisbehaved> {
        let is_live = |id| lent.substreams.get(id).is_some_and(|substream| !substream.read_ended);
        let wanted = lent.config().profiles.contains(&profile)
            && !lent.state.handshake_is_over()
            && !self.peers.is_some_and(is_live);
        if !wanted {
            return Ok(false);
        }
        let is_first = self.fix_profile(profile)?;
        lent.substreams.move_to(id, Stage::Bound(Purpose::Handshake));
        self.peers = Some(id);
        self.agreed(is_first, lent);
        Ok(true)
    }

    /// True if the peer has no other handshake substream to open in this session.
    pub(super) fn is_spent(
        &self,
        profile: Profile,
        is_writable: impl Fn(SubstreamId) -> bool,
    ) -> bool {
        let is_broken = |id| !is_writable(id);
        profile.opens_one_handshake()
            && self.profile == Some(profile)
            && (self.peers.is_some() || self.own.is_some_and(is_broken))
    }

    /// This side's half of a substream broke: if messages went there, they go elsewhere.
    pub(super) fn write_broken(&mut self, id: SubstreamId, lent: &mut Lent<'_>) {
        if self.target != Some(id) {
            return;
        }
        self.target = None;
        self.handed_on = 0;
        while let Some(message) = self.unanswered.pop_back() {
            self.queue.push_front(message);
        }
        self.choose_target(lent);
        if lent.state.handshake_is_over() {
            self.finish(lent);
        } else if self.target.is_none() {
            // The peer may open another: Go does when its application sends the next message.
            self.lost_at = Some(lent.negotiation_deadline());
        }
    }

    /// The peer's transport has all that was written on a substream, and its end.
    pub(super) fn delivered(&mut self, id: SubstreamId, lent: &mut Lent<'_>) {
        if self.target == Some(id) {
            self.forget_unanswered();
            self.target = None;
            self.finish(lent);
        }
    }

    /// The handshake is over: nothing more is read, and this side's half ends behind what was
    /// accepted.
    pub(super) fn end(&mut self, lent: &mut Lent<'_>) {
        self.lost_at = None;
        for id in [self.own, self.peers].into_iter().flatten() {
            lent.substreams.discard_from_now_on(id, lent.out);
        }
        self.finish(lent);
    }

    /// Ends this side's half of the substream that still carries messages; of the other one only
    /// when there are none, because it may have to take them over.
    fn finish(&self, lent: &mut Lent<'_>) {
        let target = self.target.filter(|_| self.has_pending());
        for id in [self.own, self.peers].into_iter().flatten() {
            if target.is_none_or(|target| target == id) {
                lent.substreams.finish(id, lent.out);
            }
        }
    }

    /// Fixes the profile, which must be the same on every handshake substream. Returns whether this
    /// is the first.
    fn fix_profile(&mut self, profile: Profile) -> Result<bool, PeerMisbehaved> {
        let is_first = self.profile.is_none();
        if *self.profile.get_or_insert(profile) != profile {
            return Err(PeerMisbehaved::TwoHandshakeProtocols);
        }
        Ok(is_first)
    }

    /// There is one more handshake substream. Only the first is news to the node.
    fn agreed(&mut self, is_first: bool, lent: &mut Lent<'_>) {
        self.choose_target(lent);
        if is_first {
            lent.out.forward(FromSession::Agreed);
        }
    }

    fn choose_target(&mut self, lent: &mut Lent<'_>) {
        if self.target.is_none() {
            // The peer's first: it is read for certain, while a Go node may reset ours.
            let mut both = [self.peers, self.own].into_iter().flatten();
            self.target = both.find(|id| lent.substreams.is_writable(*id));
        }
        if let Some(target) = self.target {
            self.lost_at = None;
            if !self.queue.is_empty() {
                lent.substreams.want_write(target, lent.out);
            }
        }
    }

    // ---- between two sessions of a peer -------------------------------------------------------

    /// Takes over the messages that another session was given to send. Its own come back if
    /// nothing has come of handing them on: some of them were written here already.
    pub(super) fn take_over(&mut self, messages: Vec<Bytes>) {
        let written = std::mem::take(&mut self.handed_on);
        self.held += messages.iter().map(Bytes::len).sum::<usize>();
        let mut messages = messages.into_iter();
        self.unanswered.extend(messages.by_ref().take(written));
        self.queue.extend(messages);
    }

    /// Removes and returns all messages that the peer has not answered, for another session.
    pub(super) fn hand_on(&mut self) -> Vec<Bytes> {
        self.handed_on = self.unanswered.len();
        let mut messages: Vec<Bytes> = self.unanswered.drain(..).collect();
        messages.extend(self.queue.drain(..));
        self.held = 0;
        messages
    }

    /// Messages flow from now on: writes what waits, and reads what was left unread.
    pub(super) fn start(&mut self, lent: &mut Lent<'_>) {
        self.choose_target(lent);
        self.resume(lent);
    }

    // ---- messages -----------------------------------------------------------------------------

    pub(super) fn send(&mut self, message: Bytes, lent: &mut Lent<'_>) -> Result<(), SendError> {
        let (size, limit) = (message.len(), lent.config().max_handshake_size);
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        let messages = self.queue.len() + self.unanswered.len();
        // One always fits.
        if messages > 0 && (self.held + size > limit || messages >= MAX_HELD_MESSAGES) {
            return Err(SendError::Backpressure);
        }
        self.held += size;
        self.queue.push_back(message);
        self.choose_target(lent);
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        id: SubstreamId,
        out: &mut BytesMut,
        budget: usize,
        lent: &Lent<'_>,
    ) {
        // Before the node has granted the session, another may be kept in its stead.
        let may_send = !lent.state.is_waiting() && !lent.state.is_closed();
        let is_target = self.target == Some(id);
        let Some(profile) = self.profile.filter(|_| may_send && is_target) else {
            return;
        };
        let full = out.len().saturating_add(budget);
        while out.len() < full
            && let Some(message) = self.queue.pop_front()
        {
            profile.framing().emit_header(message.len(), out);
            out.extend_from_slice(&message);
            self.unanswered.push_back(message);
        }
    }

    pub(super) fn ingest(
        &mut self,
        id: SubstreamId,
        buf: &mut BytesMut,
        lent: &mut Lent<'_>,
    ) -> Result<Ingest, PeerMisbehaved> {
        let (Some(profile), false) = (self.profile, lent.state.is_waiting()) else {
            // What the peer says before the session is granted may belong to another session.
            return Ok(Ingest::Paused);
        };
        let config = lent.config();
        let limit = match config.has(Bug::UnboundedHandshake) {
            true => usize::MAX,
            false => config.max_handshake_size,
        };
        loop {
            if !self.has_room(config) {
                return Ok(Ingest::Paused);
            }
            let parsed = profile.framing().parse_header(buf, limit);
            let parsed = parsed.map_err(|error| receive::frame_error(None, error))?;
            let Parsed::Frame(header) = parsed else {
                if config.breaks(Fault::C5) {
                    buf.clear();
                }
                return Ok(Ingest::More { missing: 1 });
            };
            let missing = header.total_len().saturating_sub(buf.len());
            if missing > 0 {
                return Ok(Ingest::More { missing });
            }
            let message = take_body(buf, &header);
            self.receive(id, message, lent);
        }
    }

    /// Removes and returns the next message of the peer.
    pub(super) fn take_message(&mut self, lent: &mut Lent<'_>) -> Option<Bytes> {
        let message = self.inbox.pop_front();
        if self.inbox.is_empty() {
            self.readable_reported = false;
        }
        let message = message?;
        self.inbox_bytes -= message.len();
        self.resume(lent);
        Some(message)
    }

    fn resume(&self, lent: &mut Lent<'_>) {
        for id in [self.own, self.peers].into_iter().flatten() {
            lent.substreams.resume(id, lent.out);
        }
    }

    fn has_room(&self, config: &Config) -> bool {
        self.inbox.is_empty()
            || (self.inbox_bytes < config.max_handshake_size
                && self.inbox.len() < MAX_HELD_MESSAGES)
    }

    /// A message of the peer: where it came shows that what we wrote there has arrived.
    fn receive(&mut self, id: SubstreamId, message: Bytes, lent: &mut Lent<'_>) {
        if self.target == Some(id) {
            self.forget_unanswered();
        }
        self.has_received = true;
        self.inbox_bytes += message.len();
        self.inbox.push_back(message);
        if !self.readable_reported {
            self.readable_reported = true;
            lent.out.emit(Event::HandshakeReadable);
        }
    }

    fn forget_unanswered(&mut self) {
        let answered: usize = self.unanswered.drain(..).map(|message| message.len()).sum();
        self.held -= answered;
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
