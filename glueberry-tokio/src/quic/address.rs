use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use thiserror::Error;

/// Where a peer can be dialled, or this node listens: `/ip4/192.0.2.1/udp/4001/quic-v1`, with or
/// without `/p2p/<peer id>` at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct QuicAddr {
    pub(crate) socket: SocketAddr,
    pub(crate) peer: Option<PeerId>,
}

impl TryFrom<&Multiaddr> for QuicAddr {
    type Error = AddressError;

    fn try_from(addr: &Multiaddr) -> Result<Self, AddressError> {
        let mut parts = addr.iter();
        let ip = match parts.next() {
            Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
            Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
            _ => return Err(AddressError::NotIp),
        };
        let Some(Protocol::Udp(port)) = parts.next() else {
            return Err(AddressError::NotUdp);
        };
        let Some(Protocol::QuicV1) = parts.next() else {
            return Err(AddressError::NotQuicV1);
        };
        let peer = match parts.next() {
            None => None,
            Some(Protocol::P2p(peer)) => Some(peer),
            Some(other) => return Err(AddressError::Trailing(other.tag())),
        };
        match parts.next() {
            None => Ok(Self { socket: SocketAddr::new(ip, port), peer }),
            Some(other) => Err(AddressError::Trailing(other.tag())),
        }
    }
}

impl FromStr for QuicAddr {
    type Err = AddressError;

    fn from_str(addr: &str) -> Result<Self, AddressError> {
        Self::try_from(&addr.parse::<Multiaddr>()?)
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

/// Why an address is none of raw QUIC's.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum AddressError {
    /// The text is no multiaddr at all.
    #[error("not a multiaddr")]
    Malformed(#[from] multiaddr::Error),
    /// It does not begin with an IP address. Names are resolved before they come here.
    #[error("does not begin with /ip4 or /ip6")]
    NotIp,
    /// The IP address is not followed by a UDP port.
    #[error("the IP address is not followed by /udp")]
    NotUdp,
    /// The UDP port is not followed by `/quic-v1`; `/quic`, the draft, is not spoken any more.
    #[error("the UDP port is not followed by /quic-v1")]
    NotQuicV1,
    /// Something other than one `/p2p` follows, such as a relay or WebTransport.
    #[error("/quic-v1 is followed by /{0}")]
    Trailing(&'static str),
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
        assert!(matches!(parse("127.0.0.1:4001"), AddressError::Malformed(_)));
        assert!(matches!(parse("/dns4/example.org/udp/1/quic-v1"), AddressError::NotIp));
        assert!(matches!(parse("/memory/1"), AddressError::NotIp));
        assert!(matches!(parse("/ip4/127.0.0.1"), AddressError::NotUdp));
        assert!(matches!(parse("/ip4/127.0.0.1/tcp/1"), AddressError::NotUdp));
        assert!(matches!(parse("/ip4/127.0.0.1/udp/1"), AddressError::NotQuicV1));
        assert!(matches!(parse("/ip4/127.0.0.1/udp/1/quic"), AddressError::NotQuicV1));
        let relayed = format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{PEER}/p2p-circuit");
        assert!(matches!(parse(&relayed), AddressError::Trailing("p2p-circuit")));
        let web = "/ip4/127.0.0.1/udp/1/quic-v1/webtransport";
        assert!(matches!(parse(web), AddressError::Trailing("webtransport")));
    }
}
