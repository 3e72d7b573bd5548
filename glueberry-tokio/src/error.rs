//! The one error type of the async node.

mod hints;

use std::error::Error as StdError;
use std::fmt;

use glueberry_proto::book::ChangeError;
use glueberry_proto::crypto::AgreementError;
use glueberry_proto::greeting::RejectReason;
use glueberry_proto::{
    CloseCode, CloseReason, ConfigError, ConnectError, DialError, HandshakeError, PeerError,
    RecordError, SendError, StateReason, printable,
};
use libp2p_identity::PeerId;

use self::hints::Advice;

/// Why an operation of a [`Node`](crate::Node) failed.
///
/// Match on [`code`](Self::code): the text is for people. [`source`](StdError::source) is the typed
/// cause. `{}` prints the error alone, `{:#}` the error and its causes. `{:?}`, which is what a `main`
/// that returns the error and a failed `unwrap` print, adds the [`hint`](Self::hint); `{:#?}` prints the
/// parts.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::{ErrorCode, identity::PeerId};
///
/// let node = node().await?;
/// let stranger = PeerId::from(glueberry_tokio::identity::Keypair::generate_ed25519().public());
/// let error = node.connect(stranger).await.unwrap_err();
/// assert_eq!(error.code(), ErrorCode::PeerNotFound);
/// assert_eq!(error.peer(), Some(stranger));
/// assert!(!error.is_retriable());
/// assert_eq!(format!("{error:?}"), format!("{error:#}; {}", error.hint()));
/// # Ok(())
/// # }
/// ```
pub struct Error(Box<Parts>);

struct Parts {
    code: ErrorCode,
    peer: Option<PeerId>,
    stream: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of error it is. The names are those of the architecture document, §11.1 and §11.2.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::ErrorCode;
///
/// let node = node().await?;
/// match node.try_send(node.peer_id(), "chat", "hello").map_err(|error| error.code()) {
///     Ok(()) => {}
///     Err(ErrorCode::Backpressure) => println!("the peer is slow: later"),
///     Err(ErrorCode::NotConnected) => println!("connect first"),
///     Err(other) => println!("{other}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The cause has no code of its own.
    Unknown,
    /// The peer could not be reached.
    ConnectionFailed,
    /// The handshake failed or was rejected.
    HandshakeFailed,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The handshake has not reached the stage that the operation needs.
    HandshakeNotComplete,
    /// The stream, or the session that carried it, is closed.
    StreamClosed,
    /// No stream of that name was prepared.
    StreamNotFound,
    /// There is a [`StreamHandle`](crate::StreamHandle) for the stream already.
    StreamTaken,
    /// The name is not valid for a stream.
    InvalidStreamName,
    /// No streams were named.
    NoStreamsRequested,
    /// The public key is not the peer's, or not an Ed25519 key that Glueberry can use.
    InvalidPublicKey,
    /// No key could be agreed on with the peer.
    EncryptionFailed,
    /// A record of the peer could not be decrypted.
    DecryptionFailed,
    /// A handshake message of the peer is not the one that is expected.
    InvalidMessage,
    /// The peer's protocol version is not compatible.
    VersionMismatch,
    /// No address is known for the peer.
    PeerNotFound,
    /// The peer is in the address book already.
    PeerAlreadyExists,
    /// The peer is banned.
    PeerBlacklisted,
    /// The metadata of a peer is larger than the limit.
    MetadataTooLarge,
    /// The address book cannot be read or stored.
    AddressBookFailed,
    /// The configuration is not valid.
    InvalidConfig,
    /// This transport cannot use the address.
    InvalidAddress,
    /// The node could not listen on an address.
    ListenFailed,
    /// The node has not been started.
    NodeNotStarted,
    /// The node has shut down, or is about to.
    NodeStopped,
    /// There is a session already.
    AlreadyConnected,
    /// There is no session with the peer.
    NotConnected,
    /// The peer's last handshake failed, and its cooldown is not over.
    InCooldown,
    /// The operation was cancelled by a disconnect, a ban, or the end of the node.
    Cancelled,
    /// The message is longer than the limit.
    MessageTooLarge,
    /// The send queue is full.
    Backpressure,
    /// A limit of the configuration is reached.
    LimitReached,
    /// A bug in this library.
    Internal,
}

impl Error {
    pub(crate) fn new(code: ErrorCode) -> Self {
        Self(Box::new(Parts { code, peer: None, stream: None, source: None }))
    }

    pub(crate) fn of_peer(mut self, peer: PeerId) -> Self {
        self.0.peer = Some(peer);
        self
    }

    pub(crate) fn on_stream(mut self, stream: &str) -> Self {
        self.0.stream = Some(stream.to_owned());
        self
    }

    /// Makes an error out of its cause, for a [`Fabric`](crate::adapter::Fabric) that can't start.
    pub fn because(code: ErrorCode, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Box::new(Parts { code, peer: None, stream: None, source: Some(source.into()) }))
    }

    /// Returns what kind of error it is.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// Returns the peer that it is about.
    pub fn peer(&self) -> Option<PeerId> {
        self.0.peer
    }

    /// Returns the stream that it is about.
    pub fn stream(&self) -> Option<&str> {
        self.0.stream.as_deref()
    }

    /// Returns whether the same command may succeed later without anything else being changed.
    pub fn is_retriable(&self) -> bool {
        let by_code = matches!(
            self.0.code,
            ErrorCode::ConnectionFailed
                | ErrorCode::HandshakeTimeout
                | ErrorCode::InCooldown
                | ErrorCode::Backpressure
                | ErrorCode::LimitReached
        );
        self.advice().and_then(|advice| advice.is_retriable).unwrap_or(by_code)
    }

    /// Returns a word of advice, by the cause if there is one.
    pub fn hint(&self) -> &'static str {
        self.advice().map_or_else(|| hints::of_error_code(self.0.code), |advice| advice.hint)
    }

    fn advice(&self) -> Option<Advice> {
        self.0.source.as_deref().and_then(hints::of)
    }
}

/// What it says of an error, in words.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// On one line, without the cause, which [`source`](StdError::source) leads to. With `{:#}` the
/// causes follow.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code.text())?;
        match (&self.0.stream, &self.0.peer) {
            (None, None) => {}
            (Some(stream), None) => write!(f, " (stream `{}`)", printable(stream))?,
            (None, Some(peer)) => write!(f, " (peer {peer})")?,
            (Some(stream), Some(peer)) => {
                write!(f, " (stream `{}`, peer {peer})", printable(stream))?;
            }
        }
        match &self.0.source {
            Some(source) if f.alternate() => write!(f, ": {}", chain(&**source)),
            _ => Ok(()),
        }
    }
}

/// On one line, with the causes and the hint; with `{:#?}`, part by part.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return write!(f, "{self:#}; {}", self.hint());
        }
        let Parts { code, peer, stream, source } = &*self.0;
        f.debug_struct("Error")
            .field("code", code)
            .field("peer", peer)
            .field("stream", stream)
            .field("source", source)
            .finish()
    }
}

/// Writes out an error and what caused it, on one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    // Its last part may be what the peer gave as its reason.
    printable(text)
}

/// What was wrong with a command, where no other type says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misuse {
    #[error("the peer is not banned")]
    NotBanned,
    #[error("the peer is not in the address book")]
    UnknownPeer,
    #[error("there is a handle for this stream")]
    StreamTaken,
    #[error("no runtime was named, and the caller is inside of none")]
    NoRuntime,
    #[error("there is no session, dial or attempt")]
    NothingToEnd,
    #[error("there is no session with the peer")]
    NoSession,
    #[error("the address book has no file")]
    NoBook,
    #[error("the node holds no handshakes itself")]
    NoHandshake,
    #[error("the node is to hold the handshake, and no streams were named")]
    NoStreams,
    #[error("the address does not end with /p2p and the peer's id")]
    NoPeer,
    #[error("a limit of requests is zero")]
    ZeroLimit,
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| {
            let source: &(dyn StdError + 'static) = &**source;
            source
        })
    }
}

impl ErrorCode {
    const fn text(self) -> &'static str {
        match self {
            Self::ConnectionFailed => "connection failed",
            Self::HandshakeFailed => "handshake failed",
            Self::HandshakeTimeout => "handshake took too long",
            Self::HandshakeNotComplete => "handshake is not complete",
            Self::StreamClosed => "stream is closed",
            Self::StreamNotFound => "stream not found",
            Self::StreamTaken => "stream is taken",
            Self::InvalidStreamName => "invalid stream name",
            Self::NoStreamsRequested => "no streams requested",
            Self::InvalidPublicKey => "invalid public key",
            Self::Unknown => "unknown error",
            Self::EncryptionFailed => "encryption failed",
            Self::DecryptionFailed => "decryption failed",
            Self::InvalidMessage => "invalid message",
            Self::VersionMismatch => "protocol version mismatch",
            Self::PeerNotFound => "peer not found",
            Self::PeerAlreadyExists => "peer already exists",
            Self::PeerBlacklisted => "peer is banned",
            Self::MetadataTooLarge => "metadata are too large",
            Self::AddressBookFailed => "address book failed",
            Self::NodeNotStarted => "node is not started",
            Self::Cancelled => "cancelled",
            Self::InvalidConfig => "invalid configuration",
            Self::InvalidAddress => "invalid address",
            Self::ListenFailed => "cannot listen",
            Self::NodeStopped => "node is stopped",
            Self::AlreadyConnected => "already connected",
            Self::NotConnected => "not connected",
            Self::InCooldown => "peer is in cooldown",
            Self::MessageTooLarge => "message is too large",
            Self::Backpressure => "backpressure",
            Self::LimitReached => "limit reached",
            Self::Internal => "internal error",
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::because(ErrorCode::InvalidConfig, error)
    }
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        let code = match error {
            PeerError::OwnKey => ErrorCode::InvalidPublicKey,
            PeerError::Policy(error) => return error.into(),
            PeerError::Book(ChangeError::UnknownPeer) => ErrorCode::PeerNotFound,
            PeerError::Book(ChangeError::AddressTooLong { .. }) => ErrorCode::InvalidAddress,
            PeerError::Book(ChangeError::MetadataTooLarge { .. }) => ErrorCode::MetadataTooLarge,
            _ => ErrorCode::LimitReached,
        };
        Self::because(code, error)
    }
}

/// A record that was not delivered, from the event that reported it.
impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        Self::because(ErrorCode::DecryptionFailed, error)
    }
}

/// No key could be agreed on with what was given for a peer's.
impl From<AgreementError> for Error {
    fn from(error: AgreementError) -> Self {
        Self::because(ErrorCode::EncryptionFailed, error)
    }
}

/// Why a [greeting](glueberry_proto::greeting) ended in a rejection.
impl From<RejectReason> for Error {
    fn from(reason: RejectReason) -> Self {
        let code = match reason {
            RejectReason::NotAKey(_) | RejectReason::WrongKey { .. } => ErrorCode::InvalidPublicKey,
            RejectReason::MalformedVersion(_) => ErrorCode::InvalidMessage,
            RejectReason::IncompatibleVersion { .. } => ErrorCode::VersionMismatch,
            RejectReason::TimedOut { .. } => ErrorCode::HandshakeTimeout,
            _ => ErrorCode::HandshakeFailed,
        };
        Self::because(code, reason)
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        let code = match error {
            ConnectError::OwnKey => ErrorCode::InvalidPublicKey,
            ConnectError::NoAddress => ErrorCode::PeerNotFound,
            ConnectError::AlreadyConnected => ErrorCode::AlreadyConnected,
            ConnectError::Blacklisted => ErrorCode::PeerBlacklisted,
            ConnectError::InCooldown { .. } => ErrorCode::InCooldown,
            ConnectError::ShuttingDown => ErrorCode::NodeStopped,
            _ => ErrorCode::LimitReached,
        };
        Self::because(code, error)
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        let code = match error {
            SendError::NotEstablished => ErrorCode::HandshakeNotComplete,
            SendError::HandshakeOver | SendError::Closed => ErrorCode::StreamClosed,
            SendError::UnknownStream => ErrorCode::StreamNotFound,
            SendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            SendError::Backpressure => ErrorCode::Backpressure,
            _ => ErrorCode::Internal,
        };
        Self::because(code, error)
    }
}

impl From<HandshakeError> for Error {
    fn from(error: HandshakeError) -> Self {
        let code = match error {
            HandshakeError::NotConnected | HandshakeError::Closed => ErrorCode::NotConnected,
            HandshakeError::NotPrepared => ErrorCode::HandshakeNotComplete,
            HandshakeError::AlreadyFinalized => ErrorCode::StreamClosed,
            HandshakeError::NoStreams => ErrorCode::NoStreamsRequested,
            HandshakeError::TooManyStreams { .. } => ErrorCode::LimitReached,
            HandshakeError::NameNotAllowed { .. } => ErrorCode::InvalidStreamName,
            HandshakeError::WrongKey { .. } => ErrorCode::InvalidPublicKey,
            HandshakeError::Agreement(_) => ErrorCode::EncryptionFailed,
            _ => ErrorCode::Internal,
        };
        Self::because(code, error)
    }
}

/// Why a connection did not come about, from the event that reported it.
impl From<StateReason> for Error {
    fn from(reason: StateReason) -> Self {
        let code = match &reason {
            StateReason::DialFailed(DialError::Session(reason))
            | StateReason::SessionEnded(reason) => match reason {
                CloseReason::HandshakeTimeout => ErrorCode::HandshakeTimeout,
                CloseReason::Rejected(_)
                | CloseReason::NoCommonProtocol
                | CloseReason::Downgrade { .. } => ErrorCode::HandshakeFailed,
                CloseReason::EndedByPeer { code } => of_ending(CloseCode::from(u64::from(*code))),
                CloseReason::Internal(_) => ErrorCode::Internal,
                _ => ErrorCode::ConnectionFailed,
            },
            StateReason::DialFailed(DialError::LimitReached(_)) => ErrorCode::LimitReached,
            StateReason::DialFailed(_) | StateReason::AttemptsExhausted { .. } => {
                ErrorCode::ConnectionFailed
            }
            StateReason::Blacklisted => ErrorCode::PeerBlacklisted,
            StateReason::Disconnected
            | StateReason::ReconnectionCancelled
            | StateReason::ShuttingDown
            | StateReason::Pruned => ErrorCode::Cancelled,
            StateReason::NoAddress => ErrorCode::PeerNotFound,
            _ => ErrorCode::NotConnected,
        };
        Self::because(code, reason)
    }
}

/// Returns what it means that the peer has ended the session, which is certain.
const fn of_ending(code: CloseCode) -> ErrorCode {
    match code {
        CloseCode::HandshakeFailed
        | CloseCode::Rejected
        | CloseCode::NoCommonProtocol
        | CloseCode::Downgrade => ErrorCode::HandshakeFailed,
        _ => ErrorCode::ConnectionFailed,
    }
}
