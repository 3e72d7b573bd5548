//! Parsing the file, and which of its entries are used.

use alloc::borrow::Cow;
use core::fmt;

use libp2p_identity::PeerId;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{BookError, MAX_REJECTED, Reason, Rejected, entry, write};
use crate::book::{Ban, Book, Entry, Limits};
use crate::crypto::PublicKey;
use crate::prelude::*;
use crate::wall::WallTime;

pub(super) fn parse(
    bytes: &[u8],
    limits: Limits,
    is_address: &dyn Fn(&str) -> bool,
) -> Result<(Book, Vec<Rejected>), BookError> {
    if bytes.len() > limits.max_file {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        return Err(BookError::TooLarge { len, limit: limits.max_file });
    }
    let text = core::str::from_utf8(bytes)
        .map_err(|error| BookError::NotUtf8 { offset: error.valid_up_to() })?;
    // Some editors put a byte-order mark in front. RFC 8259, section 8.1, lets a parser ignore it,
    // and the bans in the file must not be lost for it.
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let book = Book::new(limits);
    let mut reader = Reader { book, rejected: Vec::new(), rejected_entries: 0, is_address };
    if !text.is_empty() {
        let mut json = serde_json::Deserializer::from_str(text);
        let read = FileSeed(&mut reader).deserialize(&mut json).and_then(|()| json.end());
        // The reader stops serde_json by an error, which then looks like one of the syntax.
        if reader.is_too_damaged() {
            return Err(BookError::TooManyRejected { limit: MAX_REJECTED });
        }
        read.map_err(|error| syntax_error(&error))?;
    }
    Ok((reader.book, reader.rejected))
}

/// Returns the peer of an entry's name.
pub(super) fn peer(key: &str) -> Result<PublicKey, Reason> {
    // The cost of base58 grows with the square of the length.
    if key.len() > MAX_PEER_ID {
        return Err(Reason::NotAPeerId);
    }
    let peer = key.parse::<PeerId>().map_err(|_| Reason::NotAPeerId)?;
    Ok(PublicKey::try_from(&peer)?)
}

/// Returns the text of a JSON string, or the JSON itself if it encodes no text: half of a surrogate
/// pair does not.
pub(super) fn decoded(json: &RawValue) -> Cow<'_, str> {
    serde_json::from_str(json.get()).map_or_else(|_| Cow::Borrowed(json.get()), Cow::Owned)
}

struct Reader<'a> {
    book: Book,
    rejected: Vec<Rejected>,
    /// How many of `rejected` are whole entries.
    rejected_entries: usize,
    is_address: &'a dyn Fn(&str) -> bool,
}

impl Reader<'_> {
    fn entry(&mut self, name: &RawValue, json: &RawValue) {
        let key = decoded(name);
        match peer(&key) {
            Ok(peer) => self.peer(&key, peer, json),
            Err(reason) => {
                self.reject(&key, reason);
                // Kept for other programs: a later version may know such peers.
                let stranger = (name.get().into(), json.get().into());
                if self.book.unused.strangers.insert(key.to_string(), stranger).is_some() {
                    self.reject(&key, Reason::Repeated);
                }
            }
        }
    }

    fn peer(&mut self, key: &str, peer: PublicKey, json: &RawValue) {
        // The later entry counts, as Go reads it.
        if self.forget(peer) {
            self.reject(key, Reason::Repeated);
        }
        let limits = self.book.limits;
        let limit = limits.max_entries;
        let is_full = self.book.entries.len() - self.book.bare_bans.len() >= limit;
        let parsed = entry::parse(json, key, peer, &limits, self.is_address);
        match parsed.outcome {
            // Bans are taken beyond the limit too: a full book must not unban a peer.
            Ok(entry) if !is_full || entry.ban.is_some() => {
                let flaws = parsed.flaws.into_iter().map(|flaw| Rejected::new(key, flaw));
                self.rejected.extend(flaws);
                self.insert(peer, entry);
            }
            outcome => {
                let reason = outcome.err().unwrap_or(Reason::TooManyEntries { limit });
                self.reject(key, reason);
                if parsed.is_ban {
                    // When it would end is part of what could not be read, so it has no end.
                    let mut entry = Entry::new(WallTime::NEVER);
                    entry.ban = Some(Ban::Forever);
                    entry.kept.text = Some(json.get().into());
                    self.insert(peer, entry);
                } else {
                    self.book.unused.entries.insert(peer, json.get().into());
                }
            }
        }
    }

    fn reject(&mut self, key: &str, reason: Reason) {
        self.rejected.push(Rejected::new(key, reason));
        self.rejected_entries += 1;
    }

    fn insert(&mut self, peer: PublicKey, entry: Entry) {
        if let Some(end) = entry.ban.and_then(Ban::end) {
            self.book.ban_ends.insert((end, peer));
        }
        let seen = entry.updated_at;
        self.book.entries.insert(peer, Box::new(entry));
        self.book.note_bare(peer, seen);
    }

    /// Removes an earlier entry for the peer. Returns true if there was one.
    fn forget(&mut self, peer: PublicKey) -> bool {
        let was_unused = self.book.unused.entries.remove(&peer).is_some();
        let Some(earlier) = self.book.entries.remove(&peer) else { return was_unused };
        self.book.bare_bans.remove(peer);
        if let Some(end) = earlier.ban.and_then(Ban::end) {
            self.book.ban_ends.remove(&(end, peer));
        }
        true
    }

    fn is_too_damaged(&self) -> bool {
        self.rejected_entries > MAX_REJECTED
    }
}

/// The whole file.
struct FileSeed<'a, 'r>(&'a mut Reader<'r>);

impl<'de> DeserializeSeed<'de> for FileSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FileSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address book")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<&'de RawValue>()? {
            match &*decoded(name).to_ascii_lowercase() {
                "peers" => map.next_value_seed(PeersSeed(self.0))?,
                "version" => {
                    let version = map.next_value::<&'de RawValue>()?.get();
                    self.0.book.unused.version = (version != "1").then(|| version.into());
                }
                _ => {
                    let value = map.next_value::<&'de RawValue>()?;
                    write::kept_file_field(&mut self.0.book.unused.fields, name, value);
                }
            }
        }
        Ok(())
    }

    /// Go reads `null` as an empty book.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The object with the entries.
struct PeersSeed<'a, 'r>(&'a mut Reader<'r>);

impl<'de> DeserializeSeed<'de> for PeersSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PeersSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("peers by their ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, json)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            self.0.entry(name, json);
            if self.0.is_too_damaged() {
                return Err(A::Error::custom("too many entries cannot be used"));
            }
        }
        Ok(())
    }

    /// Go reads `null` as no peers.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

fn syntax_error(error: &serde_json::Error) -> BookError {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    // serde_json's text ends with the place, which the error has in fields of its own.
    let place = format!(" at line {line} column {column}");
    let message = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    BookError::Json { message, line, column }
}

const BYTE_ORDER_MARK: char = '\u{feff}';
/// Bytes of a peer id's text. The longest, a multihash of 64 bytes in base58, has 91.
const MAX_PEER_ID: usize = 128;
