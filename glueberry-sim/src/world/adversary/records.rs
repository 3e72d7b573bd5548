//! Records that do not open, or that may be opened once only.

use glueberry_proto::crypto::{Aead, Identity, SharedKey, default_aead};

use super::Adversary;
use super::payload::{OffenceAt, Payload};
use crate::attack::Attack;
use crate::cipher::FastAead;
use crate::wake::Side;
use crate::world::{key_of, secret_of};

/// Returns whether a attack is one with records, after the handshake.
pub(super) const fn is_about(attack: Attack) -> bool {
    matches!(
        attack,
        Attack::BadRecords
            | Attack::ForgivenRecords
            | Attack::ShortRecord
            | Attack::TinyRecord
            | Attack::FlippedRecord
            | Attack::ForeignRecord
            | Attack::ZeroKeyRecord
            | Attack::Replay
            | Attack::ReplayElsewhere
            | Attack::NonceTwice
    )
}

impl Adversary<'_> {
    /// Returns the records that an adversary sends on a named stream.
    pub(super) fn records(&mut self, link: usize, side: Side, attack: Attack) -> Payload {
        let profile = self.profile(link);
        let mut payload = Payload::default();
        let mut send_handshake = |record: &[u8]| payload.frame(profile, record);
        match attack {
            Attack::BadRecords => {
                (0..FORGIVEN + 4).for_each(|_| send_handshake(&[9; 60]));
                payload.offence = Some(OffenceAt::Bytes);
            }
            Attack::ForgivenRecords => {
                (0..FORGIVEN).for_each(|number| send_handshake(&[number; 60]));
                send_handshake(&self.good_record(link, side));
            }
            Attack::ShortRecord => send_handshake(&[]),
            Attack::TinyRecord => send_handshake(&[9; 27]),
            Attack::FlippedRecord => {
                let mut record = self.seal(link, side, Key::Right, 1);
                let at = self.net.links[link].rng.index(record.len());
                record[at] ^= 1 << self.net.links[link].rng.below(8);
                send_handshake(&record);
            }
            Attack::ForeignRecord => send_handshake(&self.seal(link, side, Key::Foreign, 1)),
            Attack::ZeroKeyRecord => send_handshake(&self.seal(link, side, Key::Zero, 1)),
            Attack::Replay | Attack::Early => {
                let record = self.good_record(link, side);
                (0..3).for_each(|_| send_handshake(&record));
            }
            Attack::ReplayElsewhere => {
                // The same on each stream, as the nonce is.
                self.expect(link, 1);
                send_handshake(&self.seal(link, side, Key::Right, 1));
            }
            Attack::NonceTwice => {
                self.expect(link, 1);
                send_handshake(&self.seal(link, side, Key::Right, 1));
                send_handshake(&self.seal(link, side, Key::Right, 2));
            }
            Attack::Churn => payload.close = super::payload::CloseMode::Finish,
            Attack::AbortedSubstreams => payload.close = super::payload::CloseMode::Reset,
            _ => send_handshake(&self.good_record(link, side)),
        }
        payload
    }

    /// Seals a message as an honest peer would, which may then be delivered.
    pub(super) fn good_record(&mut self, link: usize, side: Side) -> Vec<u8> {
        let script = self.net.links[link].script.as_mut();
        let number = script.map_or(0, |script| {
            script.sealed += 1;
            script.sealed
        });
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.net.links[link].rng.next().to_le_bytes());
        self.seal_with(link, side, Key::Right, (nonce, number))
    }

    /// Takes note of how many messages may be delivered, whatever is sealed.
    fn expect(&mut self, link: usize, most: u64) {
        if let Some(script) = &mut self.net.links[link].script {
            script.sealed = most;
        }
    }

    /// Seals a message with the nonce that an adversary uses for everything.
    fn seal(&self, link: usize, side: Side, key: Key, number: u64) -> Vec<u8> {
        self.seal_with(link, side, key, ([0x5a; 12], number))
    }

    fn seal_with(
        &self,
        link: usize,
        side: Side,
        key: Key,
        (nonce, number): ([u8; 12], u64),
    ) -> Vec<u8> {
        let ends = &self.net.links[link].ends;
        let (own, peer) = (ends[side].host, self.hosts[ends[1 - side].host].key);
        let mut own = self.run.plan.hosts[own].identity;
        if key == Key::Foreign {
            let is_other = |one: &u16| *one != own && key_of(*one) != peer;
            own = (0..).find(is_other).unwrap_or(own);
        }
        let secret = &secret_of(own);
        let shared = match key {
            Key::Zero => SharedKey::from_bytes(&[0; 32]).ok(),
            Key::Right | Key::Foreign => Identity::from_seed(secret).agree_v1(&peer).ok(),
        };
        let Some(shared) = shared else {
            return Vec::new();
        };
        let key =
            if self.run.plan.is_real { default_aead().key(&shared) } else { FastAead.key(&shared) };
        let mut record = nonce.to_vec();
        record.extend_from_slice(&u64::MAX.to_le_bytes());
        record.extend_from_slice(&number.to_le_bytes());
        let tag = key.seal(&nonce, &[], &mut record[12..]);
        record.extend_from_slice(&tag);
        record
    }
}

/// Whose key a record is sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Right,
    /// That of another identity with the peer.
    Foreign,
    Zero,
}

/// Records that don't open and are forgiven.
const FORGIVEN: u8 = 16;
