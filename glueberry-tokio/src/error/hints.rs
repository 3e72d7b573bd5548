//! Advice, by what has really happened: the code alone says too little.

use std::error::Error as StdError;
use std::io;

use glueberry_proto::book::ChangeError;
use glueberry_proto::crypto::{IdentityError, PublicKeyError};
use glueberry_proto::wire::StreamNameError;
use glueberry_proto::{
    CloseCode, CloseReason, ConnectError, ConnectionLost, DialError, HandshakeError, PeerError,
    SendError, StateReason,
};

use super::{ErrorCode, Misuse};
use crate::address::{AddressError, AddressProblem};
use crate::store::StoreError;

/// What a cause means for the caller that gets the error.
pub(super) struct Advice {
    pub(super) hint: &'static str,
    /// Whether the same command may succeed later, if that does not follow from the code.
    pub(super) is_retriable: Option<bool>,
}

const fn advice(hint: &'static str) -> Option<Advice> {
    Some(Advice { hint, is_retriable: None })
}

/// Waiting changes nothing.
const fn in_vain(hint: &'static str) -> Option<Advice> {
    Some(Advice { hint, is_retriable: Some(false) })
}

/// Returns the advice for a cause that says more than the code.
pub(super) fn of(source: &(dyn StdError + Send + Sync + 'static)) -> Option<Advice> {
    let source: &(dyn StdError + 'static) = source;
    None.or_else(|| source.downcast_ref().and_then(of_misuse))
        .or_else(|| source.downcast_ref().and_then(of_connect))
        .or_else(|| source.downcast_ref().and_then(of_peer))
        .or_else(|| source.downcast_ref().and_then(of_send))
        .or_else(|| source.downcast_ref().and_then(of_handshake))
        .or_else(|| source.downcast_ref().and_then(of_state))
        .or_else(|| source.downcast_ref().and_then(of_name))
        .or_else(|| source.downcast_ref().and_then(of_address))
        .or_else(|| source.downcast_ref().and_then(of_store))
        .or_else(|| source.downcast_ref::<PublicKeyError>().and_then(|_| of_key()))
        .or_else(|| source.downcast_ref::<IdentityError>().and_then(|_| of_identity()))
        .or_else(|| io_error(source).and_then(of_io))
}

fn of_misuse(misuse: &Misuse) -> Option<Advice> {
    match misuse {
        Misuse::NotBanned => advice("there is no ban to lift"),
        Misuse::UnknownPeer => advice("add the peer first"),
        Misuse::StreamTaken => {
            advice("use the handle that there is; the stream is free when that is dropped")
        }
        Misuse::NoRuntime => advice("build inside of a tokio runtime, or name one by `runtime`"),
        Misuse::NothingToEnd => advice("there is nothing to end"),
        Misuse::NoSession => advice("connect or dial first, then wait_established"),
        Misuse::NoBook => advice("name a file for the address book when the node is built"),
        Misuse::NoHandshake => advice("give the builder a handshake, or complete it by hand"),
        Misuse::NoStreams => advice("name the streams by `streams` when the node is built"),
        Misuse::ZeroLimit => advice("at least one request must be possible"),
        Misuse::NoPeer => advice("use what the peer's node returns as its `dial_addrs`"),
    }
}

fn of_connect(error: &ConnectError) -> Option<Advice> {
    match error {
        ConnectError::OwnKey => advice("this is the node's own id: which one is the peer's?"),
        ConnectError::AlreadyConnected => advice("nothing needs to be done: use the session"),
        ConnectError::ShuttingDown => advice("build another node"),
        _ => None,
    }
}

fn of_peer(error: &PeerError) -> Option<Advice> {
    match error {
        PeerError::OwnKey => advice("this is the node's own id: which one is the peer's?"),
        PeerError::Book(ChangeError::UnknownPeer) => advice("add the peer first"),
        PeerError::Book(ChangeError::TooManyAddresses { .. }) => {
            in_vain("name fewer addresses, or raise max_addresses")
        }
        PeerError::Book(ChangeError::TooManyEntries { .. }) => {
            in_vain("remove peers from the address book, or raise max_peers")
        }
        _ => None,
    }
}

fn of_send(error: &SendError) -> Option<Advice> {
    match error {
        SendError::HandshakeOver => advice("the handshake is over: send on a named stream"),
        _ => None,
    }
}

fn of_handshake(error: &HandshakeError) -> Option<Advice> {
    match error {
        HandshakeError::AlreadyFinalized => advice("nothing needs to be done: it is complete"),
        HandshakeError::TooManyStreams { .. } => in_vain("name fewer, or raise max_streams"),
        HandshakeError::NameNotAllowed { .. } => {
            advice("this peer allows 1 to 64 of A-Z, a-z, 0-9, `-` and `_`")
        }
        _ => None,
    }
}

fn of_state(reason: &StateReason) -> Option<Advice> {
    match reason {
        StateReason::DialFailed(error) | StateReason::AttemptsExhausted { last: error, .. } => {
            of_dial(error)
        }
        StateReason::SessionEnded(reason) => of_close(reason),
        _ => None,
    }
}

fn of_dial(error: &DialError) -> Option<Advice> {
    match error {
        DialError::NoUsableAddress => {
            in_vain("this node's transport dials none of the peer's addresses: add another")
        }
        DialError::WrongPeer { .. } => {
            in_vain("another node is at that address: which peer is it, or where is this one?")
        }
        DialError::Session(reason) => of_close(reason),
        _ => None,
    }
}

fn of_close(reason: &CloseReason) -> Option<Advice> {
    match reason {
        CloseReason::NoCommonProtocol => in_vain("let both sides support a common profile"),
        CloseReason::Rejected(_) => in_vain("the application on this side wants it so"),
        CloseReason::Downgrade { .. } => in_vain(
            "was v2 switched off at the peer? Then clear its pin; if not, an attacker is in between",
        ),
        CloseReason::EndedByPeer { code } => of_code(CloseCode::from(u64::from(*code))),
        CloseReason::ConnectionLost(ConnectionLost::ClosedByPeer { code }) => {
            of_code(CloseCode::from(*code))
        }
        _ => None,
    }
}

fn of_code(code: CloseCode) -> Option<Advice> {
    match code {
        CloseCode::Rejected => in_vain("the peer's application does not want this node"),
        CloseCode::NoCommonProtocol => in_vain("let both sides support a common profile"),
        CloseCode::Downgrade => in_vain("switch v2 on again, or have the peer clear its pin"),
        CloseCode::Refused => advice(
            "the peer takes no connection of this node now: does it ban it, was it disconnected \
             there, is it full?",
        ),
        CloseCode::Misbehaved => advice("do both sides run a version that speaks the same wire?"),
        CloseCode::Ended => advice("the peer has ended the connection; try again if it is wanted"),
        _ => None,
    }
}

fn of_name(error: &StreamNameError) -> Option<Advice> {
    match error {
        StreamNameError::Reserved => advice("`handshake` is reserved: choose another name"),
        _ => None,
    }
}

fn of_address(error: &AddressError) -> Option<Advice> {
    match error.problem {
        AddressProblem::OtherPeer(_) => advice(
            "which of the two peers is meant? to listen, leave /p2p/ out, or use the node's own id",
        ),
        AddressProblem::Unspecified | AddressProblem::NoPort => {
            advice("use what the peer's node returns as its `addrs`")
        }
        _ => None,
    }
}

fn of_store(error: &StoreError) -> Option<Advice> {
    match error {
        StoreError::InUse { .. } => {
            advice("another node has this book: stop that one, or give each a file of its own")
        }
        StoreError::NotAFile { .. } => advice("name a file"),
        StoreError::NoFolder { .. } => advice("is the folder there, was it removed?"),
        StoreError::Denied { .. } => advice("let this user write in the folder"),
        StoreError::DiskFull { .. } => advice("make room on the disk"),
        StoreError::TooLarge { .. } => advice("remove peers, or raise max_book_size"),
        _ => None,
    }
}

const fn of_key() -> Option<Advice> {
    advice("a peer's id must contain an Ed25519 key: it begins with 12D3KooW")
}

const fn of_identity() -> Option<Advice> {
    advice("make the node's identity by `Keypair::generate_ed25519`")
}

fn of_io(error: &io::Error) -> Option<Advice> {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            advice("another socket has that port: choose another, or 0 for any that is free")
        }
        io::ErrorKind::AddrNotAvailable => advice("the address is none of this machine's"),
        io::ErrorKind::PermissionDenied => {
            advice("this user may not listen there: choose a port above 1023")
        }
        _ => None,
    }
}

/// Returns what the system has said, if that is the root of an error.
fn io_error<'a>(mut error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    loop {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        error = error.source()?;
    }
}

/// Returns the advice that a code alone allows for.
pub(super) const fn of_error_code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::ConnectionFailed => {
            "is the peer running, is its address right, is a firewall between?"
        }
        ErrorCode::HandshakeFailed => {
            "do both sides follow the same handshake and speak a common version?"
        }
        ErrorCode::HandshakeTimeout => "is the peer slow? a longer handshake_timeout may help",
        ErrorCode::HandshakeNotComplete => {
            "wait for Established, as wait_established does; a handshake by hand leads there by \
             prepare_streams, then finalize_handshake"
        }
        ErrorCode::StreamClosed => "the session ended; wait for it to be established again",
        ErrorCode::StreamNotFound => {
            "name the stream in the builder's streams; a handshake by hand, in prepare_streams"
        }
        ErrorCode::StreamTaken => "use the handle that there is",
        ErrorCode::InvalidStreamName => "use 1 to 64 of A-Z, a-z, 0-9, `-` and `_`",
        ErrorCode::NoStreamsRequested => "name at least one stream",
        ErrorCode::InvalidPublicKey => "use the Ed25519 key that the peer id contains",
        ErrorCode::Unknown => "look at the cause",
        ErrorCode::EncryptionFailed => "the peer's key is of no use; do not trust it",
        ErrorCode::DecryptionFailed => {
            "was the record altered, or do both sides derive different keys?"
        }
        ErrorCode::InvalidMessage => "do both sides follow the same handshake?",
        ErrorCode::VersionMismatch => "one side must be brought up to date",
        ErrorCode::PeerNotFound => "add the peer and an address first, or dial an address",
        ErrorCode::PeerAlreadyExists => "use add_peer, which updates what is known",
        ErrorCode::PeerBlacklisted => "lift the ban with unblacklist_peer, if it is an error",
        ErrorCode::MetadataTooLarge => "note less, or raise max_metadata_size",
        ErrorCode::AddressBookFailed => "is the folder there and writable, is the disk full?",
        ErrorCode::NodeNotStarted => "start the node first",
        ErrorCode::Cancelled => "try again, if that is still wanted",
        ErrorCode::InvalidConfig => "correct what is named",
        ErrorCode::InvalidAddress => {
            "use an address such as /ip4/192.0.2.1/udp/4001/quic-v1; to dial one, /p2p/ and the \
             peer's id follow"
        }
        ErrorCode::ListenFailed => "is the port taken, is the address this machine's?",
        ErrorCode::NodeStopped => "build another node",
        ErrorCode::AlreadyConnected => "nothing needs to be done: use the session",
        ErrorCode::NotConnected => "connect or dial first, then wait_established",
        ErrorCode::InCooldown => "wait for the cooldown to pass",
        ErrorCode::MessageTooLarge => {
            "send less at once, or raise max_message_size on both sides; in a handshake, \
             max_handshake_size"
        }
        ErrorCode::Backpressure => "wait with send, or slow down",
        ErrorCode::LimitReached => "raise the limit that is named, or end what is not needed",
        ErrorCode::Internal => "please report it",
    }
}
