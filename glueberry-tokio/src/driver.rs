//! The task that owns the core's node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_channel::oneshot;
use glueberry_proto::book::{Revision, Unsaved};
use glueberry_proto::{
    Admission, Closed, ConnectionEvent, ConnectionState, DialError, DialId, Instant, NewConnection,
    Node, NodeAction, PeerStatus, PublicKey, SessionId, ToNode,
};
use libp2p_identity::PeerId;
use tracing::{Span, debug, info, info_span, warn};

use crate::desk::BookDesk;
use crate::error::{Error, ErrorCode};
use crate::events::{BookTrouble, Event, StateChanged};
use crate::keeper::Keeper;
use crate::mailbox::answer;
use crate::node::Shared;
use crate::port::Port;
use crate::routes::Standing;
use crate::runtime::Timer;
use crate::session::SessionDriver;
use crate::store::{Loaded, StoreError, wall_time};
use crate::telemetry::Before;
use crate::transport::{Carrier, Transport};

/// What is put to the node's task.
pub(crate) enum Letter {
    // From handles.
    /// Something to do with the core's node at once.
    Do(Deed),
    Connect(PublicKey, Answer<()>),
    FlushBook(Answer<()>),
    ReloadBook(Answer<()>),
    Examine(oneshot::Sender<Examination>),
    Shutdown(Option<oneshot::Sender<()>>),
    // From sessions.
    FromSession(SessionId, ToNode),
    SessionClosed(PeerId, Closed),
    SessionGone(SessionId),
    // From the transport.
    Connection(NewConnection, Box<dyn Carrier>),
    DialFailed(DialId, DialError),
    // From the address book's thread.
    BookSaved(Result<Revision, StoreError>),
    BookLoaded(Result<Loaded, StoreError>),
    BookClosed,
}

/// What a handle does with the core's node.
pub(crate) type Deed = Box<dyn FnOnce(&mut Node, Instant) -> Reply + Send>;

/// Gives an answer, once the handles see what was done.
pub(crate) type Reply = Box<dyn FnOnce() + Send>;

/// Where the result of a command goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What the node's task can tell of itself, for health checks and debugging.
#[derive(Debug)]
pub(crate) struct Examination {
    pub(crate) now: Instant,
    pub(crate) peers: Vec<(PublicKey, PeerStatus)>,
    /// Peers in the book, and how many of them are banned.
    pub(crate) book: (usize, usize),
    pub(crate) book_trouble: Option<String>,
    pub(crate) is_book_unsaved: bool,
    pub(crate) sessions: usize,
    pub(crate) is_listening: bool,
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Do(..) => "Do",
            Self::Connect(..) => "Connect",
            Self::FlushBook(..) => "FlushBook",
            Self::ReloadBook(..) => "ReloadBook",
            Self::Examine(..) => "Examine",
            Self::Shutdown(..) => "Shutdown",
            Self::FromSession(..) => "FromSession",
            Self::SessionClosed(..) => "SessionClosed",
            Self::SessionGone(..) => "SessionGone",
            Self::Connection(..) => "Connection",
            Self::DialFailed(..) => "DialFailed",
            Self::BookSaved(..) => "BookSaved",
            Self::BookLoaded(..) => "BookLoaded",
            Self::BookClosed => "BookClosed",
        })
    }
}

/// Owns the core's [`Node`]: gives it letters and time, does what it asks, tells what it says.
pub(crate) struct NodeDriver<T> {
    node: Node,
    shared: Arc<Shared>,
    transport: T,
    book: BookDesk,
    timer: Box<dyn Timer>,
    sessions: BTreeMap<SessionId, (PublicKey, Arc<Port>)>,
    connecting: BTreeMap<PublicKey, Vec<Answer<()>>>,
    /// Sessions that have ended and are to be told so.
    ended: Vec<(PeerId, Closed)>,
    replies: Vec<Reply>,
    /// Peers whose standing must be looked at.
    touched: BTreeSet<PublicKey>,
    /// The state that was last told of each peer that is not Disconnected.
    told: BTreeMap<PublicKey, Before>,
    stats_cleaned_at: Instant,
    stopping: Vec<oneshot::Sender<()>>,
    is_stopping: bool,
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<T: Transport> NodeDriver<T> {
    pub(crate) fn new(
        node: Node,
        shared: Arc<Shared>,
        transport: T,
        keeper: Option<Keeper>,
    ) -> Self {
        let timer = shared.runtime.timer();
        Self {
            node,
            stats_cleaned_at: shared.now(),
            book: BookDesk::new(keeper),
            shared,
            transport,
            timer,
            sessions: BTreeMap::new(),
            connecting: BTreeMap::new(),
            ended: Vec::new(),
            replies: Vec::new(),
            touched: BTreeSet::new(),
            told: BTreeMap::new(),
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
            Letter::Do(what) => {
                let reply = what(&mut self.node, now);
                self.replies.push(reply);
            }
            Letter::Connect(peer, answer_to) => match self.node.connect(now, peer) {
                Ok(()) => self.connecting.entry(peer).or_default().push(answer_to),
                Err(error) => answer(answer_to, Err(error.into())),
            },
            Letter::FlushBook(answer_to) => {
                self.node.flush_book(now);
                self.book.flush(&self.node, answer_to);
            }
            Letter::ReloadBook(answer_to) => self.book.reload(answer_to),
            Letter::Examine(answer_to) => answer(answer_to, self.examine(now)),
            Letter::Shutdown(answer) => {
                info!("node stopping");
                self.is_stopping = true;
                self.stopping.extend(answer);
                self.book.stopping();
                self.node.shutdown(now);
            }
            Letter::FromSession(connection, message) => {
                self.node.handle_session_message(now, connection, message);
                self.touch(connection);
            }
            Letter::SessionClosed(peer, closed) => {
                // Its port is closed by now, and forgotten.
                self.touched.extend(PublicKey::try_from(&peer));
                self.ended.push((peer, closed));
            }
            Letter::SessionGone(connection) => {
                self.node.handle_session_gone(now, connection);
                self.touch(connection);
            }
            Letter::Connection(connection, carrier) => self.connection(now, connection, carrier),
            Letter::DialFailed(dial, error) => self.node.handle_dial_failed(now, dial, error),
            Letter::BookSaved(result) => {
                let trouble = self.book.saved(&mut self.node, now, result);
                self.trouble(trouble);
            }
            Letter::BookLoaded(result) => {
                for trouble in self.book.loaded(&mut self.node, now, result) {
                    self.trouble(Some(trouble));
                }
            }
            Letter::BookClosed => self.book.closed(),
        }
    }

    fn trouble(&self, trouble: Option<BookTrouble>) {
        if let Some(trouble) = trouble {
            warn!(%trouble, "address book trouble");
            self.shared.telemetry.events.publish(&Event::AddressBook(trouble));
        }
    }

    fn examine(&self, now: Instant) -> Examination {
        let status = |peer| self.node.peer_status(peer).map(|status| (peer, status));
        let wall = wall_time(SystemTime::now());
        let banned = self.node.book().iter().filter(|(_, entry)| entry.is_blacklisted(wall));
        Examination {
            now,
            peers: self.node.peers().filter_map(status).collect(),
            book: (self.node.book().len(), banned.count()),
            book_trouble: self.book.trouble(),
            is_book_unsaved: self.node.book().unsaved() != Unsaved::Nothing,
            sessions: self.sessions.len(),
            is_listening: self.transport.is_listening(),
        }
    }

    fn connection(&mut self, now: Instant, connection: NewConnection, carrier: Box<dyn Carrier>) {
        let peer = PeerId::from(connection.peer);
        match self.node.handle_connection(now, connection) {
            Admission::Accept(session) => {
                let id = session.id();
                let telemetry = self.shared.telemetry.clone();
                let port = Arc::new(Port::new(peer, id, self.shared.limits, telemetry));
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

    fn touch(&mut self, connection: SessionId) {
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
                NodeAction::Forward { session, message } => {
                    if let Some((peer, port)) = self.sessions.get(&session).cloned() {
                        // At once: the session, once it is granted, may hand out what its peer
                        // says, and whoever hears that may answer; and whoever sees that the
                        // session speaks for the peer may use it.
                        port.tell(message, || self.stand(peer));
                    }
                }
                NodeAction::SaveBook => self.book.save(&mut self.node, self.shared.now()),
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
        for peer in self.shared.refusals.look_up(&self.node) {
            self.transport.banned(peer.into());
        }
        for peer in std::mem::take(&mut self.touched) {
            self.stand(peer);
        }
        for reply in self.replies.drain(..) {
            reply();
        }
        let told = !events.is_empty();
        for event in events {
            self.event(event);
        }
        for (peer, closed) in self.ended.drain(..) {
            self.shared.telemetry.events.publish(&Event::SessionClosed { peer, closed });
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
        self.shared.refusals.stand(&self.node, peer);
        self.sessions.retain(|_, (of, port)| *of != peer || !port.is_closed());
    }

    fn event(&mut self, event: ConnectionEvent) {
        let ConnectionEvent { peer: key, state, direction, reason, at: since, .. } = event;
        let peer = PeerId::from(key);
        match &reason {
            Some(reason) => info!(%peer, %state, %reason, "state changed"),
            None => info!(%peer, %state, "state changed"),
        }
        self.answer_connecting(key, state, reason.clone());
        let at = SystemTime::now();
        let span = match state {
            ConnectionState::Connecting => info_span!("connect", %peer),
            ConnectionState::Connected => info_span!("handshake", %peer, ?direction),
            _ => Span::none(),
        };
        let after = Before { state, direction, since, _span: span };
        let before = match state {
            ConnectionState::Disconnected => self.told.remove(&key),
            _ => self.told.insert(key, after),
        };
        let unknown = Before {
            state: ConnectionState::Disconnected,
            direction: None,
            since,
            _span: Span::none(),
        };
        let changed = StateChanged { peer, state, direction, reason, at };
        self.shared.telemetry.moved(&before.unwrap_or(unknown), changed, since);
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
        if !self.is_stopping || !self.node.is_idle() || !self.book.is_done() {
            return Poll::Pending;
        }
        let transport = &mut self.transport;
        let closing = self.closing.get_or_insert_with(|| transport.close());
        closing.as_mut().poll(cx)
    }

    /// Forgets statistics that nobody has use for, now and then.
    fn clean_stats(&mut self) {
        let now = self.now();
        if now.duration_since(self.stats_cleaned_at) >= STATS_CLEANING {
            self.stats_cleaned_at = now;
            self.shared.telemetry.stats.clean(self.shared.stats_retention, SystemTime::now());
        }
    }

    fn stopped(&mut self) {
        info!("node stopped");
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
        this.node.set_wall_time(this.now(), wall_time(SystemTime::now()));
        loop {
            let letters = this.shared.mailbox.take(cx);
            let mut moved = !letters.is_empty();
            for letter in letters {
                this.letter(letter);
            }
            this.node.handle_timeout(this.now());
            this.clean_stats();
            moved |= this.act();
            moved |= this.tell();
            if this.is_stopping && this.node.is_idle() {
                moved |= this.book.finish(&mut this.node, this.shared.now());
            }
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

/// How often stale statistics are looked for.
const STATS_CLEANING: Duration = Duration::from_secs(60 * 60);

/// The task is gone, perhaps with its runtime: nobody may wait for it.
impl<T> Drop for NodeDriver<T> {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
