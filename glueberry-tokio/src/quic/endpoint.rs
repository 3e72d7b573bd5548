//! The node's UDP sockets, and the QUIC connections that begin on them.

mod config;
mod error;

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::hmac;
use futures_util::future::select;
use futures_util::stream::{FuturesUnordered, StreamExt};
use libp2p_identity::{Keypair, PeerId};
use multiaddr::Multiaddr;
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{ConnectError, Connecting, EndpointConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, Type};
use zeroize::Zeroizing;

pub(crate) use config::QuicConfig;
pub(crate) use error::{AcceptError, DialError, EndpointError};

use super::{
    QuicAddr,
    closing::AllClosing,
    interfaces,
    socket::Socket as Freeable,
    tls::{Refusal, Tls, peer_id},
};
use crate::runtime::Runtime;

/// All the QUIC of one node: the sockets that it listens on and the ones that it dials from.
///
/// Dropping it, or the last of its connections after that, closes the sockets.
#[derive(Debug)]
pub(crate) struct Endpoint {
    tls: Tls,
    transport: Arc<TransportConfig>,
    runtime: Arc<dyn quinn::Runtime>,
    listeners: Vec<Listener>,
    diallers: Mutex<Diallers>,
    closing: Arc<AllClosing>,
}

impl Endpoint {
    /// Binds all of `listen`; none is fine for a node that only dials.
    ///
    /// # Errors
    ///
    /// If one cannot be bound, none is.
    pub(crate) fn bind(
        runtime: &dyn Runtime,
        identity: &Keypair,
        listen: &[Multiaddr],
        config: &QuicConfig,
    ) -> Result<Self, EndpointError> {
        let runtime = runtime.quinn().ok_or(EndpointError::NoUdp)?;
        let transport = config.transport()?;
        let tls = Tls::new(identity)?;
        let mut server = tls.server_config()?;
        server
            .transport_config(Arc::clone(&transport))
            // A NAT that rebinds gives the peer another address in the middle of a session.
            .migration(true)
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER_BYTES)
            .incoming_buffer_size_total(INCOMING_BUFFER_BYTES * 64);
        let listeners = listen
            .iter()
            .map(|address| Listener::bind(address, identity, &server, &runtime))
            .collect::<Result<_, _>>()?;
        let (diallers, closing) = (Mutex::default(), Arc::default());
        Ok(Self { tls, transport, runtime, listeners, diallers, closing })
    }

    /// Returns who counts the connections that are to be closed in order.
    pub(crate) const fn closing(&self) -> &Arc<AllClosing> {
        &self.closing
    }

    /// Where this node can be dialled, with the ports that it really got. An unspecified IP address
    /// is those of the machine's interfaces.
    pub(crate) fn addrs(&self) -> Vec<Multiaddr> {
        let all = self.listeners.iter().flat_map(|listener| interfaces::reached_at(listener.local));
        all.map(|socket| QuicAddr::from(socket).into()).collect()
    }

    /// Connects to `expected` at `address`, from a listening socket if one can reach there.
    ///
    /// The future stands on its own; dropping it abandons the attempt. It is ready once the peer
    /// is proven to be `expected`. The peer may still refuse this node after that: then the
    /// connection is closed by it.
    pub(crate) fn dial(
        &self,
        address: SocketAddr,
        expected: PeerId,
    ) -> impl Future<Output = Result<quinn::Connection, DialError>> + Send + use<> {
        let begun = self.tls.client_config(Some(expected)).map_err(DialError::from).and_then(
            |(mut config, verdict)| {
                config.transport_config(Arc::clone(&self.transport)).version(QUIC_V1);
                Ok((self.connect(&config, address)?, verdict))
            },
        );
        async move {
            let (connecting, verdict) = begun?;
            connecting.await.map_err(|error| match verdict.refusal() {
                Some(&Refusal::WrongPeer { actual }) => {
                    DialError::WrongPeer { expected: expected.into(), actual: actual.into() }
                }
                Some(Refusal::Certificate(error)) => DialError::Certificate(error.clone()),
                None => DialError::Connection(error),
            })
        }
    }

    /// Waits for a peer to dial one of the listening sockets.
    ///
    /// `None` once all of them are closed, at once if there are none. Dropping the future loses
    /// nobody.
    pub(crate) async fn accept(&self) -> Option<Incoming> {
        let mut waiting: FuturesUnordered<_> =
            self.listeners.iter().map(|listener| listener.bound.endpoint.accept()).collect();
        while let Some(incoming) = waiting.next().await {
            if let Some(incoming) = incoming {
                return Some(Incoming { incoming });
            }
        }
        None
    }

    /// Closes every connection and refuses new ones, in both directions.
    pub(crate) fn close(&self, code: VarInt, reason: &[u8]) {
        self.lock_diallers().closed = true;
        for Bound { endpoint, .. } in self.bound() {
            endpoint.close(code, reason);
        }
    }

    /// Closes everything, and frees the sockets.
    ///
    /// Peers with a connection are told that it is closed, and have a round trip to ask again if
    /// that was lost. Nothing is to be gained from others, such as one that has not answered a
    /// dial, so none of the rest is waited for: QUIC would want to keep a closed connection for
    /// three timeouts (RFC 9000, section 10.2), which are 3 s before the first answer.
    pub(crate) async fn shut_down(&self, runtime: &dyn Runtime) {
        self.lock_diallers().closed = true;
        let round_trip = self.closing.all_sent(runtime).await;
        self.close(VarInt::from_u32(0), b"");
        let all = self.bound();
        let all_idle = async {
            for Bound { endpoint, .. } in &all {
                endpoint.wait_idle().await;
            }
        };
        let patience = runtime.sleep(round_trip);
        drop(select(pin!(all_idle), patience).await);
        for Bound { socket, .. } in &all {
            socket.free();
        }
    }

    fn connect(
        &self,
        config: &quinn::ClientConfig,
        address: SocketAddr,
    ) -> Result<Connecting, DialError> {
        let connect = |bound: &Bound| {
            let endpoint = &bound.endpoint;
            endpoint.connect_with(config.clone(), address, SERVER_NAME)
        };
        let mut diallers = self.lock_diallers();
        if diallers.closed {
            return Err(DialError::Closed);
        }
        let source = source_of(address);
        let reusable =
            self.listeners.iter().find(|listener| listener.reaches(address.ip(), source));
        let dialler = diallers.of(address.ip());
        for bound in reusable.map(|listener| &listener.bound).into_iter().chain(&*dialler) {
            match connect(bound) {
                // Its socket died. Another may live.
                Err(ConnectError::EndpointStopping) => {}
                begun => return Ok(begun?),
            }
        }
        let fresh = self.ephemeral(address.ip()).map_err(DialError::Bind)?;
        Ok(connect(dialler.insert(fresh))?)
    }

    fn ephemeral(&self, target: IpAddr) -> io::Result<Bound> {
        open(SocketAddr::new(any_of(target), 0), None, &self.runtime)
    }

    fn bound(&self) -> Vec<Bound> {
        let diallers = self.lock_diallers();
        let listeners = self.listeners.iter().map(|listener| &listener.bound);
        listeners.chain(&diallers.v4).chain(&diallers.v6).cloned().collect()
    }

    fn lock_diallers(&self) -> MutexGuard<'_, Diallers> {
        self.diallers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A peer that wants to connect. Dropping it turns the peer away with the least work.
#[derive(Debug)]
pub(crate) struct Incoming {
    incoming: quinn::Incoming,
}

impl Incoming {
    /// Where the packets claim to come from; not proven before the handshake.
    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    pub(super) fn into_inner(self) -> quinn::Incoming {
        self.incoming
    }

    /// Performs the handshake, at the end of which the peer is proven to be who it says.
    ///
    /// Any identity is let through: whether it is wanted is for the caller to say. The future
    /// stands on its own; dropping it breaks the handshake off.
    pub(crate) async fn accept(self) -> Result<(quinn::Connection, PeerId), AcceptError> {
        let connection = self.incoming.await?;
        let peer = peer_id(&connection)?;
        Ok((connection, peer))
    }
}

impl From<quinn::Incoming> for Incoming {
    fn from(incoming: quinn::Incoming) -> Self {
        Self { incoming }
    }
}

/// A socket, and the QUIC on it.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) endpoint: quinn::Endpoint,
    socket: Arc<Freeable>,
}

#[derive(Debug)]
struct Listener {
    bound: Bound,
    local: SocketAddr,
}

impl Listener {
    fn bind(
        address: &Multiaddr,
        identity: &Keypair,
        server: &quinn::ServerConfig,
        runtime: &Arc<dyn quinn::Runtime>,
    ) -> Result<Self, EndpointError> {
        let socket = QuicAddr::try_from(address)
            .map_err(|source| EndpointError::Address { address: address.clone(), source })?
            .socket;
        open(socket, Some((identity, server.clone())), runtime)
            .and_then(|bound| Ok(Self { local: bound.endpoint.local_addr()?, bound }))
            .map_err(|source| EndpointError::Bind { address: address.clone(), source })
    }

    /// Returns whether packets to `target` leave from this socket's address: `source` is the one
    /// that the system's routes say.
    fn reaches(&self, target: IpAddr, source: Option<IpAddr>) -> bool {
        reaches(self.local.ip(), target, || source)
    }
}

/// Sockets to dial from where no listening one fits, opened when first needed.
#[derive(Debug, Default)]
struct Diallers {
    v4: Option<Bound>,
    v6: Option<Bound>,
    closed: bool,
}

impl Diallers {
    fn of(&mut self, target: IpAddr) -> &mut Option<Bound> {
        match target {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        }
    }
}

/// Opens a socket to dial from, or one to listen on.
fn open(
    local: SocketAddr,
    listening: Option<(&Keypair, quinn::ServerConfig)>,
    runtime: &Arc<dyn quinn::Runtime>,
) -> io::Result<Bound> {
    open_on(open_socket(local)?, listening, runtime)
}

/// Has QUIC on a socket, which dials, or also listens.
pub(super) fn open_on(
    socket: UdpSocket,
    listening: Option<(&Keypair, quinn::ServerConfig)>,
    runtime: &Arc<dyn quinn::Runtime>,
) -> io::Result<Bound> {
    let (mut config, server) = match listening {
        Some((identity, server)) => (restartable(identity, socket.local_addr()?)?, Some(server)),
        None => (EndpointConfig::default(), None),
    };
    config.supported_versions(vec![QUIC_V1]);
    let socket = Freeable::new(runtime.wrap_udp_socket(socket)?)?;
    let runtime = Arc::clone(runtime);
    let endpoint =
        quinn::Endpoint::new_with_abstract_socket(config, server, socket.clone(), runtime)?;
    Ok(Bound { endpoint, socket })
}

/// Returns a configuration that is the same after a restart of the process, so that a peer of the
/// process before learns by a stateless reset that its connection is gone (RFC 9000, section 10.3),
/// rather than by silence.
///
/// Each socket has keys of its own: a packet that is sent to another socket of this node must not
/// be answered with the token that resets a living connection (section 21.11).
fn restartable(identity: &Keypair, local: SocketAddr) -> io::Result<EndpointConfig> {
    let derive = |what: &str| {
        let domain = format!("glueberry quic {what} {local}");
        let secret = identity.derive_secret(domain.as_bytes()).map(Zeroizing::new);
        secret.ok_or_else(|| io::Error::other("the identity has no secret to derive keys from"))
    };
    let reset = hmac::Key::new(hmac::HMAC_SHA256, &*derive("stateless reset")?);
    let mut config = EndpointConfig::new(Arc::new(ResetKey(reset)));
    let ids = derive("connection ids")?;
    let ids = u64::from_le_bytes(ids.first_chunk().copied().unwrap_or_default());
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    Ok(config)
}

/// What tokens of stateless resets are made with.
///
/// quinn has it only for the key of one library: for ring's as soon as anything in the program
/// wants that, as libp2p does.
struct ResetKey(hmac::Key);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        signature.copy_from_slice(hmac::sign(&self.0, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        self.0.algorithm().digest_algorithm().output_len()
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        hmac::verify(&self.0, data, signature).map_err(|_| CryptoError)
    }
}

/// Asks the system for the source address of packets to `target`. Sends nothing.
pub(super) fn source_of(target: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any_of(target.ip()), 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Returns whether packets to `target` leave from a socket that is bound to `local`: `source` is the
/// address that the system's routes say.
pub(super) fn reaches(
    local: IpAddr,
    target: IpAddr,
    source: impl FnOnce() -> Option<IpAddr>,
) -> bool {
    local.is_ipv4() == target.is_ipv4()
        && (local.is_unspecified()
            || (local.is_loopback() && target.is_loopback())
            || source() == Some(local))
}

/// Returns the unspecified address of the family.
pub(super) const fn any_of(target: IpAddr) -> IpAddr {
    match target {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

pub(super) fn open_socket(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        // So that both families can have the same port, on every system.
        socket.set_only_v6(true)?;
    }
    // Best effort: systems grant less without saying so, or refuse.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&local.into())?;
    Ok(socket.into())
}

/// What every libp2p node dials; it says nothing about the peer.
pub(super) const SERVER_NAME: &str = "l";
const QUIC_V1: u32 = 1;
/// Handshakes that nobody has looked at yet. More are refused.
pub(super) const MAX_INCOMING: usize = 1024;
/// What such a handshake may hold: a few packets, since nothing but its beginning is expected.
pub(super) const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;
/// Linux's default of 208 KiB loses packets whenever a burst meets a busy reader.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
