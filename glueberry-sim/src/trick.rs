//! The ways in which a rogue breaks the protocol.

use serde::{Deserialize, Serialize};

/// How a rogue breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Trick {
    /// Bytes that are no frame and no name.
    Garbage,
    /// Announces a handshake message of gigabytes.
    HugeHandshake,
    /// Announces a handshake message a little above the limit, and sends it.
    LongHandshake,
    /// Announces a frame on a named stream above the limit.
    HugeFrame,
    /// Ends a substream within a frame.
    HalfFrame,
    /// Uses a second handshake protocol.
    TwoProtocols,
    /// Opens more substreams than are allowed, and says nothing.
    ManySubstreams,
    /// Opens named streams that nobody has prepared.
    UnknownStreams,
    /// Never finalizes.
    Silent,
    /// Sends records that don't open.
    BadRecords,
    /// Sends the same record twice.
    Replay,
    /// Sends the peer's own record back.
    Reflect,
    /// Sends records before the handshake is over.
    Early,
    /// Says so much in the handshake that no application wants to hear it.
    Chatter,
    /// Resets every substream that the peer opens.
    Resetter,
    /// Refuses every substream that the peer opens.
    Refuser,
    /// Takes a substream and never reads it.
    Deaf,
    /// Sends a handshake byte by byte, slowly.
    Slow,
    /// Sends an empty frame, which is too short for a record.
    ShortRecord,
    /// Closes the connection in the middle of a handshake.
    Hangup,
}

impl Trick {
    /// Returns the name under which a trick is counted.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Garbage => "rogue: garbage",
            Self::HugeHandshake => "rogue: huge handshake message",
            Self::LongHandshake => "rogue: handshake message above the limit",
            Self::HugeFrame => "rogue: frame above the limit",
            Self::HalfFrame => "rogue: ends within a frame",
            Self::TwoProtocols => "rogue: two handshake protocols",
            Self::ManySubstreams => "rogue: too many substreams",
            Self::UnknownStreams => "rogue: unknown streams",
            Self::Silent => "rogue: silent",
            Self::BadRecords => "rogue: records that don't open",
            Self::Replay => "rogue: repeated record",
            Self::Reflect => "rogue: reflected records",
            Self::Early => "rogue: records before the handshake is over",
            Self::Chatter => "rogue: chatter",
            Self::Resetter => "rogue: resets substreams",
            Self::Refuser => "rogue: refuses substreams",
            Self::Deaf => "rogue: never reads",
            Self::Slow => "rogue: byte by byte",
            Self::ShortRecord => "rogue: short record",
            Self::Hangup => "rogue: hangs up",
        }
    }
}

/// All tricks, for drawing one.
pub(crate) const TRICKS: [Trick; 20] = [
    Trick::Garbage,
    Trick::HugeHandshake,
    Trick::LongHandshake,
    Trick::HugeFrame,
    Trick::HalfFrame,
    Trick::TwoProtocols,
    Trick::ManySubstreams,
    Trick::UnknownStreams,
    Trick::Silent,
    Trick::BadRecords,
    Trick::Replay,
    Trick::Reflect,
    Trick::Early,
    Trick::Chatter,
    Trick::Resetter,
    Trick::Refuser,
    Trick::Deaf,
    Trick::Slow,
    Trick::ShortRecord,
    Trick::Hangup,
];
