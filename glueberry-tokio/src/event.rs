//! What a node reports of its peers and of itself.

mod display;

use std::time::SystemTime;

use glueberry_proto::{
    Closed, ConnectionState, Direction, Profile, RecordError, SessionInfo, StateReason, StreamName,
};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

/// Something that happened to a peer, or to the node.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::{ConnectionState, Event};
///
/// let (alice, bob) = pair().await?;
/// let mut events = alice.events();
/// alice.disconnect(bob.peer_id()).await?;
/// match events.recv().await {
///     Some(Event::State(changed)) => assert_eq!(changed.state, ConnectionState::Disconnected),
///     Some(Event::Lagged { missed }) => println!("{missed} events are missing"),
///     other => println!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer's state changed.
    State(StateChanged),
    /// A record of the peer could not be decrypted, and was not delivered. The stream goes on; after
    /// [`max_rejected_records`](glueberry_proto::Config::max_rejected_records) the session ends.
    RecordRejected {
        /// The peer that sent it.
        peer: PeerId,
        /// The stream.
        stream: StreamName,
        /// Why it was rejected.
        error: RecordError,
    },
    /// The substream that carried messages to the peer broke; the next message opens another.
    StreamInterrupted {
        /// The peer.
        peer: PeerId,
        /// The stream.
        stream: StreamName,
        /// Messages handed to the transport on it, of which any number from the front may have
        /// arrived.
        in_doubt: u64,
    },
    /// The substream that carried the peer's messages did not end cleanly (v2). The stream goes on with
    /// the next substream, which says what was lost.
    StreamTruncated {
        /// The peer.
        peer: PeerId,
        /// The stream.
        stream: StreamName,
    },
    /// The peer has given up messages that it had sent, and goes on with later ones (v2).
    MessagesLost {
        /// The peer that sent them.
        peer: PeerId,
        /// The stream.
        stream: StreamName,
        /// How many.
        messages: u64,
    },
    /// The peer refuses the stream. The messages that were queued on it are not sent.
    StreamRefused {
        /// The peer.
        peer: PeerId,
        /// The stream.
        stream: StreamName,
        /// Messages that were never handed to the transport.
        unsent: usize,
    },
    /// A substream that the peer had opened early was reset, because its stream was not prepared.
    StreamNotPrepared {
        /// The peer.
        peer: PeerId,
        /// The stream.
        stream: StreamName,
    },
    /// A session with the peer is over. Says how many messages were not delivered for certain.
    ///
    /// It need not be the one that the peer's state is about: a second connection, of two dials that cross or
    /// of libp2p's AutoNAT, has a session of its own until it proves not to be needed. Whether the peer is
    /// still there is in [`State`](Self::State).
    SessionClosed {
        /// The peer.
        peer: PeerId,
        /// Why, and what was not delivered for certain.
        closed: Closed,
    },
    /// A peer that has spoken v2 would have had a session of an earlier profile: the session was
    /// refused, or ended. [`SessionClosed`](Self::SessionClosed) follows.
    ///
    /// Either the peer has gone back to an earlier version, or an attacker makes it look so. Once the peer
    /// has confirmed the former, [`Node::clear_profile_pin`](crate::Node::clear_profile_pin) lets it in.
    DowngradeRefused {
        /// The peer.
        peer: PeerId,
        /// The profile that it has come with; `None` if it has refused v2 when it was dialled.
        offered: Option<Profile>,
    },
    /// A stream's send queue has reached its high watermark: [`send`](crate::Node::send) waits, and
    /// [`try_send`](crate::Node::try_send) fails with
    /// [`Backpressure`](crate::ErrorCode::Backpressure). Reported at most once a second per stream.
    Backpressure {
        /// The peer.
        peer: PeerId,
        /// The stream.
        stream: StreamName,
    },
    /// Received messages were dropped, because their reader was too slow and the node is
    /// configured to [drop](crate::Delivery::DropNewest).
    MessagesDropped {
        /// The peer that sent them.
        peer: PeerId,
        /// The stream; `None` for handshake messages.
        stream: Option<StreamName>,
        /// How many.
        count: u64,
    },
    /// The address book could not be stored, or an entry of it could not be read.
    AddressBook(BookTrouble),
    /// The node does not listen on an address, though it should: its relay is gone, or an interface.
    /// It tries again by itself. Raw QUIC has no such address.
    ListenerLost {
        /// The address as it was given.
        address: Multiaddr,
        /// Why.
        reason: String,
    },
    /// The node listens again on an address that was lost.
    ListenerRestored {
        /// The address as it was given.
        address: Multiaddr,
    },
    /// The transport has found an address of a peer: a libp2p node with mDNS or Kademlia on. Nothing is done
    /// with it. Pass the address to [`Node::dial`](crate::Node::dial) if the peer is wanted: it proves its key
    /// then, and only then.
    PeerDiscovered {
        /// The peer that is said to be there.
        peer: PeerId,
        /// Where, with `/p2p/` and the peer's id.
        address: Multiaddr,
    },
    /// This subscriber was too slow: events are missing here.
    /// [`Snapshot`](Self::Snapshot) follows.
    Lagged {
        /// How many events.
        missed: u64,
    },
    /// The states of peers after events went missing: all that this subscription is about, but for
    /// those that are Disconnected. Later events go on from here.
    Snapshot(Vec<StateChanged>),
}

/// Something that went wrong with the stored address book. The book in memory is not affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BookTrouble {
    /// It could not be stored; it is tried again at the next flush.
    #[error("address book was not stored: {0}")]
    NotSaved(String),
    /// An entry cannot be used; it stays in the file as it is.
    #[error("entry `{key}` of the address book was skipped: {reason}")]
    Skipped {
        /// Its key in the file.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There are too many bans: the peer's was lifted, as it was seen the longest time ago of those
    /// of which nothing else is known. See [`max_bans`](glueberry_proto::Config::max_bans).
    #[error("too many bans: that of {0} was lifted")]
    BanLifted(PeerId),
    /// The file is no address book: it was renamed. The node has begun with an empty book or, if it was
    /// running, has stored the one that it has.
    #[error("address book is unreadable ({reason}) and is now {path}")]
    SetAside {
        /// Its new path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Event {
    /// Returns the peer that the event is about.
    pub const fn peer(&self) -> Option<PeerId> {
        match self {
            Self::State(changed) => Some(changed.peer),
            Self::RecordRejected { peer, .. }
            | Self::StreamInterrupted { peer, .. }
            | Self::StreamTruncated { peer, .. }
            | Self::MessagesLost { peer, .. }
            | Self::StreamRefused { peer, .. }
            | Self::StreamNotPrepared { peer, .. }
            | Self::SessionClosed { peer, .. }
            | Self::DowngradeRefused { peer, .. }
            | Self::Backpressure { peer, .. }
            | Self::MessagesDropped { peer, .. }
            | Self::PeerDiscovered { peer, .. } => Some(*peer),
            Self::AddressBook(_)
            | Self::ListenerLost { .. }
            | Self::ListenerRestored { .. }
            | Self::Lagged { .. }
            | Self::Snapshot(_) => None,
        }
    }

    /// Returns the peer and its new state, if the event is a change of state.
    pub const fn state(&self) -> Option<(PeerId, ConnectionState)> {
        match self {
            Self::State(changed) => Some((changed.peer, changed.state)),
            _ => None,
        }
    }
}

/// A change of a peer's state.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::{ConnectionState, Event, StateReason};
///
/// let (alice, bob) = pair().await?;
/// let mut events = alice.events_for_peer(bob.peer_id());
/// alice.blacklist_peer(bob.peer_id(), None).await?;
/// let Some(Event::State(changed)) = events.recv().await else { panic!() };
/// assert_eq!(changed.state, ConnectionState::Disconnected);
/// assert_eq!(changed.reason, Some(StateReason::Blacklisted));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateChanged {
    /// The peer.
    pub peer: PeerId,
    /// The state that it is in now.
    pub state: ConnectionState,
    /// Who dialled.
    pub direction: Option<Direction>,
    /// What the session gives, if the state is [`Established`](ConnectionState::Established). Before
    /// that, [`Node::session_info`](crate::Node::session_info) has it.
    pub session: Option<SessionInfo>,
    /// Why, as judged here; `None` where the state speaks for itself.
    pub reason: Option<StateReason>,
    /// When, by this machine's calendar clock.
    pub at: SystemTime,
}
