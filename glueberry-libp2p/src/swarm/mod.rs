//! The ready-made node: a swarm with its transports and behaviours.

mod answered;
mod behaviours;
mod bounded;
mod circuits;
mod here;
mod listeners;
mod muxed;
mod observed;
mod quic;
mod security;
mod stack;
mod task;
mod windows;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use glueberry_tokio::adapter::{Fabric, Parts};
use glueberry_tokio::runtime::TokioRuntime;
use glueberry_tokio::{Error, ErrorCode, Node};
use libp2p::swarm::Config as SwarmConfig;
use libp2p::{Multiaddr, Swarm};
use tracing::Instrument;

use self::behaviours::Behaviours;
use self::circuits::Circuits;
use self::here::Placed;
use self::listeners::Listeners;
use self::task::OwnedSwarm;
use self::windows::Windows;
use crate::Behaviour;
use crate::settings::{Ownership, Settings};

/// libp2p as the transport of a [`Node`]: TCP with TLS or Noise, QUIC, relays and hole punching.
///
/// What a peer-to-peer program needs is on by default; switch off what is not wanted. What serves others or
/// finds peers is off. The choice between raw QUIC and
/// libp2p is the last line of a builder:
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), glueberry_tokio::Error> {
/// use glueberry_libp2p::Libp2p;
/// use glueberry_tokio::{Node, identity::Keypair};
///
/// let mut over = Libp2p::default();
/// over.upnp = false;
/// let node = Node::builder(Keypair::generate_ed25519())
///     .listen("/ip4/127.0.0.1/tcp/0".parse().unwrap())
///     .streams(["chat"])
///     .build_over(over) // over raw QUIC: `.build()`
///     .await?;
/// assert!(node.addrs()[0].to_string().contains("/tcp/"));
/// # Ok(()) }
/// ```
///
/// It needs a tokio runtime, since libp2p's sockets do. Connections belong to the node: they are
/// closed with their sessions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Libp2p {
    /// TCP, with yamux.
    pub tcp: bool,
    /// TLS 1.3 on TCP and over relays; proposed before Noise.
    pub tls: bool,
    /// Noise on TCP and over relays.
    pub noise: bool,
    /// QUIC.
    pub quic: bool,
    /// Names in addresses, such as `/dns4/example.org/tcp/4001`.
    pub dns: bool,
    /// Connections over relays. Listen on `/…/p2p/<relay>/p2p-circuit` to be reached over one. A
    /// relay that is lost is tried again, as every address that is listened on:
    /// [`ListenerLost`](glueberry_tokio::Event::ListenerLost) reports it. A node starts if it
    /// listens on one of its addresses at least.
    pub relay: bool,
    /// Direct connections in place of relayed ones, by hole punching (DCUtR).
    pub hole_punching: bool,
    /// Finding out, with the help of peers, at which addresses this node can be reached; and
    /// helping others to. AutoNAT v2.
    pub autonat: bool,
    /// Telling peers who one is and where they seem to be. Hole punching needs it.
    pub identify: bool,
    /// Answering pings, and measuring round trips.
    pub ping: bool,
    /// Asking the router to forward a port.
    pub upnp: bool,
    /// Being a relay for others, with libp2p's default limits: 128 peers can be reached over it, by 16
    /// connections at a time, each for 2 minutes and 128 KiB. Off by default. Peers must be able to reach
    /// the relay: see [`external_addresses`](Self::external_addresses).
    pub relay_server: bool,
    /// Addresses at which this node can be reached, if that is known: a relay tells them to peers. What
    /// `autonat` and `upnp` find out is added. None by default.
    pub external_addresses: Vec<Multiaddr>,
    /// Finding peers on the local network by mDNS, and being found. Each is a
    /// [`PeerDiscovered`](glueberry_tokio::Event::PeerDiscovered). Off by default. Anybody on that network
    /// sees who this node is, and may announce what it likes. Only with the feature `mdns`.
    #[cfg(feature = "mdns")]
    pub mdns: bool,
    /// Finding peers by asking peers, with Kademlia's protocol of this name, such as
    /// `StreamProtocol::new("/my-application/kad/1.0.0")`; those that share it know each other. Each is a
    /// [`PeerDiscovered`](glueberry_tokio::Event::PeerDiscovered). Needs `identify`. A node answers others
    /// once it knows that it can be reached, by `autonat` or `external_addresses`. `None`, the default,
    /// is off. Only with the feature `kad`.
    #[cfg(feature = "kad")]
    pub kademlia: Option<libp2p::StreamProtocol>,
    /// How long a connection over a relay waits for a direct one before it carries the session.
    /// 5 s; zero, or `hole_punching` off, is not at all.
    pub hole_punch_wait: Duration,
    /// How long a connection that carries no session is kept. 10 s.
    pub idle_timeout: Duration,
}

impl Default for Libp2p {
    fn default() -> Self {
        Self {
            tcp: true,
            tls: true,
            noise: true,
            quic: true,
            dns: true,
            relay: true,
            hole_punching: true,
            autonat: true,
            identify: true,
            ping: true,
            upnp: true,
            relay_server: false,
            external_addresses: Vec::new(),
            #[cfg(feature = "mdns")]
            mdns: false,
            #[cfg(feature = "kad")]
            kademlia: None,
            hole_punch_wait: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
        }
    }
}

impl Libp2p {
    /// Returns a fabric with nothing on, not even a transport.
    pub fn bare() -> Self {
        Self {
            tcp: false,
            tls: false,
            noise: false,
            quic: false,
            dns: false,
            relay: false,
            hole_punching: false,
            autonat: false,
            identify: false,
            ping: false,
            upnp: false,
            ..Self::default()
        }
    }

    /// Checks that what is on can work together.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorCode::InvalidConfig), with the reason.
    pub fn check(&self) -> Result<(), Error> {
        let problem = if !self.tcp && !self.quic {
            "neither tcp nor quic is on"
        } else if (self.tcp || self.relay) && !self.tls && !self.noise {
            "tcp and relay need tls or noise"
        } else if self.hole_punching && !(self.relay && self.identify) {
            "hole_punching needs relay and identify"
        } else if self.has_kademlia() && !self.identify {
            "kademlia needs identify"
        } else {
            return Ok(());
        };
        Err(Error::because(ErrorCode::InvalidConfig, problem))
    }

    const fn has_kademlia(&self) -> bool {
        #[cfg(feature = "kad")]
        return self.kademlia.is_some();
        #[cfg(not(feature = "kad"))]
        false
    }
}

impl Fabric for Libp2p {
    async fn start(self, parts: Parts) -> Result<Node, Error> {
        self.check()?;
        if TokioRuntime::current().is_none() {
            return Err(Error::because(ErrorCode::InvalidConfig, "libp2p needs a tokio runtime"));
        }
        let (identity, config) = (parts.identity.clone(), parts.config.clone());
        let (runtime, addresses) = (parts.runtime.clone(), parts.listen.clone());
        let wait = if self.hole_punching { self.hole_punch_wait } else { Duration::ZERO };
        let windows = Arc::<Windows>::default();
        let (stack, relay) = stack::build(&self, &identity, &config, &windows, &runtime)
            .map_err(|error| Error::because(ErrorCode::InvalidConfig, error))?;
        let mut settings = Settings::new(&config, Ownership::Owned, wait);
        settings.bounds = Some(here::find);
        let circuits = Circuits::new(windows);
        let (stop, stopping) = oneshot::channel();
        let (glueberry, node) =
            Behaviour::bind(parts, settings, |swarm| OwnedSwarm::new(swarm, stop))?;
        let (executor, span) = (runtime.clone(), glueberry.span());
        let behaviours = Behaviours::new(&self, &identity, &config, glueberry, relay, &runtime)
            .map_err(|error| Error::because(ErrorCode::ListenFailed, error))?;
        let in_span = span.clone();
        let swarm_config =
            SwarmConfig::with_executor(move |task: Pin<Box<dyn Future<Output = ()> + Send>>| {
                executor.spawn(Box::pin(Placed::new(task).instrument(in_span.clone())));
            })
            .with_idle_connection_timeout(self.idle_timeout);
        let peer = identity.public().to_peer_id();
        let mut swarm = Swarm::new(stack, behaviours, peer, swarm_config);
        self.external_addresses.into_iter().for_each(|it| swarm.add_external_address(it));
        let listeners = Listeners::start(&mut swarm, &addresses, &*runtime).await?;
        let task = task::run(swarm, listeners, circuits, stopping, Arc::clone(&runtime));
        runtime.spawn(Box::pin(task.instrument(span)));
        Ok(node)
    }
}
