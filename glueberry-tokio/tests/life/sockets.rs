//! A runtime whose sockets can die.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use glueberry_tokio::runtime::{Runtime, Task, Timer, TokioRuntime};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, UdpPoller};

/// Tokio, but for the sockets.
#[derive(Clone, Debug)]
pub(crate) struct DyingSockets {
    tokio: TokioRuntime,
    /// Whoever reads from one of them from now on is told that it is gone.
    pub(crate) are_dead: Arc<AtomicBool>,
}

impl Default for DyingSockets {
    fn default() -> Self {
        Self { tokio: TokioRuntime::current().unwrap(), are_dead: Arc::default() }
    }
}

impl Runtime for DyingSockets {
    fn spawn(&self, task: Task) {
        self.tokio.spawn(task);
    }

    fn timer(&self) -> Box<dyn Timer> {
        self.tokio.timer()
    }

    fn quinn(&self) -> Option<Arc<dyn quinn::Runtime>> {
        Some(Arc::new(self.clone()))
    }
}

impl quinn::Runtime for DyingSockets {
    fn new_timer(&self, deadline: Instant) -> Pin<Box<dyn AsyncTimer>> {
        quinn::TokioRuntime.new_timer(deadline)
    }

    fn spawn(&self, task: Task) {
        self.tokio.spawn(task);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let inner = quinn::TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Arc::new(Socket { inner, is_dead: self.are_dead.clone() }))
    }
}

struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    is_dead: Arc<AtomicBool>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket")
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        match self.is_dead.load(Ordering::Acquire) {
            true => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            false => self.inner.poll_recv(cx, bufs, meta),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}
