//! Streams that the peer refuses: when that is final, and what becomes of their messages.

use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::{Event, Naming, Profile, SendError, SubstreamEnd, Timer};

use crate::substreams::dialled;
use crate::support::{Raw, config, name};

fn refused(unsent: usize) -> Event {
    Event::StreamRefused { stream: name("chat"), unsent }
}

/// A session that is Established with a peer whose handshake is over: each refusal is final.
fn after_the_handshake(high_watermark: usize) -> Raw {
    let mut config = config(&["chat"]);
    (config.high_watermark, config.low_watermark) = (high_watermark, 1);
    config.profiles = vec![Profile::V1];
    let mut raw = Raw::outbound(Naming::Negotiated, config);
    let own = raw.agree(&Profile::V1.handshake_id());
    raw.prepare(&["chat"]);
    raw.finalize();
    raw.end(own, SubstreamEnd::Finished);
    raw.events();
    raw
}

/// It has prepared all that it ever will, so there is nothing to wait for.
#[test]
fn a_stream_that_is_refused_by_a_peer_whose_handshake_is_over_is_given_up_at_once() {
    let (mut raw, own) = dialled(Naming::Negotiated, Profile::V1);
    raw.prepare(&["chat"]);
    raw.finalize();
    raw.send("chat", b"one");
    raw.refuse();
    assert!(!raw.events().contains(&refused(1)), "it may yet prepare it");
    raw.end(own, SubstreamEnd::Finished);
    raw.wait(Duration::from_millis(100));
    raw.refuse();
    assert!(raw.events().contains(&refused(1)));
    assert_eq!(raw.session.take_unsent(&name("chat")), ["one"]);
}

/// Its refusal and the end of its handshake cross our proposal: it may have prepared the stream since.
#[test]
fn a_stream_is_asked_for_once_more_if_its_refusal_comes_from_before_the_end_of_the_handshake() {
    let (mut raw, own) = dialled(Naming::Negotiated, Profile::V1);
    raw.prepare(&["chat"]);
    raw.finalize();
    raw.send("chat", b"one");
    raw.end(own, SubstreamEnd::Finished);
    raw.refuse();
    assert!(!raw.events().contains(&refused(1)), "it may have prepared it since");
    raw.wait(Duration::from_millis(100));
    let again = raw.agree(&Profile::V1.stream_id(name("chat")));
    assert_eq!(raw.sent(again), [b"one"]);
}

/// An application that has not taken the messages of a first refusal gets them with those of the second.
#[test]
fn what_is_given_back_waits_until_it_is_taken() {
    let mut raw = after_the_handshake(8);
    raw.send("chat", b"one");
    raw.refuse();
    assert_eq!(raw.events(), [refused(1)]);
    raw.send("chat", b"two");
    raw.refuse();
    raw.send("chat", b"three");
    raw.refuse();
    assert_eq!(raw.events(), [refused(2)], "those that nobody has heard of yet");
    assert_eq!(raw.session.take_unsent(&name("chat")), ["one", "two", "three"]);
    raw.session.close(raw.now);
    assert_eq!(raw.closed().unsent, 0);
}

/// An application that never takes them is not given ever more of them to hold.
#[test]
fn what_is_given_back_and_not_taken_makes_a_queue_full() {
    let mut raw = after_the_handshake(3);
    for message in [b"one", b"two"] {
        raw.send("chat", message);
        raw.refuse();
    }
    raw.send("chat", b"three");
    raw.send("chat", b"four");
    raw.refuse();
    assert_eq!(raw.events(), [refused(4)]);
    let send =
        |raw: &mut Raw, size| raw.session.send(raw.now, &name("chat"), Bytes::from(vec![0; size]));
    assert_eq!(send(&mut raw, 1), Err(SendError::Backpressure));
    let limit = config(&[]).max_message_size;
    let too_large = SendError::TooLarge { size: limit + 1, limit };
    assert_eq!(send(&mut raw, limit + 1), Err(too_large));
    assert_eq!(raw.session.take_unsent(&name("chat")), ["one", "two", "three", "four"]);
    assert_eq!(raw.events(), [Event::Writable { stream: name("chat") }]);
    assert_eq!(send(&mut raw, 1), Ok(()));
}

/// They are given back, and nothing else is waited for.
#[test]
fn a_session_that_drains_is_over_when_its_last_messages_are_refused() {
    let mut raw = after_the_handshake(8);
    raw.send("chat", b"one");
    raw.session.close(raw.now);
    raw.settle();
    assert!(!raw.session.is_closed());
    raw.refuse();
    assert_eq!(raw.closed().unsent, 1);
    assert_eq!(raw.session.take_unsent(&name("chat")), ["one"]);
}

/// Returns how long the session waits before it asks for the stream again.
#[track_caller]
fn retry_after(raw: &Raw) -> Duration {
    match raw.session.next_timer() {
        Some((at, Timer::Retry(_))) => at.duration_since(raw.now),
        other => panic!("{other:?}"),
    }
}

/// What counts is how often it was refused in a row: one that was agreed, and messages that were given
/// back, begin anew.
#[test]
fn the_refusals_of_before_do_not_count_against_the_next() {
    let first = Duration::from_millis(100);
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    raw.send("chat", b"one");
    for times in [1, 2, 4] {
        raw.refuse();
        assert_eq!(retry_after(&raw), first * times);
        raw.wait(first * times);
    }
    let agreed = raw.agree(&Profile::V1.stream_id(name("chat")));
    assert_eq!(raw.sent(agreed), [b"one"]);
    raw.end(agreed, SubstreamEnd::Aborted);
    raw.send("chat", b"two");
    raw.refuse();
    assert_eq!(retry_after(&raw), first);

    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    raw.send("chat", b"one");
    raw.events();
    for _ in 1..10 {
        raw.refuse();
        raw.wait(retry_after(&raw));
    }
    raw.refuse();
    assert_eq!(raw.events(), [refused(1)]);
    raw.send("chat", b"two");
    raw.refuse();
    assert!(raw.events().is_empty());
    assert_eq!(retry_after(&raw), first);
}
