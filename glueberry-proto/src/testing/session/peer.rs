//! What the peer of a script knows: keys, protocols, how records and frames are made and read.

use std::sync::OnceLock;

use bytes::BytesMut;

use super::{GREATER, MAX_MESSAGE, SMALLER, STREAMS};
use crate::compat::{Cipher, MIN_RECORD_LEN};
use crate::crypto::{Identity, PublicKey};
use crate::session::Naming;
use crate::wire::{
    Parsed, Profile, Proposal, ProtocolId, StreamName, StreamVersion, emit_acceptance,
    emit_proposal, emit_refusal, parse_proposal,
};

/// Returns the key of the identity with the greater or the smaller one.
pub(super) fn public_key(is_greater: bool) -> PublicKey {
    static KEYS: OnceLock<[PublicKey; 2]> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let keys = [SMALLER, GREATER].map(|secret| Identity::from_seed(&secret).public_key());
        assert!(keys[0] < keys[1]);
        keys
    });
    keys[usize::from(is_greater)]
}

/// Returns the cipher of v1 between the two identities, which is the same on both sides.
pub(super) fn cipher() -> &'static Cipher {
    static CIPHER: OnceLock<Cipher> = OnceLock::new();
    CIPHER.get_or_init(|| {
        let peer = Identity::from_seed(&GREATER);
        let key = peer.agree_v1(&public_key(false)).expect("two identities that differ");
        Cipher::from_key(&key)
    })
}

pub(super) fn stream(index: usize) -> StreamName {
    StreamName::new(STREAMS[index % STREAMS.len()]).expect("a name")
}

/// Returns a protocol under which a substream may be opened.
pub(super) fn protocol(choice: u8) -> Option<ProtocolId> {
    match choice & 7 {
        0 => Some(Profile::V1.handshake_id()),
        1 => Some(Profile::V1Go.handshake_id()),
        2 | 3 => Some(Profile::V1.stream_id(stream(0))),
        4 => Some(Profile::V1.stream_id(stream(1))),
        5 => Some(Profile::V1.stream_id(StreamName::new_go("größe").expect("a name for Go"))),
        6 => Some(ProtocolId::Stream { version: StreamVersion::V2, name: stream(0) }),
        _ => None,
    }
}

/// Returns a name preamble: a proposal, an acceptance or a refusal.
pub(super) fn preamble(choice: u8) -> BytesMut {
    let mut bytes = BytesMut::new();
    match protocol(choice) {
        Some(id) if choice & 8 == 0 => emit_proposal(&id, &mut bytes),
        Some(id) => emit_acceptance(&id, &mut bytes),
        None if choice & 8 == 0 => emit_refusal(&mut bytes),
        None => bytes.extend_from_slice(b"\x0b/ping/1.0.0"),
    }
    bytes
}

pub(super) fn framed(profile: Profile, body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    profile.framing().emit_header(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

/// What a session wrote on a substream, as its peer would read it.
pub(super) enum Written<'a> {
    Handshake(&'a [u8]),
    Record(StreamName, &'a [u8]),
}

/// Reads what a session wrote on one substream: the preamble, then frames, of which the last may
/// be cut off.
pub(super) fn read<'a>(
    mut bytes: &'a [u8],
    naming: Naming,
    mut protocol: Option<ProtocolId>,
    profile: Option<Profile>,
) -> Vec<Written<'a>> {
    let mut read = Vec::new();
    if naming == Naming::Preamble {
        if bytes == [0] {
            return read;
        }
        let Some((proposal, len)) = parse_proposal(bytes).expect("a preamble") else {
            return read;
        };
        let Proposal::Known(id) = proposal else {
            panic!("an unknown protocol was proposed: {proposal:?}");
        };
        protocol = Some(id);
        bytes = &bytes[len..];
    }
    let (Some(protocol), Some(profile)) = (protocol, profile) else {
        assert!(bytes.is_empty(), "written before anything was agreed");
        return read;
    };
    let limit = MAX_MESSAGE + MIN_RECORD_LEN;
    while let Parsed::Frame(header) = profile.framing().parse_header(bytes, limit).expect("a frame")
    {
        let Some((frame, after)) = bytes.split_at_checked(header.total_len()) else {
            break;
        };
        let body = &frame[header.header_len..];
        read.push(match &protocol {
            ProtocolId::Stream { name, .. } => Written::Record(name.clone(), body),
            _ => Written::Handshake(body),
        });
        bytes = after;
    }
    read
}
