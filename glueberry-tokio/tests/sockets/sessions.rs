//! Sessions over sockets: who gets one, how they end, what survives.

use std::sync::Arc;

use glueberry_tokio::runtime::Runtime;
use glueberry_tokio::{CloseReason, ConnectionState, ErrorCode, StateReason};

use crate::support::{Party, STREAM, establish, on_every_runtime, pair};

#[test]
fn both_dial_at_once_and_one_session_is_kept() {
    on_every_runtime(|runtime| Box::pin(both_dial(runtime)));
}

async fn both_dial(runtime: Arc<dyn Runtime>) {
    for _ in 0..10 {
        let (mut a, mut b) = (Party::new(&runtime).await, Party::new(&runtime).await);
        a.node.add_peer(b.id(), b.node.addrs()).await.unwrap();
        b.node.add_peer(a.id(), a.node.addrs()).await.unwrap();
        let (first, second) =
            futures_util::future::join(a.node.connect(b.id()), b.node.connect(a.id())).await;
        for result in [first, second] {
            // The peer's dial may have come in before one's own was begun.
            assert!(
                result.as_ref().is_ok_and(|()| true)
                    || result.as_ref().is_err_and(|e| e.code() == ErrorCode::AlreadyConnected),
                "{result:?}"
            );
        }
        let ((), ()) =
            futures_util::future::join(a.complete(&b, &[STREAM]), b.complete(&a, &[STREAM])).await;
        a.until(ConnectionState::Established).await;
        b.until(ConnectionState::Established).await;
    }
}

#[test]
fn a_disconnect_is_told_on_both_sides_and_another_session_works() {
    on_every_runtime(|runtime| Box::pin(disconnect(runtime)));
}

async fn disconnect(runtime: Arc<dyn Runtime>) {
    let (mut a, mut b) = pair(&runtime).await;
    a.node.disconnect(b.id()).await.unwrap();
    a.until(ConnectionState::Disconnected).await;
    b.until(ConnectionState::Disconnected).await;
    assert_eq!(a.node.disconnect(b.id()).await.unwrap_err().code(), ErrorCode::NotConnected);
    establish(&mut a, &mut b, &[STREAM]).await;
    a.node.send(b.id(), STREAM, "again").await.unwrap();
    assert_eq!(b.messages.recv().await.unwrap().data, "again");
}

#[test]
fn dropping_the_last_handle_shuts_down() {
    on_every_runtime(|runtime| Box::pin(drop_handle(runtime)));
}

async fn drop_handle(runtime: Arc<dyn Runtime>) {
    let (mut a, mut b) = pair(&runtime).await;
    a.node.send(b.id(), STREAM, "last words").await.unwrap();
    drop(a.node);
    assert_eq!(b.messages.recv().await.unwrap().data, "last words");
    b.until(ConnectionState::Disconnected).await;
    while a.events.recv().await.is_some() {}
}

#[test]
fn a_rejected_handshake_ends_in_cooldown() {
    on_every_runtime(|runtime| Box::pin(reject(runtime)));
}

async fn reject(runtime: Arc<dyn Runtime>) {
    let (mut a, b) = (Party::new(&runtime).await, Party::new(&runtime).await);
    a.dial(&b).await;
    a.node.reject_handshake(b.id(), "wrong chain").unwrap();
    let reason = a
        .event(|event| match event {
            glueberry_tokio::Event::State(changed)
                if changed.state == ConnectionState::Cooldown =>
            {
                changed.reason
            }
            _ => None,
        })
        .await;
    let rejected = CloseReason::Rejected("wrong chain".to_owned());
    assert_eq!(reason, StateReason::SessionEnded(rejected));
    assert_eq!(a.node.connect(b.id()).await.unwrap_err().code(), ErrorCode::InCooldown);
}
