//! The messages of an inbox by peer: each peer has a share of the room, and of the reader.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use libp2p_identity::PeerId;

use crate::memory::{Charge, PeerMemory, cost};
use crate::message::Source;
use crate::waiters::{WaiterId, Waiters};

/// What waits for a reader, in one lane per peer.
///
/// The lanes that are in use have equal shares of the capacity. A lane that has nothing always gets
/// room for one message, so the capacity is exceeded by one message per peer at most. The reader
/// takes a few messages of each lane in turn.
#[derive(Debug)]
pub(super) struct Lanes {
    room: Room,
    /// Those in use, and a few that were, so that a message to a reader that waits needs no new one.
    table: BTreeMap<PeerId, Lane>,
    /// The peers that have messages, the next first.
    turns: VecDeque<PeerId>,
}

/// What the lanes share.
#[derive(Debug)]
struct Room {
    capacity: usize,
    /// Messages in all lanes, and room that is reserved in them.
    used: usize,
    /// Lanes with messages, reserved room, or writers that wait or have more to come.
    lanes: usize,
}

/// What waits of one peer, on all its streams.
#[derive(Debug, Default)]
struct Lane {
    /// None is empty.
    runs: VecDeque<Run>,
    /// Messages in all runs.
    len: usize,
    /// Room that writers have reserved and not filled yet.
    reserved: usize,
    /// Sessions that wait for room.
    writers: Waiters,
    /// How many writers have found less room than they had messages, and have not run out of them
    /// since. They have their share until then, though nothing of them may be here at times.
    short: usize,
}

/// What a writer of a lane waits for.
#[derive(Debug, Default)]
pub(super) struct Turn {
    id: Option<WaiterId>,
    /// It is one of those that the lane counts as short of room.
    is_short: bool,
}

/// Messages in the order of their arrival: where they come from is the same for many in a row, and
/// takes more room than most of them.
pub(super) struct Run {
    pub(super) source: Source,
    pub(super) data: VecDeque<Bytes>,
    /// What the messages occupy.
    bytes: usize,
    /// What is charged for them, which is changed less often.
    charge: Charge,
}

/// Without what messages hold.
impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("source", &self.source)
            .field("messages", &self.data.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Run {
    /// Charges messages, which occupy `bytes`, to their peer.
    pub(super) fn new(
        source: Source,
        data: VecDeque<Bytes>,
        bytes: usize,
        memory: &Arc<PeerMemory>,
    ) -> Self {
        Self { source, data, bytes, charge: Charge::new(memory.clone(), bytes) }
    }

    /// Removes the first message.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let data = self.data.pop_front()?;
        self.bytes -= cost(data.len());
        self.charge.lower_to(self.bytes);
        Some(data)
    }

    /// Removes the first messages, `limit` at most, and passes them on. Returns how many.
    pub(super) fn take(&mut self, limit: usize, pass: &mut impl FnMut(&Source, Bytes)) -> usize {
        let count = self.data.len().min(limit);
        for data in self.data.drain(..count) {
            self.bytes -= cost(data.len());
            pass(&self.source, data);
        }
        self.charge.lower_to(self.bytes);
        count
    }

    /// Removes the first messages, with what is charged for them.
    fn split_off(&mut self, count: usize) -> Self {
        let data: VecDeque<Bytes> = self.data.drain(..count).collect();
        let bytes = data.iter().map(|message| cost(message.len())).sum();
        self.bytes -= bytes;
        Self { source: self.source.clone(), data, bytes, charge: self.charge.split_off(bytes) }
    }
}

impl Turn {
    /// True if the lane knows nothing of the writer.
    pub(super) const fn is_idle(&self) -> bool {
        self.id.is_none() && !self.is_short
    }
}

impl Lanes {
    pub(super) const fn new(capacity: usize) -> Self {
        let room = Room { capacity, used: 0, lanes: 0 };
        Self { room, table: BTreeMap::new(), turns: VecDeque::new() }
    }

    /// True if there is no message.
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// True if there is no message, and no writer that has more.
    pub(super) const fn is_unused(&self) -> bool {
        self.room.lanes == 0
    }

    // ---- for writers --------------------------------------------------------------------------

    /// Reserves room for a peer's messages, at most as much as is asked for. Returns how much.
    pub(super) fn reserve(&mut self, peer: PeerId, wanted: usize) -> usize {
        self.change(peer, |lane, room, _| {
            let reserved = room.of(lane).min(wanted);
            room.used += reserved;
            lane.reserved += reserved;
            reserved
        })
    }

    /// Fills room that was reserved, and gives back the rest. Returns the writers to wake.
    pub(super) fn push(
        &mut self,
        peer: PeerId,
        turn: &mut Turn,
        reserved: usize,
        run: Option<Run>,
    ) -> Vec<Waker> {
        self.change(peer, |lane, room, turns| {
            if run.as_ref().is_none_or(|run| run.data.len() < reserved) {
                lane.has_run_out(turn);
            }
            lane.reserved = lane.reserved.saturating_sub(reserved);
            room.used = room.used.saturating_sub(reserved);
            if let Some(run) = run {
                if lane.len == 0 {
                    turns.push_back(peer);
                }
                lane.len += run.data.len();
                room.used += run.data.len();
                lane.runs.push_back(run);
            }
            room.writers_of(lane)
        })
    }

    /// Has the caller woken when there is room for the peer's messages.
    pub(super) fn wait(&mut self, peer: PeerId, turn: &mut Turn, cx: &Context<'_>) {
        self.change(peer, |lane, _, _| {
            lane.short += usize::from(!turn.is_short);
            turn.is_short = true;
            lane.writers.register(&mut turn.id, cx);
        });
    }

    /// Removes a writer that waits, or was woken and does not come back.
    pub(super) fn stop_waiting(&mut self, peer: PeerId, turn: &mut Turn) -> Option<Waker> {
        self.change(peer, |lane, _, _| {
            lane.has_run_out(turn);
            turn.id.take().and_then(|id| lane.writers.remove(id))
        })
    }

    /// Takes the writers of a peer, or of all, to be woken. Their lanes stay in use.
    pub(super) fn take_writers(&mut self, of: Option<PeerId>) -> Vec<Waker> {
        let lanes = self.table.iter_mut().filter(|(peer, _)| of.is_none_or(|of| of == **peer));
        let writers = lanes.flat_map(|(_, lane)| lane.writers.take()).collect();
        self.recount();
        writers
    }

    // ---- for the reader -----------------------------------------------------------------------

    /// Moves the next messages to `batch`, `limit` at most: some of each lane, in turn. Returns the
    /// writers to wake.
    pub(super) fn take(&mut self, limit: usize, batch: &mut VecDeque<Run>) -> Vec<Waker> {
        let (mut writers, mut left) = (Vec::new(), limit);
        while left > 0
            && let Some(peer) = self.turns.pop_front()
        {
            let is_alone = self.turns.is_empty();
            writers.extend(self.change(peer, |lane, room, turns| {
                let run = lane.pop(if is_alone { left } else { left.min(TURN) });
                let taken = run.as_ref().map_or(0, |run| run.data.len());
                (room.used, left) = (room.used.saturating_sub(taken), left - taken);
                batch.extend(run);
                if lane.len > 0 {
                    turns.push_back(peer);
                }
                room.writers_of(lane)
            }));
        }
        writers
    }

    /// Forgets everything. Returns the messages, to be dropped without a lock, and all writers.
    pub(super) fn clear(&mut self) -> (Vec<VecDeque<Run>>, Vec<Waker>) {
        let (mut messages, mut writers) = (Vec::new(), Vec::new());
        for lane in self.table.values_mut() {
            self.room.used = self.room.used.saturating_sub(lane.len);
            lane.len = 0;
            messages.push(std::mem::take(&mut lane.runs));
            writers.extend(lane.writers.take());
            lane.short = 0;
        }
        self.turns.clear();
        self.recount();
        (messages, writers)
    }

    // ---- parts --------------------------------------------------------------------------------

    /// Counts the lanes in use, after a change of many.
    fn recount(&mut self) {
        self.table.retain(|_, lane| lane.is_used());
        self.room.lanes = self.table.len();
    }

    /// Changes a lane, and keeps count of those in use.
    fn change<T>(
        &mut self,
        peer: PeerId,
        change: impl FnOnce(&mut Lane, &mut Room, &mut VecDeque<PeerId>) -> T,
    ) -> T {
        let lane = self.table.entry(peer).or_default();
        let was_used = lane.is_used();
        // Its share is that of one in use.
        self.room.lanes += usize::from(!was_used);
        let result = change(lane, &mut self.room, &mut self.turns);
        if !lane.is_used() {
            self.room.lanes -= 1;
            lane.shrink();
            if self.table.len() > IDLE_LANES {
                self.table.remove(&peer);
            }
        }
        result
    }
}

impl Room {
    /// Returns how many more messages a lane has room for.
    fn of(&self, lane: &Lane) -> usize {
        let used = lane.used();
        let free = self.capacity.saturating_sub(self.used);
        let room = free.min(self.share().saturating_sub(used));
        if used == 0 { room.max(1) } else { room }
    }

    /// Returns a lane's share of the capacity.
    fn share(&self) -> usize {
        (self.capacity / self.lanes.max(1)).max(1)
    }

    /// Returns the writers of a lane to wake, if it has room that is worth it.
    fn writers_of(&self, lane: &mut Lane) -> Vec<Waker> {
        let worthwhile = self.share().div_ceil(2).min(WORTHWHILE);
        // Nothing else would wake the writers of a lane that is empty.
        let is_due = lane.used() == 0 || self.of(lane) >= worthwhile;
        if is_due { lane.writers.take() } else { Vec::new() }
    }
}

impl Lane {
    const fn used(&self) -> usize {
        self.len + self.reserved
    }

    fn is_used(&self) -> bool {
        self.used() > 0 || !self.writers.is_empty() || self.short > 0
    }

    /// One that is not in use keeps little.
    fn shrink(&mut self) {
        if self.runs.capacity() > IDLE_RUNS {
            self.runs = VecDeque::new();
        }
    }

    /// A writer has no more messages.
    const fn has_run_out(&mut self, turn: &mut Turn) {
        if turn.is_short {
            turn.is_short = false;
            self.short = self.short.saturating_sub(1);
        }
    }

    /// Removes the next messages that have one source, at most `limit`.
    fn pop(&mut self, limit: usize) -> Option<Run> {
        let run = self.runs.front_mut()?;
        let run = match run.data.len() <= limit {
            true => self.runs.pop_front()?,
            false => run.split_off(limit),
        };
        self.len -= run.data.len();
        Some(run)
    }
}

/// Messages of one peer that are handed out before another peer has its turn.
const TURN: usize = 4;
/// Room for which it is worth to wake a writer.
const WORTHWHILE: usize = 64;
/// Lanes that are kept though they are not in use.
const IDLE_LANES: usize = 4;
/// Runs that a queue of them keeps room for while it is empty.
pub(super) const IDLE_RUNS: usize = 4;

#[cfg(test)]
mod tests;
