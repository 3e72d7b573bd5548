//! Addresses, which only the adapter understands.

use crate::prelude::*;
use core::fmt;

/// An address that the adapter understands; to the core it is a text that it stores and hands
/// back.
///
/// ```
/// use glueberry_proto::Address;
///
/// let address = Address::new("/ip4/192.0.2.1/udp/9000/quic-v1");
/// assert_eq!(address.as_str(), "/ip4/192.0.2.1/udp/9000/quic-v1");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl Address {
    /// Wraps the text form of an address.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(feature = "multiformats")]
impl From<&multiaddr::Multiaddr> for Address {
    fn from(address: &multiaddr::Multiaddr) -> Self {
        Self(address.to_string())
    }
}

/// Longest address in bytes of text.
pub(crate) const MAX_ADDRESS: usize = 1024;
