//! How substreams get their protocol: named by the transport, or by a preamble of the session.

use bytes::{Buf, BytesMut};

use super::action::{Action, Ingest, Naming, ResetCode};
use super::outputs::Outputs;
use super::substreams::{Opener, Purpose, Stage, Substreams};
use crate::id::SubstreamId;
use crate::prelude::*;
use crate::time::Instant;
use crate::wire::{Answer, Proposal, ProtocolId};
use crate::wire::{emit_acceptance, emit_proposal, emit_refusal, parse_answer, parse_proposal};

/// How the negotiation of a substream of ours went on.
#[derive(Debug)]
pub(super) enum Progress {
    /// It goes on.
    Pending,
    /// The peer has agreed to a protocol.
    Agreed { purpose: Purpose, protocol: ProtocolId },
    /// The peer has refused a proposal, and others are left.
    Next { purpose: Purpose, proposals: Vec<ProtocolId> },
    /// The peer has refused the last of the proposals.
    Refused,
    /// The adapter reported nonsense, or the peer has sent what is no answer.
    Failed,
}

/// What a peer proposes on a substream of its own.
#[derive(Debug)]
pub(super) enum Proposed {
    Incomplete,
    Known(ProtocolId),
    Unknown,
    Malformed,
}

impl Substreams {
    /// Has the adapter open a substream, proposing these protocols in their order.
    pub(super) fn open(
        &mut self,
        purpose: Purpose,
        protocols: Vec<ProtocolId>,
        deadline: Instant,
        out: &mut Outputs,
    ) -> SubstreamId {
        let stage = Stage::Opening { purpose, proposals: protocols.clone() };
        let substream = self.insert(Opener::Local, stage, Some(deadline));
        out.push_action(Action::OpenSubstream { substream, protocols });
        substream
    }

    /// The adapter has opened a substream.
    pub(super) fn opened(
        &mut self,
        id: SubstreamId,
        protocol: Option<ProtocolId>,
        naming: Naming,
        out: &mut Outputs,
    ) -> Progress {
        // It was given up in the meantime, or the adapter reports it twice.
        let Some(substream) = self.get_mut(id) else {
            return Progress::Pending;
        };
        let Stage::Opening { purpose, proposals } = substream.stage.clone() else {
            return Progress::Pending;
        };
        match (naming, protocol) {
            (Naming::Negotiated, Some(protocol)) if proposals.contains(&protocol) => {
                Progress::Agreed { purpose, protocol }
            }
            (Naming::Negotiated, _) => Progress::Failed,
            (Naming::Preamble, _) => {
                if let Some(first) = proposals.first() {
                    emit_proposal(first, &mut substream.preamble);
                }
                substream.stage = Stage::Proposing { purpose, proposals };
                self.want_write(id, out);
                Progress::Pending
            }
        }
    }

    /// Resets a substream of ours that is not agreed, and returns what it was for.
    pub(super) fn give_up(&mut self, id: SubstreamId, out: &mut Outputs) -> Option<Purpose> {
        let (Stage::Opening { purpose, .. } | Stage::Proposing { purpose, .. }) =
            self.get(id)?.stage.clone()
        else {
            return None;
        };
        self.reset(id, ResetCode::Refused, out);
        Some(purpose)
    }

    /// Accepts the protocol that the peer has proposed on a substream.
    pub(super) fn accept(&mut self, id: SubstreamId, protocol: &ProtocolId, out: &mut Outputs) {
        if let Some(substream) = self.get_mut(id) {
            emit_acceptance(protocol, &mut substream.preamble);
            self.want_write(id, out);
        }
    }

    /// Refuses what the peer has proposed on a substream, and ends this side's half.
    pub(super) fn refuse(&mut self, id: SubstreamId, deadline: Instant, out: &mut Outputs) {
        if let Some(substream) = self.get_mut(id) {
            emit_refusal(&mut substream.preamble);
            substream.stage = Stage::Discarding { seen: 0 };
            self.expect(id, deadline);
            self.want_write(id, out);
            self.finish(id, out);
        }
    }

    /// Drops what arrives on a substream from now on. What this side still writes goes out.
    pub(super) fn discard_from_now_on(&mut self, id: SubstreamId, out: &mut Outputs) {
        self.resume(id, out);
        self.move_to(id, Stage::Discarding { seen: 0 });
    }

    /// Counts and drops what arrives on a substream that nothing is read from. A peer that goes on
    /// for longer than a handshake can be is cut off.
    pub(super) fn discard(
        &mut self,
        id: SubstreamId,
        buf: &mut BytesMut,
        limit: usize,
        out: &mut Outputs,
    ) -> Ingest {
        let arrived = buf.len();
        buf.clear();
        if let Some(substream) = self.get_mut(id)
            && let Stage::Discarding { seen } = &mut substream.stage
        {
            *seen = seen.saturating_add(arrived);
            if *seen <= limit {
                return Ingest::More { missing: 1 };
            }
            self.reset(id, ResetCode::Refused, out);
        }
        Ingest::Discard
    }
}

/// Reads the peer's answer to the first of `proposals`. If it refuses, the next is proposed on
/// another substream, because a preamble names one.
pub(super) fn read_answer(
    id: SubstreamId,
    purpose: Purpose,
    mut proposals: Vec<ProtocolId>,
    buf: &mut BytesMut,
) -> Progress {
    let Some(protocol) = proposals.first().cloned() else {
        debug_assert!(false, "{id}: nothing was proposed");
        return Progress::Refused;
    };
    match parse_answer(buf, &protocol) {
        Ok(None) => Progress::Pending,
        Ok(Some((Answer::Accepted, len))) => {
            buf.advance(len);
            Progress::Agreed { purpose, protocol }
        }
        Ok(Some((Answer::Refused, _))) => {
            proposals.remove(0);
            if proposals.is_empty() {
                Progress::Refused
            } else {
                Progress::Next { purpose, proposals }
            }
        }
        Err(_) => Progress::Failed,
    }
}

/// Reads the protocol that the peer proposes on a substream of its own.
pub(super) fn read_proposal(buf: &mut BytesMut) -> Proposed {
    match parse_proposal(buf) {
        Ok(None) => Proposed::Incomplete,
        Ok(Some((Proposal::Known(protocol), len))) => {
            buf.advance(len);
            Proposed::Known(protocol)
        }
        Ok(Some((Proposal::Unknown(_), _))) => Proposed::Unknown,
        Err(_) => Proposed::Malformed,
    }
}
