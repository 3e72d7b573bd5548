//! What a peer does on one of its connections is that connection's, and not another's.

use std::net::SocketAddr;
use std::time::Duration;

use glueberry_tokio::adapter::QuicParts;
use glueberry_tokio::adapter::quinn::{Connection, Endpoint, TransportConfig};
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::runtime::TokioRuntime;

use crate::support::run_test;
use crate::windows::{QUIC, node};

/// A peer of several connections, each from a socket of its own.
struct Peer(QuicParts);

impl Peer {
    fn new() -> Self {
        let (keys, runtime) = (Keypair::generate_ed25519(), TokioRuntime::current().unwrap());
        Self(QuicParts::new(&keys, TransportConfig::default(), &runtime).unwrap())
    }

    async fn dial(&self, to: SocketAddr) -> (Endpoint, Connection) {
        let endpoint = self.0.dialler(to.ip()).unwrap();
        let connection = self.0.dial(&endpoint, to).unwrap().await.unwrap();
        // Its handler exists once something is answered.
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(b"\x13/multistream/1.0.0\n").await.unwrap();
        recv.read_exact(&mut [0; 20]).await.unwrap();
        (endpoint, connection)
    }
}

/// Proposes names without end on one substream.
async fn proposes_without_end(connection: &Connection) {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&[&b"\x13/multistream/1.0.0\n"[..], &b"\x03/a\n".repeat(100)].concat())
        .await
        .unwrap();
    drop(recv.read_to_end(64 * 1024).await);
}

/// Who has no session is cut off at its first negotiation without end: on that connection.
#[test]
fn a_negotiation_without_end_costs_the_connection_that_it_is_on() {
    run_test(async {
        let node = node(QUIC).await;
        let (to, _) = QuicParts::parse(&node.addrs()[0]).unwrap();
        for offended in [0, 1] {
            let peer = Peer::new();
            let both = [peer.dial(to).await, peer.dial(to).await];
            let (_, other) = &both[1 - offended];
            let (_, offended) = &both[offended];
            proposes_without_end(offended).await;
            offended.closed().await;
            let ended = tokio::time::timeout(Duration::from_secs(1), other.closed()).await;
            assert!(ended.is_err(), "the other one has ended: {ended:?}");
        }
    });
}
