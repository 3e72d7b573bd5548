//! Where connections come from.

use std::net::IpAddr;

/// A network that is usually in one hand: an IPv4 /24 or an IPv6 /56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "for the crates of this project")]
pub enum Network {
    /// The first bytes of its addresses.
    V4([u8; 3]),
    /// The same.
    V6([u8; 7]),
}

impl Network {
    /// Returns `None` for the loopback, on which every peer of this machine is.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            address if address.is_loopback() => None,
            IpAddr::V4(address) => address.octets().first_chunk().copied().map(Self::V4),
            IpAddr::V6(address) => address.octets().first_chunk().copied().map(Self::V6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.255"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:0:12ff::1"), of("2001:db8:0:1200::2"));
        assert_ne!(of("2001:db8:0:1300::1"), of("2001:db8:0:1200::2"));
        assert_eq!((of("127.0.0.1"), of("::1")), (None, None));
    }
}
