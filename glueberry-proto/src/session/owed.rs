//! What the adapter was asked for and has not answered.

use super::Session;
use super::action::Action;
use super::asked::Asked;
use super::substreams::{Stage, Substream, Substreams, WriteHalf};
use crate::id::SubstreamId;
use crate::owed::{Owed, Waiting};
use crate::prelude::*;
use crate::time::Instant;

impl Session {
    /// Returns what the driver owes: what it was asked for and has not answered, the oldest first. An
    /// entry that stays is where a stall comes from. A debugging aid: nothing follows from it.
    ///
    /// While the transport takes no bytes, [`Waiting::Write`] is among them though the driver has done
    /// nothing wrong, if the session has asked since.
    pub fn owed(&self) -> Vec<Owed> {
        let mut owed = Vec::new();
        let count = self.out.waiting();
        if count > 0 {
            owed.push(Owed::new(Waiting::Actions { count }, self.debts.taken_at));
        }
        for (id, substream) in self.substreams.iter() {
            owed.extend(substream.owed(id));
        }
        owed.sort_by_key(|it| it.since);
        owed
    }

    /// Takes note of an action that was taken, or that there was none.
    pub(super) fn note_asked(&mut self, action: Option<&Action>) {
        let now = Some(self.now);
        let (id, set): (_, fn(&mut Asked) -> &mut Option<Instant>) = match action {
            None => return self.debts.taken_at = self.now,
            Some(Action::OpenSubstream { substream, .. }) => (substream, |it| &mut it.open),
            Some(Action::WantWrite(id)) => (id, |it| &mut it.write),
            Some(Action::ResumeRead(id)) => (id, |it| &mut it.read),
            Some(Action::Finish(id)) => (id, |it| &mut it.finish),
            Some(Action::Reset { .. } | Action::Forward(_) | Action::CloseConnection { .. }) => {
                return;
            }
        };
        if let Some(substream) = self.substreams.get_mut(*id) {
            *set(&mut substream.asked) = now;
        }
    }

    /// Something is overdue: takes note of what may be the cause.
    pub(super) fn note_blamed(&mut self) {
        let oldest = self.owed().first().copied();
        self.debts.blamed = oldest.or(self.debts.blamed);
    }

    /// Returns what may be why something did not come in time.
    pub(super) fn blamed(&self) -> Option<Owed> {
        let oldest = self.owed().first().copied();
        [self.debts.blamed, oldest].into_iter().flatten().min_by_key(|it| it.since)
    }
}

impl Substreams {
    /// The adapter has asked for bytes to write.
    pub(super) fn note_written(&mut self, id: SubstreamId) {
        if let Some(substream) = self.get_mut(id) {
            substream.asked.write = None;
        }
    }

    /// The adapter has handed in bytes that it has read.
    pub(super) fn note_read(&mut self, id: SubstreamId) {
        if let Some(substream) = self.get_mut(id) {
            substream.asked.read = None;
        }
    }
}

impl Substream {
    /// Returns what was asked for and is still to be done.
    fn owed(&self, id: SubstreamId) -> impl Iterator<Item = Owed> {
        let Asked { open, write, read, finish } = self.asked;
        let is_opening = matches!(self.stage, Stage::Opening { .. });
        let is_finishing = matches!(self.write, WriteHalf::Finishing | WriteHalf::Finished);
        let owed = [
            (open.filter(|_| is_opening), Waiting::Opened(id)),
            (write.filter(|_| self.write_wanted), Waiting::Write(id)),
            (read.filter(|_| !self.read_ended), Waiting::Read(id)),
            (finish.filter(|_| is_finishing), Waiting::Acknowledged(id)),
        ];
        owed.into_iter().filter_map(|(since, waiting)| Some(Owed::new(waiting, since?)))
    }
}
