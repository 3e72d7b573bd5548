//! Errors and reasons: one variant per cause. Local misuse, misbehaviour of the peer, loss of the
//! transport and internal errors are never the same variant.

use core::time::Duration;

use thiserror::Error;

use crate::book::ChangeError;
use crate::close_code::CloseCode;
use crate::config::ConfigError;
use crate::crypto::{AgreementError, PublicKey};
use crate::prelude::*;
use crate::v2::Violation;
use crate::wire::{FrameError, Profile, StreamName};

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The application asked for it.
    #[error("disconnected locally")]
    Disconnected,
    /// The application rejected the handshake.
    #[error("handshake rejected: {0}")]
    Rejected(String),
    /// The handshake took too long.
    #[error("handshake timed out")]
    HandshakeTimeout,
    /// Another session with the same peer was kept instead.
    #[error("another session with this peer was kept")]
    Superseded,
    /// The peer supports none of the profiles that this node offers.
    #[error("the peer supports none of the offered protocols")]
    NoCommonProtocol,
    /// The peer has spoken v2 before, and would have had a session of an earlier profile now. It may
    /// have gone back to an earlier version, or an attacker makes it look so.
    #[error("the peer has spoken v2 before, and now {}", offer(*.offered))]
    Downgrade {
        /// The profile of the session that there would have been, or was; `None` if the peer has refused
        /// v2 when it was dialled.
        offered: Option<Profile>,
    },
    /// The peer was banned locally.
    #[error("peer is blacklisted")]
    Blacklisted,
    /// There were too many sessions, and this one was chosen to make room.
    #[error("pruned to make room")]
    Pruned,
    /// Every handshake substream was lost before the handshake was over.
    #[error("the handshake substream was lost")]
    HandshakeLost,
    /// The peer has ended the session, which is certain (v2).
    #[error("ended by the peer{}", ending(*.code))]
    EndedByPeer {
        /// Why, as WIRE.md §10.1 numbers it. 0 is an orderly end, of a handshake too: nothing went
        /// wrong there, and it does not say why it ended.
        code: u16,
    },
    /// The transport connection was lost.
    #[error("connection lost: {0}")]
    ConnectionLost(ConnectionLost),
    /// The peer broke the protocol.
    #[error("peer misbehaved: {0}")]
    Misbehaved(PeerMisbehaved),
    /// The driver has dropped the session before its end.
    #[error("the driver has dropped the session")]
    Dropped,
    /// A bug in this library; please report it.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// Returns what a peer that was pinned to v2 has said in its place.
fn offer(profile: Option<Profile>) -> String {
    profile.map_or_else(|| "refuses it".to_owned(), |profile| format!("comes with {profile}"))
}

/// Returns what a peer has said as it ended a session, other than that nothing went wrong.
fn ending(code: u16) -> String {
    match CloseCode::from(u64::from(code)) {
        CloseCode::Ended => String::new(),
        code => format!(": {code}"),
    }
}

/// How a transport connection was lost.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectionLost {
    /// The peer closed it.
    #[error("closed by the peer: {}", CloseCode::from(*code))]
    ClosedByPeer {
        /// The number of a [`CloseCode`]; a hint that proves nothing.
        code: u64,
    },
    /// Nothing was received for too long.
    #[error("timed out")]
    TimedOut,
    /// The peer no longer knows it, for instance because it was restarted.
    #[error("reset by the peer")]
    Reset,
    /// This side's adapter closed it.
    #[error("closed by the adapter")]
    ClosedLocally,
    /// The transport failed in another way. Make the text of an error with
    /// [`printable`](crate::printable): it may quote the peer.
    #[error("transport failed: {0}")]
    Transport(String),
}

/// A violation of the protocol by the peer, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerMisbehaved {
    /// Announced a message above the limit, on the stream (`None`: on a handshake substream).
    #[error("announced {announced} bytes where {limit} are allowed")]
    MessageTooLarge {
        /// The stream, or `None` for a handshake substream.
        stream: Option<StreamName>,
        /// The announced length in bytes.
        announced: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// Sent a frame that cannot be read, or ended a substream inside one.
    #[error("sent a malformed frame: {error}")]
    BadFrame {
        /// The stream, or `None` for a handshake substream.
        stream: Option<StreamName>,
        /// What was wrong with it.
        error: FrameError,
    },
    /// Sent more records that fail to open than [`Config`](crate::Config) allows.
    #[error("sent {count} records that do not open")]
    TooManyRejectedRecords {
        /// How many.
        count: u32,
    },
    /// Used two different handshake protocols on one connection.
    #[error("used two handshake protocols on one connection")]
    TwoHandshakeProtocols,
    /// Broke a rule of v2.
    #[error("broke v2's rules: {violation}")]
    V2 {
        /// The stream, or `None` for the handshake substream.
        stream: Option<StreamName>,
        /// Which rule.
        violation: Violation,
    },
    /// Sent bytes that are no name at the start of a substream.
    #[error("sent a malformed substream name")]
    BadPreamble,
    /// Proposed protocols without end, again and again.
    #[error("proposed protocols without end on {count} substreams")]
    EndlessNegotiations {
        /// On how many substreams.
        count: u32,
    },
}

/// Why a received record was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Shorter than a nonce and a tag.
    #[error("record of {got} bytes is too short")]
    TooShort {
        /// Its length in bytes.
        got: usize,
    },
    /// The tag does not match: altered, or sealed with another key.
    #[error("record does not authenticate")]
    Authentication,
    /// It carries a nonce that this side used recently: a message was reflected.
    #[error("record was sealed by this side")]
    Reflected,
    /// It carries a nonce that was received recently.
    #[error("record was received before")]
    Replayed,
}

/// Why a message was not accepted for sending. It was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session is not Established yet (handshake messages: not Connected yet).
    #[error("session is not established")]
    NotEstablished,
    /// The handshake is over; no more handshake messages can be sent.
    #[error("handshake is over")]
    HandshakeOver,
    /// The session has ended or is ending.
    #[error("session is closed")]
    Closed,
    /// No stream of that name was prepared.
    #[error("stream was not prepared")]
    UnknownStream,
    /// Longer than the limit.
    #[error("message of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Its length in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The queue has reached its high watermark. [`Event::Writable`](crate::Event::Writable) follows
    /// when it has drained.
    #[error("queue is full")]
    Backpressure,
}

/// Why a step of the handshake was refused. The session is as it was.
///
/// [`prepare_streams`](crate::Session::prepare_streams) and
/// [`finalize_handshake`](crate::Session::finalize_handshake) return it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The session is not Connected.
    #[error("session is not connected")]
    NotConnected,
    /// `prepare_streams` must come first.
    #[error("streams were not prepared")]
    NotPrepared,
    /// The handshake was finalized before.
    #[error("handshake is already finalized")]
    AlreadyFinalized,
    /// The session has ended or is ending.
    #[error("session is closed")]
    Closed,
    /// No stream was named.
    #[error("no stream was named")]
    NoStreams,
    /// More streams than a session may have.
    #[error("{requested} streams exceed the limit of {limit}")]
    TooManyStreams {
        /// How many were asked for in all.
        requested: usize,
        /// The limit.
        limit: usize,
    },
    /// The session's profile does not carry a stream of this name.
    #[error("stream name `{name}` is not allowed by the session's profile")]
    NameNotAllowed {
        /// The name.
        name: StreamName,
    },
    /// The key is not the one that the transport has authenticated.
    #[error("public key {given} is not the peer's, which is {peer}")]
    WrongKey {
        /// The key that was given.
        given: PublicKey,
        /// The peer's identity.
        peer: PublicKey,
    },
    /// No key could be agreed on.
    #[error("key agreement failed: {0}")]
    Agreement(AgreementError),
}

/// Why a dial was not started. The node is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The peer is this node itself.
    #[error("cannot connect to oneself")]
    OwnKey,
    /// No address is known.
    #[error("no address is known for the peer")]
    NoAddress,
    /// Already Connected or Established.
    #[error("there is a session with the peer")]
    AlreadyConnected,
    /// The peer is banned.
    #[error("peer is blacklisted")]
    Blacklisted,
    /// The peer's handshake failed recently.
    #[error("peer is in cooldown for another {remaining:?}")]
    InCooldown {
        /// Time left.
        remaining: Duration,
    },
    /// A limit of the configuration is reached.
    #[error("limit reached: {0}")]
    LimitReached(&'static str),
    /// The node is shutting down.
    #[error("node is shutting down")]
    ShuttingDown,
}

/// Why the settings or the address book entry of a peer were not changed. The node is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The peer is this node itself.
    #[error("a node is no peer of itself")]
    OwnKey,
    /// The address book refuses it.
    #[error(transparent)]
    Book(#[from] ChangeError),
    /// The reconnect policy cannot work.
    #[error(transparent)]
    Policy(#[from] ConfigError),
    /// A limit of the configuration is reached.
    #[error("limit reached: {0}")]
    LimitReached(&'static str),
}

/// Why the node refused a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RefuseReason {
    /// The peer claims this node's own key.
    #[error("own key")]
    OwnKey,
    /// Its dial was cancelled.
    #[error("dial was cancelled")]
    DialCancelled,
    /// A peer other than the dialled one answered.
    #[error("answered by another peer than was dialled")]
    WrongPeer,
    /// The peer is banned.
    #[error("peer is blacklisted")]
    Blacklisted,
    /// The peer's handshake failed recently.
    #[error("peer is in cooldown")]
    InCooldown,
    /// The peer was recently disconnected locally.
    #[error("peer was disconnected locally")]
    Disconnected,
    /// There is a session with this peer, and it is kept.
    #[error("peer has a session")]
    AlreadyConnected,
    /// A limit of the configuration is reached.
    #[error("limit reached: {0}")]
    LimitReached(&'static str),
    /// The node is shutting down.
    #[error("node is shutting down")]
    ShuttingDown,
}

/// Why a dial failed, as the adapter reports it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DialError {
    /// There was no answer in time.
    #[error("timed out")]
    TimedOut,
    /// No address could be used by this transport.
    #[error("no usable address")]
    NoUsableAddress,
    /// Another peer answered.
    #[error("answered by {actual} and not by the peer that was dialled")]
    WrongPeer {
        /// The peer that answered, as text.
        actual: String,
    },
    /// The transport failed. Make the text of an error with [`printable`](crate::printable): it may
    /// quote the peer.
    #[error("{0}")]
    Transport(String),
    /// The session failed before it was Connected.
    #[error("session ended first: {0}")]
    Session(CloseReason),
    /// The peer has answered, and a limit of this node's configuration allowed no session with it.
    /// Not counted as an attempt.
    #[error("limit reached: {0}")]
    LimitReached(&'static str),
}
