//! The node's task's part in storing the address book.

use std::collections::VecDeque;

use glueberry_proto::book::{Revision, Unsaved};
use glueberry_proto::{Instant, Node};

use crate::command::{Answer, BookChange};
use crate::error::{Error, ErrorCode, Misuse, chain};
use crate::event::BookTrouble;
use crate::mailbox::answer;
use crate::store::{Loaded, StoreError};
use crate::store_thread::{StoreThread, findings};

/// Passes the book to the thread that stores it, and the results back to the core and to callers.
pub(crate) struct BookStorage {
    /// None if the book has no file, or the node has stored it for the last time.
    store: Option<StoreThread>,
    is_saving: bool,
    /// Saves that have failed since one succeeded, or since the node began to stop.
    failures: u32,
    /// The thread has ended, or there is none.
    is_closed: bool,
    flushing: Vec<Answer<()>>,
    /// One for each reload that is under way, the first to end first.
    reloading: VecDeque<Answer<()>>,
    /// What has changed since the first of them began, to be changed in what was read, too.
    changes: Vec<BookChange>,
    trouble: Option<String>,
}

impl BookStorage {
    pub(crate) const fn new(store: Option<StoreThread>) -> Self {
        let is_closed = store.is_none();
        Self {
            store,
            is_saving: false,
            failures: 0,
            is_closed,
            flushing: Vec::new(),
            reloading: VecDeque::new(),
            changes: Vec::new(),
            trouble: None,
        }
    }

    /// Stores the book as it is now.
    pub(crate) fn save(&mut self, node: &mut Node, now: Instant) {
        let revision = node.book().revision();
        match &self.store {
            // The file is being read: it must not be overwritten with what it is to replace.
            Some(_) if !self.reloading.is_empty() => node.handle_book_not_saved(now),
            None => node.handle_book_saved(now, revision),
            Some(store) if store.save(node.book().emit(), revision) => self.is_saving = true,
            Some(_) => {
                self.failures += 1;
                node.handle_book_not_saved(now);
            }
        }
    }

    /// Answers once the book as it is now is stored.
    pub(crate) fn flush(&mut self, node: &Node, answer_to: Answer<()>) {
        if self.store.is_none() || (node.book().unsaved() == Unsaved::Nothing && !self.is_saving) {
            answer(answer_to, Ok(()));
        } else {
            self.flushing.push(answer_to);
        }
    }

    /// Answers once the book was read again.
    pub(crate) fn reload(&mut self, node: &Node, answer_to: Answer<()>) {
        let is_asked = self.store.as_ref().is_some_and(|store| store.reload(node.book().emit()));
        if is_asked {
            self.reloading.push_back(answer_to);
        } else {
            let error = match self.store {
                None => Error::because(ErrorCode::AddressBookFailed, Misuse::NoBook),
                Some(_) => Error::because(ErrorCode::AddressBookFailed, "it is being read already"),
            };
            answer(answer_to, Err(error));
        }
    }

    /// Takes note of a change. The book that it was made in may be about to be replaced.
    pub(crate) fn changed(&mut self, change: BookChange) {
        if !self.reloading.is_empty() {
            self.changes.push(change);
        }
    }

    /// Handles the result of a save.
    pub(crate) fn saved(
        &mut self,
        node: &mut Node,
        now: Instant,
        result: Result<Revision, StoreError>,
    ) -> Option<BookTrouble> {
        self.is_saving = false;
        match result {
            Ok(revision) => {
                node.handle_book_saved(now, revision);
                self.trouble = None;
                self.failures = 0;
                self.continue_flush(node, now);
                None
            }
            Err(error) => {
                node.handle_book_not_saved(now);
                self.failures += 1;
                let text = chain(&error);
                for answer_to in self.flushing.drain(..) {
                    let error = Error::because(ErrorCode::AddressBookFailed, text.clone());
                    answer(answer_to, Err(error));
                }
                self.trouble = Some(text.clone());
                Some(BookTrouble::NotSaved(text))
            }
        }
    }

    /// Handles the result of a reload.
    pub(crate) fn loaded(
        &mut self,
        node: &mut Node,
        now: Instant,
        result: Result<Loaded, StoreError>,
    ) -> Vec<BookTrouble> {
        let (result, troubles) = match result {
            Ok(loaded) => {
                let (is_book, (book, troubles)) = (loaded.set_aside.is_none(), findings(loaded));
                match is_book {
                    true => {
                        node.load_book(now, book);
                        self.changes.iter().for_each(|change| change(node, now));
                        (Ok(()), troubles)
                    }
                    // What is known is all that there is, and is in the file.
                    false => {
                        node.flush_book(now);
                        (Err(troubles.iter().map(ToString::to_string).collect()), troubles)
                    }
                }
            }
            Err(error) => {
                // Saves were put off during the reload.
                node.flush_book(now);
                (Err(chain(&error)), Vec::new())
            }
        };
        if let Some(answer_to) = self.reloading.pop_front() {
            let failed = |text: String| Error::because(ErrorCode::AddressBookFailed, text);
            answer(answer_to, result.map_err(failed));
        }
        if self.reloading.is_empty() {
            self.changes.clear();
        }
        self.continue_flush(node, now);
        troubles
    }

    /// Answers the callers of flush if everything is stored, otherwise stores the rest.
    fn continue_flush(&mut self, node: &mut Node, now: Instant) {
        if self.flushing.is_empty() || self.is_saving {
            return;
        }
        if node.book().unsaved() == Unsaved::Nothing {
            for answer_to in self.flushing.drain(..) {
                answer(answer_to, Ok(()));
            }
        } else {
            node.flush_book(now);
        }
    }

    /// Returns why the last save failed, if it did.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    /// The node stops: a book that could not be stored is tried again.
    pub(crate) const fn stopping(&mut self) {
        self.failures = 0;
    }

    /// Ends the thread once the book is stored, or cannot be. Returns true if a save was started
    /// instead.
    pub(crate) fn finish(&mut self, node: &mut Node, now: Instant) -> bool {
        if self.store.is_none() || self.is_saving || !self.reloading.is_empty() {
            return false;
        }
        if node.book().unsaved() == Unsaved::Nothing || self.failures >= LAST_TRIES {
            self.store = None;
            return false;
        }
        node.flush_book(now);
        true
    }

    /// The node's task is gone, perhaps with its runtime: ends the thread, and waits for it, so that
    /// the file is stored and unlocked.
    pub(crate) fn join(&mut self) {
        if let Some(store) = self.store.take() {
            store.join();
        }
    }

    pub(crate) const fn closed(&mut self) {
        self.is_closed = true;
    }

    /// Returns whether the thread has ended and unlocked the file.
    pub(crate) const fn is_done(&self) -> bool {
        self.is_closed
    }
}

/// Number of saves that a stopping node tries.
const LAST_TRIES: u32 = 2;
