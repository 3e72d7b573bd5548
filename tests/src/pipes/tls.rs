//! TLS over a TCP connection, with the peer's identity in its certificate.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use glueberry_tokio::identity::{Keypair, PeerId};
use rustls::{ClientConnection, Connection, ServerConnection};
use tokio::net::TcpStream;

/// A pipe whose peer has proven its key.
pub(super) struct Secured {
    pub(super) tcp: TcpStream,
    pub(super) tls: Connection,
    pub(super) peer: PeerId,
}

pub(super) async fn connect(
    tcp: TcpStream,
    to: SocketAddr,
    identity: &Keypair,
) -> io::Result<Secured> {
    // Who answers is checked by the caller, which knows what to say.
    let config = libp2p_tls::make_client_config(identity, None).map_err(io::Error::other)?;
    let tls = ClientConnection::new(config.into(), to.ip().into()).map_err(io::Error::other)?;
    secure(tcp, tls.into()).await
}

pub(super) async fn accept(tcp: TcpStream, identity: &Keypair) -> io::Result<Secured> {
    let config = libp2p_tls::make_server_config(identity).map_err(io::Error::other)?;
    let tls = ServerConnection::new(config.into()).map_err(io::Error::other)?;
    secure(tcp, tls.into()).await
}

async fn secure(tcp: TcpStream, mut tls: Connection) -> io::Result<Secured> {
    tcp.set_nodelay(true)?;
    tls.set_buffer_limit(None);
    while tls.is_handshaking() || tls.wants_write() {
        if tls.wants_write() {
            tcp.writable().await?;
            ready(tls.write_tls(&mut Socket(&tcp)))?;
            continue;
        }
        tcp.readable().await?;
        match ready(tls.read_tls(&mut Socket(&tcp)))? {
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(_) => _ = tls.process_new_packets().map_err(io::Error::other)?,
            None => {}
        }
    }
    let certificate = tls.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.ok_or(io::ErrorKind::InvalidData)?;
    let certificate = libp2p_tls::certificate::parse(certificate).map_err(io::Error::other)?;
    let peer = certificate.peer_id();
    Ok(Secured { tcp, tls, peer })
}

/// Reads and writes what a socket can take and give now.
pub(super) struct Socket<'a>(pub(super) &'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns `None` if nothing can be moved now.
pub(super) fn ready(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}
