//! What a rogue says on a substream once it is agreed, and how it ends it.

use bytes::{Bytes, BytesMut};
use glueberry_proto::{Naming, Profile};

use super::Adversary;
use super::{frames, handshake, records};
use crate::script::{Offence, Purpose};
use crate::trick::Trick;
use crate::wake::Side;

/// All that is said at once.
#[derive(Debug, Default)]
pub(super) struct Speech {
    pub(super) bytes: BytesMut,
    pub(super) ending: Ending,
    /// It breaks the protocol for all to see: its bytes, or that it ends where it does.
    pub(super) offends: Option<By>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ending {
    #[default]
    None,
    Finish,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Bytes,
    End,
}

impl Speech {
    /// Says something in a frame.
    pub(super) fn frame(&mut self, profile: Profile, body: &[u8]) {
        profile.framing().emit_header(body.len(), &mut self.bytes);
        self.bytes.extend_from_slice(body);
    }
}

impl Adversary<'_> {
    /// Says what belongs on a substream that the rogue has opened, and that is agreed.
    pub(super) fn rogue_opened(&mut self, link: usize, at: usize, side: Side) {
        let Some(rogue) = &mut self.net.links[link].rogue else {
            return;
        };
        rogue.named.push(at);
        let (trick, profile) = (rogue.trick, rogue.profile);
        let purpose = rogue.opened.iter().find(|(pipe, _)| *pipe == at).map(|(_, what)| *what);
        let limit = self.run.plan.limits.max_message_size;
        let spoils = self.spoils_handshake(link, trick);
        let speech = match purpose {
            // Beside the first, another handshake would be one too many anyway.
            Some(Purpose::Handshake) if spoils && trick == Trick::TwoProtocols => {
                Speech { ending: Ending::Reset, ..Speech::default() }
            }
            Some(Purpose::Handshake) if spoils => frames::speech(trick, profile, HANDSHAKE_LIMIT),
            Some(Purpose::Handshake) => handshake::speech(trick, profile),
            Some(Purpose::Stream) if frames::is_about(trick) => {
                let record = self.good_record(link, side);
                frames::speech_around(trick, profile, limit, &record)
            }
            Some(Purpose::Stream | Purpose::OtherStream) => self.records(link, side, trick),
            Some(Purpose::Junk) | None => return,
        };
        let is_done = match purpose {
            Some(Purpose::Handshake) => spoils || handshake::is_about(trick),
            _ => trick != Trick::Hasty || self.net.links[link].naming == Naming::Preamble,
        };
        if is_done {
            self.net.deed(self.run, link);
        }
        self.speak(link, at, side, (purpose == Some(Purpose::Handshake), speech));
        match (purpose, trick) {
            (Some(Purpose::Handshake), Trick::LeavesOnGrant) => self.rogue_leaves(link, side),
            (Some(Purpose::Stream), Trick::CreepingFrame) => {
                self.rogue_again(link, side, trick, super::rounds(trick));
            }
            _ => {}
        }
    }

    fn speak(
        &mut self,
        link: usize,
        at: usize,
        side: Side,
        (in_handshake, speech): (bool, Speech),
    ) {
        let Speech { bytes, ending, offends } = speech;
        if let Some(by) = offends {
            self.offend(link, Offence { pipe: at, by_end: by == By::End, in_handshake });
        }
        let trick = self.net.trick(link);
        if trick == Some(Trick::TalksAfterClose) && !in_handshake {
            self.net.hang_up(self.run, link, side, 0);
        }
        if trick == Some(Trick::Slow) {
            for byte in bytes.iter() {
                self.net.put(self.run, link, at, side, Bytes::copy_from_slice(&[*byte]));
            }
        } else if !bytes.is_empty() {
            self.net.put(self.run, link, at, side, bytes.freeze());
        }
        match ending {
            Ending::None => {}
            Ending::Finish => self.rogue_ends(link, at, side),
            Ending::Reset => self.net.reset(self.run, link, at, side),
        }
    }

    /// Says something more on the handshake substream.
    pub(super) fn talk_on(&mut self, link: usize, side: Side) {
        let profile = self.rogue_profile(link);
        if let Some(at) = self.rogue_handshake(link) {
            let mut speech = Speech::default();
            for _ in 0..100 {
                speech.frame(profile, &[b'x'; 1000]);
            }
            self.net.deed(self.run, link);
            self.speak(link, at, side, (true, speech));
        }
    }
}

/// Returns whether a trick is done on a named stream, after the handshake.
pub(super) fn is_on_stream(trick: Trick) -> bool {
    frames::is_about(trick) || records::is_about(trick) || trick == Trick::TalksAfterClose
}

/// Largest handshake message.
pub(super) const HANDSHAKE_LIMIT: usize = 64 << 10;
