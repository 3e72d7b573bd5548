//! Session v2, without a session: what WIRE.md §6 to §9 specify, in pieces that do no more than one
//! thing each.
//!
//! | piece | what |
//! |---|---|
//! | [`suite`], [`schedule`], [`agreement`], [`kem`] | keys |
//! | [`kex`], [`frame`], [`control`] | frames of the handshake substream |
//! | [`record`], `padding` | records, epochs |
//! | [`instance`], [`reader`], `body`, [`order`] | what a named stream's substream carries, and in which order |
//! | [`gate`] | the state machine of the handshake substream |

pub(crate) mod agreement;
mod body;
pub(crate) mod control;
pub(crate) mod frame;
pub(crate) mod gate;
pub(crate) mod instance;
pub(crate) mod kem;
pub(crate) mod kex;
pub(crate) mod order;
mod padding;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod schedule;
pub(crate) mod suite;
#[cfg(test)]
mod tests;
mod violation;

pub use self::padding::Padding;
pub use self::reader::PartialMessage;
pub use self::suite::Suite;
pub use self::violation::Violation;

/// Which side of the handshake substream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    /// Has opened it: I.
    Initiator,
    /// Has accepted it: R.
    Responder,
}

impl Role {
    /// Returns the byte for what this side writes.
    pub(crate) const fn direction(self) -> u8 {
        match self {
            Self::Initiator => 0,
            Self::Responder => 1,
        }
    }

    /// Returns the other side.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }

    /// Returns what is this side's and what is the other's in the order I, R.
    pub(crate) fn ordered<T>(self, own: T, others: T) -> [T; 2] {
        match self {
            Self::Initiator => [own, others],
            Self::Responder => [others, own],
        }
    }
}
