//! The program: it knows neither that it is simulated nor over what its messages go.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::handler::{Context, Handler, Notice};
use glueberry_proto::{Address, ConnectionState, PublicKey, StreamName};

/// One replica. What it has counted is lost when it is killed, unless another has heard of it; so
/// each life counts under a name of its own.
pub(crate) struct Counter {
    /// All nodes.
    pub(crate) peers: Vec<(PublicKey, Address)>,
    /// The one that this node dials.
    pub(crate) next: usize,
    pub(crate) stream: StreamName,
    /// How often it raises the counter, and how long it waits in between.
    pub(crate) raises: u64,
    pub(crate) pace: Duration,
    /// What each life of each node has counted.
    pub(crate) counts: BTreeMap<u64, u64>,
    pub(crate) own: u64,
}

impl Counter {
    pub(crate) const fn new(
        peers: Vec<(PublicKey, Address)>,
        next: usize,
        stream: StreamName,
        (raises, pace): (u64, Duration),
    ) -> Self {
        Self { peers, next, stream, raises, pace, counts: BTreeMap::new(), own: 0 }
    }

    pub(crate) fn value(&self) -> u64 {
        self.counts.values().sum()
    }

    fn gossip(&self, context: &mut dyn Context) {
        let numbers = self.counts.iter().flat_map(|(life, count)| [*life, *count]);
        let state: Bytes = numbers.flat_map(u64::to_le_bytes).collect();
        for (peer, _) in &self.peers {
            if context.state(*peer) == ConnectionState::Established {
                // What is not sent now is part of what is sent later.
                context.send(*peer, &self.stream, state.clone()).ok();
            }
        }
    }

    fn connect(&self, context: &mut dyn Context) {
        let (peer, address) = &self.peers[self.next];
        context.add_peer(*peer, std::slice::from_ref(address));
        context.connect(*peer);
    }
}

impl Handler for Counter {
    fn on_start(&mut self, context: &mut dyn Context) {
        self.own = context.random();
        self.connect(context);
        context.set_timer(RAISE, self.pace);
        context.set_timer(GOSSIP, 2 * self.pace);
    }

    fn on_event(&mut self, context: &mut dyn Context, notice: Notice) {
        if let Notice::State { state: ConnectionState::Disconnected, .. } = notice {
            context.set_timer(CONNECT, 2 * self.pace);
        }
    }

    fn on_message(&mut self, _: &mut dyn Context, _: PublicKey, _: &StreamName, message: Bytes) {
        let words = message.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let numbers: Vec<u64> = words.collect();
        for [life, count] in numbers.as_chunks::<2>().0 {
            let known = self.counts.entry(*life).or_default();
            *known = (*known).max(*count);
        }
    }

    fn on_timer(&mut self, context: &mut dyn Context, timer: u64) {
        match timer {
            RAISE if self.raises > 0 => {
                self.raises -= 1;
                *self.counts.entry(self.own).or_default() += 1;
                context.set_timer(RAISE, self.pace);
            }
            GOSSIP => {
                self.gossip(context);
                context.set_timer(GOSSIP, 2 * self.pace);
            }
            // If it is connected or being connected already, that is as well.
            CONNECT => self.connect(context),
            _ => {}
        }
    }
}

const RAISE: u64 = 1;
const GOSSIP: u64 = 2;
const CONNECT: u64 = 3;
