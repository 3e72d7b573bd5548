//! The table of a session's substreams.

use bytes::BytesMut;

use super::action::{Action, ResetCode};
use super::asked::Asked;
use super::outputs::Outputs;
use super::small_map::SmallMap;
use super::timers::Due;
use crate::id::{Counter, SubstreamId};
use crate::prelude::*;
use crate::time::Instant;
use crate::wire::{ProtocolId, StreamName};

/// All substreams of a session that it has not forgotten.
#[derive(Debug, Default)]
pub(super) struct Substreams {
    /// Boxed, because those that come and go would move the others.
    table: SmallMap<SubstreamId, Box<Substream>>,
    /// When a substream is given up, unless it gets beyond its stage. Most are beyond it, and every
    /// input looks here.
    deadlines: SmallMap<SubstreamId, Instant>,
    ids: Counter,
}

/// One substream.
#[derive(Debug)]
pub(super) struct Substream {
    pub(super) opener: Opener,
    pub(super) stage: Stage,
    /// Bytes of a name preamble that go out first.
    pub(super) preamble: BytesMut,
    /// It was proposed before the peer's handshake was known to be over.
    pub(super) is_early: bool,
    pub(super) read_ended: bool,
    pub(super) write: WriteHalf,
    /// The adapter is not to read.
    pub(super) paused: bool,
    /// The adapter was asked to write and has not yet been given "nothing more".
    pub(super) write_wanted: bool,
    /// What the adapter was asked for and has not answered.
    pub(super) asked: Asked,
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
            is_early: false,
            read_ended: false,
            write: WriteHalf::Open,
            paused: false,
            write_wanted: false,
            asked: Asked::default(),
        };
        self.table.insert(id, Box::new(substream));
        if let Some(deadline) = deadline {
            self.deadlines.insert(id, deadline);
        }
        id
    }

    /// Allocates an id for a substream that is not kept.
    pub(super) fn allocate(&mut self) -> SubstreamId {
        SubstreamId::new(self.ids.next())
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

    /// True if this side may still write messages on a substream.
    pub(super) fn is_writable(&self, id: SubstreamId) -> bool {
        self.get(id).is_some_and(Substream::is_writable)
    }

    /// Returns the substreams that wait for their stream to be prepared.
    pub(super) fn parked(&self) -> Vec<(SubstreamId, StreamName)> {
        let parked = self.iter().filter_map(|(id, substream)| match &substream.stage {
            Stage::Parked(name) => Some((id, name.clone())),
            _ => None,
        });
        parked.collect()
    }

    /// Returns how many substreams wait for their stream to be prepared.
    pub(super) fn count_parked(&self) -> usize {
        self.iter().filter(|(_, substream)| matches!(substream.stage, Stage::Parked(_))).count()
    }

    /// A substream serves a purpose, or waits for it without a deadline of its own.
    pub(super) fn move_to(&mut self, id: SubstreamId, stage: Stage) {
        if let Some(substream) = self.get_mut(id) {
            substream.stage = stage;
        }
        self.expect_nothing(id);
    }

    /// Something must arrive on a substream until then, or it is given up.
    pub(super) fn expect(&mut self, id: SubstreamId, deadline: Instant) {
        if self.table.contains_key(&id) {
            self.deadlines.insert(id, deadline);
        }
    }

    /// What was expected on a substream has arrived.
    pub(super) fn expect_nothing(&mut self, id: SubstreamId) {
        self.deadlines.remove(&id);
    }

    /// Returns the peer's substreams that serve a named stream.
    pub(super) fn peers_streams(&self) -> impl Iterator<Item = (SubstreamId, &StreamName)> {
        self.iter().filter_map(|(id, substream)| match (&substream.stage, substream.opener) {
            (Stage::Bound(Purpose::Stream(name)) | Stage::Parked(name), Opener::Peer) => {
                Some((id, name))
            }
            _ => None,
        })
    }

    /// Forgets all substreams but one, and has the adapter reset them.
    pub(super) fn reset_others(&mut self, kept: Option<SubstreamId>, out: &mut Outputs) {
        let others: Vec<SubstreamId> =
            self.table.keys().copied().filter(|id| Some(*id) != kept).collect();
        for id in others {
            self.reset(id, ResetCode::Closed, out);
        }
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.deadlines.clear();
    }

    /// Forgets a substream and has the adapter reset it.
    pub(super) fn reset(&mut self, id: SubstreamId, code: ResetCode, out: &mut Outputs) {
        if self.forget(id) {
            out.push_action(Action::Reset { substream: id, code });
        }
    }

    /// Forgets a substream of which both halves have ended. A refusal need not be acknowledged: a peer
    /// that has read it may reset its half.
    pub(super) fn forget_if_over(&mut self, id: SubstreamId) {
        let is_over = self.get(id).is_some_and(|substream| match substream.write {
            WriteHalf::Ended => substream.read_ended,
            WriteHalf::Finished => substream.read_ended && self.is_refused(id, substream),
            WriteHalf::Open | WriteHalf::Finishing => false,
        });
        if is_over {
            self.forget(id);
        }
    }

    /// True if a substream of the peer was refused, and only its end is awaited.
    fn is_refused(&self, id: SubstreamId, substream: &Substream) -> bool {
        matches!(substream.stage, Stage::Discarding { .. }) && self.deadlines.contains_key(&id)
    }

    /// Returns whether the substream was known.
    fn forget(&mut self, id: SubstreamId) -> bool {
        self.expect_nothing(id);
        self.table.remove(&id).is_some()
    }

    /// Asks the adapter to write, unless it was asked already.
    pub(super) fn want_write(&mut self, id: SubstreamId, out: &mut Outputs) {
        if let Some(substream) = self.table.get_mut(&id)
            && matches!(substream.write, WriteHalf::Open | WriteHalf::Finishing)
            && !substream.write_wanted
        {
            substream.write_wanted = true;
            out.push_action(Action::WantWrite(id));
        }
    }

    /// Asks the adapter to end this side's half behind what is queued.
    pub(super) fn finish(&mut self, id: SubstreamId, out: &mut Outputs) {
        if let Some(substream) = self.table.get_mut(&id)
            && substream.write == WriteHalf::Open
        {
            substream.write = WriteHalf::Finishing;
            out.push_action(Action::Finish(id));
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
        self.forget_if_over(id);
    }

    /// Reads on, on all substreams of named streams.
    pub(super) fn resume_streams(&mut self, out: &mut Outputs) {
        let is_bound = |it: &Substream| matches!(it.stage, Stage::Bound(Purpose::Stream(_)));
        let bound: Vec<SubstreamId> =
            self.iter().filter(|(_, it)| is_bound(it)).map(|(id, _)| id).collect();
        for id in bound {
            self.resume(id, out);
        }
    }

    /// Lets the adapter read again, if it was not to.
    pub(super) fn resume(&mut self, id: SubstreamId, out: &mut Outputs) {
        if let Some(substream) = self.table.get_mut(&id)
            && substream.paused
        {
            substream.paused = false;
            out.push_action(Action::ResumeRead(id));
        }
    }

    /// Returns the substreams whose time is up.
    pub(super) fn overdue(&self, now: Instant) -> Vec<SubstreamId> {
        self.deadlines.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<(Instant, Due<'_>)> {
        // Most often there is none.
        if self.deadlines.is_empty() {
            return None;
        }
        let (id, at) = self.deadlines.iter().min_by_key(|(_, at)| **at)?;
        Some((*at, Due::Negotiation(*id)))
    }

    /// The peer's handshake is over: what it has not answered yet it may have refused before.
    pub(super) fn handshake_ended_there(&mut self) {
        for substream in self.table.values_mut() {
            substream.is_early = substream.opener == Opener::Local;
        }
    }
}

impl Substream {
    /// True if this side may still write messages on it.
    pub(super) fn is_writable(&self) -> bool {
        self.write == WriteHalf::Open
    }

    /// Writes the name preamble, which goes out ahead of everything else.
    pub(super) fn write_preamble(&mut self, out: &mut BytesMut) {
        if !self.preamble.is_empty() {
            out.extend_from_slice(&self.preamble);
            self.preamble = BytesMut::new();
        }
    }

    /// The adapter is not to read until it is resumed.
    pub(super) const fn pause(&mut self) {
        self.paused = true;
    }

    /// The peer's half has ended.
    pub(super) const fn end_read(&mut self) {
        self.read_ended = true;
    }

    /// This side's half broke.
    pub(super) const fn end_write(&mut self) {
        self.write = WriteHalf::Ended;
    }

    /// The peer's transport has all of this side's half, and its end. Returns false if the half
    /// was not to end, or has ended before.
    pub(super) const fn acknowledge(&mut self) -> bool {
        let was_ending = matches!(self.write, WriteHalf::Finishing | WriteHalf::Finished);
        if was_ending {
            self.write = WriteHalf::Ended;
        }
        was_ending
    }
}
