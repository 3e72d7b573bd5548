//! What peers may send ahead of the reader.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use glueberry_libp2p::Libp2p;
use glueberry_tokio::adapter::QuicParts;
use glueberry_tokio::adapter::quinn::{Connection, TransportConfig, VarInt};
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::runtime::TokioRuntime;
use glueberry_tokio::{Config, ConnectionState, ErrorCode, HANDSHAKE, Node};
use libp2p::futures::future::join_all;

use crate::support::{STREAM, run_test};

pub(crate) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub(crate) const TCP: &str = "/ip4/127.0.0.1/tcp/0";

pub(crate) async fn node(listen: &str) -> Node {
    let mut over = Libp2p::default();
    over.upnp = false;
    Node::builder(Keypair::generate_ed25519())
        .listen(listen.parse().unwrap())
        .streams([STREAM, "other"])
        .build_over(over)
        .await
        .unwrap()
}

/// Connects a stranger that reads nothing of what the node answers on its substreams.
async fn stranger(to: SocketAddr) -> Connection {
    let runtime = TokioRuntime::current().unwrap();
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(0));
    let parts = QuicParts::new(&Keypair::generate_ed25519(), transport, &runtime).unwrap();
    let endpoint = parts.dialler(to.ip()).unwrap();
    parts.dial(&endpoint, to).unwrap().await.unwrap()
}

/// A substream on which nothing is read any more, since the answer to what it says can't be written.
async fn write_without_end(connection: &Connection, taken: &AtomicU64) {
    let Ok((mut send, _recv)) = connection.open_bi().await else {
        return;
    };
    let mut words = b"\x13/multistream/1.0.0\n".to_vec();
    while let Ok(count) = send.write(&words).await {
        taken.fetch_add(u64::try_from(count).unwrap(), Ordering::Relaxed);
        words = b"\x03/a\n".repeat(1024);
    }
}

/// A window of 64 KiB, and what is read of names: not the windows of all its substreams, 40 MiB.
#[test]
fn a_peer_that_has_proven_nothing_fills_one_small_window() {
    run_test(async {
        let node = node(QUIC).await;
        let (to, _) = QuicParts::parse(&node.addrs()[0]).unwrap();
        let stranger = stranger(to).await;
        let taken = AtomicU64::new(0);
        // As many as the node lets it have.
        let substreams = Config::default().core.max_substreams + 16;
        let writing = join_all((0..substreams).map(|_| write_without_end(&stranger, &taken)));
        let no_more_is_taken = async {
            let mut before = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let now = taken.load(Ordering::Relaxed);
                if now > 0 && now == before {
                    return now;
                }
                before = now;
            }
        };
        let taken = tokio::select! {
            _ = writing => panic!("the node has ended what it is to hold"),
            taken = no_more_is_taken => taken,
        };
        assert!(taken <= 128 * 1024, "{taken} bytes are held of one that has proven nothing");
    });
}

/// From Established on, there is room for all substreams: one that nobody reads holds up no other.
#[test]
fn once_established_a_stream_that_is_not_read_holds_up_no_other() {
    run_test(async {
        for listen in [QUIC, TCP] {
            one_stream_is_not_read(node(listen).await, node(listen).await).await;
        }
    });
}

async fn one_stream_is_not_read(a: Node, b: Node) {
    let mut messages = b.messages().unwrap();
    a.add_peer(b.peer_id(), b.addrs()).await.unwrap();
    a.connect(b.peer_id()).await.unwrap();
    a.send(b.peer_id(), HANDSHAKE, "hello").await.unwrap();
    messages.recv().await.unwrap();
    let streams = [STREAM, "other"];
    b.complete_handshake(a.peer_id(), a.public_key(), &streams).await.unwrap();
    a.complete_handshake(b.peer_id(), b.public_key(), &streams).await.unwrap();
    let _unread = b.stream(a.peer_id(), STREAM).unwrap();
    let mut refused = 0;
    while refused < 20 {
        match a.try_send(b.peer_id(), STREAM, vec![7; 4 * 1024]) {
            Ok(()) => refused = 0,
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::Backpressure, "{error}");
                refused += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    for number in 0..100_u8 {
        a.send(b.peer_id(), "other", vec![number; 1024]).await.unwrap();
        assert_eq!(messages.recv().await.unwrap().data, vec![number; 1024]);
    }
}

/// What the peer answers to probes is behind what is not read, and so are the peer's own probes.
#[test]
fn who_is_not_read_for_want_of_room_is_not_taken_for_silent() {
    run_test(async {
        let names = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
        let node = |config: Config| {
            let mut over = Libp2p::default();
            over.upnp = false;
            let builder = Node::builder(Keypair::generate_ed25519()).config(config);
            builder.listen(TCP.parse().unwrap()).streams(names).build_over(over)
        };
        let mut attentive = Config::default();
        (attentive.keep_alive, attentive.lost_after) = (Duration::from_millis(300), 3);
        let mut small = attentive.clone();
        small.core.max_message_size = 64 * 1024;
        (small.core.node_memory, small.core.peer_memory) = (1, 1);
        let (a, b) = (node(attentive).await.unwrap(), node(small).await.unwrap());
        let mut messages = b.messages().unwrap();
        a.add_peer(b.peer_id(), b.addrs()).await.unwrap();
        a.connect(b.peer_id()).await.unwrap();
        a.send(b.peer_id(), HANDSHAKE, "hello").await.unwrap();
        messages.recv().await.unwrap();
        b.complete_handshake(a.peer_id(), a.public_key(), &names).await.unwrap();
        a.complete_handshake(b.peer_id(), b.public_key(), &names).await.unwrap();
        let mut unread = names.map(|name| b.stream(a.peer_id(), name).unwrap());
        for _ in 0..64 {
            for name in names {
                a.send(b.peer_id(), name, vec![7; 16 * 1024]).await.unwrap();
            }
        }
        // Longer than it may be silent.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(a.connection_state(b.peer_id()), ConnectionState::Established);
        assert_eq!(b.connection_state(a.peer_id()), ConnectionState::Established);
        let reading = unread.iter_mut().map(|stream| async {
            for _ in 0..64 {
                assert_eq!(stream.recv().await.unwrap().len(), 16 * 1024);
            }
        });
        join_all(reading).await;
    });
}
