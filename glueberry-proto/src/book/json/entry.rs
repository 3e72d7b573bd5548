//! Parsing one entry.

use alloc::collections::BTreeMap;
use core::fmt;

use data_encoding::BASE64;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::file::decoded;
use super::{Reason, write};
use crate::address::{Address, MAX_ADDRESS};
use crate::book::{Ban, Entry, Limits, fits, metadata_len};
use crate::crypto::PublicKey;
use crate::prelude::*;
use crate::wall::WallTime;

/// An entry, as far as it can be parsed.
pub(super) struct Parsed {
    pub(super) outcome: Result<Entry, Reason>,
    /// The faults of an entry that is used nevertheless.
    pub(super) flaws: Vec<Reason>,
    /// True if the entry bans the peer, even if its other fields are invalid.
    pub(super) is_ban: bool,
}

pub(super) fn parse(
    json: &RawValue,
    key: &str,
    peer: PublicKey,
    limits: &Limits,
    is_address: &dyn Fn(&str) -> bool,
) -> Parsed {
    let Ok(fields) = serde_json::from_str::<Fields<'_>>(json.get()) else {
        return Parsed { outcome: Err(Reason::NotAnObject), flaws: Vec::new(), is_ban: false };
    };
    let mut flaws = Vec::new();
    let outcome = fields.entry(key, peer, limits).and_then(|mut entry| {
        fields.addresses(&mut entry, limits, is_address, &mut flaws)?;
        fields.keep_unknown(&mut entry);
        entry.kept.text = Some(json.get().into());
        Ok(entry)
    });
    // A damaged entry must not lift a ban: one `true` is enough, even if the field is there twice.
    let is_ban = fields.all(BLACKLISTED).any(|value| value.get() == "true");
    Parsed { outcome, flaws, is_ban }
}

/// The fields of an entry, not yet parsed: known name if any, name and value as in the file.
struct Fields<'a>(Vec<(Option<&'static str>, &'a RawValue, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn entry(&self, key: &str, peer: PublicKey, limits: &Limits) -> Result<Entry, Reason> {
        if self.value::<String>(PEER_ID)?.as_deref() != Some(key) {
            return Err(Reason::WrongPeerId);
        }
        let mut entry = Entry::new(self.time(CREATED_AT)?.unwrap_or(WallTime::NEVER));
        entry.updated_at = self.time(UPDATED_AT)?.unwrap_or(WallTime::NEVER);
        entry.last_seen = self.time(LAST_SEEN)?.filter(|&time| time != WallTime::NEVER);
        entry.public_key = self.public_key(peer)?;
        entry.metadata = self.metadata(limits)?;
        entry.v2_until = self.time(V2_UNTIL)?;
        let ban_until = self.time(BAN_UNTIL)?;
        if self.value::<bool>(BLACKLISTED)?.unwrap_or(false) {
            entry.ban = Some(ban_until.map_or(Ban::Forever, Ban::Until));
        }
        Ok(entry)
    }

    fn time(&self, name: &'static str) -> Result<Option<WallTime>, Reason> {
        let time = self.value::<String>(name)?.map(|text| text.parse());
        time.transpose().map_err(|_| Reason::Field { field: name })
    }

    fn public_key(&self, peer: PublicKey) -> Result<Option<PublicKey>, Reason> {
        let text = self.value::<String>(PUBLIC_KEY)?.unwrap_or_default();
        let bytes =
            BASE64.decode(text.as_bytes()).map_err(|_| Reason::Field { field: PUBLIC_KEY })?;
        match &bytes[..] {
            [] => Ok(None),
            bytes if bytes == peer.as_bytes() => Ok(Some(peer)),
            _ => Err(Reason::WrongPublicKey),
        }
    }

    fn metadata(&self, limits: &Limits) -> Result<BTreeMap<String, String>, Reason> {
        let read = self.value::<BTreeMap<String, Option<String>>>(METADATA)?.unwrap_or_default();
        // Go reads `null` as an empty string.
        let read = read.into_iter().map(|(key, value)| (key, value.unwrap_or_default()));
        let metadata = read.collect::<BTreeMap<_, _>>();
        let (got, limit) = (metadata_len(&metadata), limits.max_metadata);
        if got > limit {
            return Err(Reason::MetadataTooLarge { got, limit });
        }
        Ok(metadata)
    }

    fn addresses(
        &self,
        entry: &mut Entry,
        limits: &Limits,
        is_address: &dyn Fn(&str) -> bool,
        flaws: &mut Vec<Reason>,
    ) -> Result<(), Reason> {
        let limit = limits.max_addresses;
        for json in self.value::<Vec<&'a RawValue>>(MULTIADDRS)?.unwrap_or_default() {
            let address = serde_json::from_str::<String>(json.get()).ok().map(Address::new);
            let usable = address.filter(|address| fits(address) && is_address(address.as_str()));
            match usable {
                Some(address) if entry.addresses.len() < limit => entry.addresses.push(address),
                Some(_) => {
                    write::kept_address(&mut entry.kept.addresses, json);
                    let reason = Reason::TooManyAddresses { limit };
                    // One report per entry is enough.
                    if flaws.last() != Some(&reason) {
                        flaws.push(reason);
                    }
                }
                // Bounded, so that a hostile file can't make a report for each of a million addresses.
                None => {
                    write::kept_address(&mut entry.kept.addresses, json);
                    if flaws.len() < limit {
                        flaws.push(Reason::Address { address: excerpt(json.get()) });
                    }
                }
            }
        }
        Ok(())
    }

    fn keep_unknown(&self, entry: &mut Entry) {
        for (_, name, value) in self.0.iter().filter(|(known, ..)| known.is_none()) {
            write::kept_field(&mut entry.kept.fields, name, value);
        }
    }

    /// Returns a field's value; `None` if it is missing or `null`, as Go treats both alike.
    fn value<T: Deserialize<'a>>(&self, name: &'static str) -> Result<Option<T>, Reason> {
        let mut values = self.all(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Reason::RepeatedField { field: name });
        }
        serde_json::from_str(value.get()).map_err(|_| Reason::Field { field: name })
    }

    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a RawValue> {
        let fields = self.0.iter().filter(move |(known, ..)| *known == Some(name));
        fields.map(|&(_, _, value)| value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a peer")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    let text = decoded(name);
                    // Go, too, matches names in any case.
                    let known = FIELDS.into_iter().find(|known| known.eq_ignore_ascii_case(&text));
                    fields.push((known, name, value));
                }
                Ok(Fields(fields))
            }
        }

        json.deserialize_map(FieldsVisitor)
    }
}

/// Returns the beginning of a text that may be long.
fn excerpt(text: &str) -> String {
    text.chars().take(MAX_ADDRESS).collect()
}

/// The names of an entry's fields.
const PEER_ID: &str = "peer_id";
const PUBLIC_KEY: &str = "public_key";
const METADATA: &str = "metadata";
const LAST_SEEN: &str = "last_seen";
const BLACKLISTED: &str = "blacklisted";
const CREATED_AT: &str = "created_at";
const UPDATED_AT: &str = "updated_at";
const MULTIADDRS: &str = "multiaddrs";
/// Go nodes don't know these two.
const BAN_UNTIL: &str = "ban_until";
const V2_UNTIL: &str = "v2_until";
const FIELDS: [&str; 10] = [
    PEER_ID,
    PUBLIC_KEY,
    METADATA,
    LAST_SEEN,
    BLACKLISTED,
    CREATED_AT,
    UPDATED_AT,
    MULTIADDRS,
    BAN_UNTIL,
    V2_UNTIL,
];
