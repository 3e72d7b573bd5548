//! Two nodes in one process over an in-memory transport whose every move is the test's to make.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use glueberry_proto::{
    Action, Address, Admission, Config, ConnectionEvent, ConnectionId, ConnectionLost, Event,
    Identity, Instant, Naming, NewConnection, Node, NodeAction, OpenError, Origin, ProtocolId,
    PublicKey, Seed, Session, StreamName, SubstreamBuffer, SubstreamEnd,
};

/// Which of the two hosts.
pub(crate) type Side = usize;
pub(crate) const A: Side = 0;
pub(crate) const B: Side = 1;

/// One node with its sessions and what its application has seen.
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) sessions: BTreeMap<ConnectionId, Session>,
    pub(crate) events: Vec<ConnectionEvent>,
    pub(crate) session_events: Vec<(ConnectionId, Event)>,
    pub(crate) handshake: Vec<Bytes>,
    pub(crate) messages: BTreeMap<StreamName, Vec<Bytes>>,
    /// The application takes messages as they come.
    pub(crate) reads: bool,
}

/// One connection between the hosts: the session at each end, and the substreams.
pub(crate) struct Link {
    pub(crate) ends: [Option<ConnectionId>; 2],
    pub(crate) pipes: Vec<Pipe>,
    pub(crate) is_down: bool,
}

/// One substream: a buffer at each end, and the bytes on their way.
pub(crate) struct Pipe {
    pub(crate) buffers: [Option<SubstreamBuffer>; 2],
    /// Bytes on their way to each side, and how they end.
    pub(crate) towards: [Half; 2],
    /// All that ever travelled towards each side.
    pub(crate) log: [Vec<u8>; 2],
}

#[derive(Default)]
pub(crate) struct Half {
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) fin: bool,
    pub(crate) reset: bool,
    pub(crate) stopped: bool,
    /// The end was passed on.
    pub(crate) is_over: bool,
    wants_write: bool,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) naming: Naming,
    pub(crate) hosts: [Host; 2],
    pub(crate) links: Vec<Link>,
    /// Most bytes that one step writes or delivers on one pipe.
    pub(crate) chunk: usize,
}

pub(crate) fn name(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
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
    config.streams = streams.iter().map(|stream| name(stream)).collect();
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
            }
        };
        let hosts = [host(A), host(B)];
        Self { now: Instant::ZERO, naming, hosts, links: Vec::new(), chunk: usize::MAX }
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

    pub(crate) fn connect(&mut self, side: Side) {
        let (now, peer) = (self.now, key(1 - side));
        let node = &mut self.hosts[side].node;
        node.add_peer(now, peer, &[Address::new("memory")]).unwrap();
        node.connect(now, peer).unwrap();
    }

    pub(crate) fn session(&mut self, side: Side) -> &mut Session {
        let host = &mut self.hosts[side];
        let connection = host.node.session_of(key(1 - side)).expect("a session is granted");
        host.sessions.get_mut(&connection).unwrap()
    }

    pub(crate) fn only_session(&mut self, side: Side) -> &mut Session {
        self.hosts[side].sessions.values_mut().next().expect("there is a session")
    }

    pub(crate) fn prepare(&mut self, side: Side, streams: &[&str]) {
        let names: Vec<StreamName> = streams.iter().map(|stream| name(stream)).collect();
        let now = self.now;
        self.session(side).prepare_streams(now, key(1 - side), &names).unwrap();
    }

    pub(crate) fn finalize(&mut self, side: Side) {
        let now = self.now;
        self.session(side).finalize_handshake(now).unwrap();
    }

    pub(crate) fn send(&mut self, side: Side, stream: &str, message: &[u8]) {
        let now = self.now;
        let message = Bytes::copy_from_slice(message);
        self.session(side).send(now, &name(stream), message).unwrap();
    }

    pub(crate) fn received(&self, side: Side, stream: &str) -> Vec<Bytes> {
        self.hosts[side].messages.get(&name(stream)).cloned().unwrap_or_default()
    }

    /// Lets time pass, and what is due happen.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        for side in [A, B] {
            let now = self.now;
            self.hosts[side].node.handle_timeout(now);
            for session in self.hosts[side].sessions.values_mut() {
                session.handle_timeout(now);
            }
        }
        self.run();
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

    /// Does each thing that can be done once; returns whether anything was.
    pub(crate) fn step(&mut self) -> bool {
        let mut moved = false;
        for side in [A, B] {
            moved |= self.drain_actions(side);
        }
        for link in 0..self.links.len() {
            for pipe in 0..self.links[link].pipes.len() {
                for side in [A, B] {
                    moved |= self.write(link, pipe, side);
                    moved |= self.deliver(link, pipe, side);
                }
            }
        }
        for side in [A, B] {
            moved |= self.drain_application(side);
        }
        moved
    }

    pub(crate) fn cut(&mut self, link: usize) {
        self.links[link].is_down = true;
        let now = self.now;
        for side in [A, B] {
            if let Some(connection) = self.links[link].ends[side]
                && let Some(session) = self.hosts[side].sessions.get_mut(&connection)
            {
                session.handle_connection_lost(now, ConnectionLost::TimedOut);
            }
        }
    }

    // ---- actions ------------------------------------------------------------------------------

    pub(crate) fn drain_actions(&mut self, side: Side) -> bool {
        let mut moved = false;
        while let Some(action) = self.hosts[side].node.poll_action() {
            moved = true;
            self.node_action(side, action);
        }
        let connections: Vec<ConnectionId> = self.hosts[side].sessions.keys().copied().collect();
        for connection in connections {
            while let Some(action) = self.poll_action(side, connection) {
                moved = true;
                self.session_action(side, connection, action);
            }
        }
        moved
    }

    fn poll_action(&mut self, side: Side, connection: ConnectionId) -> Option<Action> {
        self.hosts[side].sessions.get_mut(&connection)?.poll_action()
    }

    fn node_action(&mut self, side: Side, action: NodeAction) {
        let now = self.now;
        match action {
            NodeAction::Dial { dial, .. } => self.link_up(side, Origin::Dialled(dial)),
            NodeAction::Forward { connection, message } => {
                if let Some(session) = self.hosts[side].sessions.get_mut(&connection) {
                    session.handle_node_message(now, message);
                }
            }
            _ => {}
        }
    }

    /// A dial succeeds: both ends hear of the connection, the dialler first.
    pub(crate) fn link_up(&mut self, dialler: Side, origin: Origin) {
        let link = self.links.len();
        self.links.push(Link { ends: [None, None], pipes: Vec::new(), is_down: false });
        for (side, origin) in [(dialler, origin), (1 - dialler, Origin::Accepted)] {
            let connection = NewConnection { peer: key(1 - side), origin, naming: self.naming };
            match self.hosts[side].node.handle_connection(self.now, connection) {
                Admission::Accept(session) => {
                    self.links[link].ends[side] = Some(session.connection());
                    self.hosts[side].sessions.insert(session.connection(), *session);
                }
                _ => self.cut(link),
            }
        }
    }

    fn session_action(&mut self, side: Side, connection: ConnectionId, action: Action) {
        let link = self.links.iter().position(|link| link.ends[side] == Some(connection)).unwrap();
        match action {
            Action::OpenSubstream { substream, protocols } => {
                self.open(link, side, SubstreamBuffer::new(substream), &protocols);
            }
            Action::WantWrite(id) => self.with(link, side, id, |pipe| {
                pipe.towards[1 - side].wants_write = true;
            }),
            Action::ResumeRead(id) => {
                let now = self.now;
                let pipe = self.pipe(link, side, id);
                let session = self.hosts[side].sessions.get_mut(&connection);
                if let (Some(pipe), Some(session)) = (pipe, session) {
                    let pipe = &mut self.links[link].pipes[pipe];
                    pipe.buffers[side].as_mut().unwrap().resume(session, now);
                }
            }
            Action::Finish(id) => self.with(link, side, id, |pipe| {
                pipe.buffers[side].as_mut().unwrap().finish();
                pipe.towards[1 - side].wants_write = true;
            }),
            Action::Reset { substream, .. } => self.with(link, side, substream, |pipe| {
                pipe.towards[1 - side].reset = true;
                pipe.towards[side].stopped = true;
            }),
            Action::Forward(message) => {
                let now = self.now;
                self.hosts[side].node.handle_session_message(now, connection, message);
            }
            Action::CloseConnection { .. } => self.cut(link),
            _ => {}
        }
    }

    fn open(&mut self, link: usize, side: Side, own: SubstreamBuffer, offers: &[ProtocolId]) {
        let (now, other) = (self.now, 1 - side);
        let id = own.substream();
        let peer = self.links[link].ends[other];
        let agreed = match (self.naming, peer.and_then(|c| self.hosts[other].sessions.get(&c))) {
            (_, None) => None,
            (Naming::Negotiated, Some(peer)) => {
                let known = peer.protocols();
                offers.iter().find(|offer| known.contains(offer)).cloned().map(Some)
            }
            _ => Some(None),
        };
        let connection = self.links[link].ends[side].unwrap();
        let session = self.hosts[side].sessions.get_mut(&connection).unwrap();
        let Some(agreed) = agreed else {
            return session.handle_open_failed(now, id, OpenError::Refused);
        };
        session.handle_opened(now, id, agreed.clone());
        let peer = self.hosts[other].sessions.get_mut(&peer.unwrap()).unwrap();
        let theirs = SubstreamBuffer::new(peer.handle_accepted(now, agreed));
        let mut buffers = [Some(own), Some(theirs)];
        if side == B {
            buffers.swap(0, 1);
        }
        let pipe = Pipe { buffers, towards: Default::default(), log: Default::default() };
        self.links[link].pipes.push(pipe);
    }

    fn pipe(&self, link: usize, side: Side, id: glueberry_proto::SubstreamId) -> Option<usize> {
        self.links[link].pipes.iter().position(|pipe| {
            pipe.buffers[side].as_ref().is_some_and(|buffer| buffer.substream() == id)
        })
    }

    fn with(
        &mut self,
        link: usize,
        side: Side,
        id: glueberry_proto::SubstreamId,
        change: impl FnOnce(&mut Pipe),
    ) {
        if let Some(pipe) = self.pipe(link, side, id) {
            change(&mut self.links[link].pipes[pipe]);
        }
    }

    // ---- bytes --------------------------------------------------------------------------------

    /// Moves bytes from a session to the pipe.
    pub(crate) fn write(&mut self, link: usize, pipe: usize, side: Side) -> bool {
        let (now, chunk) = (self.now, self.chunk);
        let Some(session) =
            self.links[link].ends[side].and_then(|c| self.hosts[side].sessions.get_mut(&c))
        else {
            return false;
        };
        let pipe = &mut self.links[link].pipes[pipe];
        let half = &mut pipe.towards[1 - side];
        if !half.wants_write || half.fin || half.reset {
            return false;
        }
        let buffer = pipe.buffers[side].as_mut().unwrap();
        match buffer.chunk(session) {
            Some(bytes) => {
                let taken = bytes.len().min(chunk);
                half.bytes.extend(&bytes[..taken]);
                pipe.log[1 - side].extend_from_slice(&bytes[..taken]);
                bytes.advance(taken);
            }
            None => {
                half.wants_write = false;
                if buffer.is_finishing() {
                    half.fin = true;
                    session.handle_acknowledged(now, buffer.substream());
                }
            }
        }
        true
    }

    /// Moves bytes, or an end, from the pipe to a session.
    pub(crate) fn deliver(&mut self, link: usize, pipe: usize, side: Side) -> bool {
        let (now, chunk) = (self.now, self.chunk);
        let is_down = self.links[link].is_down;
        let Some(session) =
            self.links[link].ends[side].and_then(|c| self.hosts[side].sessions.get_mut(&c))
        else {
            return false;
        };
        let pipe = &mut self.links[link].pipes[pipe];
        let buffer = pipe.buffers[side].as_mut().unwrap();
        if pipe.towards[1 - side].stopped {
            pipe.towards[1 - side].stopped = false;
            buffer.ended(session, now, SubstreamEnd::Stopped);
            return true;
        }
        let half = &mut pipe.towards[side];
        if half.is_over || is_down {
            return false;
        }
        if half.reset {
            half.is_over = true;
            buffer.ended(session, now, SubstreamEnd::Reset);
            return true;
        }
        if !half.bytes.is_empty() {
            if !buffer.wants_read() {
                return false;
            }
            let taken = half.bytes.len().min(chunk);
            let bytes: Vec<u8> = half.bytes.drain(..taken).collect();
            buffer.read_buffer().extend_from_slice(&bytes);
            buffer.received(session, now);
            return true;
        }
        if half.fin {
            half.is_over = true;
            buffer.ended(session, now, SubstreamEnd::Finished);
            return true;
        }
        false
    }

    // ---- application --------------------------------------------------------------------------

    pub(crate) fn drain_application(&mut self, side: Side) -> bool {
        let host = &mut self.hosts[side];
        let mut moved = false;
        while let Some(event) = host.node.poll_event() {
            host.events.push(event);
            moved = true;
        }
        for (connection, session) in &mut host.sessions {
            while let Some(event) = session.poll_event() {
                host.session_events.push((*connection, event));
                moved = true;
            }
            if !host.reads {
                continue;
            }
            while let Some(message) = session.poll_handshake_message() {
                host.handshake.push(message);
                moved = true;
            }
            for stream in host.node.config().streams.clone() {
                while let Some(message) = session.poll_message(&stream) {
                    host.messages.entry(stream.clone()).or_default().push(message);
                    moved = true;
                }
            }
        }
        moved
    }
}

/// A buffer with the given bytes.
pub(crate) fn bytes(of: &[u8]) -> BytesMut {
    BytesMut::from(of)
}
