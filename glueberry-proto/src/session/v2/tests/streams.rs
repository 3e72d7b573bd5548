//! What the substreams of a stream carry.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use serde_json::Value;

use super::tested::Tested;
use super::{bytes, list, run_handshake, text};
use crate::crypto::{RustCrypto, SharedKey};
use crate::session::Event;
use crate::session::v2::incoming::Incoming;
use crate::v2::instance::{InstanceWriter, Last, Open};
use crate::v2::record::{Cipher, Kind};
use crate::v2::schedule::StreamRoot;
use crate::v2::{Padding, Suite, Violation};
use crate::{Action, Instant, Profile, ResetCode, StreamName, SubstreamBuffer, SubstreamId};

/// Runs what happens to the substreams of a stream.
fn run_stream(case: &Value, handshakes: &[Value]) -> bool {
    let name = text(case, "name");
    let is_meant = |it: &&Value| it["name"] == case["handshake"];
    let handshake = handshakes.iter().find(is_meant).unwrap();
    let side = if case["direction"] == 0 { "r" } else { "i" };
    let Some(mut tested) = run_handshake(handshake, side) else {
        return false;
    };
    if let Some(limit) = case["message_limit"].as_u64() {
        let config = std::sync::Arc::make_mut(&mut tested.session.params.config);
        config.max_message_size = usize::try_from(limit).unwrap();
    }
    tested.events.clear();
    let mut substreams: BTreeMap<&str, SubstreamId> = BTreeMap::new();
    for (at, step) in list(case, "steps").iter().enumerate() {
        let context = format!("{name}, step {at}");
        tested.actions.clear();
        tested.events.clear();
        if let Some(stream) = step["agreed"].as_str() {
            let id = Profile::V2.stream_id(StreamName::new(stream).unwrap());
            let is_known = tested.session.protocols().contains(&id);
            if step["then_accepted"] == false {
                assert!(!is_known, "{context}");
                continue;
            }
            assert!(is_known, "{context}");
            let id = tested.session.handle_accepted(tested.now, Some(id));
            tested.buffers.insert(id, SubstreamBuffer::new(id));
            substreams.insert(text(step, "substream"), id);
            tested.settle();
        } else if step["bytes"].is_string() {
            tested.feed(substreams[text(step, "substream")], &bytes(step, "bytes"));
        } else if step["end"].is_string() {
            tested.end(substreams[text(step, "substream")], &step["end"]);
        } else if let Some(millis) = step["wait"].as_u64() {
            tested.now = tested.now + Duration::from_millis(millis);
            tested.session.handle_timeout(tested.now);
            tested.settle();
        } else {
            tested.feed(tested.channel, &bytes(step, "control_record"));
        }
        let received = tested.received();
        let expected: Vec<(String, String)> = list(step, "then_messages")
            .iter()
            .map(|it| (it[0].as_str().unwrap().to_owned(), it[1].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(tested.ended(), step["then_ended"].as_u64(), "{context}");
        if step["then_ended"].is_u64() {
            // Whole messages ahead of the violation, in the same record, are delivered or not.
            assert!(received.starts_with(&expected), "{context}");
            return true;
        }
        assert_eq!(received, expected, "{context}");
        check_reports(&tested, step, &substreams, &context);
    }
    let stream = StreamName::new(text(case, "stream")).unwrap();
    let stream = tested.session.streams.get_mut(&stream).unwrap();
    let received = stream.incoming.as_ref().unwrap().received();
    assert_eq!(Some(received.next), case["next"].as_u64(), "{name}");
    assert_eq!(Some(received.lost), case["lost"].as_u64(), "{name}");
    true
}

fn check_reports(
    tested: &Tested,
    step: &Value,
    substreams: &BTreeMap<&str, SubstreamId>,
    context: &str,
) {
    let reports = list(step, "then_reports");
    let lost: u64 =
        reports.iter().filter(|it| it[0] == "lost").map(|it| it[2].as_u64().unwrap()).sum();
    let told: u64 = tested
        .events
        .iter()
        .map(|event| if let Event::MessagesLost { messages, .. } = event { *messages } else { 0 })
        .sum();
    assert_eq!(told, lost, "{context}");
    let is_truncated = reports.iter().any(|it| it[0] == "truncated");
    let told = tested.events.iter().any(|it| matches!(it, Event::StreamTruncated { .. }));
    assert_eq!(told, is_truncated, "{context}");

    let id = |name: &Value| substreams[name.as_str().unwrap()];
    let mut finished: Vec<SubstreamId> = list(step, "then_fin").iter().map(id).collect();
    finished.sort_unstable();
    let mut told: Vec<SubstreamId> = tested
        .actions
        .iter()
        .filter_map(|it| if let Action::Finish(id) = it { Some(*id) } else { None })
        .collect();
    told.sort_unstable();
    assert_eq!(told, finished, "{context}");
    let told = tested.actions.iter().filter_map(|it| match it {
        Action::Reset { substream, code } => Some((*substream, u64::from(code.as_u32()))),
        _ => None,
    });
    let expected: Vec<(SubstreamId, u64)> =
        list(step, "then_reset").iter().map(|it| (id(&it[0]), it[1].as_u64().unwrap())).collect();
    // What is left of a substream that did not end cleanly is reset, which the vectors don't have.
    let is_truncated = is_truncated || step["end"].is_string();
    let told: Vec<_> = told
        .filter(|(_, code)| {
            !is_truncated || *code != u64::from(ResetCode::Refused.as_u32()) || !expected.is_empty()
        })
        .collect();
    assert_eq!(told, expected, "{context}");
}

#[test]
fn streams() {
    let handshakes = vectors!("handshakes");
    let cases = [
        vectors!("streams"),
        vectors!("boundaries"),
        vectors!("instances"),
        vectors!("stream_errors"),
    ]
    .concat();
    // Every case that fails is named.
    let (mut run, mut failed) = (0, Vec::new());
    for case in &cases {
        match std::panic::catch_unwind(|| run_stream(case, &handshakes)) {
            Ok(is_run) => run += usize::from(is_run),
            Err(_) => failed.push(text(case, "name")),
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert!(run >= 150, "{run} of {}", cases.len());
}

/// To change keys costs as much as to open many records, and a record that carries nothing fills no queue.
#[test]
fn changes_of_keys_are_limited() {
    let handshakes = vectors!("handshakes");
    let mut tested = run_handshake(&handshakes[0], "i").unwrap();
    let name = StreamName::new("chat").unwrap();
    let secret = || SharedKey::from_bytes(&[7; 32]).unwrap();
    let cipher = Cipher {
        aead: std::sync::Arc::new(RustCrypto),
        suite: Suite::ChaCha20Poly1305,
        padding: Padding::None,
    };
    let incoming = Incoming::new(StreamRoot::from_secret(secret()), cipher.clone(), [1; 8]);
    tested.session.streams.get_mut(&name).unwrap().incoming = Some(Box::new(incoming));
    let mut root = StreamRoot::from_secret(secret());
    let mut changes = |tested: &mut Tested, instance: u32, count: usize| {
        let last = if instance == 0 { Last::None } else { Last::Broken };
        let open = Open { instance, first: 0, last };
        let mut writer = InstanceWriter::new(cipher.clone(), &root.next_instance(), [1; 8], open);
        let (mut out, mut sealed_at) = (BytesMut::new(), Instant::ZERO);
        writer.write(&mut out, sealed_at).finish();
        for _ in 1..2 * count {
            // The second record of an epoch is its last, if it is old; the one that opens is the first.
            sealed_at = sealed_at + Duration::from_secs(600);
            writer.write(&mut out, sealed_at).put_record(Kind::Data, b"");
        }
        let id =
            tested.session.handle_accepted(tested.now, Some(Profile::V2.stream_id(name.clone())));
        tested.buffers.insert(id, SubstreamBuffer::new(id));
        tested.settle();
        tested.feed(id, &out);
        if tested.ended().is_none() {
            tested.end(id, &Value::from("reset"));
        }
    };
    changes(&mut tested, 0, 40);
    changes(&mut tested, 1, 24);
    assert_eq!(tested.ended(), None);
    tested.now = tested.now + Duration::from_secs(1);
    changes(&mut tested, 2, 16);
    assert_eq!(tested.ended(), None);
    changes(&mut tested, 3, 1);
    assert_eq!(tested.ended(), Some(Violation::Rate.close_code()));
}
