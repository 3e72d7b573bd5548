//! What is sent to the node's task, and from it to a session.

use std::fmt;

use bytes::Bytes;
use futures_channel::oneshot;
use glueberry_proto::book::Revision;
use glueberry_proto::{
    Address, Closed, DialError, DialId, Instant, NewConnection, Node, PeerStatus, PublicKey,
    SessionId, StreamName, ToNode, ToSession,
};
use tracing::span::Id;

use crate::error::Error;
use crate::mailbox::answer;
use crate::store::{Loaded, StoreError};
use crate::transport::PendingConnection;

/// Who waits for the outcome of [`connect`](crate::Node::connect).
pub(crate) struct ConnectCaller {
    pub(crate) answer: Answer<()>,
    /// The span that the connection follows from. Not the span itself: it ends with the call.
    pub(crate) cause: Option<Id>,
}

/// A command to the node's task, or something that it must know.
pub(crate) enum NodeCommand {
    // From handles.
    /// A call of the core's node.
    Call(CoreCall),
    /// One that changes the address book, and the change for a book that replaces it meanwhile.
    Change(CoreCall, BookChange),
    Connect(PublicKey, ConnectCaller),
    Handshake(HandshakeRequest),
    FlushBook(Answer<()>),
    ReloadBook(Answer<()>),
    Examine(oneshot::Sender<Examination>),
    Shutdown(Option<oneshot::Sender<()>>),
    // From sessions, each behind the session's own messages to the core's node.
    FromSession(SessionId, ToNode),
    /// The result of a handshake command, to be given once its effect is published.
    HandshakeDone(HandshakeCommand, Result<(), Error>),
    SessionClosed(SessionId, Closed),
    SessionGone(SessionId),
    // From the transport.
    Connection(NewConnection, Box<dyn PendingConnection>),
    DialAnswered(DialId, Address),
    DialFailed(DialId, DialError),
    // From the thread that stores the address book.
    BookSaved(Result<Revision, StoreError>),
    BookLoaded(Box<Result<Loaded, StoreError>>),
    BookClosed,
}

/// A call of the core's node.
pub(crate) type CoreCall = Box<dyn FnOnce(&mut Node, Instant) -> Reply + Send>;

/// A change of the address book, which may be made more than once.
pub(crate) type BookChange = Box<dyn Fn(&mut Node, Instant) + Send>;

/// Answers the caller, once the effect of the call is published.
pub(crate) type Reply = Box<dyn FnOnce() + Send>;

/// Where the result of a command goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// A handshake command for the session of a peer that is current.
#[derive(Debug)]
pub(crate) struct HandshakeRequest {
    pub(crate) peer: PublicKey,
    pub(crate) command: HandshakeCommand,
    /// How many sessions have got it.
    pub(crate) tries: u32,
    /// Set by a session that is not the current one any more, or has ended.
    pub(crate) returned: Option<Box<Returned>>,
}

impl HandshakeRequest {
    pub(crate) const fn new(peer: PublicKey, command: HandshakeCommand) -> Self {
        Self { peer, command, tries: 0, returned: None }
    }
}

/// Why a session has given a handshake command back.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) from: SessionId,
    pub(crate) is_over: bool,
    pub(crate) error: Error,
}

/// What the node's task reports of itself, for health checks and debugging.
#[derive(Debug)]
pub(crate) struct Examination {
    pub(crate) now: Instant,
    pub(crate) peers: Vec<(PublicKey, PeerStatus)>,
    /// Peers in the book, and how many of them are banned.
    pub(crate) book: (usize, usize),
    pub(crate) book_trouble: Option<String>,
    pub(crate) is_book_unsaved: bool,
    pub(crate) sessions: usize,
    pub(crate) held: usize,
    pub(crate) is_listening: bool,
}

impl NodeCommand {
    /// Returns whether it asks for what a node that stops does not begin any more.
    pub(crate) const fn is_for_later(&self) -> bool {
        use NodeCommand::{Call, Change, Connect, FlushBook, ReloadBook};
        matches!(self, Call(_) | Change(..) | Connect(..) | FlushBook(_) | ReloadBook(_))
    }
}

impl fmt::Debug for NodeCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call(..) => "Call",
            Self::Change(..) => "Change",
            Self::Connect(..) => "Connect",
            Self::Handshake(..) => "Handshake",
            Self::FlushBook(..) => "FlushBook",
            Self::ReloadBook(..) => "ReloadBook",
            Self::Examine(..) => "Examine",
            Self::Shutdown(..) => "Shutdown",
            Self::FromSession(..) => "FromSession",
            Self::HandshakeDone(..) => "HandshakeDone",
            Self::SessionClosed(..) => "SessionClosed",
            Self::SessionGone(..) => "SessionGone",
            Self::Connection(..) => "Connection",
            Self::DialAnswered(..) => "DialAnswered",
            Self::DialFailed(..) => "DialFailed",
            Self::BookSaved(..) => "BookSaved",
            Self::BookLoaded(..) => "BookLoaded",
            Self::BookClosed => "BookClosed",
        })
    }
}

/// What the node's task gives to a session, in this order.
#[derive(Debug)]
pub(crate) enum SessionCommand {
    /// A message of the core's node to the core's session.
    FromNode(ToSession),
    Handshake(HandshakeRequest),
}

/// What the application does in a handshake, with the way to answer it.
pub(crate) enum HandshakeCommand {
    Send(Bytes, Answer<()>),
    Prepare(PublicKey, Vec<StreamName>, Answer<()>),
    Finalize(Answer<()>),
    Reject(String),
}

/// Without what messages hold.
impl fmt::Debug for HandshakeCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(..) => "Send",
            Self::Prepare(..) => "Prepare",
            Self::Finalize(_) => "Finalize",
            Self::Reject(_) => "Reject",
        })
    }
}

impl HandshakeCommand {
    /// Gives the result to the caller, unless that does not wait for one.
    pub(crate) fn answer(self, result: Result<(), Error>) {
        match self {
            Self::Send(_, to) | Self::Prepare(_, _, to) | Self::Finalize(to) => answer(to, result),
            Self::Reject(_) => {}
        }
    }
}
