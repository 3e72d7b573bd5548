//! Addresses that begin with a name: `/dns4/example.org/udp/4001/quic-v1`.

use std::io;
use std::net::{IpAddr, SocketAddr};

use multiaddr::{Multiaddr, Protocol};

use super::QuicAddr;
#[cfg(feature = "dnsaddr")]
use super::dnsaddr::Dnsaddr;
use crate::address::{AddressProblem, check_ip};
use crate::runtime::Runtime;

/// Where a peer can be dialled: at a socket, or wherever a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Socket(SocketAddr),
    Name(Name),
    #[cfg(feature = "dnsaddr")]
    Dnsaddr(Dnsaddr),
}

/// A name to resolve, and which of its addresses count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    name: String,
    family: Family,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Any,
    V4,
    V6,
}

impl Target {
    pub(super) fn parse(address: &str) -> Result<Self, AddressProblem> {
        let address = address.parse::<Multiaddr>();
        Self::try_from(&address.map_err(|error| AddressProblem::Malformed(error.to_string()))?)
    }
}

impl TryFrom<&Multiaddr> for Target {
    type Error = AddressProblem;

    fn try_from(address: &Multiaddr) -> Result<Self, AddressProblem> {
        let (name, family) = match address.iter().next() {
            Some(Protocol::Dns(name)) => (name, Family::Any),
            Some(Protocol::Dns4(name)) => (name, Family::V4),
            Some(Protocol::Dns6(name)) => (name, Family::V6),
            Some(Protocol::Dnsaddr(_)) => return dnsaddr(address),
            _ => return QuicAddr::try_from(address).map(|quic| Self::Socket(quic.socket)),
        };
        // The rest is as behind an IP address.
        let any = Multiaddr::from(IpAddr::from([127, 0, 0, 1]));
        let behind = address.iter().skip(1).fold(any, |made, part| made.with(part));
        let port = QuicAddr::try_from(&behind)?.socket.port();
        Ok(Self::Name(Name { name: name.into_owned(), family, port }))
    }
}

#[cfg(feature = "dnsaddr")]
impl Target {
    /// Returns the addresses of a peer in a list that this node can dial.
    pub(super) async fn listed(
        list: &Dnsaddr,
        runtime: &dyn Runtime,
        peer: libp2p_identity::PeerId,
    ) -> io::Result<Vec<Self>> {
        let mut targets = Vec::new();
        for address in list.addresses(runtime, peer).await? {
            let target = match Self::try_from(&address) {
                Ok(Self::Dnsaddr(next)) => Self::Dnsaddr(next.below(list)),
                Ok(target) => target,
                Err(_) => continue,
            };
            if !targets.contains(&target) && targets.len() < MOST_RECORDS {
                targets.push(target);
            }
        }
        match targets.is_empty() {
            true => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no TXT record has an address of the peer that raw QUIC dials",
            )),
            false => Ok(targets),
        }
    }
}

#[cfg(feature = "dnsaddr")]
fn dnsaddr(address: &Multiaddr) -> Result<Target, AddressProblem> {
    Dnsaddr::try_from(address).map(Target::Dnsaddr)
}

#[cfg(not(feature = "dnsaddr"))]
const fn dnsaddr(_: &Multiaddr) -> Result<Target, AddressProblem> {
    Err(AddressProblem::NoDnsaddr)
}

impl Name {
    /// Looks up the name; families take turns, IPv6 first, as in RFC 8305, section 4.
    pub(super) async fn resolve(&self, runtime: &dyn Runtime) -> io::Result<Vec<SocketAddr>> {
        let found = runtime.resolve(&self.name).await?;
        let is_usable = |ip: &IpAddr| {
            let is_of_family = match self.family {
                Family::Any => true,
                Family::V4 => ip.is_ipv4(),
                Family::V6 => ip.is_ipv6(),
            };
            is_of_family && check_ip(ip.to_canonical()).is_ok()
        };
        let usable: Vec<IpAddr> = found.into_iter().filter(is_usable).collect();
        if usable.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no usable address"));
        }
        Ok(self.in_turns(&usable))
    }

    fn in_turns(&self, ips: &[IpAddr]) -> Vec<SocketAddr> {
        let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = ips.iter().partition(|ip| ip.is_ipv6());
        let turns = six.len().max(four.len());
        let pairs = (0..turns).flat_map(|at| [six.get(at), four.get(at)]);
        let mut sockets: Vec<SocketAddr> = Vec::new();
        for ip in pairs.flatten() {
            let socket = SocketAddr::new(*ip, self.port);
            if !sockets.contains(&socket) && sockets.len() < MOST_ADDRESSES {
                sockets.push(socket);
            }
        }
        sockets
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;
/// Addresses of one list that are tried.
#[cfg(feature = "dnsaddr")]
const MOST_RECORDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        match Target::parse(text).unwrap() {
            Target::Name(name) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_and_sockets_are_told_apart() {
        let peer = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq";
        let parsed = name(&format!("/dns4/example.org/udp/4001/quic-v1/p2p/{peer}"));
        let expected = Name { name: "example.org".to_owned(), family: Family::V4, port: 4001 };
        assert_eq!(parsed, expected);
        assert_eq!(name("/dns/a.b/udp/1/quic-v1").family, Family::Any);
        assert_eq!(name("/dns6/a.b/udp/1/quic-v1").family, Family::V6);
        let socket = Target::parse("/ip4/192.0.2.1/udp/1/quic-v1").unwrap();
        assert_eq!(socket, Target::Socket("192.0.2.1:1".parse().unwrap()));
        let problem = |text: &str| Target::parse(text).unwrap_err();
        assert_eq!(problem("/dns4/a.b/tcp/1"), AddressProblem::NotUdp);
        assert_eq!(problem("/dns4/a.b/udp/1"), AddressProblem::NotQuicV1);
        assert_eq!(problem("/dns4/a.b"), AddressProblem::NotUdp);
        #[cfg(not(feature = "dnsaddr"))]
        assert_eq!(problem("/dnsaddr/a.b"), AddressProblem::NoDnsaddr);
    }

    #[test]
    fn families_take_turns_and_there_are_not_too_many() {
        let ips = |texts: &[&str]| texts.iter().map(|it| it.parse().unwrap()).collect::<Vec<_>>();
        let of = name("/dns/a.b/udp/7/quic-v1");
        let ordered = of.in_turns(&ips(&["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1"]));
        let expected = ["[2001:db8::1]:7", "192.0.2.1:7", "192.0.2.2:7"];
        assert_eq!(ordered.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        let many: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        assert_eq!(of.in_turns(&many).len(), MOST_ADDRESSES);
    }
}
