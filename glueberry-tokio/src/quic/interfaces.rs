//! Which addresses of this machine a socket is reached at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Returns the addresses at which a socket can be dialled that is bound to `local`: for an
/// unspecified address those of the interfaces, the loopback last.
///
/// Link-local addresses of IPv6 are left out: they mean nothing without an interface, which a
/// multiaddr of QUIC can't name.
pub(super) fn reached_at(local: SocketAddr) -> Vec<SocketAddr> {
    let ip = local.ip();
    if !ip.is_unspecified() {
        return vec![local];
    }
    let of_interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let ips = of_interfaces.into_iter().map(|interface| interface.ip());
    let expanded = expand(ip, ips.collect());
    expanded.into_iter().map(|ip| SocketAddr::new(ip, local.port())).collect()
}

fn expand(unspecified: IpAddr, mut ips: Vec<IpAddr>) -> Vec<IpAddr> {
    let is_usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
    };
    ips.retain(|ip| ip.is_ipv4() == unspecified.is_ipv4() && is_usable(ip) && !ip.is_loopback());
    ips.dedup();
    ips.truncate(MOST - 1);
    ips.push(match unspecified {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    });
    ips
}

/// Addresses that one socket is said to have. A machine with many virtual networks has more, and a
/// peer keeps sixteen.
const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_those_of_its_family() {
        let ips =
            |text: &[&str]| -> Vec<IpAddr> { text.iter().map(|ip| ip.parse().unwrap()).collect() };
        let all = ips(&["127.0.0.1", "192.0.2.1", "::1", "fe80::1", "2001:db8::1", "10.0.0.1"]);
        let v4 = expand(Ipv4Addr::UNSPECIFIED.into(), all.clone());
        assert_eq!(v4, ips(&["192.0.2.1", "10.0.0.1", "127.0.0.1"]));
        let v6 = expand(Ipv6Addr::UNSPECIFIED.into(), all);
        assert_eq!(v6, ips(&["2001:db8::1", "::1"]));
        assert_eq!(expand(Ipv4Addr::UNSPECIFIED.into(), Vec::new()), ips(&["127.0.0.1"]));
        let many = (0..40).map(|number| Ipv4Addr::new(10, 0, 0, number).into()).collect();
        assert_eq!(expand(Ipv4Addr::UNSPECIFIED.into(), many).len(), MOST);
        let own = "192.0.2.7:4001".parse().unwrap();
        assert_eq!(reached_at(own), [own]);
    }
}
