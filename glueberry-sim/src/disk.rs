//! A host's disk: the address book that it has, and the save that is under way.

use glueberry_proto::book::Book;

use crate::plan::Disk;
use crate::rng::Rng;

/// The address book of one host, as its disk has it.
#[derive(Debug, Default)]
pub(crate) struct BookFile {
    current: Option<Book>,
    previous: Option<Book>,
    saving: Option<Save>,
    /// What it held was damaged before.
    pub(crate) was_damaged: bool,
}

/// A save under way.
#[derive(Debug)]
struct Save {
    /// Which life of the host has asked for it.
    life: u64,
    book: Book,
}

impl BookFile {
    /// Begins to store a book.
    pub(crate) fn begin_save(&mut self, life: u64, book: Book) {
        self.saving = Some(Save { life, book });
    }

    /// Returns whether a book is being stored.
    pub(crate) const fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Ends the save of a life of the host, and returns its book to be [stored](Self::store) if the
    /// disk is not full.
    pub(crate) fn end_save(&mut self, life: u64) -> Option<Book> {
        self.saving.take_if(|save| save.life == life).map(|save| save.book)
    }

    /// Puts a book in place of the one before.
    pub(crate) fn store(&mut self, book: Book) {
        self.previous = self.current.replace(book);
    }

    /// Cuts off the save of a process that is killed: its book is stored, or not.
    pub(crate) fn cut(&mut self, rng: &mut Rng) {
        if let Some(save) = self.saving.take()
            && rng.chance(500)
        {
            self.store(save.book);
        }
    }

    /// Returns the book that is stored.
    pub(crate) const fn current(&self) -> Option<&Book> {
        self.current.as_ref()
    }

    /// Returns the book that is read after a crash. What is lost then stays so.
    pub(crate) fn after_crash(&mut self, left: Disk) -> Option<Book> {
        match left {
            Disk::Lost => self.current = None,
            Disk::Stale => self.current.clone_from(&self.previous),
            Disk::Torn | Disk::Flipped => self.was_damaged |= self.current.is_some(),
            Disk::Intact => {}
        }
        self.current.clone()
    }
}
