//! Which addresses a peer can be dialled at.

use std::net::IpAddr;

use glueberry_proto::printable;
use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use thiserror::Error;

/// An address that is of no use, and why.
///
/// It is the [source](std::error::Error::source) of an error with the code
/// [`InvalidAddress`](crate::ErrorCode::InvalidAddress).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::error::Error;
/// use glueberry_tokio::{AddressError, AddressProblem};
///
/// let (alice, bob) = pair().await?;
/// let anywhere = "/ip4/0.0.0.0/udp/4001/quic-v1".parse()?;
/// let error = alice.add_peer(bob.peer_id(), [anywhere]).await.unwrap_err();
/// let cause: &AddressError = error.source().unwrap().downcast_ref().unwrap();
/// assert_eq!(cause.problem, AddressProblem::Unspecified);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {problem}", printable(.address))]
#[non_exhaustive]
pub struct AddressError {
    /// The address.
    pub address: Multiaddr,
    /// What is wrong with it.
    pub problem: AddressProblem,
}

/// What is wrong with an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressProblem {
    /// The text is no multiaddr at all.
    #[error("not a multiaddr: {0}")]
    Malformed(String),
    /// Its text is not read as it: one of its names has a slash, say. The address book holds texts.
    #[error("written as text it is no address, or another")]
    NoText,
    /// It has no parts.
    #[error("the address is empty")]
    Empty,
    /// It is every address of a machine, on which one can listen.
    #[error("an unspecified IP address can be listened on, and not dialled")]
    Unspecified,
    /// It is for many machines.
    #[error("a multicast or broadcast address is no peer's")]
    Multicast,
    /// A name in it is empty, or has characters that no name has, which would be shown in its place.
    #[error("no machine has a name with control characters or spaces, or an empty one")]
    NoName,
    /// Port 0 asks for any port.
    #[error("port 0 can be listened on, and not dialled")]
    NoPort,
    /// Its last part names another peer than the one that it is for.
    #[error("it names another peer, {0}")]
    OtherPeer(PeerId),
    /// It does not begin with an IP address or a name, and raw QUIC knows no other. It cannot be
    /// listened on at a name.
    #[error(
        "does not begin with /ip4 or /ip6, nor, to be dialled, with /dns, /dns4, /dns6 or /dnsaddr"
    )]
    NotIp,
    /// It begins with `/dnsaddr`, which raw QUIC resolves only with the feature `dnsaddr`.
    #[error(
        "raw QUIC resolves /dnsaddr only with the feature `dnsaddr` of glueberry-tokio; libp2p does so with dns on"
    )]
    NoDnsaddr,
    /// Something other than one `/p2p` follows `/dnsaddr` and its name.
    #[error("/dnsaddr and its name are followed by /{0}; only /p2p may follow")]
    AfterDnsaddr(&'static str),
    /// The IP address or name is not followed by a UDP port, and raw QUIC needs one.
    #[error("the IP address or name is not followed by /udp")]
    NotUdp,
    /// The UDP port is not followed by `/quic-v1`; `/quic`, the draft, is not spoken any more.
    #[error("the UDP port is not followed by /quic-v1")]
    NotQuicV1,
    /// Something other than one `/p2p` follows, such as a relay or WebTransport.
    #[error("/quic-v1 is followed by /{0}")]
    Trailing(&'static str),
    /// No transport of the node dials such an address.
    #[error("no transport of this node dials it")]
    Unsupported,
}

/// Returns why an address cannot be dialled, whatever the transport.
pub(crate) fn check(address: &Multiaddr) -> Result<(), AddressProblem> {
    if address.is_empty() {
        return Err(AddressProblem::Empty);
    }
    for part in address {
        match part {
            Protocol::Ip4(ip) => check_ip(ip.into())?,
            Protocol::Ip6(ip) => check_ip(ip.to_canonical())?,
            Protocol::Tcp(0) | Protocol::Udp(0) => return Err(AddressProblem::NoPort),
            Protocol::Dns(name)
            | Protocol::Dns4(name)
            | Protocol::Dns6(name)
            | Protocol::Dnsaddr(name)
                if name.is_empty()
                    || name.contains(char::is_whitespace)
                    || printable(&name) != *name =>
            {
                return Err(AddressProblem::NoName);
            }
            _ => {}
        }
    }
    match address.to_string().parse::<Multiaddr>() {
        Ok(read) if read == *address => Ok(()),
        _ => Err(AddressProblem::NoText),
    }
}

/// Returns the peer that an address names as the one that answers. Only the last part does so: before
/// it, a relay may be named.
pub(crate) fn named_peer(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(named)) => Some(named),
        _ => None,
    }
}

pub(crate) fn check_ip(ip: IpAddr) -> Result<(), AddressProblem> {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_unspecified() {
        Err(AddressProblem::Unspecified)
    } else if ip.is_multicast() || is_broadcast {
        Err(AddressProblem::Multicast)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_nobody_can_be_dialled_at() {
        let problem = |text: &str| check(&text.parse().unwrap()).unwrap_err();
        assert_eq!(problem("/ip4/0.0.0.0/udp/1/quic-v1"), AddressProblem::Unspecified);
        assert_eq!(problem("/ip6/::/tcp/1"), AddressProblem::Unspecified);
        assert_eq!(problem("/ip6/::ffff:0.0.0.0/tcp/1"), AddressProblem::Unspecified);
        assert_eq!(problem("/ip4/192.0.2.1/udp/0/quic-v1"), AddressProblem::NoPort);
        assert_eq!(problem("/dns4/example.org/tcp/0"), AddressProblem::NoPort);
        assert_eq!(problem("/ip4/224.0.0.1/udp/1/quic-v1"), AddressProblem::Multicast);
        assert_eq!(problem("/ip6/ff02::1/udp/1/quic-v1"), AddressProblem::Multicast);
        assert_eq!(problem("/ip4/255.255.255.255/udp/1/quic-v1"), AddressProblem::Multicast);
        assert_eq!(check(&Multiaddr::empty()), Err(AddressProblem::Empty));
        for name in ["", "a b", "a\nERROR forged", "\u{1b}[2J", "a\u{202e}b", "a\u{2028}b"] {
            let evil = Multiaddr::empty().with(Protocol::Dns4(name.into()));
            let error = AddressError { address: evil.clone(), problem: check(&evil).unwrap_err() };
            assert_eq!(error.problem, AddressProblem::NoName, "{name:?}");
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
        let slash = Multiaddr::empty().with(Protocol::Dns4("a/udp/1".into()));
        assert_eq!(check(&slash.with(Protocol::Udp(1))), Err(AddressProblem::NoText));
        for fine in [
            "/dns4/bücher.example/udp/1",
            "/ip4/127.0.0.1/udp/1/quic-v1",
            "/ip6/fe80::1/tcp/1",
            "/memory/7",
        ] {
            assert_eq!(check(&fine.parse().unwrap()), Ok(()));
        }
    }
}
