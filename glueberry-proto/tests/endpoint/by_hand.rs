//! Sessions over a mux without an endpoint, as the documentation of `mux` says.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use glueberry_proto::mux::{self, Mux};
use glueberry_proto::{
    Action, Address, Admission, ConnectionLost, ConnectionState, Direction, Event, Instant, Naming,
    NewConnection, Node, NodeAction, OpenError, Origin, PublicKey, Seed, Session, SubstreamBuffer,
    SubstreamEnd, SubstreamId,
};

use super::net::{A, B, config, identity, key, name};

const NOW: Instant = Instant::ZERO;

struct Side {
    node: Node,
    session: Session,
    mux: Mux,
    substreams: BTreeMap<SubstreamId, Substream>,
    /// They wait for the peer's hello.
    unopened: VecDeque<SubstreamId>,
    received: Vec<usize>,
    ends: Vec<String>,
}

struct Substream {
    id: mux::Id,
    buffer: SubstreamBuffer,
    /// Bytes that have arrived and were not released.
    held: usize,
    has_ended: bool,
}

/// What has arrived, without what it borrows.
enum Arrived {
    Ready,
    Accepted,
    Data(Vec<u8>),
    Finished,
    Reset,
    Acknowledged,
}

impl Side {
    fn new(mut node: Node, peer: PublicKey, origin: Origin, mux: mux::Config) -> Self {
        let connection = NewConnection { peer, origin, naming: Naming::Preamble };
        let Admission::Accept(session) = node.handle_connection(NOW, connection) else { panic!() };
        let mux = Mux::new(NOW, session.direction(), mux).unwrap();
        Self {
            node,
            session: *session,
            mux,
            substreams: BTreeMap::new(),
            unopened: VecDeque::new(),
            received: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Takes bytes that have arrived.
    fn read(&mut self, mut input: &[u8]) {
        while let Some(event) = self.mux.read(NOW, &mut input) {
            let (id, arrived) = match event {
                mux::Event::Ready => (None, Arrived::Ready),
                mux::Event::Accepted { substream } => (Some(substream), Arrived::Accepted),
                mux::Event::Data { substream, bytes } => {
                    (Some(substream), Arrived::Data(bytes.to_vec()))
                }
                mux::Event::Finished { substream } => (Some(substream), Arrived::Finished),
                mux::Event::Reset { substream, .. } => (Some(substream), Arrived::Reset),
                mux::Event::Acknowledged { substream } => (Some(substream), Arrived::Acknowledged),
            };
            match (id, arrived) {
                (None, _) => {
                    std::mem::take(&mut self.unopened).into_iter().for_each(|it| self.open(it))
                }
                (Some(id), Arrived::Accepted) => {
                    let substream = self.session.handle_accepted(NOW, None);
                    self.insert(substream, id);
                }
                (Some(id), arrived) => self.arrived(id, arrived),
            }
        }
        match self.mux.closed() {
            Some(mux::Closed::ByPeer { code }) => {
                let why = ConnectionLost::ClosedByPeer { code: code.into() };
                self.session.handle_connection_lost(NOW, why);
            }
            Some(mux::Closed::Locally { .. }) | None => {}
            Some(other) => panic!("{other}"),
        }
    }

    fn arrived(&mut self, id: mux::Id, arrived: Arrived) {
        let found = self.substreams.iter_mut().find(|(_, it)| it.id == id);
        let Some((&substream, it)) = found else { return };
        let was_closed = self.session.is_closed();
        match arrived {
            Arrived::Data(bytes) => {
                it.held += bytes.len();
                it.buffer.append(&mut self.session, NOW, &bytes);
                it.buffer.received(&mut self.session, NOW);
            }
            Arrived::Finished => {
                it.has_ended = true;
                it.buffer.ended(&mut self.session, NOW, SubstreamEnd::Finished);
            }
            Arrived::Reset => {
                it.buffer.ended(&mut self.session, NOW, SubstreamEnd::Aborted);
                self.substreams.remove(&substream);
                return;
            }
            Arrived::Acknowledged => return self.session.handle_acknowledged(NOW, substream),
            Arrived::Ready | Arrived::Accepted => {}
        }
        self.release(substream, was_closed);
    }

    /// The one rule of windows.
    fn release(&mut self, substream: SubstreamId, was_closed: bool) {
        let Some(it) = self.substreams.get_mut(&substream) else { return };
        if it.buffer.wants_read() || it.buffer.is_read_over() {
            self.mux.release(it.id, std::mem::take(&mut it.held));
        }
        if it.has_ended && it.buffer.is_read_over() && !was_closed {
            self.mux.acknowledge(it.id);
        }
    }

    fn open(&mut self, substream: SubstreamId) {
        match self.mux.open() {
            Ok(id) => {
                self.insert(substream, id);
                self.session.handle_opened(NOW, substream, None);
            }
            Err(mux::OpenError::NotReady) => self.unopened.push_back(substream),
            Err(_) => self.session.handle_open_failed(NOW, substream, OpenError::Failed),
        }
    }

    fn insert(&mut self, substream: SubstreamId, id: mux::Id) {
        let buffer = SubstreamBuffer::new(substream);
        self.substreams.insert(substream, Substream { id, buffer, held: 0, has_ended: false });
    }

    /// Carries out all actions, and returns what is to be written.
    fn act(&mut self) -> BytesMut {
        loop {
            while let Some(action) = self.node.poll_action() {
                if let NodeAction::Forward { message, .. } = action {
                    self.session.handle_node_message(NOW, message);
                }
            }
            let Some(action) = self.session.poll_action() else { break };
            self.act_on(action);
        }
        let mut out = BytesMut::new();
        self.mux.write_control(&mut out);
        while let Some(id) = self.mux.next_writable() {
            let found = self.substreams.values_mut().find(|it| it.id == id);
            let Some(it) = found else { continue };
            let is_finishing = it.buffer.is_finishing();
            match it.buffer.chunk(&mut self.session) {
                Some(chunk) => _ = self.mux.write(id, chunk, &mut out),
                None if is_finishing => self.mux.finish(id),
                None => {}
            }
        }
        self.mux.write_control(&mut out);
        out
    }

    fn act_on(&mut self, action: Action) {
        match action {
            Action::OpenSubstream { substream, .. } => self.open(substream),
            Action::WantWrite(id) => {
                if let Some(it) = self.substreams.get(&id) {
                    self.mux.want_write(it.id);
                }
            }
            Action::ResumeRead(id) => {
                let was_closed = self.session.is_closed();
                if let Some(it) = self.substreams.get_mut(&id) {
                    it.buffer.resume(&mut self.session, NOW);
                }
                self.release(id, was_closed);
            }
            Action::Finish(id) => {
                if let Some(it) = self.substreams.get_mut(&id) {
                    it.buffer.finish();
                    match it.buffer.chunk(&mut self.session) {
                        Some(_) => self.mux.want_write(it.id),
                        None => self.mux.finish(it.id),
                    }
                }
            }
            Action::Reset { substream, code } => {
                if let Some(it) = self.substreams.remove(&substream) {
                    self.mux.reset(it.id, code.as_u32());
                }
            }
            Action::Forward(message) => {
                self.node.handle_session_message(NOW, self.session.id(), message);
            }
            Action::CloseConnection { code } => self.mux.close(NOW, u32::try_from(code).unwrap()),
        }
    }

    /// Takes events and messages.
    fn take(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Readable { stream } => {
                    while let Some(message) = self.session.poll_message(&stream) {
                        self.received.push(message.len());
                    }
                }
                Event::Closed(closed) => self.ends.push(closed.to_string()),
                _ => {}
            }
        }
    }
}

/// Moves everything until nothing moves.
fn run(sides: &mut [Side; 2]) {
    loop {
        let mut moved = false;
        for side in [A, B] {
            let bytes = sides[side].act();
            // Cut anywhere.
            for part in bytes.chunks(10_007) {
                sides[1 - side].read(part);
                moved = true;
            }
            sides[1 - side].take();
        }
        if !moved {
            return;
        }
    }
}

#[test]
fn messages_longer_than_a_window_and_an_orderly_end() {
    let [mut a, b] = [A, B].map(|side| {
        let seed = Seed::from_bytes([u8::try_from(side + 1).unwrap(); 32]);
        Node::new(NOW, identity(side), config(), seed).unwrap()
    });
    a.add_peer(NOW, key(B), &[Address::new("pipe")]).unwrap();
    a.connect(NOW, key(B)).unwrap();
    let dial = loop {
        match a.poll_action() {
            Some(NodeAction::Dial { dial, .. }) => break dial,
            other => assert!(other.is_some()),
        }
    };
    let mut mux = mux::Config::default();
    (mux.window, mux.connection_window) = (10_000, 128 * 10_000);
    let mut sides = [
        Side::new(a, key(B), Origin::Dialled(dial), mux.clone()),
        Side::new(b, key(A), Origin::Accepted, mux),
    ];
    assert_eq!(sides[B].session.direction(), Direction::Inbound);
    run(&mut sides);
    for side in [A, B] {
        let session = &mut sides[side].session;
        session.send_handshake(NOW, "hello".into()).unwrap();
        session.prepare_streams(NOW, key(1 - side), &[name("chat")]).unwrap();
        session.finalize_handshake(NOW).unwrap();
    }
    run(&mut sides);
    for size in [0, 64, 1 << 20] {
        for side in &mut sides {
            side.session.send(NOW, &name("chat"), Bytes::from(vec![7; size])).unwrap();
        }
    }
    run(&mut sides);
    for side in [A, B] {
        assert_eq!(sides[side].node.state(key(1 - side)), ConnectionState::Established);
        assert_eq!(sides[side].received, [0, 64, 1 << 20]);
    }
    sides[A].node.shutdown(NOW);
    run(&mut sides);
    assert!(sides[A].node.is_idle());
    assert_eq!(sides[A].ends, ["disconnected locally"]);
    assert_eq!(sides[B].ends, ["ended by the peer"]);
    assert!(sides.iter().all(|side| side.mux.is_over()));
}
