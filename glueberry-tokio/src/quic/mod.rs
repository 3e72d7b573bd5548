//! QUIC without a libp2p swarm, on the same wire.
//!
//! | file | what it does |
//! |---|---|
//! | `address` | `/ip4/…/udp/…/quic-v1/p2p/…` and socket addresses |
//! | `certificate` | the certificate that carries a node's identity: made, parsed, verified |
//! | `tls` | TLS 1.3 with those certificates, in both directions |
//! | `endpoint` | sockets, dialling, accepting, flow control |
//! | `interfaces` | which addresses of the machine a socket is reached at |
//! | `closing`, `socket` | shutting down: closing connections, and freeing the sockets |
//! | `keys` | what the keys of a connection's packets do not open |
//! | `negotiate` | multistream-select on one substream |
//! | `accept` | incoming handshakes: how many, how long, from where |
//! | `dial` | a race of a peer's addresses |
//! | `transport` | what the node asks of QUIC, and what is offered to it |
//! | `connection` | the task that owns one connection and its session |
//! | `substream` | one stream of the connection, between socket and buffers |
//! | `window` | what a peer may send ahead of the reader |
//! | `parts` | what is below connections, for `glueberry-libp2p` |
//! | `on_wake` | asks quinn only for what it has woken |

mod accept;
mod address;
mod certificate;
mod closing;
mod connection;
mod dial;
#[cfg(feature = "dnsaddr")]
mod dnsaddr;
mod endpoint;
mod interfaces;
mod keys;
mod name;
mod negotiate;
mod on_wake;
mod parts;
mod socket;
mod substream;
mod tls;
mod transport;
mod window;

pub use accept::Admission;
pub(crate) use address::QuicAddr;
pub(crate) use certificate::CertificateError;
pub(crate) use endpoint::{DialError, Endpoint, EndpointError, Incoming, QuicConfig};
pub(crate) use negotiate::{NegotiateError, Negotiated, propose, respond};
pub use parts::QuicParts;
pub(crate) use tls::TlsError;
pub(crate) use transport::{QuicTransport, bind};
pub use window::{Counted, Loan, Window};

#[cfg(test)]
#[cfg(any(feature = "tokio", feature = "async-io"))]
mod tests;
