//! The substreams of a rogue: how they are opened, named and read.

use bytes::BytesMut;
use glueberry_proto::wire::{
    Proposal, emit_acceptance, emit_proposal, emit_refusal, parse_proposal,
};
use glueberry_proto::{Naming, ProtocolId};

use super::Purpose;
use crate::link::{Pipe, Side, Stage, Standing};
use crate::trick::Trick;
use crate::world::{Wake, World};

impl World {
    pub(super) fn rogue_open(&mut self, link: usize, side: Side, id: ProtocolId, purpose: Purpose) {
        let at = self.links[link].pipes.len();
        self.links[link].pipes.push(Pipe::new(side, None, vec![id.clone()]));
        if let Some(rogue) = &mut self.links[link].rogue {
            rogue.opened.push((at, purpose));
        }
        if self.links[link].naming == Naming::Preamble {
            let mut preamble = BytesMut::new();
            emit_proposal(&id, &mut preamble);
            self.put(link, at, side, preamble.freeze());
            if self.trick(link) == Some(Trick::Garbage) {
                self.rogue_opened(link, at, side);
            }
        } else {
            self.send(link, Wake::Offer(link, at));
        }
    }

    /// A substream that the rogue has opened is agreed, or not.
    pub(in crate::world) fn rogue_answered(
        &mut self,
        link: usize,
        at: usize,
        side: Side,
        is_yes: bool,
    ) {
        if is_yes && self.links[link].pipes[at].stage == Stage::Accepted {
            self.links[link].pipes[at].stage = Stage::Open;
            self.rogue_opened(link, at, side);
            self.read_later(link, at, side, self.now);
        }
    }

    /// A substream of the peer reaches the rogue.
    pub(in crate::world) fn rogue_offered(&mut self, link: usize, at: usize) {
        let is_yes = self.trick(link) != Some(Trick::Refuser);
        let Some(pipe) = self.links[link].pipes.get_mut(at) else {
            return;
        };
        pipe.agreed = pipe.proposals.first().cloned();
        pipe.stage = if is_yes { Stage::Accepted } else { Stage::Dead };
        let acceptor = 1 - pipe.opener;
        if let Some(rogue) = &mut self.links[link].rogue {
            rogue.named.push(at);
        }
        self.send(link, Wake::Answer(link, at, is_yes));
        if self.trick(link) == Some(Trick::Resetter) {
            self.reset(link, at, acceptor);
        }
    }

    /// Reads what the peer has written, and answers in the rogue's way.
    pub(in crate::world) fn rogue_reads(&mut self, link: usize, at: usize, side: Side) {
        let now = self.now;
        if self.links[link].ends[side].standing != Standing::Open {
            return;
        }
        let Some(trick) = self.trick(link) else {
            return;
        };
        if trick == Trick::Deaf && self.is_named(link, at) {
            return;
        }
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.links[link].pipes[at].halves[side].take(now) {
            bytes.extend_from_slice(&piece);
        }
        if !self.is_named(link, at) && !bytes.is_empty() {
            self.rogue_names(link, at, side, &mut bytes, trick);
        }
        if trick == Trick::Reflect && self.is_stream(link, at) && !bytes.is_empty() {
            self.put(link, at, side, bytes.freeze());
        }
        let half = &mut self.links[link].pipes[at].halves[side];
        let (is_ended, is_wanted) = (half.fin.is_some_and(|fin| fin <= now), half.wants_write);
        if is_ended && !half.is_acknowledged {
            half.is_acknowledged = true;
            half.is_over = true;
            self.send(link, Wake::Acknowledge(link, at, 1 - side));
        } else if is_wanted && !half.is_shut && !std::mem::replace(&mut half.write_is_due, true) {
            self.send(link, Wake::Write(link, at, 1 - side));
        }
        let half = &self.links[link].pipes[at].halves[side];
        if let Some(next) = half.next().filter(|next| *next > now) {
            self.read_later(link, at, side, next);
        }
    }

    pub(super) fn trick(&self, link: usize) -> Option<Trick> {
        self.links[link].rogue.as_ref().map(|rogue| rogue.trick)
    }

    pub(super) fn is_named(&self, link: usize, at: usize) -> bool {
        self.links[link].rogue.as_ref().is_some_and(|rogue| rogue.named.contains(&at))
    }

    /// Tells whether the peer has opened a substream for a named stream.
    pub(super) fn is_stream(&self, link: usize, at: usize) -> bool {
        let proposals = &self.links[link].pipes[at].proposals;
        matches!(proposals.first(), Some(ProtocolId::Stream { .. }))
    }

    /// Settles the name of a substream where the bytes say it.
    fn rogue_names(
        &mut self,
        link: usize,
        at: usize,
        side: Side,
        bytes: &mut BytesMut,
        trick: Trick,
    ) {
        if self.links[link].pipes[at].opener == side {
            // The answer: whole or not, it begins with its length, or with zero for a refusal.
            let is_yes = bytes.first() != Some(&0);
            bytes.clear();
            if is_yes {
                self.rogue_opened(link, at, side);
            } else if let Some(rogue) = &mut self.links[link].rogue {
                rogue.named.push(at);
            }
            return;
        }
        let Ok(Some((proposal, len))) = parse_proposal(bytes) else {
            bytes.clear();
            return;
        };
        let _ = bytes.split_to(len);
        if let Some(rogue) = &mut self.links[link].rogue {
            rogue.named.push(at);
        }
        let mut answer = BytesMut::new();
        match proposal {
            Proposal::Known(id) if trick != Trick::Refuser => emit_acceptance(&id, &mut answer),
            _ => emit_refusal(&mut answer),
        }
        self.put(link, at, side, answer.freeze());
        if trick == Trick::Resetter {
            self.reset(link, at, side);
        }
    }
}
