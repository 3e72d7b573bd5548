//! A peer from the wire up, over TCP with Noise and yamux, which counts what is taken from it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use glueberry_tokio::Multiaddr;
use glueberry_tokio::identity::Keypair;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::futures::io::{AsyncRead, AsyncWrite};
use libp2p::{noise, tcp, yamux};

/// A connection that is open to more substreams than any node allows.
pub(crate) struct Counted {
    muxer: StreamMuxerBox,
    is_deaf: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    local: Arc<AtomicUsize>,
    remote: usize,
}

impl Counted {
    pub(crate) async fn dial(to: &Multiaddr) -> Self {
        let (written, local) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counter, port) = (written.clone(), local.clone());
        let is_deaf = Arc::new(AtomicBool::new(false));
        let deaf = is_deaf.clone();
        let mut config = yamux::Config::default();
        config.set_max_num_streams(4096);
        let mut transport = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
            .map(move |stream, _| {
                port.store(stream.0.local_addr().unwrap().port().into(), Ordering::Relaxed);
                Counting { inner: stream, is_deaf: deaf, written: counter }
            })
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&Keypair::generate_ed25519()).unwrap())
            .multiplex(config)
            .map(|(_, muxer), _| StreamMuxerBox::new(muxer))
            .boxed();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let muxer = transport.dial(to.clone(), options).unwrap().await.unwrap();
        let remote = to.to_string().split('/').nth(4).unwrap().parse().unwrap();
        Self { muxer, is_deaf, written, local, remote }
    }

    /// Reads nothing more, so that in the end nothing can be answered.
    pub(crate) fn turn_deaf(&self) {
        self.is_deaf.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn open(&mut self) -> SubstreamBox {
        poll_fn(|cx| self.muxer.poll_outbound_unpin(cx)).await.unwrap()
    }

    /// Drives the connection. Ready when it is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.muxer.poll_inbound_unpin(cx) {
                // Nothing is answered.
                Poll::Ready(Ok(opened)) => drop(opened),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.muxer.poll_unpin(cx).map(drop)
    }

    /// Returns how many bytes the other side's process has taken. None where the system does not say
    /// what it holds itself.
    pub(crate) fn taken(&self) -> Option<usize> {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let written = self.written.load(Ordering::Relaxed);
        let (local, remote) = (self.local.load(Ordering::Relaxed), self.remote);
        let mut queued = 0;
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = |field: &str| usize::from_str_radix(field.split(':').nth(1)?, 16).ok();
            let (from, to) = (port(fields[1])?, port(fields[2])?);
            let (sending, receiving) = fields[4].split_once(':')?;
            if (from, to) == (local, remote) {
                queued += usize::from_str_radix(sending, 16).ok()?;
            }
            if (from, to) == (remote, local) {
                queued += usize::from_str_radix(receiving, 16).ok()?;
            }
        }
        Some(written.saturating_sub(queued))
    }
}

/// Counts what is written.
struct Counting<C> {
    inner: C,
    is_deaf: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
}

impl<C: AsyncRead + Unpin> AsyncRead for Counting<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_deaf.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, bytes)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Counting<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = polled {
            self.written.fetch_add(count, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
