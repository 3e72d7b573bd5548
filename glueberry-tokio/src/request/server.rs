//! Receiving requests, and answering them.

use std::fmt;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_core::Stream;
use futures_util::future::{Either, select};
use libp2p_identity::PeerId;

use super::table::Ticket;
use super::wire::{Content, Frame};
use super::{Core, Owner, owed};
use crate::error::{Error, ErrorCode};
use crate::node::{on_stream, queue_on};
use crate::session_handle::SessionHandle;

/// The requests of all peers on a stream; see [`Node::requests`](crate::Node::requests).
///
/// A [`Stream`] that ends when the node has shut down. Dropping it means that requests are answered
/// as [`Unanswered`](super::RequestError::Unanswered).
#[derive(Debug)]
pub struct IncomingRequests(Arc<Owner>);

impl IncomingRequests {
    pub(super) const fn new(owner: Arc<Owner>) -> Self {
        Self(owner)
    }

    /// Waits for the next request; `None` when the node has shut down. Those that are not awaited
    /// any more are left out.
    ///
    /// Cancel-safe.
    pub async fn recv(&mut self) -> Option<Request> {
        poll_fn(|cx| self.poll_request(cx)).await
    }

    fn poll_request(&self, cx: &Context<'_>) -> Poll<Option<Request>> {
        loop {
            match self.0.0.table.poll_waiting(cx) {
                Poll::Ready(Some(request)) if request.is_cancelled() => {}
                other => return other,
            }
        }
    }
}

impl Stream for IncomingRequests {
    type Item = Request;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        self.poll_request(cx)
    }
}

impl Drop for IncomingRequests {
    fn drop(&mut self) {
        self.0.0.table.stop_serving();
    }
}

/// A request of a peer.
///
/// If it is dropped without an answer, its peer gets
/// [`Unanswered`](super::RequestError::Unanswered). Until that is queued, it counts among those that the
/// application [has](super::RequestLimits::max_served).
#[must_use = "its peer waits for an answer"]
pub struct Request {
    /// Who asks.
    pub peer: PeerId,
    /// What it asks.
    pub data: Bytes,
    pub(super) id: u64,
    pub(super) ticket: Ticket,
    pub(super) core: Arc<Core>,
    pub(super) session: Arc<SessionHandle>,
    /// Until when the peer waits; `None` if for ever.
    pub(super) deadline: Option<Instant>,
    /// Closed when the response is no longer awaited.
    pub(super) unwanted: oneshot::Receiver<()>,
}

impl Request {
    /// Sends the response, waiting while the stream's send queue is full.
    ///
    /// If the future is dropped before it is ready, the peer gets
    /// [`Unanswered`](super::RequestError::Unanswered).
    ///
    /// # Errors
    ///
    /// [`Cancelled`](ErrorCode::Cancelled) if the peer no longer waits,
    /// [`MessageTooLarge`](ErrorCode::MessageTooLarge), [`StreamClosed`](ErrorCode::StreamClosed).
    pub async fn respond(self, data: impl Into<Bytes>) -> Result<(), Error> {
        self.answer(Content::Response(data.into())).await
    }

    /// Sends an error in place of a response. The text is for people, and cut at 1 KiB.
    ///
    /// # Errors
    ///
    /// Those of [`respond`](Self::respond).
    pub async fn fail(self, text: impl Into<String>) -> Result<(), Error> {
        self.answer(Content::Failed(text.into())).await
    }

    /// Returns until when the peer waits, on this side's clock; `None` if without an end.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Returns whether the peer no longer waits: it has cancelled, its time is over, or the session
    /// has ended.
    pub fn is_cancelled(&self) -> bool {
        let now = self.core.shared.runtime.now();
        !self.core.table.is_wanted(self.peer, self.ticket)
            || self.deadline.is_some_and(|at| at <= now)
    }

    /// Waits until the peer no longer waits, so that work which is not wanted can stop.
    pub async fn cancelled(&mut self) {
        let alarm = self.deadline.map(|at| self.core.shared.alarm(at));
        let time_over = async {
            match alarm {
                // Without the runtime, the node is gone.
                Some(alarm) => alarm.await.unwrap_or_default(),
                None => pending().await,
            }
        };
        match select(&mut self.unwanted, pin!(time_over)).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    }

    async fn answer(self, content: Content) -> Result<(), Error> {
        let (peer, stream) = (self.peer, self.core.stream.as_str());
        if self.is_cancelled() {
            return Err(Error::new(ErrorCode::Cancelled).of_peer(peer).on_stream(stream));
        }
        let mut frame = Frame { id: self.id, content }.emit();
        queue_on(&self.session, stream, &mut frame)
            .await
            .map_err(|error| on_stream(error, peer, stream))?;
        self.core.table.finish(peer, self.ticket);
        Ok(())
    }
}

/// Shows the length of the data and not the data.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("peer", &self.peer)
            .field("len", &self.data.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let (core, peer, ticket) = (self.core.clone(), self.peer, self.ticket);
        let served = InHand { core: core.clone(), peer, ticket };
        if core.table.is_wanted(peer, ticket) {
            let frame = Frame { id: self.id, content: Content::Unanswered };
            let is_wanted = {
                let core = core.clone();
                move || core.table.is_wanted(peer, ticket)
            };
            // It is in hand for as long, so that what is owed is bounded.
            owed::send(&core, &self.session, &frame, is_wanted, served);
        }
    }
}

/// A request of a peer that is in hand, until this is dropped.
struct InHand {
    core: Arc<Core>,
    peer: PeerId,
    ticket: Ticket,
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.core.table.finish(self.peer, self.ticket);
    }
}
