//! What an adversary says on a substream once it is agreed, and how it ends it.

use bytes::{Bytes, BytesMut};
use glueberry_proto::{Naming, Profile};

use super::Adversary;
use super::{frames, handshake, records};
use crate::attack::Attack;
use crate::script::{Offence, Purpose};
use crate::wake::Side;
use crate::world::wires::Way;

/// All that is said at once.
#[derive(Debug, Default)]
pub(super) struct Payload {
    pub(super) bytes: BytesMut,
    pub(super) close: CloseMode,
    /// It breaks the protocol for all to see: its bytes, or that it ends where it does.
    pub(super) offence: Option<OffenceAt>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CloseMode {
    #[default]
    None,
    Finish,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OffenceAt {
    Bytes,
    End,
}

impl Payload {
    /// Says something in a frame.
    pub(super) fn frame(&mut self, profile: Profile, body: &[u8]) {
        profile.framing().emit_header(body.len(), &mut self.bytes);
        self.bytes.extend_from_slice(body);
    }
}

impl Adversary<'_> {
    /// Says what belongs on a substream that the adversary has opened, and that is agreed.
    pub(super) fn opened(&mut self, link: usize, at: usize, side: Side) {
        let Some(script) = &mut self.net.links[link].script else {
            return;
        };
        script.named.insert(at);
        let (attack, profile) = (script.attack, script.profile);
        let purpose = script.opened.iter().find(|(pipe, _)| *pipe == at).map(|(_, what)| *what);
        let limit = self.run.plan.limits.max_message_size;
        let handshake_limit = self.run.plan.limits.more.max_handshake_size;
        let spoils = self.spoils_handshake(link, attack);
        let payload = match purpose {
            // Beside the first, another handshake would be one too many anyway.
            Some(Purpose::Handshake) if spoils && attack == Attack::TwoProtocols => {
                Payload { close: CloseMode::Reset, ..Payload::default() }
            }
            Some(Purpose::Handshake) if spoils => frames::payload(attack, profile, handshake_limit),
            Some(Purpose::Handshake) => handshake::payload(attack, profile, handshake_limit),
            Some(Purpose::Stream) if frames::is_about(attack) => {
                let record = self.good_record(link, side);
                frames::payload_around(attack, profile, limit, &record)
            }
            Some(Purpose::Stream | Purpose::OtherStream) => self.records(link, side, attack),
            Some(Purpose::Junk) | None => return,
        };
        let is_done = match purpose {
            Some(Purpose::Handshake) => spoils || handshake::is_about(attack),
            _ => attack != Attack::Hasty || self.net.links[link].naming == Naming::Preamble,
        };
        if is_done {
            self.net.count_attack(self.run, link);
        }
        self.write_payload(link, at, side, (purpose == Some(Purpose::Handshake), payload));
        match (purpose, attack) {
            (Some(Purpose::Handshake), Attack::LeavesOnGrant) => self.leave(link, side),
            (Some(Purpose::Stream), Attack::CreepingFrame) => {
                self.again(link, side, attack, super::rounds(attack));
            }
            _ => {}
        }
    }

    fn write_payload(
        &mut self,
        link: usize,
        at: usize,
        side: Side,
        (in_handshake, payload): (bool, Payload),
    ) {
        let Payload { bytes, close, offence } = payload;
        if let Some(by) = offence {
            self.offend(link, Offence { pipe: at, by_end: by == OffenceAt::End, in_handshake });
        }
        let attack = self.net.attack(link);
        if attack == Some(Attack::TalksAfterClose) && !in_handshake {
            self.net.hang_up(self.run, link, side, 0);
        }
        if attack == Some(Attack::Slow) {
            for byte in bytes.iter() {
                self.net.put(
                    self.run,
                    link,
                    Way::Substream(at),
                    side,
                    Bytes::copy_from_slice(&[*byte]),
                );
            }
        } else if !bytes.is_empty() {
            self.net.put(self.run, link, Way::Substream(at), side, bytes.freeze());
        }
        match close {
            CloseMode::None => {}
            CloseMode::Finish => self.finish(link, at, side),
            CloseMode::Reset => self.net.reset(self.run, link, at, side),
        }
    }

    /// Says something more on the handshake substream.
    pub(super) fn keep_talking_in_handshake(&mut self, link: usize, side: Side) {
        let profile = self.profile(link);
        if let Some(at) = self.handshake_pipe(link) {
            let mut payload = Payload::default();
            for _ in 0..100 {
                payload.frame(profile, &[b'x'; 1000]);
            }
            self.net.count_attack(self.run, link);
            self.write_payload(link, at, side, (true, payload));
        }
    }
}

/// Returns whether a attack is done on a named stream, after the handshake.
pub(super) fn is_on_stream(attack: Attack) -> bool {
    frames::is_about(attack) || records::is_about(attack) || attack == Attack::TalksAfterClose
}
