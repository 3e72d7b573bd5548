//! What a node's handle does with the address book.

use std::collections::BTreeMap;
use std::time::SystemTime;

use glueberry_proto::book::Book;
use glueberry_proto::{Address, Node as CoreNode, PeerError};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use tracing::warn;

use super::{Node, address_of};
use crate::command::NodeCommand;
use crate::error::{Error, ErrorCode, Misuse};
use crate::event::{BookTrouble, Event};
use crate::peers::PeerEntry;
use crate::store::wall_time;

impl Node {
    /// Learns where a peer can be reached, or replaces what was known. A trailing `/p2p/…` must
    /// name the peer. A ban and metadata stay as they are.
    ///
    /// If one of the addresses can't be dialled, none is taken: the error names it, and its source
    /// is an [`AddressError`](crate::AddressError) with the reason.
    ///
    /// # Errors
    ///
    /// [`InvalidPublicKey`](ErrorCode::InvalidPublicKey) if the id is not that of an Ed25519 key
    /// of another node, [`InvalidAddress`](ErrorCode::InvalidAddress),
    /// [`LimitReached`](ErrorCode::LimitReached), [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn add_peer(
        &self,
        peer: PeerId,
        addrs: impl IntoIterator<Item = Multiaddr>,
    ) -> Result<(), Error> {
        self.add(peer, addrs, None, false).await
    }

    /// Learns where a peer can be reached and notes something of it, or replaces what was known
    /// and noted.
    ///
    /// # Errors
    ///
    /// Those of [`add_peer`](Self::add_peer), and
    /// [`MetadataTooLarge`](ErrorCode::MetadataTooLarge).
    pub async fn add_peer_with_metadata(
        &self,
        peer: PeerId,
        addrs: impl IntoIterator<Item = Multiaddr>,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        self.add(peer, addrs, Some(metadata), false).await
    }

    /// Learns where a peer can be reached that is not in the address book yet.
    ///
    /// # Errors
    ///
    /// Those of [`add_peer`](Self::add_peer), and
    /// [`PeerAlreadyExists`](ErrorCode::PeerAlreadyExists).
    pub async fn add_new_peer(
        &self,
        peer: PeerId,
        addrs: impl IntoIterator<Item = Multiaddr>,
    ) -> Result<(), Error> {
        self.add(peer, addrs, None, true).await
    }

    /// Sets metadata of a peer, and deletes those whose new value is empty; others stay.
    ///
    /// # Errors
    ///
    /// [`PeerNotFound`](ErrorCode::PeerNotFound),
    /// [`MetadataTooLarge`](ErrorCode::MetadataTooLarge), [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn update_metadata(
        &self,
        peer: PeerId,
        changes: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let key = self.shared().key_of(peer)?;
        self.change_book(move |core, now| core.update_metadata(now, key, changes.clone()))
            .await?
            .map_err(|error| Error::from(error).of_peer(peer))
    }

    /// Forgets where a peer can be reached and what was noted of it; a ban stays. A session goes
    /// on, but will not be reconnected.
    ///
    /// # Errors
    ///
    /// [`PeerNotFound`](ErrorCode::PeerNotFound), [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn remove_peer(&self, peer: PeerId) -> Result<(), Error> {
        let key = self.shared().key_of(peer)?;
        match self.change_book(move |core, now| core.remove_peer(now, key)).await? {
            Some(_) => Ok(()),
            None => Err(Error::because(ErrorCode::PeerNotFound, Misuse::UnknownPeer).of_peer(peer)),
        }
    }

    /// Returns what the address book holds of a peer.
    ///
    /// # Errors
    ///
    /// [`PeerNotFound`](ErrorCode::PeerNotFound), [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn peer(&self, peer: PeerId) -> Result<PeerEntry, Error> {
        let key = self.shared().key_of(peer)?;
        let wall = self.shared().wall();
        self.core(move |core, _| {
            core.book().entry(key).map(|entry| PeerEntry::new(key, entry, wall))
        })
        .await?
        .ok_or_else(|| Error::because(ErrorCode::PeerNotFound, Misuse::UnknownPeer).of_peer(peer))
    }

    /// Returns the peers in the address book, the banned ones among them.
    ///
    /// # Errors
    ///
    /// [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn peers(&self) -> Result<Vec<PeerEntry>, Error> {
        let wall = self.shared().wall();
        let all = move |book: &Book| {
            book.iter().map(|(key, entry)| PeerEntry::new(key, entry, wall)).collect()
        };
        self.core(move |core, _| all(core.book())).await
    }

    /// Bans a peer, known or not, for ever or until a time, and cuts it off at once, whatever its
    /// state. What was queued for it is not sent. The ban survives restarts if the address book is
    /// stored.
    ///
    /// There is a limit of bans of peers of which nothing else is known,
    /// [`max_bans`](glueberry_proto::Config::max_bans): above it the one is lifted that was seen the
    /// longest time ago, with a [`BookTrouble::BanLifted`].
    ///
    /// # Errors
    ///
    /// [`InvalidPublicKey`](ErrorCode::InvalidPublicKey) if the id is not that of an Ed25519 key of
    /// another node, [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn blacklist_peer(
        &self,
        peer: PeerId,
        until: Option<SystemTime>,
    ) -> Result<(), Error> {
        let (key, until) = (self.shared().key_of(peer)?, until.map(wall_time));
        let telemetry = self.shared().telemetry.clone();
        let ban = move |core: &mut CoreNode, now| {
            let lifted = core.blacklist(now, key, until)?;
            if let Some(lifted) = lifted {
                let trouble = BookTrouble::BanLifted(lifted.into());
                warn!(%trouble, "address book trouble");
                telemetry.events.publish(&Event::AddressBook(trouble));
            }
            Ok(())
        };
        self.change_book(ban).await?.map_err(|error: PeerError| Error::from(error).of_peer(peer))
    }

    /// Lifts a ban.
    ///
    /// # Errors
    ///
    /// [`PeerNotFound`](ErrorCode::PeerNotFound) if there is none,
    /// [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn unblacklist_peer(&self, peer: PeerId) -> Result<(), Error> {
        let key = self.shared().key_of(peer)?;
        match self.change_book(move |core, now| core.unblacklist(now, key)).await? {
            true => Ok(()),
            false => Err(Error::because(ErrorCode::PeerNotFound, Misuse::NotBanned).of_peer(peer)),
        }
    }

    /// Returns whether a peer is banned now.
    ///
    /// # Errors
    ///
    /// [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn is_blacklisted(&self, peer: PeerId) -> Result<bool, Error> {
        let key = self.shared().key_of(peer)?;
        self.core(move |core, _| core.is_blacklisted(key)).await
    }

    /// No longer holds a peer to v2, which it has spoken: sessions that begin from now on may have an
    /// earlier profile. Returns whether it was held; it is again as soon as it speaks v2.
    ///
    /// The way back for a peer whose [`DowngradeRefused`](crate::Event::DowngradeRefused) has an innocent
    /// cause. [`pin_time`](glueberry_proto::Config::pin_time) switches it off for all peers.
    ///
    /// # Errors
    ///
    /// [`InvalidPublicKey`](ErrorCode::InvalidPublicKey) if the id is not that of an Ed25519 key of
    /// another node, [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn clear_profile_pin(&self, peer: PeerId) -> Result<bool, Error> {
        let key = self.shared().key_of(peer)?;
        self.change_book(move |core, now| core.clear_pin(now, key)).await
    }

    /// Stores the address book now, and waits until the disk has confirmed it. Ready at once if
    /// there is nothing to store, or no file.
    ///
    /// # Errors
    ///
    /// [`AddressBookFailed`](ErrorCode::AddressBookFailed),
    /// [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn flush_address_book(&self) -> Result<(), Error> {
        self.ask(NodeCommand::FlushBook).await?
    }

    /// Reads the address book anew, in place of what is known, and cuts off whom it bans. What is changed
    /// from this call on is changed in what was read.
    ///
    /// If the file is no address book, what is known stays, bans among it, and is stored; the file is
    /// renamed, with a [`BookTrouble::SetAside`].
    ///
    /// # Errors
    ///
    /// [`AddressBookFailed`](ErrorCode::AddressBookFailed), among others if the file is no address book,
    /// [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn reload_address_book(&self) -> Result<(), Error> {
        self.ask(NodeCommand::ReloadBook).await?
    }

    /// Returns what was found wrong with the stored address book when the node was built. Later
    /// trouble is reported by [`Event::AddressBook`].
    pub fn address_book_findings(&self) -> &[BookTrouble] {
        self.findings()
    }

    async fn add(
        &self,
        peer: PeerId,
        addrs: impl IntoIterator<Item = Multiaddr>,
        metadata: Option<BTreeMap<String, String>>,
        only_new: bool,
    ) -> Result<(), Error> {
        let key = self.shared().key_of(peer)?;
        let addresses = addrs.into_iter().map(|addr| address_of(self.shared(), peer, addr));
        let addresses: Vec<Address> = addresses.collect::<Result<_, _>>()?;
        self.change_book(move |core, now| {
            if only_new && core.book().entry(key).is_some() {
                return Err(Error::new(ErrorCode::PeerAlreadyExists));
            }
            let metadata = metadata.clone();
            core.add_peer_with_metadata(now, key, &addresses, metadata).map_err(Error::from)
        })
        .await?
        .map_err(|error| error.of_peer(peer))
    }
}
