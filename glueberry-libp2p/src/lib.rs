//! Glueberry inside any libp2p swarm.
//!
//! Two ways in, with the same [`Node`](glueberry_tokio::Node) at the end of each:
//!
//! - [`Behaviour`]: for a swarm that you have already. It composes with other behaviours, uses
//!   connections that are there, and closes none that others use.
//! - [`Libp2p`]: a ready-made node over TCP with TLS or Noise, over QUIC, over relays and through
//!   NATs. Its connections are its own. It can be a relay for others, and with the features `mdns` and
//!   `kad` it finds peers.
//!
//! A node over libp2p and one over raw QUIC speak the same wire, and meet over QUIC.
//!
//! # What libp2p does not give
//!
//! - No resets with a code: a substream that is given up is dropped. Over libp2p's QUIC that looks
//!   like a clean end to the peer, whose session then ends for a malformed frame if one was cut.
//! - No acknowledgements. Over TCP and relays, which keep the order of everything, a probe that was
//!   answered proves what was sent before it. Over libp2p's QUIC all of a substream is known to have
//!   arrived only if the peer has ended its half in answer to the end of this side's, and then says that
//!   it stays in the session (`/glueberry/stays/1.0.0`): else its end may be an orderly end that has crossed
//!   ours. So when this side leaves, nothing is in doubt, if the peer is a node of this project. When the
//!   peer leaves, or both do, or the peer is a Go node, all that was sent since the substream was opened
//!   is in doubt there. Raw QUIC knows better.
//! - No word with which a connection is closed: the peer sees that it was, not why.
//!
//! In a shared swarm a session ends without its connection, and v1 has no word for that either. The
//! peer notices when it next asks whether this node is there, which a keep-alive does after 5 s of
//! silence, when a stream is refused, or when this node begins the next session.

mod behaviour;
mod connections;
mod handler;
mod link;
mod remains;
mod session;
mod settings;
mod silence;
mod substream;
#[cfg(feature = "node")]
mod swarm;
mod transport;
mod upgrade;

pub use behaviour::{Behaviour, Denied};
/// What the swarm handles on behalf of [`Behaviour`].
#[doc(hidden)]
pub mod parts {
    pub use crate::handler::{Handler, ToBehaviour};
    pub use crate::session::Opening;
    pub use crate::upgrade::{Negotiated, Proposal};
}
/// The name of a protocol, which `Libp2p::kademlia` takes.
#[cfg(all(feature = "node", feature = "kad"))]
pub use libp2p::StreamProtocol;
#[cfg(feature = "node")]
pub use swarm::Libp2p;
