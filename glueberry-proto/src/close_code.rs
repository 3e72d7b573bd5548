//! The numbers with which connections are closed.

use core::fmt;

/// What the peer says when it closes a connection. A hint that proves nothing: any host that answers at
/// the transport may say anything, and another implementation other numbers.
///
/// ```
/// use glueberry_proto::CloseCode;
///
/// assert_eq!(CloseCode::from(7), CloseCode::Refused);
/// assert_eq!(u64::from(CloseCode::Other(99)), 99);
/// assert_eq!(CloseCode::Refused.to_string(), "it takes no connection from here now");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseCode {
    /// It has ended the connection in order, or something else has used it.
    Ended,
    /// Its application does not want this node.
    Rejected,
    /// The handshake took too long, or its substream was lost.
    HandshakeFailed,
    /// It has kept another connection with this node.
    Superseded,
    /// It supports none of the profiles that this node offers.
    NoCommonProtocol,
    /// It has found that this node breaks the protocol.
    Misbehaved,
    /// It has found a bug of its own.
    Internal,
    /// It takes no connection of this node: a ban, a disconnect lately, or a limit.
    Refused,
    /// This node has spoken v2 with it before, and now comes with an earlier profile.
    Downgrade,
    /// A number without a meaning here.
    Other(u64),
}

impl From<u64> for CloseCode {
    fn from(code: u64) -> Self {
        match code {
            0 => Self::Ended,
            1 => Self::Rejected,
            2 => Self::HandshakeFailed,
            3 => Self::Superseded,
            4 => Self::NoCommonProtocol,
            5 => Self::Misbehaved,
            6 => Self::Internal,
            7 => Self::Refused,
            31 => Self::Downgrade,
            code => Self::Other(code),
        }
    }
}

impl From<CloseCode> for u64 {
    fn from(code: CloseCode) -> Self {
        code.as_u64()
    }
}

impl CloseCode {
    /// Returns the number.
    pub const fn as_u64(self) -> u64 {
        match self {
            Self::Ended => 0,
            Self::Rejected => 1,
            Self::HandshakeFailed => 2,
            Self::Superseded => 3,
            Self::NoCommonProtocol => 4,
            Self::Misbehaved => 5,
            Self::Internal => 6,
            Self::Refused => 7,
            Self::Downgrade => 31,
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "it has ended it",
            Self::Rejected => "its application does not want this node",
            Self::HandshakeFailed => "the handshake failed there",
            Self::Superseded => "it has kept another connection",
            Self::NoCommonProtocol => "it supports none of the offered protocols",
            Self::Misbehaved => "it says that this node breaks the protocol",
            Self::Internal => "it has an internal error",
            Self::Refused => "it takes no connection from here now",
            Self::Downgrade => "it holds this node to v2, which it has spoken before",
            Self::Other(code) => return write!(f, "its code is {code}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_belong_together() {
        for number in [0, 1, 2, 3, 4, 5, 6, 7, 8, 30, 31, 32, u64::MAX] {
            assert_eq!(u64::from(CloseCode::from(number)), number);
        }
    }
}
