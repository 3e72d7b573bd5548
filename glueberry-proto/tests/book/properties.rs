//! Properties of random books and random files.

use std::collections::BTreeMap;

use glueberry_proto::book::{Book, Limits};
use glueberry_proto::{Address, WallTime};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::{at, entry, file, id, peer, small, written};

/// Something that is done to a book.
#[derive(Clone, Debug)]
enum Change {
    Add(u8, Vec<String>, Option<BTreeMap<String, String>>),
    Remove(u8),
    Metadata(u8, BTreeMap<String, String>),
    Blacklist(u8, Option<i64>),
    Unblacklist(u8),
    EndBans,
    Touch(u8),
    PublicKey(u8),
    SpokeV2(u8, i64),
    ClearV2(u8),
    Reload,
}

/// Any text, with many of the characters that are escaped.
fn text() -> impl Strategy<Value = String> {
    "[a-c<>&\"\\\\\u{2028}\u{2029}\u{0}-\u{20}\u{7f}é😀]{0,6}|\\PC{0,6}"
}

fn change() -> impl Strategy<Value = Change> {
    let metadata = || btree_map(text(), text(), 0..4);
    // More than the small limits have places for.
    let peer = || 1_u8..=8;
    prop_oneof![
        4 => (peer(), vec(text(), 0..4), proptest::option::of(metadata()))
            .prop_map(|(peer, addresses, metadata)| Change::Add(peer, addresses, metadata)),
        2 => peer().prop_map(Change::Remove),
        2 => (peer(), metadata()).prop_map(|(peer, metadata)| Change::Metadata(peer, metadata)),
        2 => (peer(), proptest::option::of(0_i64..40))
            .prop_map(|(peer, until)| Change::Blacklist(peer, until)),
        1 => peer().prop_map(Change::Unblacklist),
        1 => Just(Change::EndBans),
        2 => peer().prop_map(Change::Touch),
        1 => peer().prop_map(Change::PublicKey),
        2 => (peer(), 0_i64..40).prop_map(|(peer, until)| Change::SpokeV2(peer, until)),
        1 => peer().prop_map(Change::ClearV2),
        1 => Just(Change::Reload),
    ]
}

/// Does it, and returns whether it was refused.
fn apply(book: &mut Book, change: Change, now: WallTime) -> bool {
    match change {
        Change::Add(number, addresses, metadata) => {
            let addresses = addresses.into_iter().map(Address::new).collect();
            return book.add(peer(number), addresses, metadata, now).is_err();
        }
        Change::Remove(number) => drop(book.remove(peer(number), now)),
        Change::Metadata(number, changes) => {
            return book.update_metadata(peer(number), changes, now).is_err();
        }
        Change::Blacklist(number, until) => {
            book.blacklist(peer(number), until.map(at), now);
            return false;
        }
        Change::Unblacklist(number) => drop(book.unblacklist(peer(number), now)),
        Change::EndBans => drop(book.end_bans(now)),
        Change::Touch(number) => drop(book.touch(peer(number), now)),
        Change::PublicKey(number) => drop(book.set_public_key(peer(number), now)),
        Change::SpokeV2(number, until) => {
            book.set_v2_until(peer(number), at(until), now);
        }
        Change::ClearV2(number) => drop(book.clear_v2(peer(number), now)),
        Change::Reload => *book = reloaded(book),
    }
    false
}

/// Stores a book and reads it again.
fn reloaded(book: &Book) -> Book {
    let (again, _) = Book::parse(&book.emit(), book.limits(), |_| true).unwrap();
    again
}

proptest! {
    #[test]
    fn what_is_written_is_read(changes in vec(change(), 0..20)) {
        let mut book = Book::new(Limits::default());
        for (now, change) in (0..).map(at).zip(changes) {
            apply(&mut book, change, now);
        }
        let (again, rejected) = Book::parse(&book.emit(), book.limits(), |_| true).unwrap();
        prop_assert_eq!(rejected, []);
        prop_assert_eq!(&again, &book);
        prop_assert_eq!(written(&again), written(&book));
    }

    #[test]
    fn changes_keep_the_limits(changes in vec(change(), 0..40)) {
        let limits = small();
        let mut book = Book::new(limits);
        for (now, change) in (0..).map(at).zip(changes) {
            let before = book.clone();
            let is_refused = apply(&mut book, change, now);
            if is_refused {
                prop_assert_eq!(&book, &before);
                prop_assert_eq!(book.revision(), before.revision());
            }
            prop_assert!(book.len() <= limits.max_entries + limits.max_bans);
            for (_, entry) in book.iter() {
                prop_assert!(entry.addresses().len() <= limits.max_addresses);
                let metadata = entry.metadata().iter();
                let bytes = metadata.map(|(key, value)| key.len() + value.len()).sum::<usize>();
                prop_assert!(bytes <= limits.max_metadata);
            }
            // The next end of a ban is what a look at every ban says.
            let ends = book.iter().filter_map(|(_, entry)| entry.ban()?.end());
            prop_assert_eq!(book.next_ban_end(), ends.min());
        }
    }

    /// A ban is lifted by nothing but its end and `unblacklist`.
    #[test]
    fn bans_outlive_every_other_change(
        changes in vec(change(), 0..20),
        until in proptest::option::of(20_i64..40),
    ) {
        let mut book = Book::new(Limits::default());
        book.blacklist(peer(1), until.map(at), at(0));
        for (now, change) in (0..20).map(at).zip(changes) {
            if matches!(change, Change::Blacklist(1, _) | Change::Unblacklist(1)) {
                continue;
            }
            apply(&mut book, change, now);
            prop_assert!(book.is_blacklisted(peer(1), now));
            prop_assert!(reloaded(&book).is_blacklisted(peer(1), now));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        check_file(&bytes);
    }

    #[test]
    fn any_text_is_read_or_refused(
        text in "([{}\\[\\]:,\" ]|null|true|1e9|\"peers\":|\"\\\\ud800\"|\"a\"){0,40}"
    ) {
        check_file(text.as_bytes());
    }

    /// A good file with bytes replaced, removed or repeated.
    #[test]
    fn any_damage_is_read_or_refused(
        damage in vec((any::<Index>(), 0..5_usize, 0..5_usize, any::<Index>()), 1..6)
    ) {
        let mut bytes = good_file().into_bytes();
        for (place, removed, inserted, from) in damage {
            let from = from.index(bytes.len() + 1);
            let inserted = bytes[from..].iter().take(inserted).copied().collect::<Vec<_>>();
            let place = place.index(bytes.len() + 1);
            let end = (place + removed).min(bytes.len());
            bytes.splice(place..end, inserted);
        }
        check_file(&bytes);
    }

    /// A good file with one value, of any depth, replaced by another.
    #[test]
    fn any_value_is_read_or_refused(place in any::<Index>(), value in value()) {
        let good = good_file();
        let starts = good.match_indices(": ").map(|(at, _)| at + 2).collect::<Vec<_>>();
        let start = starts[place.index(starts.len())];
        let old = serde_json::Deserializer::from_str(&good[start..])
            .into_iter::<serde_json::Value>();
        let mut old = old;
        old.next().unwrap().unwrap();
        let text = format!("{}{value}{}", &good[..start], &good[start + old.byte_offset()..]);
        check_file(text.as_bytes());
    }
}

/// Reads a file; if it is a book, then what is written is the same book, and written again the
/// same file.
fn check_file(bytes: &[u8]) {
    for limits in [small(), Limits::default()] {
        let Ok((book, _)) = Book::parse(bytes, limits, |address| address != "/tcp/2") else {
            continue;
        };
        let (emitted, roomy) = (book.emit(), Limits::default());
        let (again, _) = Book::parse(&emitted, roomy, |address| address != "/tcp/2").unwrap();
        assert_eq!(written(&again), written(&book));
        if limits == roomy {
            assert_eq!(again, book);
        }
        // An entry that a change has made anew says the same.
        let mut touched = again;
        for number in 1..=5 {
            touched.touch(peer(number), at(0));
        }
        assert_eq!(reloaded_with(&touched, roomy), touched);
    }
}

fn reloaded_with(book: &Book, limits: Limits) -> Book {
    Book::parse(&book.emit(), limits, |address| address != "/tcp/2").unwrap().0
}

/// A file with everything in it, in which nothing is wrong but one address and one stranger.
fn good_file() -> String {
    let texts = [
        entry(
            1,
            r#", "metadata": {"a": "\u003c", "b": ""}, "last_seen": "2026-11-22T20:18:08.5Z""#,
        ),
        entry(2, r#", "blacklisted": true, "ban_until": "2027-01-15T08:00:10Z", "x": [1, {}]"#),
        entry(3, r#", "created_at": "2026-11-22T20:18:08+01:00", "multiaddrs": ["/tcp/1"]"#),
        entry(4, r#", "updated_at": "0001-01-01T00:00:00Z", "multiaddrs": ["/tcp/1", "/tcp/2"]"#),
        "null".to_owned(),
    ];
    let names = [id(1), id(2), id(3), id(4), "stranger".to_owned()];
    let entries = names.iter().zip(&texts).map(|(name, text)| (&**name, &**text));
    file(&entries.collect::<Vec<_>>())
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|bool| bool.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "\\PC{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        (1_u8..=5).prop_map(|number| format!("\"{}\"", id(number))),
        Just("\"2026-11-22T20:18:08Z\"".to_owned()),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(","))),
            vec(("[a-c]|peer_id|metadata|Blacklisted", inner), 0..4).prop_map(|fields| {
                let fields = fields.iter().map(|(name, value)| format!("\"{name}\": {value}"));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}
