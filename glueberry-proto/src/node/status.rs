//! What a node reports of a peer, for people who look for a cause.

use super::event::ConnectionState;
use crate::session::Direction;
use crate::session_info::SessionInfo;
use crate::time::Instant;

/// The state of a peer and what is to come.
///
/// ```
/// # use glueberry_proto::*;
/// # let (identity, seed) = (Identity::from_seed(&[1; 32]), Seed::from_bytes([2; 32]));
/// # let mut node = Node::new(Instant::ZERO, identity, Config::default(), seed)?;
/// # let peer = Identity::from_seed(&[3; 32]).public_key();
/// node.protect(Instant::ZERO, peer, true)?;
/// let status = node.peer_status(peer).unwrap();
/// assert!(status.is_protected && !status.is_dialling);
/// assert_eq!(status.state, ConnectionState::Disconnected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// The state.
    pub state: ConnectionState,
    /// When it came into its state.
    pub since: Instant,
    /// Who dialled the connection that the peer has or last had.
    pub direction: Option<Direction>,
    /// What the session gives, if the peer is Established.
    pub session: Option<SessionInfo>,
    /// Sessions, with those that are not the current one.
    pub sessions: usize,
    /// Whether a dial is queued or under way.
    pub is_dialling: bool,
    /// Attempts to reconnect since the last session that lasted.
    pub attempts: u32,
    /// When the next attempt begins.
    pub next_attempt_at: Option<Instant>,
    /// When the cooldown ends.
    pub cooldown_until: Option<Instant>,
    /// Until when the peer is refused when it dials.
    pub refused_until: Option<Instant>,
    /// Whether the peer is banned.
    pub is_blacklisted: bool,
    /// Whether the peer is protected from being pruned.
    pub is_protected: bool,
}
