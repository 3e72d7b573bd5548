//! Statistics, health and debugging by a node's handle.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use glueberry_proto::Instant;
use libp2p_identity::PeerId;

use super::Node;
use crate::command::{Examination, NodeCommand};
use crate::debug::{DebugState, Known};
use crate::error::Error;
use crate::health::Health;
use crate::stats::PeerStats;

impl Node {
    /// Returns what was exchanged with a peer; `None` if nothing was, or it was long ago.
    pub fn peer_statistics(&self, peer: PeerId) -> Option<PeerStats> {
        self.shared().telemetry.stats.get(&peer, self.shared().now())
    }

    /// Returns what was exchanged with each peer.
    pub fn all_peer_statistics(&self) -> BTreeMap<PeerId, PeerStats> {
        self.shared().telemetry.stats.all(self.shared().now())
    }

    /// Returns how many messages were queued for a peer.
    pub fn messages_sent(&self, peer: PeerId) -> u64 {
        self.shared().telemetry.stats.messages_sent(&peer)
    }

    /// Checks whether the node does its work. Waits a second at most.
    pub async fn health(&self) -> Health {
        let begun = self.shared().now();
        let examination = self.examine().await;
        let took = self.shared().now().duration_since(begun);
        Health::new(examination.as_ref(), took, self.shared().runtime.wall_time())
    }

    /// Returns a picture of the node and its peers, for people who look for a cause.
    ///
    /// # Errors
    ///
    /// [`NodeStopped`](crate::ErrorCode::NodeStopped).
    pub async fn debug_state(&self) -> Result<DebugState, Error> {
        let shared = self.shared();
        let examination = self.ask(NodeCommand::Examine).await?;
        let known = Known {
            key: self.public_key(),
            listen_addrs: self.addrs().iter().map(ToString::to_string).collect(),
            config: shared.config.clone(),
            uptime: shared.now().duration_since(Instant::ZERO),
            peers_with_stats: shared.telemetry.stats.len(),
            captured_at: shared.runtime.wall_time(),
        };
        let queues = |peer| {
            let session = shared.views.session(&peer);
            session.map(|session| session.queues()).unwrap_or_default()
        };
        Ok(DebugState::new(known, examination, queues))
    }

    async fn examine(&self) -> Option<Examination> {
        let shared = self.shared();
        let (answer, examination) = oneshot::channel();
        shared.mailbox.put(NodeCommand::Examine(answer)).ok()?;
        let timeout = shared.alarm(shared.runtime.now() + HEALTH_TIMEOUT);
        match select(examination, timeout).await {
            Either::Left((examination, _)) => examination.ok(),
            Either::Right(_) => None,
        }
    }
}

/// A task that does not answer within this is stuck.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
