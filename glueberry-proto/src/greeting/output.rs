//! What a greeting asks the application to do.

use bytes::Bytes;
use thiserror::Error;

use crate::crypto::{PublicKey, PublicKeyError};
use crate::version::{ProtocolVersion, VersionError};

/// A step that the application must take; steps are taken in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an output that is dropped leaves both sides waiting"]
#[non_exhaustive]
pub enum Output {
    /// Send this handshake message.
    Send(Bytes),
    /// Prepare the streams with this key, which is the peer's identity. Do so before the next output
    /// is carried out: it sends Complete, and the peer may then send on named streams.
    Prepare(PublicKey),
    /// Finalize the handshake: both sides have prepared.
    Finalize,
    /// The greeting has succeeded. Follows [`Finalize`](Self::Finalize).
    Done {
        /// The peer's version, which is compatible with ours; `None` unless both sides sent one.
        version: Option<ProtocolVersion>,
    },
    /// The greeting has failed: reject the handshake.
    Reject(RejectReason),
}

/// Why a peer is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// The PubKey message holds no public key.
    #[error("the peer sent no public key: {0}")]
    NotAKey(PublicKeyError),
    /// The peer sent a key that is not its identity.
    #[error("the peer sent the public key {given} and is {peer}")]
    WrongKey {
        /// The key that it sent.
        given: PublicKey,
        /// Its identity.
        peer: PublicKey,
    },
    /// The peer sent a version that cannot be parsed.
    #[error("the peer sent no version: {0}")]
    MalformedVersion(VersionError),
    /// The peer's version is not compatible with ours.
    #[error("the peer's version {theirs} is not compatible with {ours}")]
    IncompatibleVersion {
        /// Our version.
        ours: ProtocolVersion,
        /// The peer's version.
        theirs: ProtocolVersion,
    },
    /// The peer did not send all messages in time.
    #[error("the peer did not complete the greeting after {retries} repetitions")]
    TimedOut {
        /// How often our messages were repeated.
        retries: u32,
    },
}
