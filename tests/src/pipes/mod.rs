//! A third transport: one TCP connection with TLS by rustls, cut into substreams by the core's
//! [multiplexer](glueberry_proto::mux).
//!
//! The certificates are libp2p's, which the identities sign (rule C0).

mod connection;
mod pipe;
mod substream;
mod tls;

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use glueberry_tokio::adapter::{Fabric, Parts, Shared, Transport};
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::proto::{Address, DialError, DialId, Naming, NewConnection, Origin, mux};
use glueberry_tokio::{Config, Error, ErrorCode, Multiaddr, Node, PublicKey};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, spawn};
use tokio::time::timeout;

use self::connection::PipeConnection;
use self::tls::Secured;

/// What one node runs over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pipes;

impl Fabric for Pipes {
    async fn start(self, parts: Parts) -> Result<Node, Error> {
        let failed = |error| Error::because(ErrorCode::ListenFailed, error);
        let listen = parts.listen.iter().find_map(socket_addr);
        let listener = match listen {
            Some(address) => Some(TcpListener::bind(address).await.map_err(failed)?),
            None => None,
        };
        let address = listener.as_ref().map(TcpListener::local_addr).transpose().map_err(failed)?;
        let addrs = address.into_iter().map(multiaddr).collect();
        let identity = parts.identity.clone();
        let mux = mux(&parts.config);
        parts.start(addrs, |shared| {
            let shared = shared.clone();
            let accept =
                |listener| spawn(accept(listener, identity.clone(), shared.clone(), mux.clone()));
            let accepting = listener.map(|listener| accept(listener).abort_handle());
            let dials = BTreeMap::new();
            PipeTransport { identity: identity.clone(), shared, mux: mux.clone(), accepting, dials }
        })
    }
}

struct PipeTransport {
    identity: Keypair,
    shared: Arc<Shared>,
    mux: mux::Config,
    accepting: Option<AbortHandle>,
    dials: BTreeMap<DialId, AbortHandle>,
}

impl Transport for PipeTransport {
    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Address>) {
        let (identity, shared) = (self.identity.clone(), self.shared.clone());
        let mux = self.mux.clone();
        let dialling = spawn(async move {
            match dial_any(&identity, peer, &addresses, &shared, dial).await {
                Ok(pipe) => offer(&shared, pipe, Origin::Dialled(dial), mux),
                Err(error) => shared.dial_failed(dial, error),
            }
        });
        self.dials.retain(|_, dial| !dial.is_finished());
        self.dials.insert(dial, dialling.abort_handle());
    }

    fn cancel(&mut self, dial: DialId) {
        if let Some(dial) = self.dials.remove(&dial) {
            dial.abort();
        }
    }

    fn is_listening(&self) -> bool {
        self.accepting.as_ref().is_none_or(|accepting| !accepting.is_finished())
    }

    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.accepting.iter().chain(self.dials.values()).for_each(AbortHandle::abort);
        Box::pin(ready(()))
    }
}

async fn accept(listener: TcpListener, identity: Keypair, shared: Arc<Shared>, mux: mux::Config) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            continue;
        };
        let (identity, shared, mux) = (identity.clone(), shared.clone(), mux.clone());
        spawn(async move {
            let secured = tls::accept(tcp, &identity);
            if let Ok(Ok(pipe)) = timeout(shared.negotiation_timeout(), secured).await {
                offer(&shared, pipe, Origin::Accepted, mux);
            }
        });
    }
}

async fn dial_any(
    identity: &Keypair,
    peer: PeerId,
    addresses: &[Address],
    shared: &Shared,
    dial: DialId,
) -> Result<Secured, DialError> {
    let mut last = DialError::NoUsableAddress;
    for address in addresses {
        let Some(to) = address.as_str().parse().ok().as_ref().and_then(socket_addr) else {
            continue;
        };
        let attempt = async { tls::connect(TcpStream::connect(to).await?, to, identity).await };
        last = match timeout(shared.negotiation_timeout(), attempt).await {
            Ok(Ok(pipe)) if pipe.peer == peer => {
                shared.dial_answered(dial, address.clone());
                return Ok(pipe);
            }
            Ok(Ok(pipe)) => DialError::WrongPeer { actual: pipe.peer.to_string() },
            Ok(Err(error)) => DialError::Transport(error.to_string()),
            Err(_) => DialError::TimedOut,
        };
    }
    Err(last)
}

/// The caller that hands in a connection vouches for the peer's key: TLS has proven it.
fn offer(shared: &Arc<Shared>, pipe: Secured, origin: Origin, mux: mux::Config) {
    let Ok(peer) = PublicKey::try_from(&pipe.peer) else {
        return;
    };
    let offered = NewConnection { peer, origin, naming: Naming::Preamble };
    shared.offer_connection(offered, PipeConnection::new(pipe, &origin, mux));
}

/// The mux looks for silence as the node's configuration wants it.
fn mux(config: &Config) -> mux::Config {
    let mut mux = mux::Config::default();
    mux.ping_after = Some(config.keep_alive);
    mux.ping_timeout = config.keep_alive * config.lost_after.saturating_sub(1).max(1);
    mux
}

fn multiaddr(addr: SocketAddr) -> Multiaddr {
    format!("/ip4/{}/tcp/{}", addr.ip(), addr.port()).parse().expect("an address")
}

fn socket_addr(address: &Multiaddr) -> Option<SocketAddr> {
    let text = address.to_string();
    let mut parts = text.split('/').skip(1);
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()?) {
        ("ip4", ip, "tcp", port) => format!("{ip}:{port}").parse().ok(),
        _ => None,
    }
}
