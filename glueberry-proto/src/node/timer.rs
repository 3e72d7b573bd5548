//! The named timers of a node.

use crate::crypto::PublicKey;

/// What a node waits for: see [`Node::next_timer`](crate::Node::next_timer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeTimer {
    /// Changes of the address book that could wait are stored.
    BookFlush,
    /// Something that concerns one peer.
    Peer {
        /// The peer.
        peer: PublicKey,
        /// What is due for it.
        timer: PeerTimer,
    },
}

/// What a node waits for with one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerTimer {
    /// The dial takes too long.
    Dial,
    /// A session that is not the current one takes too long: to agree on a handshake substream, or
    /// to be needed.
    Session,
    /// A session that could become current no longer waits for the one that the peer should open.
    Hold,
    /// The handshake of the current session takes too long.
    Handshake,
    /// The peer does not answer the probe of the current session.
    Probe,
    /// Connections of the peer are no longer refused after a local disconnect.
    Refusal,
    /// The cooldown is over.
    Cooldown,
    /// The next attempt to reconnect is due.
    Retry,
}

impl PeerTimer {
    /// Every timer, in the order in which those that are due at one time fire.
    pub(super) const ALL: [Self; 8] = [
        Self::Dial,
        Self::Session,
        Self::Hold,
        Self::Handshake,
        Self::Probe,
        Self::Refusal,
        Self::Cooldown,
        Self::Retry,
    ];
}
