//! libp2p's QUIC: the same on the wire as rust-libp2p's, whose transport has no place for other keys.
//!
//! quinn must not open what QUIC forbids, or any peer can have it forget other peers' connections, or
//! end the process: see the end of section 6 of `SECURITY.md`. The endpoints are those of
//! `glueberry-tokio`, which has such keys.

mod listener;
mod muxer;
mod punch;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use futures_util::stream::{SelectAll, StreamExt};
use glueberry_proto::printable;
use glueberry_tokio::Config;
use glueberry_tokio::adapter::quinn::{Connecting, Endpoint, Incoming, TransportConfig, VarInt};
use glueberry_tokio::adapter::{Negotiations, QuicAdmission, QuicParts, QuicWindow};
use glueberry_tokio::runtime::Runtime;
use libp2p::core::Endpoint as Role;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent,
};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tracing::debug;

use self::listener::{Happened, Listener};
use self::muxer::Muxer;
use super::windows::{Windows, at_a_time};

/// A connection that is under way, and who is at its other end.
type Upgrade = Pin<Box<dyn Future<Output = io::Result<(PeerId, StreamMuxerBox)>> + Send>>;

/// The transport.
pub(super) struct Quic {
    parts: QuicParts,
    upgrades: Upgrades,
    admission: QuicAdmission,
    runtime: Arc<dyn Runtime>,
    listeners: SelectAll<Listener>,
    diallers: Diallers,
    /// Who waits for a peer to come through the hole that is punched for it.
    punched: HashMap<SocketAddr, oneshot::Sender<Upgrade>>,
    waker: Option<Waker>,
}

/// Sockets to dial from where no listening one fits.
#[derive(Default)]
struct Diallers {
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
}

/// What makes connections of handshakes.
struct Upgrades {
    windows: Arc<Windows>,
    /// Of each substream.
    stream_window: u32,
    /// Of a peer at a time.
    substreams: usize,
    runtime: Arc<dyn Runtime>,
}

impl Upgrades {
    /// Waits for the end of a handshake, but not long.
    fn begin(&self, connecting: Connecting) -> Upgrade {
        let (deadline, windows) = (self.runtime.sleep(HANDSHAKE_TIMEOUT), self.windows.clone());
        let stream_window = self.stream_window;
        let negotiations = Negotiations::new(&self.runtime, at_a_time(self.substreams));
        Box::pin(async move {
            match select(connecting, deadline).await {
                Either::Left((connection, _)) => {
                    let connection = connection.map_err(io::Error::other)?;
                    let peer = QuicParts::peer(&connection)?;
                    let window = QuicWindow::new(connection.clone(), stream_window);
                    let registered = windows.add(peer, window.clone(), negotiations.clone());
                    let muxer = Muxer::new(connection, window, negotiations, registered);
                    Ok((peer, StreamMuxerBox::new(muxer)))
                }
                Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

impl Quic {
    /// Returns the transport of a node; a peer may have `substreams` open at a time.
    pub(super) fn new(
        identity: &Keypair,
        config: &Config,
        substreams: u32,
        windows: Arc<Windows>,
        runtime: &Arc<dyn Runtime>,
    ) -> io::Result<Self> {
        let parts = QuicParts::new(identity, transport(config, substreams), &**runtime)?;
        Ok(Self {
            parts,
            upgrades: Upgrades {
                windows,
                stream_window: config.stream_window,
                substreams: usize::try_from(substreams).unwrap_or(usize::MAX),
                runtime: runtime.clone(),
            },
            admission: QuicAdmission::new(config.max_incoming, runtime.clone()),
            runtime: runtime.clone(),
            listeners: SelectAll::new(),
            diallers: Diallers::default(),
            punched: HashMap::new(),
            waker: None,
        })
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Returns a listener from whose socket a target can be reached.
    fn listener(&self, target: SocketAddr) -> Option<&Listener> {
        let mut open = self.listeners.iter().filter(|listener| !listener.is_closed());
        open.find(|listener| QuicParts::reaches(listener.local().ip(), target))
    }

    /// Returns the endpoint from which a target is dialled.
    fn endpoint(&mut self, target: SocketAddr, port: PortUse) -> io::Result<Endpoint> {
        if port == PortUse::New {
            return self.parts.dialler(target.ip());
        }
        if let Some(listener) = self.listener(target) {
            return Ok(listener.endpoint().clone());
        }
        let dialler = match target.ip() {
            IpAddr::V4(_) => &mut self.diallers.v4,
            IpAddr::V6(_) => &mut self.diallers.v6,
        };
        match dialler {
            Some(endpoint) => Ok(endpoint.clone()),
            None => Ok(dialler.insert(self.parts.dialler(target.ip())?).clone()),
        }
    }

    /// Makes the way free for a peer that dials at the same time, and waits for it.
    fn punch(&mut self, target: SocketAddr) -> io::Result<Upgrade> {
        let listener = self.listener(target).ok_or_else(|| {
            io::Error::new(io::ErrorKind::AddrNotAvailable, "no socket for that listens")
        })?;
        let punching = punch::holes(listener.socket()?, target, self.runtime.clone());
        let (sender, receiver) = oneshot::channel::<Upgrade>();
        match self.punched.entry(target) {
            Entry::Occupied(other) if !other.get().is_canceled() => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "it is punched already"));
            }
            Entry::Occupied(mut gone) => drop(gone.insert(sender)),
            Entry::Vacant(free) => drop(free.insert(sender)),
        }
        let deadline = self.runtime.sleep(HANDSHAKE_TIMEOUT);
        Ok(Box::pin(async move {
            let punched = select(receiver, select(Box::pin(punching), deadline)).await;
            match punched {
                Either::Left((Ok(upgrade), _)) => upgrade.await,
                Either::Left((Err(_), _)) => Err(io::ErrorKind::ConnectionAborted.into()),
                Either::Right((Either::Left((error, _)), _)) => Err(error),
                Either::Right((Either::Right(_), _)) => Err(io::ErrorKind::TimedOut.into()),
            }
        }))
    }

    /// Begins a handshake that comes in, unless whoever has punched a hole for it gets it, or it is not
    /// admitted, or its first packet does not open.
    fn incoming(&mut self, incoming: Incoming) -> Option<Upgrade> {
        let from = incoming.remote_address();
        self.punched.retain(|_, waiting| !waiting.is_canceled());
        if let Some(waiting) = self.punched.remove(&from) {
            let upgrade = self.upgrades.begin(accept(incoming)?);
            // An error means that it has just stopped waiting.
            return waiting.send(upgrade).err();
        }
        let incoming = self.admission.judge(incoming)?;
        let upgrade = self.upgrades.begin(accept(incoming)?);
        let placed = self.admission.place(from.ip(), upgrade);
        Some(Box::pin(async move {
            let gave_way = || Err(io::Error::other("gave way to a newer handshake"));
            placed.await.unwrap_or_else(gave_way)
        }))
    }
}

impl Transport for Quic {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let Some((local, _)) = QuicParts::parse(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let (endpoint, socket) = self.parts.listen(local).map_err(TransportError::Other)?;
        let listener = Listener::new(id, endpoint, socket, self.runtime.clone());
        self.listeners.push(listener.map_err(TransportError::Other)?);
        // Further dials go out from there.
        match local.ip() {
            IpAddr::V4(_) => self.diallers.v4 = None,
            IpAddr::V6(_) => self.diallers.v6 = None,
        }
        self.wake();
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        match self.listeners.iter_mut().find(|listener| listener.id() == id) {
            Some(listener) => {
                listener.close();
                true
            }
            None => false,
        }
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Upgrade, TransportError<io::Error>> {
        let (target, peer) = match QuicParts::parse(&address) {
            Some((target, peer)) if target.port() != 0 && !target.ip().is_unspecified() => {
                (target, peer)
            }
            _ => return Err(TransportError::MultiaddrNotSupported(address)),
        };
        if options.role == Role::Listener && options.port_use == PortUse::New {
            if peer.is_none() {
                return Err(TransportError::MultiaddrNotSupported(address));
            }
            return self.punch(target).map_err(TransportError::Other);
        }
        let endpoint = self.endpoint(target, options.port_use).map_err(TransportError::Other)?;
        let connecting = self.parts.dial(&endpoint, target).map_err(TransportError::Other)?;
        Ok(self.upgrades.begin(connecting))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Upgrade, io::Error>> {
        self.waker = Some(cx.waker().clone());
        while self.admission.has_place(cx)
            && let Poll::Ready(Some((listener_id, local, happened))) =
                self.listeners.poll_next_unpin(cx)
        {
            let incoming = match happened {
                Happened::Incoming(incoming) => *incoming,
                Happened::Event(event) => return Poll::Ready(event),
            };
            let from = incoming.remote_address();
            if let Some(upgrade) = self.incoming(incoming) {
                return Poll::Ready(TransportEvent::Incoming {
                    listener_id,
                    upgrade,
                    local_addr: QuicParts::address(local),
                    send_back_addr: QuicParts::address(from),
                });
            }
        }
        Poll::Pending
    }
}

/// Begins a handshake. If that fails, the first packet is to blame, which anybody can send: not the
/// listener, each of whose failures would be reported.
fn accept(incoming: Incoming) -> Option<Connecting> {
    let remote = incoming.remote_address();
    let accepted = incoming.accept();
    let failed = |error: &_| {
        debug!(%remote, error = printable(error), "incoming connection failed");
    };
    accepted.inspect_err(failed).ok()
}

fn transport(config: &Config, substreams: u32) -> TransportConfig {
    let lost_after = config.keep_alive.saturating_mul(config.lost_after).as_millis();
    let idle = VarInt::from_u32(u32::try_from(lost_after).unwrap_or(u32::MAX));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(substreams.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(config.stream_window.into())
        .keep_alive_interval(Some(config.keep_alive))
        .max_idle_timeout(Some(idle.into()))
        .allow_spin(false);
    transport
}

/// Enough for a handshake of which packets are lost twice in a row.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
