//! Two sides in one thread, whose substreams are handed over chunk by chunk.

use std::collections::BTreeMap;

use bytes::Bytes;
use glueberry_proto::{
    Action, Address, Admission, Config, Identity, Instant, Naming, NewConnection, Node, NodeAction,
    Origin, Seed, Session, StreamName, SubstreamBuffer, SubstreamId,
};

pub(crate) const NOW: Instant = Instant::ZERO;

/// One side: a node, its session, and the buffers of its substreams by the pair's count of them.
pub(crate) struct Side {
    pub(crate) node: Node,
    pub(crate) session: Session,
    pub(crate) buffers: BTreeMap<usize, SubstreamBuffer>,
}

/// Two sides with an Established session.
pub(crate) struct Pair {
    pub(crate) a: Side,
    pub(crate) b: Side,
    opened: usize,
}

pub(crate) fn stream() -> StreamName {
    StreamName::new("bench").expect("it is a good name")
}

impl Pair {
    pub(crate) fn new(number: u8) -> Self {
        Self::between(node(number, 1), node(number, 2))
    }

    /// Connects two nodes that may have other peers.
    pub(crate) fn between(mut a: Node, mut b: Node) -> Self {
        let (a_key, b_key) = (a.public_key(), b.public_key());
        a.add_peer(NOW, b_key, &[Address::new("memory")]).expect("there is room");
        a.connect(NOW, b_key).expect("it may be dialled");
        let Some(NodeAction::Dial { dial, .. }) = a.poll_action() else { panic!("no dial") };
        let a_session = admit(&mut a, b_key, Origin::Dialled(dial));
        let b_session = admit(&mut b, a_key, Origin::Accepted);
        let side = |node, session| Side { node, session, buffers: BTreeMap::new() };
        let mut pair = Self { a: side(a, a_session), b: side(b, b_session), opened: 0 };
        pair.run();
        for side in [&mut pair.a, &mut pair.b] {
            side.session.send_handshake(NOW, Bytes::from_static(b"hello")).expect("connected");
        }
        pair.run();
        for (side, key) in [(&mut pair.a, b_key), (&mut pair.b, a_key)] {
            while side.session.poll_handshake_message().is_some() {}
            side.session.prepare_streams(NOW, key, &[stream()]).expect("connected");
            side.session.finalize_handshake(NOW).expect("prepared");
        }
        pair.run();
        pair
    }

    /// Acts and moves bytes until both are at rest.
    pub(crate) fn run(&mut self) {
        loop {
            let acted = self.a.act(&mut self.opened) | self.b.act(&mut self.opened);
            let moved = self.a.pump(&mut self.b) | self.b.pump(&mut self.a);
            if !acted && !moved {
                return;
            }
        }
    }
}

impl Side {
    fn act(&mut self, opened: &mut usize) -> bool {
        let mut acted = false;
        loop {
            while let Some(action) = self.node.poll_action() {
                if let NodeAction::Forward { message, .. } = action {
                    self.session.handle_node_message(NOW, message);
                }
                acted = true;
            }
            while self.node.poll_event().is_some() || self.session.poll_event().is_some() {}
            let Some(action) = self.session.poll_action() else {
                return acted;
            };
            acted = true;
            self.session_action(action, opened);
        }
    }

    fn session_action(&mut self, action: Action, opened: &mut usize) {
        match action {
            Action::OpenSubstream { substream, .. } => {
                self.buffers.insert(*opened, SubstreamBuffer::new(substream));
                *opened += 1;
                self.session.handle_opened(NOW, substream, None);
            }
            Action::ResumeRead(id) => {
                if let Some(buffer) = find(&mut self.buffers, id) {
                    buffer.resume(&mut self.session, NOW);
                }
            }
            Action::Forward(message) => {
                let connection = self.session.id();
                self.node.handle_session_message(NOW, connection, message);
            }
            _ => {}
        }
    }

    fn pump(&mut self, other: &mut Self) -> bool {
        let mut moved = false;
        for (wire, buffer) in &mut self.buffers {
            while let Some(chunk) = buffer.chunk(&mut self.session) {
                let bytes = chunk.split_off(0);
                let theirs = other.buffers.entry(*wire).or_insert_with(|| {
                    SubstreamBuffer::new(other.session.handle_accepted(NOW, None))
                });
                theirs.append(&mut other.session, NOW, &bytes);
                theirs.received(&mut other.session, NOW);
                moved = true;
            }
        }
        moved
    }
}

fn find(
    buffers: &mut BTreeMap<usize, SubstreamBuffer>,
    id: SubstreamId,
) -> Option<&mut SubstreamBuffer> {
    buffers.values_mut().find(|buffer| buffer.substream() == id)
}

pub(crate) fn node(number: u8, side: u8) -> Node {
    let mut config = Config::default();
    config.streams = vec![stream()];
    let mut secret = [number; 32];
    secret[0] = side;
    let identity = Identity::from_seed(&secret);
    Node::new(NOW, identity, config, Seed::from_bytes(secret)).expect("the configuration is good")
}

fn admit(node: &mut Node, peer: glueberry_proto::PublicKey, origin: Origin) -> Session {
    let connection = NewConnection { peer, origin, naming: Naming::Preamble };
    match node.handle_connection(NOW, connection) {
        Admission::Accept(session) => *session,
        refused => panic!("{refused:?}"),
    }
}
