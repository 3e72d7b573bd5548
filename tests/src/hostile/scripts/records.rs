//! Records on named streams.

use std::time::Duration;

use glueberry_tokio::proto::compat::Cipher;
use glueberry_tokio::proto::wire::FrameError;
use glueberry_tokio::proto::{PeerMisbehaved, RecordError};
use glueberry_tokio::{CloseReason, ConnectionState, StreamName};

use super::NOTHING;
use crate::hostile::attacker::{Attacker, frame};
use crate::hostile::host::STREAM;
use crate::hostile::stage::Stage;
use crate::hostile::wire::Sub;
use crate::hostile::within;

/// An attacker that is Established, and its substream of the stream.
async fn talking(stage: &Stage) -> (Attacker<'_>, Sub) {
    let mut attacker = stage.attacker().await;
    attacker.established().await;
    let sub = attacker.stream(STREAM).await;
    (attacker, sub)
}

fn chat() -> Option<StreamName> {
    STREAM.parse().ok()
}

/// A record does not open, and the stream goes on.
async fn is_rejected(mut attacker: Attacker<'_>, mut sub: Sub, error: RecordError) -> String {
    assert_eq!(attacker.rejected().await, error);
    attacker.is_heard_on(&mut sub).await;
    error.to_string()
}

/// Writes the largest message that there is time for a byte at a time.
pub(in crate::hostile) async fn creeping_record(stage: &Stage) -> String {
    let (mut attacker, mut sub) = talking(stage).await;
    sub.write(&60_000_u32.to_be_bytes()).await.expect("it is taken");
    let creeping = async {
        while sub.write(&[7]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within("the substream is given up", creeping).await;
    attacker.is_contained().await;
    NOTHING.to_owned()
}

pub(in crate::hostile) async fn bad_tags(stage: &Stage) -> String {
    let (mut attacker, mut sub) = talking(stage).await;
    for nonce in 0..17 {
        let mut record = attacker.record(nonce, b"bad");
        record[20] ^= 1;
        sub.write(&record).await.expect("it is taken");
    }
    for _ in 0..17 {
        assert_eq!(attacker.rejected().await, RecordError::Authentication);
    }
    let how = PeerMisbehaved::TooManyRejectedRecords { count: 17 };
    attacker.is_cut_off(CloseReason::Misbehaved(how)).await
}

/// Sixteen are forgiven.
pub(in crate::hostile) async fn bad_tag_forgiven(stage: &Stage) -> String {
    let (mut attacker, mut sub) = talking(stage).await;
    for nonce in 0..16 {
        let mut record = attacker.record(nonce, b"bad");
        *record.last_mut().expect("a tag") ^= 0x80;
        sub.write(&record).await.expect("it is taken");
    }
    for _ in 1..16 {
        assert_eq!(attacker.rejected().await, RecordError::Authentication);
    }
    is_rejected(attacker, sub, RecordError::Authentication).await
}

pub(in crate::hostile) async fn repeated_nonce(stage: &Stage) -> String {
    let (attacker, mut sub) = talking(stage).await;
    for text in [b"first", b"other"] {
        sub.write(&attacker.record(1, text)).await.expect("it is taken");
    }
    is_rejected(attacker, sub, RecordError::Replayed).await
}

/// Sends the victim's own record back.
pub(in crate::hostile) async fn reflected(stage: &Stage) -> String {
    let (mut attacker, mut sub) = talking(stage).await;
    // The victim answers on the substream once it is known to be this stream's.
    attacker.is_heard_on(&mut sub).await;
    stage.node().send(attacker.id, STREAM, "mine").await.expect("it is queued");
    let len = sub.read(4).await.expect("a length");
    let len = u32::from_be_bytes(len.try_into().expect("four bytes"));
    let record = sub.read(usize::try_from(len).expect("short")).await.expect("a record");
    sub.write(&frame(&record)).await.expect("it is taken");
    assert_eq!(attacker.rejected().await, RecordError::Reflected);
    sub.write(&attacker.record(3, b"more")).await.expect("it is taken");
    stage.victim.hears(attacker.id, b"more").await;
    assert!(!stage.victim.heard(attacker.id).iter().any(|heard| heard == "mine"));
    RecordError::Reflected.to_string()
}

pub(in crate::hostile) async fn empty_record(stage: &Stage) -> String {
    let (attacker, mut sub) = talking(stage).await;
    sub.write(&frame(b"")).await.expect("it is taken");
    is_rejected(attacker, sub, RecordError::TooShort { got: 0 }).await
}

pub(in crate::hostile) async fn short_record(stage: &Stage) -> String {
    let (attacker, mut sub) = talking(stage).await;
    sub.write(&frame(&[7; 27])).await.expect("it is taken");
    is_rejected(attacker, sub, RecordError::TooShort { got: 27 }).await
}

pub(in crate::hostile) async fn overlong_length(stage: &Stage) -> String {
    let (mut attacker, mut sub) = talking(stage).await;
    let limit = (10 << 20) + 28_usize;
    let announced = u32::try_from(limit + 1).expect("32 bits");
    sub.write(&announced.to_be_bytes()).await.expect("it is taken");
    let how =
        PeerMisbehaved::MessageTooLarge { stream: chat(), announced: announced.into(), limit };
    attacker.is_cut_off(CloseReason::Misbehaved(how)).await
}

pub(in crate::hostile) async fn truncated_record(stage: &Stage) -> String {
    let (mut attacker, mut sub) = talking(stage).await;
    let record = attacker.record(1, b"cut off");
    sub.write(&record[..record.len() - 1]).await.expect("it is taken");
    sub.finish().await;
    let how = PeerMisbehaved::BadFrame { stream: chat(), error: FrameError::Truncated };
    attacker.is_cut_off(CloseReason::Misbehaved(how)).await
}

/// The part is dropped, and another substream may follow.
pub(in crate::hostile) async fn reset_within_a_record(stage: &Stage) -> String {
    let (mut attacker, mut sub) = talking(stage).await;
    let record = attacker.record(1, b"cut off");
    sub.write(&record[..record.len() - 1]).await.expect("it is taken");
    sub.reset();
    attacker.is_contained().await;
    assert!(!stage.victim.heard(attacker.id).iter().any(|heard| heard == "cut off"));
    NOTHING.to_owned()
}

/// Seals with keys of others: of zeros, and of two strangers.
pub(in crate::hostile) async fn wrong_key(stage: &Stage) -> String {
    let (attacker, mut sub) = talking(stage).await;
    let cipher = Cipher::new(&[0; 32]).expect("a key");
    sub.write(&frame(&cipher.encrypt(b"zeros", b"", &[1; 12]))).await.expect("it is taken");
    let mut attacker = attacker;
    assert_eq!(attacker.rejected().await, RecordError::Authentication);
    let stranger = stage.attacker().await;
    sub.write(&stranger.record(2, b"of another")).await.expect("it is taken");
    is_rejected(attacker, sub, RecordError::Authentication).await
}

/// Sends a record of one stream again on another: v1 has one key for both, but the nonce is known.
pub(in crate::hostile) async fn other_stream(stage: &Stage) -> String {
    let (mut attacker, mut sub) = talking(stage).await;
    sub.write(&attacker.record(1, b"once")).await.expect("it is taken");
    stage.victim.hears(attacker.id, b"once").await;
    let mut bulk = attacker.stream("bulk").await;
    bulk.write(&attacker.record(1, b"once")).await.expect("it is taken");
    assert_eq!(attacker.rejected().await, RecordError::Replayed);
    attacker.is_heard_on(&mut bulk).await;
    assert_eq!(stage.victim.heard(attacker.id).len(), 2);
    RecordError::Replayed.to_string()
}

/// Records that come before the handshake is over wait until it is.
pub(in crate::hostile) async fn sent_too_early(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let mut handshake = attacker.connected().await;
    let mut parked = Vec::new();
    for number in 0..8 {
        let (mut sub, answer) =
            attacker.propose("/glueberry/stream/chat/1.0.0").await.expect("it is answered");
        assert_eq!(answer != "na", number < 4, "{number}");
        if number == 0 {
            sub.write(&attacker.record(1, b"early")).await.expect("it is taken");
        }
        parked.push(sub);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stage.victim.heard(attacker.id), Vec::<bytes::Bytes>::new());
    handshake.write(&frame(&attacker.hello())).await.expect("it says hello");
    attacker.until(ConnectionState::Established).await;
    stage.victim.hears(attacker.id, b"early").await;
    NOTHING.to_owned()
}
