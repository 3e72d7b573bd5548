//! One owner at a time.

use std::io::{BufRead, Write};

use glueberry_tokio::store::StoreError;

use crate::support::{BOOK, LOCK, Running, Scratch, child, open, open_whole, path_of_child};

#[test]
fn a_second_store_of_this_process_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.path(BOOK);
    let (store, _) = open_whole(&path);
    let error = open(&path).unwrap_err();
    assert!(matches!(&error, StoreError::InUse { path: used } if *used == path), "{error}");
    drop(store);
    open_whole(&path);
}

/// The child holds the book until it is killed.
#[test]
fn a_second_process_is_refused_until_the_first_is_gone() {
    if let Some(path) = path_of_child() {
        let _held = open_whole(&path);
        // The harness has begun a line.
        println!("\n{HELD}");
        loop {
            std::thread::park();
        }
    }
    let scratch = Scratch::new();
    let path = scratch.path(BOOK);
    let test = "lock::a_second_process_is_refused_until_the_first_is_gone";
    let (mut first, output) = Running::start(child(test, &path));
    assert!(output.lines().any(|line| line.unwrap() == HELD));

    let error = open(&path).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert_eq!(error.to_string(), format!("address book {} is in use", path.display()));
    first.kill();
    open_whole(&path);
}

/// A lock file is only a name: what counts is who holds it.
#[test]
fn the_lock_file_of_a_dead_process_is_no_lock() {
    let scratch = Scratch::new();
    let mut lock = std::fs::File::create(scratch.path(LOCK)).unwrap();
    lock.write_all(b"42").unwrap();
    open_whole(&scratch.path(BOOK));
}

/// Whoever may write in the folder could otherwise have a file created elsewhere.
#[cfg(unix)]
#[test]
fn a_lock_file_that_is_a_link_is_not_followed() {
    let scratch = Scratch::new();
    let elsewhere = scratch.path("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, scratch.path(LOCK)).unwrap();
    let error = open(&scratch.path(BOOK)).unwrap_err();
    let why = std::error::Error::source(&error).unwrap();
    assert_eq!(why.to_string(), "it is a symbolic link");
    assert!(!elsewhere.exists());
}

/// Opening a pipe waits for its other end, which need not be there.
#[cfg(unix)]
#[test]
fn a_lock_file_that_is_a_pipe_is_not_waited_for() {
    let scratch = Scratch::new();
    let made = std::process::Command::new("mkfifo").arg(scratch.path(LOCK)).status().unwrap();
    assert!(made.success());
    open(&scratch.path(BOOK)).unwrap_err();
}

/// The book was resolved when it was opened.
#[cfg(unix)]
#[test]
fn a_link_that_takes_the_place_of_an_open_book_lends_it_no_permissions() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let scratch = Scratch::new();
    let (mut store, book) = open_whole(&scratch.path(BOOK));
    store.save(&book.emit()).unwrap();
    std::fs::remove_file(scratch.path(BOOK)).unwrap();
    let elsewhere = scratch.path("elsewhere");
    std::fs::write(&elsewhere, "theirs").unwrap();
    std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o666)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, scratch.path(BOOK)).unwrap();

    store.save(&book.emit()).unwrap();
    let saved = std::fs::symlink_metadata(scratch.path(BOOK)).unwrap();
    assert!(saved.is_file());
    assert_eq!(saved.mode() & 0o777, 0o600);
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"theirs");
}

const HELD: &str = "the book is held";
