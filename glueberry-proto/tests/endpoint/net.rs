//! Two endpoints and the pipes between them.

use std::time::Duration;

use bytes::BytesMut;
use glueberry_proto::endpoint::{Endpoint, Output, Write};
use glueberry_proto::greeting::GreetingConfig;
use glueberry_proto::{
    Address, Closed, Config, ConnectionId, ConnectionLost, ConnectionState, Event, Identity,
    Instant, PublicKey, Seed, StreamName, mux,
};

pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;

pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) ends: [Endpoint; 2],
    pub(crate) pipes: Vec<Pipe>,
    /// What was reported to each side, without what its driver carries out.
    pub(crate) log: [Vec<Output<Write>>; 2],
    /// The most bytes that are handed in at once. Used in turn.
    pub(crate) cuts: Vec<usize>,
    /// Dials are not answered.
    pub(crate) is_unreachable: bool,
    /// Written bytes of this side are not reported as written.
    pub(crate) stuck: Option<usize>,
    turn: usize,
}

pub(crate) struct Pipe {
    pub(crate) ids: [Option<ConnectionId>; 2],
    /// On their way to each side.
    pub(crate) towards: [BytesMut; 2],
    /// Ends that their driver has closed.
    pub(crate) closed: [bool; 2],
}

pub(crate) fn key(side: usize) -> PublicKey {
    identity(side).public_key()
}

pub(crate) fn identity(side: usize) -> Identity {
    Identity::from_seed(&[[2; 32], [1; 32]][side])
}

pub(crate) fn name(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.streams = vec![name("chat"), name("bulk")];
    config
}

impl Net {
    pub(crate) fn new(mux: &mux::Config) -> Self {
        Self::with(mux, &config())
    }

    pub(crate) fn with(mux: &mux::Config, config: &Config) -> Self {
        let ends = [A, B].map(|side| {
            let seed = Seed::from_bytes([u8::try_from(side + 1).unwrap(); 32]);
            let endpoint =
                Endpoint::new(Instant::ZERO, identity(side), config.clone(), seed).unwrap();
            endpoint.mux(mux.clone()).unwrap().greeting(GreetingConfig::default()).unwrap()
        });
        Self {
            now: Instant::ZERO,
            ends,
            pipes: Vec::new(),
            log: [Vec::new(), Vec::new()],
            cuts: vec![usize::MAX],
            is_unreachable: false,
            stuck: None,
            turn: 0,
        }
    }

    /// Connects A to B, and lets them greet each other.
    pub(crate) fn established(mux: &mux::Config) -> Self {
        Self::new(mux).establish()
    }

    pub(crate) fn establish(mut self) -> Self {
        let net = &mut self;
        net.connect();
        net.run();
        for side in [A, B] {
            assert_eq!(net.state(side), ConnectionState::Established);
            net.log[side].clear();
        }
        self
    }

    pub(crate) fn connect(&mut self) {
        let a = &mut self.ends[A];
        a.add_peer(self.now, key(B), &[Address::new("pipe")]).unwrap();
        a.connect(self.now, key(B)).unwrap();
    }

    /// Returns the next connection that A dials.
    pub(crate) fn dial(&mut self) -> ConnectionId {
        loop {
            match self.ends[A].poll_output(self.now) {
                Output::Dial { connection, .. } => return connection,
                Output::Timeout(_) => panic!("nothing is dialled"),
                _ => {}
            }
        }
    }

    pub(crate) fn send(&mut self, side: usize, stream: &str, message: &[u8]) {
        let message = message.to_vec().into();
        self.ends[side].send(self.now, key(1 - side), &name(stream), message).unwrap();
    }

    pub(crate) fn state(&self, side: usize) -> ConnectionState {
        self.ends[side].node().state(key(1 - side))
    }

    /// Returns the messages that a side has got on a stream.
    pub(crate) fn messages(&self, side: usize, on: &str) -> Vec<Vec<u8>> {
        let messages = self.log[side].iter().filter_map(|output| match output {
            Output::Message { stream, message, .. } if *stream == name(on) => {
                Some(message.to_vec())
            }
            _ => None,
        });
        messages.collect()
    }

    /// Returns how the sessions of a side have ended.
    pub(crate) fn ended(&self, side: usize) -> Vec<Closed> {
        let ended = self.log[side].iter().filter_map(|output| match output {
            Output::Event { event: Event::Closed(closed), .. } => Some(closed.clone()),
            _ => None,
        });
        ended.collect()
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.run();
    }

    /// Takes outputs and moves bytes until nothing moves.
    pub(crate) fn run(&mut self) {
        for _ in 0..1_000_000 {
            self.take(A);
            self.take(B);
            if !self.deliver() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Takes outputs until the timeout comes.
    pub(crate) fn take(&mut self, side: usize) {
        loop {
            match self.ends[side].poll_output(self.now) {
                Output::Dial { connection, .. } => {
                    if !self.is_unreachable {
                        self.ends[side].handle_connected(self.now, connection, key(1 - side));
                        let other = self.ends[1 - side].handle_accepted(self.now, key(side));
                        let mut ids = [Some(connection), Some(other)];
                        ids.rotate_left(side);
                        let towards = [BytesMut::new(), BytesMut::new()];
                        self.pipes.push(Pipe { ids, towards, closed: [false; 2] });
                    }
                }
                Output::Transport(Write { connection, bytes }) => {
                    assert!(!bytes.is_empty());
                    let pipe =
                        self.pipe(side, connection).expect("only what is open is written on");
                    pipe.towards[1 - side].extend_from_slice(&bytes);
                    if self.stuck != Some(side) {
                        self.ends[side].handle_written(self.now, connection);
                    }
                }
                Output::Close { connection, .. } => {
                    if let Some(pipe) = self.pipe(side, connection) {
                        pipe.closed[side] = true;
                    }
                }
                Output::Timeout(at) => {
                    assert!(at.is_none_or(|at| at > self.now), "{at:?} is not ahead");
                    let owed = self.ends[side].owed();
                    assert!(
                        self.stuck.is_some() || self.is_unreachable || owed.is_empty(),
                        "{owed:?}"
                    );
                    return;
                }
                output => self.log[side].push(output),
            }
        }
    }

    fn pipe(&mut self, side: usize, connection: ConnectionId) -> Option<&mut Pipe> {
        self.pipes.iter_mut().find(|pipe| pipe.ids[side] == Some(connection))
    }

    /// Moves bytes, or the end behind them. Returns whether there were any.
    pub(crate) fn deliver(&mut self) -> bool {
        let mut moved = false;
        for pipe in &mut self.pipes {
            for side in [A, B] {
                let Some(id) = pipe.ids[side].filter(|_| !pipe.closed[side]) else {
                    continue;
                };
                self.turn += 1;
                let cut = self.cuts[self.turn % self.cuts.len()].max(1);
                let bytes = pipe.towards[side].split_to(cut.min(pipe.towards[side].len()));
                if !bytes.is_empty() {
                    self.ends[side].handle_bytes(self.now, id, &bytes);
                    moved = true;
                } else if pipe.closed[1 - side] {
                    pipe.closed[side] = true;
                    self.ends[side].handle_lost(self.now, id, ConnectionLost::Reset);
                    moved = true;
                }
            }
        }
        moved
    }
}
