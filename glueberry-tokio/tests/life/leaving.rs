//! Going: how long it takes, and what the side that stays knows then.

use std::time::{Duration, Instant};

use glueberry_tokio::{Config, Event, Node};

use crate::support::{Party, STREAM, keypair, pair, quick, run};

/// Both send without a pause when one of them goes.
#[test]
fn a_goodbye_leaves_the_side_that_stays_in_no_doubt() {
    run(async {
        for round in 0..6 {
            let (a, mut b) = pair(Config::default()).await;
            let (a_id, node) = (a.id(), b.node.clone());
            let sending = tokio::spawn(async move {
                let mut sent = 0_usize;
                while node.send(a_id, STREAM, vec![7; 100]).await.is_ok() {
                    sent += 1;
                }
                sent
            });
            let (b_id, node) = (b.id(), a.node.clone());
            let answering = tokio::spawn(async move {
                while node.send(b_id, STREAM, vec![8; 100]).await.is_ok() {}
            });
            let (mut from_b, mut from_a) = (a.messages, b.messages);
            let reading = tokio::spawn(async move {
                let mut read = 0_usize;
                while let Some(message) = from_b.recv().await {
                    read += usize::from(!message.is_handshake());
                }
                read
            });
            let draining = tokio::spawn(async move { while from_a.recv().await.is_some() {} });
            tokio::time::sleep(Duration::from_millis(300)).await;
            match round % 2 {
                0 => a.node.shutdown().await,
                _ => a.node.disconnect(b_id).await.unwrap(),
            }
            let closed = loop {
                if let Event::SessionClosed { closed, .. } = b.events.recv().await.unwrap() {
                    break closed;
                }
            };
            let sent = sending.await.unwrap();
            a.node.shutdown().await;
            let read = reading.await.unwrap();
            assert_eq!(closed.in_doubt, 0, "{closed:?} of {sent}");
            let not_received = usize::try_from(closed.not_received).unwrap();
            assert_eq!(read + closed.unsent + not_received, sent);
            answering.abort();
            draining.abort();
        }
    });
}

/// QUIC keeps a closed connection for three timeouts, 3 s where nobody has answered. Nothing is to be
/// gained by waiting for that; and the port is free for the next node.
#[test]
fn a_shutdown_waits_for_nobody_who_has_not_answered_and_frees_the_port() {
    run(async {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
        let (mut a, b) = pair(quick()).await;
        let stranger = keypair(9).public().to_peer_id();
        a.node.add_peer(stranger, [address.parse().unwrap()]).await.unwrap();
        let node = a.node.clone();
        let dialling = tokio::spawn(async move { node.connect(stranger).await });
        silent.recv(&mut [0; 2048]).await.unwrap();
        let at = a.node.addrs()[0].clone();
        let begun = Instant::now();
        a.node.shutdown().await;
        assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
        dialling.await.unwrap().unwrap_err();
        let next = Node::builder(keypair(8)).listen(at.clone()).build().await.unwrap();
        assert_eq!(next.addrs(), [at]);
        // The peer has heard of the end, and not by silence.
        let mut b = b;
        b.until(glueberry_tokio::ConnectionState::Disconnected).await;
        assert!(a.events.recv().await.is_some(), "its events end behind the last");
    });
}

#[test]
fn the_peer_hears_of_a_shutdown_before_the_runtime_is_gone() {
    for _ in 0..20 {
        let (told, is_told) = std::sync::mpsc::sync_channel(1);
        let other = std::thread::spawn(move || {
            run(async move {
                let mut b = Party::greeting(Config::default()).await;
                told.send((b.id(), b.node.addrs(), b.node.public_key())).unwrap();
                b.until(glueberry_tokio::ConnectionState::Connected).await;
                let begun = Instant::now();
                b.until(glueberry_tokio::ConnectionState::Disconnected).await;
                // By silence it would take 15 s.
                assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
            });
        });
        let (id, addrs, key) = is_told.recv().unwrap();
        run(async move {
            let a = Party::new(Config::default()).await;
            a.node.add_peer(id, addrs).await.unwrap();
            a.node.connect(id).await.unwrap();
            a.node.complete_handshake(id, key, &[STREAM]).await.unwrap();
            a.node.shutdown().await;
        });
        other.join().unwrap();
    }
}
