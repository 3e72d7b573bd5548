//! What peers may send over TCP ahead of the reader.

use std::future::poll_fn;
use std::time::Duration;

use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{Config, Node};
use libp2p::core::muxing::SubstreamBox;
use libp2p::futures::AsyncWriteExt;

use crate::counted::Counted;
use crate::support::run_test;
use crate::windows::{TCP, node};

/// A substream on which a name is begun that is as long as any may be, and not ended.
async fn write_without_end(mut substream: SubstreamBox) {
    let words = [&b"\x13/multistream/1.0.0\n\xff\x7f/"[..], &[b'a'; 16_000]].concat();
    drop(substream.write_all(&words).await);
    drop(substream.flush().await);
    std::future::pending::<()>().await;
}

/// 64 KiB, and what is read of the few names that are listened to. Not what all its substreams hold, which
/// is 2.4 MiB, and could be 40 MiB by their windows in yamux.
#[test]
fn a_peer_that_has_proven_nothing_fills_one_small_window() {
    run_test(async {
        let node = node(TCP).await;
        let mut stranger = Counted::dial(&node.addrs()[0]).await;
        if stranger.taken().is_none() {
            return eprintln!("SKIPPED: this system does not say what its sockets hold");
        }
        stranger.turn_deaf();
        // As many as the node lets it have.
        for _ in 0..2 * (Config::default().core.max_substreams + 16) - 8 {
            tokio::spawn(write_without_end(stranger.open().await));
        }
        let (mut before, mut same) = (0, 0);
        while same < 3 {
            let driven = poll_fn(|cx| stranger.poll(cx));
            let driven = tokio::time::timeout(Duration::from_millis(500), driven).await;
            assert!(driven.is_err(), "the connection is over, with {before} bytes held");
            let now = stranger.taken().unwrap();
            same = if now > 16 * 1024 && now == before { same + 1 } else { 0 };
            before = now;
        }
        assert!(before <= 1024 * 1024, "{before} bytes are held of one that has proven nothing");
    });
}

/// yamux refuses to be configured for more than its windows have room for.
#[test]
fn any_number_of_substreams_can_be_configured() {
    run_test(async {
        for substreams in [1, 5_000, usize::MAX / 4] {
            let mut config = Config::default();
            config.core.max_substreams = substreams;
            let mut over = Libp2p::default();
            (over.quic, over.upnp) = (false, false);
            let node = Node::builder(Keypair::generate_ed25519())
                .config(config)
                .listen(TCP.parse().unwrap());
            // Too few or too many may be refused, but in words.
            drop(node.build_over(over).await);
        }
    });
}
