//! The handshake substreams and the messages on them. What is in a message is the application's;
//! where and when it goes is decided here.

use bytes::{Buf, Bytes, BytesMut};

use super::action::{Ingest, OpenError, ResetCode};
use super::event::Event;
use super::handshake_queue::{HandshakeQueue, MAX_HELD_MESSAGES};
use super::inbox::Inbox;
use super::lent::Lent;
use super::offer::Offer;
use super::receive;
use super::state::State;
use super::substreams::{Purpose, Stage};
use crate::config::Config;
use crate::error::{CloseReason, PeerMisbehaved, SendError};
use crate::id::SubstreamId;
use crate::message::FromSession;
use crate::prelude::*;
use crate::time::Instant;
use crate::v2::gate::Gate;
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
    pub(super) own: Option<SubstreamId>,
    pub(super) peers: Option<SubstreamId>,
    /// Where this side's messages go.
    pub(super) target: Option<SubstreamId>,
    pub(super) queue: HandshakeQueue,
    /// The key exchange and the control channel of v2, and how many there were.
    pub(super) gate: Option<Box<Gate>>,
    pub(super) gates: u64,
    inbox: Inbox,
    has_received: bool,
    /// The peer has ended its half of a handshake substream, or has said FINISHED (v2): its side of the
    /// handshake is over.
    is_over_there: bool,
    /// When the session ends, because no handshake substream is left.
    lost_at: Option<Instant>,
}

impl Handshake {
    /// Returns the profile, once a handshake substream is agreed.
    pub(super) const fn profile(&self) -> Option<Profile> {
        self.profile
    }

    /// Returns the profiles that the session may still have.
    pub(super) fn profiles<'a>(&'a self, offer: &'a Offer) -> &'a [Profile] {
        self.profile.as_ref().map_or_else(|| offer.allowed(), core::slice::from_ref)
    }

    /// Returns when the session ends, because no handshake substream is left.
    pub(super) const fn lost_at(&self) -> Option<Instant> {
        self.lost_at
    }

    /// True if messages are on their way to the peer.
    pub(super) fn has_pending(&self) -> bool {
        match self.gate {
            Some(_) => self.target.is_some() && self.queue.waiting() > 0,
            None => self.target.is_some() && !self.queue.is_empty(),
        }
    }

    /// True if the peer has sent a message in this session.
    pub(super) const fn has_received(&self) -> bool {
        self.has_received
    }

    /// True if the peer prepares no more streams.
    pub(super) const fn is_over_there(&self) -> bool {
        self.is_over_there
    }

    // ---- substreams ---------------------------------------------------------------------------

    /// The peer has ended its half of a substream in order.
    pub(super) fn read_ended(&mut self, id: SubstreamId) {
        self.is_over_there |= self.own == Some(id) || self.peers == Some(id);
    }

    /// The peer has said that its handshake is over (v2, whose substream goes on as the control channel).
    pub(super) const fn finished_there(&mut self) {
        self.is_over_there = true;
    }

    /// The peer has agreed to a handshake substream of ours.
    pub(super) fn opened(
        &mut self,
        id: SubstreamId,
        profile: Profile,
        lent: &mut Lent<'_>,
    ) -> Result<(), PeerMisbehaved> {
        if lent.state.handshake_is_over() {
            // It was agreed too late: nothing more is sent or read in the handshake.
            lent.substreams.reset(id, ResetCode::Refused, lent.out);
            return Ok(());
        }
        if profile.has_channel() {
            return self.channel_opened(id, lent);
        }
        let is_first = self.fix_profile(profile)?;
        self.own = Some(id);
        self.agreed(profile, is_first, lent);
        Ok(())
    }

    /// Our handshake substream could not be opened. Returns why the session ends, unless the peer
    /// has opened one.
    pub(super) fn not_opened(&self, error: OpenError, offer: &Offer) -> Option<CloseReason> {
        match (self.profile, error) {
            (Some(_), _) => None,
            (None, OpenError::Refused) if !offer.withheld().is_empty() => {
                Some(CloseReason::Downgrade { offered: None })
            }
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
        let wanted = lent.params.offer.allowed().contains(&profile)
            && !lent.state.handshake_is_over()
            && !self.peers.is_some_and(is_live);
        if !wanted {
            return Ok(false);
        }
        if profile.has_channel() {
            return self.channel_accepted(id, lent);
        }
        let is_first = self.fix_profile(profile)?;
        lent.substreams.move_to(id, Stage::Bound(Purpose::Handshake));
        self.peers = Some(id);
        self.agreed(profile, is_first, lent);
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

    /// The peer has ended its half of a substream. A Go node ends it when the handshake is over, and
    /// reads no more of it; before this side has prepared streams that means that it has given up, or
    /// has kept the one that it has on another session.
    pub(super) fn read_finished(&mut self, id: SubstreamId, lent: &mut Lent<'_>) {
        let may_follow = self.profile.is_some_and(|profile| !profile.opens_one_handshake());
        let is_early = lent.state.is_waiting() || lent.state.is_connected();
        if may_follow && self.target == Some(id) && is_early {
            lent.substreams.finish(id, lent.out);
            self.write_broken(id, lent);
        }
    }

    /// This side's half of a substream broke: if messages went there, they go elsewhere.
    pub(super) fn write_broken(&mut self, id: SubstreamId, lent: &mut Lent<'_>) {
        if self.target != Some(id) {
            return;
        }
        self.target = None;
        self.choose_target(lent);
        if lent.state.handshake_is_over() && self.target.is_none() {
            // What was written is not unsent: the peer's side of the handshake is over, too, and it
            // reads no more of it.
            self.queue.answered();
        } else {
            self.queue.write_again();
            self.choose_target(lent);
        }
        if lent.state.handshake_is_over() {
            self.finish(lent);
        } else if self.target.is_none() {
            // The peer may open another: Go does when its application sends the next message.
            self.lost_at = Some(lent.negotiation_deadline());
            // Where the peer has spoken and ended its half, its side of the handshake is over, and
            // the session in use there: no other may take its place.
            if !(self.is_over_there && self.has_received) {
                lent.out.forward(FromSession::HandshakeLost(true));
            }
        }
    }

    /// The peer's transport has all that was written on a substream, and its end.
    pub(super) fn delivered(&mut self, id: SubstreamId, lent: &mut Lent<'_>) {
        if self.target == Some(id) {
            self.queue.answered();
            self.target = None;
            self.finish(lent);
        }
    }

    /// The handshake is over: nothing more is read, and this side's half ends behind what was
    /// accepted.
    pub(super) fn end(&mut self, lent: &mut Lent<'_>) {
        self.lost_at = None;
        if self.gate.is_some() {
            // It stays as the control channel.
            return self.want_channel(lent);
        }
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
    pub(super) fn fix_profile(&mut self, profile: Profile) -> Result<bool, PeerMisbehaved> {
        let is_first = self.profile.is_none();
        if *self.profile.get_or_insert(profile) != profile {
            return Err(PeerMisbehaved::TwoHandshakeProtocols);
        }
        Ok(is_first)
    }

    /// There is one more handshake substream. Only the first is news to the node.
    fn agreed(&mut self, profile: Profile, is_first: bool, lent: &mut Lent<'_>) {
        self.choose_target(lent);
        if is_first {
            lent.out.forward(FromSession::Agreed(profile));
        }
    }

    fn choose_target(&mut self, lent: &mut Lent<'_>) {
        if self.target.is_none() {
            // The peer's first: it is read for certain, while a Go node may reset ours.
            let mut both = [self.peers, self.own].into_iter().flatten();
            self.target = both.find(|id| lent.substreams.is_writable(*id));
        }
        if let Some(target) = self.target {
            if self.lost_at.take().is_some() {
                lent.out.forward(FromSession::HandshakeLost(false));
            }
            if self.queue.waiting() > 0 {
                lent.substreams.want_write(target, lent.out);
            }
        }
    }

    // ---- messages -----------------------------------------------------------------------------

    /// Messages flow from now on: writes what waits, and reads what was left unread.
    pub(super) fn start(&mut self, lent: &mut Lent<'_>) {
        self.choose_target(lent);
        self.resume(lent);
        // In v2 they were read before, and held.
        self.has_received |= !self.inbox.is_empty();
        if self.inbox.becomes_readable() {
            lent.out.emit(Event::HandshakeReadable);
        }
    }

    /// The session is over: forgets all secrets.
    pub(super) fn wipe(&mut self) {
        self.gate = None;
    }

    pub(super) fn send(&mut self, message: Bytes, lent: &mut Lent<'_>) -> Result<(), SendError> {
        let longest = self.profile.map_or(usize::MAX, Profile::longest_handshake_message);
        self.queue.push(message, lent.config().max_handshake_size.min(longest))?;
        self.choose_target(lent);
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        id: SubstreamId,
        out: &mut BytesMut,
        full: usize,
        now: Instant,
        state: &State,
    ) {
        if self.gate.is_some() {
            if self.target == Some(id) {
                self.write_channel(out, full, now, state);
            }
            return;
        }
        // Before the node has granted the session, another may be kept in its stead.
        let may_send = !state.is_waiting() && !state.is_closed();
        if may_send
            && self.target == Some(id)
            && let Some(profile) = self.profile
        {
            self.queue.write(profile.framing(), out, full);
        }
    }

    pub(super) fn ingest(
        &mut self,
        id: SubstreamId,
        buf: &mut BytesMut,
        lent: &mut Lent<'_>,
    ) -> Result<Ingest, PeerMisbehaved> {
        let (Some(profile), false) = (self.profile, lent.state.is_waiting()) else {
            // If the node keeps another session, the peer repeats there what it sends here.
            return Ok(Ingest::Paused);
        };
        let config = lent.config();
        loop {
            if !self.has_room(config) {
                return Ok(Ingest::Paused);
            }
            let parsed = profile.framing().parse_header(buf, config.max_handshake_size);
            let parsed = parsed.map_err(|error| receive::frame_error(None, error))?;
            let Parsed::Frame(header) = parsed else {
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
        // What has come before the session is Connected may be void.
        if lent.state.is_waiting() {
            return None;
        }
        let message = self.inbox.pop()?;
        self.resume(lent);
        Some(message)
    }

    /// Drops what waits for the application.
    pub(super) fn discard_received(&mut self) {
        self.inbox = Inbox::default();
    }

    /// Returns what waits for the application.
    pub(super) const fn received_bytes(&self) -> usize {
        self.inbox.bytes()
    }

    fn resume(&self, lent: &mut Lent<'_>) {
        for id in [self.own, self.peers].into_iter().flatten() {
            lent.substreams.resume(id, lent.out);
        }
    }

    pub(super) fn has_room(&self, config: &Config) -> bool {
        self.inbox.is_empty()
            || (self.inbox.bytes() < config.max_handshake_size
                && self.inbox.len() < MAX_HELD_MESSAGES)
    }

    /// A message of the peer: where it came shows that what we wrote there has arrived.
    pub(super) fn receive(&mut self, id: SubstreamId, message: Bytes, lent: &mut Lent<'_>) {
        if self.target == Some(id) {
            self.queue.answered();
        }
        let cost = message.len();
        self.inbox.push(message, cost);
        if lent.state.is_waiting() {
            return;
        }
        self.has_received = true;
        if self.inbox.becomes_readable() {
            lent.out.emit(Event::HandshakeReadable);
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
