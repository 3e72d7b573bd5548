//! A session inside a connection handler: moves its bytes, and asks for what only the swarm can do.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use glueberry_proto::{ConnectionLost, OpenError, ProtocolId, Session, SessionId, SubstreamId};
use glueberry_tokio::adapter::{
    Connection, ConnectionEvent, ConnectionLoop, PeerMemory, SessionDriver, Shared,
};
use glueberry_tokio::runtime::Timer;
use libp2p::PeerId;

use crate::settings::{Bounds, Loan, Settings};
use crate::silence::Liveness;
use crate::substream::{Order, SwarmSubstream};
use crate::upgrade::Negotiated;

/// One session, and what it has of the connection.
#[derive(Debug)]
pub(crate) struct SwarmSession {
    inner: ConnectionLoop<SwarmConnection>,
    order: Order,
    liveness: Liveness,
    timer: Box<dyn Timer>,
}

/// What a session has to know of its connection.
pub(crate) struct Carrier {
    pub(crate) order: Order,
    /// Which relay carries it.
    pub(crate) relay: Option<PeerId>,
    /// What bounds the peer, if this side's transport does.
    pub(crate) bounds: Option<Arc<dyn Bounds>>,
}

/// What a session wants of its handler.
#[derive(Debug)]
pub(crate) enum Want {
    /// A substream on one of these protocols.
    Open(Opening, Vec<ProtocolId>),
    /// Nothing more, ever.
    Over,
}

/// Which substream is being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The session: another may follow on the same connection.
    pub(crate) session: SessionId,
    pub(crate) purpose: OpeningFor,
}

/// What a substream is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpeningFor {
    /// The session, which calls it so.
    Session(SubstreamId),
    /// To find out whether the peer answers.
    Probe,
    /// To find out whether the peer's session is Established and goes on.
    Stays,
}

impl SwarmSession {
    pub(crate) fn new(
        driver: SessionDriver,
        shared: Arc<Shared>,
        carrier: Carrier,
        settings: &Settings,
    ) -> Self {
        let Carrier { order, relay, bounds } = carrier;
        let admitted =
            |bounds: &Arc<dyn Bounds>| bounds.admitted(driver.memory(), settings.max_parked);
        let loans = bounds.as_ref().and_then(admitted).into_iter().collect();
        let connection = SwarmConnection { relay, bounds, loans, wanted: VecDeque::new() };
        Self {
            timer: shared.runtime().timer(),
            liveness: Liveness::new(shared.clone(), settings),
            inner: ConnectionLoop::new(connection, driver, shared),
            order,
        }
    }

    /// Returns the driver of the session, without its substreams.
    pub(crate) fn into_driver(self) -> SessionDriver {
        self.inner.into_driver()
    }

    pub(crate) fn id(&mut self) -> SessionId {
        self.inner.session().id()
    }

    /// Returns whether a handshake substream of the peer would belong to another session than this.
    pub(crate) fn is_succeeded_by(&mut self, protocol: Option<&ProtocolId>) -> bool {
        let Some(ProtocolId::Handshake(profile)) = protocol else {
            return false;
        };
        self.inner.session().is_succeeded_by(*profile)
    }

    /// Returns whether nothing more is sent in the handshake.
    pub(crate) fn handshake_is_over(&mut self) -> bool {
        self.inner.session().handshake_is_over()
    }

    /// Returns whether this side's session goes on, as far as this side has decided.
    pub(crate) fn stays(&mut self) -> bool {
        self.inner.session().is_established()
    }

    /// Returns what the peer may open now.
    pub(crate) fn protocols(&mut self) -> Vec<ProtocolId> {
        self.inner.session().protocols()
    }

    // ---- from the swarm -----------------------------------------------------------------------

    /// The peer has opened a substream.
    pub(crate) fn accepted(&mut self, negotiated: Negotiated) {
        self.liveness.received();
        let (protocol, substream) = self.substream(negotiated);
        self.inner.handle_event(ConnectionEvent::Accepted { protocol, substream });
    }

    /// The peer has begun to open a substream, for whatever it is. It may be a probe, which is refused.
    pub(crate) fn peer_is_there(&self) {
        self.liveness.received();
    }

    /// The peer has proposed protocols without end on a substream.
    pub(crate) fn negotiation_had_no_end(&mut self) {
        self.inner.handle_event(ConnectionEvent::EndlessNegotiation);
    }

    /// What was asked for has been opened.
    pub(crate) fn opened(&mut self, opening: Opening, negotiated: Negotiated) {
        self.liveness.received();
        let id = match opening.purpose {
            OpeningFor::Session(id) => id,
            OpeningFor::Probe => {
                self.liveness.answered(true);
                return self.inner.session().handle_probe_accepted(self.liveness.now());
            }
            OpeningFor::Stays => return self.liveness.heard_whether_it_stays(true),
        };
        let (protocol, substream) = self.substream(negotiated);
        self.inner.handle_event(ConnectionEvent::Opened { id, protocol, substream });
    }

    /// What was asked for could not be opened.
    pub(crate) fn open_failed(&mut self, opening: Opening, error: OpenError) {
        let is_answer = error == OpenError::Refused;
        if is_answer {
            self.liveness.received();
        }
        match opening.purpose {
            OpeningFor::Probe => self.liveness.answered(is_answer),
            OpeningFor::Stays => self.liveness.heard_whether_it_stays(false),
            OpeningFor::Session(id) => {
                self.inner.handle_event(ConnectionEvent::OpenFailed { id, error })
            }
        }
    }

    fn substream(&self, negotiated: Negotiated) -> (Option<ProtocolId>, SwarmSubstream) {
        let protocol = negotiated.protocol.clone();
        (protocol, SwarmSubstream::new(negotiated, self.order, self.liveness.clone()))
    }

    // ---- the loop -----------------------------------------------------------------------------

    /// Does what can be done; returns the next thing that the swarm must do, or nothing for now.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Want> {
        if Pin::new(&mut self.inner).poll(cx).is_ready() {
            return Some(Want::Over);
        }
        if let Some((substream, protocols)) = self.inner.connection().wanted.pop_front() {
            let opening = Opening { session: self.id(), purpose: OpeningFor::Session(substream) };
            return Some(Want::Open(opening, protocols));
        }
        self.poll_silence(cx)
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Option<Want> {
        loop {
            if self.liveness.is_lost() && self.inner.connection().is_held_back() {
                // Its silence is this side's doing.
                self.liveness.received();
            }
            if self.liveness.is_lost() {
                self.inner.handle_event(ConnectionEvent::Lost(ConnectionLost::TimedOut));
                return Pin::new(&mut self.inner).poll(cx).is_ready().then_some(Want::Over);
            }
            if self.liveness.is_unanswered() && self.inner.connection().is_held_back() {
                // The peer's own probes are behind what is not read. This side's show it that it is there.
                self.liveness.probes_again();
            }
            if self.liveness.begins_probe() {
                let opening = Opening { session: self.id(), purpose: OpeningFor::Probe };
                return Some(Want::Open(opening, vec![ProtocolId::Probe]));
            }
            if self.liveness.begins_to_ask() {
                let opening = Opening { session: self.id(), purpose: OpeningFor::Stays };
                return Some(Want::Open(opening, vec![ProtocolId::Stays]));
            }
            self.timer.reset(self.liveness.deadline());
            if self.timer.poll(cx).is_pending() {
                return None;
            }
        }
    }
}

/// A connection of the swarm as far as one session has it. The handler is called where another
/// connection would be polled, and asks the swarm for what is wanted here.
#[derive(Debug)]
pub(crate) struct SwarmConnection {
    /// Which relay carries it.
    relay: Option<PeerId>,
    bounds: Option<Arc<dyn Bounds>>,
    loans: Vec<Box<dyn Loan>>,
    wanted: VecDeque<(SubstreamId, Vec<ProtocolId>)>,
}

impl SwarmConnection {
    fn is_held_back(&self) -> bool {
        self.bounds.as_ref().is_some_and(|bounds| bounds.is_held_back(self.relay))
    }
}

impl Connection for SwarmConnection {
    type Substream = SwarmSubstream;

    const OUTLIVES_SESSION: bool = true;

    fn established(&mut self, memory: &Arc<PeerMemory>) {
        if let Some(bounds) = &self.bounds {
            self.loans.extend(bounds.established(self.relay, memory));
        }
    }

    fn open(&mut self, substream: SubstreamId, protocols: Vec<ProtocolId>) {
        self.wanted.push_back((substream, protocols));
    }

    fn poll_event(
        &mut self,
        _: &mut Context<'_>,
        _: &Session,
    ) -> Poll<ConnectionEvent<SwarmSubstream>> {
        Poll::Pending
    }

    /// The handler closes it, if it is the node's own.
    fn poll_close(&mut self, _: &mut Context<'_>, _: u64) -> Poll<()> {
        Poll::Ready(())
    }
}
