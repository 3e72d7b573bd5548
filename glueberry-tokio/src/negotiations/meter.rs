//! One negotiation, seen from the side that answers.

use std::io;
use std::sync::Arc;

use super::Negotiations;

/// Bounds what the peer may say until a name is agreed.
///
/// It counts what is read, and looks at what this side answers: those bytes are this side's own, so they are
/// whole messages of multistream-select, and show what was made of the peer's.
#[derive(Debug)]
pub struct Negotiation {
    /// None if it is the only one of its connection.
    of: Option<Arc<Negotiations>>,
    read: usize,
    refused: u32,
    is_cut_off: bool,
    answer: Answer,
}

/// How much of an answer has been written.
#[derive(Debug)]
enum Answer {
    Length { so_far: usize, shift: u32 },
    Text { left: usize, begin: [u8; HEADER.len()], have: usize },
}

impl Negotiation {
    /// Returns the negotiation of a whole connection, such as of what secures it.
    pub const fn alone() -> Self {
        Self::new(None)
    }

    pub(super) const fn of(negotiations: Arc<Negotiations>) -> Self {
        Self::new(Some(negotiations))
    }

    const fn new(of: Option<Arc<Negotiations>>) -> Self {
        Self { of, read: 0, refused: 0, is_cut_off: false, answer: Answer::NONE }
    }

    /// Returns how many bytes may be read.
    ///
    /// # Errors
    ///
    /// If the peer has said more than any negotiation needs. It is broken off then.
    pub fn may_read(&mut self) -> io::Result<usize> {
        if self.refused <= MAX_REFUSED && self.read < MAX_BYTES {
            return Ok(MAX_BYTES - self.read);
        }
        if !std::mem::replace(&mut self.is_cut_off, true)
            && let Some(of) = &self.of
        {
            of.has_no_end();
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the peer's negotiation has no end"))
    }

    /// Returns whether it was broken off.
    pub const fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// Counts bytes that were read.
    pub const fn has_read(&mut self, count: usize) {
        self.read = self.read.saturating_add(count);
    }

    /// This side has written some of its answers. Returns whether a name is agreed by them, and this over.
    pub fn has_written(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().any(|byte| match self.answer.push(*byte) {
            Some(Said::Agreed) => true,
            Some(Said::Refused) => {
                self.refused = self.refused.saturating_add(1);
                self.of.iter().for_each(|of| of.answers());
                false
            }
            Some(Said::Header) | None => false,
        })
    }
}

impl Drop for Negotiation {
    fn drop(&mut self) {
        if let Some(of) = &self.of {
            of.ended();
        }
    }
}

/// What one message of this side means.
enum Said {
    Header,
    /// A refusal, or a list of what there is.
    Refused,
    Agreed,
}

impl Answer {
    const NONE: Self = Self::Length { so_far: 0, shift: 0 };

    fn push(&mut self, byte: u8) -> Option<Said> {
        match self {
            Self::Length { so_far, shift } => {
                let bits = usize::from(byte & 0x7f);
                let left = *so_far | bits.checked_shl(*shift).unwrap_or(0);
                *self = match byte & 0x80 {
                    0 => Self::Text { left, begin: [0; HEADER.len()], have: 0 },
                    _ => Self::Length { so_far: left, shift: *shift + 7 },
                };
                None
            }
            Self::Text { left, begin, have } => {
                if let Some(place) = begin.get_mut(*have) {
                    *place = byte;
                    *have += 1;
                }
                *left = left.saturating_sub(1);
                if *left > 0 {
                    return None;
                }
                let said = match &begin[..*have] {
                    text if text == HEADER => Said::Header,
                    [b'/', ..] => Said::Agreed,
                    _ => Said::Refused,
                };
                *self = Self::NONE;
                Some(said)
            }
        }
    }
}

/// The longest that an honest peer proposes on a substream is a handful of names.
const MAX_REFUSED: u32 = 32;
/// The longest single message of multistream-select, and what it is beside.
const MAX_BYTES: usize = 16 * 1024;
const HEADER: &[u8] = b"/multistream/1.0.0\n";
