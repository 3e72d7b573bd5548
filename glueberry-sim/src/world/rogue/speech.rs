//! What a rogue says on a substream that is agreed.

use bytes::{BufMut, Bytes, BytesMut};
use glueberry_proto::Profile;
use glueberry_proto::crypto::{Aead, Identity, default_aead};

use super::Purpose;
use crate::cipher::FastAead;
use crate::link::Side;
use crate::trick::Trick;
use crate::world::app::{HELLO, READY};
use crate::world::{World, identities};

impl World {
    /// Says what belongs on a substream that is agreed.
    pub(super) fn rogue_opened(&mut self, link: usize, at: usize, side: Side) {
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

    pub(super) fn offend(&mut self, link: usize, at: usize, by_end: bool) {
        if let Some(rogue) = &mut self.links[link].rogue {
            rogue.offence = Some(at);
            rogue.offends_by_end = by_end;
        }
    }

    /// Seals a message as an honest peer would.
    pub(super) fn rogue_record(&mut self, link: usize, side: Side) -> Vec<u8> {
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
}

fn emit(profile: Profile, body: &[u8], out: &mut BytesMut) {
    profile.framing().emit_header(body.len(), out);
    out.extend_from_slice(body);
}
