//! The address book's file on disk.
//!
//! [`FileStore::open`] locks the file, reads it and returns the [`Book`]; [`FileStore::save`]
//! replaces it. All of it blocks: call it where blocking is allowed.
//!
//! ```
//! use std::time::SystemTime;
//!
//! use glueberry_tokio::proto::book::Limits;
//! use glueberry_tokio::proto::{Address, Identity};
//! use glueberry_tokio::store::{FileStore, wall_time};
//!
//! # let folder = std::env::temp_dir().join(format!("glueberry-doc-{}", std::process::id()));
//! # let path = folder.join("book.json");
//! let (mut store, mut loaded) = FileStore::open(&path, Limits::default())?;
//! for rejected in &loaded.rejected {
//!     eprintln!("{rejected}");
//! }
//! let peer = Identity::from_seed(&[1; 32]).public_key();
//! let address = Address::new("/ip4/192.0.2.1/udp/9000/quic-v1");
//! loaded.book.add(peer, vec![address], None, wall_time(SystemTime::now()))?;
//!
//! let revision = loaded.book.revision();
//! store.save(&loaded.book.emit())?;
//! loaded.book.handle_saved(revision);
//! # drop(store);
//! # assert_eq!(FileStore::open(&path, Limits::default())?.1.book, loaded.book);
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - **The old book or the new one.** A save writes a new file beside the book, has the disk
//!   confirm it, renames it to the book's name, and has the disk confirm the folder. If the
//!   process dies at any instant, what is left is the book as it was or as it was to be, whole;
//!   once `save` has returned, the latter. What a dead process leaves beside it is removed when
//!   the store is next opened. (Windows confirms no folders: there, the latest saves may be undone
//!   if the power fails.)
//! - **One owner.** The store is locked until it is dropped or its process ends, by a file whose
//!   name is the book's with `.glueberry-lock` behind it. That file stays; deleting it while a
//!   store is open lets another one in.
//! - **Nothing is lost.** A file that cannot be read as a book is renamed: the book's name with
//!   `.unreadable-1` or the next free number behind it. It is [reported](Loaded::set_aside), and the
//!   store begins with an empty book. There is no store, and so no way to overwrite anything,
//!   without a file that was read or set aside.
//!
//! # Go nodes
//!
//! The file may move between Go nodes and ours, but not be used by both at the same time: neither
//! reads again what it has read, so the latest to save would win. Go's own lock (`.lock` behind
//! the name) can't prevent that, since it is held only during a load or a save; and since both
//! sides replace the file by renaming, neither ever sees half of one, lock or not. So that lock
//! isn't taken here, so a Go node that holds it makes no caller wait.
//!
//! # Paths
//!
//! Missing folders are created. If the path is a symbolic link, the file that it leads to is the
//! book and the link stays; lock and temporary file are beside the former, so the same book by two
//! names is still in use once. A new file can be read and written by its owner only; one that is
//! replaced keeps its permissions, if it is this user's. Once the store is open, no link that appears
//! under one of these names is followed.

use std::io::Read;
use std::path::{Path, PathBuf};

use glueberry_proto::book::{Book, BookError, Limits, Rejected, is_multiaddr};

pub use self::error::StoreError;
use self::files::Lock;
pub use self::wall::{system_time, wall_time};

mod error;
mod files;
mod wall;

/// The owner of one address book's file, until it is dropped.
///
/// ```
/// use glueberry_proto::WallTime;
/// use glueberry_proto::book::{Book, Limits};
/// use glueberry_tokio::store::FileStore;
///
/// # let folder = std::env::temp_dir().join(format!("glueberry-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("addressbook.json");
/// let (mut store, loaded) = FileStore::open(&path, Limits::default())?;
/// let mut book = loaded.book;
/// # let peer = glueberry_proto::Identity::from_seed(&[1; 32]).public_key();
/// book.blacklist(peer, None, WallTime::UNIX_EPOCH);
/// store.save(&book.emit())?;
/// assert!(FileStore::open(&path, Limits::default()).is_err(), "it is locked");
/// drop(store);
/// assert_eq!(FileStore::open(&path, Limits::default())?.1.book, book);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    max_file: usize,
    _lock: Lock,
}

/// What [`FileStore::open`] has found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The book; empty if there was no file, or one that is no book.
    pub book: Book,
    /// What is of no use in the file, and stays in it.
    pub rejected: Vec<Rejected>,
    /// Where the file is now, if it is no book.
    pub set_aside: Option<SetAside>,
}

/// A file that is no address book, and where it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetAside {
    /// Its new name.
    pub path: PathBuf,
    /// Why it is no book.
    pub error: BookError,
}

impl FileStore {
    /// Locks and reads an address book. A missing file is an empty book, and is not created before
    /// the first save.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. The file is then as it was. If it cannot be read as a book, that is no
    /// error: it is set aside.
    pub fn open(path: impl AsRef<Path>, limits: Limits) -> Result<(Self, Loaded), StoreError> {
        let path = files::resolve(path.as_ref())?;
        let lock = files::lock(&path)?;
        files::remove_leftover(&path)?;
        let store = Self { path, max_file: limits.max_file, _lock: lock };
        let loaded = store.load(limits)?;
        Ok((store, loaded))
    }

    /// Replaces the file, and returns when the disk has confirmed it.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. The file is then as it was, unless it is the last step that failed:
    /// confirming the folder. Either way it is whole, and saving again is all there is to do.
    pub fn save(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > self.max_file {
            let (len, limit) = (bytes.len(), self.max_file);
            return Err(StoreError::TooLarge { path: self.path.clone(), len, limit });
        }
        files::replace(&self.path, bytes)
    }

    /// Returns where the file is, with links followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn load(&self, limits: Limits) -> Result<Loaded, StoreError> {
        let parsed = match self.read(limits)? {
            Ok(bytes) => Book::parse(&bytes, limits, is_multiaddr),
            Err(error) => Err(error),
        };
        match parsed {
            Ok((book, rejected)) => Ok(Loaded { book, rejected, set_aside: None }),
            Err(error) => {
                let set_aside = Some(SetAside { path: files::set_aside(&self.path)?, error });
                Ok(Loaded { book: Book::new(limits), rejected: Vec::new(), set_aside })
            }
        }
    }

    /// Reads the whole file, if it is not too large; nothing if there is none.
    fn read(&self, limits: Limits) -> Result<Result<Vec<u8>, BookError>, StoreError> {
        let failed = |source| StoreError::new("read", &self.path, source);
        let Some(file) = files::open_if_there(&self.path)? else { return Ok(Ok(Vec::new())) };
        let len = file.metadata().map_err(failed)?.len();
        let limit = limits.max_file;
        if usize::try_from(len).map_or(true, |len| len > limit) {
            return Ok(Err(BookError::TooLarge { len, limit }));
        }
        let mut bytes = Vec::new();
        // Should it grow meanwhile, it is refused when it is parsed.
        file.take(len.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Ok(bytes))
    }
}
