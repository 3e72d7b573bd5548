//! What a greeting wants done.

use bytes::Bytes;
use thiserror::Error;

use crate::crypto::{PublicKey, PublicKeyError};
use crate::version::{ProtocolVersion, VersionError};

/// Something that the application must do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an output that is dropped leaves both sides waiting"]
#[non_exhaustive]
pub enum Output {
    /// Send this handshake message.
    Send(Bytes),
    /// Prepare the streams with this key, which is the peer's identity; only then go on, because
    /// Complete comes next.
    Prepare(PublicKey),
    /// Finalize the handshake: both sides have prepared.
    Finalize,
    /// The greeting is over, and well; it comes behind [`Finalize`](Self::Finalize).
    Done {
        /// The version that the peer has told and that goes with ours, if both tell theirs.
        version: Option<ProtocolVersion>,
    },
    /// The greeting is over: reject the handshake.
    Reject(RejectReason),
}

/// Why a peer is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// The peer sent something else than a public key where its key belongs.
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
    /// The peer told a version that cannot be read.
    #[error("the peer told no version: {0}")]
    MalformedVersion(VersionError),
    /// The peer's version does not go with ours.
    #[error("the peer's version {theirs} does not go with {ours}")]
    IncompatibleVersion {
        /// Our version.
        ours: ProtocolVersion,
        /// The peer's version.
        theirs: ProtocolVersion,
    },
    /// The peer did not say all that is needed in time.
    #[error("the peer did not complete the greeting, asked {retries} times again")]
    TimedOut {
        /// How often all was said again.
        retries: u32,
    },
}
