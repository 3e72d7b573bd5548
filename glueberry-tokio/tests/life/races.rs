//! Both sides do the same thing at once.

use std::time::Duration;

use glueberry_tokio::identity::PeerId;
use glueberry_tokio::{Config, ConnectionState, Error, ErrorCode, HANDSHAKE, Node};

use crate::support::{Party, STREAM, STREAMS, key, pair, quick, run};

#[test]
fn both_dial_at_once_200_times_and_there_is_one_session() {
    run(async {
        for round in 0..200 {
            // A busy machine may be silent for longer than the quick configuration waits.
            let mut config = quick();
            config.keep_alive = Config::default().keep_alive;
            let (a, b) = (Party::greeting(config.clone()).await, Party::greeting(config).await);
            a.knows(&b).await;
            b.knows(&a).await;
            let (first, second) = tokio::join!(a.node.connect(b.id()), b.node.connect(a.id()));
            for result in [first, second] {
                let is_fine = match &result {
                    Ok(()) => true,
                    // The peer's dial came in before one's own was begun.
                    Err(error) => error.code() == ErrorCode::AlreadyConnected,
                };
                assert!(is_fine, "round {round}: {result:?}");
            }
            // Each session that is lost on the way is told; in the end there is one.
            let (mut a, mut b) = (a, b);
            one_session(&a, &b).await;
            a.node.send(b.id(), STREAM, "ping").await.unwrap();
            b.node.send(a.id(), STREAM, "pong").await.unwrap();
            assert_eq!(b.message().await.data, "ping", "round {round}");
            assert_eq!(a.message().await.data, "pong", "round {round}");
            one_session(&a, &b).await;
        }
    });
}

/// Waits until both are Established and have no other session.
async fn one_session(a: &Party, b: &Party) {
    let established = ConnectionState::Established;
    for _ in 0..2_000 {
        let mut sessions = Vec::new();
        for party in [a, b] {
            sessions.push(party.node.debug_state().await.unwrap().sessions);
        }
        if sessions == [1, 1] && a.state(b) == established && b.state(a) == established {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let states = [a.node.debug_state().await.unwrap(), b.node.debug_state().await.unwrap()];
    panic!("{}\n{}", states[0], states[1]);
}

#[test]
fn both_send_first_at_once_200_times_and_nothing_is_lost() {
    run(async {
        for round in 0..200 {
            let (mut a, mut b) = pair(quick()).await;
            let (to_a, to_b) = (a.id(), b.id());
            for part in 0..3 {
                let text = format!("{round}.{part}");
                let (first, second) = tokio::join!(
                    a.node.send(to_b, STREAM, text.clone()),
                    b.node.send(to_a, STREAM, text.clone())
                );
                first.unwrap();
                second.unwrap();
            }
            for part in 0..3 {
                let text = format!("{round}.{part}");
                assert_eq!(a.message().await.data, text);
                assert_eq!(b.message().await.data, text);
            }
        }
    });
}

#[test]
fn whoever_sees_that_a_peer_is_connected_can_speak_to_it_at_once() {
    run(async {
        for _ in 0..150 {
            let (a, b) = (Party::new(quick()).await, Party::new(quick()).await);
            let (node, peer) = (b.node.clone(), a.id());
            let speaks = tokio::spawn(async move {
                while node.connection_state(peer) != ConnectionState::Connected {
                    tokio::task::yield_now().await;
                }
                node.send(peer, HANDSHAKE, "at once").await
            });
            a.dial(&b).await;
            speaks.await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_handshake_that_is_complete_is_seen_to_be_50_times() {
    async fn complete(party: &mut Party, peer: PeerId) -> ConnectionState {
        party.until(ConnectionState::Connected).await;
        party.node.complete_handshake(peer, key(peer), &STREAMS).await.unwrap();
        party.node.connection_state(peer)
    }
    run(async {
        for round in 0..50 {
            let (mut a, mut b) = (Party::new(quick()).await, Party::new(quick()).await);
            a.dial(&b).await;
            let (to_a, to_b) = (a.id(), b.id());
            let states = tokio::join!(complete(&mut a, to_b), complete(&mut b, to_a));
            let established = ConnectionState::Established;
            assert_eq!(states, (established, established), "round {round}");
        }
    });
}

/// Uses a node in every way that waits for its tasks, until it says that it has stopped.
async fn use_until_stopped(node: Node, peer: PeerId) {
    let is_over = |result: Result<(), Error>| match result {
        Ok(()) => false,
        Err(error) => {
            let code = error.code();
            // Which step the runtime dropped decides what the error says: the dial, the handshake,
            // the session or the node. None of it is the fault of what was passed in.
            let blames_the_caller = matches!(
                code,
                ErrorCode::Unknown
                    | ErrorCode::StreamNotFound
                    | ErrorCode::StreamTaken
                    | ErrorCode::InvalidStreamName
                    | ErrorCode::NoStreamsRequested
                    | ErrorCode::InvalidPublicKey
                    | ErrorCode::EncryptionFailed
                    | ErrorCode::DecryptionFailed
                    | ErrorCode::InvalidMessage
                    | ErrorCode::VersionMismatch
                    | ErrorCode::PeerBlacklisted
                    | ErrorCode::InvalidConfig
                    | ErrorCode::InvalidAddress
                    | ErrorCode::NodeNotStarted
                    | ErrorCode::MessageTooLarge
            );
            assert!(!blames_the_caller, "{error}");
            code == ErrorCode::NodeStopped
        }
    };
    loop {
        node.health().await;
        let results = [
            node.send(peer, HANDSHAKE, "hello").await,
            node.complete_handshake(peer, key(peer), &STREAMS).await,
            node.send(peer, STREAM, vec![0; 8 * 1024]).await,
            node.connect(peer).await,
        ];
        if results.into_iter().any(is_over) {
            return;
        }
    }
}

#[test]
fn a_runtime_that_goes_down_under_its_users_gives_them_errors_and_no_panic() {
    let mine = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for round in 0..40 {
        let theirs = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (a, b) = theirs.block_on(async {
            let (a, b) = (Party::new(quick()).await, Party::new(quick()).await);
            a.dial(&b).await;
            (a, b)
        });
        let users: Vec<_> = [(&a, b.id()), (&a, b.id()), (&b, a.id()), (&b, a.id())]
            .into_iter()
            .map(|(party, peer)| mine.spawn(use_until_stopped(party.node.clone(), peer)))
            .collect();
        std::thread::sleep(Duration::from_micros(500 * round));
        theirs.shutdown_background();
        mine.block_on(async {
            for user in users {
                let ended = tokio::time::timeout(Duration::from_secs(20), user).await;
                ended.expect("a call waits for a node that is gone").expect("a call panicked");
            }
        });
    }
}
