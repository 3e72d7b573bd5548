//! A stream whose peer may propose only so much before it is known what the stream is for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::io::{AsyncRead, AsyncWrite};
use glueberry_tokio::adapter::Negotiation;

/// A stream on which multistream-select comes first.
///
/// libp2p has no limit but time to how often a peer may propose something else. Where this side proposes,
/// its first proposal that may be the last counts as agreed: a peer gets no more answers than that.
pub(super) struct Answered<S> {
    /// Until a name is agreed.
    negotiation: Option<Negotiation>,
    stream: S,
}

impl<S> Answered<S> {
    /// One that the peer has opened.
    pub(super) const fn by_peer(stream: S, negotiation: Negotiation) -> Self {
        Self { negotiation: Some(negotiation), stream }
    }

    /// One that this side has opened.
    pub(super) const fn by_us(stream: S) -> Self {
        Self { negotiation: None, stream }
    }

    /// A whole connection, before it is secured or divided into streams.
    pub(super) const fn connection(stream: S) -> Self {
        Self::by_peer(stream, Negotiation::alone())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Answered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Self { negotiation, stream } = &mut *self;
        let Some(negotiation) = negotiation else {
            return Pin::new(stream).poll_read(cx, buffer);
        };
        let most = negotiation.may_read()?.min(buffer.len());
        let count = ready!(Pin::new(stream).poll_read(cx, &mut buffer[..most]))?;
        negotiation.has_read(count);
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Answered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { negotiation, stream } = &mut *self;
        let count = ready!(Pin::new(stream).poll_write(cx, bytes))?;
        if negotiation.as_mut().is_some_and(|it| it.has_written(&bytes[..count])) {
            *negotiation = None;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
