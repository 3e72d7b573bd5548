//! What each change does to a book, and what it leaves alone.

use std::time::Duration;

use glueberry_proto::book::{Ban, Book, ChangeError, Limits, Unsaved};
use glueberry_proto::{Address, WallTime};

use crate::support::{addresses, at, metadata, peer, small};

fn book() -> Book {
    Book::new(Limits::default())
}

#[test]
fn adding_again_replaces_what_is_given_and_keeps_the_rest() {
    let mut book = book();
    let first = addresses(&["/ip4/192.0.2.1/tcp/1"]);
    book.add(peer(1), first, Some(metadata(&[("a", "1"), ("b", "2")])), at(0)).unwrap();
    assert!(book.touch(peer(1), at(1)));
    assert!(book.set_public_key(peer(1), at(2)));
    book.blacklist(peer(1), None, at(3));

    let second = addresses(&["/ip4/192.0.2.2/tcp/2"]);
    book.add(peer(1), second.clone(), None, at(4)).unwrap();
    let entry = book.entry(peer(1)).unwrap();
    assert_eq!(entry.addresses(), second);
    assert_eq!(*entry.metadata(), metadata(&[("a", "1"), ("b", "2")]));
    assert_eq!(entry.last_seen(), Some(at(1)));
    assert_eq!(entry.public_key(), Some(peer(1)));
    assert_eq!(entry.ban(), Some(Ban::Forever));
    assert_eq!((entry.created_at(), entry.updated_at()), (at(0), at(4)));

    book.add(peer(1), Vec::new(), Some(metadata(&[("c", "3")])), at(5)).unwrap();
    assert_eq!(*book.entry(peer(1)).unwrap().metadata(), metadata(&[("c", "3")]));
}

#[test]
fn removing_gives_back_what_was_known() {
    let mut book = book();
    book.add(peer(1), addresses(&["/ip4/192.0.2.1/tcp/1"]), None, at(0)).unwrap();
    let removed = book.remove(peer(1), at(1)).unwrap();
    assert_eq!(removed.addresses().len(), 1);
    assert_eq!(book.remove(peer(1), at(1)), None);
    assert!(book.is_empty());
}

#[test]
fn removing_a_banned_peer_keeps_its_ban() {
    let mut book = book();
    book.add(peer(1), addresses(&["/ip4/192.0.2.1/tcp/1"]), None, at(0)).unwrap();
    book.blacklist(peer(1), Some(at(100)), at(1));
    assert!(book.remove(peer(1), at(2)).is_some());
    assert!(book.is_blacklisted(peer(1), at(99)));
    assert_eq!(book.entry(peer(1)).unwrap().addresses(), []);
    assert_eq!(book.remove(peer(1), at(3)), None);
    // With the ban goes what it had left.
    assert_eq!(book.end_bans(at(100)), [peer(1)]);
    assert!(book.is_empty());
}

#[test]
fn strangers_can_be_banned() {
    let mut book = book();
    book.blacklist(peer(1), None, at(0));
    assert!(book.is_blacklisted(peer(1), WallTime::MAX));
    assert!(!book.is_blacklisted(peer(2), at(0)));
    assert!(book.unblacklist(peer(1), at(1)));
    assert!(!book.unblacklist(peer(1), at(1)));
    assert!(book.is_empty());
}

#[test]
fn lifting_a_ban_keeps_a_peer_that_is_known() {
    let mut book = book();
    book.add(peer(1), Vec::new(), Some(metadata(&[("a", "1")])), at(0)).unwrap();
    book.blacklist(peer(1), None, at(1));
    assert!(book.unblacklist(peer(1), at(2)));
    assert_eq!(book.entry(peer(1)).unwrap().ban(), None);
}

#[test]
fn bans_end_by_themselves() {
    let mut book = book();
    for (number, end) in [(1, 30), (2, 10), (3, 20)] {
        book.blacklist(peer(number), Some(at(end)), at(0));
    }
    book.blacklist(peer(4), None, at(0));
    assert_eq!(book.next_ban_end(), Some(at(10)));
    assert!(book.is_blacklisted(peer(2), at(9)));
    assert!(!book.is_blacklisted(peer(2), at(10)));
    assert_eq!(book.end_bans(at(9)), []);
    assert_eq!(book.end_bans(at(20)), [peer(2), peer(3)]);
    assert_eq!(book.next_ban_end(), Some(at(30)));

    // A new ban takes the old one's place.
    book.blacklist(peer(1), Some(at(40)), at(21));
    assert_eq!(book.next_ban_end(), Some(at(40)));
    book.blacklist(peer(1), None, at(21));
    assert_eq!(book.next_ban_end(), None);
    assert_eq!(book.len(), 2);
}

#[test]
fn bans_that_are_over_hide_nobody() {
    let mut book = book();
    book.add(peer(1), Vec::new(), None, at(0)).unwrap();
    book.blacklist(peer(1), Some(at(10)), at(0));
    assert_eq!(book.iter_allowed(at(9)).count(), 0);
    assert_eq!(book.iter_allowed(at(10)).count(), 1);
    assert_eq!(book.iter().count(), 1);
}

#[test]
fn metadata_are_merged_and_emptied() {
    let mut book = book();
    let unknown = book.update_metadata(peer(1), metadata(&[("a", "1")]), at(0));
    assert_eq!(unknown, Err(ChangeError::UnknownPeer));
    book.add(peer(1), Vec::new(), Some(metadata(&[("a", "1"), ("b", "2")])), at(0)).unwrap();
    book.update_metadata(peer(1), metadata(&[("a", ""), ("c", "3"), ("d", "")]), at(1)).unwrap();
    let entry = book.entry(peer(1)).unwrap();
    assert_eq!(*entry.metadata(), metadata(&[("b", "2"), ("c", "3")]));
    assert_eq!(entry.updated_at(), at(1));
}

/// What Go writes for never can't be a time at which a peer was seen.
#[test]
fn never_is_no_time_to_be_seen() {
    let mut book = book();
    book.add(peer(1), Vec::new(), None, at(0)).unwrap();
    assert!(book.touch(peer(1), WallTime::NEVER));
    assert_eq!(book.entry(peer(1)).unwrap().last_seen(), None);
}

#[test]
fn who_is_unknown_is_not_touched() {
    let mut book = book();
    assert!(!book.touch(peer(1), at(0)));
    assert!(!book.set_public_key(peer(1), at(0)));
    assert!(book.is_empty());
    assert_eq!(book.unsaved(), Unsaved::Nothing);
}

#[test]
fn limits_hold_and_change_nothing() {
    let mut book = Book::new(small());
    for number in 1..=3 {
        book.add(peer(number), Vec::new(), None, at(0)).unwrap();
    }
    let before = book.clone();
    assert_eq!(
        book.add(peer(4), Vec::new(), None, at(1)),
        Err(ChangeError::TooManyEntries { limit: 3 })
    );
    let got = book.add(peer(1), addresses(&["a", "b", "c"]), None, at(1));
    assert_eq!(got, Err(ChangeError::TooManyAddresses { got: 3, limit: 2 }));
    let long = "a".repeat(1025);
    let got = book.add(peer(1), vec![Address::new(long)], None, at(1));
    assert_eq!(got, Err(ChangeError::AddressTooLong { len: 1025 }));
    let large = metadata(&[("key", "12345678")]);
    let got = book.add(peer(1), Vec::new(), Some(large.clone()), at(1));
    assert_eq!(got, Err(ChangeError::MetadataTooLarge { got: 11, limit: 10 }));
    let got = book.update_metadata(peer(1), large, at(1));
    assert_eq!(got, Err(ChangeError::MetadataTooLarge { got: 11, limit: 10 }));
    assert_eq!(book, before);
    assert_eq!(book.revision(), before.revision());

    // Who is known may still be banned, and what fits may still be said.
    book.blacklist(peer(1), None, at(1));
    book.update_metadata(peer(1), metadata(&[("key", "1234567")]), at(1)).unwrap();
    book.add(peer(1), addresses(&["a", &"b".repeat(1024)]), None, at(1)).unwrap();
}

#[test]
fn bans_take_no_places_of_peers_and_the_other_way_round() {
    let mut book = Book::new(small());
    assert_eq!(book.blacklist(peer(10), None, at(0)), None);
    assert_eq!(book.blacklist(peer(11), None, at(1)), None);
    for number in 1..=3 {
        book.add(peer(number), Vec::new(), None, at(2)).unwrap();
    }
    // The one that has tried lately stays.
    book.banned_seen(peer(10), at(3));
    assert_eq!(book.blacklist(peer(12), None, at(4)), Some(peer(11)));
    assert_eq!(book.blacklist(peer(12), Some(at(6)), at(5)), None, "it is one of them");
    let banned =
        |book: &Book| [10, 11, 12, 13].map(|number| book.is_blacklisted(peer(number), at(5)));
    assert_eq!(banned(&book), [true, false, true, false]);
    // One that has ended goes first.
    assert_eq!(book.blacklist(peer(13), None, at(6)), None);
    assert_eq!(banned(&book), [true, false, false, true]);
    // A peer of which more is known is no throw-away key, and needs a peer's place.
    book.add(peer(1), addresses(&["a"]), None, at(7)).unwrap();
    assert_eq!(book.blacklist(peer(1), None, at(7)), None);
    let full = Err(ChangeError::TooManyEntries { limit: 3 });
    assert_eq!(book.update_metadata(peer(10), metadata(&[("a", "1")]), at(8)), full);
    assert_eq!(book.add(peer(10), Vec::new(), None, at(8)), full);
    assert_eq!(book.len(), 5);
    // After a restart those count that were banned last.
    let (mut book, _) = Book::parse(&book.emit(), small(), |_| true).unwrap();
    assert_eq!(book.blacklist(peer(14), None, at(9)), Some(peer(10)));
}

/// Whatever takes the rest of an entry away: what is left takes a place of those of bans.
#[test]
fn a_peer_of_which_only_a_ban_is_left_takes_the_place_of_another_ban() {
    let reduce: [fn(&mut Book); 3] = [
        |book| drop(book.remove(peer(1), at(9))),
        |book| book.add(peer(1), Vec::new(), Some(metadata(&[])), at(9)).unwrap(),
        |book| {
            book.add(peer(1), Vec::new(), None, at(9)).unwrap();
            book.update_metadata(peer(1), metadata(&[("a", "")]), at(9)).unwrap();
        },
    ];
    for reduce in reduce {
        let mut book = Book::new(small());
        book.add(peer(1), addresses(&["a"]), Some(metadata(&[("a", "1")])), at(0)).unwrap();
        for (number, now) in [(1, 1), (10, 2), (11, 3)] {
            assert_eq!(book.blacklist(peer(number), None, at(now)), None);
        }
        reduce(&mut book);
        assert_eq!(book.len(), 2);
        assert!(book.is_blacklisted(peer(1), at(9)), "not its own");
        assert!(!book.is_blacklisted(peer(10), at(9)), "it was seen the longest time ago");
    }
}

/// A stranger whose ban has ended does not become known by that.
#[test]
fn who_was_banned_is_no_acquaintance() {
    let mut book = book();
    book.blacklist(peer(9), Some(at(5)), at(0));
    assert!(book.touch(peer(9), at(6)));
    assert!(book.set_public_key(peer(9), at(6)));
    assert_eq!(book.end_bans(at(7)), [peer(9)]);
    assert!(book.entry(peer(9)).is_none());
}

#[test]
fn what_must_be_saved_at_once() {
    type Change = fn(&mut Book);
    let changes: [(&str, Change); 6] = [
        ("add", |book| book.add(peer(2), Vec::new(), None, at(1)).unwrap()),
        ("remove", |book| assert!(book.remove(peer(1), at(1)).is_some())),
        ("metadata", |book| {
            book.update_metadata(peer(1), metadata(&[("a", "1")]), at(1)).unwrap();
        }),
        ("blacklist", |book| _ = book.blacklist(peer(1), None, at(1))),
        ("unblacklist", |book| assert!(book.unblacklist(peer(3), at(1)))),
        ("public key", |book| assert!(book.set_public_key(peer(1), at(1)))),
    ];
    for (name, change) in changes {
        let mut book = saved();
        change(&mut book);
        assert_eq!(book.unsaved(), Unsaved::Critical, "{name}");
    }
}

#[test]
fn what_can_wait() {
    let mut book = saved();
    assert!(book.touch(peer(1), at(1)));
    assert_eq!(book.unsaved(), Unsaved::Lazy);
    let mut book = saved();
    book.end_bans(at(0) + Duration::from_secs(10));
    assert_eq!(book.unsaved(), Unsaved::Lazy);
    let mut book = saved();
    book.end_bans(at(9));
    assert_eq!(book.unsaved(), Unsaved::Nothing);
}

/// Stored while it went on changing.
#[test]
fn changes_during_a_save_are_unsaved() {
    let mut book = saved();
    assert!(book.touch(peer(1), at(1)));
    let first = book.revision();
    book.blacklist(peer(1), None, at(2));
    let second = book.revision();
    assert!(book.touch(peer(1), at(3)));
    book.handle_saved(first);
    assert_eq!(book.unsaved(), Unsaved::Critical);
    book.handle_saved(second);
    assert_eq!(book.unsaved(), Unsaved::Lazy);
    // Told late, it does not count.
    book.handle_saved(first);
    assert_eq!(book.unsaved(), Unsaved::Lazy);
    book.handle_saved(book.revision());
    assert_eq!(book.unsaved(), Unsaved::Nothing);
}

/// A book in which nothing is unsaved: one peer, and one that is banned until 10.
fn saved() -> Book {
    let mut book = book();
    book.add(peer(1), Vec::new(), None, at(0)).unwrap();
    book.blacklist(peer(3), Some(at(10)), at(0));
    book.handle_saved(book.revision());
    assert_eq!(book.unsaved(), Unsaved::Nothing);
    book
}

#[test]
fn a_peer_that_has_spoken_v2_is_held_to_it_until_the_time_or_the_command() {
    let mut book = book();
    assert!(!book.set_v2_until(peer(1), at(100), at(0)), "it is not in the book");
    assert!(book.is_empty());
    book.blacklist(peer(2), None, at(0));
    assert!(!book.set_v2_until(peer(2), at(100), at(0)), "nothing is known of it but a ban");

    book.add(peer(1), Vec::new(), None, at(0)).unwrap();
    book.handle_saved(book.revision());
    assert!(book.set_v2_until(peer(1), at(100), at(1)));
    assert_eq!(book.unsaved(), Unsaved::Critical, "it must not be forgotten");
    book.handle_saved(book.revision());
    assert!(book.set_v2_until(peer(1), at(200), at(50)));
    assert_eq!(book.unsaved(), Unsaved::Lazy, "only for less long");

    let entry = book.entry(peer(1)).unwrap();
    assert_eq!(entry.v2_until(), Some(at(200)));
    assert!(entry.is_held_to_v2(at(199)) && !entry.is_held_to_v2(at(200)));
    book.handle_saved(book.revision());
    assert!(book.set_v2_until(peer(1), at(400), at(300)));
    assert_eq!(book.unsaved(), Unsaved::Critical, "it was over");

    assert!(book.clear_v2(peer(1), at(301)));
    assert_eq!(book.entry(peer(1)).unwrap().v2_until(), None);
    assert!(!book.clear_v2(peer(1), at(302)));
    assert!(!book.clear_v2(peer(3), at(302)));
}

#[test]
fn what_a_peer_has_spoken_outlives_all_but_its_removal() {
    let mut book = book();
    book.add(peer(1), Vec::new(), None, at(0)).unwrap();
    book.set_v2_until(peer(1), at(100), at(0));
    book.add(peer(1), addresses(&["/ip4/192.0.2.1/tcp/1"]), Some(metadata(&[("a", "1")])), at(1))
        .unwrap();
    book.blacklist(peer(1), Some(at(5)), at(2));
    book.end_bans(at(5));
    book.touch(peer(1), at(6));
    assert_eq!(book.entry(peer(1)).unwrap().v2_until(), Some(at(100)));
    book.remove(peer(1), at(7)).unwrap();
    book.add(peer(1), Vec::new(), None, at(8)).unwrap();
    assert_eq!(book.entry(peer(1)).unwrap().v2_until(), None);
}
