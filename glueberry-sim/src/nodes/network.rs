//! The network between the hosts, as hosts, connections and faults use it.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::Waker;
use std::time::Duration;

use glueberry_proto::{
    ConnectionLost, DialError, DialId, Naming, NewConnection, Origin, PublicKey,
};
use glueberry_tokio::adapter::Shared;

use super::connection::SimConnection;
use super::link::Packet;
use super::state::State;
use super::trace::{Note, Trace};
use super::{Clock, lock};

/// The network of a run.
pub(super) struct Network {
    state: Mutex<State>,
    trace: Mutex<Trace>,
    pub(super) clock: Clock,
}

/// One life of a host: those of its peers know nothing of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) host: usize,
    pub(super) number: u64,
}

/// What happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    /// A dial reaches another host.
    Dial {
        from: Life,
        to: usize,
        expected: PublicKey,
        dial: DialId,
    },
    DialFailed {
        from: Life,
        dial: DialId,
        error: DialError,
    },
    /// One side of a connection gets it.
    Offer {
        link: u64,
        side: usize,
        dial: Option<DialId>,
    },
    /// A packet arrives at a side.
    Packet {
        link: u64,
        side: usize,
        packet: Packet,
    },
    /// A side notices that the connection is lost.
    Lost {
        link: u64,
        side: usize,
        why: ConnectionLost,
    },
    /// Two hosts have heard nothing of each other since the partition of this number.
    Silence {
        pair: [usize; 2],
        partition: u64,
    },
    /// Something goes wrong, or comes right.
    Fault(Fault),
}

/// What goes wrong with the network or a host, and comes right again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Whatever the seed draws, and then the next.
    Draw,
    /// From one host to another nothing arrives.
    Block(usize, usize),
    Unblock(usize, usize),
    /// All connections between two hosts are lost.
    Cut(usize, usize),
    Slow(usize),
    NotSlow(usize),
    Kill(usize),
    Start(usize),
}

/// What is to be done without the network's lock.
pub(super) enum Step {
    Nothing,
    Wake(Waker),
    DialFailed(Arc<Shared>, DialId, DialError),
    Offer(Arc<Shared>, NewConnection, SimConnection),
    Fault(Fault),
}

impl Network {
    pub(super) fn new(
        seed: u64,
        latency: &Range<Duration>,
        keys: &[PublicKey],
        clock: Clock,
    ) -> Arc<Self> {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let state = State::new(seed, micros(latency.start)..micros(latency.end), keys);
        Arc::new(Self { state: Mutex::new(state), trace: Mutex::default(), clock })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn trace(&self) -> MutexGuard<'_, Trace> {
        lock(&self.trace)
    }

    /// Notes what happens.
    pub(super) fn note(&self, note: Note) {
        self.trace().add(self.clock.now(), note);
    }

    /// Schedules something.
    pub(super) fn schedule(&self, after: u64, event: Event) {
        let at = self.clock.now().saturating_add(after);
        self.state().queue.push(at, event);
    }

    /// Takes the next thing that is due, and does it to the network.
    pub(super) fn step(self: &Arc<Self>) -> Option<Step> {
        let now = self.clock.now();
        let mut state = self.state();
        let (_, event) = state.queue.pop(now)?;
        if let Some((from, to)) = state.way_of(&event)
            && state.is_blocked(from, to)
        {
            state.held.push((from, to, event));
            return Some(Step::Nothing);
        }
        Some(match event {
            Event::Dial { from, to, expected, dial } => {
                self.note(Note::Dial(from.host, to));
                state.answer(now, from, to, expected, dial);
                Step::Nothing
            }
            Event::DialFailed { from, dial, error } => {
                let is_wanted = state.dials.remove(&(from.host, dial));
                match state.node_of(from).filter(|_| is_wanted) {
                    Some(node) => Step::DialFailed(node, dial, error),
                    None => Step::Nothing,
                }
            }
            Event::Offer { link, side, dial } => {
                drop(state);
                self.offer(link, side, dial)
            }
            Event::Packet { link, side, packet } => {
                if let Some(found) = state.links.get(&link) {
                    let [from, to] = [found.lives[1 - side].host, found.lives[side].host];
                    let (what, number) = packet.note();
                    self.note(Note::Packet(from, to, what, number));
                }
                state.deliver(now, link, side, packet).map_or(Step::Nothing, Step::Wake)
            }
            Event::Lost { link, side, why } => {
                if let Some(found) = state.links.get(&link) {
                    self.note(Note::Lost(found.lives[side].host, found.lives[1 - side].host));
                }
                state.lose(link, side, why).map_or(Step::Nothing, Step::Wake)
            }
            Event::Silence { pair, partition } => {
                if state.partitions.get(&pair) == Some(&partition) {
                    state.cut(now, pair, 0..SILENCE_IS_NOTICED_WITHIN);
                }
                Step::Nothing
            }
            Event::Fault(fault) => Step::Fault(fault),
        })
    }

    /// Gives a side its end of a connection, if it is still there to take it.
    fn offer(self: &Arc<Self>, link: u64, side: usize, dial: Option<DialId>) -> Step {
        let mut state = self.state();
        let Some(found) = state.links.get(&link) else {
            return Step::Nothing;
        };
        let (own, other) = (found.lives[side], found.lives[1 - side]);
        let peer = state.hosts[other.host].key;
        let is_wanted = dial.is_none_or(|dial| state.dials.remove(&(own.host, dial)));
        let node = state.node_of(own).filter(|_| is_wanted);
        drop(state);
        // Dropped unused, it closes the connection.
        let connection = SimConnection::new(self.clone(), link, side);
        node.map_or(Step::Nothing, |node| {
            let origin = dial.map_or(Origin::Accepted, Origin::Dialled);
            let offered = NewConnection { peer, origin, naming: Naming::Preamble };
            Step::Offer(node, offered, connection)
        })
    }

    /// Sends a packet from a side to the other.
    pub(super) fn send(&self, link: u64, from: usize, packet: Packet) {
        let now = self.clock.now();
        self.state().send(now, link, from, packet);
    }

    /// A life of a host has a node now, which listens.
    pub(super) fn attach(&self, life: Life, node: &Arc<Shared>) {
        let mut state = self.state();
        if state.is_alive(life) {
            state.hosts[life.host].node = Some(Arc::downgrade(node));
        }
    }

    /// Its node listens no more.
    pub(super) fn detach(&self, life: Life) {
        let mut state = self.state();
        if state.is_alive(life) {
            state.hosts[life.host].node = None;
        }
    }

    pub(super) fn is_listening(&self, life: Life) -> bool {
        let state = self.state();
        let node = state.hosts[life.host].node.as_ref();
        state.is_alive(life) && node.and_then(Weak::upgrade).is_some()
    }

    pub(super) fn dial(&self, from: Life, dial: DialId, to: Option<usize>, expected: PublicKey) {
        let now = self.clock.now();
        let mut state = self.state();
        state.dials.insert((from.host, dial));
        let event = match to {
            Some(to) => Event::Dial { from, to, expected, dial },
            None => Event::DialFailed { from, dial, error: DialError::NoUsableAddress },
        };
        let delay = to.map_or(0, |to| state.delay(from.host, to));
        state.queue.push(now + delay, event);
    }

    pub(super) fn cancel(&self, from: Life, dial: DialId) {
        self.state().dials.remove(&(from.host, dial));
    }

    /// A host begins its next life.
    pub(super) fn start(&self, host: usize) -> Life {
        let now = self.clock.now();
        self.note(Note::Start(host));
        self.state().start(now, host)
    }

    /// A host's process ends at once: nothing of it is heard any more.
    pub(super) fn kill(&self, host: usize) {
        let now = self.clock.now();
        self.note(Note::Kill(host));
        self.state().kill(now, host);
    }

    /// Holds back what one host sends to another.
    pub(super) fn block(&self, from: usize, to: usize) {
        let now = self.clock.now();
        self.note(Note::Block(from, to));
        self.state().block(now, from, to);
    }

    /// Lets pass again what one host sends to another, and what was held back.
    pub(super) fn unblock(&self, from: usize, to: usize) {
        let now = self.clock.now();
        self.note(Note::Unblock(from, to));
        self.state().unblock(now, from, to);
    }

    /// Loses all connections between two hosts, with what is under way.
    pub(super) fn cut(&self, one: usize, other: usize) {
        let now = self.clock.now();
        self.note(Note::Cut(one, other));
        self.state().cut(now, pair(one, other), 0..CUT_IS_NOTICED_WITHIN);
    }
}

/// Returns two hosts in their order.
pub(super) fn pair(one: usize, other: usize) -> [usize; 2] {
    [one.min(other), one.max(other)]
}

/// In microseconds.
const SILENCE_IS_NOTICED_WITHIN: u64 = 2_000_000;
const CUT_IS_NOTICED_WITHIN: u64 = 300_000;
