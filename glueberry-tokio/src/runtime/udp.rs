//! quinn's sockets and timers on the reactor of `async-io`.
//!
//! quinn has the like, but ties it to features that its next version drops for async-std, and its
//! sockets swallow the errors of a dead socket and read it again for ever.

use std::{
    future::Future,
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use async_io::{Async, Timer, WritableOwned};
use quinn::{
    AsyncTimer, AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};

use super::{AnyRuntime, Runtime, Task};

#[derive(Debug)]
pub(super) struct OnReactor {
    pub(super) runtime: AnyRuntime,
}

impl quinn::Runtime for OnReactor {
    fn new_timer(&self, deadline: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Alarm(Timer::at(deadline)))
    }

    fn spawn(&self, task: Task) {
        self.runtime.spawn(task);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Arc::new(Socket { state, io: Arc::new(Async::new(socket)?) }))
    }

    fn now(&self) -> Instant {
        self.runtime.now()
    }
}

#[derive(Debug)]
struct Alarm(Timer);

impl AsyncTimer for Alarm {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.0.set_at(deadline);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Future::poll(Pin::new(&mut self.0), cx).map(|_| ())
    }
}

#[derive(Debug)]
struct Socket {
    io: Arc<Async<UdpSocket>>,
    state: UdpSocketState,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(WritePoller { io: Arc::clone(&self.io), waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.state.send((&*self.io).into(), transmit)
    }

    /// Reads first and asks the reactor only when there was nothing: a busy socket costs no turn
    /// of the reactor per batch.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..MAX_ERRORS_PER_POLL {
            let error = loop {
                match self.state.recv((&*self.io).into(), bufs, meta) {
                    Ok(received) => return Poll::Ready(Ok(received)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(self.io.poll_readable(cx))?;
                    }
                    Err(error) => break error,
                }
            };
            if !is_about_one_packet(error.kind()) {
                return Poll::Ready(Err(error));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Tells what the network said about some earlier packet, which anyone on the path can forge, from
/// a socket that is dead and takes the endpoint with it.
fn is_about_one_packet(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

#[derive(Debug)]
struct WritePoller {
    io: Arc<Async<UdpSocket>>,
    waiting: Option<WritableOwned<UdpSocket>>,
}

impl UdpPoller for WritePoller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let waiting = this.waiting.get_or_insert_with(|| Arc::clone(&this.io).writable_owned());
        let writable = ready!(Pin::new(waiting).poll(cx));
        this.waiting = None;
        Poll::Ready(writable)
    }
}

/// After as many in a row the task lets others run before it reads on.
const MAX_ERRORS_PER_POLL: usize = 16;
