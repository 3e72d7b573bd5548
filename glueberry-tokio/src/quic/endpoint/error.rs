use std::io;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use quinn::{ConnectError, ConnectionError};
use thiserror::Error;

use crate::address::AddressProblem;
use crate::quic::{CertificateError, TlsError};

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
        source: AddressProblem,
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
        expected: Box<PeerId>,
        /// Who the answer's certificate names.
        actual: Box<PeerId>,
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
