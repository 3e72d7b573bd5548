//! A connection, and its streams, as libp2p wants them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::io::{AsyncRead, AsyncWrite};
use glueberry_tokio::adapter::quinn::{
    Connection, ConnectionError, RecvStream, SendStream, VarInt,
};
use glueberry_tokio::adapter::{CountedSubstream, Negotiations, QuicWindow};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

use super::super::answered::Answered;
use super::super::here;
use super::super::windows::Registered;

/// A connection.
pub(super) struct Muxer {
    connection: Connection,
    window: Arc<QuicWindow>,
    negotiations: Arc<Negotiations>,
    registered: Arc<Registered>,
    accepting: Option<Opening>,
    opening: Option<Opening>,
    closing: Option<Pin<Box<dyn Future<Output = ConnectionError> + Send>>>,
}

type Opening =
    Pin<Box<dyn Future<Output = Result<(SendStream, RecvStream), ConnectionError>> + Send>>;

impl Muxer {
    pub(super) const fn new(
        connection: Connection,
        window: Arc<QuicWindow>,
        negotiations: Arc<Negotiations>,
        registered: Arc<Registered>,
    ) -> Self {
        Self {
            connection,
            window,
            negotiations,
            registered,
            accepting: None,
            opening: None,
            closing: None,
        }
    }

    fn substream(&self, (send, recv): (SendStream, RecvStream)) -> Substream {
        Substream { send, recv, ended: None, _counted: self.window.count() }
    }
}

impl StreamMuxer for Muxer {
    type Substream = Answered<Substream>;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        let Self { connection, accepting, negotiations, .. } = &mut *self;
        ready!(negotiations.poll_room(cx));
        let accepted = accepting.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_bi().await })
        });
        let stream = ready!(accepted.as_mut().poll(cx)).map_err(io::Error::other)?;
        *accepting = None;
        let negotiation = negotiations.begin();
        Poll::Ready(Ok(Answered::by_peer(self.substream(stream), negotiation)))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        let Self { connection, opening, .. } = &mut *self;
        let opened = opening.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.open_bi().await })
        });
        let stream = ready!(opened.as_mut().poll(cx)).map_err(io::Error::other)?;
        *opening = None;
        Poll::Ready(Ok(Answered::by_us(self.substream(stream))))
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        here::put(&self.registered, cx);
        // Its address does not change: migration is off.
        Poll::Pending
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { connection, closing, .. } = &mut *self;
        let closed = closing.get_or_insert_with(|| {
            connection.close(VarInt::from_u32(0), b"");
            let connection = connection.clone();
            Box::pin(async move { connection.closed().await })
        });
        Poll::Ready(match ready!(closed.as_mut().poll(cx)) {
            ConnectionError::LocallyClosed => Ok(()),
            error => Err(io::Error::other(error)),
        })
    }
}

/// A stream of a connection.
pub(super) struct Substream {
    send: SendStream,
    recv: RecvStream,
    /// How this side's half ended.
    ended: Option<Result<(), io::ErrorKind>>,
    /// Dropped last: by then what was not read is forgotten.
    _counted: CountedSubstream,
}

impl AsyncRead for Substream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.ended, Some(Err(_))) {
            return Poll::Ready(Ok(0));
        }
        AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buffer)
    }
}

impl AsyncWrite for Substream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It may be asked again.
        if let Some(ended) = self.ended {
            return Poll::Ready(ended.map_err(Into::into));
        }
        let result = ready!(AsyncWrite::poll_close(Pin::new(&mut self.send), cx));
        self.ended = Some(result.as_ref().copied().map_err(io::Error::kind));
        Poll::Ready(result)
    }
}
