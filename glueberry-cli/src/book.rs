//! Address books.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use glueberry_tokio::PublicKey;
use glueberry_tokio::identity::PeerId;
use glueberry_tokio::proto::Config;
use glueberry_tokio::proto::book::{Ban, Book as PeerBook, Entry, Limits, Rejected, is_multiaddr};
use glueberry_tokio::store::{FileStore, wall_time};
use serde_json::{Value, json};

use crate::cli::Book;
use crate::output::{Failure, Output};

pub(crate) fn run(book: Book, output: Output) -> Result<(), Failure> {
    match book {
        Book::Show { path } => show(&path, output),
        Book::Check { path } => check(&path, output),
        Book::Repair { path } => repair(&path, output),
        Book::Ban { path, peer, duration } => ban(&path, peer, duration, output),
        Book::Unban { path, peer } => unban(&path, peer, output),
    }
}

/// Says in a line what is in a book, or what is wrong with it.
pub(crate) fn summary(path: &Path) -> Result<String, String> {
    let (book, rejected) = read(path).map_err(|failure| failure.text())?;
    match rejected.first() {
        None => Ok(format!("{} peers", book.len())),
        Some(first) => Err(format!("{} entries cannot be read: {first}", rejected.len())),
    }
}

fn limits() -> Limits {
    Config::default().book_limits()
}

/// Reads a book without locking it: a node that has it open replaces it as a whole.
fn read(path: &Path) -> Result<(PeerBook, Vec<Rejected>), Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", path.display()));
    // One byte more than a book may have: what is endless is refused as well.
    let most = u64::try_from(limits().max_file).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(failed)?;
    PeerBook::parse(&bytes, limits(), is_multiaddr)
        .map_err(|error| Failure::new(format!("{} is no address book: {error}", path.display())))
}

fn show(path: &Path, output: Output) -> Result<(), Failure> {
    let (book, rejected) = read(path)?;
    let now = wall_time(SystemTime::now());
    for (key, entry) in book.iter() {
        let peer = PeerId::from(key);
        let ban = entry.ban().filter(|ban| ban.holds_at(now));
        output.say(text_of(peer, entry, ban), &value_of(peer, entry, ban));
    }
    for rejected in &rejected {
        output.say(
            format!("cannot be read: {rejected}"),
            &json!({ "rejected": rejected.to_string() }),
        );
    }
    Ok(())
}

fn text_of(peer: PeerId, entry: &Entry, ban: Option<Ban>) -> String {
    let mut text = peer.to_string();
    match ban {
        Some(Ban::Until(end)) => text.push_str(&format!("  BANNED until {end}")),
        Some(Ban::Forever) => text.push_str("  BANNED"),
        None => {}
    }
    for address in entry.addresses() {
        // A name in it may be any text.
        text.push_str(&format!("\n  {}", address.as_str().escape_debug()));
    }
    for (name, value) in entry.metadata() {
        text.push_str(&format!("\n  {}: {}", name.escape_debug(), value.escape_debug()));
    }
    text
}

fn value_of(peer: PeerId, entry: &Entry, ban: Option<Ban>) -> Value {
    let addresses: Vec<&str> = entry.addresses().iter().map(|it| it.as_str()).collect();
    json!({
        "peer": peer.to_string(),
        "addresses": addresses,
        "metadata": entry.metadata(),
        "banned": ban.is_some(),
        "banned_until": ban.and_then(Ban::end).map(|end| end.to_string()),
    })
}

fn check(path: &Path, output: Output) -> Result<(), Failure> {
    let (book, rejected) = read(path)?;
    for rejected in &rejected {
        output.say(
            format!("cannot be read: {rejected}"),
            &json!({ "rejected": rejected.to_string() }),
        );
    }
    let value = json!({ "peers": book.len(), "rejected": rejected.len() });
    output.say(
        format!("peers: {}, entries that cannot be read: {}", book.len(), rejected.len()),
        &value,
    );
    match rejected.len() {
        0 => Ok(()),
        _ => Err(Failure::new("the book has entries that cannot be read: `glueberry book repair`")),
    }
}

fn repair(path: &Path, output: Output) -> Result<(), Failure> {
    let (mut store, loaded) = open(path)?;
    if loaded.rejected.is_empty() {
        output.say("nothing to repair", &json!({ "removed": 0 }));
        return Ok(());
    }
    let kept = beside(store.path());
    fs::copy(store.path(), &kept)?;
    store.save(&without_rejected(&loaded.book)?.emit())?;
    let removed = loaded.rejected.len();
    let text = format!("{removed} entries removed; the file as it was is {}", kept.display());
    output.say(text, &json!({ "removed": removed, "before": kept }));
    Ok(())
}

/// Makes a book anew of all that is of use in one.
fn without_rejected(book: &PeerBook) -> Result<PeerBook, Failure> {
    let mut value: serde_json::Map<String, Value> = serde_json::from_slice(&book.emit())?;
    if let Some(Value::Object(peers)) = value.get_mut("peers") {
        peers.retain(|key, _| {
            let peer = key.parse::<PeerId>().ok();
            peer.and_then(|peer| PublicKey::try_from(&peer).ok())
                .is_some_and(|peer| book.entry(peer).is_some())
        });
    }
    let bytes = serde_json::to_vec(&value)?;
    let parsed = PeerBook::parse(&bytes, limits(), is_multiaddr);
    let (book, rejected) = parsed.map_err(|error| Failure::new(error.to_string()))?;
    match rejected.first() {
        None => Ok(book),
        Some(rejected) => Err(Failure::new(format!("cannot be repaired: {rejected}"))),
    }
}

/// Returns a path beside the book at which there is nothing yet.
fn beside(book: &Path) -> PathBuf {
    let numbered = |number: u32| {
        let mut name = book.as_os_str().to_owned();
        name.push(".before-repair");
        if number > 0 {
            name.push(format!("-{number}"));
        }
        PathBuf::from(name)
    };
    let mut paths = (0..u32::MAX).map(numbered);
    paths.find(|path| !path.exists()).unwrap_or_else(|| numbered(0))
}

fn ban(
    path: &Path,
    peer: PeerId,
    duration: Option<Duration>,
    output: Output,
) -> Result<(), Failure> {
    let (mut store, mut loaded) = open(path)?;
    let now = SystemTime::now();
    let until = duration.map(|duration| now.checked_add(duration));
    let until = match until {
        Some(None) => return Err(Failure::new("that is too long: leave `--for` out")),
        Some(Some(until)) => Some(wall_time(until)),
        None => None,
    };
    loaded.book.blacklist(key_of(peer)?, until, wall_time(now));
    store.save(&loaded.book.emit())?;
    output.say(format!("{peer} is banned"), &json!({ "peer": peer.to_string(), "banned": true }));
    Ok(())
}

fn unban(path: &Path, peer: PeerId, output: Output) -> Result<(), Failure> {
    let (mut store, mut loaded) = open(path)?;
    if !loaded.book.unblacklist(key_of(peer)?, wall_time(SystemTime::now())) {
        return Err(Failure::new(format!("{peer} is not banned")));
    }
    store.save(&loaded.book.emit())?;
    output
        .say(format!("{peer} may connect"), &json!({ "peer": peer.to_string(), "banned": false }));
    Ok(())
}

/// Opens a book to change it; fails if a node has it, and leaves alone what is no book.
fn open(path: &Path) -> Result<(FileStore, glueberry_tokio::store::Loaded), Failure> {
    if path.exists() {
        read(path)?;
    }
    Ok(FileStore::open(path, limits())?)
}

fn key_of(peer: PeerId) -> Result<PublicKey, Failure> {
    PublicKey::try_from(&peer).map_err(|error| Failure::new(error.to_string()))
}
