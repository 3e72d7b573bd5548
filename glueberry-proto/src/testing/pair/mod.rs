//! Two nodes in one process, with their sessions, over an in-memory transport.
//!
//! Nothing happens by itself: the test decides which [`Move`] comes next, how bytes are cut, how
//! much a pipe holds and what time it is. Tests, memory tests and benchmarks share it.

mod pipe;
mod transport;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

pub use self::pipe::{Half, Pipe};
pub use self::transport::{Link, Move};
use crate::book::Book;
use crate::{
    Action, Address, Instant, Naming, Node, NodeAction, PublicKey, Session, SessionId, StreamName,
    SubstreamId, ToNode, ToSession,
};

/// The index of one of the two hosts.
pub type Side = usize;
/// The first host.
pub const A: Side = 0;
/// The second host.
pub const B: Side = 1;

/// Two hosts and the links between them.
#[derive(Debug)]
pub struct Pair<App> {
    /// The time that both hosts have.
    pub now: Instant,
    /// How substreams get their names.
    pub naming: Naming,
    /// The two hosts.
    pub hosts: [Host; 2],
    /// Every connection there ever was, in the order of the dials.
    pub links: Vec<Link>,
    /// The most bytes that one move takes to a pipe or from it. Used in turn.
    pub cuts: Vec<usize>,
    /// The most bytes that a pipe holds towards one side.
    pub window: usize,
    /// Which time inputs and commands get.
    pub clock: Clock,
    /// The application of both hosts.
    pub app: App,
    next_cut: usize,
}

/// A node with its sessions and the messages between them.
#[derive(Debug)]
pub struct Host {
    /// The node.
    pub node: Node,
    /// The node's sessions, closed ones too.
    pub sessions: BTreeMap<SessionId, Session>,
    /// True if every dial fails.
    pub is_unreachable: bool,
    /// The address book as it was last stored.
    pub store: Option<Book>,
    /// The address book that is being stored.
    saving: Option<Book>,
    to_node: VecDeque<(SessionId, ToNode)>,
    to_session: VecDeque<(SessionId, ToSession)>,
}

/// What the hosts' applications do, and what a test records.
///
/// Every method but [`drain`](Self::drain) only observes.
pub trait Application {
    /// Takes events and messages. Returns true if there were any.
    fn drain(&mut self, side: Side, host: &mut Host) -> bool;

    /// A node has emitted an action.
    fn node_action(&mut self, _side: Side, _action: &NodeAction) {}

    /// A session has emitted an action.
    fn session_action(&mut self, _side: Side, _session: SessionId, _action: &Action) {}

    /// A node has accepted a connection.
    fn connected(&mut self, _side: Side, _session: SessionId) {}

    /// A session has an id for a substream, its own or the peer's.
    fn substream(&mut self, _side: Side, _session: SessionId, _substream: SubstreamId) {}

    /// A session has written bytes to a pipe of its link.
    fn written(&mut self, _side: Side, _pipe: usize, _bytes: &[u8]) {}
}

/// Discards events. Messages stay in the sessions until the test takes them.
impl Application for () {
    fn drain(&mut self, _side: Side, host: &mut Host) -> bool {
        let mut is_any = false;
        while host.node.poll_event().is_some() {
            is_any = true;
        }
        for session in host.sessions.values_mut() {
            while session.poll_event().is_some() {
                is_any = true;
            }
        }
        is_any
    }
}

/// Which time inputs and commands get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "not a public API")]
pub enum Clock {
    /// The current time.
    Exact,
    /// An earlier time, after `handle_timeout` with the current one.
    Earlier,
    /// The current time, after a `handle_timeout` that was not due.
    Spurious,
}

impl Clock {
    /// Returns the time for the next input of a node or session.
    pub fn input_time(self, now: Instant, machine: &mut impl Machine) -> Instant {
        match self {
            Self::Exact => now,
            Self::Earlier => {
                machine.handle_timeout(now);
                Instant::from_micros(now.as_micros() / 3)
            }
            Self::Spurious => {
                machine.handle_timeout(now);
                now
            }
        }
    }
}

/// A node or a session.
pub trait Machine {
    /// Tells the machine the time.
    fn handle_timeout(&mut self, now: Instant);
}

impl Machine for Node {
    fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }
}

impl Machine for Session {
    fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }
}

impl Host {
    /// Makes a host whose node has no sessions yet.
    pub fn new(node: Node) -> Self {
        Self {
            node,
            sessions: BTreeMap::new(),
            is_unreachable: false,
            store: None,
            saving: None,
            to_node: VecDeque::new(),
            to_session: VecDeque::new(),
        }
    }

    /// Returns the number of messages from the node that its sessions have not got yet.
    pub fn messages_to_sessions(&self) -> usize {
        self.to_session.len()
    }
}

impl<App: Application> Pair<App> {
    /// Makes two hosts that are not connected.
    pub fn new(naming: Naming, nodes: [Node; 2], app: App) -> Self {
        Self {
            now: Instant::ZERO,
            naming,
            hosts: nodes.map(Host::new),
            links: Vec::new(),
            cuts: vec![usize::MAX],
            window: usize::MAX,
            clock: Clock::Exact,
            app,
            next_cut: 0,
        }
    }

    /// Returns the key of a side's node.
    pub fn key(&self, side: Side) -> PublicKey {
        self.hosts[side].node.public_key()
    }

    /// Replaces the process of a side. The new node knows nothing of the connections, and the
    /// other side does not learn that they are gone.
    pub fn restart(&mut self, side: Side, node: Node) {
        let host = &mut self.hosts[side];
        let (is_unreachable, store) = (host.is_unreachable, host.store.take());
        *host = Host { is_unreachable, store, ..Host::new(node) };
        for link in &mut self.links {
            link.ends[side] = None;
        }
    }

    // ---- commands -----------------------------------------------------------------------------

    /// Adds the peer to the book of a side and connects to it.
    pub fn connect(&mut self, side: Side) {
        let peer = self.key(1 - side);
        let node = &mut self.hosts[side].node;
        let now = self.clock.input_time(self.now, node);
        node.add_peer(now, peer, &[Address::new("memory")]).expect("the book has room");
        node.connect(now, peer).expect("the peer may be dialled");
        self.drain_actions();
    }

    /// Disconnects a side from its peer. Returns true if there was a session or a dial.
    pub fn disconnect(&mut self, side: Side) -> bool {
        let peer = self.key(1 - side);
        let node = &mut self.hosts[side].node;
        let now = self.clock.input_time(self.now, node);
        let ended = node.disconnect(now, peer);
        self.drain_actions();
        ended
    }

    /// Returns the current session of a side with its peer.
    pub fn session(&mut self, side: Side) -> &mut Session {
        self.current_session(side).expect("there is a session with the peer")
    }

    /// Returns the current session of a side with its peer, if there is one.
    pub fn current_session(&mut self, side: Side) -> Option<&mut Session> {
        let peer = self.key(1 - side);
        let host = &mut self.hosts[side];
        let session = host.node.session_of(peer)?;
        host.sessions.get_mut(&session)
    }

    /// Gives a command to the current session, if there is one.
    pub fn command<T>(
        &mut self,
        side: Side,
        command: impl FnOnce(&mut Session, Instant) -> T,
    ) -> Option<T> {
        let (now, clock) = (self.now, self.clock);
        let result = self.current_session(side).map(|session| {
            let now = clock.input_time(now, session);
            command(session, now)
        });
        self.drain_actions();
        result
    }

    /// Sends a handshake message.
    pub fn send_handshake(&mut self, side: Side, message: &[u8]) {
        let message = Bytes::copy_from_slice(message);
        self.command(side, |session, now| session.send_handshake(now, message))
            .expect("there is a session with the peer")
            .expect("the session is Connected");
    }

    /// Prepares streams.
    pub fn prepare(&mut self, side: Side, streams: &[&str]) {
        let streams: Vec<StreamName> = streams.iter().copied().map(name).collect();
        let peer = self.key(1 - side);
        self.command(side, |session, now| session.prepare_streams(now, peer, &streams))
            .expect("there is a session with the peer")
            .expect("the session is Connected");
    }

    /// Finalizes the handshake.
    pub fn finalize(&mut self, side: Side) {
        self.command(side, |session, now| session.finalize_handshake(now))
            .expect("there is a session with the peer")
            .expect("streams are prepared");
    }

    /// Sends a message on a stream.
    pub fn send(&mut self, side: Side, stream: &str, message: &[u8]) {
        let message = Bytes::copy_from_slice(message);
        self.command(side, |session, now| session.send(now, &name(stream), message))
            .expect("there is a session with the peer")
            .expect("the stream takes messages");
    }

    /// Connects the first side to the second, and brings both to Established.
    pub fn establish(&mut self, streams: &[&str]) {
        self.connect(A);
        self.run();
        self.complete_handshake(streams);
    }

    /// Prepares streams and finalizes on both sides.
    pub fn complete_handshake(&mut self, streams: &[&str]) {
        self.prepare(A, streams);
        self.prepare(B, streams);
        self.finalize(A);
        self.finalize(B);
        self.run();
    }

    // ---- time and moves -----------------------------------------------------------------------

    /// Lets time pass, and makes all moves that follow.
    pub fn advance(&mut self, by: Duration) {
        self.wait(by);
        self.run();
    }

    /// Lets time pass and tells nodes and sessions, but makes no move.
    pub fn wait(&mut self, by: Duration) {
        self.now = self.now + by;
        for host in &mut self.hosts {
            host.node.handle_timeout(self.now);
            for session in host.sessions.values_mut() {
                session.handle_timeout(self.now);
            }
        }
        self.drain_actions();
    }

    /// Steps until no move is left.
    ///
    /// # Panics
    ///
    /// Panics if there is no end to it.
    pub fn run(&mut self) {
        for _ in 0..MAX_STEPS {
            if !self.step() {
                return;
            }
        }
        panic!("the pair does not come to rest");
    }

    /// Makes each possible move once. Returns true if there was any.
    pub fn step(&mut self) -> bool {
        let mut moved = self.drain_actions();
        for each in self.moves() {
            moved |= self.perform(each);
        }
        moved
    }

    /// Makes one of the possible moves. Returns true if there was any.
    pub fn step_one(&mut self, choice: usize) -> bool {
        self.drain_actions();
        let moves = self.moves();
        (0..moves.len()).any(|at| self.perform(moves[(choice + at) % moves.len()]))
    }

    /// Lets the application of a side take events and messages. Returns true if there were any.
    pub fn drain_application(&mut self, side: Side) -> bool {
        let moved = self.app.drain(side, &mut self.hosts[side]);
        self.drain_actions() || moved
    }

    fn next_cut(&mut self) -> usize {
        self.next_cut += 1;
        self.cuts[(self.next_cut - 1) % self.cuts.len()].max(1)
    }
}

fn name(name: &str) -> StreamName {
    StreamName::new(name).expect("a valid stream name")
}

/// More than any test needs.
const MAX_STEPS: usize = 1_000_000;
