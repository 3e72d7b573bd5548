//! Closing connections so that peers learn of it before the sockets are closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::VarInt;

use crate::runtime::{Runtime, Timer};

/// The connections that have to be closed before the sockets.
#[derive(Debug, Default)]
pub(crate) struct AllClosing {
    open: AtomicUsize,
    /// The longest round trip of those that were closed, in microseconds.
    round_trip: AtomicU64,
}

/// The end of one connection. Dropping it means that there is nothing left to send.
#[derive(Debug)]
pub(crate) struct Closing {
    all: Arc<AllClosing>,
    /// Set once the connection is closed.
    closed: Option<Closed>,
}

/// A connection that is closed, and has perhaps not sent that.
#[derive(Debug)]
struct Closed {
    /// When to look again.
    timer: Box<dyn Timer>,
    /// What it had sent before.
    datagrams: u64,
    /// Looks that are left, if it is not clear whether the last datagram was from before.
    looks: u32,
}

impl AllClosing {
    /// A connection begins, which has to be closed in the end.
    pub(crate) fn begin(self: &Arc<Self>) -> Closing {
        self.open.fetch_add(1, Ordering::AcqRel);
        Closing { all: self.clone(), closed: None }
    }

    /// Waits until the closes of all are sent. Returns how long an answer may take: a peer that has
    /// lost the close asks by its next packet.
    pub(crate) async fn all_sent(&self, runtime: &dyn Runtime) -> Duration {
        let deadline = runtime.now() + PATIENCE;
        while self.open.load(Ordering::Acquire) > 0 && runtime.now() < deadline {
            runtime.sleep(TICK).await;
        }
        let round_trip = Duration::from_micros(self.round_trip.load(Ordering::Acquire));
        (round_trip * 2).min(LONGEST_ANSWER)
    }
}

impl Closing {
    /// Closes the connection; ready once that is on its way to the peer. quinn does not report
    /// when it is, but how many datagrams it has sent.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        runtime: &dyn Runtime,
        connection: &quinn::Connection,
        code: VarInt,
    ) -> Poll<()> {
        if self.closed.is_none() && connection.close_reason().is_some() {
            // It is lost, or the peer was first.
            return Poll::Ready(());
        }
        let closed = self.closed.get_or_insert_with(|| {
            let round_trip = u64::try_from(connection.rtt().as_micros()).unwrap_or(u64::MAX);
            self.all.round_trip.fetch_max(round_trip, Ordering::AcqRel);
            let before = datagrams(connection);
            connection.close(code, b"");
            let datagrams = datagrams(connection);
            let looks = if datagrams > before { LOOKS } else { u32::MAX };
            Closed { timer: runtime.timer(), datagrams, looks }
        });
        loop {
            if datagrams(connection) > closed.datagrams || closed.looks == 0 {
                return Poll::Ready(());
            }
            closed.looks -= 1;
            closed.timer.reset(Some(runtime.now() + TICK));
            if closed.timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

fn datagrams(connection: &quinn::Connection) -> u64 {
    connection.stats().udp_tx.datagrams
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.all.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Time between two looks.
const TICK: Duration = Duration::from_millis(1);
/// Looks at a connection that has sent something just when it was closed.
const LOOKS: u32 = 5;
/// Time for all connections to be closed: it is a matter of the scheduler.
const PATIENCE: Duration = Duration::from_secs(1);
/// A peer that is farther away learns by silence, if the close is lost.
const LONGEST_ANSWER: Duration = Duration::from_millis(250);
