//! The task that owns the core's node.

mod publish;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::oneshot;
use glueberry_proto::book::{Revision, Unsaved};
use glueberry_proto::{
    Admission, Closed, Instant, NewConnection, Node, NodeAction, Origin, PublicKey, Rates,
    RefuseReason, SessionId,
};
use libp2p_identity::PeerId;
use tracing::{debug, info, warn};

use crate::book_storage::BookStorage;
use crate::command::{
    ConnectCaller, Examination, HandshakeRequest, NodeCommand, Reply, SessionCommand,
};
use crate::entropy::entropy;
use crate::error::{Error, ErrorCode, Misuse};
use crate::event::{BookTrouble, Event};
use crate::mailbox::answer;
use crate::network::Network;
use crate::runtime::Timer;
use crate::session::SessionDriver;
use crate::session_handle::SessionHandle;
use crate::shared::Shared;
use crate::store_thread::StoreThread;
use crate::transport::{PendingConnection, Transport};

/// Owns the core's [`Node`]: passes it commands and time, does its actions, publishes its events.
pub(crate) struct NodeTask<T> {
    node: Node,
    shared: Arc<Shared>,
    transport: T,
    book: BookStorage,
    timer: Box<dyn Timer>,
    sessions: BTreeMap<SessionId, (PublicKey, Arc<SessionHandle>)>,
    /// Callers of `connect`, by peer.
    connecting: BTreeMap<PublicKey, Vec<ConnectCaller>>,
    turn: Turn,
    /// How often strangers have come lately, by where from.
    strangers: Rates<Network>,
    /// Peers that are refused, by the time at which they no longer are. The core may forget them
    /// then, which no event reports.
    refused: BTreeSet<(Instant, PublicKey)>,
    /// The revision of the book whose bans are published.
    bans_seen: Option<Revision>,
    stats_cleaned_at: Instant,
    stopping: Vec<oneshot::Sender<()>>,
    is_stopping: bool,
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// What the commands of one turn leave to its later steps.
#[derive(Default)]
struct Turn {
    /// Peers whose views must be refreshed.
    touched: BTreeSet<PublicKey>,
    /// Sessions that have ended, to be published behind the changes of state that this caused.
    ended: Vec<(PeerId, Closed)>,
    /// Handshake commands for the sessions that are current once the core's messages are sent.
    handshakes: Vec<HandshakeRequest>,
    /// Answers for callers, who then see what was published.
    replies: Vec<Reply>,
}

impl<T: Transport> NodeTask<T> {
    pub(crate) fn new(
        node: Node,
        shared: Arc<Shared>,
        transport: T,
        store: Option<StoreThread>,
    ) -> Self {
        let timer = shared.runtime.timer();
        Self {
            node,
            stats_cleaned_at: shared.now(),
            book: BookStorage::new(store),
            shared,
            transport,
            timer,
            sessions: BTreeMap::new(),
            connecting: BTreeMap::new(),
            turn: Turn::default(),
            strangers: Rates::default(),
            refused: BTreeSet::new(),
            bans_seen: None,
            stopping: Vec::new(),
            is_stopping: false,
            closing: None,
        }
    }

    fn now(&self) -> Instant {
        self.shared.now()
    }

    /// Does everything that can be done once; returns whether anything was.
    ///
    /// The order of the steps matters. Views are published before actions: a session that is granted
    /// may deliver a message at once, and its reader finds the peer Connected. Handshake commands
    /// go behind actions: a session gets the core's grant before a command that relies on it.
    /// Callers are answered last: they find all of it done.
    fn turn(&mut self, cx: &Context<'_>) -> bool {
        let commands = self.shared.mailbox.take(cx);
        let mut moved = !commands.is_empty();
        for command in commands {
            self.command(command);
        }
        let now = self.now();
        self.node.handle_timeout(now);
        while self.refused.first().is_some_and(|(until, _)| *until <= now)
            && let Some((_, peer)) = self.refused.pop_first()
        {
            self.turn.touched.insert(peer);
        }
        self.clean();
        moved |= self.publish();
        moved |= self.act();
        for handshake in std::mem::take(&mut self.turn.handshakes) {
            self.handshake(handshake);
        }
        for reply in self.turn.replies.drain(..) {
            reply();
        }
        if self.is_stopping && self.node.is_idle() {
            moved |= self.book.finish(&mut self.node, self.shared.now());
        }
        moved
    }

    fn command(&mut self, command: NodeCommand) {
        let now = self.now();
        if self.is_stopping && command.is_for_later() {
            // Its caller learns by this that the node stops. The book may be stored for the last time.
            return drop(command);
        }
        match command {
            NodeCommand::Call(call) => {
                let reply = call(&mut self.node, now);
                self.turn.replies.push(reply);
            }
            NodeCommand::Change(call, again) => {
                let reply = call(&mut self.node, now);
                self.turn.replies.push(reply);
                self.book.changed(again);
            }
            NodeCommand::Connect(peer, caller) => self.connect(now, peer, caller),
            NodeCommand::Handshake(request) => self.turn.handshakes.push(request),
            NodeCommand::FlushBook(answer_to) => {
                self.node.flush_book(now);
                self.book.flush(&self.node, answer_to);
            }
            NodeCommand::ReloadBook(answer_to) => self.book.reload(&self.node, answer_to),
            NodeCommand::Examine(answer_to) => answer(answer_to, self.examine(now)),
            NodeCommand::Shutdown(answer) => {
                info!("node stopping");
                self.is_stopping = true;
                self.stopping.extend(answer);
                self.book.stopping();
                self.node.shutdown(now);
            }
            NodeCommand::FromSession(id, message) => {
                self.node.handle_session_message(now, id, message);
                self.touch(id);
            }
            NodeCommand::HandshakeDone(command, result) => {
                self.turn.replies.push(Box::new(move || command.answer(result)));
            }
            NodeCommand::SessionClosed(id, closed) => {
                if let Some((key, session)) = self.sessions.remove(&id) {
                    self.turn.touched.insert(key);
                    self.turn.ended.push((session.peer, closed));
                }
            }
            NodeCommand::SessionGone(id) => {
                self.node.handle_session_gone(now, id);
                self.touch(id);
                self.sessions.remove(&id);
            }
            NodeCommand::Connection(connection, pending) => {
                self.connection(now, connection, pending);
            }
            NodeCommand::DialAnswered(dial, address) => {
                self.node.handle_dial_answered(now, dial, &address);
            }
            NodeCommand::DialFailed(dial, error) => self.node.handle_dial_failed(now, dial, error),
            NodeCommand::BookSaved(result) => {
                let trouble = self.book.saved(&mut self.node, now, result);
                self.trouble(trouble);
            }
            NodeCommand::BookLoaded(result) => {
                // Revisions of another book say nothing about this one.
                self.bans_seen = None;
                for trouble in self.book.loaded(&mut self.node, now, *result) {
                    self.trouble(Some(trouble));
                }
            }
            NodeCommand::BookClosed => self.book.closed(),
        }
    }

    /// Connects to a peer. What has happened before is published first: it is no answer to this call.
    fn connect(&mut self, now: Instant, peer: PublicKey, caller: ConnectCaller) {
        self.node.handle_timeout(now);
        self.publish();
        match self.node.connect(now, peer) {
            Ok(()) => {
                let callers = self.connecting.entry(peer).or_default();
                // Those who have stopped waiting are forgotten now and then.
                if callers.len().is_power_of_two() {
                    callers.retain(|caller| !caller.answer.is_canceled());
                }
                callers.push(caller);
            }
            Err(error) => answer(caller.answer, Err(error.into())),
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
        let wall = self.shared.wall();
        let banned = self.node.book().iter().filter(|(_, entry)| entry.is_blacklisted(wall));
        Examination {
            now,
            peers: self.node.peers().filter_map(status).collect(),
            book: (self.node.book().len(), banned.count()),
            book_trouble: self.book.trouble(),
            is_book_unsaved: self.node.book().unsaved() != Unsaved::Nothing,
            sessions: self.sessions.len(),
            held: self.shared.memory.used(),
            is_listening: self.transport.is_listening(),
        }
    }

    fn connection(
        &mut self,
        now: Instant,
        connection: NewConnection,
        pending: Box<dyn PendingConnection>,
    ) {
        let peer = PeerId::from(connection.peer);
        if !self.is_in_time(now, &connection, &*pending) {
            debug!(%peer, "too many strangers from one network: refused");
            return pending.refuse(RefuseReason::LimitReached("strangers_per_minute"));
        }
        let is_stranger =
            connection.origin == Origin::Accepted && self.node.is_stranger(connection.peer);
        // The seed is the process's, and may be drawn from again after a restored snapshot.
        match entropy(&*self.shared.runtime) {
            Ok(entropy) => self.node.add_entropy(now, &entropy),
            Err(error) => {
                warn!(%error, "system has no entropy: session has that of the node's seed");
            }
        }
        match self.node.handle_connection(now, connection) {
            Admission::Accept(session) => {
                let id = session.id();
                let telemetry = self.shared.telemetry.clone();
                let memory = self.shared.memory.of(peer, is_stranger);
                let limits = self.shared.limits;
                let handle = SessionHandle::new(peer, id, memory, limits, telemetry);
                let handle = Arc::new(handle);
                self.sessions.insert(id, (connection.peer, handle.clone()));
                pending.accept(SessionDriver::new(*session, handle, self.shared.clone()));
            }
            Admission::Refuse(reason) => {
                debug!(%peer, %reason, "connection refused");
                pending.refuse(reason);
            }
        }
    }

    /// Returns whether a connection may be offered to the core: strangers from one network may come
    /// only so often. The core knows who is a stranger, but no addresses.
    fn is_in_time(
        &mut self,
        now: Instant,
        connection: &NewConnection,
        pending: &dyn PendingConnection,
    ) -> bool {
        if connection.origin != Origin::Accepted || !self.node.is_stranger(connection.peer) {
            return true;
        }
        let per_minute = self.shared.config.strangers_per_minute;
        match pending.remote_ip().and_then(Network::of) {
            Some(network) => self.strangers.take(network, per_minute, now),
            None => true,
        }
    }

    /// Has the view of a session's peer refreshed.
    fn touch(&mut self, id: SessionId) {
        if let Some((peer, _)) = self.sessions.get(&id) {
            self.turn.touched.insert(*peer);
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
                    if let Some((_, session)) = self.sessions.get(&session) {
                        // A session that has ended reports that itself, or has done so.
                        drop(session.command(SessionCommand::FromNode(message)));
                    }
                }
                NodeAction::SaveBook => self.book.save(&mut self.node, self.shared.now()),
            }
        }
        acted
    }

    /// Gives a handshake command to the session that is current.
    ///
    /// Of two sessions that compete, the one that is kept takes over from the other at any time, so
    /// a command may reach a session that is not current any more. That one returns it, behind
    /// its own messages: by now the core knows which session is current.
    fn handshake(&self, mut request: HandshakeRequest) {
        let peer = request.peer;
        let not_connected =
            || Error::because(ErrorCode::NotConnected, Misuse::NoSession).of_peer(peer.into());
        let current = self.node.session_of(peer).and_then(|id| self.sessions.get(&id));
        let Some((_, session)) = current else {
            return request.command.answer(Err(not_connected()));
        };
        if let Some(returned) = request.returned.take()
            && returned.from == session.id
            // One that had to yield may be current again, if the other has ended meanwhile.
            && (returned.is_over || request.tries >= MOST_TRIES)
        {
            return request.command.answer(Err(returned.error));
        }
        request.tries += 1;
        let given = session.command(SessionCommand::Handshake(request));
        if let Err(SessionCommand::Handshake(request)) = given {
            request.command.answer(Err(not_connected()));
        }
    }

    // ---- the end ------------------------------------------------------------------------------

    /// Shuts down once nothing is left to wait for; ready when that is done.
    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_stopping || !self.node.is_idle() || !self.book.is_done() {
            return Poll::Pending;
        }
        // What the last sessions have not delivered comes behind their ends.
        if !self.sessions.is_empty() {
            return Poll::Pending;
        }
        let transport = &mut self.transport;
        let closing = self.closing.get_or_insert_with(|| transport.close());
        closing.as_mut().poll(cx)
    }

    /// Forgets statistics and views that are stale, now and then.
    fn clean(&mut self) {
        let now = self.now();
        if now.duration_since(self.stats_cleaned_at) >= STATS_CLEANING {
            self.stats_cleaned_at = now;
            self.shared.telemetry.stats.clean(self.shared.stats_retention, now);
            self.shared.views.clean(&self.node);
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

impl<T: Transport + Unpin> Future for NodeTask<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.node.set_wall_time(this.now(), this.shared.wall());
        loop {
            if this.turn(cx) {
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

/// The task is gone, perhaps with its runtime: every caller that waits gets an answer.
impl<T> Drop for NodeTask<T> {
    fn drop(&mut self) {
        self.book.join();
        self.shared.stop();
    }
}

/// Sessions that a handshake command is given to before one of them must do it.
const MOST_TRIES: u32 = 4;
/// How often stale statistics are looked for.
const STATS_CLEANING: Duration = Duration::from_secs(60 * 60);
