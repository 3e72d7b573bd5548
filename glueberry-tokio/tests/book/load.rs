//! What is found when a store is opened.

use std::fs;
use std::path::{Path, PathBuf};

use glueberry_tokio::proto::book::{Book, BookError, Limits, Reason};
use glueberry_tokio::store::{FileStore, StoreError};

use crate::support::{ASIDE, BOOK, LOCK, Scratch, TEMPORARY, book, open, open_whole, peer};

/// The file of a book of one peer, with a version of its own and an entry put before that peer.
fn with_entry(entry: &str) -> String {
    let file = String::from_utf8(book(1).emit()).unwrap();
    file.replacen("\"peers\": {", &format!("\"peers\": {{\n    {entry},"), 1)
}

#[test]
fn a_missing_file_is_an_empty_book() {
    let scratch = Scratch::new();
    let (_store, book) = open_whole(&scratch.path(BOOK));
    assert!(book.is_empty());
    assert_eq!(scratch.names(), [LOCK]);
}

#[test]
fn an_empty_file_is_an_empty_book() {
    let scratch = Scratch::new();
    fs::write(scratch.path(BOOK), "").unwrap();
    assert!(open_whole(&scratch.path(BOOK)).1.is_empty());
}

#[test]
fn missing_folders_are_created() {
    let scratch = Scratch::new();
    let path = scratch.path("a/b").join(BOOK);
    let (mut store, _) = open_whole(&path);
    store.save(&book(1).emit()).unwrap();
    drop(store);
    assert_eq!(open_whole(&path).1, book(1));
}

#[test]
fn a_relative_path_needs_no_folder() {
    // Tests run in the folder of the package; nothing else is known to be there.
    let name = format!("book-{}.json", std::process::id());
    let (store, book) = open_whole(Path::new(&name));
    assert!(book.is_empty());
    assert_eq!(store.path(), Path::new(".").canonicalize().unwrap().join(&name));
    let mut lock = store.path().to_owned().into_os_string();
    lock.push(".glueberry-lock");
    drop(store);
    fs::remove_file(lock).unwrap();
}

#[test]
fn unreadable_files_are_set_aside_each_under_a_new_name() {
    let scratch = Scratch::new();
    let files: [&[u8]; 2] = [b"{\"version\": 1, \"peers\": {", b"\0\0\0\xff"];
    for (file, aside) in files.into_iter().zip(ASIDE) {
        fs::write(scratch.path(BOOK), file).unwrap();
        let (mut store, loaded) = open(&scratch.path(BOOK)).unwrap();
        assert!(loaded.book.is_empty());
        let set_aside = loaded.set_aside.unwrap();
        assert_eq!(set_aside.path, scratch.path(aside));
        let parsed = Book::parse(file, Limits::default(), |_| true);
        assert_eq!(set_aside.error, parsed.unwrap_err());
        assert!(!scratch.path(BOOK).exists());
        store.save(&book(1).emit()).unwrap();
        assert_eq!(fs::read(scratch.path(aside)).unwrap(), file);
    }
    assert_eq!(scratch.names(), [BOOK, LOCK, ASIDE[0], ASIDE[1]]);
    assert_eq!(fs::read(scratch.path(ASIDE[0])).unwrap(), files[0]);
    assert_eq!(open_whole(&scratch.path(BOOK)).1, book(1));
}

#[test]
fn a_large_file_is_set_aside_unread() {
    let scratch = Scratch::new();
    let bytes = book(2).emit();
    fs::write(scratch.path(BOOK), &bytes).unwrap();
    let mut limits = Limits::default();
    limits.max_file = bytes.len();
    let (store, loaded) = FileStore::open(scratch.path(BOOK), limits).unwrap();
    assert_eq!(loaded.book, book(2));
    drop(store);

    limits.max_file -= 1;
    let (mut store, loaded) = FileStore::open(scratch.path(BOOK), limits).unwrap();
    let set_aside = loaded.set_aside.unwrap();
    let len = u64::try_from(bytes.len()).unwrap();
    assert_eq!(set_aside.error, BookError::TooLarge { len, limit: limits.max_file });
    assert_eq!(fs::read(set_aside.path).unwrap(), bytes);

    // What would not be read again is not written.
    let error = store.save(&bytes).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    assert!(!scratch.path(BOOK).exists());
    store.save(&bytes[1..]).unwrap();
}

#[test]
fn one_bad_entry_is_told_and_stays() {
    for (entry, key, reason) in [
        ("\"stranger\": {\"peer_id\": \"?\"}", "stranger", Reason::NotAPeerId),
        ("\"nobody\": null", "nobody", Reason::NotAPeerId),
    ] {
        let scratch = Scratch::new();
        fs::write(scratch.path(BOOK), with_entry(entry)).unwrap();
        let (mut store, mut loaded) = open(&scratch.path(BOOK)).unwrap();
        assert_eq!(loaded.set_aside, None);
        let [rejected] = &loaded.rejected[..] else { panic!("{:?}", loaded.rejected) };
        assert_eq!((&*rejected.key, &rejected.reason), (key, &reason));
        assert_eq!(loaded.book.len(), 1);

        let now = "2026-11-22T19:18:08Z".parse().unwrap();
        assert!(loaded.book.touch(peer(1), now));
        store.save(&loaded.book.emit()).unwrap();
        let saved = fs::read_to_string(scratch.path(BOOK)).unwrap();
        assert!(saved.contains("\"last_seen\": \"2026-11-22T19:18:08Z\""), "{saved}");
        assert!(saved.contains(entry), "{saved}");
    }
}

#[test]
fn a_null_entry_is_told_and_stays() {
    let scratch = Scratch::new();
    let file = String::from_utf8(book(2).emit()).unwrap();
    let (start, rest) = file.split_once(": {\n      \"peer_id\"").unwrap();
    let (_, end) = rest.split_once("\n    }").unwrap();
    let file = format!("{start}: null{end}");
    fs::write(scratch.path(BOOK), &file).unwrap();
    let (mut store, loaded) = open(&scratch.path(BOOK)).unwrap();
    assert_eq!(loaded.rejected.len(), 1);
    assert_eq!(loaded.rejected[0].reason, Reason::NotAnObject);
    assert_eq!(loaded.book.len(), 1);
    store.save(&loaded.book.emit()).unwrap();
    assert_eq!(fs::read_to_string(scratch.path(BOOK)).unwrap(), file);
}

#[test]
fn an_address_of_another_transport_is_told() {
    let scratch = Scratch::new();
    let file = String::from_utf8(book(1).emit()).unwrap().replace("/quic-v1", "/quic-v9");
    fs::write(scratch.path(BOOK), &file).unwrap();
    let (mut store, loaded) = open(&scratch.path(BOOK)).unwrap();
    let reason = &loaded.rejected[0].reason;
    assert!(matches!(reason, Reason::Address { address } if address.contains("quic-v9")));
    assert_eq!(loaded.book.entry(peer(1)).unwrap().addresses(), []);
    store.save(&loaded.book.emit()).unwrap();
    assert_eq!(fs::read_to_string(scratch.path(BOOK)).unwrap(), file);
}

#[test]
fn unknown_fields_stay() {
    let scratch = Scratch::new();
    let file = String::from_utf8(book(1).emit()).unwrap();
    let file = file.replace("\"multiaddrs\"", "\"score\": 1.50,\n      \"multiaddrs\"");
    let file = file.replace("\n  }\n}", "\n  },\n  \"comment\": [null]\n}");
    assert!(file.contains("score") && file.contains("comment"));
    fs::write(scratch.path(BOOK), &file).unwrap();
    let (mut store, book) = open_whole(&scratch.path(BOOK));
    store.save(&book.emit()).unwrap();
    assert_eq!(fs::read_to_string(scratch.path(BOOK)).unwrap(), file);
}

#[test]
fn leftovers_of_a_dead_process_are_removed() {
    let scratch = Scratch::new();
    fs::write(scratch.path(BOOK), book(1).emit()).unwrap();
    fs::write(scratch.path(TEMPORARY), "{\"vers").unwrap();
    assert_eq!(open_whole(&scratch.path(BOOK)).1, book(1));
    assert_eq!(scratch.names(), [BOOK, LOCK]);
}

#[test]
fn what_is_no_file_is_refused_and_stays() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path(BOOK)).unwrap();
    let paths = [scratch.path(BOOK), scratch.path(""), PathBuf::new(), "/".into(), "..".into()];
    for path in paths {
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::NotAFile { .. }), "{}: {error}", path.display());
    }
    assert_eq!(scratch.names(), [BOOK]);
}

#[test]
fn a_file_is_no_folder() {
    let scratch = Scratch::new();
    fs::write(scratch.path("file"), "").unwrap();
    for path in ["file/book.json", "file/folder/book.json"] {
        let error = open(&scratch.path(path)).unwrap_err();
        assert!(matches!(error, StoreError::NoFolder { .. }), "{path}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting() {
    let scratch = Scratch::new();
    let made = std::process::Command::new("mkfifo").arg(scratch.path(BOOK)).status().unwrap();
    assert!(made.success());
    let error = open(&scratch.path(BOOK)).unwrap_err();
    assert!(matches!(error, StoreError::NotAFile { .. }), "{error}");
}
