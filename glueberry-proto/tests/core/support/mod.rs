//! Two nodes and an application that takes what comes, or one session against bytes.

mod app;
mod check;
mod log;
mod node;
mod raw;

use glueberry_proto::testing::pair::Pair;
use glueberry_proto::{
    Config, Identity, Instant, Naming, Node, PublicKey, ReconnectPolicy, Seed, StreamName,
};

pub(crate) use self::app::App;
pub(crate) use self::check::{Checked, Outcome, check, holds};
pub(crate) use self::log::{Log, hash};
pub(crate) use self::node::{accept, accepted, arrive, dial, exchange, node, stranger};
pub(crate) use self::raw::{Raw, bodies, frame};
pub(crate) use glueberry_proto::testing::pair::{A, B, Clock, Move, Pipe, Side};

pub(crate) const BOTH: [Naming; 2] = [Naming::Negotiated, Naming::Preamble];

/// Two nodes with the application of the tests.
pub(crate) type World = Pair<App>;

/// Makes two nodes that are not connected.
pub(crate) fn new_world(naming: Naming, configs: [Config; 2]) -> World {
    seeded_world(naming, configs, [[10; 32], [20; 32]])
}

pub(crate) fn seeded_world(naming: Naming, configs: [Config; 2], seeds: [[u8; 32]; 2]) -> World {
    let [a, b] = configs;
    let nodes = [(A, a), (B, b)].map(|(side, config)| {
        let seed = Seed::from_bytes(seeds[side]);
        Node::new(Instant::ZERO, identity(side), config, seed).unwrap()
    });
    Pair::new(naming, nodes, App::default())
}

/// Makes two nodes with an Established session and the given streams.
pub(crate) fn established_world(naming: Naming, configs: [Config; 2], streams: &[&str]) -> World {
    let mut world = new_world(naming, configs);
    world.establish(streams);
    world
}

pub(crate) fn name(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

pub(crate) fn names(streams: &[&str]) -> Vec<StreamName> {
    streams.iter().map(|stream| name(stream)).collect()
}

pub(crate) fn key(side: Side) -> PublicKey {
    identity(side).public_key()
}

pub(crate) fn identity(side: Side) -> Identity {
    // The smaller key is A's.
    Identity::from_seed(&[[2; 32], [1; 32]][side])
}

pub(crate) fn config(streams: &[&str]) -> Config {
    let mut config = Config::default();
    config.streams = names(streams);
    // Tests of reconnection ask for it.
    config.reconnect = ReconnectPolicy::never();
    config
}
