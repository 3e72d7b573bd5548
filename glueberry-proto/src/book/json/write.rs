//! Writing the file, byte for byte as Go's `encoding/json` does.

use alloc::collections::BTreeMap;

use data_encoding::BASE64;
use libp2p_identity::PeerId;
use serde_json::value::RawValue;

use crate::book::{Ban, Book, Entry};
use crate::crypto::PublicKey;
use crate::prelude::*;
use crate::wall::WallTime;

pub(super) fn file(book: &Book) -> String {
    let unused = &book.unused;
    let mut out = String::new();
    out.push_str("{\n  \"version\": ");
    out.push_str(unused.version.as_deref().unwrap_or("1"));
    out.push_str(",\n  \"peers\": {");
    // Go writes maps in the bytewise order of their keys.
    let mut peers = BTreeMap::new();
    for (name, stranger) in &unused.strangers {
        peers.insert(name.clone(), Peer::Stranger(stranger));
    }
    for (&peer, text) in &unused.entries {
        peers.insert(PeerId::from(peer).to_string(), Peer::Verbatim(text));
    }
    for (&peer, entry) in &book.entries {
        let written = match &entry.kept.text {
            Some(text) => Peer::Verbatim(text),
            None => Peer::Entry(peer, entry),
        };
        peers.insert(PeerId::from(peer).to_string(), written);
    }
    let is_empty = peers.is_empty();
    for (n, (name, peer)) in peers.into_iter().enumerate() {
        out.push_str(if n == 0 { "\n    " } else { ",\n    " });
        match peer {
            Peer::Stranger((name, value)) => named(&mut out, name, value),
            Peer::Verbatim(value) => named(&mut out, &quoted(&name), value),
            Peer::Entry(peer, entry) => {
                named(&mut out, &quoted(&name), "");
                write_entry(&mut out, &name, peer, entry);
            }
        }
    }
    out.push_str(if is_empty { "}" } else { "\n  }" });
    out.push_str(&unused.fields);
    out.push_str("\n}");
    out
}

/// Appends an unknown field of the file to the kept ones.
pub(super) fn kept_file_field(kept: &mut String, name: &RawValue, value: &RawValue) {
    kept.push_str(",\n  ");
    named(kept, name.get(), value.get());
}

/// Appends an unknown field of an entry to the kept ones.
pub(super) fn kept_field(kept: &mut String, name: &RawValue, value: &RawValue) {
    kept.push_str(FIELD);
    named(kept, name.get(), value.get());
}

/// Appends an element of an entry's list of addresses to the kept ones.
pub(super) fn kept_address(kept: &mut String, address: &RawValue) {
    kept.push_str(ADDRESS);
    kept.push_str(address.get());
}

enum Peer<'a> {
    /// Name and value as they were read.
    Stranger(&'a (Box<str>, Box<str>)),
    /// The value as it was read.
    Verbatim(&'a str),
    Entry(PublicKey, &'a Entry),
}

fn write_entry(out: &mut String, name: &str, peer: PublicKey, entry: &Entry) {
    out.push_str("{\n      \"peer_id\": ");
    push_quoted(out, name);
    if entry.public_key.is_some() {
        field(out, "public_key");
        push_quoted(out, &BASE64.encode(peer.as_bytes()));
    }
    if !entry.metadata.is_empty() {
        field(out, "metadata");
        for (n, (key, value)) in entry.metadata.iter().enumerate() {
            out.push_str(if n == 0 { "{\n        " } else { ",\n        " });
            named(out, &quoted(key), &quoted(value));
        }
        out.push_str("\n      }");
    }
    time(out, "last_seen", entry.last_seen.unwrap_or(WallTime::NEVER));
    field(out, "blacklisted");
    out.push_str(if entry.ban.is_some() { "true" } else { "false" });
    time(out, "created_at", entry.created_at);
    time(out, "updated_at", entry.updated_at);
    field(out, "multiaddrs");
    let mut addresses = String::new();
    for address in &entry.addresses {
        addresses.push_str(ADDRESS);
        push_quoted(&mut addresses, address.as_str());
    }
    addresses.push_str(&entry.kept.addresses);
    match addresses.strip_prefix(',') {
        None => out.push_str("[]"),
        Some(addresses) => {
            out.push('[');
            out.push_str(addresses);
            out.push_str("\n      ]");
        }
    }
    if let Some(end) = entry.ban.and_then(Ban::end) {
        time(out, "ban_until", end);
    }
    if let Some(until) = entry.v2_until {
        time(out, "v2_until", until);
    }
    out.push_str(&entry.kept.fields);
    out.push_str("\n    }");
}

fn time(out: &mut String, name: &str, time: WallTime) {
    field(out, name);
    push_quoted(out, &time.to_string());
}

/// Starts another field of an entry.
fn field(out: &mut String, name: &str) {
    out.push_str(FIELD);
    named(out, &quoted(name), "");
}

/// Writes a name and a value that are already JSON.
fn named(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str(": ");
    out.push_str(value);
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// Writes a string as Go does: with the escapes that make it safe in HTML and JavaScript.
fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..'\u{20}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(char)));
            }
            _ => out.push(char),
        }
    }
    out.push('"');
}

/// The separator before another field of an entry.
const FIELD: &str = ",\n      ";
/// The separator before another address of an entry.
const ADDRESS: &str = ",\n        ";
