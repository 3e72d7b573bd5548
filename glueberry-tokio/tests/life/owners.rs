//! Nothing outlives its owner: not a node its handles, nor what a caller or a peer has left.

use std::sync::Arc;
use std::task::{Context, Wake};
use std::time::Duration;
use std::{future::Future, pin::pin};

use glueberry_tokio::{Config, ConnectionState, ErrorCode, Node};

use crate::support::{Party, STREAM, any_port, eventually, keypair, quick, run};

#[test]
fn a_node_ends_with_its_last_handle_whatever_of_it_is_still_held() {
    run(async {
        let node = Node::builder(keypair(7)).listen(any_port()).build().await.unwrap();
        let peer = keypair(8).public().to_peer_id();
        let mut stream = node.stream(peer, STREAM).unwrap();
        let (mut messages, mut events) = (node.messages().unwrap(), node.events());
        drop(node);
        assert!(stream.recv().await.is_none());
        assert!(messages.recv().await.is_none());
        assert!(events.recv().await.is_none());
        assert_eq!(stream.send("x").await.unwrap_err().code(), ErrorCode::NodeStopped);
    });
}

#[test]
fn a_peer_that_was_disconnected_is_forgotten_with_its_refusal() {
    run(async {
        let a = Party::greeting(quick()).await;
        for _ in 0..5 {
            let b = Party::greeting(quick()).await;
            b.dial(&a).await;
            eventually("established", || a.state(&b) == ConnectionState::Established).await;
            a.node.disconnect(b.id()).await.unwrap();
            // It would come again.
            b.node.shutdown().await;
            eventually("a has forgotten b", || a.node.is_outbound(b.id()).is_none()).await;
        }
        assert!(a.node.debug_state().await.unwrap().peers.is_empty());
    });
}

/// A task that is never run, only referred to.
struct Idle;

impl Wake for Idle {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn connects_that_were_given_up_leave_nothing() {
    run(async {
        let a = Party::new(Config::default()).await;
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let peer = keypair(9).public().to_peer_id();
        let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap();
        a.node.add_peer(peer, [address]).await.unwrap();
        let task = Arc::new(Idle);
        let waker = task.clone().into();
        for _ in 0..5_000 {
            let connect = pin!(a.node.connect(peer));
            assert!(connect.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(waker);
        a.node.health().await;
        assert_eq!(Arc::strong_count(&task), 1);
        tokio::time::timeout(Duration::from_secs(20), a.node.shutdown()).await.unwrap();
    });
}
