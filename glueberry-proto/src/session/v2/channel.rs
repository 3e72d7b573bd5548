//! The handshake substream of v2: which of two counts, and what goes over it.

use bytes::{Bytes, BytesMut};

use crate::error::PeerMisbehaved;
use crate::id::SubstreamId;
use crate::message::FromSession;
use crate::prelude::*;
use crate::session::action::ResetCode;
use crate::session::handshake::Handshake;
use crate::session::handshake_queue::HandshakeQueue;
use crate::session::lent::Lent;
use crate::session::state::State;
use crate::session::substreams::{Purpose, Stage};
use crate::time::Instant;
use crate::v2::Role;
use crate::v2::agreement::Hedge;
use crate::v2::control::{Abandon, Close};
use crate::v2::gate::{Application, Gate, Setup};
use crate::v2::suite::offered;
use crate::wire::Profile;

impl Handshake {
    /// Returns the machine of the channel, also when the channel is lost.
    pub(in crate::session) fn gate(&self) -> Option<&Gate> {
        self.gate.as_deref()
    }

    pub(in crate::session) fn gate_mut(&mut self) -> Option<&mut Gate> {
        self.gate.as_deref_mut()
    }

    /// Returns the machine of the channel if this substream is it.
    pub(in crate::session) fn gate_of(&mut self, id: SubstreamId) -> Option<&mut Gate> {
        self.gate.as_deref_mut().filter(|_| self.target == Some(id))
    }

    /// Returns the substream that is the channel.
    pub(in crate::session) fn channel(&self) -> Option<SubstreamId> {
        self.target.filter(|_| self.gate.is_some())
    }

    /// Nothing goes over the channel any more.
    pub(in crate::session) fn lose_channel(&mut self) {
        self.target = None;
    }

    /// The peer has agreed to a handshake substream of ours.
    pub(in crate::session) fn channel_opened(
        &mut self,
        id: SubstreamId,
        lent: &mut Lent<'_>,
    ) -> Result<(), PeerMisbehaved> {
        let is_first = self.fix_profile(Profile::V2)?;
        if !is_first {
            // The peer's counts, and this one was given up when that came.
            lent.substreams.reset(id, ResetCode::Refused, lent.out);
            return Ok(());
        }
        self.own = Some(id);
        self.begin_channel(id, Role::Initiator, lent);
        lent.out.forward(FromSession::Agreed(Profile::V2));
        Ok(())
    }

    /// The peer has opened a handshake substream. Returns whether it counts: if both sides have opened
    /// one, that of the smaller identity does.
    pub(in crate::session) fn channel_accepted(
        &mut self,
        id: SubstreamId,
        lent: &mut Lent<'_>,
    ) -> Result<bool, PeerMisbehaved> {
        let opening = lent.substreams.iter().find_map(|(id, substream)| match substream.stage {
            Stage::Opening { purpose: Purpose::Handshake, .. }
            | Stage::Proposing { purpose: Purpose::Handshake, .. } => Some(id),
            _ => None,
        });
        let own = self.own.or(opening);
        let is_ours_smaller = lent.params.identity.public_key() < lent.params.peer;
        if self.peers.is_some() || (own.is_some() && is_ours_smaller) {
            return Ok(false);
        }
        let is_first = self.fix_profile(Profile::V2)?;
        if let Some(own) = own {
            // What was exchanged on it is void, and sent again on this one.
            lent.substreams.reset(own, ResetCode::Refused, lent.out);
            self.own = None;
            self.queue.write_again();
        }
        lent.substreams.move_to(id, Stage::Bound(Purpose::Handshake));
        self.peers = Some(id);
        self.begin_channel(id, Role::Responder, lent);
        if is_first {
            lent.out.forward(FromSession::Agreed(Profile::V2));
        }
        Ok(true)
    }

    /// Begins the key exchange.
    fn begin_channel(&mut self, id: SubstreamId, role: Role, lent: &mut Lent<'_>) {
        let params = lent.params;
        let entropy = params.seed.child(b"ephemeral", self.gates);
        self.gates += 1;
        let suites = offered(&*params.aead, params.config.hardware_aes, &params.config.suites);
        let hedge = Hedge {
            identity: &params.identity,
            entropy: entropy.bytes(),
            wall_ms: params.wall_ms,
            counter: params.id.as_u64(),
            binding: params.binding.value(),
        };
        self.gate = Some(Box::new(Gate::new(Setup {
            role,
            identity: params.identity.clone(),
            peer: params.peer,
            aead: params.aead.clone(),
            ephemeral: hedge.ephemeral(role, &suites),
            suites,
            binding: params.binding,
            padding: params.config.padding,
            application: params.config.network.clone().into_bytes(),
            now: lent.now,
        })));
        self.target = Some(id);
        lent.substreams.want_write(id, lent.out);
    }

    /// Writes what is due on the channel.
    pub(in crate::session) fn write_channel(
        &mut self,
        out: &mut BytesMut,
        full: usize,
        now: Instant,
        state: &State,
    ) {
        let mut application = Outbound { queue: &mut self.queue, state };
        if let Some(gate) = &mut self.gate {
            gate.write(out, full, now, &mut application);
        }
    }

    /// An instance of this side is over without having been ended.
    pub(in crate::session) fn abandon(&mut self, abandon: Abandon, lent: &mut Lent<'_>) {
        if let Some(gate) = &mut self.gate {
            gate.abandon(abandon);
        }
        self.want_channel(lent);
    }

    /// Has the last frame of this side written.
    pub(in crate::session) fn end_channel(&mut self, close: Close, lent: &mut Lent<'_>) {
        if let Some(gate) = &mut self.gate {
            gate.end(close);
        }
        self.want_channel(lent);
        if let Some(id) = self.channel() {
            lent.substreams.finish(id, lent.out);
        }
    }

    /// Returns when a frame may go out that has to wait.
    pub(in crate::session) fn control_at(&self) -> Option<Instant> {
        self.gate.as_ref().filter(|_| self.target.is_some())?.waits_until()
    }

    pub(in crate::session) fn control_due(&mut self, lent: &mut Lent<'_>) {
        if self.control_at().is_some_and(|at| at <= lent.now) {
            if let Some(gate) = &mut self.gate {
                gate.stop_waiting();
            }
            self.want_channel(lent);
        }
    }

    /// Has the adapter write on the channel.
    pub(in crate::session) fn want_channel(&self, lent: &mut Lent<'_>) {
        if let Some(id) = self.channel() {
            lent.substreams.want_write(id, lent.out);
        }
    }
}

/// The handshake messages of this side's application.
struct Outbound<'a> {
    queue: &'a mut HandshakeQueue,
    state: &'a State,
}

impl Application for Outbound<'_> {
    fn next_message(&mut self) -> Option<Bytes> {
        // Before the node has granted the session, another may be kept in its stead.
        let may_send = !self.state.is_waiting() && !self.state.is_ending();
        if may_send { self.queue.next() } else { None }
    }

    fn is_finished(&self) -> bool {
        self.state.has_finalized() && self.queue.waiting() == 0
    }
}
