//! A network in the memory of one process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};

use glueberry_proto::{
    Address, DialError, DialId, Identity, Naming, NewConnection, Origin, PublicKey,
};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::link::Link;
use crate::adapter::{Fabric, Parts};
use crate::error::{Error, ErrorCode};
use crate::mailbox::lock;
use crate::node::Node;
use crate::shared::Shared;
use crate::transport::Transport;

/// Connects nodes of one process without sockets: the same node and the same core, with bytes
/// handed over in memory.
///
/// Every node that is [built over it](crate::Builder::build_over) listens on an address such as
/// `/memory/1`. A handle that is cheap to clone. It has no clock and no threads of its own; for
/// networks that go wrong in every way, use the simulator.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::test_util::{MemoryNetwork, ScriptedPeer};
/// use glueberry_tokio::{Config, ErrorCode, Node, identity::Keypair};
///
/// let network = MemoryNetwork::new();
/// let peer = ScriptedPeer::new(&network, ["chat"]).await?;
/// let node = Node::builder(Keypair::generate_ed25519())
///     .config(Config::for_tests())
///     .build_over(&network)
///     .await?;
/// node.add_peer(peer.id(), [peer.addr()]).await?;
/// network.cut(node.public_key(), peer.key());
/// let error = node.connect(peer.id()).await.unwrap_err();
/// assert_eq!(error.code(), ErrorCode::ConnectionFailed);
/// network.heal(node.public_key(), peer.key());
/// node.connect(peer.id()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    hosts: Arc<Mutex<Hosts>>,
}

#[derive(Default)]
struct Hosts {
    last: u64,
    listening: BTreeMap<String, Host>,
    links: Vec<([PublicKey; 2], Weak<Link>)>,
    cut: BTreeSet<[PublicKey; 2]>,
}

struct Host {
    key: PublicKey,
    shared: Weak<Shared>,
}

impl MemoryNetwork {
    /// Makes a network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts two nodes off from each other: their connections are lost and dials fail, until
    /// [`heal`](Self::heal).
    pub fn cut(&self, one: PublicKey, other: PublicKey) {
        let mut hosts = lock(&self.hosts);
        let pair = pair(one, other);
        hosts.cut.insert(pair);
        let links = hosts.links.iter().filter(|(of, _)| *of == pair);
        let links: Vec<Arc<Link>> = links.filter_map(|(_, link)| link.upgrade()).collect();
        drop(hosts);
        for link in links {
            link.cut();
        }
    }

    /// Lets two nodes reach each other again.
    pub fn heal(&self, one: PublicKey, other: PublicKey) {
        lock(&self.hosts).cut.remove(&pair(one, other));
    }

    /// Gives a node an address.
    fn attach(&self, key: PublicKey, shared: &Arc<Shared>) -> MemoryTransport {
        let mut hosts = lock(&self.hosts);
        hosts.last += 1;
        let address = Multiaddr::empty().with(multiaddr::Protocol::Memory(hosts.last));
        let host = Host { key, shared: Arc::downgrade(shared) };
        hosts.listening.insert(address.to_string(), host);
        let (network, shared) = (self.clone(), shared.clone());
        let transport = MemoryTransport { network, key, address: address.to_string(), shared };
        transport.shared.update_addrs(|addrs| addrs.push(address));
        transport
    }

    fn dial(
        &self,
        from: PublicKey,
        to: PublicKey,
        addresses: &[Address],
    ) -> Result<Arc<Shared>, DialError> {
        let hosts = lock(&self.hosts);
        let mut found =
            addresses.iter().filter_map(|address| hosts.listening.get(address.as_str()));
        let host = found.next().ok_or(DialError::NoUsableAddress)?;
        if host.key != to {
            return Err(DialError::WrongPeer { actual: PeerId::from(host.key).to_string() });
        }
        if hosts.cut.contains(&pair(from, to)) {
            return Err(DialError::TimedOut);
        }
        host.shared.upgrade().ok_or(DialError::NoUsableAddress)
    }
}

impl Fabric for &MemoryNetwork {
    async fn start(self, parts: Parts) -> Result<Node, Error> {
        let key = Identity::try_from(&parts.identity)
            .map_err(|error| Error::because(ErrorCode::InvalidPublicKey, error))?
            .public_key();
        parts.start(Vec::new(), |shared| self.attach(key, shared))
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNetwork").finish_non_exhaustive()
    }
}

/// One node's end of the network.
pub(crate) struct MemoryTransport {
    network: MemoryNetwork,
    key: PublicKey,
    shared: Arc<Shared>,
    address: String,
}

impl Transport for MemoryTransport {
    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Address>) {
        let Ok(to) = PublicKey::try_from(&peer) else {
            return;
        };
        let listener = match self.network.dial(self.key, to, &addresses) {
            Ok(listener) => listener,
            Err(error) => return self.shared.dial_failed(dial, error),
        };
        let (link, ends) = Link::new();
        {
            let mut hosts = lock(&self.network.hosts);
            hosts.links.retain(|(_, link)| link.strong_count() > 0);
            hosts.links.push((pair(self.key, to), Arc::downgrade(&link)));
        }
        let offers =
            [(&self.shared, to, Origin::Dialled(dial)), (&listener, self.key, Origin::Accepted)];
        for ((shared, peer, origin), connection) in offers.into_iter().zip(ends) {
            let offered = NewConnection { peer, origin, naming: Naming::Preamble };
            // A node that has stopped drops the connection, which closes it.
            shared.offer_connection(offered, connection);
        }
    }

    fn cancel(&mut self, _: DialId) {
        // A dial is over as soon as it has begun.
    }

    fn is_listening(&self) -> bool {
        lock(&self.network.hosts).listening.contains_key(&self.address)
    }

    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        lock(&self.network.hosts).listening.remove(&self.address);
        Box::pin(std::future::ready(()))
    }
}

fn pair(one: PublicKey, other: PublicKey) -> [PublicKey; 2] {
    if one < other { [one, other] } else { [other, one] }
}
