//! What else a transport or a swarm offers.

use std::time::Duration;

use futures_util::future::join_all;

use super::NOTHING;
use crate::hostile::attacker::Attacker;
use crate::hostile::stage::Stage;
use crate::hostile::wire::Wire;
use crate::hostile::within;

/// Says to libp2p's own protocols what none of them expects.
pub(in crate::hostile) async fn garbage_to_libp2p(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let _handshake = attacker.established().await;
    let garbage: [&[u8]; 4] = [
        &[0xff; 4096],
        // A message of the greatest length, and one that is cut off.
        &[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3],
        &[0x80, 0x20, 0x0a, 0x7f],
        b"",
    ];
    for protocol in ["/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"] {
        for garbage in garbage {
            let mut sub = attacker.open(protocol).await;
            // It may be broken off before all is said.
            drop(sub.write(garbage).await);
            sub.finish().await;
        }
    }
    attacker.is_contained().await;
    NOTHING.to_owned()
}

/// Pings as fast as it can, on many substreams, and reads no answer.
pub(in crate::hostile) async fn pings_unread(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let _handshake = attacker.established().await;
    let mut subs = Vec::new();
    for _ in 0..10 {
        subs.push(attacker.open("/ipfs/ping/1.0.0").await);
    }
    let pinging = subs.iter_mut().map(|sub| async {
        // All but the latest are given up.
        while sub.write(&[7; 32 * 64]).await.is_ok() {}
    });
    drop(tokio::time::timeout(Duration::from_secs(1), join_all(pinging)).await);
    drop(subs);
    attacker.is_contained().await;
    NOTHING.to_owned()
}

fn quic<'a>(attacker: &'a Attacker<'_>) -> &'a quinn::Connection {
    match &attacker.wire {
        Wire::Quic(connection) => connection,
        Wire::Muxed(_) => panic!("it is played over QUIC"),
    }
}

/// Has the keys of the connection updated all the time.
pub(in crate::hostile) async fn keys_updated(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let _handshake = attacker.established().await;
    for _ in 0..100 {
        quic(&attacker).force_key_update();
        let name = within("it is answered", attacker.propose("/unknown")).await;
        assert_eq!(name.expect("an answer").1, "na");
    }
    attacker.is_contained().await;
    NOTHING.to_owned()
}

/// Wants what the victim has no use for: substreams in one direction, datagrams.
pub(in crate::hostile) async fn other_parts_of_quic(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let _handshake = attacker.established().await;
    let opened = tokio::time::timeout(Duration::from_millis(300), quic(&attacker).open_uni()).await;
    assert!(opened.is_err(), "none may be opened: {opened:?}");
    quic(&attacker).send_datagram(vec![7; 100].into()).expect_err("none is taken");
    attacker.is_contained().await;
    NOTHING.to_owned()
}
