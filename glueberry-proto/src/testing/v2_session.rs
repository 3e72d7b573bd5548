//! Two nodes whose sessions speak v2, and an adversary that has the transport between them.

mod adversary;
mod check;
mod record;

use std::time::Duration;

use bytes::Bytes;

use self::record::{Recorder, STREAMS, Sent};
use super::pair::{A, B, Move, Pair, Side};
use super::script::Script;
use crate::crypto::Identity;
use crate::{
    Config, Instant, Naming, Node, Profile, ReconnectPolicy, Seed, SessionId, StreamName, Suite,
};

/// Plays the bytes as a script with two nodes: what their applications do, and an adversary that
/// alters, drops, repeats, reorders and splices frames and records of the handshake substream and of
/// streams, ends and resets substreams, opens others, and takes connections down.
///
/// What is delivered was sent by the peer, on that stream, in that order, once; what is missing in
/// between is reported. Sessions that are Established have agreed on the same, and have read what the
/// other application said before. At the end, each accepted message has one of the outcomes that the
/// sender reports, unless the adversary has forged an acknowledgement: the clean end of a half.
pub fn fuzz_v2_session(data: &[u8]) {
    let mut world = World::new(Script::new(data));
    while let Some(step) = world.script.next() {
        world.step(step & 0x0f, step >> 4);
        world.check();
    }
    world.end();
}

struct World<'a> {
    pair: Pair<Recorder>,
    script: Script<'a>,
    intrusions: usize,
    /// The adversary has ended a half as its writer would.
    has_forged_end: bool,
}

impl<'a> World<'a> {
    fn new(mut script: Script<'a>) -> Self {
        let setup = script.byte();
        let naming = if setup & 1 == 0 { Naming::Negotiated } else { Naming::Preamble };
        let nodes = [(A, SMALLER), (B, GREATER)].map(|(side, secret)| {
            let seed = Seed::from_bytes([if side == A { 10 } else { 20 }; 32]);
            let identity = Identity::from_seed(&secret);
            Node::new(Instant::ZERO, identity, config(), seed).expect("a configuration")
        });
        let mut pair = Pair::new(naming, nodes, Recorder::default());
        if setup & 2 != 0 {
            pair.cuts = vec![1, 7, 300];
        }
        let mut world = Self { pair, script, intrusions: 0, has_forged_end: false };
        if setup & 4 != 0 {
            world.pair.connect(A);
            world.pair.run();
        }
        if setup & 8 != 0 {
            for side in [A, B] {
                world.prepare(side);
                world.finalize(side);
            }
            world.pair.run();
        }
        world
    }

    /// Takes one step; `choice` has four bits, of which the lowest is often a side.
    fn step(&mut self, what: u8, choice: u8) {
        let side = Side::from(choice & 1);
        match what {
            0 => self.pair.run(),
            1 => {
                self.pair.step_one(self.script.number());
            }
            2 => self.send(side, usize::from(choice >> 1 & 1)),
            3 => self.say(side),
            4 => self.prepare(side),
            5 => self.finalize(side),
            6 => self.pair.advance(Duration::from_millis(20 << choice)),
            7 | 8 => adversary::alter(&mut self.pair, &mut self.script),
            9 => adversary::splice(&mut self.pair, &mut self.script),
            10 => self.intrude(choice),
            11 => {
                self.has_forged_end |= adversary::end(&mut self.pair, choice, &mut self.script);
            }
            12 => self.command(side, choice >> 1),
            13 => self.pair.app.sides[side].is_paused = choice & 2 != 0,
            _ => self.stall(side),
        }
    }

    // ---- applications -------------------------------------------------------------------------

    fn send(&mut self, side: Side, stream: usize) {
        let filling = self.script.number() * 2;
        let Some(id) = self.session_id(side) else {
            return;
        };
        let number = self.sent(side, id).accepted[stream];
        let message = record::message(side, stream, id, number, filling);
        let name = name(STREAMS[stream]);
        let copy = message.clone();
        let result = self.pair.command(side, |session, now| session.send(now, &name, copy));
        if let Some(Ok(_)) = result {
            let sent = self.sent(side, id);
            sent.messages[stream].push(message);
            sent.accepted[stream] += 1;
        }
    }

    fn say(&mut self, side: Side) {
        let message = Bytes::from(vec![self.script.byte(); 3]);
        let Some(id) = self.session_id(side) else {
            return;
        };
        let copy = message.clone();
        let result = self.pair.command(side, |session, now| session.send_handshake(now, copy));
        if let Some(Ok(())) = result {
            self.sent(side, id).handshake.push(message);
        }
    }

    /// Refused unless the session is Connected.
    fn prepare(&mut self, side: Side) {
        let (peer, names) = (self.pair.key(1 - side), STREAMS.map(name));
        self.pair.command(side, |session, now| {
            let _ = session.prepare_streams(now, peer, &names);
        });
    }

    /// Refused unless streams are prepared.
    fn finalize(&mut self, side: Side) {
        self.pair.command(side, |session, now| {
            let _ = session.finalize_handshake(now);
        });
    }

    fn command(&mut self, side: Side, choice: u8) {
        match choice {
            0 | 1 => {
                self.pair.command(side, |session, now| session.close(now));
            }
            2 => {
                self.pair.disconnect(side);
            }
            3 if !self.pair.links.is_empty() => {
                let link = self.script.number() % self.pair.links.len();
                self.pair.cut(link);
            }
            _ => self.connect(side),
        }
    }

    /// Refused while there is a session, and for a while after some.
    fn connect(&mut self, side: Side) {
        if self.pair.links.len() < MOST_LINKS {
            let (peer, now) = (self.pair.key(1 - side), self.pair.now);
            let node = &mut self.pair.hosts[side].node;
            let _ = node.add_peer(now, peer, &[crate::Address::new("memory")]);
            let _ = node.connect(now, peer);
            self.pair.drain_actions();
        }
    }

    fn intrude(&mut self, choice: u8) {
        if self.intrusions < MOST_INTRUSIONS {
            self.intrusions += 1;
            adversary::intrude(&mut self.pair, choice, &mut self.script);
        }
    }

    // ---- the world ----------------------------------------------------------------------------

    /// Makes all moves but those that bring bytes to a side: so there are some to be altered.
    fn stall(&mut self, side: Side) {
        let may = |it: &Move| !matches!(it, Move::Deliver(_, _, to) if *to == side);
        for _ in 0..MOST_ROUNDS {
            let mut moved = false;
            for it in self.pair.moves().into_iter().filter(may) {
                moved |= self.pair.perform(it);
            }
            if !moved {
                return;
            }
        }
        panic!("the pair does not come to rest");
    }

    fn session_id(&self, side: Side) -> Option<SessionId> {
        self.pair.hosts[side].node.session_of(self.pair.key(1 - side))
    }

    fn sent(&mut self, side: Side, session: SessionId) -> &mut Sent {
        self.pair.app.sides[side].sent.entry(session).or_default()
    }
}

/// Small limits, so that a script reaches them.
fn config() -> Config {
    Config {
        profiles: vec![Profile::V2],
        suites: vec![Suite::ChaCha20Poly1305],
        streams: STREAMS.map(name).to_vec(),
        reconnect: ReconnectPolicy::never(),
        high_watermark: 6,
        low_watermark: 2,
        receive_queue: 3,
        max_streams: 3,
        max_substreams: 8,
        refuse_after_disconnect: Duration::from_millis(100),
        cooldown: Duration::from_millis(100),
        ..Config::default()
    }
}

fn name(name: &str) -> StreamName {
    StreamName::new(name).expect("a name")
}

const MOST_LINKS: usize = 6;
const MOST_INTRUSIONS: usize = 12;
const MOST_ROUNDS: usize = 10_000;

/// The secrets of the two identities; the first has the smaller public key.
const SMALLER: [u8; 32] = [2; 32];
const GREATER: [u8; 32] = [1; 32];
