//! In which order the instances of one direction of a stream are read (WIRE.md §8.7).

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use super::violation::Violation;
use crate::id::SubstreamId;
use crate::time::Instant;

/// The instances of one direction of a stream that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// The lowest instance that has neither begun nor been skipped.
    turn: u64,
    reading: Option<(u32, SubstreamId)>,
    /// Later ones, of which nothing is read.
    parked: BTreeMap<u32, SubstreamId>,
    /// Those that the sender doesn't want to be waited for.
    abandoned: BTreeSet<u32>,
    /// Since when a parked one waits for what was not read in the meantime.
    waits_since: Option<Instant>,
    /// This side is not ready to read on.
    is_paused: bool,
}

/// What is to be done with a substream whose instance is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It waits for its turn; [`Order::next`] tells when that has come.
    Wait,
    /// It was skipped, or is over.
    Stale,
    /// Too many wait.
    TooMany,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This substream is read from now on.
    Begin(u32, SubstreamId),
    /// An instance will not be read.
    Skip,
}

impl Order {
    /// A substream carries this instance.
    pub(crate) fn arrived(
        &mut self,
        instance: u32,
        substream: SubstreamId,
        now: Instant,
    ) -> Result<Verdict, Violation> {
        let is_read = self.reading.is_some_and(|(reading, _)| reading == instance);
        if is_read || self.parked.contains_key(&instance) {
            return Err(Violation::Instance);
        }
        let Some(ahead) = u64::from(instance).checked_sub(self.turn) else {
            return Ok(Verdict::Stale);
        };
        if ahead > MAX_AHEAD {
            return Err(Violation::Instance);
        }
        let begins = ahead == 0 && self.reading.is_none();
        if !begins && self.parked.len() >= MAX_PARKED {
            return Ok(Verdict::TooMany);
        }
        if !begins {
            self.waits_since.get_or_insert(now);
        }
        self.parked.insert(instance, substream);
        Ok(Verdict::Wait)
    }

    /// The sender doesn't want an instance to be waited for.
    pub(crate) fn abandon(&mut self, instance: u32) -> Result<(), Violation> {
        let Some(ahead) = u64::from(instance).checked_sub(self.turn) else {
            return Ok(());
        };
        if self.parked.contains_key(&instance) {
            return Ok(());
        }
        if ahead > MAX_AHEAD {
            return Err(Violation::Instance);
        }
        self.abandoned.insert(instance);
        if self.abandoned.len() > MAX_ABANDONED {
            self.abandoned.pop_last();
        }
        Ok(())
    }

    /// The instance that was read has ended.
    pub(crate) fn ended(&mut self, now: Instant) {
        self.reading = None;
        if self.waits_since.is_some() {
            self.waits_since = Some(now);
        }
    }

    /// Something was read, after which this side is ready to read on, or is not: then the time of a
    /// parked instance does not run.
    pub(crate) fn progressed(&mut self, is_paused: bool, now: Instant) {
        self.is_paused = is_paused;
        if self.waits_since.is_some() {
            self.waits_since = Some(now);
        }
    }

    /// Returns what comes next, until nothing does.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Next> {
        if self.reading.is_some() {
            return None;
        }
        let turn = u32::try_from(self.turn).ok()?;
        if let Some(substream) = self.parked.remove(&turn) {
            if self.parked.is_empty() {
                // An empty map may keep room for many.
                self.parked = BTreeMap::new();
            }
            // It has come all the same. What is remembered of others has its places.
            self.abandoned.remove(&turn);
            self.reading = Some((turn, substream));
            self.is_paused = false;
            self.turn += 1;
            self.waits_since = if self.parked.is_empty() { None } else { Some(now) };
            return Some(Next::Begin(turn, substream));
        }
        let is_waited_for = self.waits_until().is_none_or(|until| until > now);
        if self.abandoned.remove(&turn) || !is_waited_for {
            self.turn += 1;
            return Some(Next::Skip);
        }
        None
    }

    /// Returns until when a parked instance waits: then the one that is read is given up, or those
    /// that have not come are.
    pub(crate) fn waits_until(&self) -> Option<Instant> {
        let since = self.waits_since.filter(|_| self.reading.is_none() || !self.is_paused)?;
        Some(since + PATIENCE)
    }

    /// Returns the substream that is read.
    pub(crate) fn reading(&self) -> Option<SubstreamId> {
        self.reading.map(|(_, substream)| substream)
    }

    /// True if a substream waits for its turn.
    pub(crate) fn is_parked(&self, substream: SubstreamId) -> bool {
        self.parked.values().any(|parked| *parked == substream)
    }
}

/// Instances that wait for their turn.
const MAX_PARKED: usize = 2;
/// How far ahead of its turn an instance may be: each that is skipped costs a derivation.
const MAX_AHEAD: u64 = 1023;
/// Abandoned instances that are remembered.
const MAX_ABANDONED: usize = 8;
/// How long a parked instance waits.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u64) -> SubstreamId {
        SubstreamId::new(id)
    }

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    /// Takes all that comes next, and returns what begins.
    fn settle(order: &mut Order, now: Instant) -> Option<u32> {
        loop {
            match order.next(now) {
                Some(Next::Begin(instance, _)) => return Some(instance),
                Some(Next::Skip) => {}
                None => return None,
            }
        }
    }

    fn arrive(order: &mut Order, instance: u32, now: Instant) -> Result<Verdict, Violation> {
        order.arrived(instance, id(instance.into()), now)
    }

    #[test]
    fn instances_are_read_one_behind_the_other() {
        let mut order = Order::default();
        let now = at(0);
        assert_eq!(arrive(&mut order, 1, now), Ok(Verdict::Wait));
        assert_eq!(settle(&mut order, now), None);
        assert_eq!(arrive(&mut order, 0, now), Ok(Verdict::Wait));
        assert_eq!(settle(&mut order, now), Some(0));
        assert_eq!(settle(&mut order, now), None);
        order.ended(now);
        assert_eq!(settle(&mut order, now), Some(1));
        order.ended(now);
        assert_eq!(settle(&mut order, now), None);
        assert_eq!(order.waits_until(), None);
    }

    #[test]
    fn the_table_of_arrivals() {
        let mut order = Order::default();
        let now = at(0);
        assert_eq!(arrive(&mut order, 0, now), Ok(Verdict::Wait));
        assert_eq!(settle(&mut order, now), Some(0));
        assert_eq!(arrive(&mut order, 0, now), Err(Violation::Instance), "is being read");
        assert_eq!(arrive(&mut order, 1, now), Ok(Verdict::Wait));
        assert_eq!(arrive(&mut order, 1, now), Err(Violation::Instance), "is parked");
        assert_eq!(arrive(&mut order, 1024, now), Ok(Verdict::Wait), "1023 ahead");
        assert_eq!(arrive(&mut order, 1025, now), Err(Violation::Instance), "1024 ahead");
        assert_eq!(arrive(&mut order, 2, now), Ok(Verdict::TooMany));
        order.ended(now);
        assert_eq!(settle(&mut order, now), Some(1));
        assert_eq!(arrive(&mut order, 0, now), Ok(Verdict::Stale), "is over");
    }

    /// The sender tells of it on another substream, which may be ahead.
    #[test]
    fn what_was_abandoned_and_arrives_all_the_same_leaves_nothing_behind() {
        let mut order = Order::default();
        let now = at(0);
        for instance in 0..3 * u32::try_from(MAX_ABANDONED).unwrap() {
            assert_eq!(arrive(&mut order, 2 * instance, now), Ok(Verdict::Wait));
            assert_eq!(settle(&mut order, now), Some(2 * instance));
            assert_eq!(order.abandon(2 * instance + 1), Ok(()));
            assert_eq!(arrive(&mut order, 2 * instance + 1, now), Ok(Verdict::Wait));
            order.ended(now);
            assert_eq!(settle(&mut order, now), Some(2 * instance + 1));
            order.ended(now);
        }
        let turn = 6 * u32::try_from(MAX_ABANDONED).unwrap();
        assert_eq!(order.abandon(turn), Ok(()));
        assert_eq!(arrive(&mut order, turn + 1, now), Ok(Verdict::Wait));
        assert_eq!(settle(&mut order, now), Some(turn + 1), "it is not waited for");
    }

    #[test]
    fn what_was_abandoned_is_skipped() {
        let mut order = Order::default();
        let now = at(0);
        assert_eq!(order.abandon(0), Ok(()));
        assert_eq!(settle(&mut order, now), None);
        assert_eq!(arrive(&mut order, 0, now), Ok(Verdict::Stale));
        assert_eq!(arrive(&mut order, 1, now), Ok(Verdict::Wait));
        assert_eq!(settle(&mut order, now), Some(1));
        assert_eq!(order.abandon(1), Ok(()), "has begun");
        assert_eq!(order.abandon(2 + 1023), Ok(()));
        assert_eq!(order.abandon(2 + 1024), Err(Violation::Instance));
        for instance in (2..20).rev() {
            assert_eq!(order.abandon(instance), Ok(()));
        }
        assert_eq!(order.abandoned.len(), MAX_ABANDONED);
        assert!(order.abandoned.contains(&2), "the highest are forgotten");
    }

    #[test]
    fn a_parked_one_waits_ten_seconds_for_what_has_not_come() {
        let mut order = Order::default();
        assert_eq!(arrive(&mut order, 3, at(1)), Ok(Verdict::Wait));
        assert_eq!(order.waits_until(), Some(at(11)));
        assert_eq!(settle(&mut order, at(10)), None);
        assert_eq!(settle(&mut order, at(11)), Some(3));
        assert_eq!(order.waits_until(), None);
        // The wait begins anew when the one that was read has ended.
        assert_eq!(arrive(&mut order, 5, at(12)), Ok(Verdict::Wait));
        order.progressed(true, at(13));
        assert_eq!(order.waits_until(), None);
        order.progressed(false, at(15));
        assert_eq!(order.waits_until(), Some(at(25)));
        order.ended(at(20));
        assert_eq!(settle(&mut order, at(29)), None);
        assert_eq!(settle(&mut order, at(30)), Some(5));
    }
}
