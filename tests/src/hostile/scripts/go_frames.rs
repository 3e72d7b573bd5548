//! Frames of Go's profile, whose two lengths are varints.

use glueberry_tokio::proto::PeerMisbehaved;
use glueberry_tokio::proto::wire::FrameError;
use glueberry_tokio::{CloseReason, ConnectionState};

use super::NOTHING;
use crate::hostile::attacker::{Attacker, HANDSHAKE_OF_GO};
use crate::hostile::stage::Stage;
use crate::hostile::wire::Sub;

/// An attacker that is Connected in Go's profile, and its handshake substream.
async fn connected(stage: &Stage) -> (Attacker<'_>, Sub) {
    let mut attacker = stage.attacker().await;
    let sub = attacker.open(HANDSHAKE_OF_GO).await;
    attacker.until(ConnectionState::Connected).await;
    (attacker, sub)
}

async fn is_refused(stage: &Stage, bytes: &[u8], error: FrameError) -> String {
    let (mut attacker, mut sub) = connected(stage).await;
    sub.write(bytes).await.expect("it is taken");
    let how = PeerMisbehaved::BadFrame { stream: None, error };
    attacker.is_cut_off(CloseReason::Misbehaved(how)).await
}

/// A length of more than 64 bits.
pub(in crate::hostile) async fn overflowing_length(stage: &Stage) -> String {
    is_refused(stage, &[0xff; 11], FrameError::InvalidVarint).await
}

/// A frame that has no room for its inner length.
pub(in crate::hostile) async fn no_inner_length(stage: &Stage) -> String {
    is_refused(stage, &[0], FrameError::Empty).await
}

/// A body that is longer than its frame.
pub(in crate::hostile) async fn longer_inside(stage: &Stage) -> String {
    let error = FrameError::BodyExceedsFrame { body: 100, room: 4 };
    is_refused(stage, &[5, 100, 1, 2, 3, 4], error).await
}

/// More bytes behind a body than anybody ignores.
pub(in crate::hostile) async fn long_trailer(stage: &Stage) -> String {
    let error = FrameError::Trailing { announced: 1989, limit: 1024 };
    is_refused(stage, &[0xd0, 0x0f, 10, 1, 2, 3], error).await
}

/// Lengths that are longer than need be are lengths.
pub(in crate::hostile) async fn padded_lengths(stage: &Stage) -> String {
    let (mut attacker, mut sub) = connected(stage).await;
    let hello = attacker.hello();
    sub.write(&[&[0xa2, 0x80, 0], &[0xa0, 0][..], &hello].concat()).await.expect("it is taken");
    attacker.until(ConnectionState::Established).await;
    NOTHING.to_owned()
}
