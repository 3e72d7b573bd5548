//! Both sides do the same thing at once.

use glueberry_tokio::{ConnectionState, ErrorCode};

use crate::support::{Party, STREAM, eventually, pair, quick, run};

#[test]
fn both_dial_at_once_200_times_and_there_is_one_session() {
    run(async {
        for round in 0..200 {
            let (a, b) = (Party::greeting(quick()).await, Party::greeting(quick()).await);
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
            let established = ConnectionState::Established;
            eventually("both are established", || {
                a.state(&b) == established && b.state(&a) == established
            })
            .await;
            a.node.send(b.id(), STREAM, "ping").await.unwrap();
            b.node.send(a.id(), STREAM, "pong").await.unwrap();
            let (mut a, mut b) = (a, b);
            assert_eq!(b.message().await.data, "ping");
            assert_eq!(a.message().await.data, "pong");
            for (party, other) in [(&a, &b), (&b, &a)] {
                assert_eq!(party.state(other), established, "round {round}");
                let state = party.node.debug_state().await.unwrap();
                let sessions: usize = state.peers.iter().map(|peer| peer.sessions).sum();
                assert!(sessions >= 1, "round {round}: {state}");
            }
            eventually("the other session is gone", || {
                a.state(&b) == established && b.state(&a) == established
            })
            .await;
            only_one_session(&a).await;
            only_one_session(&b).await;
        }
    });
}

async fn only_one_session(party: &Party) {
    for _ in 0..1_000 {
        if party.node.debug_state().await.unwrap().sessions == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{}", party.node.debug_state().await.unwrap());
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
