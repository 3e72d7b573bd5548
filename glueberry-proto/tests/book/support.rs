//! Peers, times and files to test with.

use std::collections::BTreeMap;

use glueberry_proto::book::{Book, Limits, Reason, Rejected, is_multiaddr};
use glueberry_proto::{Address, Identity, PublicKey, WallTime};
use libp2p_identity::PeerId;

/// The same peer for the same number.
pub(crate) fn peer(number: u8) -> PublicKey {
    Identity::from_seed(&[number; 32]).public_key()
}

/// The name of a peer's entry.
pub(crate) fn id(number: u8) -> String {
    PeerId::from(peer(number)).to_string()
}

/// A time, some seconds after one fixed time.
pub(crate) fn at(seconds: i64) -> WallTime {
    WallTime::from_unix(1_800_000_000 + seconds, 0).unwrap()
}

pub(crate) fn addresses(texts: &[&str]) -> Vec<Address> {
    texts.iter().map(|&text| Address::new(text)).collect()
}

pub(crate) fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Limits that are met easily.
pub(crate) fn small() -> Limits {
    let mut limits = Limits::default();
    (limits.max_entries, limits.max_bans) = (3, 2);
    limits.max_addresses = 2;
    limits.max_metadata = 10;
    limits
}

/// Reads a file that must be readable.
pub(crate) fn read(file: &str) -> (Book, Vec<Rejected>) {
    Book::parse(file.as_bytes(), Limits::default(), is_multiaddr).unwrap()
}

/// Writes a book as text.
pub(crate) fn written(book: &Book) -> String {
    String::from_utf8(book.emit()).unwrap()
}

/// A file with the given entries, each a name and a value.
pub(crate) fn file(entries: &[(&str, &str)]) -> String {
    let entries = entries.iter().map(|(name, value)| format!("\n    \"{name}\": {value}"));
    let entries = entries.collect::<Vec<_>>().join(",");
    format!("{{\n  \"version\": 1,\n  \"peers\": {{{entries}\n  }}\n}}")
}

/// The entry of a peer, with further fields; in the form that an entry that nobody changes is kept
/// in, whatever it is.
pub(crate) fn entry(number: u8, fields: &str) -> String {
    format!(r#"{{"peer_id": "{}"{fields}}}"#, id(number))
}

/// The reasons why parts of a file are of no use, by the names of their entries.
pub(crate) fn reasons(rejected: &[Rejected]) -> Vec<(&str, &Reason)> {
    rejected.iter().map(|rejected| (&*rejected.key, &rejected.reason)).collect()
}
