//! The disk of a host: what was not synced may be lost when its process is killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Core, lock};
use crate::rng::{Rng, u64_of, usize_of};

/// The disk of a host. It outlives its processes: what was [synced](Self::sync) is there after a kill.
/// Of what was written since, each file may be as it was, as it was to be, or a part of that.
#[derive(Clone)]
pub struct Disk {
    pub(super) core: Arc<Core>,
    pub(super) host: usize,
}

#[derive(Default)]
pub(super) struct Files {
    synced: BTreeMap<String, Vec<u8>>,
    /// What was written since, the last of each file.
    unsynced: BTreeMap<String, Option<Vec<u8>>>,
    rng: Option<Rng>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Disk").field(&self.core.names[self.host]).finish()
    }
}

impl Disk {
    /// Returns what a file holds, if it exists.
    pub async fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.wait().await;
        let files = lock(&self.core.files[self.host]);
        let unsynced = files.unsynced.get(name);
        unsynced.cloned().unwrap_or_else(|| files.synced.get(name).cloned())
    }

    /// Replaces what a file holds. It is certain to be there after a kill only once [`sync`](Self::sync)
    /// was ready.
    pub async fn write(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.wait().await;
        lock(&self.core.files[self.host]).unsynced.insert(name.to_owned(), Some(bytes));
    }

    /// Removes a file.
    pub async fn remove(&self, name: &str) {
        self.wait().await;
        lock(&self.core.files[self.host]).unsynced.insert(name.to_owned(), None);
    }

    /// Makes sure of all that was written.
    pub async fn sync(&self) {
        self.wait().await;
        let mut files = lock(&self.core.files[self.host]);
        for (name, bytes) in std::mem::take(&mut files.unsynced) {
            files.put(name, bytes);
        }
    }

    async fn wait(&self) {
        let seed = self.core.seed;
        let micros = {
            let mut files = lock(&self.core.files[self.host]);
            let rng = files.rng.get_or_insert_with(|| Rng::derive(seed, DISK, u64_of(self.host)));
            rng.range(MIN_DELAY, MAX_DELAY)
        };
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

impl Files {
    fn put(&mut self, name: String, bytes: Option<Vec<u8>>) {
        match bytes {
            Some(bytes) => drop(self.synced.insert(name, bytes)),
            None => drop(self.synced.remove(&name)),
        }
    }

    /// The host's process is killed.
    pub(super) fn cut(&mut self, seed: u64, host: usize) {
        let mut rng = self.rng.take().unwrap_or_else(|| Rng::derive(seed, DISK, u64_of(host)));
        for (name, bytes) in std::mem::take(&mut self.unsynced) {
            match rng.below(3) {
                // It is lost.
                0 => {}
                1 => self.put(name, bytes),
                _ => {
                    let torn = bytes.map(|mut bytes| {
                        bytes.truncate(usize_of(rng.below(u64_of(bytes.len()) + 1)));
                        bytes
                    });
                    self.put(name, torn);
                }
            }
        }
        self.rng = Some(rng);
    }
}

/// The kind of the disks' generators.
const DISK: u64 = 104;
/// In microseconds.
const MIN_DELAY: u64 = 100;
const MAX_DELAY: u64 = 10_000;
