//! One connection of a memory network: a task that drives the sessions at both of its ends.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use glueberry_proto::{
    Action, ConnectionLost, RefuseReason, SubstreamBuffer, SubstreamEnd, SubstreamId,
};

use crate::mailbox::{lock, remember};
use crate::node::Shared;
use crate::runtime::Timer;
use crate::session::SessionDriver;
use crate::transport::Carrier;

/// A connection between two nodes.
pub(super) struct Link {
    state: Mutex<State>,
}

struct State {
    ends: [End; 2],
    last_wire: u64,
    waker: Option<Waker>,
    /// How it ended, for each end that has not been told.
    lost: [Option<ConnectionLost>; 2],
    is_closed: bool,
}

/// One end, and the session there once it was admitted.
struct End {
    shared: Arc<Shared>,
    driver: Option<SessionDriver>,
    substreams: BTreeMap<SubstreamId, Substream>,
    timer: Box<dyn Timer>,
}

/// One substream at one end; both ends of it have the same wire.
struct Substream {
    wire: u64,
    buffer: SubstreamBuffer,
    has_finished: bool,
}

impl Link {
    pub(super) fn start(dialler: &Arc<Shared>, listener: &Arc<Shared>) -> Arc<Self> {
        let end = |shared: &Arc<Shared>| End {
            shared: shared.clone(),
            driver: None,
            substreams: BTreeMap::new(),
            timer: shared.runtime.timer(),
        };
        let state = State {
            ends: [end(dialler), end(listener)],
            last_wire: 0,
            waker: None,
            lost: [None, None],
            is_closed: false,
        };
        let link = Arc::new(Self { state: Mutex::new(state) });
        dialler.runtime.spawn(Box::pin(LinkTask(link.clone())));
        link
    }

    /// Neither end hears of the other any more.
    pub(super) fn cut(&self) {
        let mut state = lock(&self.state);
        if !state.is_closed {
            state.lost = [Some(ConnectionLost::TimedOut), Some(ConnectionLost::TimedOut)];
            state.close();
        }
    }

    fn carry(&self, side: usize, driver: SessionDriver) {
        let mut state = lock(&self.state);
        state.ends[side].driver = Some(driver);
        state.wake();
    }

    fn hang_up(&self, side: usize, code: u64) {
        let mut state = lock(&self.state);
        if !state.is_closed {
            state.lost[1 - side] = Some(ConnectionLost::ClosedByPeer { code });
            state.close();
        }
    }
}

impl State {
    fn close(&mut self) {
        self.is_closed = true;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Does everything that can be done once; returns whether anything was.
    fn round(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        for side in 0..2 {
            moved |= self.act(side);
            if !self.is_closed {
                moved |= self.pump(side);
            }
            let end = &mut self.ends[side];
            let now = end.shared.now();
            if let Some(driver) = &mut end.driver {
                driver.deliver(now, cx);
                if let Some(why) = self.lost[side].take() {
                    driver.session().handle_connection_lost(now, why);
                    moved = true;
                }
                let deadline = driver.session().poll_timeout();
                end.timer.reset(deadline.and_then(|at| end.shared.clock.until(at)));
                if end.timer.poll(cx).is_ready() {
                    driver.session().handle_timeout(end.shared.now());
                    moved = true;
                }
            }
            moved |= self.act(side);
        }
        moved
    }

    fn act(&mut self, side: usize) -> bool {
        let mut acted = false;
        while let Some(action) =
            self.ends[side].driver.as_mut().and_then(SessionDriver::poll_action)
        {
            acted = true;
            self.action(side, action);
        }
        acted
    }

    fn action(&mut self, side: usize, action: Action) {
        let now = self.ends[side].shared.now();
        match action {
            Action::OpenSubstream { substream, .. } => {
                self.last_wire += 1;
                let end = &mut self.ends[side];
                end.substreams.insert(substream, Substream::new(self.last_wire, substream));
                if let Some(driver) = &mut end.driver {
                    driver.session().handle_opened(now, substream, None);
                }
            }
            Action::ResumeRead(id) => {
                let End { driver, substreams, .. } = &mut self.ends[side];
                if let (Some(driver), Some(substream)) = (driver, substreams.get_mut(&id)) {
                    substream.buffer.resume(driver.session(), now);
                }
            }
            Action::Finish(id) => {
                if let Some(substream) = self.ends[side].substreams.get_mut(&id) {
                    substream.buffer.finish();
                }
            }
            Action::Reset { substream, .. } => {
                if let Some(gone) = self.ends[side].substreams.remove(&substream) {
                    self.end_far_half(side, gone.wire, SubstreamEnd::Aborted);
                }
            }
            Action::CloseConnection { code } if !self.is_closed => {
                self.lost[1 - side] = Some(ConnectionLost::ClosedByPeer { code });
                self.is_closed = true;
            }
            // It is written whenever there is something.
            _ => {}
        }
    }

    /// Hands over what one end has to say, as far as the other end listens.
    fn pump(&mut self, side: usize) -> bool {
        let mut moved = false;
        let ids: Vec<SubstreamId> = self.ends[side].substreams.keys().copied().collect();
        for id in ids {
            moved |= self.pump_substream(side, id);
        }
        moved
    }

    fn pump_substream(&mut self, side: usize, id: SubstreamId) -> bool {
        let (near, far) = split(&mut self.ends, side);
        let (near_now, far_now) = (near.shared.now(), far.shared.now());
        let (Some(near_driver), Some(far_driver)) = (&mut near.driver, &mut far.driver) else {
            return false;
        };
        let Some(substream) = near.substreams.get_mut(&id) else {
            return false;
        };
        let mut moved = false;
        while let Some(chunk) = near_driver.chunk(&mut substream.buffer) {
            let theirs = match far.substreams.values_mut().find(|far| far.wire == substream.wire) {
                Some(theirs) => theirs,
                None => {
                    let id = far_driver.session().handle_accepted(far_now, None);
                    far.substreams.entry(id).or_insert_with(|| Substream::new(substream.wire, id))
                }
            };
            if !theirs.buffer.wants_read() {
                return moved;
            }
            let bytes = chunk.split_off(0);
            theirs.buffer.append(far_driver.session(), far_now, &bytes);
            theirs.buffer.received(far_driver.session(), far_now);
            moved = true;
        }
        if substream.buffer.is_finishing() && !substream.has_finished {
            substream.has_finished = true;
            let wire = substream.wire;
            near_driver.session().handle_acknowledged(near_now, id);
            self.end_far_half(side, wire, SubstreamEnd::Finished);
            return true;
        }
        moved
    }

    fn end_far_half(&mut self, side: usize, wire: u64, end: SubstreamEnd) {
        let (_, far) = split(&mut self.ends, side);
        let now = far.shared.now();
        let theirs = far.substreams.values_mut().find(|far| far.wire == wire);
        if let (Some(driver), Some(theirs)) = (&mut far.driver, theirs) {
            theirs.buffer.ended(driver.session(), now, end);
        }
    }
}

impl Substream {
    fn new(wire: u64, id: SubstreamId) -> Self {
        Self { wire, buffer: SubstreamBuffer::new(id), has_finished: false }
    }
}

fn split(ends: &mut [End; 2], side: usize) -> (&mut End, &mut End) {
    let [first, second] = ends;
    if side == 0 { (first, second) } else { (second, first) }
}

/// Drives both ends until both are over.
struct LinkTask(Arc<Link>);

impl Future for LinkTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0.state);
        remember(&mut state.waker, cx);
        for end in &mut state.ends {
            let now = end.shared.now();
            if let Some(driver) = &mut end.driver {
                driver.take_commands(now, cx);
            }
        }
        let is_at_rest = (0..ROUNDS_PER_POLL).any(|_| !state.round(cx));
        if !is_at_rest {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let is_over = |end: &End| end.driver.as_ref().is_none_or(SessionDriver::is_done);
        match state.is_closed && state.ends.iter().all(is_over) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

/// One end of a connection on its way to its node.
pub(super) struct MemoryCarrier {
    link: Arc<Link>,
    side: usize,
    is_carried: bool,
}

impl MemoryCarrier {
    pub(super) const fn new(link: Arc<Link>, side: usize) -> Self {
        Self { link, side, is_carried: false }
    }
}

impl Carrier for MemoryCarrier {
    fn carry(mut self: Box<Self>, session: SessionDriver) {
        self.is_carried = true;
        self.link.carry(self.side, session);
    }

    fn refuse(self: Box<Self>, _: RefuseReason) {}
}

/// A connection that is not wanted is closed.
impl Drop for MemoryCarrier {
    fn drop(&mut self) {
        if !self.is_carried {
            self.link.hang_up(self.side, REFUSED);
        }
    }
}

/// The code of a connection that is not wanted.
const REFUSED: u64 = 7;
const ROUNDS_PER_POLL: usize = 64;
