//! Closing connections so that peers learn of it before the sockets are closed.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::select;
use quinn::VarInt;

use crate::mailbox::{lock, remember};
use crate::runtime::{Runtime, Timer};

/// The connections that have to be closed before the sockets.
#[derive(Debug, Default)]
pub(crate) struct AllClosing(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    open: usize,
    /// The longest round trip of those that were closed.
    round_trip: Duration,
    /// Woken when none is open.
    waiting: Option<Waker>,
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
    /// Of these, looks that come as soon as other tasks have had a turn: quinn's sends the close in its
    /// next.
    glances: u32,
}

impl AllClosing {
    /// A connection begins, which has to be closed in the end.
    pub(crate) fn begin(self: &Arc<Self>) -> Closing {
        lock(&self.0).open += 1;
        Closing { all: self.clone(), closed: None }
    }

    /// Waits until the closes of all are sent. Returns how long an answer may take: a peer that has
    /// lost the close asks by its next packet.
    pub(crate) async fn all_sent(&self, runtime: &dyn Runtime) -> Duration {
        let all_closed = poll_fn(|cx| self.poll_closed(cx));
        drop(select(pin!(all_closed), runtime.sleep(PATIENCE)).await);
        (lock(&self.0).round_trip * 2).min(LONGEST_ANSWER)
    }

    fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut count = lock(&self.0);
        if count.open == 0 {
            return Poll::Ready(());
        }
        remember(&mut count.waiting, cx);
        Poll::Pending
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
            let mut count = lock(&self.all.0);
            count.round_trip = count.round_trip.max(connection.rtt());
            drop(count);
            let before = datagrams(connection);
            connection.close(code, b"");
            let datagrams = datagrams(connection);
            let (looks, glances) = match datagrams > before {
                true => (LOOKS, 0),
                false => (u32::MAX, GLANCES),
            };
            Closed { timer: runtime.timer(), datagrams, looks, glances }
        });
        loop {
            if datagrams(connection) > closed.datagrams || closed.looks == 0 {
                return Poll::Ready(());
            }
            closed.looks -= 1;
            if closed.glances > 0 {
                closed.glances -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
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
        let mut count = lock(&self.all.0);
        count.open -= 1;
        let woken = if count.open == 0 { count.waiting.take() } else { None };
        drop(count);
        if let Some(woken) = woken {
            woken.wake();
        }
    }
}

/// Looks without a pause between them.
const GLANCES: u32 = 16;
/// Time between two looks behind those.
const TICK: Duration = Duration::from_millis(1);
/// Looks at a connection that has sent something just when it was closed.
const LOOKS: u32 = 5;
/// Time for all connections to be closed: it is a matter of the scheduler.
const PATIENCE: Duration = Duration::from_secs(1);
/// A peer that is farther away learns by silence, if the close is lost.
const LONGEST_ANSWER: Duration = Duration::from_millis(250);
