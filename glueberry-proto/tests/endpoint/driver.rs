//! Drivers that move the bytes of their pipes by themselves.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use glueberry_proto::endpoint::{Driver, Endpoint, Output, Pipe};
use glueberry_proto::greeting::GreetingConfig;
use glueberry_proto::{
    Address, CloseReason, ConnectionId, ConnectionLost, ConnectionState, DialError, Event,
    Identity, Instant, PublicKey, Seed, StateReason, Waiting,
};
use proptest::prelude::*;

use super::net::{A, B, config, identity, key, name};

/// One direction of a pipe.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    /// What it takes before it must be read.
    room: usize,
    /// Taken, and not sent.
    staged: Vec<u8>,
    /// Bytes that were written or read.
    moved: usize,
    has_ended: bool,
}

#[derive(Clone)]
struct End {
    from: Rc<RefCell<Way>>,
    to: Rc<RefCell<Way>>,
    peer: Option<PublicKey>,
    /// The most bytes that are read at once.
    cut: usize,
    is_broken: Rc<RefCell<bool>>,
}

impl Pipe for End {
    type Error = &'static str;

    fn peer(&self) -> Result<Option<PublicKey>, Self::Error> {
        Ok(self.peer)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Self::Error> {
        let mut from = self.from.borrow_mut();
        let count = from.bytes.len().min(buffer.len()).min(self.cut);
        for (to, byte) in buffer.iter_mut().zip(from.bytes.drain(..count)) {
            *to = byte;
        }
        from.moved += count;
        Ok((count > 0 || from.has_ended).then_some(count))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        let mut to = self.to.borrow_mut();
        let count = bytes.len().min(to.room - to.staged.len());
        to.staged.extend(&bytes[..count]);
        to.moved += count;
        Ok(count)
    }

    fn flush(&mut self) -> Result<bool, Self::Error> {
        if *self.is_broken.borrow() {
            return Err("the pipe is\nbroken");
        }
        let to = &mut *self.to.borrow_mut();
        let count = to.staged.len().min(to.room - to.bytes.len());
        to.bytes.extend(to.staged.drain(..count));
        Ok(to.staged.is_empty())
    }
}

struct World {
    now: Instant,
    drivers: [Driver<End>; 2],
    /// The ends of the latest connection.
    ends: Option<[End; 2]>,
    log: [Vec<Output<Infallible>>; 2],
    room: usize,
    cut: usize,
}

impl World {
    fn new(room: usize, cut: usize) -> Self {
        let drivers = [A, B].map(|side| {
            let seed = Seed::from_bytes([u8::try_from(side + 1).unwrap(); 32]);
            let endpoint = Endpoint::new(Instant::ZERO, identity(side), config(), seed).unwrap();
            Driver::new(endpoint.greeting(GreetingConfig::default()).unwrap())
        });
        let log = [Vec::new(), Vec::new()];
        let mut world = Self { now: Instant::ZERO, drivers, ends: None, log, room, cut };
        let a = world.drivers[A].endpoint_mut();
        a.add_peer(Instant::ZERO, key(B), &[Address::new("pipe")]).unwrap();
        a.connect(Instant::ZERO, key(B)).unwrap();
        world
    }

    fn established() -> Self {
        let mut world = Self::new(100_000, usize::MAX);
        world.run();
        for side in [A, B] {
            let state = world.drivers[side].endpoint().node().state(key(1 - side));
            assert_eq!(state, ConnectionState::Established);
            world.log[side].clear();
        }
        world
    }

    fn connect(&self) -> [End; 2] {
        let way = || Rc::new(RefCell::new(Way { room: self.room, ..Way::default() }));
        let (a, b, cut) = (way(), way(), self.cut);
        let end = |from: &Rc<RefCell<Way>>, to: &Rc<RefCell<Way>>, peer| {
            let (from, to) = (Rc::clone(from), Rc::clone(to));
            End { from, to, peer: Some(key(peer)), cut, is_broken: Rc::default() }
        };
        [end(&a, &b, B), end(&b, &a, A)]
    }

    /// Takes outputs until the timeout comes, and returns it.
    fn turn(&mut self, side: usize) -> Option<Instant> {
        self.drivers[side].handle_all_ready();
        loop {
            match self.drivers[side].poll_output(self.now) {
                Output::Dial { connection, .. } => {
                    let [a, b] = self.connect();
                    self.drivers[side].handle_dialled(
                        self.now,
                        connection,
                        Ok::<_, String>(a.clone()),
                    );
                    _ = self.drivers[1 - side].handle_incoming(self.now, b.clone());
                    self.ends = Some([a, b]);
                }
                Output::Timeout(at) => {
                    assert!(at.is_none_or(|at| at > self.now), "{at:?} is not ahead");
                    return at;
                }
                output => self.log[side].push(output),
            }
        }
    }

    /// Goes on until nothing moves.
    fn run(&mut self) {
        let seen = |world: &Self| {
            let moved =
                world.ends.as_ref().map(|ends| ends.each_ref().map(|end| end.to.borrow().moved));
            (moved, world.log.each_ref().map(Vec::len))
        };
        let mut still = 0;
        while still < 3 {
            let before = seen(self);
            self.turn(A);
            self.turn(B);
            still = if seen(self) == before { still + 1 } else { 0 };
        }
    }

    fn send(&mut self, side: usize, message: Vec<u8>) {
        let endpoint = self.drivers[side].endpoint_mut();
        endpoint.send(self.now, key(1 - side), &name("chat"), message.into()).unwrap();
    }

    fn messages(&self, side: usize) -> Vec<Vec<u8>> {
        let messages = self.log[side].iter().filter_map(|output| match output {
            Output::Message { message, .. } => Some(message.to_vec()),
            _ => None,
        });
        messages.collect()
    }

    /// Returns why the sessions of a side have ended.
    fn ended(&self, side: usize) -> Vec<CloseReason> {
        let ended = self.log[side].iter().filter_map(|output| match output {
            Output::Event { event: Event::Closed(closed), .. } => Some(closed.reason.clone()),
            _ => None,
        });
        ended.collect()
    }

    /// Returns the name of A's dial.
    fn dial(&mut self) -> ConnectionId {
        match self.drivers[A].poll_output(self.now) {
            Output::Dial { connection, .. } => connection,
            Output::State(_) | Output::SaveBook => self.dial(),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn messages_arrive_over_pipes_of_any_size(
        lens in prop::collection::vec((0..2_usize, 0..5_000_usize), 0..30),
        room in 1_usize..3_000,
        cut in 1_usize..3_000,
    ) {
        let mut world = World::new(room, cut);
        world.run();
        for (at, (side, len)) in lens.iter().enumerate() {
            world.send(*side, vec![u8::try_from(at).unwrap(); *len]);
        }
        world.run();
        for side in [A, B] {
            world.drivers[side].endpoint_mut().shutdown(world.now);
        }
        world.run();
        for side in [A, B] {
            let expected: Vec<_> = lens.iter().enumerate().filter(|(_, (from, _))| *from != side)
                .map(|(at, (_, len))| vec![u8::try_from(at).unwrap(); *len]).collect();
            prop_assert_eq!(world.messages(side), expected);
            prop_assert_eq!(world.drivers[side].endpoint().owed(), vec![]);
            prop_assert!(world.drivers[side].endpoint().is_idle());
            prop_assert_eq!(world.drivers[side].pipes_mut().count(), 0);
        }
    }
}

#[test]
fn what_came_before_a_pipe_broke_is_delivered() {
    let mut world = World::established();
    world.send(B, b"first".to_vec());
    world.run();
    world.send(B, b"last".to_vec());
    world.turn(B);
    let [a, b] = world.ends.clone().unwrap();
    b.to.borrow_mut().has_ended = true;
    *a.is_broken.borrow_mut() = true;
    world.send(A, b"lost".to_vec());
    world.turn(A);
    assert_eq!(world.messages(A), [b"first".to_vec(), b"last".to_vec()]);
    // The text of the error may quote the peer.
    let broken = ConnectionLost::Transport("the pipe is broken".into());
    assert_eq!(world.ended(A), [CloseReason::ConnectionLost(broken)]);
    assert_eq!(world.drivers[A].pipes_mut().count(), 0);
}

#[test]
fn the_end_of_a_pipe_is_the_end_of_its_session() {
    let mut world = World::established();
    world.ends.as_ref().unwrap()[A].from.borrow_mut().has_ended = true;
    world.turn(A);
    assert_eq!(world.ended(A), [CloseReason::ConnectionLost(ConnectionLost::Reset)]);
}

#[test]
fn bytes_of_a_peer_that_is_not_known_are_not_taken() {
    let mut world = World::new(100_000, usize::MAX);
    let connection = world.dial();
    let [mut a, b] = world.connect();
    a.peer = None;
    b.to.borrow_mut().bytes.extend(b"bytes");
    world.drivers[A].handle_dialled(world.now, connection, Ok::<_, String>(a));
    world.turn(A);
    let failed = DialError::Transport("transport failed: bytes of a peer that is not known".into());
    let is_it = |output: &Output<_>| matches!(output, Output::State(event) if event.reason == Some(StateReason::DialFailed(failed.clone())));
    assert!(world.log[A].iter().any(is_it), "{:?}", world.log[A]);
}

#[test]
fn a_pipe_whose_peer_stays_unknown_is_dropped() {
    let mut world = World::established();
    let [mut a, _] = world.connect();
    a.peer = None;
    let connection = world.drivers[A].handle_incoming(world.now, a);
    world.turn(A);
    assert!(world.drivers[A].endpoint().owed().iter().any(|owed| owed.waiting == Waiting::Peer));
    assert!(world.drivers[A].pipe_mut(connection).is_some());
    world.now = world.now + config().negotiation_timeout;
    world.turn(A);
    assert!(world.log[A].contains(&Output::Close { connection, code: 2 }));
    assert!(world.drivers[A].pipe_mut(connection).is_none());
}

#[test]
fn a_dial_that_fails_or_comes_too_late_leaves_nothing() {
    let mut world = World::new(100_000, usize::MAX);
    let connection = world.dial();
    world.drivers[A].handle_dialled(world.now, connection, Err("refused"));
    world.turn(A);
    let refused = StateReason::DialFailed(DialError::Transport("refused".into()));
    let is_it = |output: &Output<_>| matches!(output, Output::State(event) if event.reason.as_ref() == Some(&refused));
    assert!(world.log[A].iter().any(is_it), "{:?}", world.log[A]);
    let [late, _] = world.connect();
    world.drivers[A].handle_dialled(world.now, connection, Ok::<_, String>(late));
    assert_eq!(world.drivers[A].pipes_mut().count(), 0);
}

#[test]
fn a_second_pipe_takes_the_place_of_none() {
    let mut world = World::established();
    for side in [A, B] {
        let (connection, _) = world.drivers[side].pipes_mut().next().unwrap();
        let [mut second, _] = world.connect();
        second.peer = Some(Identity::from_seed(&[9; 32]).public_key());
        world.drivers[side].handle_dialled(world.now, connection, Ok::<_, String>(second));
        world.drivers[side].handle_dialled(world.now, connection, Err("late"));
    }
    world.run();
    for side in [A, B] {
        world.send(side, vec![7]);
    }
    world.run();
    assert_eq!([world.messages(A), world.messages(B)], [[[7]], [[7]]]);
    // Two of a dial, of which neither is connected yet.
    let mut world = World::new(100_000, usize::MAX);
    let connection = world.dial();
    let [mut first, there] = world.connect();
    world.drivers[A].handle_dialled(world.now, connection, Ok::<_, String>(first.clone()));
    world.drivers[A].handle_dialled(world.now, connection, Err("another address"));
    first.peer = None;
    world.drivers[A].handle_dialled(world.now, connection, Ok::<_, String>(first));
    _ = world.drivers[B].handle_incoming(world.now, there);
    world.run();
    assert_eq!(world.drivers[A].endpoint().node().state(key(B)), ConnectionState::Established);
}

#[test]
fn a_pipe_that_floods_lets_the_application_do_other_things() {
    let mut world = World::established();
    let [mut a, b] = world.connect();
    (a.cut, a.peer) = (1, Some(Identity::from_seed(&[9; 32]).public_key()));
    // No HELLO of the mux: it is read on until the peer confirms the end. More reads than in a turn.
    b.to.borrow_mut().bytes.extend([0; 1000]);
    _ = world.drivers[A].handle_incoming(world.now, a);
    let at = world.turn(A);
    let soon = world.now + Duration::from_millis(1);
    assert!(at.is_some_and(|at| at < soon), "{at:?} is not at once");
    assert!(!b.to.borrow().bytes.is_empty(), "it has read all in one turn");
    for _ in 0..1000 {
        world.turn(A);
    }
    assert!(b.to.borrow().bytes.is_empty(), "what is left is read later");
}

#[test]
fn a_pipe_that_floods_leaves_the_others_their_turns() {
    let mut world = World::established();
    let flood = |world: &mut World| {
        let [mut a, b] = world.connect();
        (a.cut, a.peer) = (1, Some(Identity::from_seed(&[9; 32]).public_key()));
        b.to.borrow_mut().bytes.extend([0; 1000]);
        _ = world.drivers[A].handle_incoming(world.now, a);
        b
    };
    let floods = [flood(&mut world), flood(&mut world)];
    for text in [b"one", b"two"] {
        world.send(B, text.to_vec());
        // The first one's substream is agreed on before.
        for _ in 0..4 {
            world.turn(B);
            world.turn(A);
        }
        assert_eq!(world.messages(A).last().unwrap(), text);
    }
    assert!(floods.iter().all(|end| !end.to.borrow().bytes.is_empty()), "they flood no more");
}
