//! yamux: the same on the wire as rust-libp2p's, whose configuration bounds only the number of substreams.
//!
//! A substream of yamux may be sent 256 KiB before it is read, by its specification, and there may be
//! hundreds. So a [`Gate`] beneath bounds what all of a connection hold together.

mod gate;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Context, Poll, Waker};

use futures_util::io::{AsyncRead, AsyncWrite};
use glueberry_tokio::adapter::Negotiations;
use glueberry_tokio::runtime::Runtime;
use libp2p::PeerId;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use yamux::{Connection, Mode};

pub(super) use self::gate::Overflow;
use self::gate::{Gate, Gated, ONE_SUBSTREAM};
use super::answered::Answered;
use super::here;
use super::windows::{Registered, Windows, at_a_time};

/// What makes connections of secured ones.
#[derive(Clone, Debug)]
pub(super) struct Yamux {
    config: yamux::Config,
    /// Of a peer, and of both sides.
    substreams: usize,
    max_substreams: usize,
    windows: Arc<Windows>,
    runtime: Arc<dyn Runtime>,
}

/// The same, of a connection with a peer.
#[derive(Clone, Debug)]
pub(super) struct WithPeer {
    yamux: Yamux,
    peer: PeerId,
    overflow: Overflow,
}

impl Yamux {
    /// A peer and this side may have `substreams` each at a time.
    pub(super) fn new(substreams: u32, windows: &Arc<Windows>, runtime: &Arc<dyn Runtime>) -> Self {
        let substreams = usize::try_from(substreams).unwrap_or(usize::MAX);
        let both = substreams.saturating_mul(2).clamp(FEWEST, MOST);
        let mut config = yamux::Config::default();
        // It checks each against the other.
        config
            .set_max_connection_receive_window(None)
            .set_max_num_streams(both)
            .set_max_connection_receive_window(Some(both * ONE_SUBSTREAM + GROWTH));
        Self {
            config,
            substreams,
            max_substreams: both,
            windows: windows.clone(),
            runtime: runtime.clone(),
        }
    }

    pub(super) fn with(self, peer: PeerId, overflow: Overflow) -> WithPeer {
        WithPeer { yamux: self, peer, overflow }
    }
}

impl WithPeer {
    fn begin<C>(self, connection: C, mode: Mode) -> Ready<Result<Muxer<C>, Infallible>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let negotiations = Negotiations::new(&self.yamux.runtime, at_a_time(self.yamux.substreams));
        let gate = Gate::new(self.overflow, self.yamux.max_substreams, negotiations.clone());
        let registered = self.yamux.windows.add(self.peer, gate.clone(), negotiations.clone());
        let gated = Gated::new(connection, gate.clone());
        let connection = Connection::new(gated, self.yamux.config, mode);
        ready(Ok(Muxer {
            connection,
            gate,
            negotiations,
            accepted: VecDeque::new(),
            waker: None,
            registered,
        }))
    }
}

impl UpgradeInfo for WithPeer {
    type Info = &'static str;
    type InfoIter = std::iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for WithPeer {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Muxer<C>, Infallible>>;

    fn upgrade_inbound(self, connection: C, _: Self::Info) -> Self::Future {
        self.begin(connection, Mode::Server)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for WithPeer {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Muxer<C>, Infallible>>;

    fn upgrade_outbound(self, connection: C, _: Self::Info) -> Self::Future {
        self.begin(connection, Mode::Client)
    }
}

/// A connection.
pub(super) struct Muxer<C> {
    connection: Connection<Gated<C>>,
    gate: Arc<Gate>,
    negotiations: Arc<Negotiations>,
    /// Substreams of the peer that came while something else was asked for; no more than yamux allows.
    accepted: VecDeque<Substream>,
    /// Who waits for one of them.
    waker: Option<Waker>,
    registered: Arc<Registered>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        self.connection.poll_next_inbound(cx).map(|accepted| match accepted {
            Some(Ok(stream)) => Ok(Substream::new(stream, &self.gate)),
            Some(Err(error)) => Err(io_error(error)),
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        })
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Answered<Substream>;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        task::ready!(self.negotiations.poll_room(cx));
        let accepted = match self.accepted.pop_front() {
            Some(accepted) => accepted,
            None => match self.poll_accept(cx) {
                Poll::Ready(accepted) => accepted?,
                Poll::Pending => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            },
        };
        Poll::Ready(Ok(Answered::by_peer(accepted, self.negotiations.begin())))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        let this = &mut *self;
        let opened = this.connection.poll_new_outbound(cx);
        opened.map(|opened| match opened {
            Ok(stream) => Ok(Answered::by_us(Substream::new(stream, &this.gate))),
            Err(error) => Err(io_error(error)),
        })
    }

    /// yamux makes progress only where it is asked for substreams.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        here::put(&self.registered, cx);
        loop {
            match self.poll_accept(cx) {
                Poll::Ready(Ok(accepted)) => self.accepted.push_back(accepted),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        Poll::Pending
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_close(cx).map_err(io_error)
    }
}

/// A stream of a connection.
pub(super) struct Substream {
    stream: yamux::Stream,
    gate: Arc<Gate>,
}

impl Substream {
    fn new(stream: yamux::Stream, gate: &Arc<Gate>) -> Self {
        gate.opened(stream.id().val());
        Self { stream, gate: gate.clone() }
    }
}

impl Drop for Substream {
    fn drop(&mut self) {
        self.gate.dropped(self.stream.id().val());
    }
}

impl AsyncRead for Substream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(count)) = polled {
            self.gate.read(self.stream.id().val(), count);
        }
        polled
    }
}

impl AsyncWrite for Substream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

fn io_error(error: yamux::ConnectionError) -> io::Error {
    match error {
        yamux::ConnectionError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Substreams of both sides at a time, at least, and at most: more would overflow yamux's own sums
/// where addresses have 32 bits.
const FEWEST: usize = 64;
const MOST: usize = 4096;
/// By how much the windows of all substreams together may grow on lines that are fast and long.
const GROWTH: usize = 8 * 1024 * 1024;
