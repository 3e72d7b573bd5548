//! The faults of the Go original, each under its name: none of them is here.
//!
//! Others have their place beside their like: `no_panic_after_stop` in `errors.rs`,
//! `bans_hold_in_every_state_and_for_unknown_peers` in `bans.rs`, `a_slow_subscriber_freezes_nothing`
//! and `every_metric_and_statistic_is_really_fed` in `observe.rs`; and in the core's tests
//! `oversize_inbound_refused_before_allocation` and `a_framing_error_ends_with_a_reason`.

use std::time::{Duration, Instant};

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{ConnectionState, ErrorCode, Event, HANDSHAKE};

use crate::book::Folder;
use crate::support::{Party, Relay, STREAM, eventually, keypair, pair, quick, run};

/// Two parties, Established over a relay.
async fn relayed() -> (Party, Party, Relay) {
    let (mut a, mut b) = (Party::greeting(quick()).await, Party::greeting(quick()).await);
    let relay = Relay::to(&b.node).await;
    a.node.add_peer(b.id(), [relay.address()]).await.unwrap();
    a.node.connect(b.id()).await.unwrap();
    a.until(ConnectionState::Established).await;
    b.until(ConnectionState::Established).await;
    (a, b, relay)
}

#[test]
fn reconnect_really_re_establishes() {
    run(async {
        let (mut a, mut b, relay) = relayed().await;
        for round in 0..3 {
            relay.cut(true);
            a.until(ConnectionState::Reconnecting).await;
            relay.cut(false);
            a.until(ConnectionState::Established).await;
            eventually("established", || b.state(&a) == ConnectionState::Established).await;
            a.node.send(b.id(), STREAM, format!("round {round}")).await.unwrap();
            assert_eq!(b.message().await.data, format!("round {round}"));
        }
    });
}

#[test]
fn a_lost_connection_is_noticed() {
    run(async {
        let (mut a, mut b, relay) = relayed().await;
        relay.cut(true);
        let begun = Instant::now();
        a.until(ConnectionState::Disconnected).await;
        b.until(ConnectionState::Disconnected).await;
        let bound = quick().keep_alive * quick().lost_after + Duration::from_secs(2);
        assert!(begun.elapsed() < bound, "{:?}", begun.elapsed());
    });
}

#[test]
fn a_peer_that_was_killed_and_redials_is_established_again() {
    run(async {
        let mut b = Party::greeting(quick()).await;
        let mut dead = Vec::new();
        for round in 0..3 {
            let mut a = Party::of(keypair(9), quick(), |builder| builder).await;
            a.greet();
            let relay = Relay::to(&b.node).await;
            a.node.add_peer(b.id(), [relay.address()]).await.unwrap();
            a.node.connect(b.id()).await.unwrap();
            b.until(ConnectionState::Established).await;
            eventually("established", || a.state(&b) == ConnectionState::Established).await;
            a.node.send(b.id(), STREAM, format!("life {round}")).await.unwrap();
            assert_eq!(b.message().await.data, format!("life {round}"));
            // As good as killed: nothing of it is heard any more.
            relay.cut(true);
            a.node.set_reconnect_policy(b.id(), Some(never())).await.unwrap();
            a.until(ConnectionState::Established).await;
            dead.push((a, relay));
        }
    });
}

fn never() -> glueberry_tokio::ReconnectPolicy {
    glueberry_tokio::ReconnectPolicy::never()
}

#[test]
fn simultaneous_dial_and_simultaneous_first_send_lose_nothing_between_our_nodes() {
    run(async {
        for round in 0..20 {
            let (mut a, mut b) = (Party::new(quick()).await, Party::new(quick()).await);
            a.knows(&b).await;
            b.knows(&a).await;
            drop(tokio::join!(a.node.connect(b.id()), b.node.connect(a.id())));
            // What is said first is heard, over whichever connection.
            let (to_a, to_b) = (a.id(), b.id());
            tokio::join!(
                say(&a, to_b, format!("{round} from a")),
                say(&b, to_a, format!("{round} from b"))
            );
            assert_eq!(b.messages.recv().await.unwrap().data, format!("{round} from a"));
            assert_eq!(a.messages.recv().await.unwrap().data, format!("{round} from b"));
            let (a_key, b_key) = (a.node.public_key(), b.node.public_key());
            let (first, second) = tokio::join!(
                a.node.complete_handshake(to_b, b_key, &[STREAM]),
                b.node.complete_handshake(to_a, a_key, &[STREAM])
            );
            first.unwrap();
            second.unwrap();
            let (first, second) = tokio::join!(
                a.node.send(to_b, STREAM, "first of a"),
                b.node.send(to_a, STREAM, "first of b")
            );
            first.unwrap();
            second.unwrap();
            assert_eq!(b.message().await.data, "first of a");
            assert_eq!(a.message().await.data, "first of b");
        }
    });
}

async fn say(party: &Party, to: glueberry_tokio::identity::PeerId, what: String) {
    while party.node.send(to, HANDSHAKE, what.clone()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn wrong_public_key_refused() {
    run(async {
        let (a, b) = (Party::new(quick()).await, Party::new(quick()).await);
        a.dial(&b).await;
        let other = keypair(7);
        let key = crate::support::key(other.public().to_peer_id());
        let error = a.node.prepare_streams(b.id(), key, &[STREAM]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidPublicKey);
        // The session is as it was.
        a.node.complete_handshake(b.id(), b.node.public_key(), &[STREAM]).await.unwrap();
    });
}

#[test]
fn nothing_encrypted_under_a_zero_or_wiped_key() {
    run(async {
        let mut config = quick();
        config.core.refuse_after_disconnect = Duration::from_millis(1);
        let (a, b) = pair(config).await;
        let mut events = b.node.events();
        for _ in 0..50 {
            // Sending races with the end of the session and of its keys.
            let (node, to) = (a.node.clone(), b.id());
            let sending = tokio::spawn(async move {
                for _ in 0..20 {
                    drop(node.try_send(to, STREAM, "secret"));
                    tokio::task::yield_now().await;
                }
            });
            drop(a.node.disconnect(b.id()).await);
            sending.await.unwrap();
            drop(a.node.connect(b.id()).await);
            eventually("established again", || {
                a.state(&b) == ConnectionState::Established
                    || a.state(&b) == ConnectionState::Disconnected
            })
            .await;
        }
        a.node.shutdown().await;
        b.node.shutdown().await;
        while let Some(event) = events.recv().await {
            assert!(!matches!(event, Event::RecordRejected { .. }), "{event:?}");
        }
    });
}

#[test]
fn the_callers_key_is_never_altered() {
    run(async {
        let identity = Keypair::generate_ed25519();
        let before = identity.to_protobuf_encoding().unwrap();
        let a = Party::of(identity.clone(), quick(), |builder| builder).await;
        let b = Party::new(quick()).await;
        a.dial(&b).await;
        a.node.complete_handshake(b.id(), b.node.public_key(), &[STREAM]).await.unwrap();
        a.node.shutdown().await;
        assert_eq!(identity.to_protobuf_encoding().unwrap(), before);
        let again = Party::of(identity, quick(), |builder| builder).await;
        assert_eq!(again.id(), a.id());
    });
}

#[test]
fn a_failed_send_doesnt_poison_a_stream() {
    run(async {
        let mut config = quick();
        config.core.max_message_size = 10_000;
        let (a, mut b) = pair(config).await;
        a.node.send(b.id(), STREAM, "before").await.unwrap();
        let error = a.node.send(b.id(), STREAM, vec![0; 10_001]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::MessageTooLarge);
        a.node.send(b.id(), STREAM, "after").await.unwrap();
        assert_eq!(b.message().await.data, "before");
        assert_eq!(b.message().await.data, "after");
    });
}

#[test]
fn stop_flushes_and_waits() {
    run(async {
        let folder = Folder::new("stop");
        let with_book = |builder: glueberry_tokio::Builder| builder.address_book(folder.book());
        let mut a = Party::of(keypair(3), quick(), with_book).await;
        a.greet();
        let mut b = Party::greeting(quick()).await;
        a.dial(&b).await;
        a.until(ConnectionState::Established).await;
        b.until(ConnectionState::Established).await;
        for number in 0..100 {
            a.node.send(b.id(), STREAM, format!("{number}")).await.unwrap();
        }
        a.node.shutdown().await;
        // What was queued has arrived, and what was learnt is stored, though it could have waited.
        for number in 0..100 {
            assert_eq!(b.message().await.data, format!("{number}"));
        }
        let again = Party::of(keypair(3), quick(), with_book).await;
        assert!(again.node.peer(b.id()).await.unwrap().last_seen.is_some());
    });
}

#[test]
fn one_stuck_peer_blocks_nobody_else() {
    run(async {
        let mut config = quick();
        (config.core.high_watermark, config.core.low_watermark) = (8, 4);
        config.keep_alive = Duration::from_secs(5);
        let sender = Party::greeting(config.clone()).await;
        let (stuck, mut other) =
            (Party::greeting(config.clone()).await, Party::greeting(config).await);
        sender.dial(&stuck).await;
        sender.dial(&other).await;
        let established = ConnectionState::Established;
        eventually("established", || {
            sender.state(&stuck) == established && sender.state(&other) == established
        })
        .await;
        // It takes nothing, and a sender waits for it for ever on the same stream's name.
        let (node, to) = (sender.node.clone(), stuck.id());
        let waiting = tokio::spawn(async move {
            while node.send(to, STREAM, vec![0; 1024 * 1024]).await.is_ok() {}
        });
        eventually("the queue is full", || {
            sender
                .node
                .try_send(stuck.id(), STREAM, "x")
                .is_err_and(|error| error.code() == ErrorCode::Backpressure)
        })
        .await;
        for number in 0..1_000 {
            sender.node.send(other.id(), STREAM, format!("{number}")).await.unwrap();
            assert_eq!(other.message().await.data, format!("{number}"));
        }
        assert!(!waiting.is_finished());
        waiting.abort();
    });
}

#[test]
fn no_handshake_messages_after_established() {
    run(async {
        let (a, b) = pair(quick()).await;
        let error = a.node.send(b.id(), HANDSHAKE, "late").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StreamClosed);
        let (mut a, mut b) = (a, b);
        a.node.send(b.id(), STREAM, "not in the handshake").await.unwrap();
        let heard = b.messages.recv().await.unwrap();
        assert_eq!((heard.is_handshake(), &heard.data[..]), (false, &b"not in the handshake"[..]));
        a.node.shutdown().await;
        assert!(a.messages.recv().await.is_none());
    });
}
