//! A counter that every node may raise, and of which all nodes learn the same value: a state-based
//! G-counter, gossiped. Written once against the handler trait and run here in the simulator.
//!
//! `cargo run --release -p glueberry-sim --example counter -- [SEEDS]`

#![expect(clippy::print_stdout, reason = "the result is for who has run it")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::handler::{Context, Handler, Notice};
use glueberry_proto::{ConnectionState, PublicKey, StreamName};
use glueberry_sim::{Mix, Peer, Simulation};

/// One replica. What it has counted is lost when it is killed, unless another has heard of it; so
/// a life has a name of its own.
struct Counter {
    peers: Vec<Peer>,
    place: usize,
    stream: StreamName,
    /// What each life of each node has counted.
    counts: BTreeMap<u64, u64>,
    own: u64,
    raised: u64,
}

impl Counter {
    fn value(&self) -> u64 {
        self.counts.values().sum()
    }

    fn gossip(&self, context: &mut dyn Context) {
        for peer in &self.peers {
            if context.state(peer.key) == ConnectionState::Established {
                // What is not sent now is part of what is sent later.
                context.send(peer.key, &self.stream, self.state()).ok();
            }
        }
    }

    fn state(&self) -> Bytes {
        let numbers = self.counts.iter().flat_map(|(life, count)| [*life, *count]);
        numbers.flat_map(u64::to_le_bytes).collect()
    }
}

impl Handler for Counter {
    fn on_start(&mut self, context: &mut dyn Context) {
        self.own = context.random();
        // A ring, and each node dials one neighbour.
        let next = &self.peers[(self.place + 1) % self.peers.len()];
        context.add_peer(next.key, std::slice::from_ref(&next.address));
        context.connect(next.key);
        context.set_timer(RAISE, Duration::from_secs(2));
        context.set_timer(GOSSIP, Duration::from_secs(5));
    }

    fn on_event(&mut self, context: &mut dyn Context, notice: Notice) {
        if let Notice::State { state: ConnectionState::Disconnected, .. } = notice {
            context.set_timer(CONNECT, Duration::from_secs(3));
        }
    }

    fn on_message(&mut self, _: &mut dyn Context, _: PublicKey, _: &StreamName, message: Bytes) {
        let numbers: Vec<u64> =
            message.as_chunks::<8>().0.iter().map(|it| u64::from_le_bytes(*it)).collect();
        for [life, count] in numbers.as_chunks::<2>().0 {
            let known = self.counts.entry(*life).or_default();
            *known = (*known).max(*count);
        }
    }

    fn on_timer(&mut self, context: &mut dyn Context, timer: u64) {
        match timer {
            RAISE if self.raised < 50 => {
                self.raised += 1;
                *self.counts.entry(self.own).or_default() += 1;
                context.set_timer(RAISE, Duration::from_secs(2));
            }
            GOSSIP => {
                self.gossip(context);
                context.set_timer(GOSSIP, Duration::from_secs(5));
            }
            CONNECT => {
                let next = &self.peers[(self.place + 1) % self.peers.len()];
                // If it is connected or being connected already, that is as well.
                context.connect(next.key);
            }
            _ => {}
        }
    }
}

fn main() -> ExitCode {
    let seeds = std::env::args().nth(1).and_then(|seeds| seeds.parse().ok()).unwrap_or(50);
    let Ok(stream) = StreamName::new("counter") else {
        return ExitCode::FAILURE;
    };
    let simulation = Simulation::new(5, &["counter"], move |peers, place| Counter {
        peers: peers.to_vec(),
        place,
        stream: stream.clone(),
        counts: BTreeMap::new(),
        own: 0,
        raised: 0,
    })
    .always(|counters| {
        // Nobody counts more than has been counted: each life at most 50.
        let too_high = counters.iter().flatten().find_map(|counter| {
            counter.counts.iter().find(|(_, count)| **count > 50).map(|(life, _)| *life)
        });
        too_high.map_or(Ok(()), |life| Err(format!("{life} has counted more than it did")))
    })
    .finally(|counters| {
        let values: Vec<u64> = counters.iter().flatten().map(|counter| counter.value()).collect();
        match values.iter().all(|value| *value == values[0]) {
            true => Ok(()),
            false => Err(format!("the nodes have counted differently: {values:?}")),
        }
    });
    match simulation.run(Mix::Default, 0..seeds) {
        Ok(report) => {
            println!("{report:?}");
            ExitCode::SUCCESS
        }
        Err(failed) => {
            println!("{failed}");
            ExitCode::FAILURE
        }
    }
}

const RAISE: u64 = 1;
const GOSSIP: u64 = 2;
const CONNECT: u64 = 3;
