//! The three messages, as Go applications write and read them.

use bytes::{Bytes, BytesMut};

use crate::crypto::PublicKey;
use crate::prelude::*;
use crate::version::ProtocolVersion;

/// A message of the peer, with the part that has to be checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// With the bytes behind it: none, a name, or a version.
    Hello(&'a [u8]),
    /// With the bytes that should be the peer's key.
    PubKey(&'a [u8]),
    Complete,
}

impl<'a> Message<'a> {
    /// Parses a message. Returns `None` for those that Go applications ignore, too.
    pub(super) const fn parse(message: &'a [u8]) -> Option<Self> {
        match message {
            [HELLO, rest @ ..] => Some(Self::Hello(rest)),
            [PUB_KEY, key @ ..] => Some(Self::PubKey(key)),
            [COMPLETE, ..] => Some(Self::Complete),
            _ => None,
        }
    }
}

pub(super) fn hello(version: Option<ProtocolVersion>) -> Bytes {
    match version {
        None => Bytes::from_static(&[HELLO]),
        Some(version) => {
            let mut message = BytesMut::from(&[HELLO, VERSION_MARK][..]);
            message.extend_from_slice(version.to_string().as_bytes());
            message.freeze()
        }
    }
}

pub(super) fn pub_key(key: &PublicKey) -> Bytes {
    let mut message = BytesMut::from(&[PUB_KEY][..]);
    message.extend_from_slice(key.as_bytes());
    message.freeze()
}

pub(super) const fn complete() -> Bytes {
    Bytes::from_static(&[COMPLETE])
}

/// Returns the text of the version behind a Hello; `None` if there is nothing or a name.
pub(super) const fn version_text(behind_hello: &[u8]) -> Option<&[u8]> {
    match behind_hello {
        [VERSION_MARK, text @ ..] => Some(text),
        _ => None,
    }
}

const HELLO: u8 = 1;
const PUB_KEY: u8 = 2;
const COMPLETE: u8 = 3;

/// Distinguishes a version from a name: Go applications take names from the command line, where no
/// argument can hold a zero byte.
const VERSION_MARK: u8 = 0;
