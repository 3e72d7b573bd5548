//! The table of a session's substreams.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::action::{Action, ResetCode};
use super::outputs::Outputs;
use crate::id::{Counter, SubstreamId};
use crate::time::Instant;
use crate::wire::{ProtocolId, StreamName};

/// All substreams of a session that it has not forgotten.
#[derive(Debug, Default)]
pub(super) struct Substreams {
    /// Boxed, because a map of few entries keeps room for many.
    table: BTreeMap<SubstreamId, Box<Substream>>,
    ids: Counter,
}

/// One substream.
#[derive(Debug)]
pub(super) struct Substream {
    pub(super) opener: Opener,
    pub(super) stage: Stage,
    /// Bytes of a name preamble that go out first.
    pub(super) preamble: BytesMut,
    pub(super) read_ended: bool,
    pub(super) write: WriteHalf,
    /// The adapter was told not to read.
    pub(super) paused: bool,
    /// The adapter was told to write and has not yet been given "nothing more".
    pub(super) write_wanted: bool,
    /// When it is given up, unless it gets beyond its stage.
    pub(super) deadline: Option<Instant>,
}

/// Which side opened a substream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opener {
    Local,
    Peer,
}

/// How far a substream has come.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// The adapter is opening it.
    Opening { purpose: Purpose, proposals: Vec<ProtocolId> },
    /// The first of the proposals was written as a preamble.
    Proposing { purpose: Purpose, proposals: Vec<ProtocolId> },
    /// The peer's preamble is awaited.
    Answering,
    /// It arrived before its stream was prepared, and is left unread.
    Parked(StreamName),
    /// It serves its purpose.
    Bound(Purpose),
    /// What still arrives on it is dropped.
    Discarding { seen: usize },
}

/// What a substream is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Handshake,
    Stream(StreamName),
    /// To learn whether the peer answers.
    Probe,
}

/// This side's half of a substream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteHalf {
    Open,
    /// To be ended behind what is queued.
    Finishing,
    /// Behind all that was handed out; nothing more is.
    Finished,
    /// Acknowledged by the peer, or broken.
    Ended,
}

impl Substreams {
    /// Allocates a substream.
    pub(super) fn insert(
        &mut self,
        opener: Opener,
        stage: Stage,
        deadline: Option<Instant>,
    ) -> SubstreamId {
        let id = self.allocate();
        let substream = Substream {
            opener,
            stage,
            preamble: BytesMut::new(),
            read_ended: false,
            write: WriteHalf::Open,
            paused: false,
            write_wanted: false,
            deadline,
        };
        self.table.insert(id, Box::new(substream));
        id
    }

    /// Allocates an id for a substream that is not kept.
    pub(super) fn allocate(&mut self) -> SubstreamId {
        SubstreamId::new(self.ids.next())
    }

    /// Allocates the same id again, which is a fault.
    pub(super) fn repeat_id(&mut self) {
        self.ids = Counter::default();
    }

    pub(super) fn get(&self, id: SubstreamId) -> Option<&Substream> {
        self.table.get(&id).map(|substream| &**substream)
    }

    pub(super) fn get_mut(&mut self, id: SubstreamId) -> Option<&mut Substream> {
        self.table.get_mut(&id).map(|substream| &mut **substream)
    }

    pub(super) fn opened_by(&self, opener: Opener) -> usize {
        self.table.values().filter(|substream| substream.opener == opener).count()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SubstreamId, &Substream)> {
        self.table.iter().map(|(id, substream)| (*id, &**substream))
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
    }

    /// Forgets a substream and has the adapter reset it.
    pub(super) fn reset(&mut self, id: SubstreamId, code: ResetCode, out: &mut Outputs) {
        if self.table.remove(&id).is_some() {
            out.act(Action::Reset { substream: id, code });
        }
    }

    /// Forgets a substream of which both halves have ended.
    pub(super) fn forget_if_over(&mut self, id: SubstreamId) {
        let over = self
            .get(id)
            .is_some_and(|substream| substream.read_ended && substream.write == WriteHalf::Ended);
        if over {
            self.table.remove(&id);
        }
    }

    /// Asks the adapter to write, unless it was asked already.
    pub(super) fn want_write(&mut self, id: SubstreamId, out: &mut Outputs) {
        if let Some(substream) = self.table.get_mut(&id)
            && matches!(substream.write, WriteHalf::Open | WriteHalf::Finishing)
            && !substream.write_wanted
        {
            substream.write_wanted = true;
            out.act(Action::WantWrite(id));
        }
    }

    /// Asks the adapter to end this side's half behind what is queued.
    pub(super) fn finish(&mut self, id: SubstreamId, out: &mut Outputs) {
        if let Some(substream) = self.table.get_mut(&id)
            && substream.write == WriteHalf::Open
        {
            substream.write = WriteHalf::Finishing;
            out.act(Action::Finish(id));
        }
    }

    /// The adapter was given nothing to write, and so ends a half that was to be finished.
    pub(super) fn written_out(&mut self, id: SubstreamId) {
        if let Some(substream) = self.table.get_mut(&id) {
            substream.write_wanted = false;
            if substream.write == WriteHalf::Finishing {
                substream.write = WriteHalf::Finished;
            }
        }
    }

    /// Lets the adapter read again, if it was told not to.
    pub(super) fn resume(&mut self, id: SubstreamId, out: &mut Outputs) {
        if let Some(substream) = self.table.get_mut(&id)
            && substream.paused
        {
            substream.paused = false;
            out.act(Action::ResumeRead(id));
        }
    }

    /// Returns the substreams whose time is up.
    pub(super) fn overdue(&self, now: Instant) -> Vec<SubstreamId> {
        let is_due = |substream: &Substream| substream.deadline.is_some_and(|at| at <= now);
        self.iter().filter(|(_, substream)| is_due(substream)).map(|(id, _)| id).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.table.values().filter_map(|substream| substream.deadline).min()
    }
}

impl Substream {
    /// Returns whether this side may still write messages on it.
    pub(super) fn is_writable(&self) -> bool {
        self.write == WriteHalf::Open
    }
}
