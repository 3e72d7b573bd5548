//! Two nodes with an Established session and one stream.

use glueberry_proto::testing::pair::{A, B, Pair};
use glueberry_proto::{Config, Identity, Instant, Naming, Node, Profile, Seed, StreamName};

pub(crate) const STREAM: &str = "bench";

pub(crate) fn stream() -> StreamName {
    StreamName::new(STREAM).expect("it is a good name")
}

/// Makes a node that speaks one profile.
pub(crate) fn node(profile: Profile, number: u8, side: u8) -> Node {
    let mut config = Config::default();
    config.profiles = vec![profile];
    config.streams = vec![stream()];
    let mut secret = [number; 32];
    secret[0] = side;
    let (identity, seed) = (Identity::from_seed(&secret), Seed::from_bytes(secret));
    Node::new(Instant::ZERO, identity, config, seed).expect("the configuration is good")
}

/// Connects two nodes, which may have other peers.
pub(crate) fn established(nodes: [Node; 2]) -> Pair<()> {
    let mut pair = Pair::new(Naming::Preamble, nodes, ());
    pair.connect(A);
    pair.run();
    for side in [A, B] {
        pair.send_handshake(side, b"hello");
    }
    pair.run();
    for side in [A, B] {
        while pair.session(side).poll_handshake_message().is_some() {}
    }
    pair.complete_handshake(&[STREAM]);
    pair
}
