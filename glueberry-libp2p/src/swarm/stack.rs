//! The transports of a ready-made node.

use std::io;
use std::sync::Arc;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::dummy::DummyTransport;
use libp2p::core::transport::{Boxed, Transport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, dns, relay, tcp};

use super::Libp2p;
use super::answered::Answered;
use super::bounded::Bounded;
use super::muxed::{Overflow, Yamux};
use super::quic::Quic;
use super::security::Security;
use super::windows::Windows;
use glueberry_tokio::Config;
use glueberry_tokio::runtime::Runtime;

/// Connections to authenticated peers, whatever they run over.
pub(super) type Stack = Boxed<(PeerId, StreamMuxerBox)>;

/// Builds what is switched on, and the behaviour of the relay client if that is.
pub(super) fn build(
    options: &Libp2p,
    identity: &Keypair,
    config: &Config,
    windows: &Arc<Windows>,
    runtime: &Arc<dyn Runtime>,
) -> io::Result<(Stack, Option<relay::client::Behaviour>)> {
    let bounded = |stack| Bounded::new(stack, runtime, config).boxed();
    let security = Security::new(identity, options.tls, options.noise)?;
    let yamux = Yamux::new(substreams(config), windows, runtime);
    let mut stack: Stack = DummyTransport::new().boxed();
    if options.quic {
        let windows = Arc::clone(windows);
        let quic = Quic::new(identity, config, substreams(config), windows, runtime)?;
        stack = either(Bounded::in_time_only(quic.boxed(), runtime, config).boxed(), stack);
    }
    if options.tcp {
        stack = either(bounded(over_tcp(security.clone(), yamux.clone())), stack);
    }
    if options.dns {
        stack = dns::tokio::Transport::system(stack)?.boxed();
    }
    if !options.relay {
        return Ok((stack, None));
    }
    let (relayed, behaviour) = relay::client::new(identity.public().to_peer_id());
    let relayed = relayed
        .map(|stream, _| Answered::connection(stream))
        .upgrade(Version::V1Lazy)
        .authenticate(security)
        .multiplex_ext(move |peer, _| yamux.with(*peer, Overflow::Fails))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed();
    Ok((either(bounded(relayed), stack), Some(behaviour)))
}

fn either(first: Stack, second: Stack) -> Stack {
    first.or_transport(second).map(|either, _| either.into_inner()).boxed()
}

fn over_tcp(security: Security, yamux: Yamux) -> Stack {
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .map(|stream, _| Answered::connection(stream))
        .upgrade(Version::V1Lazy)
        .authenticate(security)
        .multiplex_ext(move |peer, _| yamux.with(*peer, Overflow::Waits))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

/// Substreams of a peer: those of its session, and those of libp2p's own protocols.
fn substreams(config: &Config) -> u32 {
    u32::try_from(config.core.max_substreams).unwrap_or(u32::MAX).saturating_add(OF_LIBP2P)
}

/// Substreams that identify, ping, relays and the like may need at one time.
const OF_LIBP2P: u32 = 16;
