//! The substreams of an adversary: how they are opened, read and ended.

use bytes::BytesMut;
use glueberry_proto::wire::emit_proposal;
use glueberry_proto::{Naming, ProtocolId};

use super::Adversary;
use super::names::{Answer, wrong_name};
use crate::attack::Attack;
use crate::link::{EndState, Pipe, Stage};
use crate::script::Purpose;
use crate::wake::{Side, Wake};
use crate::world::wires::Way;

impl Adversary<'_> {
    pub(super) fn open(
        &mut self,
        link: usize,
        side: Side,
        id: ProtocolId,
        purpose: Purpose,
    ) -> usize {
        let at = self.net.links[link].pipes.len();
        self.net.links[link].pipes.push(Pipe::new(side, None, vec![id.clone()]));
        if let Some(script) = &mut self.net.links[link].script {
            script.opened.push((at, purpose));
        }
        if self.net.links[link].naming == Naming::Preamble {
            let mut preamble = BytesMut::new();
            emit_proposal(&id, &mut preamble);
            self.net.put(self.run, link, Way::Substream(at), side, preamble.freeze());
            if matches!(self.net.attack(link), Some(Attack::Garbage | Attack::Hasty)) {
                self.opened(link, at, side);
            }
        } else {
            self.net.send(self.run, link, Wake::Offer(link, at));
        }
        at
    }

    /// A substream that the adversary has opened is agreed, or not.
    pub(in crate::world) fn answered(&mut self, link: usize, at: usize, side: Side, is_yes: bool) {
        let is_here = self.net.links[link].ends[side].state == EndState::Open;
        if is_here && is_yes && self.net.links[link].pipes[at].stage == Stage::Accepted {
            self.net.links[link].pipes[at].stage = Stage::Open;
            self.opened(link, at, side);
            self.net.read_later(self.run, link, at, side, self.run.now);
        }
    }

    /// A substream of the peer reaches the adversary, where the transport negotiates names.
    pub(in crate::world) fn offered(&mut self, link: usize, at: usize) {
        let (Some(attack), profile) = (self.net.attack(link), self.profile(link)) else {
            return;
        };
        let Some(pipe) = self.net.links[link].pipes.get(at) else {
            return;
        };
        let own = ProtocolId::Handshake(profile);
        let proposal =
            pipe.proposals.iter().find(|one| **one == own).or_else(|| pipe.proposals.first());
        let (acceptor, proposal) = (1 - pipe.opener, proposal.cloned());
        let answer = self.answer(link, proposal.as_ref());
        if answer == Answer::Silence {
            return;
        }
        let is_yes = answer != Answer::No;
        let pipe = &mut self.net.links[link].pipes[at];
        pipe.agreed = if answer == Answer::Wrong { Some(wrong_name()) } else { proposal };
        pipe.stage = if is_yes { Stage::Accepted } else { Stage::Dead };
        if let Some(script) = &mut self.net.links[link].script {
            script.named.insert(at);
        }
        self.net.send(self.run, link, Wake::Answer(link, at, is_yes));
        if answer == Answer::Yes {
            self.agreed(link, at, acceptor, attack);
        }
    }

    /// The adversary has agreed on a substream of the peer.
    pub(super) fn agreed(&mut self, link: usize, at: usize, side: Side, attack: Attack) {
        match attack {
            Attack::Resetter => self.net.reset(self.run, link, at, side),
            Attack::Stopper => self.stop_reading(link, at, side),
            Attack::HalfCloser => self.finish(link, at, side),
            Attack::LeavesOnGrant => self.leave(link, side),
            Attack::Silent => {}
            _ => return,
        }
        self.net.count_attack(self.run, link);
    }

    /// The adversary ends its half of a substream, behind what it has said.
    pub(super) fn finish(&mut self, link: usize, at: usize, side: Side) {
        let end = self.net.arrival(self.run, link, side, 0);
        let half = &mut self.net.links[link].pipes[at].halves[1 - side];
        let end = half.last.max(end);
        half.fin = Some(end);
        half.is_shut = true;
        self.net.read_later(self.run, link, at, 1 - side, end);
    }

    /// The adversary refuses to read a substream, and keeps its own half open.
    fn stop_reading(&mut self, link: usize, at: usize, side: Side) {
        let half = &mut self.net.links[link].pipes[at].halves[side];
        half.is_over = true;
        half.drop_all();
        self.net.refuse_half(self.run, link, at, 1 - side);
    }

    /// Opens a stream several times, and ends it at once or as soon as it is agreed.
    pub(super) fn churn(&mut self, link: usize, side: Side, attack: Attack) {
        for number in 0..4 {
            let at = self.open(link, side, self.stream_id(0), Purpose::Stream);
            if number % 2 == 0 {
                match attack {
                    Attack::Churn => self.finish(link, at, side),
                    _ => self.net.reset(self.run, link, at, side),
                }
            }
        }
        self.net.count_attack(self.run, link);
    }

    /// Reads what the peer has written, and answers in the adversary's way.
    pub(in crate::world) fn read(&mut self, link: usize, at: usize, side: Side) {
        let now = self.run.now;
        if self.net.links[link].ends[side].state != EndState::Open {
            return;
        }
        let Some(attack) = self.net.attack(link) else {
            return;
        };
        let pipe = &self.net.links[link].pipes[at];
        let is_negotiated = self.net.links[link].naming == Naming::Negotiated;
        if is_negotiated && pipe.opener == side && pipe.stage != Stage::Open {
            // The answer comes first.
            return;
        }
        if attack == Attack::NeverReads && self.is_named(link, at) {
            return self.net.count_attack(self.run, link);
        }
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.net.links[link].pipes[at].halves[side].take(now) {
            bytes.extend_from_slice(&piece);
        }
        if !self.is_named(link, at) && !bytes.is_empty() {
            self.read_name(link, at, side, &mut bytes, attack);
        }
        if attack == Attack::Reflect && self.is_stream(link, at) && !bytes.is_empty() {
            self.net.count_attack(self.run, link);
            self.net.put(self.run, link, Way::Substream(at), side, bytes.freeze());
        }
        let Some(pipe) = self.net.links[link].pipes.get_mut(at) else {
            return;
        };
        let half = &mut pipe.halves[side];
        let (is_ended, is_wanted) = (half.fin.is_some_and(|fin| fin <= now), half.wants_write);
        if is_ended && !half.is_acknowledged {
            half.is_acknowledged = true;
            half.is_over = true;
            self.net.send(self.run, link, Wake::Acknowledge(link, at, 1 - side));
        } else if is_wanted && !half.is_shut && !std::mem::replace(&mut half.write_is_due, true) {
            self.net.send(self.run, link, Wake::Write(link, at, 1 - side));
        }
        let half = &self.net.links[link].pipes[at].halves[side];
        if let Some(next) = half.next().filter(|next| *next > now) {
            self.net.read_later(self.run, link, at, side, next);
        }
    }

    fn is_named(&self, link: usize, at: usize) -> bool {
        self.net.links[link].script.as_ref().is_some_and(|script| script.named.contains(&at))
    }

    /// Returns whether the peer has opened a substream for a named stream.
    fn is_stream(&self, link: usize, at: usize) -> bool {
        let proposals = &self.net.links[link].pipes[at].proposals;
        matches!(proposals.first(), Some(ProtocolId::Stream { .. }))
    }
}
