//! The task that runs the swarm of a ready-made node.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use futures_util::stream::StreamExt;
use glueberry_proto::{Address, DialId};
use glueberry_tokio::adapter::Transport;
use glueberry_tokio::runtime::Runtime;
use glueberry_tokio::{Error, ErrorCode};
use libp2p::core::transport::ListenerId;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, dcutr};
use tracing::{debug, warn};

use super::behaviours::{Behaviours, BehavioursEvent};
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

/// Listens on all addresses; returns when each listener has told where it is.
pub(super) async fn listen(
    swarm: &mut Swarm<Behaviours>,
    addresses: &[Multiaddr],
    runtime: &dyn Runtime,
) -> Result<(), Error> {
    let mut waiting: Vec<(ListenerId, &Multiaddr)> = Vec::new();
    for address in addresses {
        let id = swarm.listen_on(address.clone()).map_err(|error| match error {
            libp2p::TransportError::MultiaddrNotSupported(address) => {
                Error::because(ErrorCode::InvalidAddress, format!("{address} is not supported"))
            }
            error => Error::because(ErrorCode::ListenFailed, format!("{address}: {error}")),
        })?;
        waiting.push((id, address));
    }
    let mut deadline = runtime.sleep_until(runtime.now() + LISTEN_TIME);
    while let Some((_, address)) = waiting.first() {
        let event = match select(swarm.next(), &mut deadline).await {
            Either::Left((Some(event), _)) => event,
            Either::Left((None, _)) | Either::Right(_) => {
                let why = format!("{address} took too long");
                return Err(Error::because(ErrorCode::ListenFailed, why));
            }
        };
        match &event {
            SwarmEvent::NewListenAddr { listener_id, .. } => {
                waiting.retain(|(id, _)| id != listener_id);
            }
            SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                if let Some((_, address)) = waiting.iter().find(|(id, _)| id == listener_id) {
                    let why = format!("{address}: {error}");
                    return Err(Error::because(ErrorCode::ListenFailed, why));
                }
            }
            _ => {}
        }
        handle(swarm, event);
    }
    Ok(())
}

/// Runs the swarm until its node stops.
pub(super) async fn run(
    mut swarm: Swarm<Behaviours>,
    mut stop: oneshot::Receiver<oneshot::Sender<()>>,
    runtime: Arc<dyn Runtime>,
) {
    let done = loop {
        match select(swarm.next(), &mut stop).await {
            Either::Left((Some(event), _)) => handle(&mut swarm, event),
            Either::Left((None, _)) => return,
            Either::Right((Ok(done), _)) => break done,
            // The node is gone without a word.
            Either::Right((Err(_), _)) => return,
        }
    };
    close(&mut swarm, &*runtime).await;
    drop(swarm);
    // Who has stopped waiting needs no answer.
    done.send(()).unwrap_or_default();
}

/// Closes every connection, for as long as peers may need to hear of it.
async fn close(swarm: &mut Swarm<Behaviours>, runtime: &dyn Runtime) {
    let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
    for peer in peers {
        // An error means that it has gone already.
        swarm.disconnect_peer_id(peer).unwrap_or_default();
    }
    let mut deadline = runtime.sleep_until(runtime.now() + CLOSE_TIME);
    while swarm.network_info().num_peers() > 0 {
        match select(swarm.next(), &mut deadline).await {
            Either::Left((Some(event), _)) => handle(swarm, event),
            Either::Left((None, _)) | Either::Right(_) => return,
        }
    }
}

fn handle(swarm: &mut Swarm<Behaviours>, event: SwarmEvent<BehavioursEvent>) {
    match event {
        SwarmEvent::Behaviour(BehavioursEvent::HolePunching(dcutr::Event {
            remote_peer_id,
            result: Err(error),
        })) => {
            debug!(peer = %remote_peer_id, %error, "no direct connection");
            swarm.behaviour_mut().glueberry.hole_punch_failed(remote_peer_id);
        }
        SwarmEvent::ListenerError { error, .. } => warn!(%error, "listener failed"),
        SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
            warn!(?addresses, %error, "listener closed");
        }
        SwarmEvent::IncomingConnectionError { error, .. } => {
            debug!(%error, "incoming connection failed");
        }
        _ => {}
    }
}

/// Time for all listeners to tell where they are; a relay may have to be dialled first.
const LISTEN_TIME: Duration = Duration::from_secs(30);
/// Time for connections to close.
const CLOSE_TIME: Duration = Duration::from_secs(1);
