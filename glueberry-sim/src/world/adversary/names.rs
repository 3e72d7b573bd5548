//! Names of substreams: none, too many, and answers that no peer can use.

use bytes::{BufMut, Bytes, BytesMut};
use glueberry_proto::wire::{
    Proposal, emit_acceptance, emit_proposal, emit_refusal, parse_proposal,
};
use glueberry_proto::{Naming, Profile, ProtocolId, StreamName};

use super::Adversary;
use crate::attack::Attack;
use crate::link::{Pipe, Stage};
use crate::script::{Offence, Purpose};
use crate::wake::{Side, Wake};
use crate::world::wires::Way;

/// What an adversary says to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    Silence,
    /// It agrees on something else.
    Wrong,
}

impl Attack {
    /// Returns what an adversary says to a name that its peer proposes.
    const fn answer(self, proposal: Option<&ProtocolId>) -> Answer {
        match (self, proposal) {
            (_, None) => Answer::No,
            (Self::MuteProbes, Some(ProtocolId::Probe)) => Answer::Silence,
            (Self::FalseProbes, Some(ProtocolId::Probe)) => Answer::Yes,
            (_, Some(ProtocolId::Probe | ProtocolId::Stays)) | (Self::Refuser, _) => Answer::No,
            (Self::NoHandshake, Some(ProtocolId::Handshake(_))) => Answer::No,
            (Self::Unanswering, _) => Answer::Silence,
            (Self::WrongAnswer, _) => Answer::Wrong,
            _ => Answer::Yes,
        }
    }

    /// Returns whether that answer is what the attack is about.
    const fn is_done_by(self, answer: Answer, proposal: Option<&ProtocolId>) -> bool {
        let is_probe = matches!(proposal, Some(ProtocolId::Probe));
        match self {
            Self::MuteProbes | Self::FalseProbes => is_probe,
            Self::Refuser | Self::Unanswering | Self::WrongAnswer => {
                !is_probe && !matches!(answer, Answer::Yes)
            }
            _ => false,
        }
    }
}

impl Adversary<'_> {
    /// Opens a substream under a name that is one only in so far as it consists of bytes. Where the
    /// transport negotiates names, it refuses them all.
    pub(super) fn open_as(&mut self, link: usize, side: Side, name: &[u8]) -> usize {
        let at = self.net.links[link].pipes.len();
        self.net.links[link].pipes.push(Pipe::new(side, None, Vec::new()));
        if let Some(script) = &mut self.net.links[link].script {
            script.opened.push((at, Purpose::Junk));
        }
        if self.net.links[link].naming == Naming::Preamble {
            self.net.put(self.run, link, Way::Substream(at), side, Bytes::copy_from_slice(name));
        } else {
            self.net.send(self.run, link, Wake::Offer(link, at));
        }
        at
    }

    pub(super) fn name_badly(&mut self, link: usize, side: Side, attack: Attack) {
        let says_names = self.net.links[link].naming == Naming::Preamble;
        match attack {
            Attack::UnknownStreams => {
                for name in ["nobody", "knows", "these"] {
                    if let Ok(name) = StreamName::new(name) {
                        self.open(link, side, Profile::V1.stream_id(name), Purpose::Stream);
                    }
                }
                return self.net.count_attack(self.run, link);
            }
            Attack::LongStreamName => {
                let long = "x".repeat(90);
                for name in [&long, "not allowed", "", "a/b", "handshake/handshake"] {
                    self.open_as(link, side, &prefixed(&format!("/glueberry/stream/{name}/1.0.0")));
                }
                return self.net.count_attack(self.run, link);
            }
            _ if !says_names => return,
            _ => {}
        }
        let name: &[u8] = match attack {
            Attack::EmptyName => &[0],
            Attack::LongName => &[255, b'/', b'g'],
            Attack::BinaryName => &[4, 0xc3, 0x28, 0xff, 0xfe],
            _ => b"\x1c/glueberry/stre",
        };
        let pipe = self.open_as(link, side, name);
        match attack {
            Attack::HalfName => self.finish(link, pipe, side),
            _ => self.offend(link, Offence { pipe, by_end: false, in_handshake: false }),
        }
        self.net.count_attack(self.run, link);
    }

    /// Opens a lot of substreams, each by a name of its own.
    pub(super) fn bomb_names(&mut self, link: usize, side: Side, round: u64) {
        for number in 0..30 {
            let name = format!("/glueberry/stream/bomb-{round}-{number}/1.0.0");
            self.open_as(link, side, &prefixed(&name));
        }
        self.net.count_attack(self.run, link);
    }

    /// Writes one more byte of each of a lot of names.
    pub(super) fn creep_names(&mut self, link: usize, side: Side, round: u64) {
        let name = prefixed("/glueberry/stream/chat/1.0.0");
        let Some(byte) = name.get(crate::rng::usize_of(round)).copied() else {
            return;
        };
        if self.net.links[link].naming != Naming::Preamble {
            return;
        }
        self.net.count_attack(self.run, link);
        if round == 0 {
            for _ in 0..60 {
                self.open_as(link, side, &[byte]);
            }
            return;
        }
        let opened = self.net.links[link].script.as_ref().map(|script| script.opened.clone());
        for (at, _) in opened.unwrap_or_default().iter().filter(|(_, what)| *what == Purpose::Junk)
        {
            self.net.put(
                self.run,
                link,
                Way::Substream(*at),
                side,
                Bytes::copy_from_slice(&[byte]),
            );
        }
    }

    /// Returns what the adversary of a connection says to a name, and counts it if that is the attack.
    pub(super) fn answer(&mut self, link: usize, proposal: Option<&ProtocolId>) -> Answer {
        let Some(attack) = self.net.attack(link) else {
            return Answer::No;
        };
        let answer = attack.answer(proposal);
        if attack.is_done_by(answer, proposal) {
            self.net.count_attack(self.run, link);
        }
        match proposal {
            // A second handshake protocol is another attack.
            Some(ProtocolId::Handshake(profile))
                if answer == Answer::Yes && *profile != self.profile(link) =>
            {
                Answer::No
            }
            _ => answer,
        }
    }

    /// Settles the name of a substream where the bytes say it.
    pub(super) fn read_name(
        &mut self,
        link: usize,
        at: usize,
        side: Side,
        bytes: &mut BytesMut,
        attack: Attack,
    ) {
        if self.net.links[link].pipes[at].opener == side {
            // The answer: whole or not, it begins with its length, or with zero for a refusal.
            let is_yes = bytes.first() != Some(&0);
            bytes.clear();
            if is_yes {
                self.opened(link, at, side);
            } else if let Some(script) = &mut self.net.links[link].script {
                script.named.insert(at);
            }
            return;
        }
        let Ok(Some((proposal, len))) = parse_proposal(bytes) else {
            bytes.clear();
            return;
        };
        let _ = bytes.split_to(len);
        let proposal = match proposal {
            Proposal::Known(id) => Some(id),
            _ => None,
        };
        let answer = self.answer(link, proposal.as_ref());
        if answer == Answer::Silence {
            return;
        }
        if let Some(script) = &mut self.net.links[link].script {
            script.named.insert(at);
        }
        let mut out = BytesMut::new();
        match (answer, &proposal) {
            (Answer::Yes, Some(id)) => emit_acceptance(id, &mut out),
            (Answer::Wrong, _) => {
                emit_proposal(&wrong_name(), &mut out);
                self.offend(link, Offence { pipe: at, by_end: false, in_handshake: false });
            }
            _ => emit_refusal(&mut out),
        }
        // From now on the peer reads what comes.
        self.net.links[link].pipes[at].stage = Stage::Open;
        self.net.put(self.run, link, Way::Substream(at), side, out.freeze());
        if answer == Answer::Yes {
            self.agreed(link, at, side, attack);
        }
    }
}

/// Returns a name that no node proposes.
pub(super) fn wrong_name() -> ProtocolId {
    StreamName::new("another").map_or(ProtocolId::Probe, |name| Profile::V1.stream_id(name))
}

/// Returns a name as it is proposed, with its length before it.
fn prefixed(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 1);
    out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.put_slice(name.as_bytes());
    out
}
