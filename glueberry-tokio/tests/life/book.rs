//! What a node knows of its peers, and that it outlives the node.

use std::collections::BTreeMap;
use std::path::PathBuf;

use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{BookTrouble, Builder, CheckName, ErrorCode, Event, Events, Node};

use crate::support::{Party, any_port, keypair, quick, run, somewhere};

/// A folder that is removed with its contents.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("glueberry-life-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn book(&self) -> PathBuf {
        self.0.join("addressbook.json")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn builder(folder: &Folder) -> Builder {
    Node::builder(keypair(1)).config(quick()).listen(any_port()).address_book(folder.book())
}

fn noted(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn inner(folder: &Folder) -> PathBuf {
    folder.0.join("inner")
}

/// A node that has learnt of a peer since the folder of its book is gone.
async fn unstorable(folder: &Folder) -> (Node, Events, PeerId) {
    std::fs::create_dir_all(inner(folder)).unwrap();
    let node = Node::builder(keypair(1))
        .config(quick())
        .address_book(inner(folder).join("book.json"))
        .build()
        .await
        .unwrap();
    let events = node.events();
    std::fs::remove_dir_all(inner(folder)).unwrap();
    let peer = Keypair::generate_ed25519().public().to_peer_id();
    node.add_peer(peer, [somewhere()]).await.unwrap();
    (node, events, peer)
}

#[test]
fn peers_metadata_and_bans_survive_a_restart() {
    run(async {
        let folder = Folder::new("restart");
        let (known, banned) =
            (Keypair::generate_ed25519().public(), Keypair::generate_ed25519().public());
        let node = builder(&folder).build().await.unwrap();
        let metadata = noted(&[("name", "alice")]);
        node.add_peer_with_metadata(known.to_peer_id(), [somewhere()], metadata).await.unwrap();
        node.blacklist_peer(banned.to_peer_id(), None).await.unwrap();
        node.flush_address_book().await.unwrap();
        // A second process, or node, may not have it too.
        let error = builder(&folder).build().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::AddressBookFailed);
        node.shutdown().await;

        let node = builder(&folder).build().await.unwrap();
        let entry = node.peer(known.to_peer_id()).await.unwrap();
        assert_eq!(entry.metadata, noted(&[("name", "alice")]));
        assert_eq!(entry.addrs, [somewhere()]);
        assert!(node.is_blacklisted(banned.to_peer_id()).await.unwrap());
        assert_eq!(node.peers().await.unwrap().len(), 2);
        let changes = noted(&[("name", ""), ("role", "validator")]);
        node.update_metadata(known.to_peer_id(), changes).await.unwrap();
        let entry = node.peer(known.to_peer_id()).await.unwrap();
        assert_eq!(entry.metadata, noted(&[("role", "validator")]));
        node.remove_peer(known.to_peer_id()).await.unwrap();
        let error = node.remove_peer(known.to_peer_id()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::PeerNotFound);
        assert_eq!(node.peers().await.unwrap().len(), 1);
        node.shutdown().await;
    });
}

#[test]
fn what_is_learnt_while_the_book_is_stored_is_stored_before_a_stop() {
    run(async {
        for round in 0..10 {
            let folder = Folder::new(&format!("behind-{round}"));
            let node = builder(&folder).build().await.unwrap();
            let [known, banned] = [0; 2].map(|_| Keypair::generate_ed25519().public().to_peer_id());
            node.add_peer(known, [somewhere()]).await.unwrap();
            // That is on its way to the disk.
            node.blacklist_peer(banned, None).await.unwrap();
            node.shutdown().await;
            let node = builder(&folder).build().await.unwrap();
            assert!(node.peer(known).await.is_ok());
            assert!(node.is_blacklisted(banned).await.unwrap());
            node.shutdown().await;
        }
    });
}

#[test]
fn a_node_stops_though_its_book_cannot_be_stored_and_tells_so() {
    run(async {
        let folder = Folder::new("lost");
        let (node, mut events, _) = unstorable(&folder).await;
        node.shutdown().await;
        let mut is_told = false;
        while let Some(event) = events.recv().await {
            is_told |= matches!(event, Event::AddressBook(BookTrouble::NotSaved(_)));
        }
        assert!(is_told);
    });
}

#[test]
fn a_book_that_was_edited_is_reloaded_and_its_bans_hold_at_once() {
    run(async {
        let folder = Folder::new("reload");
        let mut a =
            Party::of(keypair(1), quick(), |builder| builder.address_book(folder.book())).await;
        a.greet();
        let mut b = Party::greeting(quick()).await;
        a.dial(&b).await;
        // What a notes of b, its key among it, is written down before the file is edited.
        a.until(glueberry_tokio::ConnectionState::Established).await;
        b.until(glueberry_tokio::ConnectionState::Established).await;
        a.node.flush_address_book().await.unwrap();
        let text = std::fs::read_to_string(folder.book()).unwrap();
        let edited = text.replace(r#""blacklisted": false"#, r#""blacklisted": true"#);
        assert_ne!(text, edited);
        std::fs::write(folder.book(), edited).unwrap();
        a.node.reload_address_book().await.unwrap();
        a.until(glueberry_tokio::ConnectionState::Disconnected).await;
        assert!(a.node.is_blacklisted(b.id()).await.unwrap());
    });
}

#[test]
fn a_bad_file_is_set_aside_and_a_bad_entry_told() {
    run(async {
        let folder = Folder::new("bad");
        std::fs::write(folder.book(), "no json").unwrap();
        let node = builder(&folder).build().await.unwrap();
        let findings = node.address_book_findings();
        let [BookTrouble::SetAside { path, .. }] = findings else { panic!("{findings:?}") };
        assert_eq!(std::fs::read_to_string(path).unwrap(), "no json");
        node.shutdown().await;
        std::fs::write(folder.book(), r#"{"version":1,"peers":{"nobody":null}}"#).unwrap();
        let node = builder(&folder).build().await.unwrap();
        let findings = node.address_book_findings();
        let [BookTrouble::Skipped { key, .. }] = findings else { panic!("{findings:?}") };
        assert_eq!(key, "nobody");
        node.shutdown().await;
    });
}

#[test]
fn a_book_that_cannot_be_stored_is_told_and_the_node_goes_on() {
    run(async {
        let folder = Folder::new("unstorable");
        let (node, mut events, peer) = unstorable(&folder).await;
        let error = node.flush_address_book().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::AddressBookFailed);
        let trouble = loop {
            if let Event::AddressBook(trouble) = events.recv().await.unwrap() {
                break trouble;
            }
        };
        assert!(matches!(trouble, BookTrouble::NotSaved(_)), "{trouble}");
        let health = node.health().await;
        assert!(!health.is_healthy);
        assert!(!health.check(CheckName::AddressBook).unwrap().is_healthy);
        // The disk is back.
        std::fs::create_dir_all(inner(&folder)).unwrap();
        node.flush_address_book().await.unwrap();
        assert!(node.health().await.is_healthy);
        assert!(node.peer(peer).await.is_ok());
        node.shutdown().await;
    });
}

/// A runtime that is dropped ends the node without a shutdown. Its book is free by then.
#[test]
fn a_book_can_be_opened_again_right_after_its_runtime_was_dropped() {
    let folder = Folder::new("reopened");
    for round in 0..100 {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let node = builder(&folder).build().await.unwrap_or_else(|e| panic!("{round}: {e}"));
            let peer = keypair(2).public().to_peer_id();
            let note = noted(&[("round", &round.to_string())]);
            node.add_peer_with_metadata(peer, [somewhere()], note).await.unwrap();
            assert_eq!(node.peer(peer).await.unwrap().metadata["round"], round.to_string());
        });
        drop(runtime);
    }
}

/// A file that cannot be read says nothing about whom it banned.
#[test]
fn a_reload_of_what_is_no_book_fails_and_changes_nothing() {
    run(async {
        let folder = Folder::new("spoilt");
        let node = builder(&folder).build().await.unwrap();
        let mut events = node.events();
        let [known, banned] = [2, 3].map(|number| keypair(number).public().to_peer_id());
        node.add_peer(known, [somewhere()]).await.unwrap();
        node.blacklist_peer(banned, None).await.unwrap();
        node.flush_address_book().await.unwrap();
        std::fs::write(folder.book(), "no json").unwrap();
        let error = node.reload_address_book().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::AddressBookFailed);
        assert!(node.peer(known).await.is_ok());
        assert!(node.is_blacklisted(banned).await.unwrap());
        let aside = loop {
            if let Some(Event::AddressBook(BookTrouble::SetAside { path, .. })) =
                events.recv().await
            {
                break path;
            }
        };
        assert_eq!(std::fs::read_to_string(aside).unwrap(), "no json");
        // What is known is stored again.
        node.shutdown().await;
        let node = builder(&folder).build().await.unwrap();
        assert!(node.is_blacklisted(banned).await.unwrap());
        node.shutdown().await;
    });
}

#[test]
fn what_is_changed_while_the_book_is_reloaded_stays_changed() {
    run(async {
        let folder = Folder::new("reloads");
        let node = builder(&folder).build().await.unwrap();
        for _ in 0..50 {
            let [known, banned] = [0; 2].map(|_| Keypair::generate_ed25519().public().to_peer_id());
            let learning = async {
                node.add_peer(known, [somewhere()]).await.unwrap();
                node.blacklist_peer(banned, None).await.unwrap();
                node.flush_address_book().await.unwrap();
            };
            let (one, other) = (node.reload_address_book(), node.reload_address_book());
            let (one, other, ()) = tokio::join!(one, other, learning);
            one.unwrap();
            other.unwrap();
            assert!(node.is_blacklisted(banned).await.unwrap());
            // It is in the file, too.
            node.reload_address_book().await.unwrap();
            assert!(node.peer(known).await.is_ok());
            assert!(node.is_blacklisted(banned).await.unwrap());
        }
        node.shutdown().await;
    });
}

/// What is accepted is stored, to the last moment.
#[test]
fn what_a_node_that_stops_says_is_stored_is_stored() {
    run(async {
        for round in 0..30 {
            let folder = Folder::new(&format!("stopping-{round}"));
            let node = builder(&folder).build().await.unwrap();
            let stopping = node.clone();
            let stopping = tokio::spawn(async move { stopping.shutdown().await });
            let mut stored = Vec::new();
            let error = loop {
                let peer = Keypair::generate_ed25519().public().to_peer_id();
                let learnt = async {
                    node.add_peer(peer, [somewhere()]).await?;
                    node.flush_address_book().await
                };
                match learnt.await {
                    Ok(()) => stored.push(peer),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.code(), ErrorCode::NodeStopped, "{error}");
            stopping.await.unwrap();
            let node = builder(&folder).build().await.unwrap();
            for peer in stored {
                assert!(node.peer(peer).await.is_ok());
            }
            node.shutdown().await;
        }
    });
}
