//! Addresses that stand for a list of addresses: `/dnsaddr/example.org`. The list is in the TXT records of
//! `_dnsaddr.example.org`, each `dnsaddr=` and an address.
//! <https://github.com/multiformats/multiaddr/blob/master/protocols/DNSADDR.md>

use std::io;

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

use super::name::Target;
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
    /// Returns the addresses of a peer in the list that this node can dial. As in libp2p, an address must
    /// name the peer: a list may be that of many peers.
    pub(super) async fn resolve(
        &self,
        runtime: &dyn Runtime,
        peer: PeerId,
    ) -> io::Result<Vec<Target>> {
        if self.depth > MOST_DEPTH {
            return Err(io::Error::other("too many /dnsaddr lead to each other"));
        }
        let records = runtime.resolve_txt(&format!("_dnsaddr.{}", self.name)).await?;
        let mut targets: Vec<Target> = Vec::new();
        for record in records.iter().filter_map(|record| record.strip_prefix("dnsaddr=")) {
            if let Some(target) = self.target(record, peer)
                && !targets.contains(&target)
                && targets.len() < MOST_RECORDS
            {
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

    fn target(&self, text: &str, peer: PeerId) -> Option<Target> {
        let address: Multiaddr = text.parse().ok()?;
        if address.iter().last() != Some(Protocol::P2p(peer)) || check(&address).is_err() {
            return None;
        }
        match Target::try_from(&address).ok()? {
            Target::Dnsaddr(next) => Some(Target::Dnsaddr(Self { depth: self.depth + 1, ..next })),
            target => Some(target),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Lists that may lead to each other.
const MOST_DEPTH: usize = 4;
/// Addresses of one list that are tried.
const MOST_RECORDS: usize = 16;
