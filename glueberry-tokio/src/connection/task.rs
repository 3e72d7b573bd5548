//! The task of one connection: owns its session, moves its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use glueberry_proto::{Action, ConnectionLost, Instant, Session, SubstreamId};

use tracing::debug;

use super::pump::SubstreamPump;
use super::{Connection, ConnectionEvent, Scratch};
use crate::mailbox::remember;
use crate::runtime::Timer;
use crate::session::SessionDriver;
use crate::shared::Shared;

/// Drives one session over one connection until both are over, as a future or by being polled.
pub struct ConnectionLoop<C: Connection> {
    connection: C,
    driver: SessionDriver,
    shared: Arc<Shared>,
    substreams: BTreeMap<SubstreamId, SubstreamPump<C::Substream>>,
    /// Substreams that are being opened and that the session still wants.
    opening: BTreeSet<SubstreamId>,
    scratch: Scratch,
    timer: Box<dyn Timer>,
    /// What the timer is armed for.
    armed: Option<Instant>,
    /// Why the connection is gone, until the session knows.
    lost: Option<ConnectionLost>,
    /// Until when readers may still take what had arrived before the loss.
    lost_until: Option<Instant>,
    closing: Closing,
    /// Nothing has happened on the connection; the task is woken when something does.
    is_event_blocked: bool,
    /// The connection knows that the session is Established.
    is_established: bool,
    /// Of the task that polled last.
    task: Option<Waker>,
}

/// What the substreams have come to in their turns of a round.
#[derive(Default)]
struct Polled {
    /// There may be more at once.
    has_more: bool,
    /// What all hold.
    held: usize,
    /// When the first of their messages must be complete.
    part_deadline: Option<Instant>,
}

/// How far the connection is from being closed by this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    Open,
    Asked { code: u64, until: Instant },
    Closed,
}

impl<C: Connection> ConnectionLoop<C> {
    /// Makes the loop of a session that was admitted for this connection.
    pub fn new(connection: C, mut driver: SessionDriver, shared: Arc<Shared>) -> Self {
        let timer = shared.runtime.timer();
        if let Some(exporter) = connection.channel_binding() {
            driver.session().set_channel_binding(exporter);
        }
        driver.reached_by(connection.path());
        Self {
            connection,
            driver,
            shared,
            substreams: BTreeMap::new(),
            opening: BTreeSet::new(),
            scratch: Scratch::default(),
            timer,
            armed: None,
            lost: None,
            lost_until: None,
            closing: Closing::Open,
            is_event_blocked: false,
            is_established: false,
            task: None,
        }
    }

    /// Returns the connection.
    pub const fn connection(&mut self) -> &mut C {
        &mut self.connection
    }

    /// Returns the core's machine.
    pub const fn session(&mut self) -> &mut Session {
        self.driver.session()
    }

    /// Returns the driver of the session. The connection is dropped, and its substreams.
    pub fn into_driver(self) -> SessionDriver {
        self.driver
    }

    /// Takes note of what happened on a connection that is called rather than polled. The loop
    /// must be polled afterwards.
    pub fn handle_event(&mut self, event: ConnectionEvent<C::Substream>) {
        self.event(self.shared.now(), event);
    }

    /// Passes on what was queued on a stream, in the turn of who has queued it; returns whether nothing
    /// is left to do. Nothing is read, because nothing has woken the task.
    ///
    /// Timers and the connection are the task's alone: they belong to its runtime, and tokio's panic
    /// when they are polled by a caller that has outlived it.
    pub(super) fn send(&mut self, stream: &str) -> bool {
        // What is not ready wakes the task, which takes it from there.
        let Some(task) = self.task.take() else {
            return false;
        };
        let now = self.shared.now();
        self.driver.queued(now, stream);
        let Polled { has_more, part_deadline, .. } = match self.has_ended() {
            true => Polled::default(),
            false => self.exchange(&mut Context::from_waker(&task), now),
        };
        self.driver.count(now);
        self.task = Some(task);
        !has_more
            && !self.has_ended()
            && !self.driver.is_done()
            && self.closing == Closing::Open
            && self.lost.is_none()
            && self.is_event_blocked
            && self.is_armed_for(part_deadline)
    }

    /// Does everything that can be done once; returns whether to go round again.
    fn round(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.has_ended() {
            return false;
        }
        self.act(now);
        let has_happened = self.poll_events(cx, now);
        let Polled { has_more, part_deadline, .. } = self.exchange(cx, now);
        has_happened
            || has_more
            || self.handle_lost(now)
            || self.poll_close(cx, now)
            || self.poll_timer(cx, part_deadline)
    }

    /// Moves what can be moved between the session, its substreams and its reader.
    fn exchange(&mut self, cx: &mut Context<'_>, now: Instant) -> Polled {
        self.act(now);
        let mut polled = self.poll_substreams(cx, now);
        self.driver.deliver(cx);
        self.hold(polled.held);
        let is_overdue = polled.part_deadline.is_some_and(|at| at <= now);
        polled.has_more |= is_overdue && self.give_up_overdue(now);
        // A substream may read on, or write: nothing else would look after it.
        polled.has_more |= self.act(now);
        polled
    }

    /// Gives each substream a turn.
    fn poll_substreams(&mut self, cx: &mut Context<'_>, now: Instant) -> Polled {
        let Self { driver, scratch, .. } = self;
        let timeout = self.shared.config.core.message_timeout;
        let (mut polled, mut has_ended) = (Polled::default(), false);
        for substream in self.substreams.values_mut() {
            polled.has_more |= substream.poll(cx, driver, now, scratch);
            has_ended |= substream.is_over();
            polled.held += substream.held();
            let deadline = substream.part_deadline(timeout);
            polled.part_deadline = earliest(polled.part_deadline, deadline);
        }
        if has_ended {
            self.substreams.retain(|_, substream| !substream.is_over());
        }
        polled
    }

    /// Returns whether the connection is to be given back to its owner.
    fn has_ended(&mut self) -> bool {
        C::OUTLIVES_SESSION && self.driver.session().is_closed()
    }

    fn act(&mut self, now: Instant) -> bool {
        let mut acted = false;
        // A session that has ended is not asked: its messages to the node wait until the
        // connection is free for another.
        while !self.has_ended()
            && let Some(action) = self.driver.poll_action()
        {
            acted = true;
            match action {
                Action::OpenSubstream { substream, protocols } => {
                    self.opening.insert(substream);
                    self.is_event_blocked = false;
                    self.connection.open(substream, protocols);
                }
                Action::WantWrite(id) => self.with(id, SubstreamPump::want_write),
                Action::Finish(id) => self.with(id, SubstreamPump::finish),
                Action::ResumeRead(id) => {
                    if let Some(substream) = self.substreams.get_mut(&id) {
                        substream.resume(self.driver.session(), now);
                    }
                }
                Action::Reset { substream, code } => {
                    self.opening.remove(&substream);
                    if let Some(substream) = self.substreams.remove(&substream) {
                        substream.reset(code);
                    }
                }
                Action::CloseConnection { code } => {
                    self.substreams.clear();
                    self.opening.clear();
                    let until = now + self.shared.config.core.drain_timeout;
                    self.closing = Closing::Asked { code, until };
                }
                _ => {}
            }
        }
        acted
    }

    /// Substreams come and go by themselves, so that one may be gone that an action names.
    fn with(&mut self, id: SubstreamId, change: impl FnOnce(&mut SubstreamPump<C::Substream>)) {
        if let Some(substream) = self.substreams.get_mut(&id) {
            change(substream);
        }
    }

    // ---- memory and time ----------------------------------------------------------------------

    /// Takes note of what the connection holds, and of what it may hold from Established on.
    fn hold(&mut self, held: usize) {
        self.driver.hold(held);
        if !self.is_established && self.driver.session().is_established() {
            self.is_established = true;
            self.connection.established(self.driver.memory());
        }
    }

    /// Resets the substreams on which a message did not arrive in time.
    fn give_up_overdue(&mut self, now: Instant) -> bool {
        let timeout = self.shared.config.core.message_timeout;
        let is_overdue = |pump: &SubstreamPump<C::Substream>| {
            pump.part_deadline(timeout).is_some_and(|deadline| deadline <= now)
        };
        let overdue = self.substreams.iter().filter(|(_, pump)| is_overdue(pump));
        let overdue: Vec<SubstreamId> = overdue.map(|(id, _)| *id).collect();
        for id in &overdue {
            if let Some(pump) = self.substreams.remove(id) {
                debug!(%id, "a message did not arrive in time: substream reset");
                pump.give_up(self.driver.session(), now);
            }
        }
        !overdue.is_empty()
    }

    // ---- the connection -----------------------------------------------------------------------

    fn poll_events(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut has_happened = false;
        for _ in 0..EVENTS_PER_ROUND {
            if self.is_event_blocked || self.closing != Closing::Open {
                break;
            }
            match self.connection.poll_event(cx, self.driver.session()) {
                Poll::Ready(event) => {
                    has_happened = true;
                    self.event(now, event);
                }
                Poll::Pending => self.is_event_blocked = true,
            }
        }
        has_happened
    }

    fn event(&mut self, now: Instant, event: ConnectionEvent<C::Substream>) {
        let session = self.driver.session();
        match event {
            ConnectionEvent::Opened { id, protocol, substream } => {
                // Else the session has given it up meanwhile.
                if self.opening.remove(&id) {
                    self.substreams.insert(id, SubstreamPump::new(id, substream));
                    session.handle_opened(now, id, protocol);
                }
            }
            ConnectionEvent::OpenFailed { id, error } => {
                if self.opening.remove(&id) {
                    session.handle_open_failed(now, id, error);
                }
            }
            ConnectionEvent::Accepted { protocol, substream } => {
                if self.closing == Closing::Open {
                    let id = session.handle_accepted(now, protocol);
                    let mut pump = SubstreamPump::new(id, substream);
                    pump.begin(session, now);
                    self.substreams.insert(id, pump);
                }
            }
            ConnectionEvent::EndlessNegotiation => session.handle_endless_negotiation(now),
            ConnectionEvent::Lost(why) => {
                self.lost.get_or_insert(why);
                // Bytes may have arrived together with the loss, behind the last look.
                self.substreams.values_mut().for_each(SubstreamPump::woken);
            }
        }
    }

    /// Reports a loss to the session, once everything that had arrived before is handed out.
    fn handle_lost(&mut self, now: Instant) -> bool {
        if self.has_unread(now) {
            return false;
        }
        let Some(why) = self.lost.take() else {
            return false;
        };
        self.driver.session().handle_connection_lost(now, why);
        true
    }

    /// Returns whether the peer has closed the connection behind messages that this side has, and
    /// that their reader has not got round to. It gets some time for that.
    fn has_unread(&mut self, now: Instant) -> bool {
        // A session that waits for another reads nothing, however long it is given.
        if !matches!(self.lost, Some(ConnectionLost::ClosedByPeer { .. }))
            || !self.driver.session().is_granted()
        {
            return false;
        }
        let is_unread = self.substreams.values().any(SubstreamPump::is_paused);
        let patience = self.shared.config.core.drain_timeout;
        is_unread && now < *self.lost_until.get_or_insert(now + patience)
    }

    /// Closes the connection if the session has asked for it; returns whether that is now done.
    fn poll_close(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Closing::Asked { code, until } = self.closing else {
            return false;
        };
        let is_closed = self.connection.poll_close(cx, code).is_ready() || now >= until;
        if is_closed {
            self.closing = Closing::Closed;
        }
        is_closed
    }

    /// Returns when something is due first.
    fn deadline(&mut self, part_deadline: Option<Instant>) -> Option<Instant> {
        let lost_until = self.lost_until.filter(|_| self.lost.is_some());
        let closing_until = match self.closing {
            Closing::Asked { until, .. } => Some(until),
            Closing::Open | Closing::Closed => None,
        };
        let own = earliest(earliest(lost_until, closing_until), part_deadline);
        earliest(self.driver.session().poll_timeout(), own)
    }

    /// Returns whether the timer wakes the task in time. If it does so too early, the task arms it again.
    fn is_armed_for(&mut self, part_deadline: Option<Instant>) -> bool {
        self.deadline(part_deadline)
            .is_none_or(|deadline| self.armed.is_some_and(|armed| armed <= deadline))
    }

    /// Arms the timer for what is due first; returns whether something was due.
    fn poll_timer(&mut self, cx: &mut Context<'_>, part_deadline: Option<Instant>) -> bool {
        let deadline = self.deadline(part_deadline);
        if deadline != self.armed {
            self.timer.reset(deadline.and_then(|at| self.shared.clock.until(at)));
            self.armed = deadline;
        }
        if self.timer.poll(cx).is_pending() {
            return false;
        }
        self.timer.reset(None);
        self.armed = None;
        let now = self.shared.now();
        self.driver.session().handle_timeout(now);
        true
    }
}

impl<C: Connection> Future for ConnectionLoop<C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        remember(&mut this.task, cx);
        let now = this.shared.now();
        this.is_event_blocked = false;
        this.substreams.values_mut().for_each(SubstreamPump::woken);
        this.driver.take_commands(now, cx);
        let is_at_rest = (0..ROUNDS_PER_POLL).any(|_| !this.round(cx, now));
        this.driver.count(now);
        if this.has_ended() {
            return Poll::Ready(());
        }
        if !is_at_rest {
            // Others have their turn.
            cx.waker().wake_by_ref();
        } else if this.driver.is_done() && !matches!(this.closing, Closing::Asked { .. }) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<C: Connection> fmt::Debug for ConnectionLoop<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLoop")
            .field("driver", &self.driver)
            .field("substreams", &self.substreams.len())
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}

/// Returns the earlier of two deadlines, of those that there are.
fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Rounds before other tasks have their turn.
const ROUNDS_PER_POLL: usize = 32;
/// Events of the connection before its substreams have their turn.
const EVENTS_PER_ROUND: usize = 32;
