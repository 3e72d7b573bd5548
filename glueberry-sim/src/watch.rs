//! Looking on, from another thread, whether a run still moves: a machine that never comes back can
//! be reported otherwise.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crate::check::{Invariant, Violation};
use crate::rng::{u64_of, usize_of};

/// What a run is doing.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    beats: AtomicU64,
    at: AtomicU64,
    host: AtomicU64,
}

impl Pulse {
    /// The next moment begins, in which something happens on a host.
    pub(crate) fn beat(&self, at: u64, host: usize) {
        self.at.store(at, Ordering::Relaxed);
        self.host.store(u64_of(host), Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until a moment takes too long, or the run is over.
    fn stops(&self, is_over: &AtomicBool, (look, patience): (Duration, u32)) -> Option<Violation> {
        let (mut last, mut looks) = (0, 0);
        while !is_over.load(Ordering::Acquire) {
            std::thread::park_timeout(look);
            let beats = self.beats.load(Ordering::Relaxed);
            looks = if beats == last { looks + 1 } else { 0 };
            last = beats;
            if looks >= patience && !is_over.load(Ordering::Acquire) {
                return Some(Violation {
                    invariant: Invariant::Returns,
                    at: self.at.load(Ordering::Relaxed),
                    host: usize_of(self.host.load(Ordering::Relaxed)),
                    fact: "a machine of this node was given an input".into(),
                    clash: format!("it has not come back for {:?}", look * patience),
                });
            }
        }
        None
    }
}

/// Does some work, and something else if that stops moving, which must end the process.
pub(crate) fn watched<T>(
    pulse: &Pulse,
    work: impl FnOnce() -> T,
    stuck: impl FnOnce(Violation) -> Infallible + Send,
) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            if let Some(violation) = pulse.stops(&is_over, (LOOK, PATIENCE)) {
                stuck(violation);
            }
        });
        // Even if the work panics.
        let _over = Over(&is_over, watcher.thread().clone());
        work()
    })
}

struct Over<'a>(&'a AtomicBool, Thread);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.unpark();
    }
}

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);
/// How often nothing may have moved: counted rather than timed, so that a computer that was asleep
/// finds no run stuck.
const PATIENCE: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stops_moving_is_found_and_who_is_done_is_not() {
        let pulse = Pulse::default();
        pulse.beat(7, 3);
        let is_over = AtomicBool::new(false);
        let found = pulse.stops(&is_over, (Duration::from_millis(1), 5)).unwrap();
        assert_eq!((found.invariant, found.at, found.host), (Invariant::Returns, 7, 3));
        is_over.store(true, Ordering::Release);
        assert_eq!(pulse.stops(&is_over, (Duration::from_millis(1), 5)), None);
    }

    #[test]
    fn work_is_done_while_it_is_watched() {
        assert_eq!(watched(&Pulse::default(), || 5, |violation| panic!("{violation}")), 5);
    }
}
