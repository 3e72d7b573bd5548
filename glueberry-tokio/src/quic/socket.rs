//! UDP sockets that end before quinn lets go of them.
//!
//! An endpoint whose sockets are to be free has connections that quinn has not forgotten. quinn can be
//! given another socket meanwhile, but each connection takes that for a new path, and says so to
//! its endpoint even if it was reset just before: quinn-proto 0.11.19 panics over that ("invalid
//! key"), and its destructors end the process.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::mailbox::lock;

/// A socket that quinn has. Once it is freed, it sends nothing and never receives.
#[derive(Debug)]
pub(super) struct Socket {
    local: SocketAddr,
    /// None once it is freed.
    inner: RwLock<Option<Arc<dyn AsyncUdpSocket>>>,
    pollers: Mutex<Pollers>,
}

/// What connections wait with until they can write. Each holds the socket.
#[derive(Debug, Default)]
struct Pollers {
    next: u64,
    all: BTreeMap<u64, Arc<Mutex<Option<Writable>>>>,
}

type Writable = Pin<Box<dyn UdpPoller>>;

impl Socket {
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>) -> io::Result<Arc<Self>> {
        let local = inner.local_addr()?;
        Ok(Arc::new(Self { local, inner: RwLock::new(Some(inner)), pollers: Mutex::default() }))
    }

    /// Closes the socket: its port is free when this returns.
    pub(super) fn free(&self) {
        let inner = self.inner.write().unwrap_or_else(PoisonError::into_inner).take();
        let pollers: Vec<_> = lock(&self.pollers).all.values().cloned().collect();
        let pollers: Vec<_> = pollers.iter().map(|poller| lock(poller).take()).collect();
        drop((inner, pollers));
    }

    fn inner(&self) -> RwLockReadGuard<'_, Option<Arc<dyn AsyncUdpSocket>>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        // Held until the poller is in the table, where `free` finds it.
        let inner = self.inner();
        let poller = inner.clone().map(AsyncUdpSocket::create_io_poller);
        let poller = Arc::new(Mutex::new(poller));
        let mut pollers = lock(&self.pollers);
        let id = pollers.next;
        pollers.next += 1;
        pollers.all.insert(id, poller.clone());
        drop(pollers);
        drop(inner);
        Box::pin(Poller { socket: self, id, poller })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner().as_ref().map_or(Ok(()), |socket| socket.try_send(transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        match &*self.inner() {
            Some(socket) => socket.poll_recv(cx, bufs, meta),
            None => Poll::Pending,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner().as_ref().map_or(1, |socket| socket.max_transmit_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.inner().as_ref().map_or(1, |socket| socket.max_receive_segments())
    }

    fn may_fragment(&self) -> bool {
        self.inner().as_ref().is_none_or(|socket| socket.may_fragment())
    }
}

/// Waits until the socket can be written, which it can be once it is freed.
struct Poller {
    socket: Arc<Socket>,
    id: u64,
    poller: Arc<Mutex<Option<Writable>>>,
}

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut poller = lock(&self.poller);
        poller.as_mut().map_or(Poll::Ready(Ok(())), |poller| poller.as_mut().poll_writable(cx))
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        let poller = lock(&self.socket.pollers).all.remove(&self.id);
        drop(poller);
    }
}
