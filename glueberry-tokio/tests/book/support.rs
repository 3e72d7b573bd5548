//! Folders to work in, books to store, and this test program as another process.

#[cfg(unix)]
use std::env;
use std::fs;
#[cfg(unix)]
use std::io::BufReader;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use glueberry_tokio::proto::book::{Book, Limits};
use glueberry_tokio::proto::{Address, Identity, PublicKey, WallTime};
use glueberry_tokio::store::{FileStore, Loaded, StoreError};

/// An empty folder that goes with its value.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::within(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    pub(crate) fn within(folder: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("book-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names of the files in it, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let files = fs::read_dir(&self.0).unwrap();
        let mut names =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
        names.sort_unstable();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Name of the book in a scratch folder, and of the files that the store has beside it.
pub(crate) const BOOK: &str = "book.json";
pub(crate) const LOCK: &str = "book.json.glueberry-lock";
pub(crate) const TEMPORARY: &str = "book.json.glueberry-new";
pub(crate) const ASIDE: [&str; 2] = ["book.json.unreadable-1", "book.json.unreadable-2"];

pub(crate) fn open(path: &Path) -> Result<(FileStore, Loaded), StoreError> {
    FileStore::open(path, Limits::default())
}

/// Opens a book in which there is nothing wrong.
pub(crate) fn open_whole(path: &Path) -> (FileStore, Book) {
    let (store, loaded) = open(path).unwrap();
    assert_eq!(loaded.rejected, []);
    assert_eq!(loaded.set_aside, None);
    (store, loaded.book)
}

pub(crate) fn peer(number: u8) -> PublicKey {
    Identity::from_seed(&[number; 32]).public_key()
}

/// A book with so many peers.
pub(crate) fn book(peers: u8) -> Book {
    let mut book = Book::new(Limits::default());
    for number in 1..=peers {
        let address = Address::new(format!("/ip4/192.0.2.{number}/udp/9000/quic-v1"));
        book.add(peer(number), vec![address], None, WallTime::UNIX_EPOCH).unwrap();
    }
    book
}

/// This test program, to run one of its tests alone in another process: there,
/// [`path_of_child`] returns the path.
#[cfg(unix)]
pub(crate) fn child(test: &str, path: &Path) -> Command {
    child_of(&env::current_exe().unwrap(), test, path)
}

/// The same of a copy of this test program.
#[cfg(unix)]
pub(crate) fn child_of(program: &Path, test: &str, path: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(CHILD_ARGUMENTS).arg(test).env(CHILD, path);
    command
}

/// A running child, and what it says. It is killed with its value at the latest, so that a test
/// that fails leaves none behind.
#[cfg(unix)]
pub(crate) struct Running(Child);

#[cfg(unix)]
impl Running {
    pub(crate) fn start(mut child: Command) -> (Self, BufReader<ChildStdout>) {
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        (Self(child), output)
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Arguments with which this test program runs the one test whose name follows.
#[cfg(unix)]
pub(crate) const CHILD_ARGUMENTS: [&str; 3] = ["--nocapture", "--test-threads=1", "--exact"];

/// Returns the path that a test is to work on if it runs as a [`child`].
#[cfg(unix)]
pub(crate) fn path_of_child() -> Option<PathBuf> {
    env::var_os(CHILD).map(PathBuf::from)
}

#[cfg(unix)]
const CHILD: &str = "GLUEBERRY_BOOK_OF_CHILD";
