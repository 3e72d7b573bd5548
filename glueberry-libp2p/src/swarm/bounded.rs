//! A transport whose handshakes are bounded in number and time.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, Either, abortable, select};
use glueberry_tokio::Config;
use glueberry_tokio::runtime::{Runtime, Timer};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId};

use super::stack::Stack;

/// A stack that gives up dials and incoming handshakes that take too long, and has no more of the
/// latter than it may.
///
/// When one more comes in, the oldest is given up, though not before it has had a moment: until
/// then the newcomer waits in the system's queue. A flood of connections that say nothing has each
/// of its own give way to the next, while a peer that answers is through in a few round trips, which
/// a flood of connections that come and go leaves it. Each stack has places of its own, so that a
/// flood of one leaves the others alone.
pub(super) struct Bounded {
    inner: Stack,
    runtime: Arc<dyn Runtime>,
    limit: usize,
    dial_timeout: Duration,
    /// The oldest first.
    incoming: VecDeque<Handshake>,
    /// When the oldest has had its moment, while a newcomer may be waiting for that.
    timer: Box<dyn Timer>,
}

/// An incoming handshake.
struct Handshake {
    abort: AbortHandle,
    /// Dropped at its end.
    mark: Weak<()>,
    began: Instant,
}

type Upgrade = Pin<Box<dyn Future<Output = io::Result<(PeerId, StreamMuxerBox)>> + Send>>;

impl Bounded {
    pub(super) fn new(inner: Stack, runtime: &Arc<dyn Runtime>, config: &Config) -> Self {
        Self {
            inner,
            runtime: Arc::clone(runtime),
            limit: config.max_incoming,
            dial_timeout: config.core.dial_timeout,
            incoming: VecDeque::new(),
            timer: runtime.timer(),
        }
    }

    /// Bounds only the time: the stack looks after incoming handshakes by itself.
    pub(super) fn in_time_only(inner: Stack, runtime: &Arc<dyn Runtime>, config: &Config) -> Self {
        Self { limit: usize::MAX, ..Self::new(inner, runtime, config) }
    }

    /// Returns whether there is a place for one more handshake, perhaps that of the oldest. If not,
    /// the caller is woken when there may be.
    fn has_place(&mut self, cx: &mut Context<'_>) -> bool {
        self.incoming.retain(|one| one.mark.strong_count() > 0);
        let oldest = self.incoming.front().map(|oldest| oldest.began + MOMENT);
        let Some(until) = oldest.filter(|_| self.incoming.len() >= self.limit) else {
            return true;
        };
        self.timer.reset(Some(until));
        self.timer.poll(cx).is_ready()
    }

    fn in_time(&self, upgrade: Upgrade, time: Duration) -> Upgrade {
        let deadline = self.runtime.sleep(time);
        Box::pin(async move {
            match select(upgrade, deadline).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }

    /// Gives the handshake a place, if need be that of the oldest.
    fn place(&mut self, upgrade: Upgrade) -> Upgrade {
        self.incoming.retain(|one| one.mark.strong_count() > 0);
        if self.incoming.len() >= self.limit
            && let Some(oldest) = self.incoming.pop_front()
        {
            oldest.abort.abort();
        }
        let mark = Arc::new(());
        let (upgrade, abort) = abortable(self.in_time(upgrade, HANDSHAKE_TIMEOUT));
        let began = self.runtime.now();
        self.incoming.push_back(Handshake { abort, mark: Arc::downgrade(&mark), began });
        Box::pin(async move {
            let _mark = mark;
            upgrade.await.unwrap_or_else(|_| Err(io::Error::other("gave way to a newer handshake")))
        })
    }
}

impl Transport for Bounded {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Upgrade, TransportError<io::Error>> {
        let dial = self.inner.dial(address, options)?;
        Ok(self.in_time(dial, self.dial_timeout))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Upgrade, io::Error>> {
        if !self.has_place(cx) {
            return Poll::Pending;
        }
        let event = match Pin::new(&mut self.inner).poll(cx) {
            Poll::Ready(event) => event,
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(event.map_upgrade(|upgrade| self.place(upgrade)))
    }
}

/// How long each handshake may last in a flood: enough for the round trips of one over a short line.
const MOMENT: Duration = Duration::from_millis(250);
/// Enough for a handshake of which packets are lost twice in a row.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
