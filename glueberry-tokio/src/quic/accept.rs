//! Incoming handshakes: how many at a time, for how long, and from where.
//!
//! Who has proven nothing gets little. A source address can be forged, so once a share of the
//! places is taken, an address that is not validated is answered with a Retry packet
//! (RFC 9000, section 8.1.2), which takes no place. Addresses that are validated share the places
//! by network, and a handshake that does not end in time gives its place up.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, Either, abortable, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use glueberry_proto::Origin;
use tracing::debug;

use super::transport::offer;
use super::{Endpoint, Incoming};
use crate::error::chain;
use crate::network::Network;
use crate::runtime::{Runtime, Timer};
use crate::shared::Shared;

/// Accepts connections until the endpoint is closed.
pub(super) async fn accept_all(endpoint: Arc<Endpoint>, shared: Arc<Shared>) {
    let mut handshakes = Handshakes::new(shared.max_incoming, shared.runtime.clone());
    let mut accepting = Box::pin(accept(endpoint.clone()));
    while let Some(incoming) = poll_fn(|cx| {
        if !handshakes.has_place(cx) {
            return Poll::Pending;
        }
        accepting.as_mut().poll(cx)
    })
    .await
    {
        accepting = Box::pin(accept(endpoint.clone()));
        let remote = incoming.remote_address();
        match handshakes.judge(remote.ip(), incoming.is_validated()) {
            Verdict::Accept => handshakes.begin(incoming, &endpoint, &shared),
            Verdict::Retry => incoming.retry(),
            Verdict::Refuse => {
                debug!(%remote, "too many handshakes from one network: refused");
                incoming.refuse();
            }
        }
    }
}

async fn accept(endpoint: Arc<Endpoint>) -> Option<Incoming> {
    endpoint.accept().await
}

/// The handshakes that are under way.
struct Handshakes {
    limit: usize,
    running: FuturesUnordered<Pin<Box<dyn Future<Output = Option<Network>> + Send>>>,
    by_network: BTreeMap<Network, usize>,
    /// Each that was begun, the oldest first; some may have ended.
    begun: VecDeque<Begun>,
    runtime: Arc<dyn Runtime>,
    /// When the oldest has had its moment, while a newcomer may be waiting for that.
    timer: Box<dyn Timer>,
}

/// A handshake that was begun.
struct Begun {
    abort: AbortHandle,
    /// Dropped at its end.
    mark: Weak<()>,
    at: Instant,
}

/// What becomes of an incoming handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    /// The peer has to prove first that it receives what is sent to its address.
    Retry,
    Refuse,
}

impl Handshakes {
    fn new(limit: usize, runtime: Arc<dyn Runtime>) -> Self {
        Self {
            limit,
            running: FuturesUnordered::new(),
            by_network: BTreeMap::new(),
            begun: VecDeque::new(),
            timer: runtime.timer(),
            runtime,
        }
    }

    /// Returns whether there is a place for one more, perhaps that of the oldest. If not, the caller is
    /// woken when there may be.
    fn has_place(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll(cx);
        self.begun.retain(|one| one.mark.strong_count() > 0);
        let oldest = self.begun.front().map(|oldest| oldest.at + MOMENT);
        let Some(until) = oldest.filter(|_| self.running.len() >= self.limit) else {
            return true;
        };
        self.timer.reset(Some(until));
        self.timer.poll(cx).is_ready()
    }

    /// Takes the place of the oldest if there is no other.
    fn make_place(&mut self) {
        if self.running.len() >= self.limit
            && let Some(oldest) = self.begun.pop_front()
        {
            debug!("an incoming handshake gave way to a newer one");
            oldest.abort.abort();
        }
    }

    /// Takes out what has ended.
    fn poll(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(network)) = self.running.poll_next_unpin(cx) {
            let Some(network) = network else { continue };
            if let Some(count) = self.by_network.get_mut(&network) {
                *count -= 1;
                if *count == 0 {
                    self.by_network.remove(&network);
                }
            }
        }
    }

    fn judge(&self, from: IpAddr, is_validated: bool) -> Verdict {
        if !is_validated && self.running.len() >= share(self.limit) {
            return Verdict::Retry;
        }
        let of_network = Network::of(from).and_then(|network| self.by_network.get(&network));
        match of_network {
            Some(count) if *count >= share(self.limit) => Verdict::Refuse,
            _ => Verdict::Accept,
        }
    }

    fn begin(&mut self, incoming: Incoming, endpoint: &Arc<Endpoint>, shared: &Arc<Shared>) {
        let network = Network::of(incoming.remote_address().ip());
        if let Some(network) = network {
            *self.by_network.entry(network).or_default() += 1;
        }
        self.make_place();
        let handshake = authenticate(incoming, endpoint.clone(), shared.clone());
        let (handshake, abort) = abortable(handshake);
        let mark = Arc::new(());
        self.begun.push_back(Begun { abort, mark: Arc::downgrade(&mark), at: self.runtime.now() });
        self.running.push(Box::pin(async move {
            let _mark = mark;
            let _ = handshake.await;
            network
        }));
    }
}

/// Performs one handshake, within its time, and offers the connection to the node.
async fn authenticate(incoming: Incoming, endpoint: Arc<Endpoint>, shared: Arc<Shared>) {
    let remote = incoming.remote_address();
    let deadline = shared.runtime.sleep(HANDSHAKE_TIMEOUT);
    match select(pin!(incoming.accept()), deadline).await {
        Either::Left((Ok((connection, peer)), _)) => {
            offer(&endpoint, &shared, connection, peer, Origin::Accepted);
        }
        Either::Left((Err(error), _)) => {
            debug!(%remote, error = %chain(&error), "incoming connection failed");
        }
        Either::Right(_) => debug!(%remote, "incoming handshake took too long"),
    }
}

/// The share of the places that addresses without a proof have together, and that one network has.
const fn share(limit: usize) -> usize {
    if limit < 4 { 1 } else { limit / 4 }
}

/// Enough for a handshake of which packets are lost twice in a row.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long each handshake may last in a flood: enough for the round trips of one over a long line, and
/// for a processor that is busy. Were it less, a crowd of honest peers could have each handshake broken off
/// just before its end.
const MOMENT: Duration = Duration::from_millis(1000);

#[cfg(all(test, feature = "tokio"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_proof_only_a_share_is_accepted() {
        let mut handshakes = Handshakes::new(8, crate::runtime::default_runtime().unwrap());
        let from: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(handshakes.judge(from, false), Verdict::Accept);
        for _ in 0..2 {
            handshakes.running.push(Box::pin(std::future::pending()));
        }
        assert_eq!(handshakes.judge(from, false), Verdict::Retry);
        assert_eq!(handshakes.judge(from, true), Verdict::Accept);
        handshakes.by_network.insert(Network::of(from).unwrap(), 2);
        assert_eq!(handshakes.judge(from, true), Verdict::Refuse);
        assert_eq!(handshakes.judge("198.51.100.1".parse().unwrap(), true), Verdict::Accept);
    }
}
