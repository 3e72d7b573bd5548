//! Before anything runs, and the clock.

use std::time::Duration;

use glueberry_proto::{
    Address, Config, ConnectionState, Identity, Instant, Node, PublicKey, Seed, StreamName,
};

use super::Row;

pub(crate) const NOW: Instant = Instant::ZERO;

pub(crate) fn after(seconds: u64) -> Instant {
    NOW + Duration::from_secs(seconds)
}

pub(crate) fn identity(number: u8) -> Identity {
    Identity::from_seed(&[number; 32])
}

pub(crate) fn key(number: u8) -> PublicKey {
    identity(number).public_key()
}

pub(crate) fn chat() -> StreamName {
    StreamName::new("chat").unwrap()
}

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.streams = vec![chat()];
    config
}

pub(crate) fn node(config: Config) -> Node {
    Node::new(NOW, identity(1), config, Seed::from_bytes([1; 32])).unwrap()
}

/// A node that was asked to connect to peer 2.
pub(crate) fn dialling() -> Node {
    let mut node = node(config());
    node.add_peer(NOW, key(2), &[Address::new("there")]).unwrap();
    node.connect(NOW, key(2)).unwrap();
    node
}

/// Returns what the node tells of a peer, the last of it.
pub(crate) fn last_reason(node: &mut Node) -> String {
    let reasons = std::iter::from_fn(|| node.poll_event()).filter_map(|event| event.reason);
    reasons.last().map_or_else(|| "nothing".into(), |reason| reason.to_string())
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        misuse: "the seed is a buffer that was never filled",
        happens: "no node is made",
        told: "configuration field `seed` must not be zero",
        run: || {
            let seed = Seed::from_bytes([0; 32]);
            Node::new(NOW, identity(1), config(), seed).unwrap_err().to_string()
        },
    },
    Row {
        misuse: "a seed is used twice with one identity",
        happens: "nonces repeat: nothing can notice it, see `Seed`",
        told: "nothing",
        run: || {
            for _ in 0..2 {
                node(config());
            }
            "nothing".into()
        },
    },
    Row {
        misuse: "the configuration cannot work",
        happens: "no node is made",
        told: "configuration field `sessions_low` must be below `sessions_high`",
        run: || {
            let mut config = config();
            config.sessions_low = config.sessions_high;
            let seed = Seed::from_bytes([1; 32]);
            Node::new(NOW, identity(1), config, seed).unwrap_err().to_string()
        },
    },
    Row {
        misuse: "the clock runs backwards",
        happens: "the latest time that was seen counts (C7)",
        told: "nothing",
        run: || {
            let mut node = dialling();
            node.handle_timeout(after(20));
            let before = node.poll_timeout();
            node.handle_timeout(NOW);
            node.set_reconnect_policy(NOW, key(3), None).unwrap();
            assert_eq!(node.poll_timeout(), before);
            "nothing".into()
        },
    },
    Row {
        misuse: "the clock stops",
        happens: "nothing times out: `poll_timeout` stays ahead, which is all there is to see",
        told: "30.000000s",
        run: || {
            let mut node = dialling();
            while node.poll_action().is_some() {}
            for _ in 0..1000 {
                node.handle_timeout(NOW);
            }
            assert_eq!(node.state(key(2)), ConnectionState::Connecting);
            node.poll_timeout().unwrap().to_string()
        },
    },
    Row {
        misuse: "`handle_timeout` is called early, and again",
        happens: "nothing",
        told: "nothing",
        run: || {
            let mut node = dialling();
            let before = node.poll_timeout();
            node.handle_timeout(after(1));
            node.handle_timeout(after(1));
            assert_eq!(node.poll_timeout(), before);
            "nothing".into()
        },
    },
    Row {
        misuse: "`handle_timeout` is never called",
        happens: "what is due happens with the next input or command (C7)",
        told: "dial failed: timed out",
        run: || {
            let mut node = dialling();
            node.flush_book(after(100));
            last_reason(&mut node)
        },
    },
];
