//! The simulated network as what a node runs over.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use glueberry_proto::{Address, DialId, PublicKey};
use glueberry_tokio::adapter::{Fabric, Parts, Transport};
use glueberry_tokio::identity::PeerId;
use glueberry_tokio::{Error, ErrorCode, Multiaddr, Node};

use super::Core;
use super::network::Life;
use crate::rng::u64_of;

/// The simulated network, as [`Builder::build_over`](glueberry_tokio::Builder::build_over) takes it: see
/// [`Host::network`](super::Host::network).
pub struct SimNetwork {
    pub(super) core: Arc<Core>,
    pub(super) life: Life,
}

impl fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimNetwork").field(&self.core.names[self.life.host]).finish()
    }
}

impl Fabric for SimNetwork {
    async fn start(self, parts: Parts) -> Result<Node, Error> {
        if parts.book.is_some() {
            let why = "a simulated host has no file system: store peers on its Disk";
            return Err(Error::because(ErrorCode::AddressBookFailed, why));
        }
        let (core, life) = (self.core, self.life);
        let addrs = vec![address_of(life.host)];
        parts.start(addrs, move |shared| {
            core.network.attach(life, shared);
            SimTransport { core, life }
        })
    }
}

/// A node's end of the network.
struct SimTransport {
    core: Arc<Core>,
    life: Life,
}

impl Transport for SimTransport {
    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Address>) {
        let Ok(expected) = PublicKey::try_from(&peer) else {
            return;
        };
        let hosts = 0..self.core.names.len();
        let to = addresses.iter().find_map(|address| {
            hosts.clone().find(|host| address_of(*host).to_string() == address.as_str())
        });
        self.core.network.dial(self.life, dial, to, expected);
    }

    fn cancel(&mut self, dial: DialId) {
        self.core.network.cancel(self.life, dial);
    }

    fn is_listening(&self) -> bool {
        self.core.network.is_listening(self.life)
    }

    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.core.network.detach(self.life);
        Box::pin(std::future::ready(()))
    }
}

/// Returns where a host is reached.
pub(super) fn address_of(host: usize) -> Multiaddr {
    let number = u64_of(host) + 1;
    Multiaddr::empty().with(multiaddr::Protocol::Memory(number))
}
