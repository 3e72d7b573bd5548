//! Endpoints over a transport with substreams of its own, and with a handshake of the application.

use std::collections::BTreeMap;

use glueberry_proto::endpoint::{Endpoint, Output, SubstreamOutput, Substreams};
use glueberry_proto::greeting::GreetingConfig;
use glueberry_proto::{
    Address, ConnectionId, ConnectionLost, ConnectionState, Event, Instant, Naming, Profile, Seed,
    SubstreamEnd, SubstreamId, Waiting,
};

use super::net::{A, B, config, identity, key, name};

/// What the transport must still report.
#[derive(Debug)]
enum Step {
    Opened(SubstreamId),
    Data(SubstreamId, Vec<u8>),
    Written(SubstreamId),
    End(SubstreamId, SubstreamEnd),
    Acknowledged(SubstreamId),
}

struct Quic {
    ends: [Endpoint<Substreams>; 2],
    connections: [Option<ConnectionId>; 2],
    /// Each side's name of a substream to the other's.
    others: [BTreeMap<SubstreamId, SubstreamId>; 2],
    steps: Vec<(usize, Step)>,
    /// Bytes that a side does not read now.
    unread: Vec<(usize, Step)>,
    log: [Vec<Output<SubstreamOutput>>; 2],
    is_closed: bool,
}

const NOW: Instant = Instant::ZERO;

impl Quic {
    fn new() -> Self {
        let ends = [A, B].map(|side| {
            let seed = Seed::from_bytes([u8::try_from(side + 1).unwrap(); 32]);
            let naming = Naming::Preamble;
            Endpoint::over_substreams(NOW, identity(side), config(), seed, naming).unwrap()
        });
        let mut quic = Self {
            ends,
            connections: [None, None],
            others: [BTreeMap::new(), BTreeMap::new()],
            steps: Vec::new(),
            unread: Vec::new(),
            log: [Vec::new(), Vec::new()],
            is_closed: false,
        };
        quic.ends[A].add_peer(NOW, key(B), &[Address::new("quic")]).unwrap();
        quic.ends[A].connect(NOW, key(B)).unwrap();
        quic
    }

    fn run(&mut self) {
        for _ in 0..100_000 {
            self.take(A);
            self.take(B);
            if self.steps.is_empty() {
                return;
            }
            let (side, step) = self.steps.remove(0);
            self.step(side, step);
        }
        panic!("it does not come to rest");
    }

    fn take(&mut self, side: usize) {
        loop {
            match self.ends[side].poll_output(NOW) {
                Output::Dial { connection, .. } => {
                    self.ends[side].handle_connected(NOW, connection, key(1 - side));
                    let other = self.ends[1 - side].handle_accepted(NOW, key(side));
                    self.connections[side] = Some(connection);
                    self.connections[1 - side] = Some(other);
                }
                Output::Transport(output) => self.carry_out(side, output),
                Output::Close { .. } => {
                    let other = self.connections[1 - side].unwrap();
                    if !std::mem::replace(&mut self.is_closed, true) {
                        let lost = ConnectionLost::ClosedByPeer { code: 0 };
                        self.ends[1 - side].handle_lost(NOW, other, lost);
                    }
                }
                Output::Timeout(_) => return,
                output => self.log[side].push(output),
            }
        }
    }

    fn carry_out(&mut self, side: usize, output: SubstreamOutput) {
        match output {
            SubstreamOutput::Open { substream, .. } => {
                let connection = self.connections[1 - side].unwrap();
                let other = self.ends[1 - side].handle_substream_accepted(NOW, connection, None);
                self.others[side].insert(substream, other.unwrap());
                self.others[1 - side].insert(other.unwrap(), substream);
                self.steps.push((side, Step::Opened(substream)));
            }
            SubstreamOutput::Write { substream, bytes, .. } => {
                let other = self.others[side][&substream];
                for cut in bytes.chunks(700) {
                    self.steps.push((1 - side, Step::Data(other, cut.to_vec())));
                }
                self.steps.push((side, Step::Written(substream)));
            }
            SubstreamOutput::Finish { substream, .. } => {
                let other = self.others[side][&substream];
                self.steps.push((1 - side, Step::End(other, SubstreamEnd::Finished)));
                self.steps.push((side, Step::Acknowledged(substream)));
            }
            SubstreamOutput::Reset { substream, .. } => {
                let other = self.others[side][&substream];
                self.steps.push((1 - side, Step::End(other, SubstreamEnd::Aborted)));
            }
            SubstreamOutput::ResumeRead { .. } => {
                let mut again = std::mem::take(&mut self.unread);
                again.append(&mut self.steps);
                self.steps = again;
            }
        }
    }

    fn step(&mut self, side: usize, step: Step) {
        let (end, connection) = (&mut self.ends[side], self.connections[side].unwrap());
        match step {
            Step::Opened(id) => end.handle_opened(NOW, connection, id, None),
            Step::Data(id, bytes) => _ = end.handle_data(NOW, connection, id, &bytes),
            Step::Written(id) => end.handle_substream_written(NOW, connection, id),
            Step::End(id, how) => end.handle_substream_end(NOW, connection, id, how),
            Step::Acknowledged(id) => end.handle_acknowledged(NOW, connection, id),
        }
    }
}

#[test]
fn the_application_greets_and_messages_flow_both_ways() {
    let mut quic = Quic::new();
    quic.run();
    for side in [A, B] {
        assert_eq!(quic.ends[side].node().state(key(1 - side)), ConnectionState::Connected);
        quic.ends[side].send_handshake(NOW, key(1 - side), "hello".into()).unwrap();
    }
    quic.run();
    for side in [A, B] {
        let peer = key(1 - side);
        let hello = Output::Handshake { peer, message: "hello".into() };
        assert!(quic.log[side].contains(&hello));
        quic.ends[side].prepare_streams(NOW, peer, peer, &[name("chat")]).unwrap();
        quic.ends[side].finalize_handshake(NOW, peer).unwrap();
    }
    quic.run();
    for number in 0..50_u8 {
        for side in [A, B] {
            let message = vec![number; 100 * usize::from(number)];
            quic.ends[side].send(NOW, key(1 - side), &name("chat"), message.into()).unwrap();
        }
    }
    quic.run();
    for side in [A, B] {
        let is_message = |output: &&Output<_>| matches!(output, Output::Message { .. });
        assert_eq!(quic.log[side].iter().filter(is_message).count(), 50);
        assert_eq!(quic.ends[side].owed(), []);
    }
    quic.ends[A].shutdown(NOW);
    quic.run();
    let closed = quic.log[A].iter().find_map(|output| match output {
        Output::Event { event: Event::Closed(closed), .. } => Some(closed),
        _ => None,
    });
    let closed = closed.expect("the session has ended");
    assert_eq!((closed.unsent, closed.in_doubt), (0, 0));
    assert!(quic.ends[A].is_idle());
}

#[test]
fn what_is_not_answered_is_owed() {
    let mut quic = Quic::new();
    quic.take(A);
    let owed = quic.ends[A].owed();
    assert!(matches!(owed[..], [ref it] if matches!(it.waiting, Waiting::Opened(_))), "{owed:?}");
}

/// What a peer has said in a handshake that is void is no part of the next one, whoever holds that.
#[test]
fn what_was_said_in_a_session_that_is_over_is_not_heard_in_the_next() {
    for greets in [false, true] {
        let mut end = Endpoint::over_substreams(
            NOW,
            identity(B),
            config(),
            Seed::from_bytes([1; 32]),
            Naming::Negotiated,
        )
        .unwrap();
        if greets {
            end = end.greeting(GreetingConfig::default()).unwrap();
        }
        let handshake = Some(Profile::V1.handshake_id());
        let open = |end: &mut Endpoint<Substreams>| {
            let connection = end.handle_accepted(NOW, key(A));
            let id = end.handle_substream_accepted(NOW, connection, handshake.clone());
            (connection, id.unwrap())
        };
        let (first, said) = open(&mut end);
        // A Hello of the document's handshake.
        assert!(end.handle_data(NOW, first, said, b"\0\0\0\x01\x01"));
        let (second, _) = open(&mut end);
        end.handle_lost(NOW, first, ConnectionLost::TimedOut);
        let (mut states, mut sent) = (Vec::new(), 0);
        loop {
            match end.poll_output(NOW) {
                Output::State(event) => states.push(event.state),
                Output::Handshake { .. } => panic!("it is not of this session: {states:?}"),
                Output::Transport(SubstreamOutput::Write { connection, bytes, .. }) => {
                    assert_eq!(connection, second);
                    sent += bytes.len();
                }
                Output::Timeout(_) => break,
                _ => {}
            }
        }
        use ConnectionState::{Connected, Disconnected};
        assert_eq!(states, [Connected, Disconnected, Connected]);
        // A Hello of its own, and no answer to one that was not said.
        assert_eq!(sent, if greets { 5 } else { 0 });
    }
}
