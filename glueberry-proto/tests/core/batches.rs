//! Many received messages taken at once.

use std::collections::VecDeque;

use glueberry_proto::{Naming, Profile, SubstreamId};
use proptest::prelude::*;

use crate::support::{Raw, config, name};

/// A session with room for few messages, and the peer's substream of its stream.
fn with_little_room() -> (Raw, SubstreamId) {
    let mut config = config(&["chat"]);
    config.profiles = vec![Profile::V1];
    (config.receive_queue, config.receive_queue_bytes) = (6, 2_000);
    let mut raw = Raw::established(Naming::Negotiated, config, &["chat"]);
    let id = raw.open_stream("chat");
    (raw, id)
}

#[derive(Clone, Debug)]
enum Op {
    Feed(usize),
    Take(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..600_usize).prop_map(Op::Feed),
        2 => (0..9_usize).prop_map(Op::Take),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The same messages, events and actions as when each is taken for itself.
    #[test]
    fn taken_at_once_or_one_by_one(ops in prop::collection::vec(op(), 0..80)) {
        let ((mut single, id), (mut many, _)) = (with_little_room(), with_little_room());
        let (stream, mut batch) = (name("chat"), VecDeque::new());
        for (number, op) in ops.into_iter().chain([Op::Take(100), Op::Take(100)]).enumerate() {
            match op {
                Op::Feed(size) => {
                    let message = vec![u8::try_from(number).unwrap(); size];
                    for raw in [&mut single, &mut many] {
                        let message = raw.message(&message);
                        raw.feed(id, &message);
                    }
                }
                Op::Take(limit) => {
                    let session = &mut single.session;
                    let taken: Vec<_> =
                        std::iter::from_fn(|| session.poll_message(&stream)).take(limit).collect();
                    let count = many.session.poll_messages(&stream, limit, &mut batch);
                    prop_assert_eq!(count, taken.len());
                    prop_assert_eq!(batch.drain(..).collect::<Vec<_>>(), taken);
                }
            }
            prop_assert_eq!(single.events(), many.events());
            for raw in [&mut single, &mut many] {
                raw.settle();
            }
            let [one, other] = [&single, &many].map(|raw| format!("{:?}", raw.actions));
            prop_assert_eq!(one, other);
            prop_assert_eq!(single.session.received_bytes(), many.session.received_bytes());
        }
    }
}

#[test]
fn they_are_appended_and_what_is_unknown_has_none() {
    let (mut raw, id) = with_little_room();
    for text in ["one", "two", "three"] {
        let message = raw.message(text.as_bytes());
        raw.feed(id, &message);
    }
    let mut messages = VecDeque::from(["before".into()]);
    assert_eq!(raw.session.poll_messages(&name("other"), 9, &mut messages), 0);
    assert_eq!(raw.session.poll_messages(&name("chat"), 0, &mut messages), 0);
    assert_eq!(raw.session.poll_messages(&name("chat"), 2, &mut messages), 2);
    assert_eq!(raw.session.poll_messages(&name("chat"), 9, &mut messages), 1);
    assert_eq!(messages, ["before", "one", "two", "three"]);
}
