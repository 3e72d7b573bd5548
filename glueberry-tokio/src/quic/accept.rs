//! Incoming handshakes: how many at a time, for how long, and from where.
//!
//! Who has proven nothing gets little. A source address can be forged, so once a share of the
//! places is taken, an address that is not validated is answered with a Retry packet
//! (RFC 9000, section 8.1.2), which takes no place. Addresses that are validated share the places
//! by network, and a handshake that does not end in time gives its place up.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
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
    let mut admission = Admission::new(shared.max_incoming, shared.runtime.clone());
    let mut handshakes = FuturesUnordered::new();
    let mut accepting = Box::pin(accept(endpoint.clone()));
    while let Some(incoming) = poll_fn(|cx| {
        while let Poll::Ready(Some(_)) = handshakes.poll_next_unpin(cx) {}
        if !admission.has_place(cx) {
            return Poll::Pending;
        }
        accepting.as_mut().poll(cx)
    })
    .await
    {
        accepting = Box::pin(accept(endpoint.clone()));
        let from = incoming.remote_address().ip();
        if let Some(incoming) = admission.judge(incoming.into_inner()) {
            let incoming = Incoming::from(incoming);
            let handshake = authenticate(incoming, endpoint.clone(), shared.clone());
            handshakes.push(Box::pin(admission.place(from, handshake)));
        }
    }
}

async fn accept(endpoint: Arc<Endpoint>) -> Option<Incoming> {
    endpoint.accept().await
}

/// Who may begin a handshake, and which of those that are under way gives way to it.
pub struct Admission {
    limit: usize,
    /// Each that was begun, the oldest first; some may have ended.
    begun: VecDeque<Begun>,
    runtime: Arc<dyn Runtime>,
    /// When the oldest has had its moment, while a newcomer may be waiting for that.
    timer: Box<dyn Timer>,
}

/// A handshake that was begun.
struct Begun {
    network: Option<Network>,
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

impl Admission {
    /// Returns one with this number of places.
    pub fn new(limit: usize, runtime: Arc<dyn Runtime>) -> Self {
        Self { limit, begun: VecDeque::new(), timer: runtime.timer(), runtime }
    }

    /// Returns whether there is a place for one more, perhaps that of the oldest. If not, the caller is
    /// woken when there may be, unless one ends before, which is for the caller to see.
    pub fn has_place(&mut self, cx: &mut Context<'_>) -> bool {
        self.begun.retain(|one| one.mark.strong_count() > 0);
        let oldest = self.begun.front().map(|oldest| oldest.at + MOMENT);
        let Some(until) = oldest.filter(|_| self.begun.len() >= self.limit) else {
            return true;
        };
        self.timer.reset(Some(until));
        self.timer.poll(cx).is_ready()
    }

    /// Returns what may begin its handshake now. What may not has got its answer.
    pub fn judge(&mut self, incoming: quinn::Incoming) -> Option<quinn::Incoming> {
        self.begun.retain(|one| one.mark.strong_count() > 0);
        let remote = incoming.remote_address();
        match self.verdict(remote.ip(), incoming.remote_address_validated()) {
            Verdict::Accept => return Some(incoming),
            Verdict::Retry => {
                // An address that is not validated may always be asked (RFC 9000, section 8.1.2).
                if let Err(error) = incoming.retry() {
                    error.into_incoming().refuse();
                }
            }
            Verdict::Refuse => {
                debug!(%remote, "too many handshakes from one network: refused");
                incoming.refuse();
            }
        }
        None
    }

    fn verdict(&self, from: IpAddr, is_validated: bool) -> Verdict {
        if !is_validated && self.begun.len() >= share(self.limit) {
            return Verdict::Retry;
        }
        let of_network = Network::of(from)
            .map_or(0, |of| self.begun.iter().filter(|one| one.network == Some(of)).count());
        if of_network >= share(self.limit) { Verdict::Refuse } else { Verdict::Accept }
    }

    /// Gives a handshake a place for as long as the result exists, if need be that of the oldest, which
    /// ends without a result then.
    pub fn place<F: Future>(
        &mut self,
        from: IpAddr,
        handshake: F,
    ) -> impl Future<Output = Option<F::Output>> + use<F> {
        if self.begun.len() >= self.limit
            && let Some(oldest) = self.begun.pop_front()
        {
            debug!("an incoming handshake gave way to a newer one");
            oldest.abort.abort();
        }
        let (handshake, abort) = abortable(handshake);
        let (mark, network) = (Arc::new(()), Network::of(from));
        let (weak, at) = (Arc::downgrade(&mark), self.runtime.now());
        self.begun.push_back(Begun { network, abort, mark: weak, at });
        async move {
            let _mark = mark;
            handshake.await.ok()
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("begun", &self.begun.len()).finish_non_exhaustive()
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
        let mut admission = Admission::new(8, crate::runtime::default_runtime().unwrap());
        let from: IpAddr = "192.0.2.1".parse().unwrap();
        let other: IpAddr = "198.51.100.1".parse().unwrap();
        assert_eq!(admission.verdict(from, false), Verdict::Accept);
        let _of_other = admission.place(other, std::future::pending::<()>());
        let _of_it = admission.place(from, std::future::pending::<()>());
        assert_eq!(admission.verdict(from, false), Verdict::Retry);
        assert_eq!(admission.verdict(from, true), Verdict::Accept);
        let _second = admission.place(from, std::future::pending::<()>());
        assert_eq!(admission.verdict(from, true), Verdict::Refuse);
        assert_eq!(admission.verdict(other, true), Verdict::Accept);
    }
}
