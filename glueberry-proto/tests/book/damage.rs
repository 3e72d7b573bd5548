//! Files with something wrong or unknown in them.

use glueberry_proto::WallTime;
use glueberry_proto::book::{Ban, Book, BookError, Limits, Reason, Unsaved, is_multiaddr};
use glueberry_proto::crypto::PublicKeyError;

use crate::support::{
    addresses, at, entry, file, id, metadata, peer, read, reasons, small, written,
};

fn error(file: &[u8]) -> BookError {
    Book::parse(file, Limits::default(), is_multiaddr).unwrap_err()
}

#[test]
fn empty_files() {
    for text in ["", "{}", "null", r#"{"peers": null}"#, r#"{"version": 1}"#, " {\n}\r\n\t"] {
        let (book, rejected) = read(text);
        assert!(book.is_empty());
        assert_eq!(rejected, []);
        assert_eq!(book, Book::new(Limits::default()));
        assert_eq!(written(&book), "{\n  \"version\": 1,\n  \"peers\": {}\n}");
    }
}

#[test]
fn unreadable_files() {
    let texts: [&str; 14] = [
        " ",
        "\0\0\0\0",
        "{",
        "[]",
        "1",
        "\"peers\"",
        "{} {}",
        "{} junk",
        r#"{"peers": []}"#,
        r#"{"peers": {"a": }}"#,
        r#"{"peers": {"a": 1,}}"#,
        r#"{"peers": {"a": 1}"#,
        r#"{"version": 01}"#,
        "{}\u{feff}",
    ];
    for text in texts {
        let error = error(text.as_bytes());
        assert!(matches!(error, BookError::Json { .. }), "{text:?}: {error}");
    }
    assert_eq!(error(b"{\"\xff\": 1}"), BookError::NotUtf8 { offset: 2 });
    let place = BookError::Json { message: "trailing comma".to_owned(), line: 2, column: 3 };
    assert_eq!(error(b"{\"a\": 1,\n  }"), place);
    assert_eq!(place.to_string(), "trailing comma at line 2 column 3");
}

#[test]
fn a_byte_order_mark_is_ignored() {
    let banned = file(&[(&id(1), &entry(1, r#", "blacklisted": true"#))]);
    let (book, rejected) = read(&format!("\u{feff}{banned}"));
    assert_eq!(rejected, []);
    assert!(book.is_blacklisted(peer(1), WallTime::NEVER));
}

/// Base58 takes a time that grows with the square of the length: here it would be days.
#[test]
fn a_long_name_is_refused_by_its_length() {
    let name = "1".repeat(20 << 20);
    let text = format!("{{\"peers\": {{\"{name}\": {{}}}}}}");
    let (book, rejected) = read(&text);
    assert!(book.is_empty());
    assert_eq!(rejected.iter().map(|one| &one.reason).collect::<Vec<_>>(), [&Reason::NotAPeerId]);
}

#[test]
fn large_files() {
    let mut limits = Limits::default();
    limits.max_file = 10;
    assert!(Book::parse(b"        {}", limits, is_multiaddr).is_ok());
    let error = Book::parse(b"         {}", limits, is_multiaddr).unwrap_err();
    assert_eq!(error, BookError::TooLarge { len: 11, limit: 10 });
}

#[test]
fn deep_files() {
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let open = "{\"a\":".repeat(1_000_000);
    for text in [deep.as_str(), &open, &format!(r#"{{"peers": {deep}}}"#)] {
        assert!(matches!(error(text.as_bytes()), BookError::Json { .. }));
    }
    // As a part that is of no use it does no harm.
    let name = id(1);
    let bomb = entry(1, &format!(r#", "metadata": {{"a": {deep}}}"#));
    let with = file(&[(&name, &bomb), ("a", &deep)]);
    let (book, rejected) = read(&with);
    let field = Reason::Field { field: "metadata" };
    assert_eq!(reasons(&rejected), [(&*name, &field), ("a", &Reason::NotAPeerId)]);
    assert_eq!(written(&book), with);
    let unknown = entry(1, &format!(r#", "x": {deep}"#));
    assert_eq!(read(&file(&[(&name, &unknown)])).0.len(), 1);
}

#[test]
fn hardly_a_book() {
    let entries = (0..100_001).map(|n| format!("\"{n}\": null")).collect::<Vec<_>>();
    let file = |count: usize| format!("{{\"peers\": {{{}}}}}", entries[..count].join(","));
    assert_eq!(error(file(100_001).as_bytes()), BookError::TooManyRejected { limit: 100_000 });
    assert_eq!(read(&file(100_000)).1.len(), 100_000);
}

/// One entry of each kind of damage beside a good one: the good one is used, the bad ones are told
/// and stay.
#[test]
fn bad_entries_are_skipped_told_and_kept() {
    let (good, bad) = (id(1), id(2));
    let other = "{\"peer_id\": \"x\"}".to_owned();
    let large = format!(r#", "metadata": {{"k": "{}"}}"#, "v".repeat(4096));
    let not_ed25519 = Reason::Peer(PublicKeyError::NotInlined);
    let rsa = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC";
    let field = |field| Reason::Field { field };
    let cases = [
        (&*bad, "null".to_owned(), Reason::NotAnObject),
        (&bad, "[1, {}]".to_owned(), Reason::NotAnObject),
        (&bad, "\"text\"".to_owned(), Reason::NotAnObject),
        (&bad, "1e999".to_owned(), Reason::NotAnObject),
        (&bad, "{}".to_owned(), Reason::WrongPeerId),
        (&bad, other.clone(), Reason::WrongPeerId),
        (&bad, entry(1, ""), Reason::WrongPeerId),
        ("12D3KooW", other.clone(), Reason::NotAPeerId),
        ("", other, Reason::NotAPeerId),
        (rsa, format!(r#"{{"peer_id": "{rsa}"}}"#), not_ed25519),
        (&bad, r#"{"peer_id": 1}"#.to_owned(), field("peer_id")),
        (&bad, entry(2, r#", "public_key": "!""#), field("public_key")),
        (&bad, entry(2, r#", "public_key": "AAAA""#), Reason::WrongPublicKey),
        (&bad, entry(2, r#", "metadata": {"a": 1}"#), field("metadata")),
        (&bad, entry(2, r#", "metadata": {"a": "\ud800"}"#), field("metadata")),
        (&bad, entry(2, &large), Reason::MetadataTooLarge { got: 4097, limit: 4096 }),
        (&bad, entry(2, r#", "last_seen": "yesterday""#), field("last_seen")),
        (&bad, entry(2, r#", "blacklisted": "yes""#), field("blacklisted")),
        (&bad, entry(2, r#", "created_at": 12"#), field("created_at")),
        (&bad, entry(2, r#", "updated_at": "2026-02-30T00:00:00Z""#), field("updated_at")),
        (&bad, entry(2, r#", "multiaddrs": {}"#), field("multiaddrs")),
        (&bad, entry(2, r#", "ban_until": true"#), field("ban_until")),
        (&bad, entry(2, r#", "v2_until": "soon""#), field("v2_until")),
        (
            &bad,
            entry(2, r#", "blacklisted": false, "Blacklisted": false"#),
            Reason::RepeatedField { field: "blacklisted" },
        ),
    ];
    for (name, value, reason) in cases {
        let mut entries = [(&*good, &*entry(1, "")), (name, &*value)];
        entries.sort_unstable();
        let file = file(&entries);
        let (mut book, rejected) = read(&file);
        assert_eq!(reasons(&rejected), [(name, &reason)], "{value}");
        assert_eq!(rejected[0].peer(), (name == bad).then(|| peer(2)));
        assert_eq!(book.iter().map(|(peer, _)| peer).collect::<Vec<_>>(), [peer(1)], "{value}");
        assert_eq!(written(&book), file);

        // Another entry's change leaves it as it is.
        assert!(book.touch(peer(1), at(0)));
        let written = written(&book);
        assert!(written.contains(&format!("\"{name}\": {value}")), "{written}");
        assert_eq!(reasons(&read(&written).1), [(name, &reason)]);
    }
}

#[test]
fn names_that_are_no_text_are_kept() {
    let file = file(&[(r"\ud800", "1"), (r"a\u0062", "2")]);
    let (book, rejected) = read(&file);
    let keys = rejected.iter().map(|rejected| &*rejected.key).collect::<Vec<_>>();
    assert_eq!(keys, [r#""\ud800""#, "ab"]);
    assert_eq!(written(&book), file);
}

#[test]
fn a_ban_holds_in_a_damaged_entry() {
    let damaged = entry(1, r#", "blacklisted": true, "created_at": "?", "multiaddrs": ["/tcp/1"]"#);
    let file = file(&[(&id(1), &damaged)]);
    let (mut book, rejected) = read(&file);
    assert_eq!(reasons(&rejected), [(&*id(1), &Reason::Field { field: "created_at" })]);
    assert!(book.is_blacklisted(peer(1), WallTime::MAX));
    assert_eq!(written(&book), file);
    assert!(book.unblacklist(peer(1), at(0)));
    assert!(!read(&written(&book)).0.is_blacklisted(peer(1), at(0)));
}

#[test]
fn the_application_replaces_a_damaged_entry() {
    let damaged = file(&[(&id(1), "null"), (&id(2), "{}")]);
    let change: [fn(&mut Book); 3] = [
        |book| book.add(peer(1), Vec::new(), None, at(0)).unwrap(),
        |book| _ = book.blacklist(peer(1), None, at(0)),
        |book| assert_eq!(book.remove(peer(1), at(0)), None),
    ];
    for change in change {
        let (mut book, _) = read(&damaged);
        assert_eq!(book.unsaved(), Unsaved::Nothing);
        change(&mut book);
        assert_eq!(book.unsaved(), Unsaved::Critical);
        let (again, rejected) = read(&written(&book));
        assert_eq!(reasons(&rejected), [(&*id(2), &Reason::WrongPeerId)]);
        assert_eq!(again, book);
    }
}

#[test]
fn a_bad_address_costs_itself_alone() {
    let long = format!("/dns/{}", "a".repeat(1024));
    let list = format!(r#"["/ip4/192.0.2.1/tcp/1", "/nonsense/1", 5, "{long}", "/tcp/2"]"#);
    let file = file(&[(&id(1), &entry(1, &format!(r#", "multiaddrs": {list}"#)))]);
    let (mut book, rejected) = read(&file);
    let told = [r#""/nonsense/1""#, "5", &format!("\"{long}")[..1024]];
    let told = told.map(|address| Reason::Address { address: address.to_owned() });
    assert_eq!(
        rejected.iter().map(|rejected| &rejected.reason).collect::<Vec<_>>(),
        told.each_ref()
    );
    let used = addresses(&["/ip4/192.0.2.1/tcp/1", "/tcp/2"]);
    assert_eq!(book.entry(peer(1)).unwrap().addresses(), used);
    assert_eq!(written(&book), file);

    // Kept when something else changes, until the addresses are replaced.
    assert!(book.touch(peer(1), at(0)));
    let (again, rejected) = read(&written(&book));
    assert_eq!(rejected.len(), 3);
    assert_eq!(again, book);
    book.add(peer(1), Vec::new(), None, at(0)).unwrap();
    assert!(written(&book).contains("\"multiaddrs\": []"));
}

#[test]
fn other_transports_have_other_addresses() {
    let file = file(&[(&id(1), &entry(1, r#", "multiaddrs": ["memory"]"#))]);
    let (book, rejected) =
        Book::parse(file.as_bytes(), Limits::default(), |text| text == "memory").unwrap();
    assert_eq!(rejected, []);
    assert_eq!(book.entry(peer(1)).unwrap().addresses(), addresses(&["memory"]));
}

#[test]
fn more_than_fits() {
    let three = r#", "multiaddrs": ["/tcp/1", "/tcp/2", "/tcp/3", "/tcp/4"]"#;
    let banned = entry(5, r#", "blacklisted": true"#);
    let texts = [entry(1, three), entry(2, ""), entry(3, ""), entry(4, ""), banned];
    let names = [id(1), id(2), id(3), id(4), id(5)];
    let entries = names.iter().zip(&texts).map(|(name, text)| (&**name, &**text));
    let file = file(&entries.collect::<Vec<_>>());
    let (mut book, rejected) = Book::parse(file.as_bytes(), small(), is_multiaddr).unwrap();
    let entries = Reason::TooManyEntries { limit: 3 };
    let addresses = Reason::TooManyAddresses { limit: 2 };
    assert_eq!(reasons(&rejected), [(&*id(1), &addresses), (&id(4), &entries)]);
    // A ban is taken nevertheless.
    assert!(book.is_blacklisted(peer(5), at(0)));
    assert_eq!(book.len(), 4);
    assert_eq!(book.entry(peer(1)).unwrap().addresses().len(), 2);

    assert!(book.touch(peer(1), at(0)));
    let (all, rejected) = read(&written(&book));
    assert_eq!(rejected, []);
    assert_eq!(all.len(), 5);
    assert_eq!(all.entry(peer(1)).unwrap().addresses().len(), 4);
}

#[test]
fn of_two_entries_the_later_counts() {
    let texts = [
        entry(1, r#", "blacklisted": true, "ban_until": "2026-01-01T00:00:00Z""#),
        entry(1, r#", "metadata": {"a": "1"}"#),
    ];
    let (book, rejected) = read(&file(&[(&id(1), &texts[0]), (&id(1), &texts[1])]));
    assert_eq!(reasons(&rejected), [(&*id(1), &Reason::Repeated)]);
    assert_eq!(*book.entry(peer(1)).unwrap().metadata(), metadata(&[("a", "1")]));
    assert_eq!(book.next_ban_end(), None);
    let (book, rejected) = read(&file(&[(&id(1), "null"), (&id(1), &texts[0])]));
    assert_eq!(rejected.len(), 2);
    assert_eq!(read(&written(&book)), (book, Vec::new()));
}

#[test]
fn unknown_fields_are_kept() {
    let (one, two) = (id(1), entry(2, ""));
    let file = format!(
        r#"{{
  "version": 7,
  "peers": {{
    "{}": {two},
    "{one}": {{"peer_id": "{one}", "score": [1, 2.50, 1e400], "score": null, "\ud800": {{}}}}
  }},
  "": {{
    "nested": true
  }},
  "comment": "kept \u00e9"
}}"#,
        id(2)
    );
    let (mut book, rejected) = read(&file);
    assert_eq!(rejected, []);
    assert_eq!(written(&book), file);

    assert!(book.touch(peer(1), at(0)));
    let touched = written(&book);
    let fields = ",\n      \"score\": [1, 2.50, 1e400],\n      \"score\": null,\n      \"\\ud800\": {}\n    }";
    assert!(touched.contains(fields), "{touched}");
    assert!(touched.starts_with("{\n  \"version\": 7,"));
    assert_eq!(touched.split_once("\n  },").unwrap().1, file.split_once("\n  },").unwrap().1);
    assert_eq!(read(&touched), (book, Vec::new()));
}

/// Go finds its fields in any case, and takes `null` for nothing.
#[test]
fn as_lenient_as_go() {
    let fields = r#", "METADATA": {"a": null}, "Blacklisted": true, "last_seen": null,
        "public_key": "", "multiaddrs": null, "created_at": "2026-11-22T20:18:08+01:00""#;
    let text = format!(r#"{{"Peers": {{"{}": {}}}}}"#, id(1), entry(1, fields));
    let (book, rejected) = read(&text);
    assert_eq!(rejected, []);
    let entry = book.entry(peer(1)).unwrap();
    assert_eq!(*entry.metadata(), metadata(&[("a", "")]));
    assert_eq!(entry.ban(), Some(Ban::Forever));
    assert_eq!((entry.last_seen(), entry.public_key()), (None, None));
    assert_eq!(entry.created_at().to_string(), "2026-11-22T19:18:08Z");
    assert_eq!(entry.updated_at(), WallTime::NEVER);
}

#[test]
fn bans_that_end_are_stored() {
    let mut book = Book::new(Limits::default());
    book.blacklist(peer(1), Some(at(10)), at(0));
    let text = written(&book);
    assert!(text.contains("\"blacklisted\": true,"));
    assert!(text.contains(",\n      \"ban_until\": \"2027-01-15T08:00:10Z\"\n"), "{text}");
    let (mut book, _) = read(&text);
    assert_eq!(book.entry(peer(1)).unwrap().ban(), Some(Ban::Until(at(10))));
    assert_eq!(book.end_bans(at(10)), [peer(1)]);
    // An end that is long past is not the same as none.
    let mut past = Book::new(Limits::default());
    past.blacklist(peer(1), Some(WallTime::NEVER), at(0));
    assert_eq!(read(&written(&past)), (past, Vec::new()));
    // Without a ban there is nothing to end.
    let lifted = entry(1, r#", "blacklisted": false, "ban_until": "2027-01-15T08:00:10Z""#);
    assert_eq!(read(&file(&[(&id(1), &lifted)])).0.next_ban_end(), None);
}

#[test]
fn what_a_peer_has_spoken_is_in_the_file_where_earlier_versions_keep_it() {
    let stored = entry(1, r#", "v2_until": "2027-01-15T08:00:10Z""#);
    let (mut book, rejected) = read(&file(&[(&id(1), &stored)]));
    assert!(rejected.is_empty());
    assert_eq!(book.entry(peer(1)).unwrap().v2_until(), Some(at(10)));
    book.touch(peer(1), at(0));
    let text = written(&book);
    assert!(text.contains(",\n      \"v2_until\": \"2027-01-15T08:00:10Z\"\n"), "{text}");
    assert_eq!(read(&text).0, book);
    // An earlier version knows no such field, as this one knows no other: it stays.
    let later = text.replace("v2_until", "v9_until");
    let (mut earlier, rejected) = read(&later);
    assert!(rejected.is_empty());
    earlier.touch(peer(1), at(0));
    assert_eq!(written(&earlier), later);
}
