//! Profiles, stream names and the protocol ids made of them.

use alloc::borrow::Borrow;
use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use super::frame::Framing;

/// The wire profile of a session, fixed by the protocol that its handshake substream negotiated.
///
/// ```
/// use glueberry_proto::Profile;
///
/// assert_eq!(Profile::V1.handshake_id().to_string(), "/glueberry/handshake/1.0.0");
/// assert_eq!(Profile::V1Go.handshake_id().to_string(), "/glueberry/stream/handshake/1.0.0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Profile {
    /// The protocol as Glueberry's document describes it.
    V1,
    /// The protocol as Go nodes implement it.
    V1Go,
    /// The second version: forward secrecy, authenticated ends, numbered messages. Its bytes are in
    /// `WIRE.md`.
    V2,
}

impl Profile {
    /// Every profile there is, in the order in which a dialler offers them.
    pub const ALL: [Self; 3] = [Self::V2, Self::V1, Self::V1Go];

    /// True if a session of this profile protects as much as one of the other, or more: v1-go is below
    /// v1, and v1 below v2.
    ///
    /// ```
    /// use glueberry_proto::Profile;
    ///
    /// assert!(Profile::V2.reaches(Profile::V1) && Profile::V1.reaches(Profile::V1));
    /// assert!(!Profile::V1Go.reaches(Profile::V1));
    /// ```
    #[must_use]
    pub const fn reaches(self, floor: Self) -> bool {
        self.rank() >= floor.rank()
    }

    const fn rank(self) -> u8 {
        match self {
            Self::V1Go => 0,
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// Returns how substreams of this profile are framed, the handshake's and the named ones alike. In
    /// v2 the frames of named substreams are inside of records.
    #[must_use]
    pub const fn framing(self) -> Framing {
        match self {
            Self::V1 => Framing::LengthPrefix,
            Self::V1Go => Framing::DoubleVarint,
            Self::V2 => Framing::Varint,
        }
    }

    /// Returns the protocol of the handshake substream.
    #[must_use]
    pub const fn handshake_id(self) -> ProtocolId {
        ProtocolId::Handshake(self)
    }

    /// Returns the protocol of the substreams that carry the stream `name`.
    #[must_use]
    pub const fn stream_id(self, name: StreamName) -> ProtocolId {
        match self {
            Self::V1 | Self::V1Go => ProtocolId::Stream { version: StreamVersion::V1, name },
            Self::V2 => ProtocolId::Stream { version: StreamVersion::V2, name },
        }
    }

    /// True if a session of this profile may carry a stream of this name.
    #[must_use]
    pub fn allows(self, name: &StreamName) -> bool {
        match self {
            Self::V1 | Self::V2 => name.is_portable(),
            // Every `StreamName` was checked by Go's rules at least.
            Self::V1Go => true,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V1Go => "v1-go",
            Self::V2 => "v2",
        })
    }
}

/// The name of a stream: 1 to 64 bytes, never `handshake`.
///
/// Names are compared as bytes. Nothing is normalised, so two names that look alike may differ.
/// Cloning is cheap.
///
/// ```
/// use glueberry_proto::StreamName;
///
/// assert_eq!(StreamName::new("messages")?.as_str(), "messages");
/// assert!(StreamName::new("a/b").is_err());
/// assert!(StreamName::new("handshake").is_err(), "reserved");
/// # Ok::<(), glueberry_proto::wire::StreamNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Checks a name that every profile allows: ASCII letters and digits, `-` and `_`.
    ///
    /// # Errors
    /// One variant of [`StreamNameError`] per rule.
    pub fn new(name: &str) -> Result<Self, StreamNameError> {
        Self::checked(name, is_portable)
    }

    /// Checks a name that Go nodes allow: Unicode letters and decimal digits, `-` and `_`.
    ///
    /// Only [`Profile::V1Go`] carries such a name. A Go node may know an older edition of Unicode
    /// than this crate and refuse letters that were added since.
    ///
    /// # Errors
    /// One variant of [`StreamNameError`] per rule.
    pub fn new_go(name: &str) -> Result<Self, StreamNameError> {
        Self::checked(name, is_go)
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if every profile allows this name.
    #[must_use]
    pub fn is_portable(&self) -> bool {
        self.0.chars().all(is_portable)
    }

    fn checked(name: &str, allowed: fn(char) -> bool) -> Result<Self, StreamNameError> {
        if name.is_empty() {
            return Err(StreamNameError::Empty);
        }
        if name.len() > MAX_STREAM_NAME_LEN {
            return Err(StreamNameError::TooLong { len: name.len() });
        }
        if let Some((at, _)) = name.char_indices().find(|(_, char)| !allowed(*char)) {
            return Err(StreamNameError::InvalidCharacter { at });
        }
        // In v1-go the handshake substream's id is that of a stream of this name.
        if name == HANDSHAKE {
            return Err(StreamNameError::Reserved);
        }
        Ok(Self(Arc::from(name)))
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for StreamName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for StreamName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Accepts any name that some profile allows.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for StreamName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new_go(&name).map_err(serde::de::Error::custom)
    }
}

impl Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamName {
    type Err = StreamNameError;

    /// Does what [`StreamName::new`] does.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl TryFrom<&str> for StreamName {
    type Error = StreamNameError;

    /// Does what [`StreamName::new`] does.
    fn try_from(name: &str) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

/// Why a text is no stream name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamNameError {
    /// The name has no characters.
    #[error("stream name is empty")]
    Empty,
    /// The name is longer than [`MAX_STREAM_NAME_LEN`].
    #[error("stream name has {len} bytes, {MAX_STREAM_NAME_LEN} allowed")]
    TooLong {
        /// The length of the name, in bytes.
        len: usize,
    },
    /// A character is not allowed in a name.
    #[error("stream name has an invalid character at byte {at}")]
    InvalidCharacter {
        /// Where the character starts, in bytes.
        at: usize,
    },
    /// The name is `handshake`.
    #[error("stream name is reserved")]
    Reserved,
}

/// The protocol that is negotiated for a substream.
///
/// ```
/// use glueberry_proto::{Profile, ProtocolId, StreamName};
///
/// let id = ProtocolId::parse("/glueberry/stream/chat/1.0.0")?;
/// assert_eq!(id, Profile::V1.stream_id(StreamName::new("chat").unwrap()));
/// # Ok::<(), glueberry_proto::wire::ProtocolIdError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProtocolId {
    /// The handshake substream of a session of this profile.
    Handshake(Profile),
    /// A substream of a named stream.
    ///
    /// [`Profile::V1`] and [`Profile::V1Go`] share these ids. The session knows from its handshake
    /// which of the two frames the substream.
    Stream {
        /// The version of records and frames.
        version: StreamVersion,
        /// The name of the stream.
        name: StreamName,
    },
    /// Proposed to find out whether a peer still answers; it carries no data. A refusal is an answer
    /// too, so any peer can be probed. On a connection that outlives its sessions, the probe is
    /// accepted while there is no session: the peer learns that its own session is over.
    Probe,
    /// Accepted by a node whose session on the connection is Established and which is not about to end
    /// it by itself; it carries no data. An end of a substream that came before the acceptance was no
    /// end of the peer, so it was an answer to this side's end.
    ///
    /// For transports without acknowledgements on which substreams overtake each other: there nothing
    /// else tells an answer from an end that has crossed this side's.
    Stays,
}

impl ProtocolId {
    /// Parses a protocol id.
    ///
    /// Names that only Go nodes allow are accepted in version 1, because both of its profiles share
    /// the id. [`Profile::allows`] checks a name against the session's profile.
    ///
    /// # Errors
    /// [`ProtocolIdError::Unknown`] if it is no id of Glueberry, [`ProtocolIdError::Name`] if it is
    /// the id of a stream whose name is not allowed.
    pub fn parse(id: &str) -> Result<Self, ProtocolIdError> {
        // The handshake of v1-go looks like a stream's id, so it must be compared first.
        match id {
            V1_HANDSHAKE => return Ok(Self::Handshake(Profile::V1)),
            V1_GO_HANDSHAKE => return Ok(Self::Handshake(Profile::V1Go)),
            V2_HANDSHAKE => return Ok(Self::Handshake(Profile::V2)),
            PROBE => return Ok(Self::Probe),
            STAYS => return Ok(Self::Stays),
            _ => {}
        }
        let rest = id.strip_prefix(STREAM_PREFIX).ok_or(ProtocolIdError::Unknown)?;
        if let Some(name) = rest.strip_suffix(V1_SUFFIX) {
            return Ok(Self::Stream {
                version: StreamVersion::V1,
                name: StreamName::new_go(name)?,
            });
        }
        let name = rest.strip_suffix(V2_SUFFIX).ok_or(ProtocolIdError::Unknown)?;
        Ok(Self::Stream { version: StreamVersion::V2, name: StreamName::new(name)? })
    }
}

impl fmt::Display for ProtocolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(Profile::V1) => f.write_str(V1_HANDSHAKE),
            Self::Handshake(Profile::V1Go) => f.write_str(V1_GO_HANDSHAKE),
            Self::Handshake(Profile::V2) => f.write_str(V2_HANDSHAKE),
            Self::Probe => f.write_str(PROBE),
            Self::Stays => f.write_str(STAYS),
            Self::Stream { version, name } => {
                let suffix = match version {
                    StreamVersion::V1 => V1_SUFFIX,
                    StreamVersion::V2 => V2_SUFFIX,
                };
                write!(f, "{STREAM_PREFIX}{name}{suffix}")
            }
        }
    }
}

impl FromStr for ProtocolId {
    type Err = ProtocolIdError;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        Self::parse(id)
    }
}

/// The version in the protocol id of a named stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StreamVersion {
    /// `1.0.0`, of [`Profile::V1`] and [`Profile::V1Go`].
    V1,
    /// `2.0.0`, of [`Profile::V2`].
    V2,
}

/// Why a text is no protocol id of Glueberry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolIdError {
    /// It belongs to another protocol, or to an unknown version of Glueberry.
    #[error("unknown protocol")]
    Unknown,
    /// It is the id of a stream whose name is not allowed.
    #[error(transparent)]
    Name(#[from] StreamNameError),
}

/// Longest stream name, in bytes of UTF-8.
pub const MAX_STREAM_NAME_LEN: usize = 64;

fn is_portable(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '-' | '_')
}

/// Go's `unicode.IsLetter` (category L), `unicode.IsDigit` (category Nd), `-` and `_`.
fn is_go(char: char) -> bool {
    is_portable(char)
        || char.general_category_group() == GeneralCategoryGroup::Letter
        || char.general_category() == GeneralCategory::DecimalNumber
}

const HANDSHAKE: &str = "handshake";
const V1_HANDSHAKE: &str = "/glueberry/handshake/1.0.0";
const V1_GO_HANDSHAKE: &str = "/glueberry/stream/handshake/1.0.0";
const V2_HANDSHAKE: &str = "/glueberry/handshake/2.0.0";
const PROBE: &str = "/glueberry/probe/1.0.0";
const STAYS: &str = "/glueberry/stays/1.0.0";
const STREAM_PREFIX: &str = "/glueberry/stream/";
const V1_SUFFIX: &str = "/1.0.0";
const V2_SUFFIX: &str = "/2.0.0";

#[cfg(test)]
mod tests;
