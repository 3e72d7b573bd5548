//! The node's UDP sockets, and the QUIC connections that begin on them.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use libp2p_identity::{Keypair, PeerId};
use multiaddr::Multiaddr;
use quinn::{ConnectError, Connecting, ConnectionError, EndpointConfig, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::{
    AddressError, CertificateError, QuicAddr, TlsError,
    tls::{Tls, peer_id},
};
use crate::runtime::Runtime;

/// How connections behave, on both sides.
#[derive(Debug, Clone)]
pub(crate) struct QuicConfig {
    /// How many substreams a peer may have open on a connection at once.
    pub(crate) inbound_substreams: u32,
    /// How many substreams this side opens on a connection at once. Not enforced here: what this
    /// side opens and the peer answers needs room in the connection's window too.
    pub(crate) outbound_substreams: u32,
    /// How many bytes a peer may send ahead of the reader on one substream.
    ///
    /// Times the two counts above, it is what a connection can make this node hold at most. No
    /// less is announced for the whole connection, so paused substreams never stall the others.
    pub(crate) stream_window: u32,
    /// How many sent bytes of a connection may be unacknowledged.
    pub(crate) send_window: u64,
    /// After as much silence a connection is probed.
    pub(crate) keep_alive: Duration,
    /// After as many silent intervals it counts as lost. A dial that nobody answers ends then too.
    pub(crate) lost_after: u32,
}

impl Default for QuicConfig {
    /// 32 MiB at most per connection; 10 MB/s per substream where a round trip takes 50 ms; a lost
    /// peer is noticed after 15 s.
    fn default() -> Self {
        Self {
            inbound_substreams: 32,
            outbound_substreams: 32,
            stream_window: 512 * 1024,
            send_window: 8 * 1024 * 1024,
            keep_alive: Duration::from_secs(5),
            lost_after: 3,
        }
    }
}

impl QuicConfig {
    fn transport(&self) -> Result<Arc<TransportConfig>, EndpointError> {
        let substreams = u64::from(self.inbound_substreams) + u64::from(self.outbound_substreams);
        let window = substreams
            .checked_mul(self.stream_window.into())
            .and_then(|window| VarInt::from_u64(window).ok())
            .ok_or(EndpointError::WindowTooLarge)?;
        let idle = self.keep_alive.checked_mul(self.lost_after).unwrap_or(Duration::ZERO);
        // A deadline before the first probe's answer would end every quiet connection.
        if idle <= self.keep_alive {
            return Err(EndpointError::KeepAlive);
        }
        let idle = idle.try_into().map_err(|_| EndpointError::KeepAlive)?;

        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(self.inbound_substreams.into())
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(self.stream_window.into())
            .receive_window(window)
            .send_window(self.send_window)
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(Some(idle))
            .allow_spin(false);
        Ok(Arc::new(transport))
    }
}

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
        server.transport_config(Arc::clone(&transport)).migration(false);
        let listeners = listen
            .iter()
            .map(|address| Listener::bind(address, &server, &runtime))
            .collect::<Result<_, _>>()?;
        Ok(Self { tls, transport, runtime, listeners, diallers: Mutex::default() })
    }

    /// Where this node listens, with the ports that it really got.
    ///
    /// An unspecified IP address stays unspecified: it is for the caller to say which of the
    /// machine's addresses it wants to tell.
    pub(crate) fn addrs(&self) -> Vec<Multiaddr> {
        self.listeners.iter().map(|listener| QuicAddr::from(listener.local).into()).collect()
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
                Some(&CertificateError::WrongPeer { expected, actual }) => {
                    DialError::WrongPeer { expected, actual }
                }
                Some(refusal) => DialError::Certificate(refusal.clone()),
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
            self.listeners.iter().map(|listener| listener.endpoint.accept()).collect();
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
        for endpoint in self.endpoints() {
            endpoint.close(code, reason);
        }
    }

    /// Waits until the peers of closed connections had time to hear of it.
    pub(crate) async fn wait_idle(&self) {
        for endpoint in self.endpoints() {
            endpoint.wait_idle().await;
        }
    }

    fn connect(
        &self,
        config: &quinn::ClientConfig,
        address: SocketAddr,
    ) -> Result<Connecting, DialError> {
        let connect = |endpoint: &quinn::Endpoint| {
            endpoint.connect_with(config.clone(), address, SERVER_NAME)
        };
        let mut diallers = self.lock_diallers();
        if diallers.closed {
            return Err(DialError::Closed);
        }
        let reusable = self.listeners.iter().find(|listener| listener.reaches(address.ip()));
        let dialler = diallers.of(address.ip());
        for endpoint in reusable.map(|listener| &listener.endpoint).into_iter().chain(&*dialler) {
            match connect(endpoint) {
                // Its socket died. Another may live.
                Err(ConnectError::EndpointStopping) => {}
                begun => return Ok(begun?),
            }
        }
        let fresh = self.ephemeral(address.ip()).map_err(DialError::Bind)?;
        Ok(connect(dialler.insert(fresh))?)
    }

    fn ephemeral(&self, target: IpAddr) -> io::Result<quinn::Endpoint> {
        let any = match target {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        open(SocketAddr::new(any, 0), None, &self.runtime)
    }

    fn endpoints(&self) -> Vec<quinn::Endpoint> {
        let diallers = self.lock_diallers();
        let listeners = self.listeners.iter().map(|listener| &listener.endpoint);
        listeners.chain(&diallers.v4).chain(&diallers.v6).cloned().collect()
    }

    fn lock_diallers(&self) -> MutexGuard<'_, Diallers> {
        self.diallers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A peer that wants to connect. Dropping it refuses.
#[derive(Debug)]
pub(crate) struct Incoming {
    incoming: quinn::Incoming,
}

impl Incoming {
    /// Where the packets claim to come from; not proven before the handshake.
    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
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

    /// Turns the peer away with the least work.
    pub(crate) fn refuse(self) {
        self.incoming.refuse();
    }
}

/// Why the node has no QUIC.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum EndpointError {
    /// The runtime offers no UDP sockets.
    #[error("the runtime cannot carry QUIC")]
    NoUdp,
    /// An address to listen on is none of QUIC's.
    #[error("cannot listen on {address}")]
    Address {
        /// The address as given.
        address: Multiaddr,
        /// What is wrong with it.
        source: AddressError,
    },
    /// An address to listen on is taken or not this machine's.
    #[error("cannot bind {address}")]
    Bind {
        /// The address as given.
        address: Multiaddr,
        /// What the system said.
        source: io::Error,
    },
    /// Stream window times substreams is beyond what QUIC can announce.
    #[error("the windows of all substreams together are too large for QUIC")]
    WindowTooLarge,
    /// Keep-alive interval times silent intervals is no usable timeout.
    #[error("the keep-alive interval must not be zero, and at least two silent ones are needed")]
    KeepAlive,
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why a dial failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum DialError {
    /// Somebody else answered. Do not take `actual` for granted: the certificate is genuine, but
    /// whether the answerer holds its key was not tried any more.
    #[error("wrong peer id: expected {expected}, got {actual}")]
    WrongPeer {
        /// Who was dialled.
        expected: PeerId,
        /// Who the answer's certificate names.
        actual: PeerId,
    },
    /// Whoever answered did not prove to be anybody.
    #[error("the peer's certificate was refused")]
    Certificate(#[source] CertificateError),
    /// No socket could be opened to dial from.
    #[error("no socket to dial from")]
    Bind(#[source] io::Error),
    /// The address cannot be dialled.
    #[error("the address cannot be dialled")]
    Connect(#[from] ConnectError),
    /// Nobody answered, or the peer refused, or the handshake failed otherwise.
    #[error("the connection failed")]
    Connection(#[source] ConnectionError),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The endpoint was closed on this side.
    #[error("the endpoint is closed")]
    Closed,
}

/// Why an incoming connection came to nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum AcceptError {
    /// The handshake failed; if it was over the peer's certificate, the text says so.
    #[error("the incoming connection failed")]
    Connection(#[from] ConnectionError),
    /// The handshake passed, but the peer cannot be named.
    #[error("the peer's certificate was refused")]
    Certificate(#[from] CertificateError),
}

#[derive(Debug)]
struct Listener {
    endpoint: quinn::Endpoint,
    local: SocketAddr,
}

impl Listener {
    fn bind(
        address: &Multiaddr,
        server: &quinn::ServerConfig,
        runtime: &Arc<dyn quinn::Runtime>,
    ) -> Result<Self, EndpointError> {
        let socket = QuicAddr::try_from(address)
            .map_err(|source| EndpointError::Address { address: address.clone(), source })?
            .socket;
        open(socket, Some(server.clone()), runtime)
            .and_then(|endpoint| Ok(Self { local: endpoint.local_addr()?, endpoint }))
            .map_err(|source| EndpointError::Bind { address: address.clone(), source })
    }

    /// Whether packets from this socket can get to `target` at all.
    fn reaches(&self, target: IpAddr) -> bool {
        let local = self.local.ip();
        local.is_ipv4() == target.is_ipv4()
            && (local.is_unspecified() || local.is_loopback() == target.is_loopback())
    }
}

/// Sockets to dial from where no listening one fits, opened when first needed.
#[derive(Debug, Default)]
struct Diallers {
    v4: Option<quinn::Endpoint>,
    v6: Option<quinn::Endpoint>,
    closed: bool,
}

impl Diallers {
    fn of(&mut self, target: IpAddr) -> &mut Option<quinn::Endpoint> {
        match target {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        }
    }
}

fn open(
    local: SocketAddr,
    server: Option<quinn::ServerConfig>,
    runtime: &Arc<dyn quinn::Runtime>,
) -> io::Result<quinn::Endpoint> {
    let mut config = EndpointConfig::default();
    config.supported_versions(vec![QUIC_V1]);
    quinn::Endpoint::new(config, server, open_socket(local)?, Arc::clone(runtime))
}

fn open_socket(local: SocketAddr) -> io::Result<UdpSocket> {
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
const SERVER_NAME: &str = "l";
const QUIC_V1: u32 = 1;
/// Linux's default of 208 KiB loses packets whenever a burst meets a busy reader.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
