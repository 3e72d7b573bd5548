//! What the node's task asks of the swarm.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use glueberry_proto::{Address, DialError, DialId};
use glueberry_tokio::adapter::{Mailbox, Shared, Transport};
use libp2p::PeerId;

/// Something that only the behaviour can do.
#[derive(Debug)]
pub(crate) enum Request {
    Dial(DialId, PeerId, Vec<Address>),
    Cancel(DialId),
    /// Close all connections to a peer that was banned.
    Banned(PeerId),
}

/// A swarm as a node's transport. It hands requests on to the behaviour in it.
#[derive(Debug)]
pub(crate) struct SwarmTransport {
    requests: Arc<Mailbox<Request>>,
    shared: Arc<Shared>,
    is_listening: Arc<AtomicBool>,
}

impl SwarmTransport {
    /// `is_listening` is kept up to date by the behaviour.
    pub(crate) const fn new(
        requests: Arc<Mailbox<Request>>,
        shared: Arc<Shared>,
        is_listening: Arc<AtomicBool>,
    ) -> Self {
        Self { requests, shared, is_listening }
    }
}

impl Transport for SwarmTransport {
    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Address>) {
        if self.requests.put(Request::Dial(dial, peer, addresses)).is_err() {
            let error = DialError::Transport("the swarm is gone".to_owned());
            self.shared.dial_failed(dial, error);
        }
    }

    fn cancel(&mut self, dial: DialId) {
        drop(self.requests.put(Request::Cancel(dial)));
    }

    fn banned(&mut self, peer: PeerId) {
        drop(self.requests.put(Request::Banned(peer)));
    }

    fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Acquire)
    }

    /// The connections are the swarm's, and it goes on without this node.
    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(ready(()))
    }
}
