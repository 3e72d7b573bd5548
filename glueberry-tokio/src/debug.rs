//! A picture of a node for people who look for a cause.

pub(crate) mod queue;

use std::fmt;
use std::time::{Duration, SystemTime};

use glueberry_proto::{Direction, Instant, PeerStatus, ProtocolVersion, PublicKey, SessionInfo};
use libp2p_identity::PeerId;
use serde::Serialize;

pub use self::queue::DebugQueue;
use crate::command::Examination;
use crate::config::Config;

/// What a node is and does at one moment; see [`Node::debug_state`](crate::Node::debug_state).
///
/// It serializes to JSON, and its text form is for people. It holds no secrets.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let state = node().await?.debug_state().await?;
/// assert_eq!(state.version, "1.2.9");
/// // As JSON, for programs, and as text, for people.
/// assert!(serde_json::to_string(&state)?.contains(&state.peer_id));
/// assert!(state.to_string().contains(&state.peer_id));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DebugState {
    /// The node's id.
    pub peer_id: String,
    /// Its key, in hexadecimal.
    pub public_key: String,
    /// The addresses that it listens on.
    pub listen_addrs: Vec<String>,
    /// The version of the protocol.
    pub version: String,
    /// For how long it has run.
    pub uptime: Duration,
    /// What the address book holds.
    pub address_book: DebugBook,
    /// The configuration.
    pub config: Config,
    /// Each peer that the node holds a state for.
    pub peers: Vec<DebugPeer>,
    /// Sessions, of which more than one may be with one peer while it is decided which is kept.
    pub sessions: usize,
    /// Bytes that peers make the node hold: see
    /// [`node_memory`](glueberry_proto::Config::node_memory).
    pub held_bytes: usize,
    /// Peers with statistics.
    pub peers_with_stats: usize,
    /// When this picture was taken.
    pub captured_at: SystemTime,
}

/// The address book in a [`DebugState`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DebugBook {
    /// Peers, the banned ones among them.
    pub total_peers: usize,
    /// Peers that are banned.
    pub blacklisted_peers: usize,
    /// Whether it holds anything that is not stored yet.
    pub is_unsaved: bool,
    /// Why it could not be stored the last time.
    pub trouble: Option<String>,
}

/// A peer in a [`DebugState`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DebugPeer {
    /// The peer.
    pub peer_id: String,
    /// Its state.
    pub state: String,
    /// For how long it has been in it.
    pub for_how_long: Duration,
    /// Whether this node dialled, if either did.
    pub is_outbound: Option<bool>,
    /// What its Established session gives.
    pub session: Option<DebugSession>,
    /// Sessions with it.
    pub sessions: usize,
    /// Attempts to reconnect since the last session that lasted.
    pub attempts: u32,
    /// Time until the next attempt.
    pub next_attempt_in: Option<Duration>,
    /// Time until its cooldown is over.
    pub cooldown_left: Option<Duration>,
    /// Whether it is banned.
    pub is_blacklisted: bool,
    /// Whether it is protected from being pruned.
    pub is_protected: bool,
    /// What waits to be sent, by stream.
    pub queues: Vec<DebugQueue>,
}

/// What an Established session gives, in a [`DebugState`]: a [`SessionInfo`]
/// as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DebugSession {
    /// The wire profile.
    pub profile: String,
    /// The cipher suite, if the profile has more than one.
    pub suite: Option<String>,
    /// Whether what was sent stays secret when an identity is stolen later.
    pub is_forward_secret: bool,
    /// Whether what was sent stays secret from a quantum computer.
    pub is_post_quantum: bool,
    /// Whether the session is tied to its connection.
    pub is_bound: bool,
}

impl DebugSession {
    fn new(info: &SessionInfo) -> Self {
        Self {
            profile: info.profile.to_string(),
            suite: info.suite.map(|suite| suite.to_string()),
            is_forward_secret: info.is_forward_secret,
            is_post_quantum: info.is_post_quantum,
            is_bound: info.is_bound,
        }
    }
}

/// What a node's handle knows by itself.
pub(crate) struct Known {
    pub(crate) key: PublicKey,
    pub(crate) listen_addrs: Vec<String>,
    pub(crate) config: Config,
    pub(crate) uptime: Duration,
    pub(crate) peers_with_stats: usize,
    pub(crate) captured_at: SystemTime,
}

impl DebugState {
    pub(crate) fn new(
        known: Known,
        examination: Examination,
        queues: impl Fn(PeerId) -> Vec<DebugQueue>,
    ) -> Self {
        let now = examination.now;
        let peer = |(key, status): (PublicKey, PeerStatus)| {
            let peer = PeerId::from(key);
            DebugPeer::new(peer, &status, now, queues(peer))
        };
        let (total_peers, blacklisted_peers) = examination.book;
        Self {
            peer_id: PeerId::from(known.key).to_string(),
            public_key: hex(known.key.as_bytes()),
            listen_addrs: known.listen_addrs,
            version: ProtocolVersion::CURRENT.to_string(),
            uptime: known.uptime,
            address_book: DebugBook {
                total_peers,
                blacklisted_peers,
                is_unsaved: examination.is_book_unsaved,
                trouble: examination.book_trouble,
            },
            config: known.config,
            peers: examination.peers.into_iter().map(peer).collect(),
            sessions: examination.sessions,
            held_bytes: examination.held,
            peers_with_stats: known.peers_with_stats,
            captured_at: known.captured_at,
        }
    }
}

impl DebugPeer {
    fn new(peer: PeerId, status: &PeerStatus, now: Instant, queues: Vec<DebugQueue>) -> Self {
        let until = |at: Option<Instant>| at.map(|at| at.duration_since(now));
        Self {
            peer_id: peer.to_string(),
            state: status.state.to_string(),
            for_how_long: now.duration_since(status.since),
            is_outbound: status.direction.map(|direction| direction == Direction::Outbound),
            session: status.session.as_ref().map(DebugSession::new),
            sessions: status.sessions,
            attempts: status.attempts,
            next_attempt_in: until(status.next_attempt_at),
            cooldown_left: until(status.cooldown_until),
            is_blacklisted: status.is_blacklisted,
            is_protected: status.is_protected,
            queues,
        }
    }
}

impl fmt::Display for DebugState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "IDENTITY")?;
        writeln!(f, "  peer id     {}", self.peer_id)?;
        writeln!(f, "  public key  {}…", self.public_key.get(..16).unwrap_or_default())?;
        writeln!(f, "  version     {}", self.version)?;
        writeln!(f, "  up for      {:.1?}", self.uptime)?;
        writeln!(f, "LISTEN ADDRESSES")?;
        self.listen_addrs.iter().try_for_each(|addr| writeln!(f, "  {addr}"))?;
        let book = &self.address_book;
        writeln!(f, "ADDRESS BOOK")?;
        writeln!(f, "  peers       {}, {} blacklisted", book.total_peers, book.blacklisted_peers)?;
        if let Some(trouble) = &book.trouble {
            writeln!(f, "  TROUBLE     {trouble}")?;
        }
        let core = &self.config.core;
        writeln!(f, "CONFIGURATION")?;
        writeln!(f, "  handshake timeout {:?}", core.handshake_timeout)?;
        writeln!(f, "  longest backoff   {:?}", core.reconnect.max_backoff)?;
        writeln!(f, "  watermarks        {} / {}", core.low_watermark, core.high_watermark)?;
        writeln!(f, "  message size      {} bytes", core.max_message_size)?;
        writeln!(
            f,
            "PEERS ({} sessions, {} with statistics)",
            self.sessions, self.peers_with_stats
        )?;
        self.peers.iter().try_for_each(|peer| write!(f, "{peer}"))
    }
}

impl fmt::Display for DebugPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {} {} for {:.1?}", self.peer_id, self.state, self.for_how_long)?;
        if let Some(session) = &self.session {
            write!(f, ", {}", session.profile)?;
            if let Some(suite) = &session.suite {
                write!(f, " with {suite}")?;
            }
        }
        if let Some(wait) = self.next_attempt_in {
            write!(f, ", attempt {} in {wait:.1?}", self.attempts)?;
        }
        if let Some(left) = self.cooldown_left {
            write!(f, ", {left:.1?} left")?;
        }
        writeln!(f)?;
        for queue in &self.queues {
            let mark = if queue.is_blocked { ", BLOCKED" } else { "" };
            let DebugQueue { stream, pending, pending_bytes, .. } = queue;
            writeln!(f, "    {stream}: {pending} messages, {pending_bytes} bytes wait{mark}")?;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
