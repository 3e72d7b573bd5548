//! Sending requests.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use libp2p_identity::PeerId;

use super::wire::{Content, Frame};
use super::{Core, Owner, RequestError, owed};
use crate::node::{on_stream, queue_on};
use crate::session_handle::SessionHandle;
use crate::waiters::WaiterId;

/// Sends requests to peers; see [`Node::requests`](crate::Node::requests). Cheap to clone. It does not
/// keep the node alive.
#[derive(Clone, Debug)]
pub struct Requester(Arc<Owner>);

impl Requester {
    pub(super) const fn new(owner: Arc<Owner>) -> Self {
        Self(owner)
    }

    /// Sends a request to a peer that is Established, and waits for the response, at most for
    /// `timeout`.
    ///
    /// Waits while [`max_in_flight`](super::RequestLimits::max_in_flight) requests to the peer are
    /// under way, and while the stream's send queue is full. If the future is dropped, the peer is
    /// informed that the response is not awaited; until that is queued, the request counts as under way.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    pub async fn request(
        &self,
        peer: PeerId,
        data: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Bytes, RequestError> {
        let (core, data) = (&self.0.0, data.into());
        // Later than any clock can say is never.
        let deadline = core.shared.runtime.now().checked_add(timeout);
        let request = pin!(attempt(core, peer, data, deadline));
        let Some(deadline) = deadline else {
            return request.await;
        };
        match select(request, core.shared.alarm(deadline)).await {
            Either::Left((result, _)) => result,
            Either::Right((Ok(()), _)) => Err(RequestError::TimedOut),
            // The runtime is gone, and with it the node.
            Either::Right((Err(_), request)) => request.await,
        }
    }

    /// Returns how many frames of peers were ignored: those that this version does not know, and
    /// responses that came after their request was over.
    pub fn ignored(&self) -> u64 {
        self.0.0.table.ignored()
    }
}

async fn attempt(
    core: &Arc<Core>,
    peer: PeerId,
    body: Bytes,
    deadline: Option<Instant>,
) -> Result<Bytes, RequestError> {
    let place = Place::take(core, peer).await;
    let session = core.shared.session(peer).map_err(RequestError::NotSent)?;
    let (answer, result) = oneshot::channel();
    let id = core.table.sending(peer, session.id, answer);
    let mut sent = InFlight { id, session: session.clone(), is_sent: false, place: Some(place) };
    let now = core.shared.runtime.now();
    let patience = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(now));
    let mut frame = Frame { id, content: Content::Request { patience, body } }.emit();
    let stream = core.stream.as_str();
    queue_on(&session, stream, &mut frame)
        .await
        .map_err(|error| RequestError::NotSent(on_stream(error, peer, stream)))?;
    sent.is_sent = true;
    // The node has stopped if there is no result.
    result.await.unwrap_or(Err(RequestError::SessionEnded))
}

/// One of the peer's places, until it is dropped.
struct Place {
    core: Arc<Core>,
    peer: PeerId,
}

impl Place {
    async fn take(core: &Arc<Core>, peer: PeerId) -> Self {
        let mut waiting = Waiting { core, peer, id: None };
        poll_fn(|cx| core.table.poll_place(cx, peer, &mut waiting.id)).await;
        Self { core: core.clone(), peer }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.table.give_place_back(self.peer);
    }
}

/// Waits for a place; dropping it stops that.
struct Waiting<'a> {
    core: &'a Core,
    peer: PeerId,
    id: Option<WaiterId>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.core.table.leave(self.peer, id);
        }
    }
}

/// A request whose response is waited for. If it is dropped before, the peer learns of it.
struct InFlight {
    id: u64,
    session: Arc<SessionHandle>,
    is_sent: bool,
    /// None as it is dropped.
    place: Option<Place>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let core = place.core.clone();
        if core.table.forget(self.id) && self.is_sent {
            let frame = Frame { id: self.id, content: Content::Cancel };
            // The place is held for as long, so that what is owed is bounded.
            owed::send(&core, &self.session, &frame, || true, place);
        }
    }
}
