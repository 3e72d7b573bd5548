//! A node and its sessions, driven by a script of everything that a transport, a peer and an
//! application can do.
//!
//! It is not built on [`pair`](super::pair). There the peer is a session, which keeps to the
//! protocol, and every action is executed at once. Here the script is the peer and writes any
//! bytes, several connections compete for one node, and actions are executed when the script says
//! so.

mod connection;
mod peer;

use std::collections::VecDeque;
use std::time::Duration;

use self::connection::{Connection, Setup};
use super::script::Script;
use crate::address::Address;
use crate::config::Config;
use crate::crypto::{Identity, PublicKey};
use crate::id::DialId;
use crate::node::{Admission, NewConnection, Node, NodeAction, Origin};
use crate::seed::Seed;
use crate::session::Naming;
use crate::time::Instant;
use crate::wire::{Profile, StreamName};
use crate::{ConnectionLost, DialError};

/// Runs a script against a node and its sessions: substreams of any protocol, bytes cut anywhere,
/// ends, lost connections, time, and arbitrary commands of an application.
///
/// Nothing may panic. Each session must emit [`Closed`](crate::Event::Closed) once and nothing after
/// it. Timers must lie ahead, and ids must be new. Delivered messages must have been sent, and written
/// bytes must be readable.
pub fn fuzz_handshake_input(data: &[u8]) {
    World::new(data).play();
}

struct World<'a> {
    script: Script<'a>,
    node: Node,
    peer: PublicKey,
    setup: Setup,
    now: Instant,
    /// Actions are carried out only at the script's request, and not after each step.
    is_lazy: bool,
    connections: Vec<Connection>,
    /// The connection that the script's steps use.
    current: usize,
    dials: VecDeque<DialId>,
}

impl<'a> World<'a> {
    fn new(data: &'a [u8]) -> Self {
        let mut script = Script::new(data);
        let flags = script.byte();
        let is_set = |bit: u8| flags & (1 << bit) != 0;
        let config = config(flags >> 4);
        let secret = if is_set(0) { SMALLER } else { GREATER };
        let (identity, peer) = (Identity::from_seed(&secret), peer::public_key(is_set(0)));
        let seed = Seed::from_bytes([7; 32]);
        let setup = Setup {
            node: identity.public_key(),
            naming: if is_set(1) { Naming::Preamble } else { Naming::Negotiated },
            is_exact: is_set(6),
        };
        let node = Node::new(Instant::ZERO, identity, config, seed).expect("a valid configuration");
        let mut world = Self {
            script,
            node,
            peer,
            setup,
            now: Instant::ZERO,
            is_lazy: is_set(2),
            connections: Vec::new(),
            current: 0,
            dials: VecDeque::new(),
        };
        if is_set(3) {
            world.connect();
            world.settle();
            world.dialled(0);
        } else {
            world.admit(Origin::Accepted);
        }
        world
    }

    fn play(mut self) {
        while let Some(step) = self.script.next() {
            self.step(step & 0x0f, step >> 4);
            if !self.is_lazy {
                self.settle();
            }
            self.check();
        }
        self.end();
    }

    /// Takes one step; `choice` has four bits.
    fn step(&mut self, what: u8, choice: u8) {
        match what {
            0..=11 => self.step_of_connection(what, choice),
            12 => self.time_passes(choice),
            13 => self.step_of_node(choice),
            14 => self.current = usize::from(choice),
            _ => self.settle(),
        }
    }

    fn step_of_connection(&mut self, what: u8, choice: u8) {
        let (now, index) = (self.now, usize::from(choice));
        let count = self.connections.len().max(1);
        let Some(connection) = self.connections.get_mut(self.current % count) else {
            return;
        };
        let script = &mut self.script;
        match what {
            0 => connection.accept(now, choice),
            1 => connection.feed_raw(now, index, script),
            2 => connection.feed_frame(now, index, script),
            3 => connection.feed_message(now, index, script),
            4 => connection.feed_preamble(now, index, script.byte()),
            5 => connection.end_half(now, index, script.byte()),
            6 => connection.open(now, choice),
            7 => connection.write(index, script.byte()),
            8 => connection.acknowledge(now, index),
            9 => connection.command(now, choice, script),
            10 => connection.poll_application(choice),
            _ => connection.misuse(now, index, script),
        }
    }

    fn step_of_node(&mut self, choice: u8) {
        let (now, peer) = (self.now, self.peer);
        match choice {
            0..=3 => self.admit(Origin::Accepted),
            4 => self.connect(),
            5 | 6 => self.dialled(choice),
            7 => {
                if let Some(dial) = self.dials.pop_front() {
                    let error = DialError::Transport("refused".to_owned());
                    self.node.handle_dial_failed(now, dial, error);
                }
            }
            8 => {
                self.node.disconnect(now, peer);
            }
            9 | 10 => while self.node.poll_event().is_some() {},
            11 | 12 => self.lose_connection(choice),
            13 => self.node.shutdown(now),
            _ => self.drop_session(),
        }
    }

    fn connect(&mut self) {
        // Refused by limits, by a cooldown, or because it is connected already.
        let _ = self.node.add_peer(self.now, self.peer, &[Address::new("memory")]);
        let _ = self.node.connect(self.now, self.peer);
    }

    /// A dial succeeds, perhaps after it was cancelled, perhaps with another peer.
    fn dialled(&mut self, choice: u8) {
        if let Some(dial) = self.dials.pop_front() {
            let peer = if choice == 6 { self.node.public_key() } else { self.peer };
            self.admit_peer(peer, Origin::Dialled(dial));
        }
    }

    fn admit(&mut self, origin: Origin) {
        self.admit_peer(self.peer, origin);
    }

    fn admit_peer(&mut self, peer: PublicKey, origin: Origin) {
        let connection = NewConnection { peer, origin, naming: self.setup.naming };
        if let Admission::Accept(session) = self.node.handle_connection(self.now, connection) {
            self.connections.push(Connection::new(*session, self.setup));
        }
    }

    fn lose_connection(&mut self, choice: u8) {
        let why = if choice == 11 {
            ConnectionLost::TimedOut
        } else {
            ConnectionLost::ClosedByPeer { code: 7 }
        };
        let count = self.connections.len().max(1);
        if let Some(connection) = self.connections.get_mut(self.current % count) {
            connection.session.handle_connection_lost(self.now, why);
        }
    }

    /// The task that owned a session died.
    fn drop_session(&mut self) {
        if !self.connections.is_empty() {
            let connection = self.connections.remove(self.current % self.connections.len());
            self.node.handle_session_gone(self.now, connection.session.id());
        }
    }

    fn time_passes(&mut self, choice: u8) {
        let step = match choice {
            0 => Duration::ZERO,
            1 => Duration::from_micros(1),
            15 => Duration::from_secs(1 << 20),
            exponent => Duration::from_millis(10 << exponent),
        };
        self.now = self.now + step;
        self.node.handle_timeout(self.now);
        for connection in &mut self.connections {
            connection.session.handle_timeout(self.now);
        }
    }

    /// Carries out the actions of the node and its sessions.
    fn settle(&mut self) {
        for _ in 0..MOST_ROUNDS {
            if !(self.settle_node() | self.settle_connections()) {
                return;
            }
        }
        panic!("node and sessions don't come to rest");
    }

    fn settle_node(&mut self) -> bool {
        let mut moved = false;
        while let Some(action) = self.node.poll_action() {
            moved = true;
            match action {
                NodeAction::Dial { dial, .. } => self.dials.push_back(dial),
                NodeAction::CancelDial(dial) => self.dials.retain(|waiting| *waiting != dial),
                NodeAction::Forward { session: id, message } => {
                    let mut all = self.connections.iter_mut();
                    if let Some(of) = all.find(|of| of.session.id() == id) {
                        of.session.handle_node_message(self.now, message);
                    }
                }
                NodeAction::SaveBook => {
                    let revision = self.node.book().revision();
                    self.node.handle_book_saved(self.now, revision);
                }
            }
        }
        moved
    }

    fn settle_connections(&mut self) -> bool {
        let mut moved = false;
        for connection in &mut self.connections {
            while let Some(action) = connection.session.poll_action() {
                moved = true;
                if let Some(message) = connection.act(self.now, action) {
                    let id = connection.session.id();
                    self.node.handle_session_message(self.now, id, message);
                }
            }
        }
        moved
    }

    fn check(&self) {
        let timeout = self.node.poll_timeout();
        assert!(timeout.is_none_or(|at| at > self.now), "C8: {timeout:?} at {}", self.now);
        for connection in &self.connections {
            let timeout = connection.session.poll_timeout();
            assert!(timeout.is_none_or(|at| at > self.now), "C8: {timeout:?} at {}", self.now);
        }
    }

    /// Ends everything, and checks that nothing is left.
    fn end(mut self) {
        self.settle();
        self.node.shutdown(self.now);
        for connection in &mut self.connections {
            let why = ConnectionLost::ClosedLocally;
            connection.session.handle_connection_lost(self.now, why);
        }
        self.settle();
        assert!(self.connections.iter().all(|connection| connection.session.is_closed()));
        assert!(self.node.is_idle(), "sessions or dials are left");
        for connection in &mut self.connections {
            connection.check_closed(self.now);
        }
    }
}

/// Small limits, so that a script reaches them.
fn config(choice: u8) -> Config {
    let profiles = match choice & 3 {
        0 => vec![Profile::V1, Profile::V1Go],
        1 => vec![Profile::V1Go, Profile::V1],
        2 => vec![Profile::V1],
        _ => vec![Profile::V1Go],
    };
    Config {
        profiles,
        streams: vec![StreamName::new(STREAMS[0]).expect("a name")],
        max_message_size: MAX_MESSAGE,
        max_handshake_size: MAX_HANDSHAKE,
        high_watermark: 4,
        low_watermark: 1,
        high_watermark_bytes: 3 * MAX_MESSAGE,
        low_watermark_bytes: MAX_MESSAGE,
        receive_queue: 3,
        receive_queue_bytes: 2 * MAX_MESSAGE,
        max_streams: 2,
        max_substreams: 6,
        max_stream_attempts: 2,
        max_rejected_records: 3,
        max_dials: 1,
        max_sessions: 4,
        max_sessions_per_peer: 3,
        max_peers: 2,
        event_queue: 8,
        ..Config::default()
    }
}

/// The first is configured, the second may be prepared, the third may too but is one too many.
const STREAMS: [&str; 3] = ["chat", "more", "much"];

const MAX_MESSAGE: usize = 200;
const MAX_HANDSHAKE: usize = 150;
const MOST_ROUNDS: usize = 1_000;

/// The secrets of the two identities; the first has the smaller public key.
const SMALLER: [u8; 32] = [2; 32];
const GREATER: [u8; 32] = [1; 32];
