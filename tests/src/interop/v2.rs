//! Session v2 with the implementation that was written from its specification, over py-libp2p and, by
//! raw QUIC, over aioquic.

use glueberry_tokio::proto::{CloseReason, Closed, PeerMisbehaved, Violation};
use glueberry_tokio::{ConnectionState, Event, Profile, SessionInfo};

use super::cases::{Case, Habit};
use super::greeter::{Finalize, greet};
use super::other::{Implementation, Other};
use crate::fabric::Fabric;
use crate::party::{Party, STREAM};

/// The streams that both sides have.
pub(super) const STREAMS: [&str; 2] = [STREAM, "sync"];

/// Lists the cases.
pub(super) fn all() -> Vec<Case> {
    let plain: &[Habit] = &[Habit::None, Habit::Leaves];
    let bound = &[Habit::None, Habit::Leaves, Habit::NoExporter, Habit::OtherExporter];
    let peers = [
        (Implementation::Python, Fabric::Noise, plain),
        (Implementation::Aioquic, Fabric::RawQuic, bound),
        // libp2p's QUIC has the wire of raw QUIC, but no exporter for its users.
        (Implementation::Aioquic, Fabric::Quic, plain),
    ];
    let mut cases = Vec::new();
    for (with, over, habits) in peers {
        for &habit in habits {
            for is_dialled in [false, true] {
                cases.push(Case { with, over, profile: Profile::V2, is_dialled, habit });
            }
        }
    }
    cases
}

/// Runs a case, and returns what was seen.
pub(super) async fn run(case: Case, mut party: Party, mut other: Other) -> String {
    if !case.is_dialled {
        let address = other.address.clone();
        party.node.add_peer(other.id, [address]).await.expect("added");
        let connected = party.node.connect(other.id).await;
        // The session may be over before this side hears of it, if it must not come about.
        assert!(connected.is_ok() || case.habit == Habit::OtherExporter, "{connected:?}");
    }
    if case.habit == Habit::OtherExporter {
        return refused(&mut party, &mut other).await;
    }
    party.wait_for(other.id, ConnectionState::Connected).await;
    greet(&mut party, other.id, Finalize::AfterComplete, &STREAMS).await;
    let said = other.until("established").await;
    if case.is_dialled {
        assert_eq!(party.receive().await.data, "first");
    }
    let info = party.node.session_info(other.id).expect("a session");
    let is_bound = case.over == Fabric::RawQuic && case.habit != Habit::NoExporter;
    assert_eq!(info.profile, Profile::V2);
    assert!(info.is_forward_secret && info.is_post_quantum);
    assert_eq!((info.is_bound, said["bound"].as_bool()), (is_bound, Some(is_bound)));

    let (sent, bytes) = echoes(&mut party, &other).await;
    let leaves = case.habit == Habit::Leaves;
    if leaves {
        party.node.send(other.id, STREAM, "bye").await.expect("sent");
    } else {
        party.node.disconnect(other.id).await.expect("disconnected");
    }
    let closed = closed(&mut party).await;
    let reason =
        if leaves { CloseReason::EndedByPeer { code: 0 } } else { CloseReason::Disconnected };
    assert_eq!(closed.reason, reason);
    assert_eq!((closed.unsent, closed.in_doubt, closed.not_received), (0, 0, 0));
    let account = other.until("closed").await;
    let count = |field: &str| account[field].as_u64().expect("a number");
    let first = u64::from(case.is_dialled);
    assert_eq!(account["errors"].as_array().map(Vec::len), Some(0), "{account}");
    assert_eq!((count("code"), count("in_doubt")), (0, 0), "{account}");
    assert_eq!(count("sent"), sent + first, "{account}");
    assert_eq!(count("received"), sent + u64::from(leaves), "{account}");
    format!(
        "{}; {} messages, {} KiB there and back on {}; none in doubt on either side",
        describe(info),
        sent,
        bytes / 1024,
        STREAMS.join(" and "),
    )
}

fn describe(info: SessionInfo) -> String {
    let suite = info.suite.map(|suite| suite.to_string()).unwrap_or_default();
    format!("{suite}, {}", if info.is_bound { "bound by TLS's exporter" } else { "not bound" })
}

/// Messages of all sizes go there and come back, of both streams in turn. Returns how many, and their
/// bytes.
async fn echoes(party: &mut Party, other: &Other) -> (u64, usize) {
    let sizes = [0, 1, 127, 128, 16_383, 16_384, 70_000, 1024 * 1024];
    let (mut count, mut bytes) = (0, 0);
    for (fill, size) in (0_u8..).zip(sizes) {
        for stream in STREAMS {
            party.node.send(other.id, stream, vec![fill; size]).await.expect("sent");
        }
        let mut echoed = Vec::new();
        for _ in STREAMS {
            let echo = party.receive().await;
            assert_eq!(echo.peer, other.id);
            assert!(echo.data == vec![fill; size], "{size} bytes came back as {}", echo.data.len());
            echoed.push(echo.stream().to_owned());
            count += 1;
            bytes += size;
        }
        echoed.sort();
        assert_eq!(echoed, STREAMS);
    }
    // Many at once share records.
    for number in 0..100_u8 {
        party.node.send(other.id, STREAM, vec![number; 10]).await.expect("sent");
    }
    for number in 0..100_u8 {
        assert_eq!(party.receive().await.data, vec![number; 10]);
    }
    (count + 100, bytes + 1000)
}

/// Neither side gets as far as Established.
async fn refused(party: &mut Party, other: &mut Other) -> String {
    let closed = closed(party).await;
    let violation = Violation::BadConfirm;
    let wrong = PeerMisbehaved::V2 { stream: None, violation };
    assert_eq!(closed.reason, CloseReason::Misbehaved(wrong));
    let account = other.until("closed").await;
    let code = u16::try_from(account["code"].as_u64().expect("a number")).expect("a code");
    assert_eq!(code, violation.code(), "{account}");
    "both sides refuse each other's CONFIRM".to_owned()
}

async fn closed(party: &mut Party) -> Closed {
    party
        .event(|event| match event {
            Event::SessionClosed { closed, .. } => Some(closed),
            _ => None,
        })
        .await
}
