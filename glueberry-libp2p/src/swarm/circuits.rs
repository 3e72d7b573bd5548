//! What is carried for others, as a relay.

use std::collections::BTreeMap;
use std::sync::Arc;

use glueberry_tokio::adapter::PeerMemory;
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, relay};

use super::behaviours::BehavioursEvent;
use super::windows::Windows;
use crate::settings::Loan;

/// The circuits that this node carries. The connections with both ends of each have room for a substream
/// more, on the ends' accounts: else one whose far end does not read would hold up all others of its client.
#[derive(Debug)]
pub(super) struct Circuits {
    windows: Arc<Windows>,
    /// From whom to whom, and what is lent for each of them.
    open: BTreeMap<(PeerId, PeerId), Vec<Loans>>,
}

type Loans = Vec<Box<dyn Loan>>;

impl Circuits {
    pub(super) const fn new(windows: Arc<Windows>) -> Self {
        Self { windows, open: BTreeMap::new() }
    }

    /// Takes note of what begins and ends.
    pub(super) fn handle(
        &mut self,
        event: &SwarmEvent<BehavioursEvent>,
        memory_of: impl Fn(PeerId) -> Arc<PeerMemory>,
    ) {
        let SwarmEvent::Behaviour(BehavioursEvent::RelayServer(event)) = event else {
            return;
        };
        match event {
            relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id } => {
                let ends = [*src_peer_id, *dst_peer_id];
                let loans = ends.iter().flat_map(|end| self.windows.lend(*end, &memory_of(*end)));
                let loans = loans.collect();
                self.open.entry((*src_peer_id, *dst_peer_id)).or_default().push(loans);
            }
            relay::Event::CircuitClosed { src_peer_id, dst_peer_id, .. } => {
                let ends = (*src_peer_id, *dst_peer_id);
                if let Some(open) = self.open.get_mut(&ends) {
                    // Which one of several it is makes no difference.
                    drop(open.pop());
                    if open.is_empty() {
                        self.open.remove(&ends);
                    }
                }
            }
            _ => {}
        }
    }
}
