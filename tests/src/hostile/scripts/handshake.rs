//! The handshake's messages and substreams.

use std::time::Duration;

use glueberry_tokio::proto::wire::FrameError;
use glueberry_tokio::proto::{ConnectionLost, PeerMisbehaved};
use glueberry_tokio::{CloseReason, ConnectionState, StateReason};

use super::NOTHING;
use crate::fabric::Fabric;
use crate::hostile::attacker::{Attacker, HANDSHAKE, HANDSHAKE_OF_GO, frame};
use crate::hostile::stage::Stage;
use crate::hostile::wire::Sub;
use crate::hostile::within;

/// Many strangers get Connected and say nothing more.
pub(in crate::hostile) async fn never_completed(stage: &Stage) -> String {
    let mut strangers = Vec::new();
    for _ in 0..60 {
        let mut stranger = stage.attacker().await;
        let sub = stranger.connected().await;
        strangers.push((stranger, sub));
    }
    let mut reason = String::new();
    for (stranger, _sub) in &mut strangers {
        reason = if stage.fabric == Fabric::RawQuic {
            times_out(stranger).await
        } else {
            // Nor do they answer a probe, as quinn does for who is silent. A swarm shows nothing of
            // quinn's, so over libp2p's QUIC the node sends its own, too.
            stranger.is_cut_off(CloseReason::ConnectionLost(ConnectionLost::TimedOut)).await
        };
    }
    reason
}

/// Writes the longest message a byte at a time.
pub(in crate::hostile) async fn creeping_message(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let mut sub = attacker.connected().await;
    sub.write(&65_536_u32.to_be_bytes()).await.expect("it is taken");
    let creeping = async {
        while sub.write(&[7]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (reason, ()) = tokio::join!(times_out(&mut attacker), within("it breaks", creeping));
    reason
}

async fn times_out(attacker: &mut Attacker<'_>) -> String {
    let (state, reason) = attacker.leaves().await;
    assert_eq!(state, ConnectionState::Cooldown);
    assert_eq!(reason, Some(StateReason::SessionEnded(CloseReason::HandshakeTimeout)));
    attacker.is_closed().await;
    CloseReason::HandshakeTimeout.to_string()
}

pub(in crate::hostile) async fn too_large(stage: &Stage) -> String {
    announces(stage, 1 << 24).await
}

pub(in crate::hostile) async fn longest_length(stage: &Stage) -> String {
    announces(stage, u32::MAX).await
}

pub(in crate::hostile) async fn byte_above_the_limit(stage: &Stage) -> String {
    announces(stage, 65_537).await
}

async fn announces(stage: &Stage, announced: u32) -> String {
    let mut attacker = stage.attacker().await;
    let mut sub = attacker.connected().await;
    sub.write(&announced.to_be_bytes()).await.expect("it is taken");
    let how = PeerMisbehaved::MessageTooLarge {
        stream: None,
        announced: announced.into(),
        limit: 65_536,
    };
    attacker.is_cut_off(CloseReason::Misbehaved(how)).await
}

pub(in crate::hostile) async fn ended_within_a_message(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let mut sub = attacker.connected().await;
    sub.write(&[0, 0, 0, 100, 1, 2, 3]).await.expect("it is taken");
    sub.finish().await;
    let how = PeerMisbehaved::BadFrame { stream: None, error: FrameError::Truncated };
    attacker.is_cut_off(CloseReason::Misbehaved(how)).await
}

/// The handshake has no other substream, and none comes.
pub(in crate::hostile) async fn reset_within_a_message(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let mut sub = attacker.connected().await;
    sub.write(&[0, 0, 0, 100, 1, 2, 3]).await.expect("it is taken");
    sub.reset();
    attacker.is_cut_off(CloseReason::HandshakeLost).await
}

/// Empty messages are messages.
pub(in crate::hostile) async fn empty_by_thousands(stage: &Stage) -> String {
    talks_on(stage, &[0; 4 * 5000]).await
}

pub(in crate::hostile) async fn endless_messages(stage: &Stage) -> String {
    talks_on(stage, &frame(&[7; 1020]).repeat(1024)).await
}

/// Says much that the application has no use for, and hello behind it.
async fn talks_on(stage: &Stage, words: &[u8]) -> String {
    let mut attacker = stage.attacker().await;
    let mut sub = attacker.connected().await;
    within("all is read", sub.write(words)).await.expect("it is taken");
    sub.write(&frame(&attacker.hello())).await.expect("it says hello");
    attacker.until(ConnectionState::Established).await;
    attacker.is_contained().await;
    NOTHING.to_owned()
}

/// What comes behind the end of the handshake is dropped, and is too much at some point.
pub(in crate::hostile) async fn flood_after_the_end(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let mut sub = attacker.established().await;
    floods(&mut sub).await;
    attacker.is_contained().await;
    NOTHING.to_owned()
}

async fn floods(sub: &mut Sub) {
    let words = frame(&[7; 1020]).repeat(64);
    let mut taken = 0;
    // Where it is not broken off it is not read: yamux does not tell that a half-closed stream is
    // gone.
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), sub.write(&words)).await {
        taken += words.len();
        assert!(taken < 16 << 20, "it is not taken for ever");
    }
}

/// A second one has no use while the first lives.
pub(in crate::hostile) async fn second_substream(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let mut first = attacker.connected().await;
    for _ in 0..20 {
        // It may be broken off before its name is answered, or behind that.
        if let Ok((mut second, _)) = within("it is given up", attacker.propose(HANDSHAKE)).await {
            within("it is given up", second.ended()).await;
        }
    }
    first.write(&frame(&attacker.hello())).await.expect("it says hello");
    attacker.until(ConnectionState::Established).await;
    attacker.is_contained().await;
    NOTHING.to_owned()
}

/// Once one profile is agreed, no other is offered.
pub(in crate::hostile) async fn second_profile(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let mut first = attacker.connected().await;
    for _ in 0..20 {
        let (_, answer) = attacker.propose(HANDSHAKE_OF_GO).await.expect("it is answered");
        assert_eq!(answer, "na");
    }
    first.write(&frame(&attacker.hello())).await.expect("it says hello");
    attacker.until(ConnectionState::Established).await;
    attacker.is_contained().await;
    NOTHING.to_owned()
}

pub(in crate::hostile) async fn late_substream(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let _handshake = attacker.established().await;
    for protocol in [HANDSHAKE, HANDSHAKE_OF_GO].repeat(10) {
        let (_, answer) = attacker.propose(protocol).await.expect("it is answered");
        assert_eq!(answer, "na");
    }
    attacker.is_contained().await;
    NOTHING.to_owned()
}

/// Of a version that nobody speaks: there is another to try.
pub(in crate::hostile) async fn future_profile(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    for _ in 0..20 {
        let name = "/glueberry/handshake/9.0.0";
        let (_, answer) = attacker.propose(name).await.expect("it is answered");
        assert_eq!(answer, "na");
    }
    attacker.established().await;
    attacker.is_contained().await;
    NOTHING.to_owned()
}

/// Asks again and again whether the victim lives.
pub(in crate::hostile) async fn probes_by_hundreds(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    attacker.established().await;
    for _ in 0..300 {
        let probe = attacker.propose("/glueberry/probe/1.0.0");
        let (_, answer) = within("it is answered", probe).await.expect("it is answered");
        assert_eq!(answer, "na", "there is a session");
    }
    attacker.is_contained().await;
    NOTHING.to_owned()
}

/// Opens a named stream first, as Go does, and leaves the victim's handshake substream unanswered.
pub(in crate::hostile) async fn streams_without_a_handshake(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let mut sub = attacker.stream(crate::hostile::host::STREAM).await;
    sub.write(&attacker.record(1, b"too early")).await.expect("it is taken");
    let reason = attacker.session_ends().await;
    // Of the victim's substream and of the session, which have the same time.
    let is_over = matches!(reason, CloseReason::HandshakeLost | CloseReason::HandshakeTimeout);
    assert!(is_over, "{reason:?}");
    attacker.is_closed().await;
    assert!(stage.victim.heard(attacker.id).is_empty());
    reason.to_string()
}
