//! Files that the Go program wrote.

use glueberry_proto::book::Ban;
use glueberry_proto::{PublicKey, WallTime};
use libp2p_identity::PeerId;

use crate::support::{addresses, at, metadata, read, written};

#[test]
fn written_as_it_was_read() {
    for file in [EMPTY, FULL] {
        let (book, rejected) = read(file);
        assert_eq!(rejected, []);
        assert_eq!(written(&book), file);
    }
}

/// What a Go node wrote in UTC is written alike even if nothing of its text is kept.
#[test]
fn written_anew_as_go_writes() {
    let (mut book, _) = read(FULL);
    let before = book.clone();
    for (peer, entry) in before.iter() {
        // Forget the text by changing something, and change it back.
        let (addresses, updated_at) = (entry.addresses().to_vec(), entry.updated_at());
        book.add(peer, Vec::new(), Some(metadata(&[("other", "")])), updated_at).unwrap();
        book.add(peer, addresses, Some(entry.metadata().clone()), updated_at).unwrap();
    }
    assert_eq!(book, before);
    assert_eq!(written(&book), FULL);
}

#[test]
fn what_it_says() {
    let (book, _) = read(FULL);
    assert_eq!(book.len(), 3);

    let banned = book.entry(peer("12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq")).unwrap();
    assert_eq!(banned.ban(), Some(Ban::Forever));
    assert!(banned.is_blacklisted(WallTime::NEVER) && banned.is_blacklisted(WallTime::MAX));
    assert_eq!(banned.last_seen(), None);
    assert_eq!(banned.addresses(), []);
    assert_eq!(banned.updated_at().to_string(), "2026-11-22T19:18:08.046670634Z");

    let key = peer("12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5");
    let validator = book.entry(key).unwrap();
    assert_eq!(validator.public_key(), Some(key));
    assert_eq!(validator.ban(), None);
    let note = "a<b>&c \"q\" é\u{2028}x";
    let expected = metadata(&[("", "empty key"), ("note", note), ("role", "validator")]);
    assert_eq!(*validator.metadata(), expected);
    assert_eq!(validator.last_seen().unwrap().to_string(), "2026-11-22T19:18:08.046104831Z");
    assert_eq!(validator.created_at().to_string(), "2026-11-22T19:18:08.044210048Z");
    let expected = [
        "/ip4/192.0.2.1/tcp/9000",
        "/ip4/192.0.2.1/udp/9000/quic-v1",
        "/dns4/node.example/tcp/443/wss",
    ];
    assert_eq!(validator.addresses(), addresses(&expected));

    let relayed = peer("12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba");
    assert_eq!(book.entry(relayed).unwrap().addresses().len(), 1);
    let allowed = book.iter_allowed(at(0)).map(|(peer, _)| peer).collect::<Vec<_>>();
    assert_eq!(allowed, [key, relayed]);
}

/// Go writes the local time with its offset.
#[test]
fn local_times_stay_as_they_are() {
    let file = FULL.replace("2026-11-22T19:18:08.04725836Z", "2026-11-22T20:18:08.04725836+01:00");
    assert_ne!(file, FULL);
    let (local, rejected) = read(&file);
    assert_eq!(rejected, []);
    assert_eq!(local, read(FULL).0);
    assert_eq!(written(&local), file);
}

fn peer(id: &str) -> PublicKey {
    PublicKey::try_from(&id.parse::<PeerId>().unwrap()).unwrap()
}

const EMPTY: &str = include_str!("../vectors/addressbook/empty.json");
const FULL: &str = include_str!("../vectors/addressbook/full.json");
