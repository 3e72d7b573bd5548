//! Addresses that stand for a list of addresses: `/dnsaddr/example.org`. The list is in the TXT records of
//! `_dnsaddr.example.org`, each `dnsaddr=` and an address.
//! <https://github.com/multiformats/multiaddr/blob/master/protocols/DNSADDR.md>

use std::io;

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

use crate::address::{AddressProblem, check};
use crate::runtime::Runtime;

/// A name whose list is to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dnsaddr {
    name: String,
    /// How many lists have led here.
    depth: usize,
}

impl TryFrom<&Multiaddr> for Dnsaddr {
    type Error = AddressProblem;

    fn try_from(address: &Multiaddr) -> Result<Self, AddressProblem> {
        let mut parts = address.iter();
        let Some(Protocol::Dnsaddr(name)) = parts.next() else {
            return Err(AddressProblem::NotIp);
        };
        let others = match parts.next() {
            Some(Protocol::P2p(_)) => parts.next(),
            other => other,
        };
        match others {
            None => Ok(Self { name: name.into_owned(), depth: 0 }),
            Some(other) => Err(AddressProblem::AfterDnsaddr(other.tag())),
        }
    }
}

impl Dnsaddr {
    /// Returns the addresses of a peer in the list. As in libp2p, an address must name the peer: a list
    /// may be that of many peers.
    pub(super) async fn addresses(
        &self,
        runtime: &dyn Runtime,
        peer: PeerId,
    ) -> io::Result<Vec<Multiaddr>> {
        if self.depth > MOST_DEPTH {
            return Err(io::Error::other("too many /dnsaddr lead to each other"));
        }
        let records = runtime.resolve_txt(&format!("_dnsaddr.{}", self.name)).await?;
        let texts = records.iter().filter_map(|record| record.strip_prefix("dnsaddr="));
        let addresses = texts.filter_map(|text| text.parse::<Multiaddr>().ok());
        let is_of_peer =
            |it: &Multiaddr| it.iter().last() == Some(Protocol::P2p(peer)) && check(it).is_ok();
        Ok(addresses.filter(is_of_peer).collect())
    }

    /// Returns the list as one that another has led to.
    pub(super) fn below(self, other: &Self) -> Self {
        Self { depth: other.depth + 1, ..self }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Lists that may lead to each other.
const MOST_DEPTH: usize = 4;
