//! One socket that listens.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::stream::Stream;
use glueberry_tokio::adapter::QuicParts;
use glueberry_tokio::adapter::quinn::{Endpoint, Incoming, VarInt};
use glueberry_tokio::runtime::{Runtime, Timer};
use libp2p::core::transport::{ListenerId, TransportEvent};

use super::Upgrade;

type Event = TransportEvent<Upgrade, io::Error>;

/// What happens on a listener.
pub(super) enum Happened {
    /// Somebody begins a handshake.
    Incoming(Box<Incoming>),
    /// Something that is not for the transport itself.
    Event(Event),
}

/// A socket, and where it is reached.
pub(super) struct Listener {
    id: ListenerId,
    local: SocketAddr,
    endpoint: Endpoint,
    /// Another handle of the endpoint's, to punch holes from.
    socket: UdpSocket,
    runtime: Arc<dyn Runtime>,
    accepting: Accepting,
    /// What was reported.
    addresses: BTreeSet<SocketAddr>,
    /// When the machine's addresses are looked up again, if the socket has all of them.
    timer: Option<Box<dyn Timer>>,
    events: VecDeque<Event>,
    is_closed: bool,
    waker: Option<Waker>,
}

type Accepting = Pin<Box<dyn Future<Output = Option<Incoming>> + Send>>;

impl Listener {
    pub(super) fn new(
        id: ListenerId,
        endpoint: Endpoint,
        socket: UdpSocket,
        runtime: Arc<dyn Runtime>,
    ) -> io::Result<Self> {
        let local = endpoint.local_addr()?;
        let timer = local.ip().is_unspecified().then(|| runtime.timer());
        let mut this = Self {
            id,
            local,
            accepting: accept(endpoint.clone()),
            endpoint,
            socket,
            runtime,
            addresses: BTreeSet::new(),
            timer,
            events: VecDeque::new(),
            is_closed: false,
            waker: None,
        };
        this.look_up();
        Ok(this)
    }

    pub(super) const fn id(&self) -> ListenerId {
        self.id
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) const fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn socket(&self) -> io::Result<UdpSocket> {
        self.socket.try_clone()
    }

    /// Says on which listener, and on which socket, something has happened.
    const fn happened(&self, what: Happened) -> (ListenerId, SocketAddr, Happened) {
        (self.id, self.local, what)
    }

    /// Closes the socket with all its connections.
    pub(super) fn close(&mut self) {
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        self.endpoint.close(VarInt::from_u32(0), b"");
        let (listener_id, reason) = (self.id, Ok(()));
        self.events.push_back(TransportEvent::ListenerClosed { listener_id, reason });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Reports what has changed of the addresses at which the socket is reached.
    fn look_up(&mut self) {
        let now: BTreeSet<SocketAddr> = QuicParts::reached_at(self.local).into_iter().collect();
        let listener_id = self.id;
        for gone in self.addresses.difference(&now) {
            let listen_addr = QuicParts::address(*gone);
            self.events.push_back(TransportEvent::AddressExpired { listener_id, listen_addr });
        }
        for new in now.difference(&self.addresses) {
            let listen_addr = QuicParts::address(*new);
            self.events.push_back(TransportEvent::NewAddress { listener_id, listen_addr });
        }
        self.addresses = now;
        if let Some(timer) = &mut self.timer {
            timer.reset(self.runtime.now().checked_add(LOOK_UP));
        }
    }
}

impl Stream for Listener {
    type Item = (ListenerId, SocketAddr, Happened);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(self.happened(Happened::Event(event))));
            }
            if self.is_closed {
                return Poll::Ready(None);
            }
            if self.timer.as_mut().is_some_and(|timer| timer.poll(cx).is_ready()) {
                self.look_up();
                continue;
            }
            match self.accepting.as_mut().poll(cx) {
                Poll::Ready(Some(incoming)) => {
                    self.accepting = accept(self.endpoint.clone());
                    return Poll::Ready(Some(self.happened(Happened::Incoming(incoming.into()))));
                }
                Poll::Ready(None) => self.close(),
                Poll::Pending => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }
}

fn accept(endpoint: Endpoint) -> Accepting {
    Box::pin(async move { endpoint.accept().await })
}

/// How soon an address that the machine gets is known.
const LOOK_UP: Duration = Duration::from_secs(10);
