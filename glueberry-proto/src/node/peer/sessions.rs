//! The sessions of a peer besides the current one.

use crate::id::SessionId;
use crate::prelude::*;
use crate::session::Direction;
use crate::time::{Instant, earliest};
use crate::wire::Profile;

/// A session that may become the current one, or is ending.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionRecord {
    pub(super) id: SessionId,
    pub(super) direction: Direction,
    pub(super) stage: Stage,
    /// Of the handshake substream that is agreed.
    pub(super) profile: Option<Profile>,
    /// It has no handshake substream any more.
    pub(super) is_handshake_lost: bool,
    /// The session of v2 that the peer had confirmed when this one began.
    pub(super) follows: Option<SessionId>,
}

/// How far a session is that is not the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No handshake substream is agreed. The session ends at the deadline.
    Negotiating { deadline: Instant },
    /// A handshake substream is agreed. The session ends at the deadline unless it has become
    /// current.
    Agreed { deadline: Instant },
    /// It was current, and has handed on what was said. It may become current again, and ends with
    /// its connection.
    Yielded,
    /// It was asked to end; with `drains`, after what was queued has been sent.
    Ending { drains: bool },
}

impl SessionRecord {
    /// True if the peer may be a Go node, which has one handshake substream for all its sessions.
    pub(super) fn keeps_one_handshake(&self) -> bool {
        self.profile.is_some_and(Profile::keeps_one_handshake)
    }

    pub(super) const fn is_agreed(&self) -> bool {
        matches!(self.stage, Stage::Agreed { .. } | Stage::Yielded)
    }

    pub(super) fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending { .. })
    }

    /// True if it still sends what was queued when it was asked to end.
    pub(super) fn is_draining(&self) -> bool {
        self.stage == Stage::Ending { drains: true }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Negotiating { deadline } | Stage::Agreed { deadline } => Some(deadline),
            Stage::Yielded | Stage::Ending { .. } => None,
        }
    }
}

/// The sessions of a peer besides the current one, which are few, in order of their ids.
#[derive(Debug, Default)]
pub(super) struct OtherSessions {
    records: Vec<SessionRecord>,
    /// Until when those that could become current wait for one that the peer is about to open, and
    /// that would be preferred.
    pub(super) hold: Option<Instant>,
}

impl OtherSessions {
    pub(super) fn insert(&mut self, record: SessionRecord) {
        let at = self.records.partition_point(|other| other.id < record.id);
        self.records.insert(at, record);
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<SessionRecord> {
        let at = self.records.iter().position(|record| record.id == id)?;
        let record = self.records.remove(at);
        if self.records.is_empty() {
            // Most peers have none but the current one, for as long as they are connected.
            self.records = Vec::new();
        }
        self.note_waiting();
        Some(record)
    }

    /// Marks a session as ending at once. Returns whether there is one.
    pub(super) fn end(&mut self, id: SessionId) -> bool {
        let record = self.get_mut(id);
        let is_known =
            record.map(|record| record.stage = Stage::Ending { drains: false }).is_some();
        self.note_waiting();
        is_known
    }

    /// A session no longer waits: if it was the last, neither does the next one that will.
    fn note_waiting(&mut self) {
        if self.agreed().next().is_none() {
            self.hold = None;
        }
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut SessionRecord> {
        self.records.iter_mut().find(|record| record.id == id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SessionRecord> {
        self.records.iter()
    }

    /// Returns the sessions that were not asked to end.
    pub(super) fn live(&self) -> impl Iterator<Item = &SessionRecord> {
        self.iter().filter(|record| !record.is_ending())
    }

    /// Returns the sessions that could become current.
    pub(super) fn agreed(&self) -> impl Iterator<Item = &SessionRecord> {
        self.iter().filter(|record| record.is_agreed())
    }

    /// Returns the sessions of which nothing was heard, each with its deadline.
    pub(super) fn negotiating(&self) -> impl Iterator<Item = (SessionId, Direction, Instant)> {
        self.records.iter().filter_map(|it| match it.stage {
            Stage::Negotiating { deadline } => Some((it.id, it.direction, deadline)),
            _ => None,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Marks every session as ending. Returns those to ask: all but those that were asked before
    /// and may still send what is queued.
    pub(super) fn end_all(&mut self, drain: bool) -> Vec<SessionId> {
        let mut ending = Vec::new();
        for record in self.records.iter_mut().filter(|record| !record.is_ending() || !drain) {
            record.stage = Stage::Ending { drains: drain };
            ending.push(record.id);
        }
        self.note_waiting();
        ending
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.records.iter().map(SessionRecord::deadline).fold(None, earliest)
    }

    /// Returns the sessions that are overdue.
    pub(super) fn overdue(&self, now: Instant) -> Vec<SessionRecord> {
        let is_overdue =
            |record: &&SessionRecord| record.deadline().is_some_and(|deadline| deadline <= now);
        self.records.iter().filter(is_overdue).copied().collect()
    }
}
