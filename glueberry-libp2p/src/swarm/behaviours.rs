//! The behaviours of a ready-made node.

use std::io;
use std::sync::Arc;

use glueberry_tokio::Config;
use glueberry_tokio::runtime::Runtime;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, autonat, dcutr, identify, ping, relay, upnp};

use super::Libp2p;
use super::observed::Observed;
use crate::Behaviour;

/// Glueberry and what brings peers together.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviours {
    limits: connection_limits::Behaviour,
    pub(super) glueberry: Behaviour,
    identify: Toggle<Observed>,
    ping: Toggle<ping::Behaviour>,
    relay: Toggle<relay::client::Behaviour>,
    relay_server: Toggle<relay::Behaviour>,
    hole_punching: Toggle<dcutr::Behaviour>,
    autonat_client: Toggle<autonat::v2::client::Behaviour>,
    autonat_server: Toggle<autonat::v2::server::Behaviour>,
    upnp: Toggle<upnp::tokio::Behaviour>,
    #[cfg(feature = "mdns")]
    mdns: Toggle<libp2p::mdns::tokio::Behaviour>,
    #[cfg(feature = "kad")]
    pub(super) kademlia: Toggle<Kademlia>,
}

#[cfg(feature = "kad")]
pub(super) type Kademlia = libp2p::kad::Behaviour<libp2p::kad::store::MemoryStore>;

impl Behaviours {
    pub(super) fn new(
        options: &Libp2p,
        identity: &Keypair,
        config: &Config,
        glueberry: Behaviour,
        relay: Option<relay::client::Behaviour>,
        runtime: &Arc<dyn Runtime>,
    ) -> io::Result<Self> {
        let peer = identity.public().to_peer_id();
        let identify = identify::Config::new(PROTOCOL.to_owned(), identity.public())
            .with_agent_version(AGENT.to_owned());
        let identified = |config| Observed::new(identify::Behaviour::new(config), runtime.clone());
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits(config)),
            glueberry,
            identify: options.identify.then(|| identified(identify)).into(),
            ping: options.ping.then(ping::Behaviour::default).into(),
            relay: relay.into(),
            relay_server: options.relay_server.then(|| relay_server(peer)).into(),
            hole_punching: options.hole_punching.then(|| dcutr::Behaviour::new(peer)).into(),
            autonat_client: options.autonat.then(Default::default).into(),
            autonat_server: options.autonat.then(Default::default).into(),
            upnp: options.upnp.then(upnp::tokio::Behaviour::default).into(),
            #[cfg(feature = "mdns")]
            mdns: mdns(options, peer)?.into(),
            #[cfg(feature = "kad")]
            kademlia: options.kademlia.clone().map(|protocol| kademlia(peer, protocol)).into(),
        })
    }
}

fn relay_server(peer: PeerId) -> relay::Behaviour {
    relay::Behaviour::new(peer, relay::Config::default())
}

#[cfg(feature = "mdns")]
fn mdns(options: &Libp2p, peer: PeerId) -> io::Result<Option<libp2p::mdns::tokio::Behaviour>> {
    let made = || libp2p::mdns::tokio::Behaviour::new(libp2p::mdns::Config::default(), peer);
    options.mdns.then(made).transpose()
}

#[cfg(feature = "kad")]
fn kademlia(peer: PeerId, protocol: libp2p::StreamProtocol) -> Kademlia {
    let store = libp2p::kad::store::MemoryStore::new(peer);
    Kademlia::with_config(peer, store, libp2p::kad::Config::new(protocol))
}

/// Connections are limited a little above sessions: one may be relayed and one direct, and the
/// core has the last word on sessions. Those whose handshake is under way are limited by each
/// transport of its own.
fn limits(config: &Config) -> ConnectionLimits {
    let count = |number: usize| Some(u32::try_from(number).unwrap_or(u32::MAX));
    ConnectionLimits::default()
        .with_max_established(count(config.core.max_sessions.saturating_mul(2)))
        .with_max_established_per_peer(count(config.core.max_sessions_per_peer.saturating_mul(2)))
}

/// What identify calls the kind of network.
const PROTOCOL: &str = "/glueberry/1.0.0";
/// What identify calls this program.
const AGENT: &str = concat!("glueberry-libp2p/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use glueberry_tokio::Node;
    use glueberry_tokio::runtime::TokioRuntime;

    use super::*;
    use crate::Behaviour;

    /// What a peer can see of it is tested from outside; that no router is asked, only here.
    #[tokio::test]
    async fn a_router_is_asked_only_if_wanted() {
        for upnp in [false, true] {
            let identity = Keypair::generate_ed25519();
            let (glueberry, _node) = Behaviour::new(Node::builder(identity.clone())).unwrap();
            let options = Libp2p { upnp, ..Libp2p::default() };
            let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::current().unwrap());
            let config = Config::default();
            let behaviours =
                Behaviours::new(&options, &identity, &config, glueberry, None, &runtime).unwrap();
            assert_eq!(behaviours.upnp.is_enabled(), upnp);
        }
    }
}
