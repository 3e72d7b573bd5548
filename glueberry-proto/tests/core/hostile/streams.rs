//! Bad input on named streams.

use std::slice::from_ref;

use glueberry_proto::wire::FrameError;
use glueberry_proto::{
    Event, Naming, PeerMisbehaved, Profile, RecordError, ResetCode, SubstreamEnd,
};

use super::{MALFORMED_FRAMES, each_wire, ended_for, only};
use crate::support::{BOTH, Raw, frame, name};

const MIB: usize = 1024 * 1024;
/// Nonce and tag.
const OVERHEAD: usize = 28;

#[test]
fn an_oversize_frame_is_refused_by_its_header() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::chat(naming, profile);
        let id = raw.open_stream("chat");
        let limit = 10 * MIB + OVERHEAD;
        let whole = frame(profile, &vec![0; limit + 2000]);
        raw.feed(id, &whole[..8]);
        assert!(raw.buffers[&id].is_read_over());
        let announced = match profile {
            Profile::V1 => limit + 2000,
            // What the outer varint counts.
            _ => limit + 2004,
        };
        let (stream, announced) = (Some(name("chat")), u64::try_from(announced).unwrap());
        ended_for(raw, PeerMisbehaved::MessageTooLarge { stream, announced, limit });
    }
}

#[test]
fn the_longest_message_is_received() {
    for (naming, profile) in each_wire() {
        let mut config = only(profile, &["chat"]);
        config.max_message_size = 100_000;
        let mut raw = Raw::established(naming, config, &["chat"]);
        let id = raw.open_stream("chat");
        let longest = raw.message(&vec![1; 100_000]);
        raw.feed(id, &longest);
        assert_eq!(raw.received("chat"), [vec![1; 100_000]]);
        let too_long = raw.message(&vec![1; 100_001]);
        raw.feed(id, &too_long);
        let announced = u64::try_from(too_long.len() - if profile == Profile::V1 { 4 } else { 3 });
        match raw.closed().reason {
            glueberry_proto::CloseReason::Misbehaved(PeerMisbehaved::MessageTooLarge {
                stream,
                limit,
                ..
            }) => assert_eq!((stream, limit), (Some(name("chat")), 100_000 + OVERHEAD)),
            other => panic!("{other:?}, announced {announced:?}"),
        }
        raw.node_is_usable();
    }
}

#[test]
fn a_framing_error_ends_with_a_reason() {
    for naming in BOTH {
        for (bytes, error) in MALFORMED_FRAMES {
            let mut raw = Raw::chat(naming, Profile::V1Go);
            let id = raw.open_stream("chat");
            raw.feed(id, bytes);
            ended_for(raw, PeerMisbehaved::BadFrame { stream: Some(name("chat")), error });
        }
    }
}

#[test]
fn a_frame_cut_off_by_a_clean_end_ends_the_session() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::chat(naming, profile);
        let id = raw.open_stream("chat");
        let whole = raw.message(b"only half of this");
        raw.feed(id, &whole[..whole.len() / 2]);
        raw.end(id, SubstreamEnd::Finished);
        let (stream, error) = (Some(name("chat")), FrameError::Truncated);
        ended_for(raw, PeerMisbehaved::BadFrame { stream, error });
    }
}

#[test]
fn a_reset_inside_a_frame_loses_that_frame_only() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::chat(naming, profile);
        let id = raw.open_stream("chat");
        let (first, second) = (raw.message(b"first"), raw.message(b"second"));
        raw.feed(id, &first);
        raw.feed(id, &second[..7]);
        raw.end(id, SubstreamEnd::Aborted);
        assert_eq!(raw.received("chat"), ["first"]);
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

fn tampered(raw: &mut Raw) -> Vec<u8> {
    let mut record = raw.record(b"not what was sealed");
    record[20] ^= 1;
    frame(raw.profile, &record)
}

#[test]
fn sixteen_records_that_do_not_open_are_skipped_and_the_next_ends_the_session() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::chat(naming, profile);
        let id = raw.open_stream("chat");
        raw.events();
        for _ in 0..16 {
            let (bad, good) = (tampered(&mut raw), raw.message(b"good"));
            raw.feed(id, &bad);
            let (stream, error) = (name("chat"), RecordError::Authentication);
            assert_eq!(raw.events(), [Event::RecordRejected { stream, error }]);
            raw.feed(id, &good);
            assert_eq!(raw.received("chat"), ["good"]);
            raw.events();
        }
        let bad = tampered(&mut raw);
        raw.feed(id, &bad);
        ended_for(raw, PeerMisbehaved::TooManyRejectedRecords { count: 17 });
    }
}

#[test]
fn the_limit_of_rejected_records_is_the_sessions_and_not_a_substreams() {
    let mut raw = Raw::established(Naming::Negotiated, only(Profile::V1, &["a", "b"]), &["a", "b"]);
    for round in 0..17 {
        let id = raw.open_stream(["a", "b"][round % 2]);
        let bad = tampered(&mut raw);
        raw.feed(id, &bad);
        raw.end(id, SubstreamEnd::Finished);
    }
    ended_for(raw, PeerMisbehaved::TooManyRejectedRecords { count: 17 });
}

#[track_caller]
fn rejected_as(raw: &mut Raw, expected: RecordError) {
    let events = raw.events();
    let error = events.iter().find_map(|event| match event {
        Event::RecordRejected { error, .. } => Some(*error),
        _ => None,
    });
    assert_eq!(error, Some(expected), "{events:?}");
}

#[test]
fn records_that_are_too_short_reflected_or_replayed_are_told_apart() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::chat(naming, profile);
        let id = raw.open_stream("chat");
        for got in [0, 1, 11, 12, 27] {
            raw.feed(id, &frame(profile, &vec![1; got]));
            rejected_as(&mut raw, RecordError::TooShort { got });
        }
        let twice = raw.message(b"once");
        raw.feed(id, &twice);
        raw.feed(id, &twice);
        rejected_as(&mut raw, RecordError::Replayed);
        assert_eq!(raw.received("chat"), ["once"]);
        raw.send("chat", b"mine");
        let mine = raw.written(id);
        raw.feed(id, &mine);
        rejected_as(&mut raw, RecordError::Reflected);
        assert!(raw.received("chat").is_empty());
        let after = raw.message(b"after");
        raw.feed(id, &after);
        assert_eq!(raw.received("chat"), ["after"]);
        raw.node_is_usable();
    }
}

#[test]
fn a_record_replayed_on_another_substream_and_stream_is_refused() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::established(naming, only(profile, &["a", "b"]), &["a", "b"]);
        let (a, b) = (raw.open_stream("a"), raw.open_stream("b"));
        let twice = raw.message(b"for a");
        raw.feed(a, &twice);
        raw.feed(b, &twice);
        rejected_as(&mut raw, RecordError::Replayed);
        assert!(raw.received("b").is_empty());
        raw.node_is_usable();
    }
}

#[test]
fn a_message_behind_the_frame_that_ends_the_session_is_not_received() {
    for naming in BOTH {
        let mut raw = Raw::chat(naming, Profile::V1Go);
        let id = raw.open_stream("chat");
        let (before, after) = (raw.message(b"before"), raw.message(b"after"));
        let bytes = [&before[..], &[0], &after[..]].concat();
        raw.feed(id, &bytes);
        assert!(raw.session.is_closed());
        assert_eq!(raw.received("chat"), ["before"]);
        raw.node_is_usable();
    }
}

#[test]
fn messages_before_established_wait_and_are_not_delivered() {
    for (naming, profile) in each_wire() {
        let (mut raw, _) = Raw::connected(naming, only(profile, &["chat"]));
        let early = raw.open_stream("chat");
        let message = raw.message(b"too soon");
        raw.feed(early, &message);
        assert!(!raw.buffers[&early].wants_read());
        raw.prepare(&["chat"]);
        assert!(raw.received("chat").is_empty());
        assert!(!raw.buffers[&early].wants_read());
        raw.finalize();
        assert_eq!(raw.received("chat"), ["too soon"]);
        raw.node_is_usable();
    }
}

#[test]
fn a_substream_whose_stream_is_not_prepared_is_reset_and_told() {
    for (naming, profile) in each_wire() {
        let (mut raw, _) = Raw::connected(naming, only(profile, &["chat", "other"]));
        let early = raw.open_stream("other");
        raw.prepare(&["chat"]);
        raw.finalize();
        assert!(raw.was_reset(early, ResetCode::Refused));
        let told = Event::StreamNotPrepared { stream: name("other") };
        assert!(raw.events().contains(&told));
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

#[test]
fn an_early_substream_waits_for_the_call_that_prepares_its_stream() {
    for (naming, profile) in each_wire() {
        let (mut raw, _) = Raw::connected(naming, only(profile, &["a", "b"]));
        let early = raw.open_stream("b");
        let message = raw.message(b"early");
        raw.feed(early, &message);
        raw.prepare(&["a"]);
        raw.prepare(&["b"]);
        raw.finalize();
        assert_eq!(raw.received("b"), ["early"]);
    }
}

#[test]
fn a_configured_stream_that_was_not_prepared_is_refused_after_established() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::established(naming, only(profile, &["chat", "other"]), &["chat"]);
        let protocol = profile.stream_id(name("other"));
        assert!(!raw.session.protocols().contains(&protocol));
        let late = raw.open(protocol);
        assert!(raw.was_refused(late));
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

#[test]
fn a_name_that_only_go_allows_is_no_stream_of_the_document() {
    use glueberry_proto::{HandshakeError, StreamName};
    let umlaut = StreamName::new_go("grüße").unwrap();
    for naming in BOTH {
        let (mut raw, _) = Raw::connected(naming, only(Profile::V1, &[]));
        let refused = raw.session.prepare_streams(raw.now, raw.peer, from_ref(&umlaut));
        assert_eq!(refused, Err(HandshakeError::NameNotAllowed { name: umlaut.clone() }));
        raw.prepare(&["chat"]);
        raw.finalize();
        raw.carries_messages("chat");
        let (mut go, _) = Raw::connected(naming, only(Profile::V1Go, &[]));
        go.session.prepare_streams(go.now, go.peer, from_ref(&umlaut)).unwrap();
    }
}
