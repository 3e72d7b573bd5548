//! The ways in which an adversary breaks the protocol, or bends it as far as it goes.

use glueberry_proto::{PeerMisbehaved, Profile};
use serde::{Deserialize, Serialize};

macro_rules! attacks {
    ($($name:ident $text:literal,)*) => {
        /// What an adversary does to its peer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub(crate) enum Attack {
            $(#[doc = $text] $name,)*
        }

        impl Attack {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the name under which a attack is counted.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$name => concat!("adversary: ", $text),)* }
            }
        }
    };
}

// Each name is what the adversary does.
attacks! {
    // The handshake.
    Garbage "bytes that are no frame and no name",
    HugeHandshake "announces a handshake message of 60 megabytes",
    LongHandshake "announces a handshake message a byte above the limit, and sends it",
    HalfHandshake "ends the handshake substream within a message",
    EmptyHandshake "ends the handshake substream without a word",
    BrokenHandshake "resets the handshake substream within a message",
    TwoProtocols "uses a second handshake protocol",
    FutureProtocol "opens a handshake of version 2 beside one of version 1",
    SecondHandshake "opens a second handshake substream beside the first",
    LateHandshake "opens a handshake substream after the handshake",
    Silent "agrees on a handshake and says nothing",
    Unready "greets and never gets ready",
    Quiet "finalizes, and is silent from then on",
    Early "sends records before the handshake is over",
    Chatter "sends more in the handshake than a peer accepts",
    EmptyWords "floods the handshake with empty messages",
    TalksOn "goes on talking on the handshake substream once it is over",
    Slow "shakes hands a byte at a time",

    // Frames.
    HugeFrame "announces a frame a byte above the limit",
    EndlessFrame "announces the longest frame that can be announced",
    OverflowingLength "announces a length of more than 64 bits",
    PaddedLength "writes lengths as varints that are longer than need be",
    NoLength "sends a frame that has no room for its inner length",
    LongerInside "announces a body that is longer than its frame",
    Trailer "lets more bytes follow a body than a peer ignores",
    HalfHeader "ends within the header of a frame",
    HalfFrame "ends within the body of a frame",
    BrokenFrame "resets a substream within a frame",
    CreepingFrame "sends the largest frame a byte at a time, for ever",

    // Records.
    BadRecords "sends more records that don't open than are forgiven",
    ForgivenRecords "sends as many records that don't open as are forgiven, and a good one",
    ShortRecord "sends an empty frame in place of a record",
    TinyRecord "sends a record a byte shorter than nonce and tag",
    FlippedRecord "sends a record of which a bit is flipped",
    ForeignRecord "sends a record sealed with another pair's key",
    ZeroKeyRecord "sends a record sealed with a key of zeros",
    Replay "sends the same record again",
    ReplayElsewhere "sends the same record on two streams",
    NonceTwice "seals two messages with one nonce",
    Reflect "sends the peer's own records back",

    // Names.
    UnknownStreams "opens streams that were not prepared",
    LongStreamName "opens streams with names that are too long, or not allowed",
    NameBomb "opens hundreds of substreams, each by another name",
    EmptyName "proposes a name of no bytes",
    LongName "announces a name longer than names may be",
    BinaryName "proposes a name that is no text",
    HalfName "ends a substream within its name",
    CreepingNames "opens as many substreams as it may, and writes their names a byte at a time",
    Unanswering "never answers to a name",
    WrongAnswer "answers with a name that was not proposed",

    // Substreams.
    ManySubstreams "opens more substreams than are allowed, and says nothing",
    Churn "opens a stream and ends it at once, again and again",
    AbortedSubstreams "opens a stream and resets it at once, again and again",
    Hasty "says everything before its names are answered",
    HalfCloser "ends its half of every substream at once, and goes on reading",
    Stopper "refuses to read the substreams that it has agreed on",
    Resetter "resets every substream that the peer opens",
    Refuser "refuses every substream that the peer opens",
    NeverReads "agrees on substreams and never reads them",
    ProbeFlood "floods the peer with probes",

    // Connections.
    Hangup "hangs up in the middle of the handshake",
    LeavesOnGrant "hangs up as soon as the handshake is agreed",
    TalksAfterClose "closes the connection and goes on sending",
    Duplicates "connects several times at once, and holds each handshake",
    IdleDuplicates "connects several times at once, and says nothing on any connection",
    Redialler "connects, hangs up and connects again, many times",
    Rejoiner "becomes Established and leaves, again and again",
    BanEvader "is banned and dials on",
    Lookalike "claims the key of the peer that it dials",
    NoHandshake "opens streams on a connection without a handshake",
    PendingDial "dials a peer that has dialled it, and never agrees on the dial that is kept",
    HeldBack "has a session held back for its own dial, and then drops both connections",
    MuteProbes "connects again, and never answers whether it still lives",
    FalseProbes "connects again, and answers probes as if it had no session",
}

impl Attack {
    /// Returns whether it can be done in a wire profile at all.
    pub(crate) fn is_possible(self, profile: Profile) -> bool {
        let needs_varints = matches!(
            self,
            Self::OverflowingLength
                | Self::PaddedLength
                | Self::NoLength
                | Self::LongerInside
                | Self::Trailer
        );
        match profile {
            Profile::V2 => NEEDS_NO_KEYS.contains(&self),
            Profile::V1 => !needs_varints,
            _ => true,
        }
    }

    /// Returns whether the adversary can only do it to who has dialled it.
    pub(crate) const fn is_done_to_dialler(self) -> bool {
        matches!(self, Self::PendingDial | Self::HeldBack | Self::WrongAnswer)
    }

    /// Returns whether the adversary can do it to who has dialled it as well.
    pub(crate) fn is_passive(self) -> bool {
        PASSIVE.contains(&self)
    }

    /// Returns whether a peer that does no more than the attack may be blamed for this.
    pub(crate) const fn is_blamed_for(self, how: &PeerMisbehaved) -> bool {
        match how {
            PeerMisbehaved::MessageTooLarge { .. } => matches!(
                self,
                Self::Garbage
                    | Self::HugeHandshake
                    | Self::LongHandshake
                    | Self::HugeFrame
                    | Self::EndlessFrame
            ),
            PeerMisbehaved::BadFrame { .. } => matches!(
                self,
                Self::Garbage
                    | Self::HalfHandshake
                    | Self::OverflowingLength
                    | Self::NoLength
                    | Self::LongerInside
                    | Self::Trailer
                    | Self::HalfHeader
                    | Self::HalfFrame
            ),
            PeerMisbehaved::TooManyRejectedRecords { .. } => {
                matches!(self, Self::BadRecords | Self::Reflect)
            }
            PeerMisbehaved::EndlessNegotiations { .. } => false,
            PeerMisbehaved::TwoHandshakeProtocols => {
                matches!(self, Self::TwoProtocols | Self::FutureProtocol)
            }
            PeerMisbehaved::V2 { .. } => matches!(self, Self::Garbage),
            PeerMisbehaved::BadPreamble => matches!(
                self,
                Self::EmptyName | Self::LongName | Self::BinaryName | Self::WrongAnswer
            ),
            _ => false,
        }
    }
}

/// What an adversary can do that speaks v2 no further than its names.
const NEEDS_NO_KEYS: &[Attack] = &[
    Attack::Garbage,
    Attack::EmptyHandshake,
    Attack::Silent,
    Attack::SecondHandshake,
    Attack::EmptyName,
    Attack::LongName,
    Attack::BinaryName,
    Attack::HalfName,
    Attack::NameBomb,
    Attack::CreepingNames,
    Attack::Unanswering,
    Attack::WrongAnswer,
    Attack::ManySubstreams,
    Attack::ProbeFlood,
    Attack::Stopper,
    Attack::Resetter,
    Attack::Refuser,
    Attack::Hangup,
    Attack::LeavesOnGrant,
    Attack::Duplicates,
    Attack::IdleDuplicates,
    Attack::Redialler,
    Attack::BanEvader,
    Attack::Lookalike,
    Attack::NoHandshake,
    Attack::PendingDial,
    Attack::HeldBack,
];

/// What an adversary does to who dials it by chance.
pub(crate) const PASSIVE: &[Attack] = &[
    Attack::Silent,
    Attack::Refuser,
    Attack::Resetter,
    Attack::NeverReads,
    Attack::Hangup,
    Attack::Stopper,
    Attack::HalfCloser,
    Attack::Unanswering,
    Attack::LeavesOnGrant,
];
