//! TCP as what nodes run over: it listens, dials, and authenticates.
//!
//! THIS IS A TEST. Both sides sign fresh challenges, which proves their keys at the beginning; but
//! nothing binds what follows to that, and nothing of it is encrypted but the records inside.
//! Whoever sits on the path could take the connection over. A real transport is TLS, Noise, or
//! something of their kind, whose keys the identities sign.

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use glueberry_tokio::adapter::{Fabric, Parts, Shared, Transport};
use glueberry_tokio::identity::{Keypair, PeerId, PublicKey as Key, ed25519};
use glueberry_tokio::proto::{Address, DialError, DialId, Naming, NewConnection, Origin};
use glueberry_tokio::{Error, ErrorCode, Multiaddr, Node, PublicKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, spawn};
use tokio::time::timeout;

use crate::mux::MuxConnection;

/// A node's transport over TCP, listening on one port of this machine.
pub(crate) struct Tcp;

impl Fabric for Tcp {
    async fn start(self, parts: Parts) -> Result<Node, Error> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(|error| Error::because(ErrorCode::ListenFailed, error))?;
        let addr = listener
            .local_addr()
            .map_err(|error| Error::because(ErrorCode::ListenFailed, error))?;
        let identity = parts.identity.clone();
        parts.start(vec![multiaddr(addr)], |shared| {
            let shared = shared.clone();
            let accepting = spawn(accept(listener, identity.clone(), shared.clone()));
            let accepting = accepting.abort_handle();
            TcpTransport { identity, shared, accepting, dials: BTreeMap::new() }
        })
    }
}

struct TcpTransport {
    identity: Keypair,
    shared: Arc<Shared>,
    accepting: AbortHandle,
    dials: BTreeMap<DialId, AbortHandle>,
}

impl Transport for TcpTransport {
    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Address>) {
        let (identity, shared) = (self.identity.clone(), self.shared.clone());
        let dialling = spawn(async move {
            match dial_any(&identity, peer, &addresses, &shared).await {
                Ok(socket) => offer(&shared, socket, peer, Origin::Dialled(dial)),
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
        !self.accepting.is_finished()
    }

    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.accepting.abort();
        self.dials.values().for_each(AbortHandle::abort);
        Box::pin(ready(()))
    }
}

async fn accept(listener: TcpListener, identity: Keypair, shared: Arc<Shared>) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let (identity, shared) = (identity.clone(), shared.clone());
        spawn(async move {
            let hello = hello(&mut socket, &identity);
            if let Ok(Ok(peer)) = timeout(shared.negotiation_timeout(), hello).await {
                offer(&shared, socket, peer, Origin::Accepted);
            }
        });
    }
}

async fn dial_any(
    identity: &Keypair,
    peer: PeerId,
    addresses: &[Address],
    shared: &Shared,
) -> Result<TcpStream, DialError> {
    let mut last = DialError::NoUsableAddress;
    for address in addresses.iter().filter_map(socket_addr) {
        let attempt = async {
            let mut socket = TcpStream::connect(address).await?;
            let actual = hello(&mut socket, identity).await?;
            io::Result::Ok((socket, actual))
        };
        last = match timeout(shared.negotiation_timeout(), attempt).await {
            Ok(Ok((socket, actual))) if actual == peer => return Ok(socket),
            Ok(Ok((_, actual))) => DialError::WrongPeer { actual: actual.to_string() },
            Ok(Err(error)) => DialError::Transport(error.to_string()),
            Err(_) => DialError::TimedOut,
        };
    }
    Err(last)
}

/// Whoever hands in a connection vouches for the peer's key: `peer` has signed for it.
fn offer(shared: &Arc<Shared>, socket: TcpStream, peer: PeerId, origin: Origin) {
    let Ok(peer) = PublicKey::try_from(&peer) else {
        return;
    };
    let is_dialler = matches!(origin, Origin::Dialled(_));
    let offered = NewConnection { peer, origin, naming: Naming::Preamble };
    shared.offer_connection(offered, MuxConnection::new(socket, is_dialler));
}

/// Proves this side's key to the peer, and has it prove its own.
async fn hello(socket: &mut TcpStream, identity: &Keypair) -> io::Result<PeerId> {
    let bad = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    let own: [u8; 32] = identity.public().try_into_ed25519().map_err(|_| bad("key"))?.to_bytes();
    // Whatever is new each time will do.
    let fresh = Keypair::generate_ed25519().try_into_ed25519().map_err(|_| bad("nonce"))?;
    let nonce: [u8; 32] = fresh.public().to_bytes();
    socket.write_all(&[own, nonce].concat()).await?;
    let mut theirs = [0; 64];
    socket.read_exact(&mut theirs).await?;
    let (key, their_nonce) = theirs.split_at(32);
    if key == own {
        return Err(bad("a reflection"));
    }
    let signed = |from: &[u8], to: &[u8], nonce: &[u8]| [LABEL, from, to, nonce].concat();
    let signature = identity.sign(&signed(&own, key, their_nonce)).map_err(|_| bad("signature"))?;
    socket.write_all(&signature).await?;
    let mut answer = [0; 64];
    socket.read_exact(&mut answer).await?;
    let verifier = ed25519::PublicKey::try_from_bytes(key).map_err(|_| bad("no key"))?;
    if !verifier.verify(&signed(key, &own, &nonce), &answer) {
        return Err(bad("the peer has not proven its key"));
    }
    Ok(Key::from(verifier).to_peer_id())
}

fn multiaddr(addr: SocketAddr) -> Multiaddr {
    format!("/ip4/{}/tcp/{}", addr.ip(), addr.port()).parse().unwrap()
}

fn socket_addr(address: &Address) -> Option<SocketAddr> {
    let mut parts = address.as_str().split('/').skip(1);
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()?) {
        ("ip4", ip, "tcp", port) => format!("{ip}:{port}").parse().ok(),
        _ => None,
    }
}

const LABEL: &[u8] = b"glueberry test hello 1";
