//! Frames of the handshake substream: where each begins and ends, and how long it may be (WIRE.md
//! §6.2).

use bytes::{BufMut, BytesMut};

use super::violation::Violation;
use crate::wire::varint;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameType {
    Kex,
    KemCiphertext,
    Confirm,
    Finished,
    Abort,
    App,
    Close,
    Abandon,
    /// For later versions; ignored.
    Reserved(u8),
}

impl FrameType {
    /// Returns the type with a number, unless there is none.
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x01 => Self::Kex,
            0x02 => Self::KemCiphertext,
            0x03 => Self::Confirm,
            0x04 => Self::Finished,
            0x05 => Self::Abort,
            0x10 => Self::App,
            0x20 => Self::Close,
            0x21 => Self::Abandon,
            0x80.. => Self::Reserved(code),
            _ => return None,
        })
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Kex => 0x01,
            Self::KemCiphertext => 0x02,
            Self::Confirm => 0x03,
            Self::Finished => 0x04,
            Self::Abort => 0x05,
            Self::App => 0x10,
            Self::Close => 0x20,
            Self::Abandon => 0x21,
            Self::Reserved(code) => code,
        }
    }

    /// Returns the shortest and the longest length of a frame, its type included.
    const fn lengths(self) -> (usize, usize) {
        match self {
            Self::Kex => (1, 4096),
            Self::KemCiphertext => (1089, 1089),
            Self::Confirm => (33, 33),
            Self::Finished => (1, 1),
            Self::Abort => (3, 3),
            Self::App | Self::Reserved(_) | Self::Close => (1, MAX_FRAME),
            Self::Abandon => (6, 69),
        }
    }
}

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: FrameType,
    /// Of the length's varint.
    pub(crate) prefix: usize,
    /// With the type byte.
    pub(crate) len: usize,
}

impl Header {
    /// Reads the length and the type of the frame that `input` begins with, and checks that one
    /// belongs to the other. Returns `None` if they have not arrived.
    pub(crate) fn parse(input: &[u8]) -> Result<Option<Self>, Violation> {
        let Some((len, prefix)) = parse_varint(input, MAX_PREFIX, Violation::BadFrame)? else {
            return Ok(None);
        };
        let len = usize::try_from(len).map_err(|_| Violation::BadFrame)?;
        if len == 0 || len > MAX_FRAME {
            return Err(Violation::BadFrame);
        }
        let Some(code) = input.get(prefix) else {
            return Ok(None);
        };
        let kind = FrameType::from_code(*code).ok_or(Violation::UnexpectedFrame)?;
        let (min, max) = kind.lengths();
        match (min..=max).contains(&len) {
            true => Ok(Some(Self { kind, prefix, len })),
            false => Err(Violation::BadFrame),
        }
    }

    /// Returns the length of the frame with its varint.
    pub(crate) const fn total(&self) -> usize {
        self.prefix + self.len
    }
}

/// Appends a frame.
pub(crate) fn emit(kind: FrameType, body: &[u8], out: &mut BytesMut) {
    emit_header(kind, body.len(), out);
    out.extend_from_slice(body);
}

/// Appends the beginning of a frame.
pub(crate) fn emit_header(kind: FrameType, body_len: usize, out: &mut BytesMut) {
    varint::emit(u64::try_from(body_len + 1).unwrap_or(u64::MAX), out);
    out.put_u8(kind.code());
}

/// Reads a minimal varint of at most `longest` bytes. Returns it with its length, or `None` if it has
/// not arrived.
pub(crate) fn parse_varint(
    input: &[u8],
    longest: usize,
    error: Violation,
) -> Result<Option<(u64, usize)>, Violation> {
    varint::parse_minimal(input, longest).ok_or(error)
}

/// The longest frame, its type included: a handshake message of 64 KiB.
pub(crate) const MAX_FRAME: usize = 65_537;
/// The longest handshake message.
pub(crate) const MAX_APP: usize = MAX_FRAME - 1;
const MAX_PREFIX: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(bytes: &[u8]) -> Result<Option<Header>, Violation> {
        Header::parse(bytes)
    }

    #[test]
    fn lengths_are_checked_as_soon_as_they_are_there() {
        for (bytes, expected) in [
            (&b""[..], Ok(None)),
            (&[0x80], Ok(None)),
            (&[0x00], Err(Violation::BadFrame)),
            (&[0x81, 0x00], Err(Violation::BadFrame)),
            (&[0x80, 0x80, 0x80], Err(Violation::BadFrame)),
            // 65,538.
            (&[0x82, 0x80, 0x04], Err(Violation::BadFrame)),
            (&[0x81, 0x80, 0x04], Ok(None)),
            (&[0x81, 0x80, 0x04, 0x01], Err(Violation::BadFrame)),
            (&[0x20, 0x03], Err(Violation::BadFrame)),
            (&[0x22, 0x03], Err(Violation::BadFrame)),
            (&[0x02, 0x04], Err(Violation::BadFrame)),
            (&[0x05, 0x21], Err(Violation::BadFrame)),
            (&[0x46, 0x21], Err(Violation::BadFrame)),
            (&[0x01, 0x00], Err(Violation::UnexpectedFrame)),
            (&[0x01, 0x7f], Err(Violation::UnexpectedFrame)),
        ] {
            assert_eq!(header(bytes), expected, "{bytes:02x?}");
        }
        let app = Header { kind: FrameType::App, prefix: 3, len: MAX_FRAME };
        assert_eq!(header(&[0x81, 0x80, 0x04, 0x10]), Ok(Some(app)));
        assert_eq!(app.total(), 65_540);
    }

    proptest! {
        #[test]
        fn varints_round_trip_and_have_one_form(value in 0..1_u64 << 35, bytes: [u8; 5]) {
            let mut out = BytesMut::new();
            varint::emit(value, &mut out);
            let parsed = parse_varint(&out, 5, Violation::BadLength);
            prop_assert_eq!(parsed, Ok(Some((value, out.len()))));
            if let Ok(Some((value, len))) = parse_varint(&bytes, 5, Violation::BadLength) {
                let mut again = BytesMut::new();
                varint::emit(value, &mut again);
                prop_assert_eq!(&bytes[..len], &again[..]);
            }
        }

        #[test]
        fn a_header_that_is_cut_is_incomplete_or_the_same(bytes in prop::collection::vec(any::<u8>(), 0..6)) {
            let whole = header(&bytes);
            for cut in 0..bytes.len() {
                let part = header(&bytes[..cut]);
                prop_assert!(part == Ok(None) || part == whole);
            }
        }
    }
}
