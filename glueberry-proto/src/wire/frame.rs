//! Frames: where a message begins and ends on a substream.

use bytes::{BufMut, BytesMut};

use super::varint;

/// How the bodies on a substream are delimited.
///
/// ```
/// use bytes::BytesMut;
/// use glueberry_proto::wire::{Framing, Parsed};
///
/// let framing = Framing::LengthPrefix;
/// let mut frame = BytesMut::new();
/// framing.emit_header(5, &mut frame);
/// frame.extend_from_slice(b"hello");
/// let Parsed::Frame(header) = framing.parse_header(&frame, 1024)? else { panic!() };
/// assert_eq!((header.header_len, header.body_len, header.total_len()), (4, 5, 9));
/// // A length beyond the limit is refused before anything is allocated for it.
/// assert!(framing.parse_header(&frame, 4).is_err());
/// # Ok::<(), glueberry_proto::wire::FrameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// A 32-bit big-endian length, then the body.
    LengthPrefix,
    /// A varint with the length of the rest, a varint with the length of the body, then the body.
    ///
    /// The framing of Go nodes. The first varint is cramberry's message length, the second the length
    /// of a byte string. Bytes that the first counts beyond the body are read and ignored.
    DoubleVarint,
    /// A varint with the length of the body, in its shortest form of at most five bytes, then the body.
    ///
    /// The framing of v2: a body is a frame of the handshake substream with its type, or a message in
    /// a record's plaintext.
    Varint,
}

impl Framing {
    /// Returns the length of the longest body that every peer accepts with this framing.
    ///
    /// Go's reader and writer refuse frames whose outer length exceeds 64 MiB.
    #[must_use]
    pub const fn max_body_len(self) -> usize {
        match self {
            Self::LengthPrefix | Self::Varint => 0xffff_ffff,
            Self::DoubleVarint => GO_MAX_OUTER_LEN - 4,
        }
    }

    /// Returns how many bytes [`Framing::emit_header`] writes for a body of `body_len` bytes.
    #[must_use]
    pub const fn header_len(self, body_len: usize) -> usize {
        match self {
            Self::LengthPrefix => 4,
            Self::Varint => varint_len(body_len),
            Self::DoubleVarint => {
                let inner = varint_len(body_len);
                inner + varint_len(body_len.saturating_add(inner))
            }
        }
    }

    /// Appends the header of a body of `body_len` bytes.
    ///
    /// The caller keeps `body_len` within [`Framing::max_body_len`]. Beyond it the header announces
    /// a length that every peer refuses: a mistake ends the substream but corrupts no message.
    pub fn emit_header(self, body_len: usize, out: &mut BytesMut) {
        match self {
            Self::LengthPrefix => out.put_u32(u32::try_from(body_len).unwrap_or(u32::MAX)),
            Self::Varint => varint::emit(u64::try_from(body_len).unwrap_or(u64::MAX), out),
            Self::DoubleVarint => {
                let outer = body_len.saturating_add(varint_len(body_len));
                varint::emit(u64::try_from(outer).unwrap_or(u64::MAX), out);
                varint::emit(u64::try_from(body_len).unwrap_or(u64::MAX), out);
            }
        }
    }

    /// Parses the header that `input` starts with. Allocates nothing and ignores the body.
    ///
    /// Returns [`Parsed::Incomplete`] as long as more bytes are needed. Cutting `input` short turns
    /// a result only into `Incomplete`, never into another one (rule C5).
    ///
    /// # Errors
    /// Each variant of [`FrameError`] but [`FrameError::Truncated`]. After any of them the rest of
    /// the substream can't be parsed.
    pub fn parse_header(self, input: &[u8], max_body: usize) -> Result<Parsed, FrameError> {
        match self {
            Self::LengthPrefix => parse_length_prefix(input, max_body),
            Self::Varint => parse_single_varint(input, max_body),
            Self::DoubleVarint => parse_double_varint(input, max_body),
        }
    }

    /// Checks that a substream may end here, with `rest` received and not yet consumed.
    ///
    /// Go treats an end within the outer varint, or right behind it, as a clean one. So does
    /// [`Framing::DoubleVarint`]; no message is lost, since none was begun.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if a message is cut off, or the error that
    /// [`Framing::parse_header`] has for a header that is wrong in itself.
    pub fn check_end(self, rest: &[u8]) -> Result<(), FrameError> {
        let begun = match self {
            Self::LengthPrefix | Self::Varint => !rest.is_empty(),
            Self::DoubleVarint => match varint::parse(rest)? {
                Some((0, _)) => return Err(FrameError::Empty),
                Some((_, len)) => rest.len() > len,
                None => false,
            },
        };
        if begun { Err(FrameError::Truncated) } else { Ok(()) }
    }
}

/// The result of [`Framing::parse_header`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub enum Parsed {
    /// The input ends inside the header.
    Incomplete,
    /// The header is complete. The body may not have arrived yet.
    Frame(FrameHeader),
}

/// The lengths of one frame's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameHeader {
    /// Bytes before the body.
    pub header_len: usize,
    /// Bytes of the body, at most the limit given to [`Framing::parse_header`].
    pub body_len: usize,
    /// Bytes behind the body that belong to the frame and are ignored, at most
    /// [`MAX_TRAILING_LEN`].
    pub trailing_len: usize,
}

impl FrameHeader {
    /// Returns the length of the whole frame.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.header_len.saturating_add(self.body_len).saturating_add(self.trailing_len)
    }
}

/// Why the rest of a substream can't be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame announces more than the limit. Nothing was allocated for it.
    #[error("frame of {announced} bytes announced, {limit} allowed")]
    TooLarge {
        /// What the peer announced.
        announced: u64,
        /// The longest body allowed here.
        limit: usize,
    },
    /// A length is longer than 64 bits, or goes on beyond its frame.
    #[error("length is no valid varint")]
    InvalidVarint,
    /// The outer length is 0, which leaves no room for the inner one.
    #[error("frame without an inner length")]
    Empty,
    /// The inner length is longer than the frame that contains it.
    #[error("body of {body} bytes in a frame with room for {room}")]
    BodyExceedsFrame {
        /// The inner length.
        body: u64,
        /// What the outer length leaves for the body.
        room: usize,
    },
    /// More ignored bytes follow the body than any sender has reason to add.
    #[error("{announced} bytes behind the body, {limit} allowed")]
    Trailing {
        /// How many bytes follow the body.
        announced: usize,
        /// [`MAX_TRAILING_LEN`].
        limit: usize,
    },
    /// The substream ended inside a frame.
    #[error("substream ended inside a frame")]
    Truncated,
}

/// Most bytes behind a body that are ignored rather than refused.
///
/// Go ignores any number; no known sender emits any. The bound keeps the memory of a frame close to
/// that of its body.
pub const MAX_TRAILING_LEN: usize = 1024;

fn parse_length_prefix(input: &[u8], max_body: usize) -> Result<Parsed, FrameError> {
    let Some(prefix) = input.first_chunk::<4>() else {
        return Ok(Parsed::Incomplete);
    };
    let announced = u64::from(u32::from_be_bytes(*prefix));
    let body_len = within(announced, max_body, max_body)?;
    Ok(Parsed::Frame(FrameHeader { header_len: prefix.len(), body_len, trailing_len: 0 }))
}

fn parse_double_varint(input: &[u8], max_body: usize) -> Result<Parsed, FrameError> {
    let Some((announced, outer_len)) = varint::parse(input)? else {
        return Ok(Parsed::Incomplete);
    };
    // The limit is checked against the outer length already, before the inner one has arrived: a
    // peer could otherwise make the reader wait for a frame that is refused in the end.
    let max_outer = max_body.saturating_add(varint::MAX_LEN + MAX_TRAILING_LEN);
    let outer = within(announced, max_outer.min(GO_MAX_OUTER_LEN), max_body)?;
    if outer == 0 {
        return Err(FrameError::Empty);
    }
    // The inner varint must end inside the frame. Bytes behind the frame belong to the next one.
    let received = input.get(outer_len..).unwrap_or_default();
    let inside = received.get(..outer).unwrap_or(received);
    let Some((body, inner_len)) = varint::parse(inside)? else {
        let whole = inside.len() == outer;
        return if whole { Err(FrameError::InvalidVarint) } else { Ok(Parsed::Incomplete) };
    };
    let room = outer - inner_len;
    let trailing_len = usize::try_from(body)
        .ok()
        .and_then(|body| room.checked_sub(body))
        .ok_or(FrameError::BodyExceedsFrame { body, room })?;
    let body_len = within(body, max_body, max_body)?;
    if trailing_len > MAX_TRAILING_LEN {
        return Err(FrameError::Trailing { announced: trailing_len, limit: MAX_TRAILING_LEN });
    }
    Ok(Parsed::Frame(FrameHeader { header_len: outer_len + inner_len, body_len, trailing_len }))
}

fn parse_single_varint(input: &[u8], max_body: usize) -> Result<Parsed, FrameError> {
    let Some((announced, header_len)) =
        varint::parse_minimal(input, 5).ok_or(FrameError::InvalidVarint)?
    else {
        return Ok(Parsed::Incomplete);
    };
    let body_len = within(announced, max_body, max_body)?;
    Ok(Parsed::Frame(FrameHeader { header_len, body_len, trailing_len: 0 }))
}

/// Returns `announced` if it is at most `bound`, else the error that names `limit`.
fn within(announced: u64, bound: usize, limit: usize) -> Result<usize, FrameError> {
    match usize::try_from(announced) {
        Ok(len) if len <= bound => Ok(len),
        _ => Err(FrameError::TooLarge { announced, limit }),
    }
}

/// Like `varint::encoded_len`, for a `usize`: there is no const conversion to `u64`.
const fn varint_len(len: usize) -> usize {
    let mut rest = len >> 7;
    let mut bytes = 1;
    while rest > 0 {
        rest >>= 7;
        bytes += 1;
    }
    bytes
}

/// Largest outer length that Go's reader accepts and its writer emits.
const GO_MAX_OUTER_LEN: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests;
