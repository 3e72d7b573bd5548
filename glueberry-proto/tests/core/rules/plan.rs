//! Random runs of two nodes: what their applications, the transport and a vandal do.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use glueberry_proto::wire::StreamVersion;
use glueberry_proto::{
    Config, Instant, Naming, Node, OpenError, Profile, ProtocolId, Session, StreamName,
    SubstreamEnd, SubstreamId,
};
use proptest::prelude::*;

use super::nodes::{NodeOp, node_op};
use crate::support::{A, B, Clock, Side, World, config, key, name, names, seeded_world};

/// How two nodes are set up, and what happens to them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) naming: Naming,
    pub(crate) profile: Profile,
    pub(crate) start: Start,
    /// Small queues and windows, so that they fill.
    pub(crate) is_tight: bool,
    pub(crate) cuts: Vec<usize>,
    pub(crate) ops: Vec<Op>,
}

/// Where the ops begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Nothing,
    Connected,
    Established,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    // Commands.
    Connect(Side),
    Disconnect(Side),
    Say(Side, usize),
    Prepare(Side, usize),
    WrongKey(Side),
    NoStreams(Side),
    Finalize(Side),
    Reject(Side),
    Send(Side, usize, usize),
    TooLarge(Side, usize),
    Unknown(Side),
    Close(Side),
    Node(Side, NodeOp),
    // What the applications and the transport get to.
    Unread(Side, usize),
    Read(Side),
    Step,
    Move(usize),
    Wait(Duration),
    // What goes wrong.
    Cut(usize),
    Break(usize, Side),
    Junk(usize, Side, Vec<u8>),
    Intrude(Side, usize),
    Spurious(Side, usize, usize),
}

pub(crate) const STREAMS: [&str; 3] = ["a", "b", "c"];

/// A run and how its commands are given.
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) commands: Commands,
    /// What was accepted for sending, by side and stream.
    pub(crate) accepted: [[Vec<Bytes>; 3]; 2],
    sent: u32,
}

/// Whether failing commands are given.
pub(crate) enum Commands {
    /// They are, and it is recorded which of all commands failed.
    Given(Vec<bool>),
    /// Those that are known to fail are left out, for `handle_timeout` in their place.
    Spared(std::vec::IntoIter<bool>),
}

// ---- strategies ---------------------------------------------------------------------------------

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(A), Just(B)]
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..64_usize, 4 => 0..2_000_usize, 1 => 0..80_000_usize]
}

fn wait() -> impl Strategy<Value = Duration> {
    let millis = prop_oneof![1..200_u64, 500..3_000_u64, 5_000..70_000_u64];
    millis.prop_map(Duration::from_millis)
}

/// Sending, moving, reading or not.
pub(crate) fn traffic() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (side(), 0..STREAMS.len(), size()).prop_map(|(side, at, size)| Op::Send(side, at, size)),
        6 => any::<usize>().prop_map(Op::Move),
        1 => Just(Op::Step),
        1 => (side(), 0..STREAMS.len()).prop_map(|(side, at)| Op::Unread(side, at)),
        1 => side().prop_map(Op::Read),
    ]
}

/// Everything that applications do, in any order, and time.
pub(crate) fn commands() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => side().prop_map(Op::Connect),
        1 => side().prop_map(Op::Disconnect),
        3 => (side(), size()).prop_map(|(side, size)| Op::Say(side, size)),
        4 => (side(), 1..8_usize).prop_map(|(side, mask)| Op::Prepare(side, mask)),
        1 => side().prop_map(Op::WrongKey),
        1 => side().prop_map(Op::NoStreams),
        4 => side().prop_map(Op::Finalize),
        1 => side().prop_map(Op::Reject),
        2 => (side(), 0..STREAMS.len()).prop_map(|(side, at)| Op::TooLarge(side, at)),
        1 => side().prop_map(Op::Unknown),
        1 => side().prop_map(Op::Close),
        3 => wait().prop_map(Op::Wait),
        12 => (side(), node_op()).prop_map(|(side, op)| Op::Node(side, op)),
    ]
}

/// Everything that transports and peers can do wrong.
pub(crate) fn vandalism() -> impl Strategy<Value = Op> {
    let junk = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40),
        prop::collection::vec(0..3_u8, 1..40),
        Just(vec![0xff; 12]),
    ];
    prop_oneof![
        1 => (0..4_usize).prop_map(Op::Cut),
        3 => (any::<usize>(), side()).prop_map(|(at, side)| Op::Break(at, side)),
        2 => (any::<usize>(), side(), junk).prop_map(|(at, side, junk)| Op::Junk(at, side, junk)),
        2 => (side(), 0..8_usize).prop_map(|(side, what)| Op::Intrude(side, what)),
        3 => (side(), any::<usize>(), 0..12_usize).prop_map(|(side, id, what)| Op::Spurious(side, id, what)),
    ]
}

pub(crate) fn hostile() -> BoxedStrategy<Op> {
    prop_oneof![3 => traffic(), 2 => commands(), 1 => vandalism()].boxed()
}

pub(crate) fn plans(
    start: impl Strategy<Value = Start>,
    op: BoxedStrategy<Op>,
) -> impl Strategy<Value = Plan> {
    let naming = prop_oneof![Just(Naming::Negotiated), Just(Naming::Preamble)];
    let profile = prop_oneof![Just(Profile::V1), Just(Profile::V1Go), Just(Profile::V2)];
    let cut = prop_oneof![2 => Just(usize::MAX), 2 => 1..100_usize, 1 => 1..5_000_usize];
    let cuts = prop::collection::vec(cut, 3..8);
    let ops = prop::collection::vec(op, 0..60);
    let parts = (naming, profile, start, any::<bool>(), cuts, ops);
    parts.prop_map(|(naming, profile, start, is_tight, cuts, ops)| Plan {
        naming,
        profile,
        start,
        is_tight,
        cuts,
        ops,
    })
}

pub(crate) fn any_start() -> impl Strategy<Value = Start> {
    prop_oneof![1 => Just(Start::Nothing), 2 => Just(Start::Connected), 4 => Just(Start::Established)]
}

// ---- runs ---------------------------------------------------------------------------------------

impl Plan {
    pub(crate) fn config(&self) -> Config {
        let mut config = config(&STREAMS);
        config.profiles = vec![self.profile];
        config.max_message_size = 100_000;
        if self.is_tight {
            (config.high_watermark, config.low_watermark) = (8, 3);
            (config.high_watermark_bytes, config.low_watermark_bytes) = (10_000, 5_000);
            (config.receive_queue, config.receive_queue_bytes) = (3, 4_000);
            config.max_handshake_size = 3_000;
            (config.max_streams, config.max_substreams) = (3, 6);
            (config.max_metadata_size, config.max_addresses) = (100, 2);
            (config.cooldown, config.refuse_after_disconnect) = (Duration::ZERO, Duration::ZERO);
            config.event_queue = 8;
        }
        config
    }

    pub(crate) fn run(&self) -> Run {
        self.run_with(Clock::Exact, [[10; 32], [20; 32]])
    }

    pub(crate) fn run_with(&self, clock: Clock, seeds: [[u8; 32]; 2]) -> Run {
        let configs = [self.config(), self.config()];
        let mut world = seeded_world(self.naming, configs, seeds);
        world.clock = clock;
        world.app.log.is_on = true;
        world.cuts.clone_from(&self.cuts);
        if self.is_tight {
            world.window = 5_000;
        }
        if self.start != Start::Nothing {
            world.connect(A);
            world.run();
        }
        if self.start == Start::Established {
            world.complete_handshake(&STREAMS);
        }
        let accepted = Default::default();
        Run { world, commands: Commands::Given(Vec::new()), accepted, sent: 0 }
    }
}

impl Run {
    /// Does everything, and notes after each op what can be seen from outside.
    pub(crate) fn all(mut self, ops: &[Op]) -> Self {
        for op in ops {
            self.apply(op);
            self.observe();
        }
        self
    }

    pub(crate) fn observe(&mut self) {
        let world = &mut self.world;
        for host in &world.hosts {
            let node = (host.node.poll_timeout(), host.node.session_of(key(A)));
            world.app.log.note(|| format!("{node:?} {:?}", host.node.session_of(key(B))));
            for (connection, session) in &host.sessions {
                let queued = STREAMS.map(|stream| session.queued(&name(stream)));
                let timeout = session.poll_timeout();
                world.app.log.note(|| format!("{connection} {timeout:?} {queued:?}"));
            }
        }
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Connect(side) => self.connect(*side),
            Op::Disconnect(side) => _ = self.world.disconnect(*side),
            Op::Unread(side, at) => {
                _ = self.world.app.sides[*side].unread.insert(name(STREAMS[*at]));
            }
            Op::Read(side) => self.world.app.sides[*side].unread.clear(),
            Op::Step => _ = self.world.step(),
            Op::Move(choice) => _ = self.world.step_one(*choice),
            Op::Wait(by) => self.world.wait(*by),
            Op::Cut(link) => {
                if *link < self.world.links.len() {
                    self.world.cut(*link);
                }
            }
            Op::Break(at, side) => self.with_pipe(*at, |pipe| {
                pipe.towards[*side].reset = true;
                pipe.towards[*side].stopped = true;
            }),
            Op::Junk(at, side, junk) => {
                self.with_pipe(*at, |pipe| pipe.towards[*side].bytes.extend(junk));
            }
            Op::Intrude(side, what) => {
                if let Some(link) = self.world.links.len().checked_sub(1) {
                    let protocol = protocol(*what);
                    self.world.intrude(link, *side, protocol);
                }
            }
            Op::Spurious(side, id, what) => self.spurious(*side, *id, *what),
            Op::Node(side, op) => self.node_op(*side, *op),
            command => self.command(command),
        }
    }

    fn command(&mut self, op: &Op) {
        let streams = names(&STREAMS);
        match op {
            Op::Say(side, size) => {
                let message = self.message(*size);
                self.give(*side, |session, now| session.send_handshake(now, message).is_ok());
            }
            Op::Prepare(side, mask) => {
                let chosen: Vec<StreamName> = streams
                    .into_iter()
                    .enumerate()
                    .filter_map(|(at, name)| (mask >> at & 1 == 1).then_some(name))
                    .collect();
                let peer = key(1 - side);
                self.give(*side, |session, now| {
                    session.prepare_streams(now, peer, &chosen).is_ok()
                });
            }
            Op::WrongKey(side) => {
                let own = key(*side);
                self.give(*side, |session, now| {
                    session.prepare_streams(now, own, &streams).is_ok()
                });
            }
            Op::NoStreams(side) => {
                let peer = key(1 - side);
                self.give(*side, |session, now| session.prepare_streams(now, peer, &[]).is_ok());
            }
            Op::Finalize(side) => {
                self.give(*side, |session, now| session.finalize_handshake(now).is_ok());
            }
            Op::Reject(side) => self.give(*side, |session, now| {
                session.reject_handshake(now, "because");
                true
            }),
            Op::Send(side, at, size) => self.send(*side, *at, *size),
            Op::TooLarge(side, at) => {
                let message = Bytes::from(vec![1; 100_001]);
                let stream = &streams[*at];
                self.give(*side, |session, now| session.send(now, stream, message).is_ok());
            }
            Op::Unknown(side) => {
                let nobody = name("nobody");
                self.give(*side, |session, now| session.send(now, &nobody, Bytes::new()).is_ok());
            }
            Op::Close(side) => self.give(*side, |session, now| {
                session.close(now);
                true
            }),
            other => panic!("{other:?} is no command"),
        }
    }

    /// A message that differs from all others.
    fn message(&mut self, size: usize) -> Bytes {
        self.sent += 1;
        let mut message = self.sent.to_be_bytes().to_vec();
        message.resize(size.max(4), u8::try_from(size % 256).unwrap());
        Bytes::from(message)
    }

    pub(crate) fn send(&mut self, side: Side, at: usize, size: usize) {
        let (message, stream) = (self.message(size), name(STREAMS[at]));
        let (copy, mut is_accepted) = (message.clone(), false);
        self.give(side, |session, now| {
            is_accepted = session.send(now, &stream, copy).is_ok();
            is_accepted
        });
        if is_accepted {
            self.accepted[side][at].push(message);
        }
    }

    /// Gives a command, which says whether it was accepted, to the session that is granted.
    fn give(&mut self, side: Side, command: impl FnOnce(&mut Session, Instant) -> bool) {
        if self.world.current_session(side).is_none() {
            return;
        }
        let fails = self.is_spared();
        let is_accepted = self.world.command(side, |session, now| match fails {
            true => {
                session.handle_timeout(now);
                false
            }
            false => command(session, now),
        });
        if let Commands::Given(failures) = &mut self.commands {
            failures.push(is_accepted == Some(false));
        }
    }

    fn connect(&mut self, side: Side) {
        let peer = key(1 - side);
        let address = [glueberry_proto::Address::new("memory")];
        self.command_node(side, |node, now| node.add_peer(now, peer, &address).is_ok());
        self.command_node(side, |node, now| node.connect(now, peer).is_ok());
    }

    /// Gives a command, which says whether it was accepted, to the node of a side.
    pub(super) fn command_node(
        &mut self,
        side: Side,
        command: impl FnOnce(&mut Node, Instant) -> bool,
    ) {
        let fails = self.is_spared();
        let node = &mut self.world.hosts[side].node;
        let now = self.world.clock.input_time(self.world.now, node);
        let is_accepted = match fails {
            true => {
                node.handle_timeout(now);
                false
            }
            false => command(node, now),
        };
        if let Commands::Given(failures) = &mut self.commands {
            failures.push(!is_accepted);
        }
        self.world.drain_actions();
    }

    /// Returns whether the next command is known to fail and is left out.
    fn is_spared(&mut self) -> bool {
        match &mut self.commands {
            Commands::Given(_) => false,
            Commands::Spared(failures) => failures.next().expect("the same commands as before"),
        }
    }

    // ---- vandalism ----------------------------------------------------------------------------

    fn with_pipe(&mut self, at: usize, change: impl FnOnce(&mut crate::support::Pipe)) {
        let mut pipes: Vec<_> =
            self.world.links.iter_mut().flat_map(|link| link.pipes.iter_mut()).collect();
        let count = pipes.len();
        if count > 0 {
            change(pipes[at % count]);
        }
    }

    /// An input that nothing has caused.
    fn spurious(&mut self, side: Side, id: usize, what: usize) {
        let ids: Vec<SubstreamId> =
            self.world.app.log.substreams.values().flatten().copied().collect();
        let Some(id) = (!ids.is_empty()).then(|| ids[id % ids.len()]) else {
            return;
        };
        let (now, clock) = (self.world.now, self.world.clock);
        for session in self.world.hosts[side].sessions.values_mut() {
            let now = clock.input_time(now, session);
            disturb(session, now, id, what);
        }
        self.world.drain_actions();
    }
}

/// Gives a session an input about any substream, known or not.
pub(crate) fn disturb(session: &mut Session, now: Instant, id: SubstreamId, what: usize) {
    let mut junk = BytesMut::from(&b"\0\0\0\x04junk"[..]);
    match what {
        0 => session.handle_opened(now, id, protocol(junk.len())),
        1 => session.handle_open_failed(now, id, OpenError::Refused),
        2 => session.handle_open_failed(now, id, OpenError::Failed),
        3 => session.handle_acknowledged(now, id),
        4 => session.handle_substream_end(now, id, SubstreamEnd::Finished, b""),
        5 => session.handle_substream_end(now, id, SubstreamEnd::Finished, b"\0\0"),
        6 => session.handle_substream_end(now, id, SubstreamEnd::Reset, b""),
        7 => session.handle_substream_end(now, id, SubstreamEnd::Stopped, b""),
        8 => session.handle_substream_end(now, id, SubstreamEnd::Aborted, b""),
        9 => _ = session.handle_data(now, id, &mut junk),
        10 => session.handle_timeout(now),
        _ => _ = session.handle_data(now, id, &mut BytesMut::new()),
    }
}

fn protocol(what: usize) -> Option<ProtocolId> {
    match what % 8 {
        0 => Some(Profile::V1.handshake_id()),
        1 => Some(Profile::V1Go.handshake_id()),
        2 => Some(ProtocolId::Handshake(Profile::V2)),
        3 => Some(ProtocolId::Stream { version: StreamVersion::V2, name: name("a") }),
        4 => Some(Profile::V1.stream_id(name("nobody"))),
        5 => None,
        at => Some(Profile::V1.stream_id(name(STREAMS[at % 3]))),
    }
}
