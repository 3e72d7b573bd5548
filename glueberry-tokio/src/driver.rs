//! The task that owns the core's node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_channel::oneshot;
use glueberry_proto::{
    Address, Admission, Closed, ConnectionEvent, ConnectionId, ConnectionState, DialError, DialId,
    Instant, NewConnection, Node, NodeAction, PublicKey, ToNode,
};
use libp2p_identity::PeerId;
use tracing::{debug, info};

use crate::error::{Error, ErrorCode};
use crate::events::{Event, StateChanged};
use crate::mailbox::answer;
use crate::node::Shared;
use crate::port::{Command, Port};
use crate::routes::Standing;
use crate::runtime::Timer;
use crate::session::SessionDriver;
use crate::transport::{Carrier, Transport};

/// What is put to the node's task.
pub(crate) enum Letter {
    // From handles.
    AddPeer(PublicKey, Vec<Address>, Answer<()>),
    Connect(PublicKey, Answer<()>),
    Disconnect(PublicKey, oneshot::Sender<bool>),
    Shutdown(Option<oneshot::Sender<()>>),
    // From sessions.
    FromSession(ConnectionId, ToNode),
    SessionClosed(PeerId, Closed),
    SessionGone(ConnectionId),
    // From the transport.
    Connection(NewConnection, Box<dyn Carrier>),
    DialFailed(DialId, DialError),
}

/// Where the result of a command goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddPeer(..) => "AddPeer",
            Self::Connect(..) => "Connect",
            Self::Disconnect(..) => "Disconnect",
            Self::Shutdown(..) => "Shutdown",
            Self::FromSession(..) => "FromSession",
            Self::SessionClosed(..) => "SessionClosed",
            Self::SessionGone(..) => "SessionGone",
            Self::Connection(..) => "Connection",
            Self::DialFailed(..) => "DialFailed",
        })
    }
}

/// Owns the core's [`Node`]: gives it letters and time, does what it asks, tells what it says.
pub(crate) struct NodeDriver<T> {
    node: Node,
    shared: Arc<Shared>,
    transport: T,
    timer: Box<dyn Timer>,
    sessions: BTreeMap<ConnectionId, (PublicKey, Arc<Port>)>,
    connecting: BTreeMap<PublicKey, Vec<Answer<()>>>,
    /// Sessions that have ended and are to be told so.
    ended: Vec<(PeerId, Closed)>,
    /// Peers whose standing must be looked at.
    touched: BTreeSet<PublicKey>,
    stopping: Vec<oneshot::Sender<()>>,
    is_stopping: bool,
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<T: Transport> NodeDriver<T> {
    pub(crate) fn new(node: Node, shared: Arc<Shared>, transport: T) -> Self {
        let timer = shared.runtime.timer();
        Self {
            node,
            shared,
            transport,
            timer,
            sessions: BTreeMap::new(),
            connecting: BTreeMap::new(),
            ended: Vec::new(),
            touched: BTreeSet::new(),
            stopping: Vec::new(),
            is_stopping: false,
            closing: None,
        }
    }

    fn now(&self) -> Instant {
        self.shared.now()
    }

    fn letter(&mut self, letter: Letter) {
        let now = self.now();
        match letter {
            Letter::AddPeer(peer, addresses, answer_to) => {
                let added = self.node.add_peer(now, peer, &addresses).map_err(Error::from);
                answer(answer_to, added);
            }
            Letter::Connect(peer, answer_to) => match self.node.connect(now, peer) {
                Ok(()) => self.connecting.entry(peer).or_default().push(answer_to),
                Err(error) => answer(answer_to, Err(error.into())),
            },
            Letter::Disconnect(peer, answer_to) => {
                answer(answer_to, self.node.disconnect(now, peer));
            }
            Letter::Shutdown(answer) => {
                self.is_stopping = true;
                self.stopping.extend(answer);
                self.node.shutdown(now);
            }
            Letter::FromSession(connection, message) => {
                self.node.handle_session_message(now, connection, message);
                self.touch(connection);
            }
            Letter::SessionClosed(peer, closed) => self.ended.push((peer, closed)),
            Letter::SessionGone(connection) => {
                self.node.handle_session_gone(now, connection);
                self.touch(connection);
            }
            Letter::Connection(connection, carrier) => self.connection(now, connection, carrier),
            Letter::DialFailed(dial, error) => self.node.handle_dial_failed(now, dial, error),
        }
    }

    fn connection(&mut self, now: Instant, connection: NewConnection, carrier: Box<dyn Carrier>) {
        let peer = PeerId::from(connection.peer);
        match self.node.handle_connection(now, connection) {
            Admission::Accept(session) => {
                let id = session.connection();
                let port = Arc::new(Port::new(peer, id, self.shared.limits));
                self.sessions.insert(id, (connection.peer, port.clone()));
                carrier.carry(SessionDriver::new(*session, port, self.shared.clone()));
            }
            Admission::Refuse(reason) => {
                debug!(%peer, %reason, "connection refused");
                carrier.refuse(reason);
            }
            _ => {}
        }
    }

    fn touch(&mut self, connection: ConnectionId) {
        if let Some((peer, _)) = self.sessions.get(&connection) {
            self.touched.insert(*peer);
        }
    }

    fn act(&mut self) -> bool {
        let mut acted = false;
        while let Some(action) = self.node.poll_action() {
            acted = true;
            match action {
                NodeAction::Dial { dial, peer, addresses } => {
                    self.transport.dial(dial, peer.into(), addresses);
                }
                NodeAction::CancelDial(dial) => self.transport.cancel(dial),
                NodeAction::Forward { connection, message } => {
                    if let Some((peer, port)) = self.sessions.get(&connection) {
                        self.touched.insert(*peer);
                        // A session that is over has told so, or will.
                        drop(port.command(Command::FromNode(message)));
                    }
                }
                _ => {}
            }
        }
        acted
    }

    /// Brings what handles look up in line with the core, then tells what happened.
    fn tell(&mut self) -> bool {
        let mut events = Vec::new();
        while let Some(event) = self.node.poll_event() {
            self.touched.insert(event.peer);
            events.push(event);
        }
        for peer in std::mem::take(&mut self.touched) {
            self.stand(peer);
        }
        let told = !events.is_empty();
        for event in events {
            self.event(event);
        }
        for (peer, closed) in self.ended.drain(..) {
            self.shared.events.publish(&Event::SessionClosed { peer, closed });
        }
        told
    }

    fn stand(&mut self, peer: PublicKey) {
        let state = self.node.state(peer);
        let port = self
            .node
            .session_of(peer)
            .and_then(|connection| self.sessions.get(&connection))
            .map(|(_, port)| port.clone());
        let direction = self.node.direction(peer);
        let standing = Standing { state, direction, port };
        let is_known = direction.is_some() || state != ConnectionState::Disconnected;
        self.shared.routes.set(peer.into(), is_known.then_some(standing));
        self.sessions.retain(|_, (of, port)| *of != peer || !port.is_closed());
    }

    fn event(&mut self, event: ConnectionEvent) {
        let ConnectionEvent { peer: key, state, direction, reason, .. } = event;
        let peer = PeerId::from(key);
        match &reason {
            Some(reason) => info!(%peer, %state, %reason, "peer"),
            None => info!(%peer, %state, "peer"),
        }
        self.answer_connecting(key, state, reason.clone());
        let changed = StateChanged { peer, state, direction, reason, at: SystemTime::now() };
        self.shared.events.publish(&Event::State(changed));
    }

    fn answer_connecting(
        &mut self,
        key: PublicKey,
        state: ConnectionState,
        reason: Option<glueberry_proto::StateReason>,
    ) {
        if state == ConnectionState::Connecting {
            return;
        }
        for answer_to in self.connecting.remove(&key).unwrap_or_default() {
            let result = match state {
                ConnectionState::Connected | ConnectionState::Established => Ok(()),
                _ => Err(reason
                    .clone()
                    .map_or_else(|| Error::new(ErrorCode::NotConnected), Error::from)
                    .of_peer(key.into())),
            };
            answer(answer_to, result);
        }
    }

    /// Shuts down once nothing is left to wait for; ready when that is done.
    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_stopping || !self.node.is_idle() {
            return Poll::Pending;
        }
        let transport = &mut self.transport;
        let closing = self.closing.get_or_insert_with(|| transport.close());
        closing.as_mut().poll(cx)
    }

    fn stopped(&mut self) {
        self.shared.stop();
        for answer_to in self.stopping.drain(..) {
            answer(answer_to, ());
        }
    }
}

impl<T: Transport + Unpin> Future for NodeDriver<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let letters = this.shared.mailbox.take(cx);
            let mut moved = !letters.is_empty();
            for letter in letters {
                this.letter(letter);
            }
            this.node.handle_timeout(this.now());
            moved |= this.act();
            moved |= this.tell();
            if moved {
                continue;
            }
            let deadline = this.node.poll_timeout().and_then(|at| this.shared.clock.until(at));
            this.timer.reset(deadline);
            if this.timer.poll(cx).is_pending() {
                break;
            }
        }
        if this.poll_stop(cx).is_ready() {
            this.stopped();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// The task is gone, perhaps with its runtime: nobody may wait for it.
impl<T> Drop for NodeDriver<T> {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
