//! One stream of one peer, as a [`Stream`] and a [`Sink`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use glueberry_proto::{SendError, SessionId, StreamName};
use libp2p_identity::PeerId;

use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorCode;
use crate::inbox::{Inbox, InboxReader};
use crate::message::Source;
#[cfg(doc)]
use crate::node::Node;
use crate::node::{on_stream, queue_many_on, queue_on};
use crate::session_handle::{SessionHandle, Waiting};
use crate::shared::Shared;

/// One named stream of one peer: a [`Stream`] of received messages and a [`Sink`] for those to
/// send.
///
/// It stays good across reconnections; while there is no Established session, sending fails with
/// [`NotConnected`](crate::ErrorCode::NotConnected) or
/// [`HandshakeNotComplete`](crate::ErrorCode::HandshakeNotComplete). Dropping it gives the stream
/// back to [`Node::messages`]; what it had received and not handed out is gone with it. It does not
/// keep the node alive: that ends with the last [`Node`].
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_util::SinkExt;
///
/// let (alice, bob) = pair().await?;
/// let mut here = alice.stream(bob.peer_id(), "chat")?;
/// let mut there = bob.stream(alice.peer_id(), "chat")?;
/// // As a `Sink`: flushed means that the transport has taken it.
/// SinkExt::send(&mut here, "hello".into()).await?;
/// assert_eq!(there.recv().await.expect("it runs"), "hello");
/// there.send("hello yourself").await?;
/// assert_eq!(here.recv().await.expect("it runs"), "hello yourself");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StreamHandle {
    shared: Arc<Shared>,
    peer: PeerId,
    name: StreamName,
    reader: InboxReader,
    /// The session that was last sent on.
    session: Option<Arc<SessionHandle>>,
    /// The sink has said that it is ready, for one message.
    is_ready: bool,
    waiting: Waiting,
}

impl StreamHandle {
    pub(crate) fn new(
        shared: Arc<Shared>,
        peer: PeerId,
        name: StreamName,
        inbox: Arc<Inbox>,
    ) -> Self {
        let (reader, waiting) = (InboxReader::new(inbox), Waiting::new());
        Self { shared, peer, name, reader, session: None, is_ready: false, waiting }
    }

    /// Returns the peer.
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Returns the stream's name.
    pub const fn name(&self) -> &StreamName {
        &self.name
    }

    /// Waits for the next message; `None` when the node has shut down.
    ///
    /// Cancel-safe.
    pub async fn recv(&mut self) -> Option<Bytes> {
        std::future::poll_fn(|cx| self.reader.poll_data(cx)).await
    }

    /// Waits for messages, and appends those that are there to `buffer`, `limit` at most. Returns how
    /// many that were: at least one, unless the node has shut down or `limit` is zero.
    ///
    /// Cancel-safe.
    pub async fn recv_many(&mut self, buffer: &mut Vec<Bytes>, limit: usize) -> usize {
        let take = |_: &Source, data| buffer.push(data);
        self.reader.recv_many(limit, take).await
    }

    /// Sends a message, waiting while the queue is full.
    ///
    /// Cancel-safe: a message is queued whole or not at all.
    ///
    /// # Errors
    ///
    /// Those of [`Node::send`].
    pub async fn send(&mut self, message: impl Into<Bytes>) -> Result<(), Error> {
        let mut message = message.into();
        loop {
            let session = session(&mut self.session, &self.shared, self.peer)?;
            let id = session.id;
            match queue_on(session, self.name.as_str(), &mut message).await {
                Err(SendError::Closed) if self.is_succeeded(id)? => {}
                result => return result.map_err(|error| self.error(error)),
            }
        }
    }

    /// Sends messages, waiting while the queue is full. Each is removed from `messages` when it is
    /// queued: what is left there, after an error or because the future was dropped, was not.
    ///
    /// # Errors
    ///
    /// Those of [`Node::send`], of the message that is then the first.
    pub async fn send_many(&mut self, messages: &mut VecDeque<Bytes>) -> Result<(), Error> {
        loop {
            let session = session(&mut self.session, &self.shared, self.peer)?;
            let id = session.id;
            match queue_many_on(session, self.name.as_str(), messages).await {
                Err(SendError::Closed) if self.is_succeeded(id)? => {}
                result => return result.map_err(|error| self.error(error)),
            }
        }
    }

    /// Sends a message if the queue has room.
    ///
    /// # Errors
    ///
    /// Those of [`Node::try_send`].
    pub fn try_send(&mut self, message: impl Into<Bytes>) -> Result<(), Error> {
        let mut message = message.into();
        self.try_queue(|session, stream| session.send(stream, &mut message))
    }

    /// Sends messages for as long as the queue has room. Each is removed from `messages` when it is
    /// queued.
    ///
    /// # Errors
    ///
    /// Those of [`Node::try_send`], of the message that is then the first.
    pub fn try_send_many(&mut self, messages: &mut VecDeque<Bytes>) -> Result<(), Error> {
        self.try_queue(|session, stream| session.send_many(stream, messages))
    }

    fn try_queue(
        &mut self,
        mut send: impl FnMut(&SessionHandle, &str) -> Result<(), SendError>,
    ) -> Result<(), Error> {
        loop {
            let session = session(&mut self.session, &self.shared, self.peer)?;
            let id = session.id;
            match send(session, self.name.as_str()) {
                Err(SendError::Closed) if self.is_succeeded(id)? => {}
                result => return result.map_err(|error| self.error(error)),
            }
        }
    }

    /// Waits until the queue has room.
    fn poll_writable(&mut self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let session = session(&mut self.session, &self.shared, self.peer)?;
            let id = session.id;
            match session.poll_writable(cx, self.name.as_str(), &mut self.waiting) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(SendError::Closed)) if self.is_succeeded(id)? => {}
                Poll::Ready(result) => {
                    return Poll::Ready(result.map_err(|error| self.error(error)));
                }
            }
        }
    }

    /// Looks up the session to send on in place of one that has ended. Returns false if it is still
    /// the current one, because the node's task does not know yet.
    fn is_succeeded(&mut self, ended: SessionId) -> Result<bool, Error> {
        self.session = None;
        let current = session(&mut self.session, &self.shared, self.peer)?;
        Ok(current.id != ended)
    }

    fn error(&self, error: SendError) -> Error {
        on_stream(error, self.peer, self.name.as_str())
    }
}

impl Stream for StreamHandle {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.reader.poll_data(cx)
    }
}

/// Ready for a message when the queue has room, in which the message then is at once; flushed when the
/// transport has taken all. If the session ends before that, flushing fails with
/// [`StreamClosed`](ErrorCode::StreamClosed): what was accepted is among the unsent of the
/// [event](crate::Event) that reports the end.
impl Sink<Bytes> for StreamHandle {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let result = self.poll_writable(cx);
        self.is_ready = matches!(result, Poll::Ready(Ok(())));
        result
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), Error> {
        // Others send on the stream, too. Only one that was ready need not care for that.
        match std::mem::take(&mut self.is_ready) {
            true => self.try_queue(|session, stream| session.send_promised(stream, &message)),
            false => self.try_send(message),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Self { session, name, waiting, .. } = &mut *self;
        let Some(session) = session else {
            return Poll::Ready(Ok(()));
        };
        let flushed = session.poll_flushed(cx, name.as_str(), waiting);
        flushed.map_err(|error| self.error(error))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flush(cx)
    }
}

/// Returns the session that was last sent on, or else the current one.
fn session<'a>(
    last: &'a mut Option<Arc<SessionHandle>>,
    shared: &Shared,
    peer: PeerId,
) -> Result<&'a Arc<SessionHandle>, Error> {
    let session = match last.take() {
        Some(session) => session,
        None => shared.session(peer)?,
    };
    Ok(last.insert(session))
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.shared.readers.release(self.peer, &self.name);
    }
}
