//! Two nodes in one process over an in-memory transport whose every move is the test's to make.

mod check;
mod log;
mod net;
mod pipe;
mod raw;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::book::Book;
use glueberry_proto::{
    Address, Closed, Config, ConnectionEvent, ConnectionState, Event, Identity, Instant, Naming,
    Node, PublicKey, ReconnectPolicy, Seed, Session, SessionId, StreamName, ToNode, ToSession,
};

pub(crate) use self::check::{Checked, Outcome, check, holds};
pub(crate) use self::log::{Log, hash};
pub(crate) use self::net::{Link, Move};
pub(crate) use self::pipe::Pipe;
pub(crate) use self::raw::{Raw, bodies, frame};

/// Which of the two hosts.
pub(crate) type Side = usize;
pub(crate) const A: Side = 0;
pub(crate) const B: Side = 1;

pub(crate) const BOTH: [Naming; 2] = [Naming::Negotiated, Naming::Preamble];

/// One node with its sessions and what its application has seen.
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) events: Vec<ConnectionEvent>,
    pub(crate) session_events: Vec<(SessionId, Event)>,
    pub(crate) handshake: Vec<Bytes>,
    pub(crate) messages: BTreeMap<StreamName, Vec<Bytes>>,
    /// The application takes messages as they come.
    pub(crate) reads: bool,
    /// Streams that the application leaves unread all the same.
    pub(crate) unread: BTreeSet<StreamName>,
    /// No dial gets through.
    pub(crate) is_unreachable: bool,
    /// The address book as it was last stored.
    pub(crate) store: Option<Book>,
    /// What is being stored.
    saving: Option<Book>,
    to_node: VecDeque<(SessionId, ToNode)>,
    to_session: VecDeque<(SessionId, ToSession)>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) naming: Naming,
    pub(crate) hosts: [Host; 2],
    pub(crate) links: Vec<Link>,
    /// Most bytes that one move takes to a pipe or from it; taken in turn.
    pub(crate) cuts: Vec<usize>,
    next_cut: usize,
    /// Most bytes that a pipe holds towards one side.
    pub(crate) window: usize,
    pub(crate) clock: Clock,
    pub(crate) log: Log,
}

/// How inputs and commands are given the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// As it is.
    Exact,
    /// An earlier one, after `handle_timeout` with the right one.
    Earlier,
    /// As it is, with a spurious `handle_timeout` before it.
    Spurious,
}

/// A machine that is told the time.
pub(crate) trait Machine {
    fn timeout(&mut self, now: Instant);
}

impl Machine for Node {
    fn timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }
}

impl Machine for Session {
    fn timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }
}

impl Clock {
    /// Returns the time to give to the next input of a machine.
    pub(crate) fn tell(self, now: Instant, machine: &mut impl Machine) -> Instant {
        match self {
            Self::Exact => now,
            Self::Earlier => {
                machine.timeout(now);
                Instant::from_micros(now.as_micros() / 3)
            }
            Self::Spurious => {
                machine.timeout(now);
                now
            }
        }
    }
}

pub(crate) fn name(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

pub(crate) fn names(streams: &[&str]) -> Vec<StreamName> {
    streams.iter().map(|stream| name(stream)).collect()
}

pub(crate) fn key(side: Side) -> PublicKey {
    identity(side).public_key()
}

pub(crate) fn identity(side: Side) -> Identity {
    // The smaller key is A's.
    Identity::from_seed(&[[2; 32], [1; 32]][side])
}

pub(crate) fn config(streams: &[&str]) -> Config {
    let mut config = Config::default();
    config.streams = names(streams);
    // Tests of reconnection ask for it.
    config.reconnect = ReconnectPolicy::never();
    config
}

impl World {
    pub(crate) fn new(naming: Naming, configs: [Config; 2]) -> Self {
        Self::seeded(naming, configs, [[10; 32], [20; 32]])
    }

    pub(crate) fn seeded(naming: Naming, configs: [Config; 2], seeds: [[u8; 32]; 2]) -> Self {
        let mut configs = configs.into_iter();
        let mut host = |side: Side| {
            let seed = Seed::from_bytes(seeds[side]);
            let config = configs.next().unwrap();
            Host {
                node: Node::new(Instant::ZERO, identity(side), config, seed).unwrap(),
                sessions: BTreeMap::new(),
                events: Vec::new(),
                session_events: Vec::new(),
                handshake: Vec::new(),
                messages: BTreeMap::new(),
                reads: true,
                unread: BTreeSet::new(),
                is_unreachable: false,
                store: None,
                saving: None,
                to_node: VecDeque::new(),
                to_session: VecDeque::new(),
            }
        };
        Self {
            now: Instant::ZERO,
            naming,
            hosts: [host(A), host(B)],
            links: Vec::new(),
            cuts: vec![usize::MAX],
            next_cut: 0,
            window: usize::MAX,
            clock: Clock::Exact,
            log: Log::default(),
        }
    }

    /// Two hosts with an Established session and the given streams.
    pub(crate) fn established(naming: Naming, configs: [Config; 2], streams: &[&str]) -> Self {
        let mut world = Self::new(naming, configs);
        world.establish(streams);
        world
    }

    pub(crate) fn establish(&mut self, streams: &[&str]) {
        self.connect(A);
        self.run();
        self.shake_hands(streams);
    }

    /// Prepares and finalizes on both sides.
    pub(crate) fn shake_hands(&mut self, streams: &[&str]) {
        self.prepare(A, streams);
        self.prepare(B, streams);
        self.finalize(A);
        self.finalize(B);
        self.run();
    }

    // ---- commands -----------------------------------------------------------------------------

    pub(crate) fn connect(&mut self, side: Side) {
        let peer = key(1 - side);
        let node = &mut self.hosts[side].node;
        let now = self.clock.tell(self.now, node);
        node.add_peer(now, peer, &[Address::new("memory")]).unwrap();
        node.connect(now, peer).unwrap();
        self.drain_actions();
    }

    /// The process of a side is killed and started again: it knows nothing of its connections, and
    /// nothing tells the other side.
    pub(crate) fn restart(&mut self, side: Side, seed: u8) {
        let host = &mut self.hosts[side];
        let config = host.node.config().clone();
        let seed = Seed::from_bytes([seed; 32]);
        host.node = Node::new(self.now, identity(side), config, seed).unwrap();
        host.sessions.clear();
        host.events.clear();
        host.to_node.clear();
        host.to_session.clear();
        host.saving = None;
        for link in &mut self.links {
            link.ends[side] = None;
        }
    }

    pub(crate) fn disconnect(&mut self, side: Side) -> bool {
        let node = &mut self.hosts[side].node;
        let now = self.clock.tell(self.now, node);
        let ended = node.disconnect(now, key(1 - side));
        self.drain_actions();
        ended
    }

    pub(crate) fn session(&mut self, side: Side) -> &mut Session {
        self.granted(side).expect("a session is granted")
    }

    pub(crate) fn granted(&mut self, side: Side) -> Option<&mut Session> {
        let host = &mut self.hosts[side];
        let connection = host.node.session_of(key(1 - side))?;
        host.sessions.get_mut(&connection)
    }

    /// Gives a command to the session that speaks for the peer, if there is one.
    pub(crate) fn command<T>(
        &mut self,
        side: Side,
        command: impl FnOnce(&mut Session, Instant) -> T,
    ) -> Option<T> {
        let (now, clock) = (self.now, self.clock);
        let result = self.granted(side).map(|session| {
            let now = clock.tell(now, session);
            command(session, now)
        });
        self.drain_actions();
        result
    }

    pub(crate) fn say(&mut self, side: Side, message: &[u8]) {
        let message = Bytes::copy_from_slice(message);
        self.command(side, |session, now| session.send_handshake(now, message)).unwrap().unwrap();
    }

    pub(crate) fn prepare(&mut self, side: Side, streams: &[&str]) {
        let (names, peer) = (names(streams), key(1 - side));
        self.command(side, |session, now| session.prepare_streams(now, peer, &names))
            .unwrap()
            .unwrap();
    }

    pub(crate) fn finalize(&mut self, side: Side) {
        self.command(side, |session, now| session.finalize_handshake(now)).unwrap().unwrap();
    }

    pub(crate) fn send(&mut self, side: Side, stream: &str, message: &[u8]) {
        let message = Bytes::copy_from_slice(message);
        self.command(side, |session, now| session.send(now, &name(stream), message))
            .unwrap()
            .unwrap();
    }

    // ---- what came of it ----------------------------------------------------------------------

    pub(crate) fn received(&self, side: Side, stream: &str) -> Vec<Bytes> {
        self.hosts[side].messages.get(&name(stream)).cloned().unwrap_or_default()
    }

    /// Returns the states that the node of a side has told of its peer.
    pub(crate) fn states(&self, side: Side) -> Vec<ConnectionState> {
        self.hosts[side].events.iter().map(|event| event.state).collect()
    }

    /// Returns how the latest session of a side that has ended did so.
    pub(crate) fn closed(&self, side: Side) -> Closed {
        let closed = self.hosts[side].session_events.iter().rev().find_map(|(_, event)| {
            if let Event::Closed(closed) = event { Some(closed.clone()) } else { None }
        });
        closed.expect("a session has ended")
    }

    /// Returns how many words of a node are on their way to its sessions.
    pub(crate) fn words_for_sessions(&self, side: Side) -> usize {
        self.hosts[side].to_session.len()
    }

    /// Lets what a session has to say to its node arrive before what the others have.
    pub(crate) fn hurry_words_of(&mut self, side: Side, connection: SessionId) {
        self.drain_actions();
        self.hosts[side].to_node.make_contiguous().sort_by_key(|(of, _)| *of != connection);
    }

    // ---- time and moves -----------------------------------------------------------------------

    /// Lets time pass, and what is due happen.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.wait(by);
        self.run();
    }

    /// Lets time pass, and tells the machines, but moves nothing.
    pub(crate) fn wait(&mut self, by: Duration) {
        self.now = self.now + by;
        for host in &mut self.hosts {
            host.node.handle_timeout(self.now);
            for session in host.sessions.values_mut() {
                session.handle_timeout(self.now);
            }
        }
        self.drain_actions();
    }

    /// Steps until nothing moves any more.
    pub(crate) fn run(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Makes each move that can be made once; returns whether there was any.
    pub(crate) fn step(&mut self) -> bool {
        let mut moved = self.drain_actions();
        for each in self.moves() {
            moved |= self.perform(each);
        }
        moved
    }

    /// Makes one of the moves that can be made.
    pub(crate) fn step_one(&mut self, choice: usize) -> bool {
        self.drain_actions();
        let moves = self.moves();
        (0..moves.len()).any(|at| self.perform(moves[(choice + at) % moves.len()]))
    }

    /// Lets the application of a side take what there is.
    pub(crate) fn drain_application(&mut self, side: Side) -> bool {
        let host = &mut self.hosts[side];
        let mut moved = false;
        while let Some(event) = host.node.poll_event() {
            self.log.note(|| format!("{side} {event:?}"));
            host.events.push(event);
            moved = true;
        }
        for (connection, session) in &mut host.sessions {
            while let Some(event) = session.poll_event() {
                self.log.note(|| format!("{side} {connection} {event:?}"));
                host.session_events.push((*connection, event));
                moved = true;
            }
            if !host.reads {
                continue;
            }
            while let Some(message) = session.poll_handshake_message() {
                self.log.note(|| format!("{side} {connection} heard {message:?}"));
                host.handshake.push(message);
                moved = true;
            }
            for stream in host.node.config().streams.clone() {
                if host.unread.contains(&stream) {
                    continue;
                }
                while let Some(message) = session.poll_message(&stream) {
                    self.log.message(side, &stream, &message);
                    host.messages.entry(stream.clone()).or_default().push(message);
                    moved = true;
                }
            }
        }
        moved |= self.drain_actions();
        moved
    }

    fn next_cut(&mut self) -> usize {
        self.next_cut += 1;
        self.cuts[(self.next_cut - 1) % self.cuts.len()].max(1)
    }
}
