//! A QUIC connection whose streams are negotiated.

use std::fmt;
use std::future::{Future, pending};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use glueberry_proto::{ConnectionLost, OpenError, ProtocolId, Session, SubstreamId, printable};
use multiaddr::Multiaddr;
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use tracing::trace;

use super::closing::Closing;
use super::on_wake::OnWake;
use super::substream::QuicSubstream;
use super::window::Window;
use super::{NegotiateError, Negotiated, QuicAddr, propose, respond};
use crate::connection::{Connection, ConnectionEvent};
use crate::memory::PeerMemory;
use crate::negotiations::{AtATime, Negotiations};
use crate::path::Path;
use crate::shared::Shared;

/// One QUIC connection.
pub(super) struct QuicConnection {
    /// Until the peer was told that it is closed.
    connection: Option<Open>,
    shared: Arc<Shared>,
    accepting: Accepting,
    allowed: Arc<Negotiations>,
    acceptable: OnWake,
    negotiations: FuturesUnordered<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    is_lost: bool,
}

/// A connection that is open, as far as this side is concerned.
struct Open {
    connection: quinn::Connection,
    closing: Closing,
    window: Arc<Window>,
    path: Arc<QuicPath>,
}

/// What quinn knows of the way to the peer.
struct QuicPath(quinn::Connection);

impl Path for QuicPath {
    fn address(&self) -> Option<Multiaddr> {
        Some(QuicAddr::from(self.0.remote_address()).into())
    }

    fn round_trip(&self) -> Option<Duration> {
        Some(self.0.rtt())
    }
}

/// The next stream that the peer opens.
type Accepting =
    Pin<Box<dyn Future<Output = Result<(SendStream, RecvStream), ConnectionError>> + Send>>;

/// How a negotiation ended: of a stream that this side opened, or of one of the peer. Without an
/// error if the peer took too long.
enum Outcome {
    Opened(SubstreamId, Result<Negotiated, Option<NegotiateError>>),
    Accepted(Result<Negotiated, Option<NegotiateError>>),
}

impl QuicConnection {
    pub(super) fn new(
        connection: quinn::Connection,
        closing: Closing,
        shared: Arc<Shared>,
    ) -> Self {
        // What is answered depends on what waits already: see `Config::max_parked`.
        let at_a_time = AtATime {
            before_established: shared.config.core.max_parked,
            established: shared.max_substreams,
        };
        Self {
            accepting: accept(connection.clone()),
            allowed: Negotiations::new(&shared.runtime, at_a_time),
            acceptable: OnWake::new(),
            connection: Some(Open {
                window: Window::new(connection.clone(), shared.config.stream_window),
                path: Arc::new(QuicPath(connection.clone())),
                connection,
                closing,
            }),
            shared,
            negotiations: FuturesUnordered::new(),
            is_lost: false,
        }
    }

    /// Adds a negotiation. A peer that is silent in it holds the stream no longer than the session
    /// would wait.
    fn negotiate(
        &self,
        negotiation: impl Future<Output = Result<Negotiated, NegotiateError>> + Send + 'static,
        outcome: impl FnOnce(Result<Negotiated, Option<NegotiateError>>) -> Outcome + Send + 'static,
    ) {
        let timeout = self.shared.runtime.sleep(self.shared.negotiation_timeout);
        self.negotiations.push(Box::pin(async move {
            match select(pin!(negotiation), timeout).await {
                Either::Left((result, _)) => outcome(result.map_err(Some)),
                Either::Right(_) => outcome(Err(None)),
            }
        }));
    }

    /// Returns what a negotiation means to the session. One of the peer's that failed means
    /// nothing, unless it would have had no end.
    fn outcome(&mut self, outcome: Outcome) -> Option<ConnectionEvent<QuicSubstream>> {
        match outcome {
            Outcome::Opened(id, Ok(Negotiated { protocol, send, recv })) => {
                let protocol = ProtocolId::parse(&protocol).ok();
                let counted = self.connection.as_ref()?.window.count();
                let substream = QuicSubstream::new(send, recv, counted);
                Some(ConnectionEvent::Opened { id, protocol, substream })
            }
            // What is lost is the connection, which is what the session has to know.
            Outcome::Opened(_, Err(Some(NegotiateError::Lost(error)))) => {
                self.is_lost = true;
                Some(ConnectionEvent::Lost(lost(error)))
            }
            Outcome::Opened(id, Err(error)) => {
                trace!(?error, "substream was not agreed");
                let error = match error {
                    Some(NegotiateError::Refused) => OpenError::Refused,
                    _ => OpenError::Failed,
                };
                Some(ConnectionEvent::OpenFailed { id, error })
            }
            Outcome::Accepted(Ok(Negotiated { protocol, send, recv })) => {
                let protocol = ProtocolId::parse(&protocol).ok();
                if protocol == Some(ProtocolId::Stays) {
                    // The acceptance is the answer. It must arrive, so the half is ended, not reset.
                    return None;
                }
                let counted = self.connection.as_ref()?.window.count();
                let substream = QuicSubstream::new(send, recv, counted);
                Some(ConnectionEvent::Accepted { protocol, substream })
            }
            Outcome::Accepted(Err(Some(NegotiateError::TooLong))) => {
                Some(ConnectionEvent::EndlessNegotiation)
            }
            Outcome::Accepted(Err(error)) => {
                trace!(?error, "substream of the peer failed");
                None
            }
        }
    }
}

impl Connection for QuicConnection {
    type Substream = QuicSubstream;

    fn established(&mut self, memory: &Arc<PeerMemory>) {
        self.allowed.established();
        if let Some(open) = &self.connection {
            open.window.established(memory);
        }
    }

    fn remote_ip(&self) -> Option<IpAddr> {
        Some(self.connection.as_ref()?.connection.remote_address().ip())
    }

    fn channel_binding(&self) -> Option<[u8; 32]> {
        let mut exporter = [0; 32];
        let Open { connection, .. } = self.connection.as_ref()?;
        // It fails only for lengths that TLS does not allow.
        let exported =
            connection.export_keying_material(&mut exporter, b"EXPORTER-glueberry-2", b"");
        exported.is_ok().then_some(exporter)
    }

    fn path(&self) -> Option<Weak<dyn Path>> {
        let path: Weak<dyn Path> = Arc::<QuicPath>::downgrade(&self.connection.as_ref()?.path);
        Some(path)
    }

    fn open(&mut self, id: SubstreamId, protocols: Vec<ProtocolId>) {
        let Some(Open { connection, .. }) = &self.connection else {
            // It is closed, which the session knows.
            return;
        };
        let connection = connection.clone();
        let protocols: Vec<String> = protocols.iter().map(ToString::to_string).collect();
        let opening = async move {
            let (send, recv) = connection.open_bi().await.map_err(NegotiateError::Lost)?;
            propose(send, recv, &protocols).await
        };
        self.negotiate(opening, move |result| Outcome::Opened(id, result));
    }

    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        session: &Session,
    ) -> Poll<ConnectionEvent<QuicSubstream>> {
        loop {
            while !self.negotiations.is_empty()
                && let Poll::Ready(Some(outcome)) = self.negotiations.poll_next_unpin(cx)
            {
                if let Some(event) = self.outcome(outcome) {
                    return Poll::Ready(event);
                }
            }
            if self.is_lost {
                return Poll::Pending;
            }
            let Some(Open { connection, .. }) = &self.connection else {
                return Poll::Pending;
            };
            ready!(self.allowed.poll_room(cx));
            match self.acceptable.poll(cx, |cx| self.accepting.as_mut().poll(cx)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok((send, recv))) => {
                    self.accepting = accept(connection.clone());
                    let stays = session.is_established().then_some(ProtocolId::Stays);
                    let protocols = session.protocols().into_iter().chain(stays);
                    let protocols = protocols.map(|protocol| protocol.to_string()).collect();
                    let answering = respond(send, recv, protocols, self.allowed.begin());
                    self.negotiate(answering, Outcome::Accepted);
                }
                Poll::Ready(Err(error)) => {
                    self.is_lost = true;
                    return Poll::Ready(ConnectionEvent::Lost(lost(error)));
                }
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, code: u64) -> Poll<()> {
        let Some(Open { connection, closing, .. }) = &mut self.connection else {
            return Poll::Ready(());
        };
        let code = VarInt::from_u64(code).unwrap_or(VarInt::MAX);
        ready!(closing.poll(cx, &*self.shared.runtime, connection, code));
        // The session may still be read. The socket is not to be held for that.
        self.connection = None;
        self.negotiations.clear();
        self.accepting = Box::pin(pending());
        Poll::Ready(())
    }
}

impl fmt::Debug for QuicConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicConnection").finish_non_exhaustive()
    }
}

fn accept(connection: quinn::Connection) -> Accepting {
    Box::pin(async move { connection.accept_bi().await })
}

fn lost(error: ConnectionError) -> ConnectionLost {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionLost::ClosedByPeer { code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionLost::TimedOut,
        ConnectionError::Reset => ConnectionLost::Reset,
        ConnectionError::LocallyClosed => ConnectionLost::ClosedLocally,
        error => ConnectionLost::Transport(printable(error)),
    }
}
