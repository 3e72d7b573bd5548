//! What nodes run over.

use std::fmt;

use crate::pipes::Pipes;
use glueberry_libp2p::Libp2p;
use glueberry_tokio::{Builder, Error, Multiaddr, Node};

/// What one node runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests are to notice what is new")]
pub enum Fabric {
    /// glueberry-tokio's own QUIC.
    RawQuic,
    /// A swarm over TCP, secured with Noise.
    Noise,
    /// A swarm over TCP, secured with TLS.
    Tls,
    /// A swarm over QUIC.
    Quic,
    /// TCP with TLS, and the core's own mux: no library beneath has substreams.
    Pipes,
}

impl Fabric {
    /// Returns where to listen: any port of this machine.
    pub fn listen(self) -> Multiaddr {
        let text = if self.is_datagrams() {
            "/ip4/127.0.0.1/udp/0/quic-v1"
        } else {
            "/ip4/127.0.0.1/tcp/0"
        };
        text.parse().expect("an address")
    }

    /// Returns whether it runs over UDP.
    pub const fn is_datagrams(self) -> bool {
        matches!(self, Self::RawQuic | Self::Quic)
    }

    /// Builds a node.
    ///
    /// # Errors
    ///
    /// Those of the builder.
    pub async fn build(self, builder: Builder) -> Result<Node, Error> {
        let mut over = Libp2p::bare();
        over.identify = true;
        over.ping = true;
        match self {
            Self::RawQuic => return builder.build().await,
            Self::Noise => (over.tcp, over.noise) = (true, true),
            Self::Tls => (over.tcp, over.tls) = (true, true),
            Self::Quic => over.quic = true,
            Self::Pipes => return builder.build_over(Pipes).await,
        }
        builder.build_over(over).await
    }
}

impl fmt::Display for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RawQuic => "quic",
            Self::Noise => "noise",
            Self::Tls => "tls",
            Self::Quic => "p2p-quic",
            Self::Pipes => "pipes",
        })
    }
}

/// Every pair that scenarios run over: who dials, and who is dialled.
pub const PAIRS: [(Fabric, Fabric); 7] = [
    (Fabric::RawQuic, Fabric::RawQuic),
    (Fabric::Noise, Fabric::Noise),
    (Fabric::Tls, Fabric::Tls),
    (Fabric::Quic, Fabric::Quic),
    (Fabric::RawQuic, Fabric::Quic),
    (Fabric::Quic, Fabric::RawQuic),
    (Fabric::Pipes, Fabric::Pipes),
];
