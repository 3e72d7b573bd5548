//! What a behaviour's connections have to know of its configuration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use glueberry_proto::{Profile, ProtocolId};
use glueberry_tokio::Config;
use glueberry_tokio::adapter::{Negotiations, PeerMemory};
use libp2p::PeerId;

use crate::upgrade::Proposal;

#[derive(Debug)]
pub(crate) struct Settings {
    /// Whether connections belong to the node, which closes them with their sessions.
    pub(crate) ownership: Ownership,
    pub(crate) keep_alive: Duration,
    pub(crate) lost_after: u32,
    /// How long a relayed connection waits for a direct one before it gets the session.
    pub(crate) hole_punch_wait: Duration,
    /// Connections that peers have made and not used.
    pub(crate) max_unused: usize,
    /// Substreams that wait for the end of the handshake.
    pub(crate) max_parked: usize,
    /// What a peer may open to begin a session.
    pub(crate) first: Proposal,
    /// The probe, which is accepted while there is no session, to tell a peer that believes in one.
    pub(crate) probe: Proposal,
    /// Both.
    pub(crate) idle: Proposal,
    pub(crate) handshakes: Vec<ProtocolId>,
    /// Finds what bounds the peer of the connection that the task that runs carries, if this side's
    /// transport bounds any: not in the task's first turn, after which it is woken.
    pub(crate) bounds: Option<FindBounds>,
}

/// How a task finds the bounds of the connection that it carries.
pub(crate) type FindBounds = fn() -> Option<Arc<dyn Bounds>>;

/// What the peer of one connection may have this side do and hold: little, until it has proven something.
pub(crate) trait Bounds: fmt::Debug + Send + Sync {
    /// Takes note that the peer has a session, in which `waiting` of its substreams may wait for the end of
    /// the handshake. What is returned is kept for as long as the session lives.
    fn admitted(&self, memory: &Arc<PeerMemory>, waiting: usize) -> Option<Box<dyn Loan>>;

    /// Takes note that the session is Established, as
    /// [`Connection::established`](glueberry_tokio::adapter::Connection::established) does, and what
    /// relay it runs over if it does. What is returned is kept for as long as the session lives.
    fn established(&self, relay: Option<PeerId>, memory: &Arc<PeerMemory>) -> Vec<Box<dyn Loan>>;

    /// Returns whether the peer, or the relay that leads to it, has sent more than this side may read now:
    /// then what else the peer has said, answers to probes among it, is behind that.
    fn is_held_back(&self, relay: Option<PeerId>) -> bool;

    /// Returns what is allowed to its negotiations.
    fn negotiations(&self) -> &Negotiations;
}

/// What is lent until this is dropped.
pub(crate) trait Loan: fmt::Debug + Send {}

/// Whose the connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The node's own: they end with their sessions.
    Owned,
    /// Shared by all behaviours of a swarm: a session's end leaves them to the others.
    Shared,
}

impl Settings {
    pub(crate) fn new(config: &Config, ownership: Ownership, hole_punch_wait: Duration) -> Self {
        let core = &config.core;
        let handshakes: Vec<ProtocolId> =
            core.allowed_profiles().map(Profile::handshake_id).collect();
        // A Go node may open a named stream first, with no handshake.
        let streams = core.streams.iter().map(|name| Profile::V1.stream_id(name.clone()));
        let first: Vec<ProtocolId> = handshakes.iter().cloned().chain(streams).collect();
        Self {
            ownership,
            keep_alive: config.keep_alive,
            lost_after: config.lost_after,
            hole_punch_wait,
            max_unused: core.max_pending_sessions,
            max_parked: core.max_parked,
            first: Proposal::new(&first),
            idle: Proposal::new(first.iter().chain([&ProtocolId::Probe])),
            probe: Proposal::new(&[ProtocolId::Probe]),
            handshakes,
            bounds: None,
        }
    }
}
