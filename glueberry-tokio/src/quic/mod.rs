//! QUIC without a libp2p swarm, on the same wire.
//!
//! | file | what it does |
//! |---|---|
//! | `address` | `/ip4/…/udp/…/quic-v1/p2p/…` and socket addresses |
//! | `certificate` | the certificate that carries a node's identity: made, parsed, verified |
//! | `tls` | TLS 1.3 with those certificates, in both directions |
//! | `endpoint` | sockets, dialling, accepting, flow control |
//! | `negotiate` | multistream-select on one substream |

mod address;
mod certificate;
mod endpoint;
mod negotiate;
mod tls;

pub(crate) use address::{AddressError, QuicAddr};
pub(crate) use certificate::CertificateError;
pub(crate) use endpoint::{AcceptError, DialError, Endpoint, EndpointError, Incoming, QuicConfig};
pub(crate) use negotiate::{Negotiated, NegotiateError, propose, respond};
pub(crate) use tls::TlsError;

#[cfg(test)]
mod tests;
