//! The thread that stores the address book, so that no task ever waits for a disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use glueberry_proto::book::{Book, Limits, Revision};

use crate::driver::Letter;
use crate::error::{Error, ErrorCode};
use crate::events::BookTrouble;
use crate::node::Shared;
use crate::store::{FileStore, Loaded, StoreError};

/// What the thread is asked to do.
enum Job {
    Save(Vec<u8>, Revision),
    Reload,
}

/// The way to the thread. It ends, and unlocks the file, when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    jobs: SyncSender<Job>,
}

impl Keeper {
    /// Starts the thread for a book that was opened.
    pub(crate) fn start(
        store: FileStore,
        limits: Limits,
        shared: Arc<Shared>,
    ) -> Result<Self, Error> {
        let (jobs, queue) = sync_channel(JOBS);
        std::thread::Builder::new()
            .name("glueberry-book".to_owned())
            .spawn(move || keep(store, limits, &queue, &shared))
            .map_err(|error| Error::because(ErrorCode::AddressBookFailed, error))?;
        Ok(Self { jobs })
    }

    /// Has the book stored; the answer comes as a letter. Returns false if the thread is gone, or
    /// has not got round to what it was asked before.
    pub(crate) fn save(&self, bytes: Vec<u8>, revision: Revision) -> bool {
        self.jobs.try_send(Job::Save(bytes, revision)).is_ok()
    }

    /// Has the book read anew; the answer comes as a letter.
    pub(crate) fn reload(&self) -> bool {
        self.jobs.try_send(Job::Reload).is_ok()
    }
}

fn keep(store: FileStore, limits: Limits, jobs: &Receiver<Job>, shared: &Shared) {
    // Goes last, when the file is unlocked.
    let _farewell = Farewell(shared);
    let path = store.path().to_owned();
    let mut store = Some(store);
    while let Ok(job) = jobs.recv() {
        let letter = match job {
            Job::Save(bytes, revision) => {
                let saved =
                    reopened(&mut store, &path, limits).and_then(|store| store.save(&bytes));
                Letter::BookSaved(saved.map(|()| revision))
            }
            Job::Reload => {
                // The lock is given up for a moment, and may then be another's.
                store = None;
                let loaded = FileStore::open(&path, limits).map(|(opened, loaded)| {
                    store = Some(opened);
                    loaded
                });
                Letter::BookLoaded(loaded)
            }
        };
        drop(shared.mailbox.put(letter));
    }
}

/// Tells the node that the thread has ended, however it did.
struct Farewell<'a>(&'a Shared);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        drop(self.0.mailbox.put(Letter::BookClosed));
    }
}

/// Opens the store again if it was lost while it was read anew; what it holds then is replaced.
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

/// One save and one reload may wait.
const JOBS: usize = 2;
