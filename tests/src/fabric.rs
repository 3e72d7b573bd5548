//! What nodes run over.

use std::fmt;

use crate::pipes::Pipes;
use glueberry_libp2p::Libp2p;
use glueberry_tokio::{Builder, Config, Error, Multiaddr, Node, Profile};

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

/// What one node runs over, and what it speaks unless a scenario says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "tests make it")]
pub struct Ground {
    /// What it runs over.
    pub fabric: Fabric,
    /// Whether it speaks v2, and prefers it. It speaks v1 and Go's profile in any case.
    pub has_v2: bool,
}

impl Ground {
    /// Has a configuration speak what the ground says, unless it says something itself.
    pub fn configure(self, config: &mut Config) {
        if !self.has_v2 && config.core.profiles == Config::default().core.profiles {
            config.core.profiles = vec![Profile::V1, Profile::V1Go];
        }
    }
}

impl From<Fabric> for Ground {
    fn from(fabric: Fabric) -> Self {
        Self { fabric, has_v2: false }
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.fabric, if self.has_v2 { "+v2" } else { "" })
    }
}

/// Every pair that scenarios run over: who dials, and who is dialled. All fabrics with v1 and with v2,
/// and on two of them a node of v2 with one that has only v1.
pub fn pairs() -> Vec<(Ground, Ground)> {
    let fabrics = [
        (Fabric::RawQuic, Fabric::RawQuic),
        (Fabric::Noise, Fabric::Noise),
        (Fabric::Tls, Fabric::Tls),
        (Fabric::Quic, Fabric::Quic),
        (Fabric::RawQuic, Fabric::Quic),
        (Fabric::Quic, Fabric::RawQuic),
        (Fabric::Pipes, Fabric::Pipes),
    ];
    let mixed = [Fabric::RawQuic, Fabric::Noise].map(|it| [(it, true, false), (it, false, true)]);
    let ground = |fabric, has_v2| Ground { fabric, has_v2 };
    let alike = [false, true].into_iter().flat_map(|v2| fabrics.map(|(a, b)| (a, b, v2, v2)));
    let mixed = mixed.into_iter().flatten().map(|(it, a, b)| (it, it, a, b));
    alike.chain(mixed).map(|(a, b, v2_a, v2_b)| (ground(a, v2_a), ground(b, v2_b))).collect()
}
