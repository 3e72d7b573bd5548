//! The name of a substream, for transports that do not negotiate one.
//!
//! The opener writes one byte of length and the protocol id. The accepter answers with the same
//! bytes if it accepts, or with a single zero byte and the end of its half if it does not.

use core::str;

use bytes::{BufMut, BytesMut};

use super::protocol::ProtocolId;
use crate::prelude::*;

/// Appends what the opener of a substream writes first.
pub fn emit_proposal(id: &ProtocolId, out: &mut BytesMut) {
    let id = id.to_string();
    // The longest id, that of a stream with a name of 64 bytes, has 88 bytes.
    out.put_u8(u8::try_from(id.len()).unwrap_or(u8::MAX));
    out.put_slice(id.as_bytes());
}

/// Appends what the accepter writes first if it accepts `id`.
pub fn emit_acceptance(id: &ProtocolId, out: &mut BytesMut) {
    emit_proposal(id, out);
}

/// Appends what the accepter writes, before it ends its half, if it refuses a proposal.
pub fn emit_refusal(out: &mut BytesMut) {
    out.put_u8(REFUSED);
}

/// Parses the first bytes from the opener of a substream.
///
/// Returns the proposal and how many bytes it took, or `None` if `input` ends inside it.
///
/// # Errors
/// [`PreambleError::Empty`], [`PreambleError::TooLong`] and [`PreambleError::NotUtf8`]. An
/// unknown id is no error but [`Proposal::Unknown`].
pub fn parse_proposal(input: &[u8]) -> Result<Option<(Proposal, usize)>, PreambleError> {
    let Some((len, rest)) = input.split_first() else {
        return Ok(None);
    };
    let len = usize::from(*len);
    match len {
        0 => return Err(PreambleError::Empty),
        1..=MAX_ID_LEN => {}
        _ => return Err(PreambleError::TooLong { len }),
    }
    // The length is checked first, so a peer can't make the caller wait for more than MAX_ID_LEN bytes.
    let Some(id) = rest.get(..len) else {
        return Ok(None);
    };
    let id = str::from_utf8(id).map_err(|_| PreambleError::NotUtf8)?;
    // Any transport may carry other protocols beside Glueberry's: those are refused, not punished.
    let proposal =
        ProtocolId::parse(id).map_or_else(|_| Proposal::Unknown(id.to_owned()), Proposal::Known);
    Ok(Some((proposal, 1 + len)))
}

/// Parses the first bytes from the accepter of a substream that was opened for `proposed`.
///
/// Returns the answer and how many bytes it took, or `None` if `input` ends inside it.
///
/// # Errors
/// [`PreambleError::Mismatch`] if the answer is neither the proposal nor a refusal.
pub fn parse_answer(
    input: &[u8],
    proposed: &ProtocolId,
) -> Result<Option<(Answer, usize)>, PreambleError> {
    if input.first() == Some(&REFUSED) {
        return Ok(Some((Answer::Refused, 1)));
    }
    let mut expected = BytesMut::new();
    emit_acceptance(proposed, &mut expected);
    if input.starts_with(&expected) {
        Ok(Some((Answer::Accepted, expected.len())))
    } else if expected.starts_with(input) {
        // So far the same bytes: the rest has not arrived yet.
        Ok(None)
    } else {
        Err(PreambleError::Mismatch)
    }
}

/// The protocol that the opener of a substream asks for.
///
/// ```
/// use bytes::BytesMut;
/// use glueberry_proto::Profile;
/// use glueberry_proto::wire::{Proposal, emit_proposal, parse_proposal};
///
/// let mut bytes = BytesMut::new();
/// emit_proposal(&Profile::V1.handshake_id(), &mut bytes);
/// let (proposal, length) = parse_proposal(&bytes)?.expect("it is whole");
/// assert_eq!(proposal, Proposal::Known(Profile::V1.handshake_id()));
/// assert_eq!(length, bytes.len());
/// # Ok::<(), glueberry_proto::wire::PreambleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Proposal {
    /// A protocol of Glueberry, perhaps not one that is supported.
    Known(ProtocolId),
    /// Any other text of 1 to 128 bytes.
    Unknown(String),
}

/// The answer of the accepter of a substream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Answer {
    /// The substream is agreed.
    Accepted,
    /// The accepter does not support the protocol, or not now.
    Refused,
}

/// Why the first bytes of a substream are no preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PreambleError {
    /// The proposed id has no characters.
    #[error("proposed protocol is empty")]
    Empty,
    /// The proposed id is longer than [`MAX_ID_LEN`].
    #[error("proposed protocol has {len} bytes, {MAX_ID_LEN} allowed")]
    TooLong {
        /// The announced length.
        len: usize,
    },
    /// The proposed id is not UTF-8.
    #[error("proposed protocol is not utf-8")]
    NotUtf8,
    /// The answer is neither what was proposed nor a refusal.
    #[error("answer differs from the proposed protocol")]
    Mismatch,
}

/// Longest protocol id in a preamble, in bytes.
pub const MAX_ID_LEN: usize = 128;

const REFUSED: u8 = 0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proposed(id: &str) -> BytesMut {
        let mut out = BytesMut::new();
        emit_proposal(&ProtocolId::parse(id).unwrap(), &mut out);
        out
    }

    #[test]
    fn bytes_of_a_proposal() {
        let bytes = proposed("/glueberry/stream/chat/1.0.0");
        assert_eq!(&bytes[..], b"\x1c/glueberry/stream/chat/1.0.0");
    }

    #[test]
    fn longest_id_fits() {
        let id = format!("/glueberry/stream/{}/1.0.0", "x".repeat(64));
        let bytes = proposed(&id);
        assert_eq!(bytes.len(), 89);
        let known = Proposal::Known(ProtocolId::parse(&id).unwrap());
        assert_eq!(parse_proposal(&bytes), Ok(Some((known, 89))));
    }

    #[test]
    fn foreign_ids_are_no_error() {
        let bytes = b"\x0f/ipfs/ping/1.0.0";
        assert_eq!(bytes.len() - 1, 16);
        let (proposal, consumed) = parse_proposal(bytes).unwrap().unwrap();
        assert_eq!(proposal, Proposal::Unknown("/ipfs/ping/1.0.".to_owned()));
        assert_eq!(consumed, 16);
    }

    #[test]
    fn malformed_proposals() {
        assert_eq!(parse_proposal(&[0]), Err(PreambleError::Empty));
        assert_eq!(parse_proposal(&[129]), Err(PreambleError::TooLong { len: 129 }));
        assert_eq!(parse_proposal(&[255, 1]), Err(PreambleError::TooLong { len: 255 }));
        assert_eq!(parse_proposal(&[2, 0xc3, 0x28]), Err(PreambleError::NotUtf8));
    }

    #[test]
    fn answers() {
        let id = ProtocolId::parse("/glueberry/handshake/1.0.0").unwrap();
        let other = proposed("/glueberry/stream/handshake/1.0.0");
        let mut accepted = BytesMut::new();
        emit_acceptance(&id, &mut accepted);
        let len = accepted.len();
        accepted.put_u8(0);
        assert_eq!(parse_answer(&accepted, &id), Ok(Some((Answer::Accepted, len))));
        let mut refused = BytesMut::new();
        emit_refusal(&mut refused);
        assert_eq!(parse_answer(&refused, &id), Ok(Some((Answer::Refused, 1))));
        assert_eq!(parse_answer(&other, &id), Err(PreambleError::Mismatch));
        accepted[5] ^= 1;
        assert_eq!(parse_answer(&accepted, &id), Err(PreambleError::Mismatch));
    }

    proptest! {
        #[test]
        fn proposals_round_trip(name in "[A-Za-z0-9_-]{1,64}", after: Vec<u8>) {
            prop_assume!(name != "handshake");
            let id = ProtocolId::parse(&format!("/glueberry/stream/{name}/1.0.0")).unwrap();
            let mut bytes = BytesMut::new();
            emit_proposal(&id, &mut bytes);
            let len = bytes.len();
            bytes.extend_from_slice(&after);
            prop_assert_eq!(parse_answer(&bytes, &id), Ok(Some((Answer::Accepted, len))));
            prop_assert_eq!(parse_proposal(&bytes), Ok(Some((Proposal::Known(id), len))));
        }

        #[test]
        fn cut_anywhere_is_incomplete_or_the_same(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
            let id = ProtocolId::Handshake(crate::wire::Profile::V1);
            let (proposal, answer) = (parse_proposal(&bytes), parse_answer(&bytes, &id));
            for cut in 0..bytes.len() {
                let part = parse_proposal(&bytes[..cut]);
                prop_assert!(part == Ok(None) || part == proposal);
                let part = parse_answer(&bytes[..cut], &id);
                prop_assert!(part == Ok(None) || part == answer);
            }
        }
    }
}
