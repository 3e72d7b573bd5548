use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

use crate::address::AddressProblem;

/// Where a peer can be dialled, or this node listens: `/ip4/192.0.2.1/udp/4001/quic-v1`, with or
/// without `/p2p/<peer id>` at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct QuicAddr {
    pub(crate) socket: SocketAddr,
    pub(crate) peer: Option<PeerId>,
}

impl TryFrom<&Multiaddr> for QuicAddr {
    type Error = AddressProblem;

    fn try_from(addr: &Multiaddr) -> Result<Self, AddressProblem> {
        let mut parts = addr.iter();
        let ip = match parts.next() {
            Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
            Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
            _ => return Err(AddressProblem::NotIp),
        };
        let Some(Protocol::Udp(port)) = parts.next() else {
            return Err(AddressProblem::NotUdp);
        };
        let Some(Protocol::QuicV1) = parts.next() else {
            return Err(AddressProblem::NotQuicV1);
        };
        let peer = match parts.next() {
            None => None,
            Some(Protocol::P2p(peer)) => Some(peer),
            Some(other) => return Err(AddressProblem::Trailing(other.tag())),
        };
        match parts.next() {
            None => Ok(Self { socket: SocketAddr::new(ip, port), peer }),
            Some(other) => Err(AddressProblem::Trailing(other.tag())),
        }
    }
}

impl FromStr for QuicAddr {
    type Err = AddressProblem;

    fn from_str(addr: &str) -> Result<Self, AddressProblem> {
        let addr = addr.parse::<Multiaddr>();
        Self::try_from(&addr.map_err(|error| AddressProblem::Malformed(error.to_string()))?)
    }
}

impl From<SocketAddr> for QuicAddr {
    fn from(socket: SocketAddr) -> Self {
        Self { socket, peer: None }
    }
}

impl From<QuicAddr> for Multiaddr {
    fn from(addr: QuicAddr) -> Self {
        let transport = Self::from(addr.socket.ip())
            .with(Protocol::Udp(addr.socket.port()))
            .with(Protocol::QuicV1);
        match addr.peer {
            Some(peer) => transport.with(Protocol::P2p(peer)),
            None => transport,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq";

    #[test]
    fn round_trips() {
        for text in [
            "/ip4/127.0.0.1/udp/4001/quic-v1".to_owned(),
            "/ip6/::1/udp/0/quic-v1".to_owned(),
            format!("/ip4/192.0.2.7/udp/65535/quic-v1/p2p/{PEER}"),
            format!("/ip6/2001:db8::1/udp/4001/quic-v1/p2p/{PEER}"),
        ] {
            let parsed: QuicAddr = text.parse().unwrap();
            assert_eq!(Multiaddr::from(parsed).to_string(), text);
            assert_eq!(parsed.peer.is_some(), text.contains("p2p"));
        }
    }

    #[test]
    fn refuses_what_is_not_raw_quic() {
        let parse = |text: &str| text.parse::<QuicAddr>().unwrap_err();
        assert!(matches!(parse("127.0.0.1:4001"), AddressProblem::Malformed(_)));
        assert!(matches!(parse("/dns4/example.org/udp/1/quic-v1"), AddressProblem::NotIp));
        assert!(matches!(parse("/memory/1"), AddressProblem::NotIp));
        assert!(matches!(parse("/ip4/127.0.0.1"), AddressProblem::NotUdp));
        assert!(matches!(parse("/ip4/127.0.0.1/tcp/1"), AddressProblem::NotUdp));
        assert!(matches!(parse("/ip4/127.0.0.1/udp/1"), AddressProblem::NotQuicV1));
        assert!(matches!(parse("/ip4/127.0.0.1/udp/1/quic"), AddressProblem::NotQuicV1));
        let relayed = format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{PEER}/p2p-circuit");
        assert!(matches!(parse(&relayed), AddressProblem::Trailing("p2p-circuit")));
        let web = "/ip4/127.0.0.1/udp/1/quic-v1/webtransport";
        assert!(matches!(parse(web), AddressProblem::Trailing("webtransport")));
    }
}
