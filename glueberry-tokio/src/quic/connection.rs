//! The task of one connection: owns its session, moves its bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use glueberry_proto::{Action, ConnectionLost, Instant, OpenError, ProtocolId, SubstreamId};
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use tracing::trace;

use super::substream::{QuicSubstream, ReadChunks};
use super::{NegotiateError, Negotiated, propose, respond};
use crate::node::Shared;
use crate::runtime::Timer;
use crate::session::SessionDriver;

/// Drives one session over one QUIC connection until both are over.
pub(super) struct ConnectionTask {
    connection: quinn::Connection,
    session: SessionDriver,
    shared: Arc<Shared>,
    substreams: BTreeMap<SubstreamId, QuicSubstream>,
    chunks: ReadChunks,
    accepting: Accepting,
    negotiations: FuturesUnordered<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    /// Substreams that are being opened and that the session still wants.
    opening: BTreeMap<SubstreamId, ()>,
    timer: Box<dyn Timer>,
    lost: Option<ConnectionLost>,
    /// Until when readers may still take what had arrived before the loss.
    lost_until: Option<Instant>,
    /// No substream of the peer waits; the task is woken when one does.
    is_accept_blocked: bool,
    is_closed: bool,
}

/// The next substream that the peer opens.
type Accepting =
    Pin<Box<dyn Future<Output = Result<(SendStream, RecvStream), ConnectionError>> + Send>>;

/// How a negotiation ended: of a substream that this side opened, or of one of the peer.
enum Outcome {
    Opened(SubstreamId, Result<Negotiated, NegotiateError>),
    /// Without an error if the peer took too long.
    Accepted(Result<Negotiated, Option<NegotiateError>>),
}

impl ConnectionTask {
    pub(super) fn new(
        connection: quinn::Connection,
        session: SessionDriver,
        shared: Arc<Shared>,
    ) -> Self {
        let timer = shared.runtime.timer();
        Self {
            accepting: accept(connection.clone()),
            connection,
            session,
            shared,
            substreams: BTreeMap::new(),
            chunks: ReadChunks::default(),
            negotiations: FuturesUnordered::new(),
            opening: BTreeMap::new(),
            timer,
            lost: None,
            lost_until: None,
            is_accept_blocked: false,
            is_closed: false,
        }
    }

    /// Does everything that can be done once; returns whether to go round again.
    fn round(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        self.act(now);
        let mut has_more = self.poll_accept(cx);
        has_more |= self.poll_negotiations(cx, now);
        self.substreams.retain(|_, substream| {
            has_more |= substream.poll(cx, &mut self.session, now, &mut self.chunks);
            !substream.is_over()
        });
        self.session.deliver(now, cx);
        has_more |= self.act(now);
        if !has_more
            && !self.has_unread(now)
            && let Some(why) = self.lost.take()
        {
            // Only now, so that what has arrived before the loss is handed out.
            self.session.session().handle_connection_lost(now, why);
            has_more = true;
        }
        has_more || self.poll_timer(cx)
    }

    /// Returns whether the peer has closed the connection behind messages that this side has, and that
    /// their reader has not got round to. It gets some time for that.
    fn has_unread(&mut self, now: Instant) -> bool {
        if !matches!(self.lost, Some(ConnectionLost::ClosedByPeer { .. })) {
            return false;
        }
        let is_unread = self.substreams.values().any(QuicSubstream::is_paused);
        let patience = self.shared.config.core.drain_timeout;
        is_unread && now < *self.lost_until.get_or_insert(now + patience)
    }

    fn act(&mut self, now: Instant) -> bool {
        let mut acted = false;
        while let Some(action) = self.session.poll_action() {
            acted = true;
            match action {
                Action::OpenSubstream { substream, protocols } => self.open(substream, &protocols),
                Action::WantWrite(id) => self.with(id, QuicSubstream::want_write),
                Action::Finish(id) => self.with(id, QuicSubstream::finish),
                Action::ResumeRead(id) => {
                    if let Some(substream) = self.substreams.get_mut(&id) {
                        substream.resume(self.session.session(), now);
                    }
                }
                Action::Reset { substream, code } => {
                    self.opening.remove(&substream);
                    if let Some(substream) = self.substreams.remove(&substream) {
                        substream.reset(code);
                    }
                }
                Action::CloseConnection { code } => {
                    self.is_closed = true;
                    self.substreams.clear();
                    let code = VarInt::from_u64(code).unwrap_or(VarInt::MAX);
                    self.connection.close(code, b"");
                }
                _ => {}
            }
        }
        acted
    }

    fn with(&mut self, id: SubstreamId, change: impl FnOnce(&mut QuicSubstream)) {
        if let Some(substream) = self.substreams.get_mut(&id) {
            change(substream);
        }
    }

    fn open(&mut self, id: SubstreamId, protocols: &[ProtocolId]) {
        let connection = self.connection.clone();
        let protocols: Vec<String> = protocols.iter().map(ToString::to_string).collect();
        self.opening.insert(id, ());
        self.negotiations.push(Box::pin(async move {
            let opened = match connection.open_bi().await {
                Ok((send, recv)) => propose(send, recv, &protocols).await,
                Err(error) => Err(NegotiateError::Lost(error)),
            };
            Outcome::Opened(id, opened)
        }));
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> bool {
        if self.lost.is_some() || self.is_closed || self.is_accept_blocked {
            return false;
        }
        if self.negotiations.len() >= self.shared.max_substreams {
            return false;
        }
        match self.accepting.as_mut().poll(cx) {
            Poll::Pending => {
                self.is_accept_blocked = true;
                false
            }
            Poll::Ready(Ok((send, recv))) => {
                self.accepting = accept(self.connection.clone());
                let protocols: Vec<String> =
                    self.session.session().protocols().iter().map(ToString::to_string).collect();
                let runtime = self.shared.runtime.clone();
                let deadline = runtime.now() + self.shared.negotiation_timeout;
                self.negotiations.push(Box::pin(async move {
                    let response = pin!(respond(send, recv, protocols));
                    match select(response, runtime.sleep_until(deadline)).await {
                        Either::Left((response, _)) => Outcome::Accepted(response.map_err(Some)),
                        Either::Right(_) => Outcome::Accepted(Err(None)),
                    }
                }));
                true
            }
            Poll::Ready(Err(error)) => {
                self.lost = Some(lost(error));
                true
            }
        }
    }

    fn poll_negotiations(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        while let Poll::Ready(Some(outcome)) = self.negotiations.poll_next_unpin(cx) {
            moved = true;
            self.negotiated(outcome, now);
        }
        moved
    }

    fn negotiated(&mut self, outcome: Outcome, now: Instant) {
        let session = self.session.session();
        match outcome {
            Outcome::Opened(id, result) => {
                if self.opening.remove(&id).is_none() {
                    return;
                }
                match result {
                    Ok(Negotiated { protocol, send, recv }) => {
                        self.substreams.insert(id, QuicSubstream::new(id, send, recv));
                        session.handle_opened(now, id, ProtocolId::parse(&protocol).ok());
                    }
                    // What is lost is the connection, and that is what the session is told.
                    Err(NegotiateError::Lost(error)) => {
                        self.lost.get_or_insert_with(|| lost(error));
                    }
                    Err(error) => {
                        trace!(%error, "substream was not agreed");
                        let error = match error {
                            NegotiateError::Refused => OpenError::Refused,
                            _ => OpenError::Failed,
                        };
                        session.handle_open_failed(now, id, error);
                    }
                }
            }
            Outcome::Accepted(Ok(Negotiated { protocol, send, recv })) => {
                if self.is_closed {
                    return;
                }
                let id = session.handle_accepted(now, ProtocolId::parse(&protocol).ok());
                self.substreams.insert(id, QuicSubstream::new(id, send, recv));
            }
            Outcome::Accepted(Err(error)) => trace!(?error, "substream of the peer failed"),
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.session.session().poll_timeout();
        let deadline = match (deadline, self.lost_until.filter(|_| self.lost.is_some())) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.timer.reset(deadline.and_then(|at| self.shared.clock.until(at)));
        if self.timer.poll(cx).is_pending() {
            return false;
        }
        let now = self.shared.now();
        self.session.session().handle_timeout(now);
        true
    }
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.shared.now();
        self.is_accept_blocked = false;
        self.substreams.values_mut().for_each(QuicSubstream::woken);
        self.session.take_commands(now, cx);
        let is_at_rest = (0..ROUNDS_PER_POLL).any(|_| !self.round(cx, now));
        if !is_at_rest {
            // Others have their turn.
            cx.waker().wake_by_ref();
        } else if self.session.is_done() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl fmt::Debug for ConnectionTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionTask").finish_non_exhaustive()
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
        error => ConnectionLost::Transport(error.to_string()),
    }
}

const ROUNDS_PER_POLL: usize = 32;
