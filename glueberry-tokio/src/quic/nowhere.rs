//! Freeing the sockets of an endpoint that has not forgotten all of its connections.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::runtime::Runtime;

/// Has an endpoint go on without a socket, until its last connection is forgotten.
pub(super) fn move_to(endpoint: &quinn::Endpoint) {
    // Neither fails but for a socket without an address, which is closed already.
    if let Ok(local) = endpoint.local_addr() {
        // quinn keeps the socket before the present one, for packets that are under way.
        for _ in 0..2 {
            drop(endpoint.rebind_abstract(Arc::new(Nowhere { local })));
        }
    }
}

/// Waits until sockets are closed: the tasks of connections let go of them one by one.
pub(super) async fn freed(sockets: Vec<Weak<dyn AsyncUdpSocket>>, runtime: &dyn Runtime) {
    let deadline = runtime.now() + PATIENCE;
    while sockets.iter().any(|socket| socket.strong_count() > 0) && runtime.now() < deadline {
        runtime.sleep(TICK).await;
    }
}

/// A socket that sends nothing, and never receives.
#[derive(Debug)]
struct Nowhere {
    local: SocketAddr,
}

impl AsyncUdpSocket for Nowhere {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Time between two looks.
const TICK: Duration = Duration::from_millis(1);
/// Time for the sockets to be closed: it is a matter of the scheduler.
const PATIENCE: Duration = Duration::from_secs(1);
