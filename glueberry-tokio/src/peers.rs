//! What the address book holds of a peer, in the words of this side.

use std::collections::BTreeMap;
use std::time::SystemTime;

use glueberry_proto::book::{Ban, Entry};
use glueberry_proto::{PublicKey, WallTime};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use crate::store::system_time;

/// What the address book holds of a peer.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (alice, bob) = pair().await?;
/// let name = [("name".to_owned(), "bob".to_owned())].into();
/// alice.update_metadata(bob.peer_id(), name).await?;
/// let entry = alice.peer(bob.peer_id()).await?;
/// assert_eq!(entry.metadata["name"], "bob");
/// assert_eq!(entry.public_key, Some(bob.public_key()));
/// assert!(entry.last_seen.is_some() && !entry.is_blacklisted);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerEntry {
    /// The peer.
    pub peer: PeerId,
    /// Where it may be reached.
    pub addrs: Vec<Multiaddr>,
    /// What the application has noted.
    pub metadata: BTreeMap<String, String>,
    /// The key, once a handshake has confirmed it.
    pub public_key: Option<PublicKey>,
    /// Whether it is banned now.
    pub is_blacklisted: bool,
    /// When the ban ends; `None` if there is none or it does not end.
    pub banned_until: Option<SystemTime>,
    /// Until when it is held to v2, which it has spoken; `None` if it never has, or if that was
    /// [cleared](crate::Node::clear_profile_pin). It may be over.
    pub v2_until: Option<SystemTime>,
    /// When it was last connected.
    pub last_seen: Option<SystemTime>,
    /// When it was first added or banned.
    pub created_at: Option<SystemTime>,
    /// When anything of this last changed.
    pub updated_at: Option<SystemTime>,
}

impl PeerEntry {
    pub(crate) fn new(peer: PublicKey, entry: &Entry, now: WallTime) -> Self {
        let addrs = entry.addresses().iter().filter_map(|address| address.as_str().parse().ok());
        Self {
            peer: peer.into(),
            addrs: addrs.collect(),
            metadata: entry.metadata().clone(),
            public_key: entry.public_key(),
            is_blacklisted: entry.is_blacklisted(now),
            banned_until: entry.ban().and_then(Ban::end).and_then(system_time),
            v2_until: entry.v2_until().and_then(system_time),
            last_seen: entry.last_seen().and_then(system_time),
            created_at: system_time(entry.created_at()),
            updated_at: system_time(entry.updated_at()),
        }
    }
}
