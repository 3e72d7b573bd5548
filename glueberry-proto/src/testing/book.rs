//! The file of an address book, as damaged as it may be.

use crate::book::{Book, Limits};
use crate::crypto::PublicKey;

/// Reads bytes as an address book, writes what was read, and reads that.
///
/// Nothing may panic. What is read must be within the limits, and the same the second time, and no
/// ban may be lost on the way.
pub fn fuzz_book(data: &[u8]) {
    let limits = Limits::default();
    let Ok((book, rejected)) = Book::parse(data, limits, |text| !text.is_empty()) else {
        return;
    };
    let written = book.emit();
    let (again, rejected_again) =
        Book::parse(&written, limits, |text| !text.is_empty()).expect("what was written is read");
    assert!(rejected_again.len() <= rejected.len(), "what was written is worse than what was read");
    let bans = |book: &Book| -> Vec<PublicKey> {
        book.iter().filter(|(_, entry)| entry.ban().is_some()).map(|(peer, _)| peer).collect()
    };
    assert_eq!(bans(&book), bans(&again), "a ban is lost");
    let entries = |book: &Book| book.iter().map(|(peer, _)| peer).collect::<Vec<_>>();
    assert_eq!(entries(&book), entries(&again), "an entry is lost");
    assert_eq!(again.emit(), written, "what was written changes when it is read");
}
