//! The task that runs the swarm of a ready-made node.

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use futures_util::stream::StreamExt;
use glueberry_proto::{Address, DialId, printable};
use glueberry_tokio::adapter::Transport;
use glueberry_tokio::runtime::Runtime;
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, Swarm, dcutr};
use tracing::{debug, warn};

#[cfg(feature = "kad")]
use super::behaviours::Kademlia;
use super::behaviours::{Behaviours, BehavioursEvent};
use super::circuits::Circuits;
use super::listeners::Listeners;
use crate::transport::SwarmTransport;

/// The order to stop, and whom to tell when that is done.
pub(super) type Stop = oneshot::Sender<oneshot::Sender<()>>;

/// A swarm that belongs to its node, and ends with it.
#[derive(Debug)]
pub(super) struct OwnedSwarm {
    swarm: SwarmTransport,
    stop: Option<Stop>,
}

impl OwnedSwarm {
    pub(super) const fn new(swarm: SwarmTransport, stop: Stop) -> Self {
        Self { swarm, stop: Some(stop) }
    }
}

impl Transport for OwnedSwarm {
    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Address>) {
        self.swarm.dial(dial, peer, addresses);
    }

    fn cancel(&mut self, dial: DialId) {
        self.swarm.cancel(dial);
    }

    fn banned(&mut self, peer: PeerId) {
        self.swarm.banned(peer);
    }

    fn is_listening(&self) -> bool {
        self.swarm.is_listening()
    }

    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (done, is_done) = oneshot::channel();
        let asked = self.stop.take().map(|stop| stop.send(done));
        Box::pin(async move {
            if matches!(asked, Some(Ok(()))) {
                // An error means that the swarm has ended in another way.
                is_done.await.unwrap_or_default();
            }
        })
    }
}

/// Runs the swarm until its node stops.
pub(super) async fn run(
    mut swarm: Swarm<Behaviours>,
    mut listeners: Listeners,
    mut circuits: Circuits,
    mut stop: oneshot::Receiver<oneshot::Sender<()>>,
    runtime: Arc<dyn Runtime>,
) {
    let done = loop {
        let retry_at = listeners.next_retry();
        let alarm = async {
            match retry_at {
                Some(at) => runtime.sleep_until(at).await,
                None => pending().await,
            }
        };
        let event = match select(select(swarm.next(), &mut stop), pin!(alarm)).await {
            Either::Left((Either::Left((Some(event), _)), _)) => Some(event),
            Either::Left((Either::Right((Ok(done), _)), _)) => break done,
            // The swarm has ended, or the node is gone without a word.
            Either::Left(_) => return,
            Either::Right(_) => None,
        };
        match event {
            Some(event) => {
                listeners.handle(&swarm, &event, runtime.now());
                circuits.handle(&event, |peer| swarm.behaviour().glueberry.memory_of(peer));
                handle(&mut swarm, event);
            }
            None => listeners.retry(&mut swarm, runtime.now()),
        }
    };
    close(&mut swarm, &*runtime).await;
    drop(swarm);
    // A caller that has stopped waiting needs no answer.
    done.send(()).unwrap_or_default();
}

/// Closes every connection, for as long as peers may need to learn of it.
async fn close(swarm: &mut Swarm<Behaviours>, runtime: &dyn Runtime) {
    let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
    for peer in peers {
        // An error means that it has gone already.
        swarm.disconnect_peer_id(peer).unwrap_or_default();
    }
    let mut deadline = runtime.sleep(CLOSE_TIME);
    while swarm.network_info().num_peers() > 0 {
        match select(swarm.next(), &mut deadline).await {
            Either::Left((Some(event), _)) => handle(swarm, event),
            Either::Left((None, _)) | Either::Right(_) => return,
        }
    }
}

pub(super) fn handle(swarm: &mut Swarm<Behaviours>, event: SwarmEvent<BehavioursEvent>) {
    match event {
        SwarmEvent::Behaviour(BehavioursEvent::HolePunching(dcutr::Event {
            remote_peer_id,
            result: Err(error),
        })) => {
            debug!(peer = %remote_peer_id, error = printable(error), "no direct connection");
            swarm.behaviour_mut().glueberry.hole_punch_failed(remote_peer_id);
        }
        SwarmEvent::ListenerError { error, .. } => {
            warn!(error = printable(error), "listener failed")
        }
        SwarmEvent::IncomingConnectionError { error, .. } => {
            debug!(error = printable(error), "incoming connection failed");
        }
        #[cfg(feature = "mdns")]
        SwarmEvent::Behaviour(BehavioursEvent::Mdns(libp2p::mdns::Event::Discovered(found))) => {
            for (peer, address) in found {
                swarm.behaviour().glueberry.peer_discovered(peer, address);
            }
        }
        #[cfg(feature = "kad")]
        SwarmEvent::Behaviour(event) => kademlia(swarm, event),
        _ => {}
    }
}

/// Tells Kademlia which peers speak it, and the application whom Kademlia has found.
#[cfg(feature = "kad")]
fn kademlia(swarm: &mut Swarm<Behaviours>, event: BehavioursEvent) {
    use libp2p::{identify, kad};

    let behaviours = swarm.behaviour_mut();
    match event {
        BehavioursEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
            if let Some(kademlia) = behaviours.kademlia.as_mut()
                && info.protocols.iter().any(|it| kademlia.protocol_names().contains(it))
            {
                // It keeps all that a peer says, and tells each time.
                let room = MOST_ADDRESSES.saturating_sub(addresses_of(kademlia, peer_id));
                for address in info.listen_addrs.into_iter().take(room) {
                    kademlia.add_address(&peer_id, address);
                }
            }
        }
        BehavioursEvent::Kademlia(kad::Event::RoutingUpdated {
            peer,
            is_new_peer,
            addresses,
            ..
        }) => {
            // The new one is the last.
            let known = if is_new_peer { 0 } else { addresses.len().saturating_sub(1) };
            for address in addresses.into_vec().into_iter().skip(known) {
                behaviours.glueberry.peer_discovered(peer, address);
            }
        }
        _ => {}
    }
}

/// Returns how many addresses of a peer Kademlia knows.
#[cfg(feature = "kad")]
fn addresses_of(kademlia: &mut Kademlia, peer: PeerId) -> usize {
    let Some(bucket) = kademlia.kbucket(peer) else {
        return 0;
    };
    let mut entries = bucket.iter();
    entries.find(|it| *it.node.key.preimage() == peer).map_or(0, |it| it.node.value.len())
}

/// Addresses of a peer that go to Kademlia.
#[cfg(feature = "kad")]
const MOST_ADDRESSES: usize = 16;
/// Time for connections to close.
const CLOSE_TIME: Duration = Duration::from_secs(1);
