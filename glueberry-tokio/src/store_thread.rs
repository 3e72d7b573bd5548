//! The thread that stores the address book, so that no task ever waits for a disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use glueberry_proto::book::{Book, Limits, Revision};

use crate::command::NodeCommand;
use crate::error::{Error, ErrorCode};
use crate::event::BookTrouble;
use crate::shared::Shared;
use crate::store::{FileStore, Loaded, StoreError};

/// What the thread does next.
enum Job {
    Save(Vec<u8>, Revision),
    /// With the book as it is known.
    Reload(Vec<u8>),
}

/// A handle to the thread. The thread ends, and unlocks the file, soon after this is dropped.
#[derive(Debug)]
pub(crate) struct StoreThread {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl StoreThread {
    /// Starts the thread for a book that was opened.
    pub(crate) fn start(
        store: FileStore,
        limits: Limits,
        shared: Arc<Shared>,
    ) -> Result<Self, Error> {
        let (jobs, queue) = sync_channel(JOBS);
        let thread = std::thread::Builder::new()
            .name("glueberry-book".to_owned())
            .spawn(move || run(store, limits, &queue, &shared))
            .map_err(|error| Error::because(ErrorCode::AddressBookFailed, error))?;
        Ok(Self { jobs, thread })
    }

    /// Ends the thread behind what it has to do. Returns what waits for that.
    pub(crate) fn end(self) -> JoinHandle<()> {
        self.thread
    }

    /// Stores the book; the result comes as [`NodeCommand::BookSaved`]. Returns false if the thread
    /// is gone or its queue is full.
    pub(crate) fn save(&self, bytes: Vec<u8>, revision: Revision) -> bool {
        self.jobs.try_send(Job::Save(bytes, revision)).is_ok()
    }

    /// Reads the book again; the result comes as [`NodeCommand::BookLoaded`]. If the file is no book, it
    /// is set aside, and `known` is stored in its place. Returns false if the thread is gone or its queue
    /// is full.
    pub(crate) fn reload(&self, known: Vec<u8>) -> bool {
        self.jobs.try_send(Job::Reload(known)).is_ok()
    }
}

fn run(store: FileStore, limits: Limits, jobs: &Receiver<Job>, shared: &Shared) {
    // Dropped last: the file is unlocked by then.
    let _reports_end = EndGuard(shared);
    let path = store.path().to_owned();
    let mut store = Some(store);
    while let Ok(job) = jobs.recv() {
        let command = match job {
            Job::Save(bytes, revision) => {
                let saved =
                    reopened(&mut store, &path, limits).and_then(|store| store.save(&bytes));
                NodeCommand::BookSaved(saved.map(|()| revision))
            }
            Job::Reload(known) => {
                // The file's lock is released for a moment; another process may take it.
                store = None;
                let loaded = FileStore::open(&path, limits).and_then(|(opened, loaded)| {
                    let opened = store.insert(opened);
                    match loaded.set_aside {
                        Some(_) => opened.save(&known).map(|()| loaded),
                        None => Ok(loaded),
                    }
                });
                NodeCommand::BookLoaded(Box::new(loaded))
            }
        };
        drop(shared.mailbox.put(command));
    }
}

/// Reports to the node's task that the thread has ended, even if it panicked.
struct EndGuard<'a>(&'a Shared);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        drop(self.0.mailbox.put(NodeCommand::BookClosed));
    }
}

/// Opens the store again if it was lost while it was read again; what is in the file then is overwritten.
fn reopened<'a>(
    store: &'a mut Option<FileStore>,
    path: &Path,
    limits: Limits,
) -> Result<&'a mut FileStore, StoreError> {
    let opened = match store.take() {
        Some(opened) => opened,
        None => FileStore::open(path, limits)?.0,
    };
    Ok(store.insert(opened))
}

/// Splits what was found into the book and what is wrong with it.
pub(crate) fn findings(loaded: Loaded) -> (Book, Vec<BookTrouble>) {
    let skipped = loaded.rejected.into_iter().map(|rejected| BookTrouble::Skipped {
        key: rejected.key,
        reason: rejected.reason.to_string(),
    });
    let mut troubles: Vec<BookTrouble> = skipped.collect();
    troubles.extend(loaded.set_aside.map(|aside| BookTrouble::SetAside {
        path: aside.path.display().to_string(),
        reason: aside.error.to_string(),
    }));
    (loaded.book, troubles)
}

/// One save and one reload may be queued.
const JOBS: usize = 2;
