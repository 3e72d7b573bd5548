//! Peers that break the protocol: scripts that speak on the wire by themselves.

use bytes::{BufMut, Bytes, BytesMut};
use glueberry_proto::crypto::{Aead, Identity, default_aead};
use glueberry_proto::wire::{
    Proposal, emit_acceptance, emit_proposal, emit_refusal, parse_proposal,
};
use glueberry_proto::{CloseReason, Naming, Origin, Profile, ProtocolId};

use super::app::{HELLO, READY};
use super::{Wake, World, identities};
use crate::check::Invariant;
use crate::cipher::FastAead;
use crate::host::Flow;
use crate::link::{Pipe, Side, Stage, Standing};
use crate::plan::{Trick, Wires};

/// What a script knows of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Rogue {
    pub(crate) trick: Trick,
    profile: Profile,
    /// Of each substream that it has opened: what for.
    opened: Vec<(usize, Purpose)>,
    /// Substreams whose name is settled.
    named: Vec<usize>,
    /// The substream on which the protocol is broken for all to see, once that is written.
    offence: Option<usize>,
    /// It happens with the end of that.
    offends_by_end: bool,
    records: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Handshake,
    Stream,
    Junk,
}

impl World {
    /// A rogue dials somebody to trick him.
    pub(super) fn begin_trick(&mut self, by: usize, to: usize, trick: Trick) {
        if !self.hosts[to].is_up() || self.hosts[to].is_rogue || by == to {
            return;
        }
        let link = self.connect_hosts(by, to, Origin::Accepted);
        let profile = self.common_profile(to);
        self.links[link].rogue = Some(Rogue::new(trick, profile));
    }

    fn common_profile(&self, to: usize) -> Profile {
        match self.plan.hosts[to].wires {
            Wires::Document | Wires::Both => Profile::V1,
            Wires::Go | Wires::BothGoFirst => Profile::V1Go,
        }
    }

    pub(super) fn rogue_arrives(&mut self, link: usize, side: Side) {
        let victim = self.links[link].ends[1 - side].host;
        if self.links[link].rogue.is_none() {
            // Somebody has dialled it.
            let trick = self.links[link].rng.pick(&PASSIVE);
            let profile = self.common_profile(victim);
            self.links[link].rogue = Some(Rogue::new(trick, profile));
        }
        self.links[link].ends[side].standing = Standing::Open;
        let Some(rogue) = &self.links[link].rogue else {
            return;
        };
        let trick = rogue.trick;
        self.faults.fire(trick.name());
        let hello = ProtocolId::Handshake(rogue.profile);
        if side == 0 && trick != Trick::UnknownStreams {
            self.rogue_open(link, side, hello, Purpose::Handshake);
        }
        if matches!(trick, Trick::Reflect | Trick::Deaf | Trick::Resetter | Trick::Refuser) {
            let to = self.links[link].ends[side].host;
            let (left, size, is_parked) = (2, 400, false);
            let flow =
                Flow { to, stream: 0, count: 10, burst: 2, left, size, every: 100_000, is_parked };
            self.begin_flow(victim, flow);
        }
        let soon = self.now + 10 * self.plan.net.delay + 100_000;
        self.queue.push(soon, Wake::Rogue(link, side, 0));
        self.queue.push(self.now + ESTABLISHED, Wake::Rogue(link, side, 1));
        self.queue.push(self.now + ENOUGH, Wake::Rogue(link, side, 2));
    }

    /// The next act: at once, after the handshake, at the end.
    pub(super) fn rogue_goes_on(&mut self, link: usize, side: Side, act: u64) {
        let Some(rogue) = self.links[link].rogue.clone() else {
            return;
        };
        if self.links[link].ends[side].standing != Standing::Open {
            return;
        }
        let stream = || self.streams[0].clone();
        let named = Profile::V1.stream_id(stream());
        match (act, rogue.trick) {
            (0, Trick::ManySubstreams) => {
                for _ in 0..70 {
                    self.rogue_open(link, side, named.clone(), Purpose::Junk);
                }
            }
            (0, Trick::UnknownStreams) => {
                for name in ["nobody", "knows", "these"] {
                    if let Ok(name) = glueberry_proto::StreamName::new(name) {
                        let id = Profile::V1.stream_id(name);
                        self.rogue_open(link, side, id, Purpose::Stream);
                    }
                }
            }
            (0, Trick::Early) => self.rogue_open(link, side, named, Purpose::Stream),
            (0, Trick::TwoProtocols) => {
                let other = match rogue.profile {
                    Profile::V1 => Profile::V1Go,
                    _ => Profile::V1,
                };
                self.rogue_open(link, side, ProtocolId::Handshake(other), Purpose::Junk);
            }
            (
                1,
                Trick::HugeFrame
                | Trick::BadRecords
                | Trick::Replay
                | Trick::ShortRecord
                | Trick::HalfFrame,
            ) => self.rogue_open(link, side, named, Purpose::Stream),
            (0, Trick::Hangup) | (2, _) => {
                self.links[link].ends[side].standing = Standing::Gone;
                self.hang_up(link, side, 0);
            }
            _ => {}
        }
    }

    // ---- substreams ---------------------------------------------------------------------------

    fn rogue_open(&mut self, link: usize, side: Side, id: ProtocolId, purpose: Purpose) {
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
    pub(super) fn rogue_answered(&mut self, link: usize, at: usize, side: Side, is_yes: bool) {
        if is_yes && self.links[link].pipes[at].stage == Stage::Accepted {
            self.links[link].pipes[at].stage = Stage::Open;
            self.rogue_opened(link, at, side);
            self.read_later(link, at, side, self.now);
        }
    }

    /// A substream of the peer reaches the rogue.
    pub(super) fn rogue_offered(&mut self, link: usize, at: usize) {
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

    fn trick(&self, link: usize) -> Option<Trick> {
        self.links[link].rogue.as_ref().map(|rogue| rogue.trick)
    }

    /// Says what belongs on a substream that is agreed.
    fn rogue_opened(&mut self, link: usize, at: usize, side: Side) {
        let Some(rogue) = &mut self.links[link].rogue else {
            return;
        };
        rogue.named.push(at);
        let (trick, profile) = (rogue.trick, rogue.profile);
        let purpose = rogue.opened.iter().find(|(pipe, _)| *pipe == at).map(|(_, what)| *what);
        let mut out = BytesMut::new();
        let limit = self.plan.limits.max_message_size;
        match (purpose, trick) {
            (Some(Purpose::Handshake), Trick::Garbage) => {
                self.offend(link, at, false);
                out.put_bytes(0xff, 64);
            }
            (Some(Purpose::Handshake), Trick::HugeHandshake) => {
                self.offend(link, at, false);
                profile.framing().emit_header(60 << 20, &mut out);
                out.put_bytes(7, 3 << 20);
            }
            (Some(Purpose::Handshake), Trick::LongHandshake) => {
                self.offend(link, at, false);
                profile.framing().emit_header((64 << 10) + 1, &mut out);
                out.put_bytes(7, (64 << 10) - 10);
            }
            (Some(Purpose::Handshake), Trick::Silent | Trick::Early) => {}
            (Some(Purpose::Handshake), Trick::Chatter) => {
                for word in 0..600_u16 {
                    let text = [b'x'; 100];
                    let len = text.len() - usize::from(word % 90);
                    emit(profile, &text[..len], &mut out);
                }
            }
            (Some(Purpose::Handshake), Trick::Slow) => {
                emit(profile, &[HELLO; 24], &mut out);
            }
            (Some(Purpose::Handshake), _) => {
                emit(profile, &[HELLO; 24], &mut out);
                emit(profile, &[READY; 24], &mut out);
            }
            (Some(Purpose::Stream), Trick::HugeFrame) => {
                self.offend(link, at, false);
                profile.framing().emit_header(limit + 29, &mut out);
            }
            (Some(Purpose::Stream), Trick::HalfFrame) => {
                self.offend(link, at, true);
                profile.framing().emit_header(100, &mut out);
                out.put_bytes(1, 50);
            }
            (Some(Purpose::Stream), Trick::BadRecords) => {
                self.offend(link, at, false);
                for _ in 0..20 {
                    emit(profile, &[9; 60], &mut out);
                }
            }
            (Some(Purpose::Stream), Trick::ShortRecord) => emit(profile, &[], &mut out),
            (Some(Purpose::Stream), Trick::Replay | Trick::Early) => {
                let record = self.rogue_record(link, side);
                for _ in 0..3 {
                    emit(profile, &record, &mut out);
                }
            }
            _ => {}
        }
        let is_slow = trick == Trick::Slow;
        if is_slow {
            for byte in out.iter() {
                self.put(link, at, side, Bytes::copy_from_slice(&[*byte]));
            }
        } else if !out.is_empty() {
            self.put(link, at, side, out.freeze());
        }
        if trick == Trick::HalfFrame && purpose == Some(Purpose::Stream) {
            let end = self.arrival(link, side, 0);
            let half = &mut self.links[link].pipes[at].halves[1 - side];
            let end = half.last.max(end);
            half.fin = Some(end);
            half.is_shut = true;
            self.read_later(link, at, 1 - side, end);
        }
    }

    fn offend(&mut self, link: usize, at: usize, by_end: bool) {
        if let Some(rogue) = &mut self.links[link].rogue {
            rogue.offence = Some(at);
            rogue.offends_by_end = by_end;
        }
    }

    /// Seals a message as an honest peer would.
    fn rogue_record(&mut self, link: usize, side: Side) -> Vec<u8> {
        let ends = &self.links[link].ends;
        let (own, peer) = (ends[side].host, self.hosts[ends[1 - side].host].key);
        let secret = usize::from(self.plan.hosts[own].identity) % identities().len();
        let Ok(shared) = Identity::from_seed(&identities()[secret].0).agree_v1(&peer) else {
            return Vec::new();
        };
        let key =
            if self.plan.is_real { default_aead().key(&shared) } else { FastAead.key(&shared) };
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.links[link].rng.next().to_le_bytes());
        let mut record = nonce.to_vec();
        record.extend_from_slice(&u64::MAX.to_le_bytes());
        record.extend_from_slice(b"rogue");
        let tag = key.seal(&nonce, &[], &mut record[12..]);
        record.extend_from_slice(&tag);
        record
    }

    /// Reads what the peer has written, and answers in the rogue's way.
    pub(super) fn rogue_reads(&mut self, link: usize, at: usize, side: Side) {
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

    fn is_named(&self, link: usize, at: usize) -> bool {
        self.links[link].rogue.as_ref().is_some_and(|rogue| rogue.named.contains(&at))
    }

    /// Tells whether the peer has opened a substream for a named stream.
    fn is_stream(&self, link: usize, at: usize) -> bool {
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

    // ---- being found out ----------------------------------------------------------------------

    /// A session has taken what a rogue has sent: an offence in it must have ended the session.
    pub(super) fn check_offence(&mut self, link: usize, at: usize, side: Side) {
        let Some(rogue) = &self.links[link].rogue else {
            return;
        };
        if rogue.offence != Some(at) {
            return;
        }
        let (trick, by_end) = (rogue.trick, rogue.offends_by_end);
        let pipe = &self.links[link].pipes[at];
        let half = &pipe.halves[side];
        let Some(buffer) = &pipe.buffers[side] else {
            return;
        };
        let is_taken = half.segments.is_empty()
            && half.reset.is_none()
            && if by_end { half.is_over } else { buffer.wants_read() || buffer.is_read_over() };
        // What is paused is not taken, and what is discarded offends nobody, or comes on a
        // substream that was given up before.
        let is_paused = !buffer.wants_read() && !buffer.is_read_over();
        let is_given_up = half.stopped.is_some();
        let end = &self.links[link].ends[side];
        let Some(session) = end.session.as_ref() else {
            return;
        };
        if !is_taken || is_paused || is_given_up || end.standing != Standing::Open {
            return;
        }
        if trick != Trick::HalfFrame && trick != Trick::HugeFrame && end.talk.is_finalized {
            return;
        }
        let (host, is_closed) = (end.host, session.is_closed());
        self.checks.hold(Invariant::RogueBlamed, (self.now, host), is_closed, || {
            (format!("the peer has done this: {}", trick.name()), "its session goes on".into())
        });
    }

    /// A session with a rogue has ended: not by a bug of ours.
    pub(super) fn rogue_blamed(&mut self, link: usize, side: Side, reason: &CloseReason) {
        let host = self.links[link].ends[side].host;
        let Some(rogue) = &self.links[link].rogue else {
            return;
        };
        let trick = rogue.trick;
        let is_mild = matches!(
            trick,
            Trick::Silent | Trick::Slow | Trick::Deaf | Trick::Hangup | Trick::Refuser
        );
        let is_blamed = matches!(reason, CloseReason::Misbehaved(_));
        self.checks.hold(Invariant::Blame, (self.now, host), !(is_mild && is_blamed), || {
            (format!("the peer has only done this: {}", trick.name()), format!("{reason:?}"))
        });
    }

    /// A session delivers what a rogue has sealed: once, and nothing that somebody else has.
    pub(super) fn check_rogue_message(&mut self, link: usize, side: Side, text: &[u8]) {
        let host = self.links[link].ends[side].host;
        let is_own = self.model.find(text).is_some();
        self.checks.hold(Invariant::NoGhost, (self.now, host), !is_own, || {
            ("a rogue has sent this back".into(), "it is delivered as if he had sealed it".into())
        });
        let Some(rogue) = &mut self.links[link].rogue else {
            return;
        };
        rogue.records += 1;
        let (records, trick) = (rogue.records, rogue.trick);
        self.checks.hold(Invariant::RogueBlamed, (self.now, host), records <= 1, || {
            (format!("a record was repeated ({})", trick.name()), "it is delivered again".into())
        });
    }
}

impl Rogue {
    const fn new(trick: Trick, profile: Profile) -> Self {
        Self {
            trick,
            profile,
            opened: Vec::new(),
            named: Vec::new(),
            offence: None,
            offends_by_end: false,
            records: 0,
        }
    }
}

impl Trick {
    /// Returns the name under which a trick is counted.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Garbage => "rogue: garbage",
            Self::HugeHandshake => "rogue: huge handshake message",
            Self::LongHandshake => "rogue: handshake message above the limit",
            Self::HugeFrame => "rogue: frame above the limit",
            Self::HalfFrame => "rogue: ends within a frame",
            Self::TwoProtocols => "rogue: two handshake protocols",
            Self::ManySubstreams => "rogue: too many substreams",
            Self::UnknownStreams => "rogue: unknown streams",
            Self::Silent => "rogue: silent",
            Self::BadRecords => "rogue: records that don't open",
            Self::Replay => "rogue: repeated record",
            Self::Reflect => "rogue: reflected records",
            Self::Early => "rogue: records before the handshake is over",
            Self::Chatter => "rogue: chatter",
            Self::Resetter => "rogue: resets substreams",
            Self::Refuser => "rogue: refuses substreams",
            Self::Deaf => "rogue: never reads",
            Self::Slow => "rogue: byte by byte",
            Self::ShortRecord => "rogue: short record",
            Self::Hangup => "rogue: hangs up",
        }
    }
}

fn emit(profile: Profile, body: &[u8], out: &mut BytesMut) {
    profile.framing().emit_header(body.len(), out);
    out.extend_from_slice(body);
}

/// What a rogue does to who dials it.
const PASSIVE: [Trick; 5] =
    [Trick::Silent, Trick::Refuser, Trick::Resetter, Trick::Deaf, Trick::Hangup];
/// Microseconds after which the handshake is over with all but the slowest applications.
const ESTABLISHED: u64 = 8_000_000;
/// Microseconds after which a rogue hangs up.
const ENOUGH: u64 = 40_000_000;
