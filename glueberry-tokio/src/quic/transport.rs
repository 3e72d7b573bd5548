//! Dials and incoming connections, each in a task of its own.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_channel::oneshot;
use glueberry_proto::{Address, DialId, Naming, NewConnection, Origin};
use libp2p_identity::{Keypair, PeerId};
use multiaddr::Multiaddr;
use quinn::VarInt;
use tracing::debug;

use super::accept::accept_all;
use super::connection::QuicConnection;
use super::dial::dial_any;
use super::name::Target;
use super::{Endpoint, EndpointError, QuicConfig};
use crate::address::AddressProblem;
use crate::config::Config;
use crate::error::{Error, ErrorCode};
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;

/// Binds the sockets of a node.
pub(crate) fn bind(
    runtime: &dyn Runtime,
    identity: &Keypair,
    listen: &[Multiaddr],
    config: &Config,
) -> Result<Endpoint, Error> {
    let substreams = u32::try_from(config.core.max_substreams).unwrap_or(u32::MAX);
    let quic = QuicConfig {
        inbound_substreams: substreams,
        outbound_substreams: substreams,
        stream_window: config.stream_window,
        send_window: config.send_window,
        keep_alive: config.keep_alive,
        lost_after: config.lost_after,
    };
    Endpoint::bind(runtime, identity, listen, &quic).map_err(|error| {
        let code = match &error {
            EndpointError::Address { .. } => ErrorCode::InvalidAddress,
            EndpointError::Bind { .. } => ErrorCode::ListenFailed,
            EndpointError::NoUdp | EndpointError::WindowTooLarge | EndpointError::KeepAlive => {
                ErrorCode::InvalidConfig
            }
            EndpointError::Tls(_) => ErrorCode::Internal,
        };
        Error::because(code, error)
    })
}

/// Raw QUIC as a node's transport.
#[derive(Debug)]
pub(crate) struct QuicTransport {
    endpoint: Arc<Endpoint>,
    shared: Arc<Shared>,
    /// Cleared once nobody can be accepted any more.
    is_listening: Arc<AtomicBool>,
    /// Dropping one cancels its dial.
    dials: BTreeMap<DialId, oneshot::Sender<()>>,
}

impl QuicTransport {
    pub(crate) fn start(endpoint: Endpoint, shared: &Arc<Shared>) -> Self {
        let endpoint = Arc::new(endpoint);
        let is_listening = Arc::new(AtomicBool::new(true));
        let has_listeners = !endpoint.addrs().is_empty();
        let accepting = accept_all(endpoint.clone(), shared.clone());
        let told = is_listening.clone();
        shared.spawn(async move {
            accepting.await;
            told.store(!has_listeners, Ordering::Release);
        });
        Self { endpoint, shared: shared.clone(), is_listening, dials: BTreeMap::new() }
    }
}

impl Transport for QuicTransport {
    fn check_address(address: &Multiaddr) -> Result<(), AddressProblem> {
        Target::try_from(address).map(drop)
    }

    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Address>) {
        self.dials.retain(|_, cancel| !cancel.is_canceled());
        let (cancel, mut cancelled) = oneshot::channel();
        self.dials.insert(dial, cancel);
        let (endpoint, shared) = (self.endpoint.clone(), self.shared.clone());
        self.shared.spawn(async move {
            let mut attempt = pin!(dial_any(&endpoint, &*shared.runtime, peer, &addresses));
            let result = poll_fn(|cx| match Pin::new(&mut cancelled).poll(cx) {
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => attempt.as_mut().poll(cx).map(Some),
            });
            match result.await {
                None => {}
                Some(Ok((connection, address))) => {
                    shared.dial_answered(dial, address);
                    offer(&endpoint, &shared, connection, peer, Origin::Dialled(dial));
                }
                Some(Err(error)) => shared.dial_failed(dial, error),
            }
        });
    }

    fn cancel(&mut self, dial: DialId) {
        self.dials.remove(&dial);
    }

    fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Acquire)
    }

    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.dials.clear();
        let (endpoint, runtime) = (self.endpoint.clone(), self.shared.runtime.clone());
        Box::pin(async move { endpoint.shut_down(&*runtime).await })
    }
}

/// Offers a connection to the node; one whose peer has no Ed25519 key never gets that far.
pub(super) fn offer(
    endpoint: &Endpoint,
    shared: &Arc<Shared>,
    connection: quinn::Connection,
    peer: PeerId,
    origin: Origin,
) {
    let Ok(key) = shared.key_of(peer) else {
        debug!(%peer, "not an ed25519 identity");
        return connection.close(REFUSED, b"");
    };
    let offered = NewConnection { peer: key, origin, naming: Naming::Negotiated };
    // A node that has stopped closes its connections with the endpoint.
    let closing = endpoint.closing().begin();
    shared.offer_connection(offered, QuicConnection::new(connection, closing, shared.clone()));
}

/// The code of a connection from somebody whom Glueberry can't talk to.
const REFUSED: VarInt = VarInt::from_u32(7);
