//! Two nodes on the loopback, on every runtime that is compiled in.

#[cfg(feature = "dnsaddr")]
mod dnsaddr;
#[cfg(feature = "tokio")]
mod drained;
mod endpoint;
mod fuzz;
mod hostile_certificates;
mod negotiate;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use libp2p_identity::{Keypair, PeerId};
use multiaddr::Multiaddr;

use super::{DialError, Endpoint, QuicAddr, QuicConfig, certificate, endpoint::AcceptError};
use crate::runtime::{Runtime, tests::on_every_runtime};

struct Node {
    peer: PeerId,
    endpoint: Endpoint,
}

impl Node {
    fn new(runtime: &Arc<dyn Runtime>, listen: &[&str], config: &QuicConfig) -> Self {
        let identity = Keypair::generate_ed25519();
        let listen: Vec<Multiaddr> = listen.iter().map(|addr| addr.parse().unwrap()).collect();
        let endpoint = Endpoint::bind(&**runtime, &identity, &listen, config).unwrap();
        Self { peer: identity.public().to_peer_id(), endpoint }
    }

    fn listening(runtime: &Arc<dyn Runtime>) -> Self {
        Self::new(runtime, &["/ip4/127.0.0.1/udp/0/quic-v1"], &QuicConfig::default())
    }

    fn dialling(runtime: &Arc<dyn Runtime>) -> Self {
        Self::new(runtime, &[], &QuicConfig::default())
    }

    fn address(&self) -> SocketAddr {
        QuicAddr::try_from(&self.endpoint.addrs()[0]).unwrap().socket
    }

    async fn accept(&self) -> Result<(quinn::Connection, PeerId), AcceptError> {
        self.endpoint.accept().await.unwrap().accept().await
    }

    async fn dial(&self, other: &Self) -> Result<quinn::Connection, DialError> {
        self.endpoint.dial(other.address(), other.peer).await
    }
}

/// Two nodes and a connection between them, the dialler's end first.
struct Pair {
    dialler: Node,
    listener: Node,
    dialled: quinn::Connection,
    accepted: quinn::Connection,
}

impl Pair {
    async fn new(runtime: &Arc<dyn Runtime>) -> Self {
        Self::with(runtime, &QuicConfig::default()).await
    }

    async fn with(runtime: &Arc<dyn Runtime>, config: &QuicConfig) -> Self {
        let listener = Node::new(runtime, &["/ip4/127.0.0.1/udp/0/quic-v1"], config);
        let dialler = Node::new(runtime, &[], config);
        let (dialled, accepted) =
            futures_util::future::join(dialler.dial(&listener), listener.accept()).await;
        let (accepted, peer) = accepted.unwrap();
        assert_eq!(peer, dialler.peer);
        Self { dialled: dialled.unwrap(), accepted, dialler, listener }
    }

    /// A fresh substream as the opener sees it, and the other side's connection.
    async fn open(&self) -> (quinn::SendStream, quinn::RecvStream) {
        self.dialled.open_bi().await.unwrap()
    }

    async fn opened(&self) -> (quinn::SendStream, quinn::RecvStream) {
        self.accepted.accept_bi().await.unwrap()
    }
}
