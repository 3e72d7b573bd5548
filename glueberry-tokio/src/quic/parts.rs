//! QUIC for another crate of this project: sockets, identity and keys are this one's.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use libp2p_identity::{Keypair, PeerId};
use multiaddr::Multiaddr;
use quinn::TransportConfig;

use super::endpoint::{
    INCOMING_BUFFER_BYTES, MAX_INCOMING, any_of, open_on, open_socket, source_of,
};
use super::tls::Tls;
use super::window::BASE;
use super::{QuicAddr, interfaces};
use crate::runtime::Runtime;

/// What endpoints are made of that open nothing that QUIC forbids, see `keys`.
pub struct QuicParts {
    tls: Tls,
    identity: Keypair,
    transport: Arc<TransportConfig>,
    runtime: Arc<dyn quinn::Runtime>,
}

impl QuicParts {
    /// Returns the parts for a node. A peer may send little ahead of the reader on a connection, until
    /// its [window](crate::adapter::QuicWindow) grows.
    ///
    /// # Errors
    ///
    /// If the identity can't be used, or the runtime has no sockets.
    pub fn new(
        identity: &Keypair,
        mut transport: TransportConfig,
        runtime: &dyn Runtime,
    ) -> io::Result<Self> {
        let runtime = runtime.quinn().ok_or(io::ErrorKind::Unsupported)?;
        let tls = Tls::new(identity).map_err(io::Error::other)?;
        transport.receive_window(BASE);
        Ok(Self { tls, identity: identity.clone(), transport: Arc::new(transport), runtime })
    }

    /// Returns an endpoint that accepts and dials, and another handle of its socket.
    ///
    /// # Errors
    ///
    /// If the address can't be bound.
    pub fn listen(&self, local: SocketAddr) -> io::Result<(quinn::Endpoint, UdpSocket)> {
        let mut server = self.tls.server_config().map_err(io::Error::other)?;
        server
            .transport_config(self.transport.clone())
            .migration(false)
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER_BYTES)
            .incoming_buffer_size_total(INCOMING_BUFFER_BYTES * 64);
        let socket = open_socket(local)?;
        let other = socket.try_clone()?;
        let bound = open_on(socket, Some((&self.identity, server)), &self.runtime)?;
        Ok((bound.endpoint, other))
    }

    /// Returns an endpoint to dial a target from, and nothing else.
    ///
    /// # Errors
    ///
    /// If no socket can be opened.
    pub fn dialler(&self, target: IpAddr) -> io::Result<quinn::Endpoint> {
        let socket = open_socket(SocketAddr::new(any_of(target), 0))?;
        Ok(open_on(socket, None, &self.runtime)?.endpoint)
    }

    /// Begins to dial an address, whichever peer answers there.
    ///
    /// # Errors
    ///
    /// If the endpoint is closed, or the address none that can be dialled.
    pub fn dial(
        &self,
        endpoint: &quinn::Endpoint,
        to: SocketAddr,
    ) -> io::Result<quinn::Connecting> {
        let (mut config, _) = self.tls.client_config(None).map_err(io::Error::other)?;
        config.transport_config(self.transport.clone());
        endpoint.connect_with(config, to, super::endpoint::SERVER_NAME).map_err(io::Error::other)
    }

    /// Returns who is at the other end of a connection, which has proven it.
    ///
    /// # Errors
    ///
    /// If the certificate is not as it should be, which the handshake has checked.
    pub fn peer(connection: &quinn::Connection) -> io::Result<PeerId> {
        super::tls::peer_id(connection).map_err(io::Error::other)
    }

    /// Returns the socket address of `/ip4/…/udp/…/quic-v1`, and the peer that it names.
    pub fn parse(address: &Multiaddr) -> Option<(SocketAddr, Option<PeerId>)> {
        QuicAddr::try_from(address).ok().map(|it| (it.socket, it.peer))
    }

    /// Returns the multiaddr of a socket address.
    pub fn address(socket: SocketAddr) -> Multiaddr {
        QuicAddr::from(socket).into()
    }

    /// Returns the addresses at which a socket can be dialled.
    pub fn reached_at(local: SocketAddr) -> Vec<SocketAddr> {
        interfaces::reached_at(local)
    }

    /// Returns whether packets to `target` leave from a socket that is bound to `local`.
    pub fn reaches(local: IpAddr, target: SocketAddr) -> bool {
        super::endpoint::reaches(local, target.ip(), || source_of(target))
    }
}

impl fmt::Debug for QuicParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicParts").finish_non_exhaustive()
    }
}
