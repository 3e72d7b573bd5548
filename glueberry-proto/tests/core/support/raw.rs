//! One session against bytes: the test is the transport, the peer and the application.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use glueberry_proto::compat::Cipher;
use glueberry_proto::wire::{Answer, emit_acceptance, emit_proposal, parse_answer};
use glueberry_proto::{
    Action, Closed, Config, ConnectionState, Event, Identity, Ingest, Instant, Naming,
    NewConnection, Node, NodeAction, OpenError, Origin, Profile, ProtocolId, PublicKey, ResetCode,
    SendLimits, SendQueue, Session, StreamName, SubstreamBuffer, SubstreamEnd, SubstreamId,
};

use super::{A, B, accepted, config, dial, identity, key, name, names, node};

/// A node with one session; `A` is the node, the peer is played by the test.
pub(crate) struct Raw {
    pub(crate) node: Node,
    pub(crate) session: Session,
    pub(crate) peer: PublicKey,
    pub(crate) now: Instant,
    pub(crate) naming: Naming,
    pub(crate) profile: Profile,
    /// What the session asked for, but for what is done by itself here: words to and from the
    /// node, and `WantWrite`.
    pub(crate) actions: Vec<Action>,
    pub(crate) buffers: BTreeMap<SubstreamId, SubstreamBuffer>,
    /// Queues that are lent to the session whenever it writes.
    pub(crate) lent: BTreeMap<StreamName, SendQueue>,
    pub(crate) cipher: Cipher,
    nonces: u64,
}

impl Raw {
    /// The peer has dialled; nothing is agreed yet.
    pub(crate) fn inbound(naming: Naming, config: Config) -> Self {
        Self::new(naming, config, false)
    }

    /// The node has dialled; its handshake substream is being opened.
    pub(crate) fn outbound(naming: Naming, config: Config) -> Self {
        Self::new(naming, config, true)
    }

    fn new(naming: Naming, mut config: Config, dials: bool) -> Self {
        // The peer knows no other.
        config.profiles.retain(|profile| *profile != Profile::V2);
        let now = Instant::ZERO;
        let mut node = node(A, |chosen| *chosen = config);
        let origin = match dials {
            true => Origin::Dialled(dial(&mut node, now, key(B))),
            false => Origin::Accepted,
        };
        Self::with(node, now, naming, identity(B), origin)
    }

    fn with(mut node: Node, now: Instant, naming: Naming, peer: Identity, origin: Origin) -> Self {
        let connection = NewConnection { peer: peer.public_key(), origin, naming };
        let session = accepted(node.handle_connection(now, connection));
        let mut raw = Self {
            profile: node.config().profiles[0],
            node,
            session,
            peer: peer.public_key(),
            now,
            naming,
            actions: Vec::new(),
            buffers: BTreeMap::new(),
            lent: BTreeMap::new(),
            cipher: Cipher::from_key(&peer.agree_v1(&key(A)).unwrap()),
            nonces: 0,
        };
        raw.settle();
        raw
    }

    /// Checks that the node goes on: a new session, with this peer if it is free and with another
    /// in any case, establishes and carries messages both ways.
    pub(crate) fn node_is_usable(self) {
        let is_free =
            self.session.is_closed() && self.node.state(self.peer) == ConnectionState::Disconnected;
        let (now, naming) = (self.now, self.naming);
        let mut node = self.node;
        let peers = [is_free.then(|| identity(B)), Some(Identity::from_seed(&[9; 32]))];
        for peer in peers.into_iter().flatten() {
            let mut raw = Self::with(node, now, naming, peer, Origin::Accepted);
            raw.open(raw.profile.handshake_id());
            raw.prepare(&["fresh"]);
            raw.finalize();
            raw.carries_messages("fresh");
            node = raw.node;
        }
    }

    /// Checks that a stream of the session carries messages both ways.
    pub(crate) fn carries_messages(&mut self, stream: &str) {
        let id = self.open_stream(stream);
        let message = self.message(b"to the node");
        self.feed(id, &message);
        assert_eq!(self.received(stream), ["to the node"]);
        self.send(stream, b"from the node");
        assert_eq!(self.sent(id), [b"from the node"]);
    }

    /// Checks that the peer's messages still arrive.
    pub(crate) fn carries_messages_towards(&mut self, stream: &str) {
        let id = self.open_stream(stream);
        let message = self.message(b"to the node");
        self.feed(id, &message);
        assert_eq!(self.received(stream), ["to the node"]);
    }

    pub(crate) fn prepare(&mut self, streams: &[&str]) {
        self.session.prepare_streams(self.now, self.peer, &names(streams)).unwrap();
        self.settle();
    }

    pub(crate) fn finalize(&mut self) {
        self.session.finalize_handshake(self.now).unwrap();
        self.settle();
    }

    /// A session with a handshake substream of the peer, Connected.
    pub(crate) fn connected(naming: Naming, config: Config) -> (Self, SubstreamId) {
        let mut raw = Self::inbound(naming, config);
        let handshake = raw.open(raw.profile.handshake_id());
        (raw, handshake)
    }

    /// A session that is Established with the given streams.
    pub(crate) fn established(naming: Naming, config: Config, streams: &[&str]) -> Self {
        let (mut raw, _) = Self::connected(naming, config);
        raw.prepare(streams);
        raw.finalize();
        raw
    }

    /// As above, with the stream `chat` and the default configuration but for the profile.
    pub(crate) fn chat(naming: Naming, profile: Profile) -> Self {
        let mut config = config(&["chat"]);
        config.profiles = vec![profile];
        Self::established(naming, config, &["chat"])
    }

    /// Does what session and node ask for.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(action) = self.session.poll_action() {
                moved = true;
                self.act(action);
            }
            while let Some(action) = self.node.poll_action() {
                moved = true;
                if let NodeAction::Forward { session, message } = action
                    && session == self.session.id()
                {
                    self.session.handle_node_message(self.now, message);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Forward(message) => {
                let connection = self.session.id();
                self.node.handle_session_message(self.now, connection, message);
            }
            Action::ResumeRead(id) => {
                if let Some(buffer) = self.buffers.get_mut(&id) {
                    buffer.resume(&mut self.session, self.now);
                }
                self.actions.push(Action::ResumeRead(id));
            }
            Action::WantWrite(_) => {}
            action => self.actions.push(action),
        }
    }

    // ---- the peer -----------------------------------------------------------------------------

    /// The peer opens a substream; in preamble mode its name is sent and the answer read.
    pub(crate) fn open(&mut self, protocol: ProtocolId) -> SubstreamId {
        match self.naming {
            Naming::Negotiated => self.accept(Some(protocol)),
            _ => {
                let id = self.accept(None);
                let mut proposal = BytesMut::new();
                emit_proposal(&protocol, &mut proposal);
                self.feed(id, &proposal);
                let mut answer = BytesMut::new();
                self.session.poll_write(id, &mut answer, 0);
                let accepted = matches!(
                    parse_answer(&answer, &protocol),
                    Ok(Some((Answer::Accepted, len))) if len == answer.len()
                );
                assert!(accepted || self.was_refused(id), "{answer:?}");
                id
            }
        }
    }

    /// As [`open`](Self::open), but for a protocol that ends the session.
    pub(crate) fn open_badly(&mut self, protocol: ProtocolId) {
        match self.naming {
            Naming::Negotiated => _ = self.accept(Some(protocol)),
            _ => {
                let id = self.accept(None);
                let mut proposal = BytesMut::new();
                emit_proposal(&protocol, &mut proposal);
                self.feed(id, &proposal);
            }
        }
    }

    pub(crate) fn open_stream(&mut self, stream: &str) -> SubstreamId {
        self.open(self.profile.stream_id(name(stream)))
    }

    pub(crate) fn accept(&mut self, protocol: Option<ProtocolId>) -> SubstreamId {
        let id = self.session.handle_accepted(self.now, protocol);
        self.buffers.insert(id, SubstreamBuffer::new(id));
        self.settle();
        id
    }

    /// Bytes of the peer arrive.
    pub(crate) fn feed(&mut self, id: SubstreamId, bytes: &[u8]) {
        let buffer = self.buffers.entry(id).or_insert_with(|| SubstreamBuffer::new(id));
        buffer.append(&mut self.session, self.now, bytes);
        buffer.received(&mut self.session, self.now);
        self.settle();
    }

    /// A half of a substream ends.
    pub(crate) fn end(&mut self, id: SubstreamId, end: SubstreamEnd) {
        let buffer = self.buffers.get_mut(&id).unwrap();
        buffer.ended(&mut self.session, self.now, end);
        self.settle();
    }

    /// The peer's transport has all that was written, and its end.
    pub(crate) fn acknowledge(&mut self, id: SubstreamId) {
        self.session.handle_acknowledged(self.now, id);
        self.settle();
    }

    /// The peer accepts what the session is opening, which must be the only thing, and is under
    /// the given protocol.
    pub(crate) fn agree(&mut self, protocol: &ProtocolId) -> SubstreamId {
        let (id, protocols) = self.opening();
        assert!(protocols.contains(protocol), "{protocols:?}");
        self.buffers.insert(id, SubstreamBuffer::new(id));
        match self.naming {
            Naming::Negotiated => self.session.handle_opened(self.now, id, Some(protocol.clone())),
            _ => {
                self.session.handle_opened(self.now, id, None);
                let mut acceptance = BytesMut::new();
                emit_acceptance(protocol, &mut acceptance);
                assert_eq!(self.written(id), acceptance);
                self.feed(id, &acceptance);
            }
        }
        self.settle();
        id
    }

    /// The peer refuses what the session is opening.
    pub(crate) fn refuse(&mut self) {
        let (id, _) = self.opening();
        self.session.handle_open_failed(self.now, id, OpenError::Refused);
        self.settle();
    }

    /// Returns what the session is opening, which must be one substream.
    pub(crate) fn opening(&mut self) -> (SubstreamId, Vec<ProtocolId>) {
        let mut opening = self.actions.iter().enumerate().filter_map(|(at, action)| match action {
            Action::OpenSubstream { substream, protocols } => {
                Some((at, *substream, protocols.clone()))
            }
            _ => None,
        });
        let (at, id, protocols) = opening.next().expect("a substream is being opened");
        assert!(opening.next().is_none(), "several substreams are being opened");
        drop(self.actions.remove(at));
        (id, protocols)
    }

    /// Seals a message as the peer does, under a nonce that was not used before.
    pub(crate) fn record(&mut self, message: &[u8]) -> Vec<u8> {
        let mut nonce = [0xb0; 12];
        nonce[..8].copy_from_slice(&self.nonces.to_be_bytes());
        self.nonces += 1;
        self.cipher.encrypt(message, b"", &nonce)
    }

    /// A message as the peer would put it on a named stream.
    pub(crate) fn message(&mut self, message: &[u8]) -> Vec<u8> {
        let record = self.record(message);
        frame(self.profile, &record)
    }

    // ---- what the session does ----------------------------------------------------------------

    /// Returns all that the session writes on a substream now.
    pub(crate) fn written(&mut self, id: SubstreamId) -> Vec<u8> {
        let mut written = BytesMut::new();
        while self.write(id, &mut written, usize::MAX) > 0 {}
        written.to_vec()
    }

    /// Lets the session write on a substream, once.
    pub(crate) fn write(&mut self, id: SubstreamId, out: &mut BytesMut, budget: usize) -> usize {
        self.session.poll_write_from(id, out, budget, &mut self.lent)
    }

    /// Returns the messages that the session writes on a substream of a named stream now.
    pub(crate) fn sent(&mut self, id: SubstreamId) -> Vec<Vec<u8>> {
        let written = self.written(id);
        let bodies = bodies(self.profile, &written);
        bodies.iter().map(|record| self.cipher.decrypt(record, b"").unwrap()).collect()
    }

    /// Returns the handshake messages that the session writes on a substream now.
    pub(crate) fn said(&mut self, id: SubstreamId) -> Vec<Vec<u8>> {
        let written = self.written(id);
        bodies(self.profile, &written)
    }

    pub(crate) fn send(&mut self, stream: &str, message: &[u8]) {
        let message = Bytes::copy_from_slice(message);
        self.session.send(self.now, &name(stream), message).unwrap();
        self.settle();
    }

    /// Puts a message into the lent queue of a stream, and reports it.
    pub(crate) fn lend(&mut self, stream: &str, message: &[u8]) {
        let limits = SendLimits::from(self.node.config());
        let queue = self.lent.entry(name(stream)).or_insert_with(|| SendQueue::new(limits));
        queue.push(Bytes::copy_from_slice(message)).unwrap();
        self.session.handle_queued(self.now, &name(stream));
        self.settle();
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    pub(crate) fn received(&mut self, stream: &str) -> Vec<Bytes> {
        let stream: StreamName = name(stream);
        let mut received = Vec::new();
        while let Some(message) = self.session.poll_message(&stream) {
            received.push(message);
            self.settle();
        }
        received
    }

    pub(crate) fn heard(&mut self) -> Vec<Bytes> {
        let mut heard = Vec::new();
        while let Some(message) = self.session.poll_handshake_message() {
            heard.push(message);
            self.settle();
        }
        heard
    }

    /// Returns how the session has ended.
    pub(crate) fn closed(&mut self) -> Closed {
        assert!(self.session.is_closed());
        match self.events().pop() {
            Some(Event::Closed(closed)) => closed,
            other => panic!("not the last event: {other:?}"),
        }
    }

    pub(crate) fn was_reset(&self, id: SubstreamId, with: ResetCode) -> bool {
        self.actions.iter().any(|action| {
            matches!(action, Action::Reset { substream, code } if *substream == id && *code == with)
        })
    }

    /// Returns whether the session does not want a substream: reset, or answered by a refusal.
    pub(crate) fn was_refused(&self, id: SubstreamId) -> bool {
        self.was_reset(id, ResetCode::Refused) || self.was_finished(id)
    }

    pub(crate) fn was_finished(&self, id: SubstreamId) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Finish(of) if *of == id))
    }

    pub(crate) fn wait(&mut self, by: Duration) {
        self.now = self.now + by;
        self.node.handle_timeout(self.now);
        self.session.handle_timeout(self.now);
        self.settle();
    }

    /// Hands bytes to the session directly.
    pub(crate) fn ingest(&mut self, id: SubstreamId, buf: &mut BytesMut) -> Ingest {
        let ingest = self.session.handle_data(self.now, id, buf);
        self.settle();
        ingest
    }
}

/// Returns the frames' bodies that `written` consists of.
pub(crate) fn bodies(profile: Profile, written: &[u8]) -> Vec<Vec<u8>> {
    use glueberry_proto::wire::Parsed;
    let (mut rest, mut bodies) = (written, Vec::new());
    while let Parsed::Frame(header) =
        profile.framing().parse_header(rest, usize::MAX >> 1).expect("a frame")
    {
        assert!(rest.len() >= header.total_len(), "a whole frame");
        bodies.push(rest[header.header_len..header.header_len + header.body_len].to_vec());
        rest = &rest[header.total_len()..];
    }
    assert!(rest.is_empty(), "whole frames");
    bodies
}

/// Puts a frame around a body.
pub(crate) fn frame(profile: Profile, body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    profile.framing().emit_header(body.len(), &mut frame);
    frame.extend_from_slice(body);
    frame.to_vec()
}
