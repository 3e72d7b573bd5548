//! What a peer can do wrong in v2.

use thiserror::Error;

/// A violation of v2 by the peer, with the number that WIRE.md §10.1 gives it.
///
/// It is in [`PeerMisbehaved::V2`](crate::PeerMisbehaved::V2). A message above the limit is not among
/// them: it has the same reason in every profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame of the handshake substream is malformed.
    #[error("frame is malformed")]
    BadFrame,
    /// A frame is not allowed where it arrived.
    #[error("frame is not allowed here")]
    UnexpectedFrame,
    /// An ephemeral or encapsulation key, or what follows from it, is refused.
    #[error("key is refused")]
    BadKey,
    /// Both sides have no cipher suite in common.
    #[error("no cipher suite in common")]
    NoCommonSuite,
    /// Both sides have no type of channel binding in common.
    #[error("no channel binding in common")]
    NoCommonBinding,
    /// The confirmation does not verify: another key, another connection, or altered frames.
    #[error("confirmation does not verify")]
    BadConfirm,
    /// A record is malformed, or of a type that is not allowed here.
    #[error("record is malformed")]
    BadRecord,
    /// A record does not authenticate.
    #[error("record does not authenticate")]
    RecordAuthentication,
    /// Too many records or bytes under one key.
    #[error("key was used for too long")]
    EpochLimit,
    /// The length of a message is malformed.
    #[error("length of a message is malformed")]
    BadLength,
    /// An instance of a stream is repeated, mismatched or too far ahead.
    #[error("instance is repeated, mismatched or too far ahead")]
    Instance,
    /// The number of a message is not allowed.
    #[error("number of a message is not allowed")]
    Number,
    /// Too many control frames, or changes of keys.
    #[error("too many control frames or changes of keys")]
    Rate,
    /// Too many bytes that are dropped.
    #[error("too many handshake messages after the handshake")]
    Limit,
}

impl Violation {
    /// Returns the number that goes on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        u16::try_from(self.close_code()).unwrap_or(u16::MAX)
    }

    /// Returns the number as the transport's close code.
    pub(crate) const fn close_code(self) -> u64 {
        match self {
            Self::BadFrame => 16,
            Self::UnexpectedFrame => 17,
            Self::BadKey => 18,
            Self::NoCommonSuite => 19,
            Self::NoCommonBinding => 20,
            Self::BadConfirm => 21,
            Self::BadRecord => 22,
            Self::RecordAuthentication => 23,
            Self::EpochLimit => 24,
            Self::BadLength => 25,
            Self::Instance => 27,
            Self::Number => 28,
            Self::Rate => 29,
            Self::Limit => 30,
        }
    }
}
