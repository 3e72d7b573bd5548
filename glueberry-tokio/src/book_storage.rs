//! The node's task's part in storing the address book.

use std::collections::VecDeque;
use std::thread::JoinHandle;

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
    thread: Thread,
    is_saving: bool,
    /// Saves that have failed since one succeeded, or since the node began to stop.
    failures: u32,
    flushing: Vec<Answer<()>>,
    /// One for each reload that is under way, the first to end first.
    reloading: VecDeque<Answer<()>>,
    /// What has changed since the first of them began, to be changed in what was read, too.
    changes: Vec<BookChange>,
    trouble: Option<String>,
}

impl BookStorage {
    pub(crate) fn new(store: Option<StoreThread>) -> Self {
        let thread = match store {
            Some(store) => Thread::Running(store),
            None => Thread::Ended,
        };
        Self {
            thread,
            is_saving: false,
            failures: 0,
            flushing: Vec::new(),
            reloading: VecDeque::new(),
            changes: Vec::new(),
            trouble: None,
        }
    }

    /// Stores the book as it is now.
    pub(crate) fn save(&mut self, node: &mut Node, now: Instant) {
        let revision = node.book().revision();
        match &self.thread {
            // The file is being read: it must not be overwritten with what it is to replace.
            Thread::Running(_) if !self.reloading.is_empty() => node.handle_book_not_saved(now),
            Thread::Ending(_) | Thread::Ended => node.handle_book_saved(now, revision),
            Thread::Running(store) if store.save(node.book().emit(), revision) => {
                self.is_saving = true;
            }
            Thread::Running(_) | Thread::Lost => {
                self.failures += 1;
                node.handle_book_not_saved(now);
            }
        }
    }

    /// Answers once the book as it is now is stored.
    pub(crate) fn flush(&mut self, node: &Node, answer_to: Answer<()>) {
        if matches!(self.thread, Thread::Lost) {
            let error = Error::because(ErrorCode::AddressBookFailed, "its thread has panicked");
            answer(answer_to, Err(error));
        } else if self.thread.running().is_none()
            || (node.book().unsaved() == Unsaved::Nothing && !self.is_saving)
        {
            answer(answer_to, Ok(()));
        } else {
            self.flushing.push(answer_to);
        }
    }

    /// Answers once the book was read again.
    pub(crate) fn reload(&mut self, node: &Node, answer_to: Answer<()>) {
        let running = self.thread.running();
        let is_asked = running.is_some_and(|store| store.reload(node.book().emit()));
        if is_asked {
            self.reloading.push_back(answer_to);
        } else {
            let error = match self.thread.running() {
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
        let is_running = self.thread.running().is_some();
        if !is_running || self.is_saving || !self.reloading.is_empty() {
            return false;
        }
        if node.book().unsaved() == Unsaved::Nothing || self.failures >= LAST_TRIES {
            self.thread.end();
            return false;
        }
        node.flush_book(now);
        true
    }

    /// The node's task is gone, perhaps with its runtime: ends the thread, and waits for it, so that
    /// the file is stored and unlocked.
    pub(crate) fn join(&mut self) {
        self.thread.end();
        if let Thread::Ending(thread) = core::mem::replace(&mut self.thread, Thread::Ended) {
            // A panic of its has been reported by itself.
            drop(thread.join());
        }
    }

    /// The thread has unlocked the file.
    pub(crate) fn closed(&mut self) {
        self.thread = match self.thread {
            Thread::Running(_) | Thread::Lost => Thread::Lost,
            Thread::Ending(_) | Thread::Ended => Thread::Ended,
        };
    }

    /// Returns whether the file is unlocked.
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.thread, Thread::Ended | Thread::Lost)
    }
}

/// The thread that stores the book.
#[derive(Debug)]
enum Thread {
    Running(StoreThread),
    /// It ends behind what it has to do, and holds the file until then.
    Ending(JoinHandle<()>),
    /// It has unlocked the file, or there is none.
    Ended,
    /// It has panicked: nothing is stored any more.
    Lost,
}

impl Thread {
    const fn running(&self) -> Option<&StoreThread> {
        match self {
            Self::Running(thread) => Some(thread),
            Self::Ending(_) | Self::Ended | Self::Lost => None,
        }
    }

    fn end(&mut self) {
        *self = match core::mem::replace(self, Self::Ended) {
            Self::Running(thread) => Self::Ending(thread.end()),
            other => other,
        };
    }
}

/// Number of saves that a stopping node tries.
const LAST_TRIES: u32 = 2;
