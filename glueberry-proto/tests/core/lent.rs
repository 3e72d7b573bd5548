//! Messages that wait outside of a session, in a queue that is lent to it when it writes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use glueberry_proto::{
    Action, CloseReason, ConnectionLost, Event, Naming, Profile, SendError, SendQueue,
    SubstreamBuffer, SubstreamEnd, SubstreamId,
};
use proptest::prelude::*;

use crate::substreams::only;
use crate::support::{BOTH, Raw, name};

/// A session with its stream's substream open, to which nothing was written yet.
fn with_substream(naming: Naming, profile: Profile) -> (Raw, SubstreamId) {
    let mut raw = Raw::chat(naming, profile);
    let id = raw.open_stream("chat");
    (raw, id)
}

fn waiting(raw: &Raw) -> usize {
    raw.lent.get(&name("chat")).map_or(0, SendQueue::len)
}

fn is_opening(raw: &Raw) -> bool {
    raw.actions.iter().any(|action| matches!(action, Action::OpenSubstream { .. }))
}

#[derive(Clone, Debug)]
enum Op {
    Send(usize),
    Write(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![4 => 0..100_usize, 1 => 100..5_000_usize];
    prop_oneof![
        3 => size.prop_map(Op::Send),
        1 => (0..4_000_usize).prop_map(Op::Write),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The two ways to a session differ in nothing that a peer can see.
    #[test]
    fn a_lent_queue_and_the_sessions_own_give_the_same_bytes(
        ops in prop::collection::vec(op(), 0..60),
        is_go in any::<bool>(),
    ) {
        let profile = if is_go { Profile::V1Go } else { Profile::V1 };
        let (mut own, id) = with_substream(Naming::Negotiated, profile);
        let (mut lent, _) = with_substream(Naming::Negotiated, profile);
        let mut written = [BytesMut::new(), BytesMut::new()];
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Send(size) => {
                    let message = vec![u8::try_from(number).unwrap(); size];
                    own.send("chat", &message);
                    lent.lend("chat", &message);
                }
                Op::Write(budget) => {
                    own.write(id, &mut written[0], budget);
                    lent.write(id, &mut written[1], budget);
                    // Where v1-go is cut may differ by what its headers vary in length.
                    prop_assert!(is_go || written[0] == written[1]);
                }
            }
        }
        written[0].extend_from_slice(&own.written(id));
        written[1].extend_from_slice(&lent.written(id));
        prop_assert!(written[0] == written[1]);
        prop_assert_eq!(waiting(&lent), 0);
    }
}

#[test]
fn a_report_finds_or_opens_the_substream_and_what_follows_needs_none() {
    for naming in BOTH {
        for profile in [Profile::V1, Profile::V1Go] {
            let mut raw = Raw::chat(naming, profile);
            raw.lend("chat", b"one");
            let id = raw.agree(&profile.stream_id(name("chat")));
            // Nobody reports the second, because the session has not found the queue empty.
            raw.lent.get_mut(&name("chat")).unwrap().push(Bytes::from_static(b"two")).unwrap();
            assert_eq!(raw.sent(id), [b"one", b"two"]);
            raw.lend("chat", b"three");
            assert_eq!(raw.sent(id), [b"three"]);
        }
    }
}

#[test]
fn what_was_sent_goes_out_ahead_of_what_is_lent() {
    let (mut raw, id) = with_substream(Naming::Negotiated, Profile::V1);
    raw.lend("chat", b"lent");
    raw.send("chat", b"own");
    assert_eq!(raw.session.queued(&name("chat")), (1, 3));
    assert_eq!(raw.sent(id), [&b"own"[..], b"lent"]);
}

#[test]
fn a_buffer_passes_the_source_through() {
    let (mut raw, id) = with_substream(Naming::Negotiated, Profile::V1);
    raw.lend("chat", b"lent");
    let mut buffer = SubstreamBuffer::new(id);
    let chunk = buffer.chunk_from(&mut raw.session, &mut raw.lent).unwrap();
    assert_eq!(chunk.len(), 4 + 12 + 4 + 16);
    buffer.wrote(36);
    assert!(buffer.chunk_from(&mut raw.session, &mut raw.lent).is_none());
}

/// All that is taken is sealed in the same call, and no more is taken than was asked for.
#[test]
fn a_write_takes_what_fits_and_leaves_the_rest() {
    let (mut raw, id) = with_substream(Naming::Negotiated, Profile::V1);
    for _ in 0..100 {
        raw.lend("chat", &[0; 68]);
    }
    let mut out = BytesMut::new();
    assert_eq!(raw.write(id, &mut out, 950), 1_000);
    assert_eq!(waiting(&raw), 90);
    assert_eq!(raw.write(id, &mut out, 0), 0);
    assert_eq!(waiting(&raw), 90);
    assert_eq!(raw.sent(id).len(), 90);
}

#[test]
fn a_report_before_established_or_of_an_unknown_stream_does_nothing() {
    let (mut raw, _) = Raw::connected(Naming::Negotiated, only(Profile::V1));
    raw.prepare(&["chat"]);
    raw.lend("chat", b"early");
    raw.lend("other", b"unknown");
    raw.finalize();
    assert!(!is_opening(&raw));
    assert_eq!(waiting(&raw), 1);
}

#[test]
fn a_close_sends_what_is_lent_first() {
    for naming in BOTH {
        for is_open in [false, true] {
            let mut raw = Raw::chat(naming, Profile::V1);
            let open = |raw: &mut Raw| raw.agree(&Profile::V1.stream_id(name("chat")));
            raw.lend("chat", b"one");
            let early = is_open.then(|| open(&mut raw));
            raw.lend("chat", b"two");
            raw.session.close(raw.now);
            raw.settle();
            assert!(!raw.session.is_closed());
            let id = early.unwrap_or_else(|| open(&mut raw));
            assert!(raw.was_finished(id));
            assert_eq!(raw.sent(id), [b"one", b"two"]);
            // Too late: it is its owner's to count.
            raw.lend("chat", b"three");
            raw.acknowledge(id);
            raw.end(id, SubstreamEnd::Finished);
            let closed = raw.closed();
            assert_eq!(closed.reason, CloseReason::Disconnected);
            assert_eq!((closed.unsent, closed.in_doubt), (0, 0));
            assert_eq!(waiting(&raw), 1);
        }
    }
}

#[test]
fn a_session_that_ends_leaves_what_it_has_not_taken() {
    let (mut raw, id) = with_substream(Naming::Negotiated, Profile::V1);
    for _ in 0..5 {
        raw.lend("chat", &[0; 68]);
    }
    raw.write(id, &mut BytesMut::new(), 150);
    raw.session.handle_connection_lost(raw.now, ConnectionLost::TimedOut);
    let closed = raw.closed();
    assert_eq!((closed.unsent, closed.in_doubt), (0, 2));
    assert_eq!(waiting(&raw), 3);
    assert!(raw.session.take_unsent(&name("chat")).is_empty());
}

#[test]
fn what_was_not_taken_from_a_broken_substream_goes_out_on_the_next() {
    let (mut raw, id) = with_substream(Naming::Negotiated, Profile::V1);
    for number in 0..5 {
        raw.lend("chat", &[number; 68]);
    }
    raw.write(id, &mut BytesMut::new(), 150);
    raw.end(id, SubstreamEnd::Aborted);
    assert_eq!(raw.events()[1..], [Event::StreamInterrupted { stream: name("chat"), in_doubt: 2 }]);
    raw.wait(Duration::from_secs(1));
    let next = raw.agree(&Profile::V1.stream_id(name("chat")));
    assert_eq!(raw.sent(next), [[2; 68], [3; 68], [4; 68]]);
}

#[test]
fn a_stream_that_is_refused_leaves_its_lent_queue_to_its_owner() {
    let mut config = only(Profile::V1);
    config.max_stream_attempts = 2;
    let mut raw = Raw::established(Naming::Negotiated, config, &["chat"]);
    raw.lend("chat", b"one");
    raw.lend("chat", b"two");
    raw.refuse();
    raw.wait(Duration::from_secs(10));
    raw.refuse();
    assert_eq!(raw.events()[1..], [Event::StreamRefused { stream: name("chat"), unsent: 0 }]);
    assert_eq!(waiting(&raw), 2);
    // Nothing is tried again of its own accord.
    raw.wait(Duration::from_secs(100));
    assert!(!is_opening(&raw));
    assert_eq!(raw.lent.get_mut(&name("chat")).unwrap().drain().count(), 2);
    raw.lend("chat", b"three");
    let id = raw.agree(&Profile::V1.stream_id(name("chat")));
    assert_eq!(raw.sent(id), [b"three"]);
}

#[test]
fn a_report_with_nothing_behind_it_is_harmless() {
    let (mut raw, id) = with_substream(Naming::Negotiated, Profile::V1);
    raw.session.handle_queued(raw.now, &name("chat"));
    assert!(raw.written(id).is_empty());
    raw.session.close(raw.now);
    raw.settle();
    assert!(raw.written(id).is_empty());
    raw.acknowledge(id);
    raw.end(id, SubstreamEnd::Finished);
    assert_eq!(raw.closed().reason, CloseReason::Disconnected);
    raw.session.handle_queued(raw.now, &name("chat"));
    assert_eq!(raw.session.send(raw.now, &name("chat"), Bytes::new()), Err(SendError::Closed),);
}
