//! Sending, receiving and subscribing by a node's handle.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use glueberry_proto::{ConnectionState, SendError};
use libp2p_identity::PeerId;

use super::{Node, on_stream, stream_name};
use crate::command::HandshakeCommand;
use crate::error::{Error, ErrorCode, Misuse};
use crate::events::{EventFilter, Events};
use crate::inbox::{Inbox, Messages};
use crate::mailbox::lock;
use crate::message::HANDSHAKE;
use crate::session_handle::{SessionHandle, Waiting};
use crate::stream::StreamHandle;

impl Node {
    /// Sends a message on a stream, waiting while its queue is full. On [`HANDSHAKE`] it is
    /// a handshake message.
    ///
    /// Ready when the message is queued, which says nothing about its arrival: see
    /// [`Event::SessionClosed`](crate::Event::SessionClosed) for what becomes of it. If the future
    /// is dropped before it is ready, the message was not queued, except on [`HANDSHAKE`].
    ///
    /// # Errors
    ///
    /// [`NotConnected`](ErrorCode::NotConnected),
    /// [`HandshakeNotComplete`](ErrorCode::HandshakeNotComplete) before Established,
    /// [`StreamNotFound`](ErrorCode::StreamNotFound),
    /// [`MessageTooLarge`](ErrorCode::MessageTooLarge), [`StreamClosed`](ErrorCode::StreamClosed)
    /// if the session ended, [`Backpressure`](ErrorCode::Backpressure) only on [`HANDSHAKE`],
    /// [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn send(
        &self,
        peer: PeerId,
        stream: &str,
        message: impl Into<Bytes>,
    ) -> Result<(), Error> {
        let mut message = message.into();
        if stream == HANDSHAKE {
            let sent = |answer| HandshakeCommand::Send(message, answer);
            return self.inner.shared.in_handshake(peer, sent).await;
        }
        let session = self.session(peer)?;
        let queued = queue_on(&session, stream, &mut message).await;
        queued.map_err(|error| on_stream(error, peer, stream))
    }

    /// Sends messages on a stream, waiting while its queue is full. Each is removed from `messages`
    /// when it is queued: what is left there, after an error or because the future was dropped, was
    /// not. Many small messages cost less so than one by one. [`HANDSHAKE`] is not among the streams
    /// that this works on.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::collections::VecDeque;
    ///
    /// let (alice, bob) = pair().await?;
    /// let mut messages = bob.messages().expect("the first call gets them");
    /// let mut batch = VecDeque::from(["one".into(), "two".into(), "three".into()]);
    /// alice.send_many(bob.peer_id(), "chat", &mut batch).await?;
    /// assert!(batch.is_empty());
    /// let mut received = Vec::new();
    /// while received.len() < 3 {
    ///     messages.recv_many(&mut received, 100).await;
    /// }
    /// assert_eq!(received[2].data, "three");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), of the message that is then the first.
    pub async fn send_many(
        &self,
        peer: PeerId,
        stream: &str,
        messages: &mut VecDeque<Bytes>,
    ) -> Result<(), Error> {
        let session = self.session(peer)?;
        let queued = queue_many_on(&session, stream, messages).await;
        queued.map_err(|error| on_stream(error, peer, stream))
    }

    /// Sends a message if the stream's queue has room. [`HANDSHAKE`] is not among the streams
    /// that this works on.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), and [`Backpressure`](ErrorCode::Backpressure) if the queue
    /// is full.
    pub fn try_send(
        &self,
        peer: PeerId,
        stream: &str,
        message: impl Into<Bytes>,
    ) -> Result<(), Error> {
        let session = self.session(peer)?;
        session.send(stream, &mut message.into()).map_err(|error| on_stream(error, peer, stream))
    }

    /// Sends messages for as long as the stream's queue has room. Each is removed from `messages` when
    /// it is queued. [`HANDSHAKE`] is not among the streams that this works on.
    ///
    /// # Errors
    ///
    /// Those of [`try_send`](Self::try_send), of the message that is then the first.
    pub fn try_send_many(
        &self,
        peer: PeerId,
        stream: &str,
        messages: &mut VecDeque<Bytes>,
    ) -> Result<(), Error> {
        let session = self.session(peer)?;
        session.send_many(stream, messages).map_err(|error| on_stream(error, peer, stream))
    }

    /// Takes over one stream of one peer: its messages come to the handle and no longer to
    /// [`messages`](Self::messages), and it outlives reconnections.
    ///
    /// # Errors
    ///
    /// [`InvalidStreamName`](ErrorCode::InvalidStreamName), and
    /// [`StreamTaken`](ErrorCode::StreamTaken) if there is a handle for it already.
    pub fn stream(&self, peer: PeerId, stream: &str) -> Result<StreamHandle, Error> {
        let name = stream_name(stream)?;
        let inbox = Inbox::new(self.inner.shared.message_buffer);
        if !self.inner.shared.readers.claim(peer, name.clone(), inbox.clone()) {
            return Err(Error::because(ErrorCode::StreamTaken, Misuse::StreamTaken)
                .of_peer(peer)
                .on_stream(stream));
        }
        Ok(StreamHandle::new(self.inner.shared.clone(), peer, name, inbox))
    }

    /// Returns the messages of all peers. There is one reader: the first call gets it, later ones
    /// get `None`.
    pub fn messages(&self) -> Option<Messages> {
        lock(&self.inner.messages).take()
    }

    /// Subscribes to all events from now on.
    pub fn events(&self) -> Events {
        self.subscribe(EventFilter::default())
    }

    /// Subscribes to the events that pass a filter. Every subscription has a queue of its own, and ends
    /// when it is dropped.
    pub fn subscribe(&self, filter: EventFilter) -> Events {
        self.inner.shared.telemetry.events.subscribe(filter)
    }

    /// Subscribes to the events of one peer.
    pub fn events_for_peer(&self, peer: PeerId) -> Events {
        self.subscribe(EventFilter { peers: vec![peer], states: Vec::new() })
    }

    /// Subscribes to changes to the given states; to all events if there are none.
    pub fn events_for_states(&self, states: impl IntoIterator<Item = ConnectionState>) -> Events {
        self.subscribe(EventFilter { peers: Vec::new(), states: states.into_iter().collect() })
    }
}

impl Node {
    /// Waits until a stream accepts messages; fails if its session ends first.
    pub(crate) async fn writable(&self, peer: PeerId, stream: &str) -> Result<(), Error> {
        let session = self.session(peer)?;
        let mut waiting = Waiting::new();
        poll_fn(|cx| session.poll_writable(cx, stream, &mut waiting))
            .await
            .map_err(|error| on_stream(error, peer, stream))
    }
}

/// Queues a message and leaves an empty one behind, waiting for room.
pub(crate) async fn queue_on(
    session: &Arc<SessionHandle>,
    stream: &str,
    message: &mut Bytes,
) -> Result<(), SendError> {
    queue_by(session, stream, |cx, waiting| session.poll_send(cx, stream, message, waiting)).await
}

/// Queues messages, and removes them, waiting for room.
pub(crate) async fn queue_many_on(
    session: &Arc<SessionHandle>,
    stream: &str,
    messages: &mut VecDeque<Bytes>,
) -> Result<(), SendError> {
    let poll =
        |cx: &Context<'_>, waiting: &mut _| session.poll_send_many(cx, stream, messages, waiting);
    queue_by(session, stream, poll).await
}

async fn queue_by(
    session: &SessionHandle,
    stream: &str,
    mut poll: impl FnMut(&Context<'_>, &mut Waiting) -> Poll<Result<(), SendError>>,
) -> Result<(), SendError> {
    let (mut waiting, mut waited_since) = (Waiting::new(), None);
    let result = poll_fn(|cx| {
        let sent = poll(cx, &mut waiting);
        if sent.is_pending() {
            waited_since.get_or_insert_with(|| session.now());
        }
        sent
    })
    .await;
    if let Some(since) = waited_since {
        session.waited(stream, since);
    }
    result
}
