//! Commands of the address book.

use std::collections::BTreeMap;

use glueberry_tokio::{ErrorCode, Node};

use super::each;
use crate::support::{STREAMS, keypair, quick, run, somewhere};

#[test]
fn commands_of_the_book_that_are_dropped_are_done_or_not() {
    run(async {
        let folder =
            std::env::temp_dir().join(format!("glueberry-dropped-book-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let builder = Node::builder(keypair(1)).streams(STREAMS).config(quick());
        let node = builder.address_book(folder.join("book.json")).build().await.unwrap();
        let peer = keypair(2).public().to_peer_id();
        let entry = async || node.peer(peer).await.unwrap();
        let metadata: BTreeMap<String, String> = [("name".to_owned(), "x".to_owned())].into();

        each("add_new_peer and remove_peer", async |polls| {
            let add = || node.add_new_peer(peer, [somewhere()]);
            let added = polls.of(add()).await;
            if let Err(error) = add().await {
                assert_eq!(error.code(), ErrorCode::PeerAlreadyExists, "{error:#}");
            }
            assert_eq!(entry().await.addrs, [somewhere()]);
            let removed = polls.of(node.remove_peer(peer)).await;
            if let Err(error) = node.remove_peer(peer).await {
                assert_eq!(error.code(), ErrorCode::PeerNotFound, "{error:#}");
            }
            assert!(node.peer(peer).await.is_err());
            added.is_some() && removed.is_some()
        })
        .await;
        each("add_peer and add_peer_with_metadata", async |polls| {
            let added = polls.of(node.add_peer(peer, [somewhere()])).await;
            node.add_peer(peer, [somewhere()]).await.unwrap();
            let add = || node.add_peer_with_metadata(peer, [somewhere()], metadata.clone());
            let other = polls.of(add()).await;
            add().await.unwrap();
            assert_eq!(entry().await.metadata, metadata);
            added.is_some() && other.is_some()
        })
        .await;
        each("update_metadata", async |polls| {
            let updated = polls.of(node.update_metadata(peer, metadata.clone())).await;
            node.update_metadata(peer, metadata.clone()).await.unwrap();
            updated.is_some()
        })
        .await;
        each("blacklist_peer and unblacklist_peer", async |polls| {
            let banned = polls.of(node.blacklist_peer(peer, None)).await;
            node.blacklist_peer(peer, None).await.unwrap();
            let is_banned = polls.of(node.is_blacklisted(peer)).await;
            assert!(node.is_blacklisted(peer).await.unwrap());
            let lifted = polls.of(node.unblacklist_peer(peer)).await;
            if let Err(error) = node.unblacklist_peer(peer).await {
                assert_eq!(error.code(), ErrorCode::PeerNotFound, "{error:#}");
            }
            assert!(!node.is_blacklisted(peer).await.unwrap());
            banned.is_some() && is_banned.is_some() && lifted.is_some()
        })
        .await;
        each("clear_profile_pin, peer and peers", async |polls| {
            let cleared = polls.of(node.clear_profile_pin(peer)).await;
            assert!(!node.clear_profile_pin(peer).await.unwrap());
            let (one, all) = (polls.of(node.peer(peer)).await, polls.of(node.peers()).await);
            assert_eq!(node.peers().await.unwrap().len(), 1);
            cleared.is_some() && one.is_some() && all.is_some()
        })
        .await;
        each("flush_address_book and reload_address_book", async |polls| {
            node.update_metadata(peer, metadata.clone()).await.unwrap();
            let flushed = polls.of(node.flush_address_book()).await;
            node.flush_address_book().await.unwrap();
            let reloaded = polls.of(node.reload_address_book()).await;
            node.reload_address_book().await.unwrap();
            assert_eq!(entry().await.metadata, metadata);
            flushed.is_some() && reloaded.is_some()
        })
        .await;
        node.shutdown().await;
        std::fs::remove_dir_all(folder).unwrap();
    });
}
