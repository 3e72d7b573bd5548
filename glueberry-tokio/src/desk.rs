//! What the node's task has to do with the stored address book.

use glueberry_proto::book::{Revision, Unsaved};
use glueberry_proto::{Instant, Node};

use crate::driver::Answer;
use crate::error::{Error, ErrorCode};
use crate::events::BookTrouble;
use crate::keeper::{Keeper, findings};
use crate::mailbox::answer;
use crate::store::{Loaded, StoreError};

/// Passes the book to the thread that stores it, and the answers back.
#[derive(Debug)]
pub(crate) struct BookDesk {
    /// None if the book is not stored at all, or no longer.
    keeper: Option<Keeper>,
    is_saving: bool,
    /// Saves that have failed since one succeeded, or since the node began to stop.
    failures: u32,
    /// The thread has ended, or there is none.
    is_closed: bool,
    flushing: Vec<Answer<()>>,
    reloading: Vec<Answer<()>>,
    trouble: Option<String>,
}

impl BookDesk {
    pub(crate) const fn new(keeper: Option<Keeper>) -> Self {
        let is_closed = keeper.is_none();
        Self {
            keeper,
            is_saving: false,
            failures: 0,
            is_closed,
            flushing: Vec::new(),
            reloading: Vec::new(),
            trouble: None,
        }
    }

    /// Has the book stored as it is now.
    pub(crate) fn save(&mut self, node: &mut Node, now: Instant) {
        let revision = node.book().revision();
        match &self.keeper {
            // What is known now is about to be replaced, and must not replace what is read.
            Some(_) if !self.reloading.is_empty() => node.handle_book_not_saved(now),
            None => node.handle_book_saved(now, revision),
            Some(keeper) if keeper.save(node.book().emit(), revision) => self.is_saving = true,
            Some(_) => {
                self.failures += 1;
                node.handle_book_not_saved(now);
            }
        }
    }

    /// Answers once all that is known now is stored.
    pub(crate) fn flush(&mut self, node: &Node, answer_to: Answer<()>) {
        if self.keeper.is_none() || (node.book().unsaved() == Unsaved::Nothing && !self.is_saving) {
            answer(answer_to, Ok(()));
        } else {
            self.flushing.push(answer_to);
        }
    }

    /// Answers once the book was read anew.
    pub(crate) fn reload(&mut self, answer_to: Answer<()>) {
        let is_asked = self.keeper.as_ref().is_some_and(Keeper::reload);
        if is_asked {
            self.reloading.push(answer_to);
        } else {
            let why = "there is no stored address book, or it is busy";
            answer(answer_to, Err(Error::because(ErrorCode::AddressBookFailed, why)));
        }
    }

    /// Takes the answer to a save.
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
                self.go_on_flushing(node, now);
                None
            }
            Err(error) => {
                node.handle_book_not_saved(now);
                self.failures += 1;
                let text = error.to_string();
                for answer_to in self.flushing.drain(..) {
                    let error = Error::because(ErrorCode::AddressBookFailed, text.clone());
                    answer(answer_to, Err(error));
                }
                self.trouble = Some(text.clone());
                Some(BookTrouble::NotSaved(text))
            }
        }
    }

    /// Takes the book that was read anew.
    pub(crate) fn loaded(
        &mut self,
        node: &mut Node,
        now: Instant,
        result: Result<Loaded, StoreError>,
    ) -> Vec<BookTrouble> {
        let (result, troubles) = match result {
            Ok(loaded) => {
                let (book, troubles) = findings(loaded);
                node.load_book(now, book);
                (Ok(()), troubles)
            }
            Err(error) => {
                // What was not stored on its account is, after all.
                node.flush_book(now);
                (Err(error.to_string()), Vec::new())
            }
        };
        for answer_to in self.reloading.drain(..) {
            let failed = |text: String| Error::because(ErrorCode::AddressBookFailed, text);
            answer(answer_to, result.clone().map_err(failed));
        }
        self.go_on_flushing(node, now);
        troubles
    }

    /// Answers who waits for all to be stored, or has stored what is left.
    fn go_on_flushing(&mut self, node: &mut Node, now: Instant) {
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

    /// Returns what is wrong with the stored book, until a save succeeds.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    /// Takes note that the node stops: what could not be stored before is tried again.
    pub(crate) const fn stopping(&mut self) {
        self.failures = 0;
    }

    /// Lets the thread end once all that is known is stored, or cannot be. Returns whether there is
    /// something to store before that.
    pub(crate) fn finish(&mut self, node: &mut Node, now: Instant) -> bool {
        if self.keeper.is_none() || self.is_saving || !self.reloading.is_empty() {
            return false;
        }
        if node.book().unsaved() == Unsaved::Nothing || self.failures >= LAST_TRIES {
            self.keeper = None;
            return false;
        }
        node.flush_book(now);
        true
    }

    pub(crate) const fn closed(&mut self) {
        self.is_closed = true;
    }

    /// Returns whether the thread has ended and unlocked the file.
    pub(crate) const fn is_done(&self) -> bool {
        self.is_closed
    }
}

/// How often a book is tried to be stored by a node that stops.
const LAST_TRIES: u32 = 2;
