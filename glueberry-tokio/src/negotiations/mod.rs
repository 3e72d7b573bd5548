//! What the substreams of one connection's peer may cost before it is known what they are for.
//!
//! | bound | of | beyond it |
//! |---|---|---|
//! | names refused, and bytes | one negotiation | it is broken off, and counted |
//! | negotiations at one time | the connection, fewer of a peer that has proven nothing | more wait |
//! | negotiations and refused names a second | the connection | more wait |
//!
//! To wait costs the peer time and nothing else. What is counted is reported to the session, which has its
//! own limit for it.

mod meter;
#[cfg(all(test, feature = "tokio"))]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant as StdInstant};

pub use self::meter::Negotiation;
use crate::mailbox::lock;
use crate::runtime::{Runtime, Timer};

/// The negotiations of one connection that its peer has begun.
pub struct Negotiations {
    runtime: Arc<dyn Runtime>,
    /// How many may be under way at a time.
    at_a_time: AtATime,
    /// How far ahead of its pace a peer may be.
    ahead: Duration,
    /// Read in every turn of the connection, without the lock.
    begun: AtomicU64,
    /// How many were broken off because they had no end.
    cut_off: AtomicU32,
    state: Mutex<State>,
}

/// How many negotiations may be under way.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "two numbers that must not be mistaken for each other"
)]
pub struct AtATime {
    /// Of a peer that has proven nothing.
    pub before_established: usize,
    /// Of one whose session is Established: as many as it may have substreams.
    pub established: usize,
}

struct State {
    is_established: bool,
    under_way: usize,
    /// When all that was answered has been paid for, at [`PER_ANSWER`].
    paid_at: StdInstant,
    /// Wakes who waits for that.
    timer: Box<dyn Timer>,
    /// Who waits for the end of another.
    waker: Option<Waker>,
}

impl Negotiations {
    /// Returns those of a connection that has just been made.
    pub fn new(runtime: &Arc<dyn Runtime>, at_a_time: AtATime) -> Arc<Self> {
        let burst = at_a_time.established.saturating_mul(PER_SUBSTREAM).max(LEAST_BURST);
        let state = State {
            is_established: false,
            under_way: 0,
            paid_at: runtime.now(),
            timer: runtime.timer(),
            waker: None,
        };
        Arc::new(Self {
            runtime: runtime.clone(),
            at_a_time,
            ahead: PER_ANSWER.saturating_mul(u32::try_from(burst).unwrap_or(u32::MAX)),
            begun: AtomicU64::new(0),
            cut_off: AtomicU32::new(0),
            state: Mutex::new(state),
        })
    }

    /// The peer has proven something.
    pub fn established(&self) {
        let mut state = self.lock();
        state.is_established = true;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// Ready if another negotiation may begin; else the task is woken.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let most = match state.is_established {
            true => self.at_a_time.established,
            false => self.at_a_time.before_established,
        };
        if state.under_way >= most {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.poll_pace(cx)
    }

    /// Ready unless the peer is ahead of its pace; else the task is woken. All that ask must be one task.
    pub fn poll_pace(&self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.runtime.now();
        let mut state = self.lock();
        let ahead = state.paid_at.saturating_duration_since(now);
        if ahead <= self.ahead {
            return Poll::Ready(());
        }
        state.timer.reset(now.checked_add(ahead - self.ahead));
        state.timer.poll(cx)
    }

    /// Begins another, of a substream that the peer has opened.
    pub fn begin(self: &Arc<Self>) -> Negotiation {
        self.lock().under_way += 1;
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.answers();
        Negotiation::of(self.clone())
    }

    /// Returns how many the peer has begun: each is a sign of life.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Returns how many were broken off because they had no end.
    pub fn cut_off(&self) -> u32 {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// Something is answered, which takes its time.
    fn answers(&self) {
        let now = self.runtime.now();
        let mut state = self.lock();
        if let Some(paid_at) = state.paid_at.max(now).checked_add(PER_ANSWER) {
            state.paid_at = paid_at;
        }
    }

    fn has_no_end(&self) {
        // A connection lives for far fewer of them than fit.
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self) {
        let mut state = self.lock();
        state.under_way = state.under_way.saturating_sub(1);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl fmt::Debug for Negotiations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negotiations")
            .field("under_way", &self.lock().under_way)
            .field("cut_off", &self.cut_off())
            .finish_non_exhaustive()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// What a peer is given for each substream, and for each name that is refused: 128 of them a second are
/// more than any honest peer needs in the long run, and cost this side next to nothing.
const PER_ANSWER: Duration = Duration::from_micros(7_812);
/// A peer may open all its substreams at once, and propose a few names on each.
const PER_SUBSTREAM: usize = 4;
const LEAST_BURST: usize = 256;
