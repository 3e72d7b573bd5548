//! The two-phase handshake, and what goes wrong in it.

use std::time::Duration;

use glueberry_tokio::{Config, ConnectionState, ErrorCode, Event, HANDSHAKE};

use super::Stage;
use crate::party::{Party, STREAM};

pub(super) async fn wrong_key(stage: Stage) {
    let (a, b) = stage.pair(Config::default(), &[STREAM]).await;
    a.dial(&b).await;
    let own = a.node.public_key();
    let error = a.node.prepare_streams(b.id(), own, &[STREAM]).await.expect_err("not b's key");
    assert_eq!(error.code(), ErrorCode::InvalidPublicKey, "{error}");
    // The session is as it was, and goes on with the right one.
    a.complete(&b, &[STREAM]).await;
    a.wait_for(b.id(), ConnectionState::Established).await;
}

pub(super) async fn rejected(stage: Stage) {
    let mut config = Config::default();
    config.core.reconnect = glueberry_tokio::proto::ReconnectPolicy::never();
    let (a, mut b) = stage.pair(config, &[STREAM]).await;
    a.dial(&b).await;
    a.node.send(b.id(), HANDSHAKE, "let me in").await.expect("said");
    assert!(b.receive().await.is_handshake());
    b.node.reject_handshake(a.id(), "not you").expect("rejected");
    b.wait_for(a.id(), ConnectionState::Cooldown).await;
    a.wait_for(b.id(), ConnectionState::Disconnected).await;
    let error = a.node.connect(b.id()).await.expect_err("b is left alone");
    assert_eq!(error.code(), ErrorCode::ConnectionFailed, "{error}");
    b.meet(&a).await;
    let error = b.node.connect(a.id()).await.expect_err("a is left alone");
    assert_eq!(error.code(), ErrorCode::InCooldown, "{error}");
}

pub(super) async fn handshake_timeout(stage: Stage) {
    let mut b = Party::start(stage.b, Config::default(), &[STREAM]).await;
    let mut config = Config::default();
    config.core.handshake_timeout = Duration::from_millis(500);
    config.core.cooldown = Duration::from_millis(500);
    config.core.reconnect = glueberry_tokio::proto::ReconnectPolicy::never();
    let mut a = Party::start(stage.a, config, &[STREAM]).await;
    // The other side is Connected for so short a time that its state may not be seen: it is told.
    a.meet(&b).await;
    a.node.connect(b.id()).await.expect("connected");
    a.until(ConnectionState::Cooldown).await;
    // It is forgiven in the end.
    a.until(ConnectionState::Disconnected).await;
    b.until(ConnectionState::Disconnected).await;
    a.node.connect(b.id()).await.expect("connected again");
}

pub(super) async fn nothing_said_after_established(stage: Stage) {
    let (a, b) = stage.established(Config::default()).await;
    let error = a.node.send(b.id(), HANDSHAKE, "too late").await.expect_err("it is over");
    assert_eq!(error.code(), ErrorCode::StreamClosed, "{error}");
    let error = b.node.finalize_handshake(a.id()).await.expect_err("done before");
    assert_eq!(error.code(), ErrorCode::StreamClosed, "{error}");
    a.node.send(b.id(), STREAM, "still there").await.expect("sent");
}

/// One side is Established and sends while the other has not even prepared.
pub(super) async fn named_stream_before_prepare(stage: Stage) {
    let (a, mut b) = stage.pair(Config::default(), &[STREAM]).await;
    a.dial(&b).await;
    a.complete(&b, &[STREAM]).await;
    for number in 0..20_u8 {
        a.node.send(b.id(), STREAM, vec![number]).await.expect("sent");
    }
    let early = tokio::time::timeout(Duration::from_millis(100), b.messages.recv()).await;
    assert!(early.is_err(), "nothing is delivered before Established");
    b.complete(&a, &[STREAM]).await;
    for number in 0..20_u8 {
        assert_eq!(b.receive().await.data, vec![number]);
    }
}

pub(super) async fn stream_that_is_not_prepared(stage: Stage) {
    let mut config = Config::default();
    config.core.max_stream_attempts = 2;
    let (mut a, mut b) = stage.pair(config, &["known", "other"]).await;
    a.dial(&b).await;
    b.complete(&a, &["known"]).await;
    a.complete(&b, &["known", "other"]).await;
    a.node.send(b.id(), "other", "lost").await.expect("queued");
    let unsent = a
        .event(|event| match event {
            Event::StreamRefused { stream, unsent, .. } if stream.as_str() == "other" => {
                Some(unsent)
            }
            _ => None,
        })
        .await;
    assert_eq!(unsent, 1);
    let error = b.node.send(a.id(), "other", "no").await.expect_err("not prepared");
    assert_eq!(error.code(), ErrorCode::StreamNotFound, "{error}");
    a.node.send(b.id(), "known", "yes").await.expect("sent");
    assert_eq!(b.receive().await.data, "yes");
}
