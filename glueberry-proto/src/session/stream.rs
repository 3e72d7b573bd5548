//! One named stream: which substream carries which direction.

use alloc::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::action::{Ingest, ResetCode};
use super::batch::WriteTo;
use super::event::Event;
use super::lent::{Lent, LentKeys};
use super::receive::Receiver;
use super::send::{Carrier, Sender};
use super::substreams::{Opener, Purpose, Stage, Substream};
use super::v2::incoming::Incoming;
use super::v2::outgoing::Broken;
use crate::config::Config;
use crate::error::PeerMisbehaved;
use crate::id::SubstreamId;
use crate::prelude::*;
use crate::seed::Generator;
use crate::send_queue::SendLimits;
use crate::wire::{Profile, StreamName};

/// Both directions of one named stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    /// Live substreams of this name that the peer has opened, in its order.
    peers: VecDeque<SubstreamId>,
    /// A substream was agreed on for it, so the peer has prepared it.
    was_agreed: bool,
    /// Substreams carry instances, and only what their opener sends: v2.
    has_instances: bool,
    /// What v2 reads, from Established on.
    pub(super) incoming: Option<Box<Incoming>>,
}

impl Stream {
    pub(super) fn new(profile: Profile, config: &Config) -> Self {
        Self {
            has_instances: profile.has_instances(),
            incoming: None,
            sender: Sender::new(profile, SendLimits::from(config)),
            receiver: Receiver::new(profile),
            peers: VecDeque::new(),
            was_agreed: false,
        }
    }

    // ---- the send direction -------------------------------------------------------------------

    /// There is something to send: has the adapter write, or finds a substream first.
    pub(super) fn want_write(&mut self, name: &StreamName, lent: &mut Lent<'_>) {
        match self.sender.bound() {
            Some(id) => lent.substreams.want_write(id, lent.out),
            None => self.find_target(name, lent),
        }
    }

    /// Finds a substream if there is something to send: the peer's if there is one that may be
    /// used, otherwise one of our own.
    pub(super) fn find_target(&mut self, name: &StreamName, lent: &mut Lent<'_>) {
        // Before Established nothing is carried, and so nothing is opened.
        let Some(profile) = lent.state.carrying() else {
            return;
        };
        if !self.sender.needs_target() {
            return;
        }
        let mut peers = self.peers.iter().copied();
        if profile.sends_on_peers_substream()
            && let Some(id) = peers.find(|id| lent.substreams.is_writable(*id))
        {
            return self.bind_sender(id, lent);
        }
        if self.sender.waits_for_peer() {
            return;
        }
        let config = lent.config();
        if lent.substreams.opened_by(Opener::Local) >= config.max_substreams {
            // Those of other streams may end in the meantime.
            return self.sender.schedule_retry(lent.now, config);
        }
        let id = lent.open(Purpose::Stream(name.clone()), vec![profile.stream_id(name.clone())]);
        self.sender.open(id);
    }

    /// A substream of the peer may carry this direction too, or it is time to try again.
    pub(super) fn offer_target(&mut self, name: &StreamName, lent: &mut Lent<'_>) {
        self.sender.stop_waiting();
        self.find_target(name, lent);
    }

    /// A substream of our own is agreed.
    pub(super) fn opened(&mut self, id: SubstreamId, lent: &mut Lent<'_>) {
        if self.sender.is_opening(id) {
            self.bind_sender(id, lent);
        } else {
            // The messages have gone elsewhere, and this substream has nothing to carry.
            lent.substreams.finish(id, lent.out);
        }
    }

    /// A substream of our own could not be opened, and perhaps none ever will be. Returns how many
    /// messages are in doubt because of that.
    pub(super) fn not_opened(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        is_final: bool,
        lent: &mut Lent<'_>,
    ) -> u64 {
        // The messages have gone elsewhere.
        if !self.sender.is_opening(id) {
            return 0;
        }
        let failures = self.sender.not_opened();
        // A peer that has a substream of this name wants the stream, whatever it refuses.
        // So does one that has agreed to one before: it is leaving, and refuses what is new.
        let is_final = is_final && !self.was_agreed;
        let is_final = is_final || failures >= lent.config().max_stream_attempts;
        if self.peers.is_empty() && is_final {
            return self.refused(name, lent);
        }
        self.sender.schedule_retry(lent.now, lent.config());
        0
    }

    /// This side's half of a substream broke.
    pub(super) fn write_broken(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        lent: &mut Lent<'_>,
    ) -> Broken {
        if !self.sender.is_bound_to(id) {
            return Broken::default();
        }
        if self.has_instances {
            let broken = self.sender.break_instance();
            let in_doubt = broken.in_doubt;
            if in_doubt > 0 {
                lent.out.emit(Event::StreamInterrupted { stream: name.clone(), in_doubt });
            }
            self.sender.schedule_retry(lent.now, lent.config());
            return broken;
        }
        let mut others = self.peers.iter().filter(|other| **other != id);
        let has_other = others.any(|other| lent.substreams.is_writable(*other));
        if self.sender.may_repeat(id) {
            // A Go node has given it up. If it was ours, then in favour of a substream of its own,
            // which may not have shown yet.
            let substream = lent.substreams.get(id);
            let is_own = substream.is_some_and(|substream| substream.opener == Opener::Local);
            let until = lent.now + lent.config().settle_time;
            self.sender.repeat((is_own && !has_other).then_some(until));
            self.offer_target(name, lent);
            return Broken::default();
        }
        let in_doubt = self.sender.break_off();
        if has_other {
            self.offer_target(name, lent);
        } else {
            self.sender.schedule_retry(lent.now, lent.config());
        }
        self.interrupted(name, in_doubt, lent);
        Broken { in_doubt, instance: None }
    }

    /// Whatever a Go node gives up, it has given up by now. Returns how many messages are in doubt.
    pub(super) fn settle(&mut self, name: &StreamName, lent: &mut Lent<'_>) -> u64 {
        let in_doubt = self.sender.settle(lent.now);
        self.find_target(name, lent);
        self.interrupted(name, in_doubt, lent);
        in_doubt
    }

    /// Reports messages in doubt, if there are any, and that the queue accepts again, if it was full
    /// of them.
    fn interrupted(&mut self, name: &StreamName, in_doubt: u64, lent: &mut Lent<'_>) {
        if in_doubt > 0 {
            lent.out.emit(Event::StreamInterrupted { stream: name.clone(), in_doubt });
        }
        if self.sender.reopened() {
            lent.out.emit(Event::Writable { stream: name.clone() });
        }
    }

    /// Ends this side's half of the substream, behind what is queued.
    pub(super) fn finish(&mut self, name: &StreamName, lent: &mut Lent<'_>) {
        match self.sender.bound() {
            Some(id) => lent.substreams.finish(id, lent.out),
            None => self.find_target(name, lent),
        }
    }

    fn bind_sender(&mut self, id: SubstreamId, lent: &mut Lent<'_>) {
        self.was_agreed = true;
        let carrier = match self.has_instances {
            true => Carrier::V2(None),
            false => Carrier::V1 { nonces: nonces(id, lent), written: 0, is_cut: false },
        };
        self.sender.bind(id, carrier);
        lent.substreams.want_write(id, lent.out);
        if lent.state.is_draining() {
            lent.substreams.finish(id, lent.out);
        }
    }

    fn refused(&mut self, name: &StreamName, lent: &mut Lent<'_>) -> u64 {
        let (unsent, was_full, in_doubt) = self.sender.give_back();
        if in_doubt > 0 {
            lent.out.emit(Event::StreamInterrupted { stream: name.clone(), in_doubt });
        }
        lent.out.emit(Event::StreamRefused { stream: name.clone(), unsent });
        if was_full {
            lent.out.emit(Event::Writable { stream: name.clone() });
        }
        in_doubt
    }

    // ---- the receive direction ----------------------------------------------------------------

    /// The peer has opened a substream of this name.
    pub(super) fn accepted(&mut self, id: SubstreamId, name: &StreamName, lent: &mut Lent<'_>) {
        self.was_agreed = true;
        lent.substreams.move_to(id, Stage::Bound(Purpose::Stream(name.clone())));
        if self.has_instances {
            if lent.state.receiving().is_some() {
                lent.substreams.expect(id, lent.negotiation_deadline());
            }
            return;
        }
        self.peers.push_back(id);
        self.offer_target(name, lent);
    }

    /// The peer's half of a substream has ended.
    pub(super) fn read_ended(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        is_finished: bool,
        lent: &mut Lent<'_>,
    ) {
        if self.has_instances {
            match &mut self.incoming {
                Some(incoming) => incoming.read_ended(id, name, is_finished, lent),
                None => lent.substreams.reset(id, ResetCode::Refused, lent.out),
            }
            return;
        }
        let was_peers = self.peers.contains(&id);
        self.peers.retain(|peer| *peer != id);
        self.receiver.release(id);
        if is_finished && was_peers && self.sender.may_repeat(id) {
            // A Go node has ended its own in favour of ours, without a word on it, and reads
            // nothing of it.
            self.sender.repeat(None);
            self.offer_target(name, lent);
        }
        // Nothing is answered on a substream whose reader is gone. But one that was reset while it
        // carries this direction may be the one that a Go node gives up: the reset of this half is
        // to follow, and then what was written goes out again.
        if is_finished || !self.sender.is_bound_to(id) {
            self.sender.cut(id);
            lent.substreams.finish(id, lent.out);
        }
        self.resume(lent);
    }

    /// Reads on: the substream that carries the direction, or those that may be the next to.
    pub(super) fn resume(&mut self, lent: &mut Lent<'_>) {
        if let Some(incoming) = &mut self.incoming {
            return incoming.resume(lent);
        }
        if let Some(id) = self.receiver.current() {
            return lent.substreams.resume(id, lent.out);
        }
        let first = self.peers.front().copied();
        for id in first.into_iter().chain(self.sender.bound()) {
            lent.substreams.resume(id, lent.out);
        }
    }

    /// Claims the receive direction for a substream, unless another carries it. Of those that the
    /// peer has opened, the earlier must have ended: messages keep their order.
    fn claim(&mut self, id: SubstreamId, substream: &Substream) -> bool {
        let is_next = match substream.opener {
            Opener::Local => true,
            Opener::Peer => self.peers.front() == Some(&id),
        };
        self.receiver.claim(id, is_next)
    }

    // ---- bytes --------------------------------------------------------------------------------

    pub(super) fn write(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        lent: &mut LentKeys<'_>,
        to: &mut WriteTo<'_>,
    ) {
        // The other half of a substream may carry only what the peer sends.
        if !self.sender.is_bound_to(id) {
            return;
        }
        let reopened = self.sender.write(name, lent, to);
        if reopened {
            lent.out.emit(Event::Writable { stream: name.clone() });
        }
    }

    pub(super) fn ingest(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        lent: &mut LentKeys<'_>,
        buf: &mut BytesMut,
    ) -> Result<Ingest, PeerMisbehaved> {
        let Some(substream) = lent.substreams.get(id) else {
            debug_assert!(false, "bytes of a substream that is known");
            return Ok(Ingest::Discard);
        };
        if buf.is_empty() {
            return Ok(Ingest::More { missing: 1 });
        }
        if !self.claim(id, substream) {
            return Ok(Ingest::Paused);
        }
        if self.sender.is_bound_to(id) {
            // A peer that answers on a substream doesn't reset it in favour of another.
            self.sender.forget_retained();
        }
        let gathered = self.receiver.gather(id, name, lent, buf);
        if self.receiver.inbox.becomes_readable() {
            lent.out.emit(Event::Readable { stream: name.clone() });
        }
        gathered
    }

    /// Takes bytes of an instance.
    pub(super) fn ingest_instance(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        lent: &mut Lent<'_>,
        buf: &mut BytesMut,
    ) -> Result<Ingest, PeerMisbehaved> {
        let Some(incoming) = &mut self.incoming else {
            return Ok(Ingest::Paused);
        };
        let gathered = incoming.ingest(id, name, &mut self.receiver.inbox, lent, buf);
        if self.receiver.inbox.becomes_readable() {
            lent.out.emit(Event::Readable { stream: name.clone() });
        }
        gathered
    }

    /// Removes and returns the next message.
    pub(super) fn take_message(&mut self, lent: &mut Lent<'_>) -> Option<Bytes> {
        let message = self.receiver.inbox.pop()?;
        self.resume_if_room(lent);
        Some(message)
    }

    /// Moves the next messages to `out`, `limit` at most; returns how many.
    pub(super) fn take_messages(
        &mut self,
        limit: usize,
        out: &mut VecDeque<Bytes>,
        lent: &mut Lent<'_>,
    ) -> usize {
        let count = self.receiver.inbox.take(limit, out);
        if count > 0 {
            self.resume_if_room(lent);
        }
        count
    }

    /// Messages were taken: reads on once half of the room is free.
    fn resume_if_room(&mut self, lent: &mut Lent<'_>) {
        if self.receiver.has_room(lent.config()) && !lent.state.is_ending() {
            self.resume(lent);
        }
    }
}

/// Nonces come from a generator of the substream: two substreams of a session never draw from one.
fn nonces(id: SubstreamId, lent: &Lent<'_>) -> Generator {
    lent.params.seed.child(b"substream", id.as_u64()).generator()
}
