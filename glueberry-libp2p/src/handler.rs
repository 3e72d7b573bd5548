//! The handler of one connection of the swarm.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use glueberry_proto::{ConnectionLost, OpenError, ProtocolId, PublicKey, RefuseReason};
use glueberry_tokio::adapter::{SessionDriver, Shared};
use glueberry_tokio::runtime::Timer;
use libp2p::PeerId;
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandlerEvent, DialUpgradeError, FullyNegotiatedInbound,
    FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandler, StreamUpgradeError, SubstreamProtocol};
use tracing::{debug, trace};

use crate::link::{Link, PendingLink, ToHandler};
use crate::remains;
use crate::session::{Carrier, Opening, OpeningFor, SwarmSession, Want};
use crate::settings::{Bounds, Ownership, Settings};
use crate::substream::Order;
use crate::upgrade::{Negotiated, Proposal};

/// Carries the sessions of one connection, one at a time.
///
/// Made by [`Behaviour`](crate::Behaviour); it is public only because the swarm wants it to be.
pub struct Handler {
    /// The peer's key, or none if it has an identity that Glueberry has no use for.
    peer: Option<PublicKey>,
    /// Which relay leads to it.
    relay: Option<PeerId>,
    link: Arc<Link>,
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    order: Order,
    slot: Slot,
    /// What the peer may open in the session that runs.
    accepts: Proposal,
    accepted_ids: Vec<ProtocolId>,
    events: VecDeque<ToBehaviour>,
    /// What bounds the peer on this connection, if this side's transport does.
    bounds: Option<Arc<dyn Bounds>>,
    /// How many of its negotiations without end were reported.
    endless: u32,
    /// How many that it has begun were noticed.
    begun: u64,
    /// Until when the peer must have used a connection that it has made; none once it has.
    unused: Option<Box<dyn Timer>>,
}

/// What a handler sends its behaviour.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ToBehaviour {
    /// The connection is of no more use to the node that owns it.
    Close,
}

/// How far a connection is from carrying a session.
enum Slot {
    /// Not used by Glueberry.
    Idle,
    /// The node was asked for a session, and the peer has opened these substreams meanwhile.
    Asked(Vec<Negotiated>),
    Running(Box<SwarmSession>),
}

type Event = ConnectionHandlerEvent<Proposal, Opening, ToBehaviour>;

impl Handler {
    pub(crate) fn new(
        (peer, relay): (PeerId, Option<PeerId>),
        link: Arc<Link>,
        shared: Arc<Shared>,
        settings: Arc<Settings>,
        order: Order,
        is_inbound: bool,
    ) -> Self {
        let unused = (is_inbound && settings.ownership == Ownership::Owned).then(|| {
            let mut timer = shared.runtime().timer();
            timer.reset(shared.runtime().now().checked_add(shared.negotiation_timeout()));
            timer
        });
        Self {
            unused,
            bounds: None,
            endless: 0,
            begun: 0,
            peer: PublicKey::try_from(&peer).ok(),
            relay,
            link,
            shared,
            settings,
            order,
            slot: Slot::Idle,
            accepts: Proposal::new(&[]),
            accepted_ids: Vec::new(),
            events: VecDeque::new(),
        }
    }

    fn is_owned(&self) -> bool {
        self.settings.ownership == Ownership::Owned
    }

    // ---- substreams of the peer ---------------------------------------------------------------

    fn inbound(&mut self, negotiated: Negotiated) {
        if matches!(negotiated.protocol, Some(ProtocolId::Probe | ProtocolId::Stays)) {
            // Its acceptance is the answer.
            return;
        }
        if self.begins_anew(negotiated.protocol.as_ref()) {
            return self.succeed(negotiated);
        }
        match &mut self.slot {
            Slot::Idle => self.ask(negotiated),
            Slot::Asked(waiting) if waiting.len() < self.shared.max_substreams() => {
                waiting.push(negotiated);
            }
            Slot::Asked(_) => debug!("substream dropped: too many before there is a session"),
            Slot::Running(session) => session.accepted(negotiated),
        }
    }

    /// Returns whether a substream begins another session.
    fn begins_anew(&mut self, protocol: Option<&ProtocolId>) -> bool {
        let is_owned = self.is_owned();
        match &mut self.slot {
            Slot::Running(session) => !is_owned && session.is_succeeded_by(protocol),
            Slot::Idle | Slot::Asked(_) => false,
        }
    }

    /// Asks the node for a session, unless it is about to send one anyway.
    fn ask(&mut self, negotiated: Negotiated) {
        let Some(peer) = self.peer else {
            return;
        };
        self.slot = Slot::Asked(vec![negotiated]);
        if self.link.claim() {
            self.offer(peer);
        }
    }

    fn offer(&self, peer: PublicKey) {
        PendingLink::offer_accepted(&self.link, &self.shared, peer);
    }

    /// On a connection that outlives its sessions, the peer begins another: the one that it had
    /// is over on its side, for which v1 has no other message.
    fn succeed(&mut self, negotiated: Negotiated) {
        let slot = std::mem::replace(&mut self.slot, Slot::Asked(vec![negotiated]));
        if let Slot::Running(session) = slot {
            debug!("the peer begins another session on this connection");
            let why = ConnectionLost::ClosedByPeer { code: 0 };
            let mut driver = session.into_driver();
            driver.session().handle_connection_lost(self.shared.now(), why);
            remains::drain_ended(driver, &self.shared);
        }
        if let Some(peer) = self.peer {
            self.offer(peer);
        }
    }

    // ---- from the node ------------------------------------------------------------------------

    fn message(&mut self, message: ToHandler) {
        match message {
            ToHandler::Session(driver) => self.accept(*driver),
            ToHandler::Refused(reason) => self.refused(reason),
            ToHandler::Released | ToHandler::Lost(_) => {}
        }
    }

    fn accept(&mut self, driver: SessionDriver) {
        let carrier = Carrier { order: self.order, relay: self.relay, bounds: self.bounds.clone() };
        let mut session = SwarmSession::new(driver, self.shared.clone(), carrier, &self.settings);
        match std::mem::replace(&mut self.slot, Slot::Idle) {
            Slot::Asked(waiting) => waiting.into_iter().for_each(|one| session.accepted(one)),
            Slot::Idle => {}
            Slot::Running(other) => {
                // A claim is for one session, so this cannot be; but none may be lost.
                remains::drain_lost(other.into_driver(), &self.shared, crate::link::gone());
            }
        }
        self.slot = Slot::Running(Box::new(session));
        self.refresh();
    }

    fn refused(&mut self, reason: RefuseReason) {
        trace!(%reason, "the node refuses the connection");
        if !matches!(self.slot, Slot::Running(_)) {
            self.slot = Slot::Idle;
            self.link.release();
        }
        if self.is_owned() || reason == RefuseReason::Blacklisted {
            self.events.push_back(ToBehaviour::Close);
        }
    }

    // ---- the loop -----------------------------------------------------------------------------

    /// Closes a connection that the peer has made and not used in time. The swarm would not: as long
    /// as the peer leaves other behaviours' substreams unanswered, it is in use.
    fn poll_unused(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.slot, Slot::Idle) || self.link.is_claimed() {
            // At the end of its session it is closed anyway.
            self.unused = None;
        }
        if self.unused.as_mut().is_some_and(|timer| timer.poll(cx).is_ready()) {
            self.unused = None;
            self.events.push_back(ToBehaviour::Close);
        }
    }

    /// Takes note of what the peer has opened, which shows that it is there, and reports what it has
    /// proposed without end. Where there is no session to judge that, the
    /// connection is closed.
    fn look_at_negotiations(&mut self) {
        let Some(bounds) = &self.bounds else {
            return;
        };
        let (begun, cut_off) = (bounds.negotiations().begun(), bounds.negotiations().cut_off());
        if std::mem::replace(&mut self.begun, begun) != begun
            && let Slot::Running(session) = &mut self.slot
        {
            session.peer_is_there();
        }
        while self.endless < cut_off {
            match &mut self.slot {
                Slot::Running(session) => session.negotiation_had_no_end(),
                // Its session, or a refusal, is about to come.
                Slot::Asked(_) => return,
                Slot::Idle => self.events.push_back(ToBehaviour::Close),
            }
            self.endless += 1;
        }
    }

    fn poll_session(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        let Slot::Running(session) = &mut self.slot else {
            return None;
        };
        match session.poll(cx)? {
            Want::Open(opening, protocols) => Some(self.open(opening, &protocols)),
            Want::Over => {
                self.over();
                self.events.pop_front().map(ConnectionHandlerEvent::NotifyBehaviour)
            }
        }
    }

    fn open(&self, opening: Opening, protocols: &[ProtocolId]) -> Event {
        let timeout = match opening.purpose {
            OpeningFor::Session(_) => self.shared.negotiation_timeout().min(LONGEST),
            // Longer than the silence after which the peer is given up.
            OpeningFor::Probe | OpeningFor::Stays => {
                self.settings.keep_alive.saturating_mul(self.settings.lost_after)
            }
        };
        ConnectionHandlerEvent::OutboundSubstreamRequest {
            protocol: SubstreamProtocol::new(Proposal::new(protocols), opening)
                .with_timeout(timeout),
        }
    }

    /// The session has ended; the connection may carry another. It must be free before the node
    /// gets the end, and dials again.
    fn over(&mut self) {
        let slot = std::mem::replace(&mut self.slot, Slot::Idle);
        if !self.is_owned() {
            // One that is about to be closed is not to be dialled over.
            self.link.release();
        }
        if let Slot::Running(session) = slot {
            remains::drain_ended(session.into_driver(), &self.shared);
        }
        if self.is_owned() {
            self.events.push_back(ToBehaviour::Close);
        }
    }

    /// Brings what is accepted in line with the session.
    fn refresh(&mut self) {
        let Slot::Running(session) = &mut self.slot else {
            return;
        };
        let mut ids = session.protocols();
        if session.stays() {
            ids.push(ProtocolId::Stays);
        }
        let is_refused = self.peer.is_none_or(|peer| self.shared.is_refused(peer));
        if self.settings.ownership == Ownership::Shared
            && session.handshake_is_over()
            && !is_refused
        {
            ids.extend(self.settings.handshakes.iter().cloned());
        }
        if ids != self.accepted_ids {
            self.accepts = Proposal::new(&ids);
            self.accepted_ids = ids;
        }
    }

    fn with_session(&mut self, opening: Opening, change: impl FnOnce(&mut SwarmSession)) {
        if let Slot::Running(session) = &mut self.slot
            && session.id() == opening.session
        {
            change(session);
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = ToBehaviour;
    type InboundProtocol = Proposal;
    type OutboundProtocol = Proposal;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opening;

    fn listen_protocol(&self) -> SubstreamProtocol<Proposal> {
        let accepts = match (&self.slot, self.peer) {
            (_, None) => Proposal::new(&[]),
            // A peer that is refused learns it before anything is agreed, not after.
            (Slot::Idle, Some(peer)) if self.shared.is_refused(peer) => self.settings.probe.clone(),
            (Slot::Idle, _) => self.settings.idle.clone(),
            (Slot::Asked(_), _) => self.settings.first.clone(),
            (Slot::Running(_), _) => self.accepts.clone(),
        };
        SubstreamProtocol::new(accepts, ())
            .with_timeout(self.shared.negotiation_timeout().clamp(SHORTEST, LONGEST))
    }

    fn connection_keep_alive(&self) -> bool {
        !matches!(self.slot, Slot::Idle) || self.link.is_claimed()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let (None, Some(find)) = (&self.bounds, self.settings.bounds) {
            self.bounds = find();
            if self.bounds.is_none() {
                return Poll::Pending;
            }
        }
        for message in self.link.mailbox.take(cx) {
            self.message(message);
        }
        self.poll_unused(cx);
        self.look_at_negotiations();
        let event = match self.events.pop_front() {
            Some(event) => Some(ConnectionHandlerEvent::NotifyBehaviour(event)),
            None => self.poll_session(cx),
        };
        self.refresh();
        event.map_or(Poll::Pending, Poll::Ready)
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Proposal, Proposal, (), Opening>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => self.inbound(protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => self.with_session(info, |session| session.opened(info, protocol)),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Refused,
                    // QUIC's way to say that the connection is lost. The behaviour is about to say why.
                    StreamUpgradeError::Io(error)
                        if error.kind() == ErrorKind::NotConnected
                            && matches!(info.purpose, OpeningFor::Session(_)) =>
                    {
                        return;
                    }
                    _ => OpenError::Failed,
                };
                self.with_session(info, |session| session.open_failed(info, error));
            }
            _ => {}
        }
    }
}

/// The connection is gone, which its session learns from the behaviour.
impl Drop for Handler {
    fn drop(&mut self) {
        let slot = std::mem::replace(&mut self.slot, Slot::Idle);
        if let Slot::Running(session) = slot {
            let (driver, link) = (session.into_driver(), self.link.clone());
            return remains::drain_dropped(driver, &self.shared, link);
        }
        for message in self.link.mailbox.close() {
            if let ToHandler::Session(driver) = message {
                remains::drain_lost(*driver, &self.shared, crate::link::gone());
            }
        }
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Time for a negotiation of the peer, at least.
const SHORTEST: Duration = Duration::from_secs(1);
/// Time that is as good as for ever. libp2p adds it to what its clock says, and a sum must come out.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
